"""Simulates replicas behind a balancer, event by event."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.capacity.costs import Cost
from loadtest.capacity.mix import Kind, Mix

Balancer = Literal["least-connections", "round-robin", "random"]
# service/engine/policy.py says what these mean.
STRETCH = 10.0  # the engine's order: arrival plus so many times the cost
LONG_MS, SHORT_MS = 10.0, 5.0  # where every core has a window that long, a request that short runs at once beside it
CELL = 8  # replicas that are simulated of many; with more, the least busy one is hardly less busy
LONE_IDLE = 2 / 3  # of the time; lone requests are measured with pauses twice as long as they take
WARM_UP = 0.1  # of the requests, which are not counted

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Describes what is simulated. `rate`: requests a second over all replicas."""

    rate: float
    replicas: int
    cores: int
    balancer: Balancer = "least-connections"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Holds when requests come, in milliseconds, and the place of each one's kind in the mix."""

    times: Floats
    kind_numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Holds the milliseconds of each counted request, and its kind."""

    times: Floats
    kinds: Sequence[Kind]
    kind_numbers: NDArray[np.int64]

    def percentile(self, percent: float, route: str | None = None) -> float:
        """Returns: milliseconds, of all requests or of one route's."""
        if route is None:
            return float(np.percentile(self.times, percent))
        numbers = [number for number, kind in enumerate(self.kinds) if kind.route == route]
        return float(np.percentile(self.times[np.isin(self.kind_numbers, numbers)], percent))


class Waiting(NamedTuple):
    """A window that waits for a core; the smallest `due` is next."""

    due: float
    number: int
    job: int


@dataclass(slots=True)
class Replica:
    """Holds what runs and waits in one replica.

    `running`: the job of each window that has a core. `short_jobs` wait for the spare thread, which takes its time from
    the windows: `debts` tells by how much longer they run.
    """

    running: list[int] = field(default_factory=list)
    long_windows: int = 0
    open_jobs: int = 0
    heap: list[Waiting] = field(default_factory=list)
    is_spare_busy: bool = False
    short_jobs: deque[int] = field(default_factory=deque)
    debts: dict[int, float] = field(default_factory=dict)


class Event(NamedTuple):
    """The end of a window, in milliseconds."""

    end: float
    number: int
    place: int
    job: int
    is_spare: bool


def utilization(plan: Plan, costs: Mapping[Kind, Cost], mix: Mix) -> float:
    """Return the share of the cores that the work takes; at 1 and beyond, queues grow without end."""
    work_ms = sum(share * costs[kind].busy_ms for kind, share in mix.items())
    return plan.rate * work_ms / 1e3 / (plan.replicas * plan.cores)


def simulate(plan: Plan, costs: Mapping[Kind, Cost], mix: Mix, requests: int, seed: int = 0) -> Outcome:
    """Simulate a cell of at most CELL of the replicas under its share of the load, which comes at random."""
    random = np.random.default_rng(seed)
    cell = min(plan.replicas, CELL)
    gap_ms = 1e3 / (plan.rate * cell / plan.replicas)
    # Taking turns among many replicas spaces out what each gets: one of n arrivals, so gaps are sums of n.
    shape = plan.replicas / cell if plan.balancer == "round-robin" else 1.0
    times = np.cumsum(random.gamma(shape, gap_ms / shape, requests))
    arrivals = Arrivals(times, random.choice(len(mix), requests, p=list(mix.values())))
    outcome, first = replay(plan, costs, mix, arrivals, random), int(requests * WARM_UP)
    return Outcome(outcome.times[first:], outcome.kinds, outcome.kind_numbers[first:])


def replay(
    plan: Plan, costs: Mapping[Kind, Cost], mix: Mix, arrivals: Arrivals, random: np.random.Generator
) -> Outcome:
    """Simulate what becomes of these requests in at most CELL replicas.

    A replica has so many cores. A window takes one of them for its measured time, and waits in the engine's order while
    none is free; a request that finds its replica idle takes what a lone one takes, and a short one that finds every
    core within a long window shares a core with it. Where one request after the other varied when they were measured,
    they vary in the same sequence here, so that slow moments come together.
    """
    kinds, kind_numbers = list(mix), arrivals.kind_numbers
    cell = min(plan.replicas, CELL)
    places = random.integers(0, cell, len(kind_numbers))
    ratios = _ratios([costs[kind] for kind in kinds], kind_numbers, random)
    idle = max(1 - utilization(plan, costs, mix), 0.0)
    ends = _Run([costs[kind] for kind in kinds], arrivals, ratios, places, plan, cell, idle).ends()
    overheads = np.array([costs[kind].overhead_ms for kind in kinds])
    return Outcome(ends - arrivals.times + overheads[kind_numbers], kinds, kind_numbers)


def _ratios(costs: Sequence[Cost], kind_numbers: NDArray[np.int64], random: np.random.Generator) -> Floats:
    """Replay the measured sequence of each kind from a random place on."""
    ratios = np.ones(len(kind_numbers))
    for number, cost in enumerate(costs):
        [positions] = np.nonzero(kind_numbers == number)
        series = np.asarray(cost.ratios, float)
        ratios[positions] = series[(np.arange(len(positions)) + random.integers(len(series))) % len(series)]
    return ratios


