"""Starts the service as a process of its own, and reads what it takes of the machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from models.tasks.errors import InputError, StoppedError
from models.tasks.remote.address import DEFAULT_HOST, PREFIX, configured_address, local_url

TICKS = os.sysconf("SC_CLK_TCK")
STAT = Path("/proc/stat")
ROOT = Path(__file__).parents[1]
POLL_S = 0.01
START_S = 600  # the longest that a start may take: every bundle is measured
ASK_S = 10


class LoadTestError(InputError):
    """There is nothing to load, or what is loaded does not answer; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that listens at `url`; `seconds` went by from its start until it did."""

    process: subprocess.Popen[str]
    url: str
    seconds: float


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Let child processes that start within the block run on this core alone, where one is given. Linux only."""
    cores = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def sigterm_raised() -> Iterator[None]:
    """Let SIGTERM raise StoppedError, so that what was started ends as well."""

    def stop(*_: object) -> NoReturn:
        raise StoppedError("stopped by SIGTERM")

    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def spawn(
    *arguments: str, module: str = "service", log: IO[str] | int = subprocess.PIPE, **settings: str
) -> subprocess.Popen[str]:
    """Start `python -m service`, or another module that runs it. `settings` have no prefix and go before the
    environment's; `log`: its output.
    """
    environment = python_environment(**{f"{PREFIX}{name}": value for name, value in settings.items()})
    command = [*python_module(module), *arguments]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)


def python_module(name: str) -> list[str]:
    """Return the command that runs a module in a child process, and not a folder of that name in this directory."""
    return [sys.executable, "-P", "-m", name]


def python_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with other variables, in which a child finds our packages first."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | variables


@contextmanager
def service(log: Path | None = None, /, *, module: str = "service", **settings: str) -> Iterator[Service]:
    """Run the service on a free port until the block ends, whatever socket the environment names. `settings`: as above;
    without `log`, its output is dropped.

    It writes into a file: a pipe that nobody reads would fill up and stop it.

    Raises: LoadTestError if it does not start.
    """
    settings = {"PORT": str(free_port()), "UDS": ""} | settings
    url = local_url(*configured_address(os.environ | {f"{PREFIX}{name}": value for name, value in settings.items()}))
    with TemporaryDirectory() as scratch:
        file = log or Path(scratch, "log")
        is_taken = listens(url)
        began = perf_counter()
        with file.open("w") as output:
            process = spawn(module=module, log=output, **settings)
        try:
            try:
                wait_until_ready(url, process, is_taken=is_taken)
            except LoadTestError as error:
                place = f"{log} says why" if log else "start it with `make serve` to see why"
                *_, last = file.read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing"]
                raise LoadTestError(f"{error}; {place}; its last line: {last}") from error
            yield Service(process, url, perf_counter() - began)
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.create_server((DEFAULT_HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_ready(
    url: str, process: "subprocess.Popen[Any]", seconds: float = START_S, *, is_taken: bool = False
) -> None:
    """Wait until what this process serves at `url` is ready. `is_taken`: something else answers there.

    Raises: LoadTestError if the process ends before, or the time is over.
    """
    end = perf_counter() + seconds
    while perf_counter() < end:
        if process.poll() is not None:
            raise LoadTestError("the service ended before it listened")
        if not is_taken and is_ready(url):
            return
        sleep(POLL_S)
    raise LoadTestError(f"nothing is ready at {url} after {seconds:g} s")


def is_ready(url: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/health/ready", timeout=ASK_S):
            return True
    except OSError:  # not listening yet, or not ready
        return False


def listens(url: str) -> bool:
    """Tell whether anything accepts connections there."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), ASK_S):
            return True
    except OSError:
        return False


def resident_mb(pid: int) -> float:
    """Read the resident memory, in megabytes. Runs on Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def address_space(pid: int) -> int:
    """Read how much of it is taken, in bytes; much of it is reserved and never used. Runs on Linux only."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of all threads until now. Runs on Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def stolen_seconds() -> float:
    """Read how long the host kept this machine's cores from it until now, all cores together. Runs on Linux only."""
    with STAT.open() as lines:
        return int(next(lines).split()[8]) / TICKS
