"""Starts a peer and ends it with everything that it started."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from loadtest.connection import Connection
from loadtest.peers.environments import last_line
from loadtest.peers.registry import Peer
from loadtest.peers.tree import cpu_seconds, descendants, memory_mb
from loadtest.process import LoadTestError, free_port, python_environment, python_module
from models.tasks.base import TaskName
from models.tasks.remote.address import DEFAULT_HOST

POLL_S = 0.05
OK = 200
SUPERVISOR = "loadtest.peers.supervisor"


@dataclass(frozen=True, slots=True)
class Running:
    """Describes processes that serve. `roots`: each is one of them, or a supervisor above them, which counts too.

    `start_s` went by until the first answer, which is `first_reply`.
    """

    urls: tuple[str, ...]
    roots: tuple[int, ...]
    start_s: float
    first_reply: bytes

    @property
    def pids(self) -> list[int]:
        return [pid for root in self.roots for pid in (root, *descendants(root))]

    def memory_mb(self) -> float:
        """Leave supervisors out: they are no part of the peer."""
        pids = [pid for root in self.roots for pid in descendants(root)]
        return memory_mb(pids or self.roots)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pids)


@dataclass(frozen=True, slots=True)
class Start:
    """Describes how a peer is started: its interpreter, task, model and first request, and how long that may take."""

    python: Path
    task: TaskName
    model: Path
    request: bytes
    seconds: float


@contextmanager
def running(peer: Peer, start: Start) -> Iterator[Running]:
    """Run a peer until the block ends, one process or one for each core.

    Raises: LoadTestError if it ends at its start, or has not answered when its time is over.
    """
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        processes, urls, logs = [], [], []
        began = perf_counter()
        for number in range(cores if peer.each_core else 1):
            port, directory = free_port(), scratch / str(number)
            directory.mkdir()
            logs.append(scratch / f"{number}.log")
            variables = {
                "PEER_TASK": start.task,
                "PEER_MODEL": str(start.model),
                "PEER_PORT": str(port),
                "PEER_CORES": str(cores),
                "PEER_SCRATCH": str(directory),
            }
            environment = python_environment(**variables, **peer.variables)
            environment.pop("VIRTUAL_ENV", None)
            command = [*python_module(SUPERVISOR), str(start.python), "-P", "-m", peer.module]
            output = stack.enter_context(logs[-1].open("w"))
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            stack.callback(_end, process)
            processes.append(process)
            urls.append(f"http://{DEFAULT_HOST}:{port}")
        for process, url, log in zip(processes, urls, logs, strict=True):
            reply = first_reply(url, start.request, process, log, began + start.seconds)
        yield Running(tuple(urls), tuple(process.pid for process in processes), perf_counter() - began, reply)


def first_reply(url: str, request: bytes, process: "subprocess.Popen[bytes]", log: Path, until: float) -> bytes:
    """Ask again and again until there is an answer. Raises: LoadTestError."""
    refusal = "nothing listens"
    while perf_counter() < until:
        if process.poll() is not None:
            raise LoadTestError(f"it ended at its start: {last_line(log)}")
        try:
            with Connection(url) as connection:
                connection.socket.settimeout(max(until - perf_counter(), POLL_S))
                answer = connection.ask(request)
            if answer.status == OK:
                return answer.body
            refusal = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
        except TimeoutError:
            refusal = "it accepts a connection and does not answer"
        except (OSError, ValueError) as error:  # not listening yet; ValueError: an answer without a length
            refusal = str(error) or refusal
        sleep(POLL_S)
    raise LoadTestError(f"no answer within its time for a start ({refusal}); last in its log: {last_line(log)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()
