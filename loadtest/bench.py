"""Measures what the service costs and bears, beside the same work in process.

It starts the service itself. The machine should have nothing else to do meanwhile. Linux alone.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from loadtest.connection import Connection, get
from loadtest.measurements import LOADED, Subject, cost, fairness, load, memory, overload, sameness, say
from loadtest.process import LoadTestError, resident_mb, service
from loadtest.routes import read_routes
from models.tasks.base import TaskName
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.directory import BundleError

Number = TypeVar("Number", int, float)

PARTS = ("cost", "load", "fairness", "sameness", "overload")
MEMORY = "memory"  # only if it is asked for: it takes half an hour


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--bundles", type=Path, default=Path("bundles"), metavar="DIR", help="what is served; qa is needed"
    )
    parser.add_argument("--only", choices=(*PARTS, MEMORY), nargs="+", default=list(PARTS), help="parts to measure")
    parser.add_argument("--threads", default="auto", help="HALFDEPTH_THREADS of the service")
    parser.add_argument("--tokens", type=_count, nargs="+", default=[16, 32, 64, 128, 256, 384], help="lengths of cost")
    parser.add_argument("--rounds", type=_count, default=12, help="blocks of 25 calls, for each length of cost")
    parser.add_argument("--concurrency", type=_count, nargs="+", default=[8, 32], help="of load")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="of load, for each concurrency, and of fairness")
    parser.add_argument("--requests", type=_count, default=10_000, help="of sameness")
    parser.add_argument("--overload-seconds", type=_seconds, default=60.0, help="of twice the load")
    parser.add_argument("--memory-minutes", type=_count, default=30, help="of changing lengths")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    return _above_0(int, text, "a whole number")


def _seconds(text: str) -> float:
    return _above_0(float, text, "a number")


def _above_0(read: Callable[[str], Number], text: str, kind: str) -> Number:
    try:
        number = read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not {kind}") from None
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        if not arguments.bundles.is_dir():
            raise BundleError(f"{arguments.bundles} is not a directory; give one that holds bundles by --bundles")
        paths = sorted(path for path in arguments.bundles.iterdir() if path.is_dir())
        bundles = {bundle.task: bundle for bundle in map(load_bundle, paths)}
        if LOADED not in bundles:
            raise BundleError(f"{arguments.bundles} has no bundle for {LOADED}, which load and overload need")
        measure(arguments, bundles)
    except (BundleError, LoadTestError, OSError, RuntimeError) as error:
        sys.stderr.write(f"python -m loadtest.bench: {error}\n")
        return 2
    return 0


def measure(arguments: argparse.Namespace, bundles: Mapping[TaskName, Bundle]) -> None:
    settings = {"BUNDLES": str(arguments.bundles), "THREADS": arguments.threads, "LOG_FORMAT": "json"}
    with service(**settings) as running:
        process = running.process
        with Connection(running.url) as connection:
            info = connection.ask(get("/info")).json()
        subject = Subject(running.url, process, bundles, read_routes(running.url), info["threads"], info["workers"])
        say(
            f"{', '.join(bundles)}: listening after {running.seconds:.2f} s, {resident_mb(process.pid):.0f} MB resident"
        )
        best = 0.0
        if "cost" in arguments.only:
            cost(subject, arguments.tokens, arguments.rounds)
        if {"load", "overload"} & set(arguments.only):
            best = load(subject, arguments.concurrency, arguments.seconds)
        if "fairness" in arguments.only:
            fairness(subject, arguments.seconds)
        if "sameness" in arguments.only:
            sameness(subject, arguments.requests)
        if MEMORY in arguments.only:
            memory(subject, arguments.memory_minutes)
        say(f"\nnow {resident_mb(process.pid):.0f} MB resident")
        if "overload" in arguments.only:
            overload(subject, best, arguments.overload_seconds)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service ends as well
    sys.exit(main())
