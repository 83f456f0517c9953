"""The simulation beside what queueing theory knows, and the smallest plan beside its neighbours."""

import math

import numpy as np
import pytest

from loadtest.capacity.costs import Cost
from loadtest.capacity.mix import Kind
from loadtest.capacity.planning import CapacityError, Need, smallest
from loadtest.capacity.simulation import Arrivals, Balancer, Plan, replay, simulate, utilization

QA = Kind("/qa", 128)
FIXED = {QA: Cost(lone_ms=10.0, busy_ms=10.0, overhead_ms=0.0)}
MIX = {QA: 1.0}
MANY = 60_000


def exponential(mean_ms: float) -> Cost:
    ratios = np.random.default_rng(7).exponential(1.0, 5000)
    return Cost(mean_ms, mean_ms, 0.0, 1, (ratios / ratios.mean()).tolist())


def test_one_core_waits_as_pollaczek_and_khinchine_say() -> None:
    """M/D/1 at 70%: the mean wait is rho / (2 (1 - rho)) services."""
    outcome = simulate(Plan(70.0, 1, 1), FIXED, MIX, MANY)
    assert outcome.times.mean() == pytest.approx(10 * (1 + 0.7 / (2 * 0.3)), rel=0.05)


def test_two_cores_wait_as_erlang_says() -> None:
    """M/M/2 at 60%: the mean time is 1 / (mu (1 - rho²))."""
    outcome = simulate(Plan(120.0, 1, 2), {QA: exponential(10.0)}, MIX, MANY)
    assert outcome.times.mean() == pytest.approx(10 / (1 - 0.6**2), rel=0.07)


def test_random_dealing_gives_each_replica_a_queue_of_its_own() -> None:
    outcome = simulate(Plan(280.0, 4, 1, "random"), FIXED, MIX, MANY)
    assert outcome.times.mean() == pytest.approx(10 * (1 + 0.7 / (2 * 0.3)), rel=0.06)


def test_fewer_wait_the_more_the_balancer_knows() -> None:
    dealings: tuple[Balancer, ...] = ("random", "round-robin", "least-connections")
    tails = [simulate(Plan(640.0, 8, 1, dealing), FIXED, MIX, MANY).percentile(99) for dealing in dealings]
    assert tails == sorted(tails, reverse=True)
    assert tails[2] < 0.7 * tails[0]


def test_taking_turns_among_thousands_is_as_regular_as_a_clock() -> None:
    outcome = simulate(Plan(90.0 * 4000, 4000, 1, "round-robin"), FIXED, MIX, 20_000)
    assert outcome.percentile(99) == pytest.approx(10.0, rel=0.05)  # D/D/1 below saturation never waits


def test_a_short_request_passes_between_the_windows_of_a_long_one() -> None:
    long, short = Kind("/qa", 3000), Kind("/classify", 16)
    whole = {long: Cost(100.0, 100.0, 0.0, 1), short: Cost(6.0, 6.0, 0.0)}
    windows = {**whole, long: Cost(100.0, 100.0, 0.0, 10)}
    plan, mix = Plan(40.0, 1, 1), {long: 0.1, short: 0.9}
    blocked, passing = (simulate(plan, costs, mix, MANY).percentile(90, "/classify") for costs in (whole, windows))
    assert passing < 0.4 * blocked


