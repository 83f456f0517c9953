"""Runs `halfdepth loadtest`: Locust over a service, or the subcommand that is named first."""

import importlib
import sys
from collections.abc import Sequence

from models.tasks.errors import run_command

SUBCOMMANDS: dict[str, str] = {
    "capacity": "loadtest.capacity.command",
    "compare": "loadtest.report.compare",
    "faults": "loadtest.torture.faults",
    "grid": "loadtest.grid.command",
    "device": "loadtest.device",
    "infinity": "loadtest.paper.infinity",
    "peers": "loadtest.peers.__main__",
    "report": "loadtest.report.command",
    "soak": "loadtest.torture.soak",
    "table3": "loadtest.paper.table3",
    "throughput": "loadtest.report.throughput",
}
"""The module whose `main` each is; without one of these first, Locust loads a service."""
LOCUST = "loadtest.users.command"


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Return the exit status of the command that is meant."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in SUBCOMMANDS:
        prog, arguments = f"{prog} {name}", arguments[1:]
    module = importlib.import_module(SUBCOMMANDS.get(name, LOCUST))
    status: int = module.main(arguments, prog=prog)
    return status


if __name__ == "__main__":
    sys.exit(main())
