"""The interval of a median."""

from random import Random

import pytest

from loadtest.grid.interval import half_width, median_interval


@pytest.mark.parametrize(
    ("count", "ends"),
    [(1, (1, 1)), (5, (1, 5)), (10, (1, 10)), (20, (5, 16)), (100, (40, 61))],
)
def test_its_ends_are_ordered_values(count: int, ends: tuple[int, int]) -> None:
    values = [float(value) for value in range(1, count + 1)]
    Random(0).shuffle(values)
    low, high = median_interval(values)
    assert (low, high) == pytest.approx(ends, abs=1)
    assert low + high == count + 1


def test_it_holds_the_median_nineteen_times_in_twenty() -> None:
    random, hits = Random(0), 0
    for _ in range(1000):
        low, high = median_interval([random.expovariate(1.0) for _ in range(50)])
        hits += low <= 0.6931 <= high
    assert 930 <= hits <= 985


def test_half_its_width_is_a_share_of_the_median() -> None:
    assert half_width([1.0, 2.0, 3.0], 2.0) == pytest.approx(0.5)
