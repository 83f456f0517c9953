"""Runs the service with clocks around encode, run and decode; `halfdepth bench --profile` starts it."""

import functools
import json
import os
import runpy
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, process_time_ns, thread_time_ns
from typing import Any

from models.tasks.qa import QuestionAnswering
from models.tasks.session import OnnxSession

PROFILE_FILE = "LOADTEST_PROFILE_FILE"
PARTS = {"encode": QuestionAnswering, "run": OnnxSession, "decode": QuestionAnswering}

clocks: list[dict[str, list[int]]] = []  # of each thread: calls, CPU and elapsed nanoseconds of each part
local = threading.local()


def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:  # a method, whatever it takes
    """Add what each call takes to the clocks of its thread."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        cpu, elapsed = thread_time_ns(), perf_counter_ns()
        result = function(*arguments, **options)
        clock = _clock(part)
        clock[0] += 1
        clock[1] += thread_time_ns() - cpu
        clock[2] += perf_counter_ns() - elapsed
        return result

    return call


def _clock(part: str) -> list[int]:
    if not hasattr(local, "clocks"):
        local.clocks = {part: [0, 0, 0] for part in PARTS}
        clocks.append(local.clocks)
    clock: list[int] = local.clocks[part]
    return clock


def write(*_: object) -> None:
    """Write the sums over all threads, and the CPU of the process, in nanoseconds."""
    sums = {part: [sum(values) for values in zip(*[clock[part] for clock in clocks], strict=True)] for part in PARTS}
    file = Path(os.environ[PROFILE_FILE])
    written = file.with_suffix(".new")
    written.write_text(json.dumps({"process": process_time_ns(), "parts": sums}))
    written.replace(file)


if __name__ == "__main__":
    for name, owner in PARTS.items():
        setattr(owner, name, clocked(name, getattr(owner, name)))
    signal.signal(signal.SIGUSR1, write)
    runpy.run_module("service", run_name="__main__", alter_sys=True)
