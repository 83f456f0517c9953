"""Measures a peer and the service in turns, and makes the rows."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

from loadtest.bench.against_plain import Round, Server, measure, median_round
from loadtest.bench.openloop import open_loop
from loadtest.connection import Connection
from loadtest.peers.forms import OURS, Answer, Texts, is_same
from loadtest.peers.registry import BUNDLE, Model, Peer
from loadtest.peers.running import Running
from loadtest.process import LoadTestError, free_port, listens, python_environment, python_module, service
from models.tasks.base import TaskName
from models.tasks.bundle import Bundle
from models.tasks.remote.address import DEFAULT_HOST

PER_SECOND = 5.0
WARM_UP_S, WARM_UP_CONCURRENCY = 2.0, 8
RESPONDER = "loadtest.peers.responder"
NAME = "halfdepth"
SETTINGS = "one process over all cores, every setting at its default"

Row = dict[str, Any]  # of the record: texts, numbers and None


@dataclass(frozen=True, slots=True)
class Plan:
    """Says how much is measured."""

    rounds: int
    seconds: float
    idle_s: float
    concurrency: Sequence[int]


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU seconds over the plan's `idle_s`, without requests and at PER_SECOND of them."""

    idle_s: float
    asked_s: float


@dataclass(slots=True)
class Ours:
    """Holds the service of one task as it runs, what was measured of it beside each peer, and each peer's idle CPU."""

    running: Running
    task: TaskName
    texts: Texts
    idle: Idle
    rounds: dict[int, list[Round]] = field(default_factory=dict)
    peers_idle_s: dict[str, float] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        return Server(NAME, self.running.urls, (), OURS[self.task].request(self.texts))

    @property
    def answer(self) -> Answer:
        return OURS[self.task].answer(self.running.first_reply)


@contextmanager
def ours(bundle: Bundle, texts: Texts, plan: Plan) -> Iterator[Ours]:
    """Run the service with this bundle alone until the block ends."""
    began = perf_counter()
    request = OURS[bundle.task].request(texts)
    with service(BUNDLES=str(bundle.path), MODELS="") as process:
        with Connection(process.url) as connection:
            answer = connection.ask(request)
        if answer.status != 200:
            raise LoadTestError(f"the service answered {answer.status} {answer.body[:200]!r}")
        running = Running((process.url,), (process.process.pid,), perf_counter() - began, answer.body)
        idle = Idle(idle_seconds(running, plan), asked_seconds(running, request, plan))
        yield Ours(running, bundle.task, texts, idle)


def idle_seconds(running: Running, plan: Plan) -> float:
    """Read the CPU that goes by without requests."""
    began = running.cpu_seconds()
    sleep(plan.idle_s)
    return running.cpu_seconds() - began


def asked_seconds(running: Running, request: bytes, plan: Plan) -> float:
    """Read the CPU that a few requests a second take. Raises: LoadTestError if they are not all answered."""
    began = running.cpu_seconds()
    arrivals = open_loop(running.urls[0], [request], PER_SECOND, plan.idle_s, plan.idle_s)
    if any(answer.status != 200 for answer in arrivals.answers) or not arrivals.answers:
        raise LoadTestError(f"it did not answer {PER_SECOND:g} requests a second")
    return running.cpu_seconds() - began


def compare(
    ours: Ours, peer: Peer, model: Model, running: Running, plan: Plan, limits: Mapping[int, float]
) -> list[Row]:
    """Load the peer and the service in turns. Returns: a row of the peer's for each concurrency.

    Raises: LoadTestError if the peer refuses, answers otherwise than the service on the same bundle, or not at all.
    """
    form = peer.forms[ours.task]
    request = form.request(ours.texts)
    same = is_same(form.answer(running.first_reply), ours.answer)
    if model == BUNDLE and not same:
        raise LoadTestError(f"it answers otherwise than the service: {running.first_reply[:200]!r}")
    server = Server(peer.name, running.urls, (), request)
    measure(server, WARM_UP_CONCURRENCY, WARM_UP_S)
    if peer.name not in ours.peers_idle_s:  # whatever its model: nothing runs it
        ours.peers_idle_s[peer.name] = idle_seconds(running, plan)
    idle = Idle(ours.peers_idle_s[peer.name], asked_seconds(running, request, plan))
    rows = []
    for concurrency in plan.concurrency:
        rounds: dict[str, list[Round]] = {peer.name: [], NAME: []}
        for number in range(plan.rounds):
            for turn in (server, ours.server) if number % 2 else (ours.server, server):
                rounds[turn.name].append(measure(turn, concurrency, plan.seconds))
        ours.rounds.setdefault(concurrency, []).extend(rounds[NAME])
        beside = median_round(rounds[NAME])
        figures = row_of(concurrency, rounds[peer.name], running, idle, limits)
        rows.append(
            {"peer": peer.name, "task": ours.task, "model": model, "settings": peer.settings}
            | figures
            | {"ours_requests_per_s": round(beside.rate, 1), "ours_p50_ms": round(beside.p50, 3)}
            | {"ours_p99_ms": round(beside.p99, 3), "same_answer": same}
        )
    return rows


def our_rows(ours: Ours, limits: Mapping[int, float]) -> list[Row]:
    """Make the service's own rows, of all rounds beside all peers."""
    return [
        {"peer": NAME, "task": ours.task, "model": BUNDLE, "settings": SETTINGS}
        | row_of(concurrency, rounds, ours.running, ours.idle, limits)
        for concurrency, rounds in ours.rounds.items()
    ]


def row_of(concurrency: int, rounds: Sequence[Round], running: Running, idle: Idle, limits: Mapping[int, float]) -> Row:
    middle = median_round(rounds)
    return {
        "concurrency": concurrency,
        "requests_per_s": round(middle.rate, 1),
        "p50_ms": round(middle.p50, 3),
        "p99_ms": round(middle.p99, 3),
        "memory_mb": round(running.memory_mb(), 1),
        "start_s": round(running.start_s, 2),
        "idle_cpu_s": round(idle.idle_s, 2),
        "five_rps_cpu_s": round(idle.asked_s, 2),
        "reason": None,
        "client_limit_rps": round(limits[concurrency], 1),
        "requests_per_s_rounds": [round(entry.rate, 1) for entry in rounds],
        "p50_ms_rounds": [round(entry.p50, 3) for entry in rounds],
    }


def refused(peer: Peer, task: TaskName, model: Model, reason: str) -> Row:
    """Make the row of a peer that cannot be measured."""
    names = ("concurrency", "requests_per_s", "p50_ms", "p99_ms", "memory_mb", "start_s", "idle_cpu_s")
    empty: Row = dict.fromkeys((*names, "five_rps_cpu_s"))
    row: Row = {"peer": peer.name, "task": task, "model": model, "settings": peer.settings}
    return row | empty | {"reason": reason, "client_limit_rps": None}


def client_limits(concurrencies: Sequence[int], seconds: float) -> dict[int, float]:
    """Measure the client against a server that does nothing. Returns: requests a second, by concurrency."""
    port = free_port()
    url = f"http://{DEFAULT_HOST}:{port}"
    process = subprocess.Popen([*python_module(RESPONDER), str(port)], env=python_environment())
    try:
        until = perf_counter() + 60
        while not listens(url):
            if process.poll() is not None or perf_counter() > until:
                raise LoadTestError("the trivial server, which tells the client's own limit, did not start")
            sleep(0.05)
        server = Server("responder", (url,), (), b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return {concurrency: measure(server, concurrency, seconds).rate for concurrency in concurrencies}
    finally:
        process.terminate()
        process.wait()
