"""Runs work in processes that have imported it already, and kills them at a moment that was drawn."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

FORKS = get_context("forkserver")  # its server has no threads, which a fork would lose
FORKS.set_forkserver_preload(
    ["export.__main__", "models.finetune.__main__", "models.pretrain.__main__", "service.batch.__main__"]
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MOVES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
WAIT_S = 120
SAID = "said.txt"

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Work:
    """A command's own function, with its arguments.

    `ranks`: how many processes share it, as torchrun starts them. `before`: what each does first.
    """

    main: Main
    arguments: Sequence[str]
    ranks: int = 1
    before: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How work ended: its status, -9 if it was killed; how long it took; and its operations on files."""

    status: int
    seconds: float
    operations: int


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: after so many seconds, or right before an operation on a file, by its number from 1."""

    seconds: float | None = None
    operation: int | None = None


def perform(work: Work, directory: Path, *, until: Moment | None = None) -> Ended:
    """Do work in a directory until it has ended or its moment has come. What it says is in `said.txt` beside it.

    Of several ranks the first one counts operations. Whoever ends by a signal takes the others with it.
    """
    until, began = until or Moment(), time.monotonic()
    operations: Synchronized[int] = FORKS.Value("i", 0)
    shared = _rendezvous(work.ranks)
    processes = [
        FORKS.Process(
            target=_run,
            args=(work, directory, shared | _rank(work.ranks, rank), operations, until.operation if not rank else None),
        )
        for rank in range(work.ranks)
    ]
    with _killed_in_the_end(processes):
        for process in processes:
            process.start()
        if until.seconds is not None:
            processes[0].join(max(0.0, began + until.seconds - time.monotonic()))
        else:
            processes[0].join(WAIT_S)
            for process in processes[1:]:  # what the first one leaves to the others is done at once
                process.join(0 if processes[0].exitcode else WAIT_S)
    statuses = [process.exitcode or 0 for process in processes]
    return Ended(next(filter(None, statuses), 0), time.monotonic() - began, operations.value)


@contextmanager
def _killed_in_the_end(processes: Sequence[ForkServerProcess]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _rendezvous(ranks: int) -> dict[str, str]:
    if ranks == 1:
        return {}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}


def _rank(ranks: int, rank: int) -> dict[str, str]:
    return {} if ranks == 1 else {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks)}


def _run(
    work: Work, directory: Path, environment: Mapping[str, str], operations: "Synchronized[int]", last: int | None
) -> None:
    """In a process of its own."""
    import torch

    os.chdir(directory)
    os.environ.update(environment)
    with (directory.parent / SAID).open("a") as said:
        for standard in (1, 2):
            os.dup2(said.fileno(), standard)
    torch.set_num_threads(1)
    if work.before:
        work.before()
    sys.addaudithook(partial(_count, directory, operations, last))
    sys.exit(work.main(work.arguments))


def _count(
    directory: Path, operations: "Synchronized[int]", last: int | None, event: str, arguments: tuple[object, ...]
) -> None:
    """Count what changes files in the directory; before the last operation, kill this process."""
    if not (event in MOVES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES)):
        return
    path = arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return
    if Path(os.path.abspath(os.fsdecode(path))).is_relative_to(directory):
        operations.value += 1
        if operations.value == last:
            os.kill(os.getpid(), signal.SIGKILL)
