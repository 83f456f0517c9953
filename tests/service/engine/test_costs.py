import pytest

from service.engine.costs import CostModel, LoneRuns, fit
from service.engine.policy import LONE_TRIAL, LONG_MS

COSTS = CostModel(fixed_ms=0.0, ms_per_token=0.1)


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


def ask(lone: LoneRuns, count: int, spent_ms: dict[int, float], tokens: int = 100) -> list[int]:
    """Let so many lone runs take these milliseconds by their threads. Returns: the threads of each."""
    taken = []
    for _ in range(count):
        threads = lone.threads_for(tokens)
        taken.append(threads)
        lone.learn(tokens, threads, spent_ms[threads])
    return taken


def learner(wide_share: float, threads: int = 2) -> LoneRuns:
    return LoneRuns(threads, learns=True, wide_share=wide_share, costs=COSTS)


@pytest.mark.parametrize(("wide_share", "threads"), [(0.6, 4), (0.94, 4), (0.99, 1), (1.4, 1)])
def test_the_start_s_measurement_decides_until_runs_do(wide_share: float, threads: int) -> None:
    assert learner(wide_share, 4).threads_for(100) == threads


@pytest.mark.parametrize(
    ("wide_share", "spent_ms", "right"),
    [
        (1.6, {1: 10.0, 2: 6.0}, 2),  # the start was busy
        (0.6, {1: 10.0, 2: 14.0}, 1),
        (1.6, {1: 40.0, 2: 24.0}, 2),  # and all of the machine is slower than it was then
    ],
)
def test_a_wrong_start_is_corrected_within_some_hundred_runs(
    wide_share: float, spent_ms: dict[int, float], right: int
) -> None:
    lone = learner(wide_share)
    assert lone.threads_for(100) != right
    ask(lone, 300, spent_ms)
    [lengths] = lone.ranges()
    assert (lengths.threads, lengths.runs, lengths.up_to) == (right, 300, 127)
    assert lengths.changed is not None


def test_the_other_number_of_threads_is_tried_in_a_small_share_of_the_runs() -> None:
    taken = ask(learner(0.6), 10 * LONE_TRIAL, {1: 10.0, 2: 6.0})
    assert (taken.count(1), taken[: LONE_TRIAL - 1]) == (10, [2] * (LONE_TRIAL - 1))


def test_a_run_that_was_held_up_does_not_decide() -> None:
    lone = learner(0.6)
    ask(lone, 50, {1: 10.0, 2: 6.0})
    lone.learn(100, 2, 500.0)
    assert lone.threads_for(100) == 2
    assert lone.ranges()[0].changed is None


def test_short_and_long_runs_are_learned_apart() -> None:
    lone = learner(0.7)
    for _ in range(100):
        ask(lone, 1, {1: 1.0, 2: 1.5}, tokens=10)
        ask(lone, 1, {1: 30.0, 2: 18.0}, tokens=300)
    assert [(lengths.up_to, lengths.threads) for lengths in lone.ranges()] == [(15, 1), (511, 2)]


@pytest.mark.parametrize("lone", [LoneRuns(3), LoneRuns(1, learns=True, wide_share=0.1)])
def test_what_the_operator_set_or_one_core_allows_is_not_learned(lone: LoneRuns) -> None:
    assert set(ask(lone, 2 * LONE_TRIAL, {1: 1.0, 3: 90.0})) == {lone.threads}
    assert lone.ranges() == []
