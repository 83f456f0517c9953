"""The work of one request, unit by unit, on no thread but the test's own."""

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from models.tasks.session import Cancellation
from service.engine.costs import CostModel, LoneRuns
from service.engine.errors import DeadlineExceededError, InferenceFailedError
from service.engine.job import Answer, Unit
from service.engine.model import Model
from service.engine.policy import LONE_WEIGHT, PACE_WEIGHT
from service.engine.request import Outcome, TaskJob
from tests.service.conftest import FakeSession, zeros

pytestmark = pytest.mark.anyio

ITEM = QAInput("where?", "in Paris.")


@dataclass
class Hand:
    """Where a unit runs that the test itself calls."""

    alone: bool = False
    is_inline: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation)

    def is_alone(self) -> bool:
        return self.alone


@pytest.fixture
def model(bundles: Path) -> Model:
    bundle = load_bundle(bundles / "qa")
    costs = CostModel(fixed_ms=1.0, ms_per_token=0.0)
    lone = LoneRuns(2, learns=True, wide_share=1.0, costs=costs)
    return Model(bundle, qa_task(bundle), FakeSession(zeros), lone, costs)


def following(unit: Unit, *, alone: bool = False) -> list[Unit]:
    """The units that may follow, after a call."""
    result = unit.call(Hand(alone))
    assert not isinstance(result, Answer)
    return list(result)


def answer(unit: Unit, *, alone: bool = False) -> Outcome:
    """What the last unit gives."""
    result = unit.call(Hand(alone))
    assert isinstance(result, Answer)
    outcome: Outcome = result.value
    return outcome


async def test_what_the_deadline_leaves_out_has_none_in_its_place(model: Model) -> None:
    job = TaskJob(model, {"first": ITEM, "second": ITEM}, list, list)
    first, second = job.first_units()
    assert following(first) == []
    run, _ = following(second)
    following(run)
    job.fail(DeadlineExceededError())
    outcome = job.at_the_deadline()
    assert outcome is not None
    [there, left_out] = outcome.result
    assert (there.usage.windows, left_out) == (1, None)
    assert outcome.usage == there.usage
    assert job.is_partial


async def test_nothing_that_was_read_or_may_be_told_makes_no_answer_at_the_deadline(model: Model) -> None:
    for combine_some, runs in ((list, 0), (None, 1)):
        job = TaskJob(model, {"first": ITEM, "second": ITEM}, list, combine_some)
        first, second = job.first_units()
        following(first)
        for run in following(second)[:runs]:
            following(run)
        assert job.at_the_deadline() is None
        assert not job.is_partial


async def test_a_failure_at_the_deadline_is_one_of_the_model(model: Model) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a text of the library")

    job = TaskJob(model, {"first": ITEM, "second": ITEM}, list, fail)
    first, second = job.first_units()
    following(first)
    following(following(second)[0])
    with pytest.raises(InferenceFailedError):
        job.at_the_deadline()


async def test_what_is_not_encoded_at_half_of_the_time_is_left_out(model: Model) -> None:
    job = TaskJob(model, {"first": ITEM, "second": ITEM}, list, list)
    job.submitted, job.deadline = 0, 1
    first, late = job.first_units()
    following(first)  # one is read however late it is
    [run] = following(late)
    [decode] = following(run)
    [there, left_out] = answer(decode).result
    assert (there.usage.windows, left_out) == (1, None)
    assert job.is_partial


async def test_twice_the_text_costs_twice_as_much_to_encode(model: Model) -> None:
    items = {"short": QAInput("w", "a" * 399), "long": QAInput("w", "a" * 799)}
    short, long = TaskJob(model, items, list).first_units()
    assert long.cost_ms == pytest.approx(2 * short.cost_ms)
    [unit] = TaskJob(model, {"": ITEM}, None).first_units()
    assert unit.cost_ms == 1.0  # all that is done of it, its run included


@pytest.mark.parametrize("alone", [False, True])
async def test_what_a_run_took_is_learned_in_milliseconds(
    model: Model, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    clock = count(0, 1_500_000)
    monkeypatch.setattr("service.engine.request.perf_counter_ns", lambda: next(clock))
    [unit] = TaskJob(model, {"": ITEM}, None).first_units()
    answer(unit, alone=alone)
    paces = [lengths.narrow_pace for lengths in model.lone.ranges()]
    assert paces == ([pytest.approx(1 + LONE_WEIGHT * 0.5)] if alone else [])
    assert model.costs.pace == pytest.approx(1.0 if alone else 1 + PACE_WEIGHT * 0.5)
