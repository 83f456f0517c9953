"""Measures what requests of a mix cost, on a service that runs or on one that is started for it."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter, sleep

from tqdm import tqdm

from loadtest.bench.measurements import checked
from loadtest.capacity.costs import CostTable
from loadtest.capacity.mix import Kind, MixError
from loadtest.connection import Answer, Connection, closed_loop, post
from loadtest.payloads import PASSAGE, QUESTION
from loadtest.process import LoadTestError, service
from loadtest.record import Row
from loadtest.routes import Route, read_all_routes
from models.tasks.remote.client import Client, key_headers

WARM_UP_S = 0.3
PER_CORE = 4  # connections that keep a core busy
MOST_RATIOS = 400
TRIES = 8  # to find a text of a number of tokens
SAME_PART = 0.02  # of a number of tokens that a text may miss it by


@dataclass(frozen=True, slots=True)
class Target:
    """Describes a service, with a request of each kind."""

    url: str
    cores: int
    requests: Mapping[Kind, bytes]


@contextmanager
def started(bundles: Path, cores: int, kinds: Sequence[Kind], key: str | None) -> Iterator[Target]:
    """Run the service on the first cores of this machine; while it runs, this process keeps to the others, if any."""
    available = sorted(os.sched_getaffinity(0))
    if cores > len(available):
        raise LoadTestError(f"this machine has {len(available)} cores, not {cores}; give --costs of one that has them")
    replica, others = set(available[:cores]), set(available[cores:])
    try:
        os.sched_setaffinity(0, replica)  # which the service inherits
        with service(BUNDLES=str(bundles), MODELS="", THREADS=str(cores)) as running:
            os.sched_setaffinity(0, others or replica)
            yield target(Client(running.url, key), cores, kinds)
    finally:
        os.sched_setaffinity(0, available)


def target(client: Client, cores: int, kinds: Sequence[Kind]) -> Target:
    """Make a request of each kind. Raises: MixError if a route is not there, ClientError."""
    routes = {route.path: route for route in read_all_routes(client, None)}
    for kind in kinds:
        if kind.route not in routes:
            raise MixError(f"the service has no {kind.route}, or no bundle for it; it has {', '.join(routes)}")
    headers = key_headers(client.key)
    return Target(
        client.url, cores, {kind: post(kind.route, body(client, routes[kind.route], kind), **headers) for kind in kinds}
    )


def body(client: Client, route: Route, kind: Kind) -> dict[str, object]:
    """Make a request whose last text has so many tokens together with what goes before it, by asking for its usage."""
    *_, (last, example) = route.example.items()
    if kind.items > 1 and not isinstance(example, list):
        raise MixError(f"{kind.route} takes no list of texts, so items means nothing there")
    before: dict[str, object] = dict.fromkeys([name for name in route.example if name != last], QUESTION)
    words, count = PASSAGE.split(), max(round(kind.tokens / 1.3), 1)
    for _ in range(TRIES):
        text = " ".join((words * (count // len(words) + 1))[:count])
        content = before | {last: [text] if isinstance(example, list) else text}
        tokens = int(client.post(kind.route, content)["usage"]["tokens_in"])
        if abs(tokens - kind.tokens) <= max(SAME_PART * kind.tokens, 1):
            return before | {last: [text] * kind.items if isinstance(example, list) else text}
        count = max(count + round((kind.tokens - tokens) / 1.3) or count + (1 if tokens < kind.tokens else -1), 1)
    raise MixError(f"no text of {kind.tokens} tokens was found for {kind.route}; {tokens} is the nearest")


@dataclass(slots=True)
class Samples:
    """Holds what was measured of a kind. `paced`: one request at a time, with pauses, after which caches are cold."""

    paced: list[list[Answer]] = field(default_factory=list)
    back_to_back_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def measure(subject: Target, rounds: int, seconds: float, *, quiet: bool = False) -> CostTable:
    """Measure each kind alone, with pauses and without, and with every core kept busy, in turns."""
    samples = {kind: Samples() for kind in subject.requests}
    total, title = rounds * len(samples), f"costs, {subject.cores} cores"
    with tqdm(total=total, unit="kind", desc=title, disable=True if quiet else None) as progress:
        for _ in range(rounds):
            for kind, request in subject.requests.items():
                closed_loop(subject.url, [request], 1, WARM_UP_S)
                alone = _answers(subject, request, 1, seconds / 2)
                lone_ms = statistics.median(answer.milliseconds for answer in alone)
                samples[kind].back_to_back_ms.append(lone_ms)
                samples[kind].paced.append(_paced(subject, request, lone_ms, seconds))
                busy = _answers(subject, request, PER_CORE * subject.cores, seconds)
                samples[kind].rates.append(len(busy) / seconds)
                progress.update()
    return CostTable([row_of(kind, subject.cores, samples[kind]) for kind in subject.requests])


def row_of(kind: Kind, cores: int, samples: Samples) -> Row:
    """Sum up what was measured of a kind."""
    medians = [statistics.median(answer.milliseconds for answer in answers) for answers in samples.paced]
    busy_ms = cores * 1e3 / statistics.median(samples.rates)
    back_to_back_ms = statistics.median(samples.back_to_back_ms)
    first = samples.paced[0][0].json()
    server_ms = statistics.median(
        answer.json()["timings_ms"]["total"] for answers in samples.paced for answer in answers
    )
    # On several cores: of what the client sees beyond the service's own total, half is the service's HTTP; assumption.
    beyond_ms = back_to_back_ms - busy_ms if cores == 1 else (statistics.median(medians) - server_ms) / 2
    overhead_ms = max(beyond_ms, 0.0)
    ratios = [
        answer.milliseconds / median
        for answers, median in zip(samples.paced, medians, strict=True)
        for answer in answers
    ]
    return {
        "route": kind.route,
        "tokens": kind.tokens,
        "items": kind.items,
        "cores": cores,
        "windows": first["usage"]["windows"],
        "lone_ms": round(max(statistics.median(medians) - overhead_ms, 0.0), 4),
        "busy_ms": round(busy_ms, 4),
        "overhead_ms": round(overhead_ms, 4),
        "busy_ms_rounds": [round(cores * 1e3 / rate, 4) for rate in samples.rates],
        "ratios": [round(ratio, 3) for ratio in ratios[:: len(ratios) // MOST_RATIOS + 1]],
    }


def _paced(subject: Target, request: bytes, lone_ms: float, seconds: float) -> list[Answer]:
    """Ask one request at a time, with pauses at random that last as long as an answer on average."""
    random, answers = Random(0), list[Answer]()
    end = perf_counter() + seconds
    with Connection(subject.url) as connection:
        while perf_counter() < end or not answers:
            sleep(random.uniform(0.0, 2.0) * lone_ms / 1e3)
            answers.append(checked(connection.ask(request)))
            if answers[-1].closes:
                connection.connect()
    return answers


def _answers(subject: Target, request: bytes, connections: int, seconds: float) -> list[Answer]:
    answers = [checked(answer) for answer in closed_loop(subject.url, [request], connections, seconds)]
    if not answers:
        raise LoadTestError(f"the service answered nothing in {seconds:g} s; raise --seconds")
    return answers
