"""Checks the simulation: its tail beside what callers measure, at loads below saturation."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from loadtest.bench.measurements import checked
from loadtest.bench.openloop import open_loop_at
from loadtest.capacity.costs import Cost
from loadtest.capacity.measure import Target, measure
from loadtest.capacity.mix import Kind, Mix
from loadtest.capacity.simulation import Arrivals, Plan, replay, utilization
from loadtest.process import LoadTestError
from loadtest.record import Row

P50_WITHIN, P99_WITHIN = 0.10, 0.30
REPLAYS = 30
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Describes a check. `loads`: shares of what one replica can do."""

    loads: Sequence[float]
    rounds: int
    seconds: float
    cost_seconds: float


@dataclass(frozen=True, slots=True)
class Tail:
    """Holds p50 and p99, milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Round:
    """Holds what a round measured at a load, and what the simulation made of its costs."""

    rate: float
    measured: Tail
    simulated: Tail


def check(subject: Target, mix: Mix, trial: Trial) -> list[Row]:
    """Measure in rounds: the costs, then each load with arrivals at random; simulate with the costs of the round.

    Requests are sent when they are due, whether or not others have been answered, and their time counts from then. A
    round has rates of its own, shares of what the replica bears in that minute.
    """
    rounds: list[list[Round]] = [[] for _ in trial.loads]
    with tqdm(total=trial.rounds * len(trial.loads), unit="run", desc="check", disable=None) as progress:
        for number in range(trial.rounds):
            table = measure(subject, mix, 1, trial.cost_seconds, quiet=True)
            costs = {kind: table.cost(kind, subject.cores) for kind in mix}
            for index, load in enumerate(trial.loads):
                rate = load / utilization(Plan(1.0, 1, subject.cores), costs, mix)
                arrivals = at_random(mix, rate, trial.seconds, seed=number * len(trial.loads) + index)
                measured = run(subject, mix, arrivals)
                simulated = simulated_tail(Plan(rate, 1, subject.cores), costs, mix, arrivals)
                rounds[index].append(Round(rate, measured, simulated))
                progress.update()
    return [row_of(subject.cores, load, found) for load, found in zip(trial.loads, rounds, strict=True)]


def at_random(mix: Mix, rate: float, seconds: float, seed: int) -> Arrivals:
    random = np.random.default_rng(seed)
    times = np.cumsum(random.exponential(1e3 / rate, max(int(rate * seconds), 2)))
    return Arrivals(times, random.choice(len(mix), len(times), p=list(mix.values())))


def run(subject: Target, mix: Mix, arrivals: Arrivals) -> Tail:
    """Send these requests. Raises: LoadTestError if requests are lost or refused."""
    kinds, due_s = list(mix), (arrivals.times / 1e3).tolist()
    requests = [subject.requests[kinds[number]] for number in arrivals.kind_numbers]
    found = open_loop_at(subject.url, requests, due_s, PATIENCE_S, polls=subject.polls)
    if found.lost or found.unsent:
        raise LoadTestError(f"{found.lost + found.unsent} of {len(due_s)} requests got no answer")
    times = [checked(answer).milliseconds for answer in found.answers]
    return Tail(float(np.percentile(times, 50)), float(np.percentile(times, 99)))


def simulated_tail(plan: Plan, costs: Mapping[Kind, Cost], mix: Mix, arrivals: Arrivals) -> Tail:
    """Simulate the very requests that were sent, REPLAYS times, each time with other moments slow."""
    random = np.random.default_rng(0)
    times = np.concatenate([replay(plan, costs, mix, arrivals, random).times for _ in range(REPLAYS)])
    return Tail(float(np.percentile(times, 50)), float(np.percentile(times, 99)))


def row_of(cores: int, load: float, rounds: Sequence[Round]) -> Row:
    """Take medians of the rounds, and say whether they agree."""
    columns: dict[str, float | list[float]] = {"rate": statistics.median(found.rate for found in rounds)}
    offs = {}
    for name in ("p50", "p99"):
        measured = [getattr(found.measured, name) for found in rounds]
        simulated = [getattr(found.simulated, name) for found in rounds]
        offs[name] = statistics.median(
            simulated_ms / measured_ms - 1 for simulated_ms, measured_ms in zip(simulated, measured, strict=True)
        )
        columns[f"measured_{name}_ms"] = statistics.median(measured)
        columns[f"simulated_{name}_ms"] = statistics.median(simulated)
        columns[f"{name}_off"] = offs[name]
        columns[f"measured_{name}_ms_rounds"], columns[f"simulated_{name}_ms_rounds"] = measured, simulated
    agrees = abs(offs["p50"]) <= P50_WITHIN and abs(offs["p99"]) <= P99_WITHIN
    return {"cores": cores, "load": load, **columns, "agrees": agrees}
