"""Runs `halfdepth loadtest throughput`: requests a second and latency by connections."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tqdm import tqdm

from loadtest.bench.__main__ import asked
from loadtest.bench.measurements import Subject, checked, percentile, say, work_of
from loadtest.connection import closed_loop
from loadtest.process import LoadTestError, service, sigterm_raised
from loadtest.record import Row, record
from loadtest.routes import read_all_routes
from models.tasks.bundle import bundle_paths, load_bundle
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import Client, client_key

PART = "throughput"
WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputOptions(Options):
    """Measure requests a second, and what each then waits, by the number of connections that are kept busy.

    Starts the service, and asks each task's default bundle. Every round goes through all tasks and numbers of
    connections; a row is the median of its rounds, and lists them. Runs on Linux only.
    """

    bundles: Annotated[Path, Flag("directory of the bundles to serve", metavar="DIR")] = Path("bundles")
    threads: Annotated[str, Flag("value of HALFDEPTH_THREADS for the service")] = "auto"
    tasks: Annotated[tuple[str, ...], Flag("tasks to ask; without it, all that have a bundle")] = ()
    tokens: Annotated[int, Flag("length of an input, tokens", above=0)] = 71
    concurrency: Annotated[tuple[int, ...], Flag("numbers of connections", above=0)] = (1, 2, 4, 8, 16, 32)
    seconds: Annotated[float, Flag("duration of a measurement, seconds", above=0)] = 3.0
    rounds: Annotated[int, Flag("rounds in turns", above=0)] = 5
    out: Annotated[Path, Flag("where the record is written", metavar="FILE")] = Path("runs/loadtest/throughput.json")


@dataclass(frozen=True, slots=True)
class Round:
    """Holds one measurement."""

    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest throughput") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Measure, print the rows and write their record. Raises: LoadTestError, BundleError, UsageError."""
    options = read_options(ThroughputOptions, prog, argv)
    bundles = asked([load_bundle(path) for path in bundle_paths(options.bundles)], None)
    for task in options.tasks:
        if task not in bundles:
            raise LoadTestError(f"{options.bundles} has no bundle for {task}; there are {', '.join(bundles)}")
    bundles = {task: bundle for task, bundle in bundles.items() if not options.tasks or task in options.tasks}
    # Empty, so that no other model or address comes from the environment.
    settings = {"BUNDLES": str(options.bundles), "MODELS": "", "THREADS": options.threads}
    with sigterm_raised(), service(**settings) as server:
        client = Client(server.url, client_key(None))
        info, routes = client.get("/info"), read_all_routes(client, None)
        subject = Subject(server.url, client.key, server.process, bundles, routes, info["threads"], info["workers"])
        rows = measure(subject, options)
    say(table(rows))
    record(PART, rows).write(options.out)


def measure(subject: Subject, options: ThroughputOptions) -> list[Row]:
    """Load each task with each number of connections, in turns."""
    requests = {task: work_of(subject, task, options.tokens)[1] for task in subject.bundles}
    cases = [(task, concurrency) for task in subject.bundles for concurrency in options.concurrency]
    rounds: dict[tuple[str, int], list[Round]] = {case: [] for case in cases}
    with tqdm(total=len(cases) * options.rounds, unit="run", desc=PART, disable=None) as progress:
        for number in range(options.rounds):
            for task, concurrency in cases if number % 2 == 0 else reversed(cases):
                rounds[task, concurrency].append(load(subject.url, requests[task], concurrency, options.seconds))
                progress.update()
    return [
        {
            "task": task,
            "bundle": subject.bundles[task].name,
            "precision": subject.bundles[task].precision,
            "threads": subject.threads,
            "tokens": options.tokens,
            "concurrency": concurrency,
            **summary(rounds[task, concurrency]),
        }
        for task, concurrency in cases
    ]


def load(url: str, request: bytes, concurrency: int, seconds: float) -> Round:
    """Keep connections busy for so long. Raises: LoadTestError if the service refuses, or answers nothing."""
    closed_loop(url, [request], concurrency, WARM_UP_S)
    times = [checked(answer).milliseconds for answer in closed_loop(url, [request], concurrency, seconds)]
    if not times:
        raise LoadTestError(f"the service answered nothing in {seconds:g} s; raise --seconds")
    return Round(len(times) / seconds, statistics.median(times), percentile(times, 95), percentile(times, 99))


def summary(rounds: Sequence[Round]) -> dict[str, float | list[float]]:
    """Take the medians, and keep the rounds of those figures that are compared between runs."""
    columns: dict[str, float | list[float]] = {}
    for name in Round.__slots__:
        values = [round(getattr(measured, name), 3) for measured in rounds]
        columns[name] = statistics.median(values)
        if name in ("requests_per_s", "p50_ms"):
            columns[f"{name}_rounds"] = values
    return columns


def table(rows: Sequence[Row]) -> str:
    lines = ["task        tokens  connections  requests/s   p50 ms   p95 ms   p99 ms"]
    lines += [
        f"{row['task']:<10} {row['tokens']:7}  {row['concurrency']:11}  {row['requests_per_s']:10.1f}  "
        f"{row['p50_ms']:7.2f}  {row['p95_ms']:7.2f}  {row['p99_ms']:7.2f}"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
