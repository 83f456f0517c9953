from dataclasses import dataclass, field
from time import sleep

import numpy as np
import pytest

from models.tasks.base import Features, Outputs
from service.startup import tuning


@dataclass
class Sleepy:
    """A session whose runs take so many seconds for each token: narrow, and wide."""

    narrow: float = 0.0
    wide: float = 0.0
    difference: float = 0.0  # of the outputs of wide runs
    runs: list[int] = field(default_factory=list)

    def run(self, window: Features, cancellation: object = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
        self.runs.append(len(window))
        sleep(len(window) * (self.wide if wide else self.narrow))
        return (np.full(len(window), self.difference if wide else 0.0, np.float32),)


def test_costs_are_a_line_through_what_runs_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "milliseconds", lambda _session, tokens, **_how: 1.0 + 0.5 * tokens)
    costs = tuning.measure_costs(Sleepy())
    assert (costs.fixed_ms, costs.ms_per_token) == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [(384, (16, 64, 128)), (128, (16, 64, 128)), (64, (8, 32, 64)), (16, (2, 8, 16)), (8, (1, 4, 8)), (3, (1, 1, 3))],
)
def test_a_model_is_measured_within_its_own_limit(max_length: int, lengths: tuple[int, ...]) -> None:
    session = Sleepy()
    assert tuning.lengths_of(max_length) == lengths
    tuning.measure_costs(session, lengths)
    assert tuning.same_outputs(session, lengths)
    assert set(session.runs) == set(lengths)


@pytest.mark.parametrize(
    ("spent", "cores", "most"),
    [
        ({2: 4.5, 4: 3.0, 8: 2.9}, 8, 4),  # the last doubling is not worth it
        ({2: 4.5, 3: 3.0}, 3, 3),
        ({}, 2, 2),  # whether two pay is learned from runs
        ({}, 1, 1),
    ],
)
def test_threads_are_doubled_for_as_long_as_that_pays(
    monkeypatch: pytest.MonkeyPatch, spent: dict[int, float], cores: int, most: int
) -> None:
    monkeypatch.setattr(tuning, "milliseconds", lambda session, _tokens, **_how: spent[session.threads])

    @dataclass
    class Of(Sleepy):
        threads: int = 1

    assert tuning.most_threads(lambda threads: Of(threads=threads), cores) == most


def test_the_share_of_a_wide_run_is_that_of_its_time_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "milliseconds", lambda _session, _tokens, *, wide: 4.0 if wide else 8.0)
    assert tuning.wide_share(Sleepy(), Sleepy(), of_wide=False) == 0.5


def test_a_large_model_is_measured_by_a_few_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SECONDS", 0.0)
    session = Sleepy()
    assert tuning.milliseconds(session, 16, wide=False) >= 0
    assert session.runs == [16, 16]


def test_outputs_that_the_threads_change_are_noticed() -> None:
    assert tuning.same_outputs(Sleepy())
    assert not tuning.same_outputs(Sleepy(difference=1e-7))
