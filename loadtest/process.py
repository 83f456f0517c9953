"""Starts the service as a process of its own, and reads what it takes of the machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import IO

from models.tasks.errors import InputError

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]
URL = re.compile(r"http://[\d.]+:\d+")
POLL_S = 0.01


class LoadTestError(InputError):
    """There is nothing to load, or what is loaded does not answer; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that listens at `url`; `seconds` went by from its start until it did."""

    process: subprocess.Popen[str]
    url: str
    seconds: float


def spawn(*arguments: str, log: IO[str] | int = subprocess.PIPE, **settings: str) -> subprocess.Popen[str]:
    """Start `python -m service`. `settings` have no prefix and go before the environment's; `log`: its output."""
    environment = python_environment(**{f"HALFDEPTH_{name}": value for name, value in settings.items()})
    command = [*python_module("service"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)


def python_module(name: str) -> list[str]:
    """Return the command that runs a module in a child process, and not a folder of that name in this directory."""
    return [sys.executable, "-P", "-m", name]


def python_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with other variables, in which a child finds our packages first."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | variables


@contextmanager
def service(log: Path | None = None, /, **settings: str) -> Iterator[Service]:
    """Run the service on a free port until the block ends. `settings`: as above; without `log`, its output is dropped.

    It writes into a file: a pipe that nobody reads would fill up and stop it.

    Raises: LoadTestError if it does not start.
    """
    with TemporaryDirectory() as scratch:
        file = log or Path(scratch, "log")
        began = perf_counter()
        with file.open("w") as output:
            process = spawn(log=output, **({"PORT": "0"} | settings))
        try:
            while not (url_match := URL.search(file.read_text())):
                if process.poll() is not None:
                    place = f"{log} says why" if log else "start it with `make serve` to see why"
                    raise LoadTestError(f"the service ended before it listened; {place}")
                sleep(POLL_S)
            yield Service(process, url_match[0], perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


def resident_mb(pid: int) -> float:
    """Read the resident memory, in megabytes. Runs on Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of all threads until now. Runs on Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
