"""Runs `halfdepth COMMAND`: a table of commands, of which only the one that is asked for is imported."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version

from models.tasks.errors import CANCELLED, UsageError, run_command


@dataclass(frozen=True, slots=True)
class Command:
    """Names the module whose `main` a command is; it says itself which library it lacks."""

    module: str
    summary: str


COMMANDS = {
    "serve": Command("service.__main__", "serve bundles over HTTP"),
    "finetune": Command("models.finetune.__main__", "fine-tune a teacher, or distil it into a student"),
    "pretrain": Command("models.pretrain.__main__", "distil a student before any task"),
    "export": Command("export.__main__", "write a bundle out of a teacher, a student or ONNX"),
    "evaluate": Command("models.evaluate", "measure a checkpoint, a bundle or a server on a labelled set"),
    "ablate": Command("models.ablate", "measure what each loss of general distillation gives"),
    "doctor": Command("service.doctor", "check this machine and its bundles, and say what to do"),
    "bench": Command("loadtest.bench.__main__", "measure what the service costs and bears"),
    "loadtest": Command("loadtest.__main__", "load a service with Locust"),
    "batch": Command("service.batch.__main__", "answer a file of requests, without HTTP"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return the command's exit status; 2 if there is no such command, or it lacks a library; 130 after Ctrl-C."""
    try:
        return run_command("halfdepth", run, sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        sys.stderr.write("halfdepth: stopped by Ctrl-C\n")
        return CANCELLED


def run(argv: Sequence[str]) -> int:
    """Import the command that is named, and call it. Raises: UsageError."""
    if not argv:
        raise UsageError(f"give a command: {', '.join(COMMANDS)}; --help says what they do")
    name, *arguments = argv
    if name in ("-h", "--help"):
        sys.stdout.write(help_text())
        return 0
    if name == "--version":
        sys.stdout.write(f"halfdepth {version('halfdepth')}\n")
        return 0
    if name not in COMMANDS:
        [nearest] = get_close_matches(name, COMMANDS, n=1, cutoff=0.0)
        raise UsageError(f"there is no command {name!r}; the nearest is {nearest}")
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    status: int = module.main(arguments, prog=f"halfdepth {name}")
    return status


def help_text() -> str:
    """Write the table for `--help`."""
    lines = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: halfdepth COMMAND [ARGUMENT ...]",
            "",
            "Distil BERT-family teachers into students of half their depth, and serve them over HTTP.",
            "",
            "commands (each has a --help):",
            *lines,
            "",
            "options:",
            "  -h, --help  show this help message and exit",
            "  --version   show the version and exit",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
