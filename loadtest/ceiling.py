"""Proves the stated ceiling of memory: runs the service through its worst inputs under that limit."""

import json
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, Any

from tqdm import tqdm

from loadtest.cgroups import cgroup
from loadtest.connection import Connection, post
from loadtest.process import LoadTestError, address_space, resident_mb, service
from loadtest.routes import Route, read_routes
from loadtest.slow import SlowClients
from models.tasks.bundle import bundle_paths, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import KEY_HELP, Client, client_key, key_headers

MB = 1_000_000
SENTENCE = "Ada Lovelace wrote the first program in 1843, for a machine that was never built; it counts 🂡 and ﷺ too. "

# The parts of the ceiling, megabytes, rounded up: docs/serving.md states the formula, and this command proves it.
PROCESS_MB = 190.0  # the interpreter, all modules and onnxruntime
GRAPH_FACTOR = 3.0  # of a graph's file: its weights, what onnxruntime makes of them, and the tokenizer
WINDOW_MB = 60.0  # of each window that runs, of 384 tokens
BODY_FACTOR = 10.0  # of the longest body, on a connection: as it came, as JSON, its texts, tokens and windows
CONNECTION_MB = 0.3  # of a connection that is idle or slow: the buffer that it is read into


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingOptions(Options):
    """Send the service the worst that it accepts, under a limit of memory, and tell its peak. Runs on Linux only.

    The limit is that of a cgroup where one can be made; elsewhere of the address space, and the peak is the kernel's
    (VmHWM).
    """

    bundles: Annotated[Path, Flag("directory of the bundles to serve", metavar="DIR")] = Path("bundles")
    minutes: Annotated[float, Flag("how long, minutes", above=0)] = 10.0
    connections: Annotated[int, Flag("connections that send the longest bodies, each without a pause", above=0)] = 16
    slow: Annotated[int, Flag("further connections that send a byte now and then", at_least=0)] = 500
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    mb: Annotated[float | None, Flag("the ceiling, MB, instead of the stated one", above=0)] = None


@dataclass(frozen=True, slots=True)
class Limited:
    """The limit that holds for the service, and of which kind it is."""

    kind: str

    def peak_mb(self, pid: int) -> float:
        """Read the kernel's own record of the most that was resident."""
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / MB


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.ceiling") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Load, and print the result. Raises: BundleError, LoadTestError, also if the peak is above the ceiling."""
    options = read_options(CeilingOptions, prog, argv)
    settings = {"BUNDLES": str(options.bundles), "MODELS": "", "LOG_FORMAT": "json", "MAX_QUEUE_MS": "5000"}
    graphs_mb = [load_bundle(path).model_path.stat().st_size / MB for path in bundle_paths(options.bundles)]
    if not graphs_mb:
        raise BundleError(f"{options.bundles} holds no bundle; name another directory")
    with TemporaryDirectory() as scratch, service(Path(scratch, "log"), **settings) as server:
        client = Client(server.url, client_key(options.api_key))
        workers, routes = client.get("/info")["workers"], read_routes(client)
        ceiling = options.mb or ceiling_mb(graphs_mb, workers, options.connections, options.slow)
        with limited(server.process.pid, ceiling) as limit:
            say(
                f"ceiling {ceiling:.0f} MB, kept by {limit.kind}; {resident_mb(server.process.pid):.0f} MB at the start"
            )
            requests = [request for route in routes for request in worst_of(route, client.key)]
            statuses = load(server.url, requests, options, client.key)
            if server.process.poll() is not None:
                raise LoadTestError(f"the service ended with {server.process.poll()}: {ceiling:.0f} MB are too few")
            peak = limit.peak_mb(server.process.pid)
        errors = [line for line in Path(scratch, "log").read_text().splitlines() if '"level": "ERROR"' in line]
    counted = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
    say(f"peak {peak:.0f} MB of {ceiling:.0f} MB; answers: {counted}")
    if errors:
        raise LoadTestError(f"the service failed {len(errors)} times under the limit, at first with: {errors[0]}")
    if peak > ceiling:
        raise LoadTestError(f"the peak is above the ceiling of {ceiling:.0f} MB")


def ceiling_mb(graphs_mb: Sequence[float], workers: int, connections: int, slow: int, body_mb: float = 2.1) -> float:
    """State the most that the service takes, MB. `body_mb`: HALFDEPTH_MAX_BODY_BYTES."""
    return (
        PROCESS_MB
        + GRAPH_FACTOR * sum(graphs_mb)
        + WINDOW_MB * (workers + 1)  # a spare worker runs short ones beside the others
        + connections * BODY_FACTOR * body_mb
        + slow * CONNECTION_MB
    )


@contextmanager
def limited(pid: int, ceiling: float) -> Iterator[Limited]:
    """Limit a process until the end of the block, by a cgroup, or by its address space: as much more of it as the
    ceiling leaves room for, since much of it is reserved and never used.
    """
    limit = str(int(ceiling * MB))
    with cgroup(pid, version_1=("memory.limit_in_bytes", limit), version_2=("memory.max", limit)) as is_made:
        if is_made:
            yield Limited("the memory limit of a cgroup")
            return
    most = address_space(pid) + max(int((ceiling - resident_mb(pid)) * MB), 0)
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
    yield Limited("a limit of the address space, for want of a cgroup; the peak is VmHWM")


def worst_of(route: Route, key: str | None = None) -> list[bytes]:
    """Make a route's longest text, its longest list, and a text too long to be read, from its example."""
    *_, last = route.example
    lengths = (200_000, 1_850_000)  # characters: JSON is a little longer, and 2 MiB is the limit
    if isinstance(route.example[last], list):
        texts: list[Any] = [[SENTENCE * 2] * 1000, [SENTENCE * 1500] * 10]
    else:
        texts = [(SENTENCE * (length // len(SENTENCE.encode())))[:length] for length in lengths]
    requests = [post(route.path, {**route.example, last: text} | route.choice, **key_headers(key)) for text in texts]
    bodies = [json.dumps({**route.example, last: text}) for text in texts]
    return [request for request, body in zip(requests, bodies, strict=True) if len(body) <= 2 * 1024 * 1024]


def load(url: str, requests: Sequence[bytes], options: CeilingOptions, key: str | None) -> list[int]:
    """Keep all connections busy until the time is over. Returns: the statuses; 0 where a connection broke."""
    end, statuses, host = monotonic() + 60 * options.minutes, list[int](), url.removeprefix("http://").split(":")

    def ask(first: int) -> None:
        number = first
        while monotonic() < end:
            try:
                with Connection(url) as connection:
                    while monotonic() < end:
                        statuses.append(connection.ask(requests[number % len(requests)]).status)
                        number += 1
            except OSError:
                statuses.append(0)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(options.connections)]
    with (
        SlowClients(host[0], int(host[1]), options.slow, key),
        tqdm(total=round(60 * options.minutes), unit="s") as bar,
    ):
        for thread in threads:
            thread.start()
        while (left := end - monotonic()) > 0:
            threading.Event().wait(min(left, 1.0))
            bar.update(1)
        for thread in threads:
            thread.join()
    return statuses


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
