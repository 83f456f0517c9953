"""Compares the service with the plain server: the same bundle, question and cores, in turns."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import Any

from loadtest.bench.inprocess import as_served
from loadtest.bench.measurements import LOADED, checked, percentile, say
from loadtest.connection import closed_loop, post
from loadtest.payloads import QUESTION, passage_of
from loadtest.process import (
    LoadTestError,
    cpu_seconds,
    free_port,
    pinned,
    python_environment,
    python_module,
    resident_mb,
    service,
    stolen_seconds,
    wait_until_ready,
)
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle
from models.tasks.remote.address import DEFAULT_HOST
from models.tasks.session import OnnxSession, graph_outputs, open_graph

TOKENS = 71
BUSY_S = 20.0
WARM_UP_S = 0.3
RUNS = 50  # in this process, for the CPU of a run alone


@dataclass(frozen=True, slots=True)
class Server:
    """Processes that serve the same question; connections are dealt evenly among them."""

    name: str
    urls: tuple[str, ...]
    pids: tuple[int, ...]
    request: bytes

    def cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, self.pids))


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: answers a second, milliseconds, and the CPU of an answer in milliseconds."""

    rate: float
    p50: float
    p99: float
    cpu_ms: float
    load_cores: float  # that the load itself took
    stolen_cores: float  # that the host gave to its other guests


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how long. `starts`: how often the service is started anew for concurrency 1."""

    bundle: Bundle
    bundles: Path
    seconds: float
    rounds: int
    starts: int

    @cached_property
    def item(self) -> Any:  # an input of the bundle's task
        """The question, in as many tokens as TOKENS."""
        tokenizer = build_task(self.bundle, SPECS[LOADED].graph_outputs).tokenizer
        return replace(SPECS[LOADED].warm_up, question=QUESTION, context=passage_of(TOKENS, tokenizer, QUESTION))

    @cached_property
    def exact_products(self) -> bool:
        """Whether the service takes exact products on this CPU: then the plain server does, and the run alone."""
        served, exact_products = as_served(self.bundle)
        if served is not self.bundle:
            raise LoadTestError(f"{self.bundle.path} is served in fp32 on this CPU; name another bundle")
        return exact_products

    def request(self, **fields: str) -> bytes:
        return post("/qa", {"question": self.item.question, "context": self.item.context} | fields)


def against_plain(comparison: Comparison) -> None:
    """Print each figure of the service beside the plain server's."""
    cores = sorted(os.sched_getaffinity(0))
    say(f"/qa of {TOKENS} tokens by {comparison.bundle.name}, {len(cores)} cores, {comparison.rounds} rounds in turns")
    say(f"of {comparison.seconds:g} s, medians (times: of the rounds' ratios)")
    say("plain has a process for each core, and its connections dealt evenly")
    say("stolen: cores that the host kept from this machine; two threads wait for each other then")
    if comparison.exact_products:
        say("products of bytes saturate on this CPU: ours and plain take exact ones")
    with plain(comparison, [None] * len(cores)) as plain_server:
        with ours(comparison, [None]) as our_server:
            say("\none process of ours over all cores")
            compare([plain_server, our_server], (1, 8, 32), comparison)
            say(f"MB resident: plain {_resident(plain_server)}, ours {_resident(our_server)}")
        if comparison.starts:
            say(f"\nconcurrency 1 after {comparison.starts} starts, of which every second while all cores were busy")
            for number in range(comparison.starts):
                with started(comparison, busy=number % 2 == 1) as our_server:
                    compare([plain_server, our_server], (1,), comparison, head=number == 0)
    with plain(comparison, cores) as plain_server, ours(comparison, cores, THREADS="1") as our_server:
        say(f"\na process of one thread pinned to each of {len(cores)} cores, both")
        compare([plain_server, our_server], (4 * len(cores), 16 * len(cores)), comparison)


def compare(
    servers: Sequence[Server], concurrencies: Sequence[int], comparison: Comparison, *, head: bool = True
) -> None:
    """Load servers in turns, and print the medians. The first is what the others are compared with."""
    if head:
        say(
            "concurrency  server  requests/s  times  p50 ms  times  p99 ms  times  CPU ms  beyond a run  load's cores  "
            "stolen"
        )
    for concurrency in concurrencies:
        rounds: dict[str, list[Round]] = {server.name: [] for server in servers}
        alone_ms: list[float] = []
        for number in range(comparison.rounds):
            for server in servers if number % 2 else servers[::-1]:
                rounds[server.name].append(measure(server, concurrency, comparison.seconds))
            alone_ms.append(run_ms(comparison))
        baselines = rounds[servers[0].name]
        for server in servers:
            median = median_round(rounds[server.name])
            rate_times, p50_times, p99_times = _median_times(rounds[server.name], baselines)
            say(
                f"{concurrency:11}  {server.name:<6}  {median.rate:10.0f}  {rate_times:5.2f}  "
                f"{median.p50:6.2f}  {p50_times:5.2f}  {median.p99:6.1f}  {p99_times:5.2f}  {median.cpu_ms:6.2f}  "
                f"{median.cpu_ms - statistics.median(alone_ms):12.2f}  {median.load_cores:12.2f}  "
                f"{median.stolen_cores:6.2f}"
            )


