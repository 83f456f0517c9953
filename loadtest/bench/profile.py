"""Measures where the CPU of a request goes while the service is loaded."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from typing import Any

from loadtest.bench.measurements import checked, say
from loadtest.bench.profiled import PARTS, PROFILE_FILE
from loadtest.connection import closed_loop
from loadtest.process import POLL_S, service

WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A question, and how it is asked: by so many connections at a time, for so long."""

    bundles: Path
    request: bytes
    concurrency: int
    seconds: float


def profile(loaded: Loaded) -> None:
    """Print the CPU of a request by part, and what the cores did else."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch, "profile.json")
        os.environ[PROFILE_FILE] = str(file)
        with service(module="loadtest.bench.profiled", BUNDLES=str(loaded.bundles), LOG_FORMAT="json") as server:
            closed_loop(server.url, [loaded.request], loaded.concurrency, WARM_UP_S)
            before = _read(server.process.pid, file)
            load_began, began = process_time(), perf_counter()
            answers = closed_loop(server.url, [loaded.request], loaded.concurrency, loaded.seconds)
            load_s, seconds = process_time() - load_began, perf_counter() - began
            after = _read(server.process.pid, file)
    count = len(list(map(checked, answers)))
    service_ms = (after["process"] - before["process"]) / 1e6
    say(f"/qa at {loaded.concurrency} connections, {count / seconds:.0f} requests/s; milliseconds of a request")
    say("part                      CPU   waiting")
    known_ms = 0.0
    for part in PARTS:
        _, cpu_ms, elapsed_ms = [(end - start) / 1e6 for start, end in zip(*_part(part, before, after), strict=True)]
        known_ms += cpu_ms
        say(f"{part:<20} {cpu_ms / count:8.3f}  {(elapsed_ms - cpu_ms) / count:8.3f}")
    say(f"{'HTTP, queue, log':<20} {(service_ms - known_ms) / count:8.3f}")
    say(f"{'all':<20} {service_ms / count:8.3f}")
    cores = len(os.sched_getaffinity(0))
    idle = 1 - (service_ms / 1e3 + load_s) / (cores * seconds)
    say(f"of {cores} cores the load took {load_s / seconds:.2f}; {idle:.0%} of their time nobody of the two used")
    say("waiting: for a core or for the interpreter's lock, within that part")


def _part(part: str, before: Any, after: Any) -> tuple[list[int], list[int]]:  # as the profiled process writes them
    return before["parts"][part], after["parts"][part]


def _read(pid: int, file: Path) -> Any:  # as above
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    while not file.exists():
        sleep(POLL_S)
    return json.loads(file.read_text())
