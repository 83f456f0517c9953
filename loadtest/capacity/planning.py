"""Finds how many replicas a load needs, and what they cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.capacity.costs import Cost
from loadtest.capacity.mix import Kind, Mix
from loadtest.capacity.simulation import Balancer, Outcome, Plan, simulate, utilization
from models.tasks.errors import InputError

REQUESTS = 40_000
FULLEST = 0.98  # share of the cores: beyond, a queue of minutes may build up, which so many requests do not show
LEAST = 0.02  # with so little to do, more replicas change nothing
HOURS_A_MONTH = 730.0


class CapacityError(InputError):
    """No number of replicas does what is asked; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Need:
    """Describes what is asked: requests a second, and the bound in milliseconds that 99 in 100 keep."""

    rps: float
    p99_ms: float
    balancer: Balancer


@dataclass(frozen=True, slots=True)
class Answer:
    """Holds the smallest plan that does it, with what it was found to do."""

    plan: Plan
    outcome: Outcome
    utilization: float

    def price_per_hour(self, core_hour: float) -> float:
        return self.plan.replicas * self.plan.cores * core_hour


def smallest(need: Need, cores: int, costs: Mapping[Kind, Cost], mix: Mix, requests: int = REQUESTS) -> Answer:
    """Find the fewest replicas of so many cores. Raises: CapacityError if even idle ones are too slow."""

    def attempt(replicas: int) -> Answer:
        plan = Plan(need.rps, replicas, cores, need.balancer)
        return Answer(plan, simulate(plan, costs, mix, requests), utilization(plan, costs, mix))

    full = utilization(Plan(need.rps, 1, cores), costs, mix)
    fewest, most = max(math.ceil(full / FULLEST), 1), max(math.ceil(full / LEAST), 1)
    best = attempt(most)
    if best.outcome.percentile(99) > need.p99_ms:
        p99 = best.outcome.percentile(99)
        slowest = max(mix, key=lambda kind: costs[kind].lone_ms)
        raise CapacityError(
            f"no number of replicas of {cores} cores keeps p99 within {need.p99_ms:g} ms: without any waiting it is "
            f"{p99:.1f} ms, and {slowest} takes longest ({costs[slowest].lone_ms:.1f} ms)"
        )
    while fewest < most:
        middle = (fewest + most) // 2
        answer = attempt(middle)
        if answer.outcome.percentile(99) <= need.p99_ms:
            most, best = middle, answer
        else:
            fewest = middle + 1
    return best
