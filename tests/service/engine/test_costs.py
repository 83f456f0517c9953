import pytest

from service.engine.costs import CostModel, fit


def test_a_line_through_its_points_is_found() -> None:
    costs = fit([16, 64, 128], [1.0, 2.5, 4.5])
    assert costs.window_ms(32) == pytest.approx(1.5)
    assert costs.window_ms(384) == pytest.approx(12.5)


def test_a_machine_that_is_no_slower_for_longer_texts_still_has_costs_above_zero() -> None:
    costs = fit([16, 64, 128], [3.0, 2.0, 1.0])
    assert 0 < costs.window_ms(1) < costs.window_ms(384)


def test_runs_that_take_twice_the_line_move_the_pace_there() -> None:
    costs = CostModel(fixed_ms=1.0, ms_per_token=0.1)
    for _ in range(200):
        costs.learn(10, 4.0)
    assert costs.window_ms(10) == pytest.approx(4.0, rel=1e-3)