def test_a_request_of_few_milliseconds_runs_beside_a_long_window_which_takes_as_much_longer() -> None:
    long, short = Kind("/qa", 384), Kind("/classify", 16)
    costs = {long: Cost(50.0, 50.0, 0.0), short: Cost(1.0, 1.0, 0.0)}
    alone = simulate(Plan(1.0, 1, 1), costs, {long: 1.0}, MANY // 10).percentile(50, "/qa")
    outcome = simulate(Plan(101.0, 1, 1), costs, {long: 0.01, short: 0.99}, MANY)
    assert outcome.percentile(90, "/classify") < 3.0
    assert outcome.percentile(50, "/qa") == pytest.approx(alone + 50 * 0.1 / (1 - 0.1), rel=0.05)


def test_a_request_beside_a_long_window_has_half_of_a_core() -> None:
    long, short = Kind("/qa", 384), Kind("/classify", 16)
    costs = {long: Cost(1000.0, 1000.0, 0.0), short: Cost(1.0, 1.0, 0.0)}
    outcome = simulate(Plan(1.0, 1, 1), costs, {long: 0.8, short: 0.2}, MANY)
    assert outcome.percentile(90, "/classify") == pytest.approx(2.0, rel=0.01)


def test_a_lone_request_costs_more_the_longer_a_replica_rests() -> None:
    costs = {QA: Cost(lone_ms=15.0, busy_ms=10.0, overhead_ms=0.0)}
    medians = [simulate(Plan(rate, 1, 1), costs, MIX, 5000).percentile(50) for rate in (1.0, 20.0, 33.3)]
    assert medians == sorted(medians, reverse=True)
    assert medians[2] == pytest.approx(15.0, abs=0.1)  # as much rest as when the cost was measured


def test_a_lone_request_takes_all_cores_and_the_callers_share_is_added() -> None:
    costs = {QA: Cost(lone_ms=6.0, busy_ms=10.0, overhead_ms=0.5)}
    assert simulate(Plan(0.1, 1, 2), costs, MIX, 2000).percentile(50) == pytest.approx(6.5)


def test_slow_moments_come_together_as_they_were_measured() -> None:
    scattered = Cost(10.0, 10.0, 0.0, 1, [3.0 if number % 20 == 0 else 0.9 for number in range(400)])
    together = Cost(10.0, 10.0, 0.0, 1, [3.0 if number < 20 else 0.9 for number in range(400)])
    tails = [simulate(Plan(60.0, 1, 1), {QA: cost}, MIX, MANY).percentile(99) for cost in (scattered, together)]
    assert tails[1] > 2 * tails[0]


def test_what_was_sent_is_replayed_as_it_came() -> None:
    arrivals = Arrivals(np.array([0.0, 1.0, 100.0]), np.zeros(3, int))
    outcome = replay(Plan(20.0, 1, 1), FIXED, MIX, arrivals, np.random.default_rng(0))
    assert outcome.times.tolist() == pytest.approx([10.0, 19.0, 10.0])


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, second = (simulate(Plan(70.0, 1, 1), FIXED, MIX, 2000, seed=3) for _ in range(2))
    assert np.array_equal(first.times, second.times)


@pytest.mark.parametrize("rps", [50.0, 5000.0, 1_000_000.0])
def test_the_smallest_plan_keeps_the_bound_and_one_replica_less_does_not(rps: float) -> None:
    answer = smallest(Need(rps, 40.0, "least-connections"), 1, FIXED, MIX, requests=10_000)
    assert answer.outcome.percentile(99) <= 40.0
    assert answer.utilization == pytest.approx(rps * 0.01 / answer.plan.replicas)
    assert answer.utilization < 1
    fewer = answer.plan.replicas - 1
    if fewer:
        plan = Plan(rps, fewer, 1)
        too_full = utilization(plan, FIXED, MIX) > 0.98
        assert too_full or simulate(plan, FIXED, MIX, 10_000).percentile(99) > 40.0


def test_the_price_is_that_of_all_cores() -> None:
    answer = smallest(Need(1000.0, 50.0, "least-connections"), 2, FIXED, MIX, requests=5000)
    assert answer.price_per_hour(0.04) == pytest.approx(answer.plan.replicas * 2 * 0.04)
    assert math.isfinite(answer.price_per_hour(0.04))


def test_a_bound_below_a_lone_request_is_told() -> None:
    with pytest.raises(
        CapacityError, match=r"keeps p99 within 5 ms: without any waiting it is 1\d\.\d ms, and /qa 128"
    ):
        smallest(Need(100.0, 5.0, "least-connections"), 1, FIXED, MIX, requests=2000)
