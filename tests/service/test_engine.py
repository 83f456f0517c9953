import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.tasks.base import Features, Outputs
from models.tasks.build import qa_task
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAEncoding, QAInput, QAResult
from service.engine import Engine, Model, Outcome
from service.errors import InferenceFailedError, InputTooLongError, ModelNotLoadedError
from tests.service.conftest import FakeSession, zeros

ITEM = QAInput("where?", "in Paris.")
TOO_LONG = QAInput("a " * 30, "in Paris.")


@pytest.fixture
def engine_of(bundles: Path) -> Callable[[Callable[[Features], Outputs]], Engine]:
    """An engine whose session does what the test gives it to do."""

    def build(act: Callable[[Features], Outputs]) -> Engine:
        bundle = load_bundle(bundles / "qa")
        model: Model[QAInput, QAEncoding, QAResult] = Model(bundle, qa_task(bundle), FakeSession(act))
        return Engine({"qa": model}, threads=1)

    return build


EngineOf = Callable[[Callable[[Features], Outputs]], Engine]


def test_the_stages_of_an_input_make_up_its_total(engine_of: EngineOf) -> None:
    stages = asyncio.run(engine_of(zeros).answer("qa", ITEM)).stages
    assert stages.queue + stages.tokenization + stages.inference_wall + stages.postprocess == stages.total
    assert 0 < stages.inference <= stages.inference_wall


def test_each_window_is_run_once(engine_of: EngineOf) -> None:
    seen: list[int] = []

    def count(window: Features) -> Outputs:
        seen.append(len(window))
        return zeros(window)

    outcome = asyncio.run(engine_of(count).answer("qa", QAInput("where?", "a " * 60, doc_stride=0)))
    assert len(seen) == outcome.usage.windows == 4
    assert sum(seen) == outcome.usage.tokens_used


def test_items_of_a_list_are_answered_in_order(engine_of: EngineOf) -> None:
    items = {f"{words} words": QAInput("where?", "in " * words) for words in (3, 1, 2)}
    outcomes = asyncio.run(engine_of(zeros).answer_all("qa", items, list)).result
    assert [each.usage.tokens_in for each in outcomes] == [8, 6, 7]
    assert [each.stages.queue for each in outcomes] == sorted(each.stages.queue for each in outcomes)


def test_what_a_list_took_includes_the_combining_of_its_results(engine_of: EngineOf) -> None:
    threads: list[str] = []

    def combine(outcomes: list[Outcome[QAResult]]) -> int:
        threads.append(threading.current_thread().name)
        return len(outcomes)

    items = {"first": ITEM, "second": QAInput("where?", "a " * 60, doc_stride=0)}
    outcome = asyncio.run(engine_of(zeros).answer_all("qa", items, combine))
    assert outcome.result == 2
    assert (outcome.usage.windows, outcome.usage.tokens_in) == (5, 9 + 64)
    assert threads == ["worker"]
    stages = outcome.stages
    assert stages.queue + stages.tokenization + stages.inference_wall + stages.postprocess == stages.total


def test_time_behind_another_request_counts_as_queue(engine_of: EngineOf) -> None:
    gate = threading.Event()

    def block(window: Features) -> Outputs:
        gate.wait(10)
        return zeros(window)

    async def scenario() -> None:
        engine = engine_of(block)
        first, second = (asyncio.ensure_future(engine.answer("qa", ITEM)) for _ in range(2))
        await asyncio.sleep(0)
        gate.set()
        ahead, behind = await first, await second
        assert behind.stages.queue > ahead.stages.inference

    asyncio.run(scenario())


def test_a_failed_run_fails_its_own_request_alone(engine_of: EngineOf) -> None:
    runs = iter([RuntimeError("a text of the library"), None])

    def fail_once(window: Features) -> Outputs:
        if error := next(runs):
            raise error
        return zeros(window)

    async def scenario() -> None:
        engine = engine_of(fail_once)
        first, second = (asyncio.ensure_future(engine.answer("qa", ITEM)) for _ in range(2))
        with pytest.raises(InferenceFailedError) as caught:
            await first
        assert "library" not in caught.value.detail
        assert (await second).usage.windows == 1

    asyncio.run(asyncio.wait_for(scenario(), timeout=10))


def test_an_input_that_does_not_fit_is_told(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match="shorten the question"):
        asyncio.run(engine_of(zeros).answer("qa", TOO_LONG))


def test_an_item_that_does_not_fit_is_told_by_its_place(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match=r"^inputs\[1\]: .*shorten the question"):
        asyncio.run(engine_of(zeros).answer_all("qa", {"inputs[0]": ITEM, "inputs[1]": TOO_LONG}, list))


def test_a_combination_that_fails_fails_its_request(engine_of: EngineOf) -> None:
    def fail(_: list[Outcome[QAResult]]) -> None:
        raise RuntimeError("a text of the library")

    with pytest.raises(InferenceFailedError):
        asyncio.run(engine_of(zeros).answer_all("qa", {"first": ITEM}, fail))


def test_a_task_without_a_bundle_is_told(engine_of: EngineOf) -> None:
    with pytest.raises(ModelNotLoadedError, match="classify"):
        asyncio.run(engine_of(zeros).answer("classify", ITEM))
