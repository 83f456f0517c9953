"""Compares two models of a task in one service with each alone: answers to mixed requests, and memory.

From the root of the repository: python -m docs.log.scripts.two_models bundles/qa bundles/qa-small
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from loadtest.bench.measurements import checked, say, untimed
from loadtest.connection import Connection, post
from loadtest.payloads import bodies
from loadtest.process import resident_mb, service
from loadtest.routes import read_routes
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.remote.client import Client

DISTINCT = 500  # requests to each model
CONCURRENCY = 16

Expected = list[tuple[bytes, object]]
"""Requests, and the answers to them without timings."""


def ask_alone(bundle: Bundle, root: Path, threads: str) -> Expected:
    """Ask a service that has this bundle alone, one request at a time."""
    with service(BUNDLES=str(served(root, [bundle])), THREADS=threads, MAX_QUEUE_MS="60000") as running:
        began = resident_mb(running.process.pid)
        route = read_routes(Client(running.url), bundle.name)[0]
        requests = [post(route.path, body) for body in islice(bodies(route, 0), DISTINCT)]
        with Connection(running.url) as connection:
            expected = [(request, untimed(checked(connection.ask(request)).body)) for request in requests]
        say(f"{bundle.name} alone: {began:.0f} MB resident at the start, {resident_mb(running.process.pid):.0f} after")
    return expected


def ask_together(bundles: Sequence[Bundle], expected: Expected, count: int, root: Path, threads: str) -> int:
    """Ask a service that has all bundles, several requests at a time. Returns: how many answers differ."""
    order = Random(0).choices(expected, k=count)
    with service(BUNDLES=str(served(root, bundles)), THREADS=threads, MAX_QUEUE_MS="60000") as running:
        began = resident_mb(running.process.pid)

        def differing(number: int) -> int:
            with Connection(running.url) as connection:
                return sum(
                    untimed(checked(connection.ask(request)).body) != answer
                    for request, answer in order[number::CONCURRENCY]
                )

        with ThreadPoolExecutor(CONCURRENCY) as callers:
            total = sum(callers.map(differing, range(CONCURRENCY)))
        say(f"together: {began:.0f} MB resident at the start, {resident_mb(running.process.pid):.0f} after")
    return total


def served(root: Path, bundles: Sequence[Bundle]) -> Path:
    """Make a directory of these bundles, the first in the directory named after its task."""
    directory = root / "-".join(bundle.name for bundle in bundles)
    directory.mkdir()
    for bundle, name in zip(bundles, [bundles[0].task, *(bundle.name for bundle in bundles[1:])], strict=True):
        (directory / name).symlink_to(bundle.path.resolve())
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs=2, type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", default="2")
    arguments = parser.parse_args()
    bundles = [load_bundle(path) for path in arguments.bundles]
    with TemporaryDirectory() as directory:
        root = Path(directory)
        expected = [pair for bundle in bundles for pair in ask_alone(bundle, root, arguments.threads)]
        differing = ask_together(bundles, expected, arguments.requests, root, arguments.threads)
    say(f"{arguments.requests} mixed requests at concurrency {CONCURRENCY}, against each alone: {differing} differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
