"""Runs `halfdepth finetune`: fine-tune a model on a task, or distil teachers into a student."""

import json
import shlex
import sys
from collections.abc import Sequence

from models.tasks.errors import needs_extra, run_command
from models.tasks.options import read_options

with needs_extra("halfdepth finetune", "train"):
    from models.finetune.loop import COMMAND, finetune
    from models.finetune.options import FinetuneOptions


def main(argv: Sequence[str] | None = None, *, prog: str = f"python -m {COMMAND}") -> int:
    return run_command(prog, run, prog, sys.argv[1:] if argv is None else argv)


def run(prog: str, argv: Sequence[str]) -> None:
    """Print the best model's metrics once it is trained."""
    options = read_options(FinetuneOptions, prog, argv)
    metrics = finetune(options, command=shlex.join(["python", "-m", COMMAND, *argv]))
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
