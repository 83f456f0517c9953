"""Two processes of a command, as torchrun starts them, on a free port of this machine."""

import os
import subprocess
import sys

from tests.server import ROOT


def run_in_two_processes(*command: str) -> None:
    """Each has one thread and no GPU. A failure shows what they said."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*torchrun, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