def measure(server: Server, concurrency: int, seconds: float) -> Round:
    """Load a server for so long. Raises: LoadTestError if it refuses, or answers nothing."""
    closed_loop(server.urls, [server.request], concurrency, WARM_UP_S)
    cpu_began, load_began, stolen_began = server.cpu_seconds(), process_time(), stolen_seconds()
    answers = closed_loop(server.urls, [server.request], concurrency, seconds)
    cpu_s, load_s = server.cpu_seconds() - cpu_began, process_time() - load_began
    stolen_s = stolen_seconds() - stolen_began
    times = [checked(answer).milliseconds for answer in answers]
    if not times:
        raise LoadTestError(f"{server.name} answered nothing in {seconds:g} s; raise --seconds")
    return Round(
        rate=len(times) / seconds,
        p50=statistics.median(times),
        p99=percentile(times, 99),
        cpu_ms=cpu_s * 1e3 / len(times),
        load_cores=load_s / seconds,
        stolen_cores=stolen_s / seconds,
    )


@contextmanager
def ours(comparison: Comparison, cores: Sequence[int | None], **settings: str) -> Iterator[Server]:
    """Run a process of the service for each of these cores, or on all cores for None."""
    with ExitStack() as stack:
        processes = []
        for core in cores:
            with pinned(core):
                processes.append(stack.enter_context(service(BUNDLES=str(comparison.bundles), **settings)))
        request = comparison.request(model=comparison.bundle.path.name)
        urls = tuple(process.url for process in processes)
        yield Server("ours", urls, tuple(process.process.pid for process in processes), request)


@contextmanager
def plain(comparison: Comparison, cores: Sequence[int | None]) -> Iterator[Server]:
    """Run a process of the plain server for each of these cores, or on all cores for None."""
    processes: list[subprocess.Popen[str]] = []
    urls = []
    try:
        for core in cores:
            port = free_port()
            variables = {"PLAIN_PORT": str(port), "PLAIN_BUNDLE": str(comparison.bundle.path)}
            if comparison.exact_products:
                variables["PLAIN_EXACT"] = "1"
            environment = python_environment(**variables)
            with pinned(core):
                process = subprocess.Popen(python_module("loadtest.bench.plain"), env=environment, text=True)
            processes.append(process)
            urls.append(f"http://{DEFAULT_HOST}:{port}")
            wait_until_ready(urls[-1], process)
        yield Server("plain", tuple(urls), tuple(process.pid for process in processes), comparison.request())
    finally:
        _end(processes)


@contextmanager
def started(comparison: Comparison, *, busy: bool) -> Iterator[Server]:
    """Run the service on all cores; if `busy`, they have other work from before its start until BUSY_S later."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0) if busy]
    end = perf_counter() + BUSY_S
    try:
        with ours(comparison, [None]) as server:
            if spinners:
                sleep(max(end - perf_counter(), 0.0))
                _end(spinners)
            yield server
    finally:
        _end(spinners)


def run_ms(comparison: Comparison) -> float:
    """Returns: the CPU of a run alone in this process, milliseconds: without tokenizing and decoding."""
    bundle = comparison.bundle
    graph = open_graph(bundle, threads=1, exact_products=comparison.exact_products)
    task = build_task(bundle, graph_outputs(graph))
    run = OnnxSession(bundle, graph, task.output_names).run
    [window] = task.encode(comparison.item).windows
    run(window)
    began = thread_time()
    for _ in range(RUNS):
        run(window)
    return (thread_time() - began) * 1e3 / RUNS


def median_round(rounds: Sequence[Round]) -> Round:
    """Take the median of each figure by itself."""
    return Round(*[statistics.median(values) for values in zip(*map(astuple, rounds), strict=True)])


def _median_times(rounds: Sequence[Round], baselines: Sequence[Round]) -> list[float]:
    """Divide rate, p50 and p99 of each round by the baseline's beside it: a slow minute of the machine meets both."""
    return [
        statistics.median(
            getattr(measured, figure) / getattr(baseline, figure)
            for measured, baseline in zip(rounds, baselines, strict=True)
        )
        for figure in ("rate", "p50", "p99")
    ]


def _resident(server: Server) -> str:
    return " + ".join(f"{resident_mb(pid):.0f}" for pid in server.pids)


def _end(processes: Sequence["subprocess.Popen[bytes]"] | Sequence["subprocess.Popen[str]"]) -> None:
    for process in processes:
        process.terminate()
        process.wait()
