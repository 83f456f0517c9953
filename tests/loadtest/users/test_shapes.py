"""Shapes of load: phases and arrivals."""

from typing import get_args

import pytest

from loadtest.users.shapes import SHAPES, Shape, arrivals, phase_at


@pytest.mark.parametrize("shape", get_args(Shape))
def test_phases_fill_the_run_and_reach_the_whole_load(shape: Shape) -> None:
    phases = SHAPES[shape]
    assert sum(phase.duration for phase in phases) == pytest.approx(1.0)
    assert max(phase.load for phase in phases) == 1.0
    assert phase_at(shape, 0.0) == phases[0]
    assert phase_at(shape, 1.5) == phases[-1]


def test_a_spike_is_in_the_middle() -> None:
    assert [phase_at("spike", share).load for share in (0.39, 0.41, 0.59, 0.61)] == [0.2, 1.0, 1.0, 0.2]


@pytest.mark.parametrize("shape", get_args(Shape))
def test_as_many_arrive_as_the_rate_and_the_shape_say(shape: Shape) -> None:
    dues = arrivals(shape, 100, 10)
    expected = sum(1000 * phase.duration * phase.load for phase in SHAPES[shape])
    assert len(dues) == pytest.approx(expected, abs=1)
    assert dues == sorted(dues)
    assert dues[-1] < 10


def test_arrivals_of_a_steady_load_are_evenly_spaced() -> None:
    assert arrivals("steady", 4, 1) == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert arrivals("steady", 0.5, 4) == pytest.approx([0.0, 2.0])


def test_processes_share_the_arrivals() -> None:
    parts = [arrivals("step", 30, 3, number, 3) for number in range(3)]
    assert sorted(due for part in parts for due in part) == arrivals("step", 30, 3)
    assert {len(part) for part in parts} == {18}
