"""Measures what requests of a mix cost, on a service that runs or on one that is started for it."""

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from time import perf_counter, sleep

from tqdm import tqdm

from loadtest.bench.measurements import checked
from loadtest.capacity.costs import CostTable
from loadtest.capacity.mix import Kind, Mix, MixError
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
PAUSE = 2.0  # between lone requests, as a multiple of what one takes: what a third of the load leaves
MIXED = 1000  # requests of the mix, in the order in which they are sent
SAME_PART = 0.02  # of a number of tokens that a text may miss it by


@dataclass(frozen=True, slots=True)
class Target:
    """Describes a service, with a request of each kind. `polls`: its client has a core of its own, and never sleeps."""

    url: str
    cores: int
    requests: Mapping[Kind, bytes]
    polls: bool = False


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
            yield replace(target(Client(running.url, key), cores, kinds), polls=bool(others))
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
    """Holds what was measured of a kind. `paced`: one request at a time, among those of the other kinds, after which
    caches are cold.
    """

    paced: list[list[Answer]] = field(default_factory=list)
    back_to_back_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def measure(subject: Target, mix: Mix, rounds: int, seconds: float, *, quiet: bool = False) -> CostTable:
    """Measure in turns: each kind alone without pauses and with every core kept busy, then all kinds of the mix one at
    a time with pauses, and the mix with every core kept busy, where a kind costs more than by itself.
    """
    samples = {kind: Samples() for kind in mix}
    total, title = rounds * (len(samples) + 2), f"costs, {subject.cores} cores"
    mixed_rates = []
    with tqdm(total=total, unit="part", desc=title, disable=True if quiet else None) as progress:
        for number in range(rounds):
            for kind, request in subject.requests.items():
                closed_loop(subject.url, [request], 1, WARM_UP_S)
                alone = _answers(subject, [request], 1, seconds / 2)
                samples[kind].back_to_back_ms.append(statistics.median(answer.milliseconds for answer in alone))
                samples[kind].rates.append(_rate(subject, [request], seconds))
                progress.update()
            mean_ms = sum(share * samples[kind].back_to_back_ms[-1] for kind, share in mix.items())
            for kind, answers in _paced(subject, PAUSE * mean_ms, seconds * len(samples), number).items():
                samples[kind].paced.append(answers)
            progress.update()
            kinds = Random(number).choices(list(mix), list(mix.values()), k=MIXED)
            mixed_rates.append(_rate(subject, [subject.requests[kind] for kind in kinds], seconds * len(samples)))
            progress.update()
    apart_ms = sum(share * 1e3 / statistics.median(samples[kind].rates) for kind, share in mix.items())
    together_ms = 1e3 / statistics.median(mixed_rates)
    return CostTable([row_of(kind, subject.cores, samples[kind], together_ms / apart_ms) for kind in mix])


def row_of(kind: Kind, cores: int, samples: Samples, mixed: float) -> Row:
    """Sum up what was measured of a kind. `mixed`: how many times as much the mix costs as its kinds apart."""
    medians = [statistics.median(answer.milliseconds for answer in answers) for answers in samples.paced]
    apart_ms = cores * 1e3 / statistics.median(samples.rates)
    back_to_back_ms = statistics.median(samples.back_to_back_ms)
    first = samples.paced[0][0].json()
    server_ms = statistics.median(
        answer.json()["timings_ms"]["total"] for answers in samples.paced for answer in answers
    )
    # On several cores: of what the client sees beyond the service's own total, half is the service's HTTP; assumption.
    beyond_ms = back_to_back_ms - apart_ms if cores == 1 else (statistics.median(medians) - server_ms) / 2
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
        "busy_ms": round(apart_ms * mixed, 4),
        "overhead_ms": round(overhead_ms, 4),
        "busy_ms_rounds": [round(cores * 1e3 / rate * mixed, 4) for rate in samples.rates],
        "ratios": [round(ratio, 3) for ratio in ratios[:: len(ratios) // MOST_RATIOS + 1]],
    }


def _paced(subject: Target, pause_ms: float, seconds: float, seed: int) -> dict[Kind, list[Answer]]:
    """Ask one request at a time, of one kind after the other, with pauses at random, as between rare requests."""
    random, found = Random(seed), {kind: list[Answer]() for kind in subject.requests}
    end = perf_counter() + seconds
    with Connection(subject.url) as connection:
        while perf_counter() < end or not all(found.values()):
            for kind, request in subject.requests.items():
                _rest(random.expovariate(1e3 / pause_ms), subject.polls)
                answer = checked(connection.ask(request, polls=subject.polls))
                found[kind].append(answer)
                if answer.closes:
                    connection.connect()
    return found


def _rest(seconds: float, polls: bool) -> None:
    if not polls:
        sleep(seconds)
        return
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def _rate(subject: Target, requests: Sequence[bytes], seconds: float) -> float:
    """Return requests a second with every core busy."""
    return len(_answers(subject, requests, PER_CORE * subject.cores, seconds)) / seconds


def _answers(subject: Target, requests: Sequence[bytes], connections: int, seconds: float) -> list[Answer]:
    answers = [checked(answer) for answer in closed_loop(subject.url, requests, connections, seconds)]
    if not answers:
        raise LoadTestError(f"the service answered nothing in {seconds:g} s; raise --seconds")
    return answers
