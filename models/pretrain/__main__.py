"""Runs `halfdepth pretrain`: distil a masked language model over plain text."""

import json
import shlex
import sys
from collections.abc import Sequence

from models.tasks.errors import StoppedError, needs_extra, run_command
from models.tasks.options import read_options

with needs_extra("halfdepth pretrain", "train"):
    from accelerate import PartialState

    from models.pretrain.options import PretrainOptions
    from models.pretrain.run import COMMAND, pretrain


def main(argv: Sequence[str] | None = None, *, prog: str = f"python -m {COMMAND}") -> int:
    return run_command(prog, run, prog, sys.argv[1:] if argv is None else argv)


def run(prog: str, argv: Sequence[str]) -> None:
    """Print the student's figures on the dev text once it is trained."""
    options = read_options(PretrainOptions, prog, argv)
    try:
        figures = pretrain(options, command=shlex.join(["python", "-m", COMMAND, *argv]))
    except StoppedError:
        leave_together()
        raise
    leave_together()
    if PartialState().is_main_process:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def leave_together() -> None:
    """Wait for the other processes: one that ends while they are in its group is aborted at times (pytorch#190489)."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