def _lone_ms(cost: Cost, idle: float) -> float:
    """Return what a lone request takes, with caches that are the colder the longer a replica rests."""
    cold_ms = max(cost.lone_ms - cost.busy_ms / cost.windows, 0.0)
    return cost.lone_ms - cold_ms * (1 - idle / LONE_IDLE)


class _Run:
    """Goes through the events. Times are milliseconds."""

    def __init__(
        self,
        costs: Sequence[Cost],
        arrivals: Arrivals,
        ratios: Floats,
        places: NDArray[np.int64],
        plan: Plan,
        cell: int,
        idle: float,
    ) -> None:
        """`idle`: the share of their time in which the replicas have nothing to do."""
        self.costs, self.plan = costs, plan
        self.kinds: list[int] = arrivals.kind_numbers.tolist()
        self.arrivals: list[float] = arrivals.times.tolist()
        self.ratios: list[float] = ratios.tolist()
        self.places: list[int] = places.tolist()
        self.lone_ms = [_lone_ms(cost, idle) for cost in costs]
        self.window_ms = [cost.busy_ms / cost.windows for cost in costs]
        self.replicas = [Replica() for _ in range(cell)]
        self.left = [costs[kind].windows for kind in self.kinds]
        self.finished = [0.0] * len(self.arrivals)
        self.events: list[Event] = []
        self.numbers = count()
        self.turn = 0

    def ends(self) -> Floats:
        for job, arrival in enumerate(self.arrivals):
            while self.events and self.events[0].end <= arrival:
                self._end(heappop(self.events))
            self._begin(job, arrival)
        while self.events:
            self._end(heappop(self.events))
        return np.array(self.finished)

    def _begin(self, job: int, now: float) -> None:
        place = self._place(job)
        replica, cost, window_ms = self.replicas[place], self.costs[self.kinds[job]], self.window_ms[self.kinds[job]]
        replica.open_jobs += 1
        if not replica.running and cost.windows == 1:
            self._run(place, job, now, self.lone_ms[self.kinds[job]])
            return
        if cost.busy_ms <= SHORT_MS and cost.windows == 1 and self.plan.cores <= replica.long_windows:
            replica.short_jobs.append(job)
            self._run_spare(place, now)
            return
        for window in range(cost.windows):
            if len(replica.running) < self.plan.cores:
                self._run(place, job, now, window_ms)
            else:
                heappush(replica.heap, Waiting(now + STRETCH * window_ms * (window + 1), next(self.numbers), job))

    def _end(self, event: Event) -> None:
        now, _, place, job, is_spare = event
        replica = self.replicas[place]
        if is_spare:
            replica.is_spare_busy = False
        else:
            debt = replica.debts.pop(job, 0.0)
            if debt:
                heappush(self.events, event._replace(end=now + debt))
                return
            replica.running.remove(job)
            replica.long_windows -= self.window_ms[self.kinds[job]] >= LONG_MS
        self.left[job] -= 1
        if not self.left[job]:
            replica.open_jobs -= 1
            self.finished[job] = now
        self._run_spare(place, now)
        if replica.heap and len(replica.running) < self.plan.cores:
            waiting = heappop(replica.heap)
            self._run(place, waiting.job, now, self.window_ms[self.kinds[waiting.job]])

    def _run(self, place: int, job: int, now: float, milliseconds: float) -> None:
        replica = self.replicas[place]
        replica.running.append(job)
        replica.long_windows += self.window_ms[self.kinds[job]] >= LONG_MS
        heappush(self.events, Event(now + milliseconds * self.ratios[job], next(self.numbers), place, job, False))

    def _run_spare(self, place: int, now: float) -> None:
        """Start the next short job beside the windows, one of which ends later by what it costs. The kernel gives it
        half of a core, so that it takes twice as long as a lone one.
        """
        replica = self.replicas[place]
        if replica.is_spare_busy or not replica.short_jobs:
            return
        job = replica.short_jobs.popleft()
        milliseconds = self.lone_ms[self.kinds[job]] * self.ratios[job]
        if replica.running:
            busy_ms = self.costs[self.kinds[job]].busy_ms * self.ratios[job]
            replica.debts[replica.running[0]] = replica.debts.get(replica.running[0], 0.0) + busy_ms
            milliseconds *= 2
        replica.is_spare_busy = True
        heappush(self.events, Event(now + milliseconds, next(self.numbers), place, job, True))

    def _place(self, job: int) -> int:
        """Choose the replica: of several with the fewest open requests, the next in turn, as nginx does."""
        cell = len(self.replicas)
        if self.plan.balancer == "random":
            return self.places[job]
        order = [(self.turn + step) % cell for step in range(cell)]
        if self.plan.balancer == "round-robin":
            chosen = order[0]
        else:
            chosen = min(order, key=lambda place: self.replicas[place].open_jobs)
        self.turn = (chosen + 1) % cell
        return chosen
