"""The service as a child process, for tests that need the real thing."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
Server = tuple[subprocess.Popen[str], str]
"""The process and its URL."""


def spawn(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`variables` are settings, without their prefix."""
    environment = os.environ | {f"HALFDEPTH_{name}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(bundles: Path) -> Iterator[Server]:
    """On a free port, until the block ends."""
    process = spawn(BUNDLES=str(bundles), PORT="0", THREADS="1")
    assert process.stderr
    try:
        url = None
        while url is None and (line := process.stderr.readline()):
            url = re.search(r"http://[\d.]+:\d+", line)
        assert url, "the server ended before it listened"
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()
