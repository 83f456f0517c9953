import pytest

from service.engine.costs import CostModel, fit
from service.engine.policy import LONG_MS


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


def test_windows_beyond_the_usual_cost_more_than_a_line_says() -> None:
    costs = CostModel(fixed_ms=1.0, ms_per_token=0.01)
    assert costs.window_ms(384) == pytest.approx(4.84)
    assert costs.window_ms(8192) > 4 * (1.0 + 0.01 * 8192)
    costs.learn(8192, costs.window_ms(8192))
    assert costs.pace == pytest.approx(1.0)


def test_no_window_of_thousands_of_tokens_is_short_enough_for_the_event_loop() -> None:
    fastest = CostModel(fixed_ms=0.05, ms_per_token=0.002)  # a third of the fastest default model's
    assert fastest.window_ms(384) < LONG_MS <= fastest.window_ms(2560)
