import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any

import pytest

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from service.engine.costs import CostModel, LoneRuns
from service.engine.engine import Engine
from service.engine.errors import (
    CallerGoneError,
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    ModelNotLoadedError,
    NotReadyError,
)
from service.engine.model import Model
from service.engine.policy import LONG_MS
from service.engine.request import Outcome
from service.telemetry.context import Caller
from service.telemetry.stages import Stages
from tests.service.conftest import FakeSession, zeros
from tests.service.engine.jobs import WAIT_S, until

pytestmark = pytest.mark.anyio

ITEM = QAInput("where?", "in Paris.")
LONG = QAInput("where?", "a " * 60, doc_stride=0)  # four windows
TOO_LONG = QAInput("a " * 30, "in Paris.")

Act = Callable[[Features], Outputs]
EngineOf = Callable[..., Engine]


@pytest.fixture
def engine_of(bundles: Path) -> EngineOf:
    """An engine whose session does what the test gives it to do, on workers: a run counts as long."""

    def build(act: Act, cores: int = 1, count_drop: Callable[[str, str], None] | None = None) -> Engine:
        bundle = load_bundle(bundles / "qa")
        engine = Engine(
            [Model(bundle, qa_task(bundle), FakeSession(act), costs=CostModel(fixed_ms=LONG_MS))], cores=cores
        )
        if count_drop is not None:
            engine.queue.count_drop = count_drop
        return engine

    return build


async def answer(engine: Engine, item: QAInput, caller: Caller | None = None) -> Outcome:
    return await asyncio.wait_for(engine.answer(engine.model("qa"), item, caller), WAIT_S)


async def answer_all(engine: Engine, items: Mapping[str, QAInput], combine: Callable[[list[Outcome]], Any]) -> Outcome:
    return await asyncio.wait_for(engine.answer_all(engine.model("qa"), items, combine), WAIT_S)


def sum_of(stages: Stages) -> int:
    return stages.queue + stages.tokenization + stages.inference_wall + stages.postprocess


@pytest.mark.parametrize("item", [ITEM, LONG])
@pytest.mark.parametrize("cores", [1, 3])
async def test_the_stages_of_an_input_make_up_its_total(engine_of: EngineOf, item: QAInput, cores: int) -> None:
    stages = (await answer(engine_of(zeros, cores), item)).stages
    assert sum_of(stages) == stages.total
    assert stages.submitted < stages.encoded < stages.inferred < stages.submitted + stages.total
    assert min(stages.queue, stages.tokenization, stages.inference_wall, stages.postprocess) > 0


async def test_each_window_is_run_once_and_their_outputs_keep_their_order(engine_of: EngineOf) -> None:
    seen: list[int] = []

    def count(window: Features) -> Outputs:
        seen.append(len(window))
        return zeros(window)

    outcome = await answer(engine_of(count, 3), LONG)
    assert len(seen) == outcome.usage.windows == 4
    assert sum(seen) == outcome.usage.tokens_used


async def test_windows_of_one_input_run_at_the_same_time(engine_of: EngineOf) -> None:
    together = threading.Barrier(4)

    def meet(window: Features) -> Outputs:
        together.wait(WAIT_S)  # until all four are here
        return zeros(window)

    stages = (await answer(engine_of(meet, 4), LONG)).stages
    assert stages.inference > stages.inference_wall


async def test_several_cores_and_one_give_the_same_answer(engine_of: EngineOf) -> None:
    def by_position(window: Features) -> Outputs:
        return window.input_ids.astype("f4"), window.input_ids[::-1].astype("f4")

    item = QAInput("where?", "she lives in oslo or paris . " * 9, doc_stride=3, top_k=5)
    outcomes = [await answer(engine_of(by_position, cores), item) for cores in (1, 4)]
    assert outcomes[0].result == outcomes[1].result


async def test_a_run_takes_every_core_only_when_it_is_alone(bundles: Path) -> None:
    taken: list[bool] = []

    class Session:
        def run(self, window: Features, cancellation: object = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
            taken.append(wide)
            return zeros(window)

    bundle = load_bundle(bundles / "qa")
    engine = Engine([Model(bundle, qa_task(bundle), Session(), LoneRuns(2))])
    await answer(engine, ITEM)
    assert taken == [True]
    taken.clear()
    await answer(engine, LONG)
    assert taken == [False, False, False, True]  # the others were still waiting


async def test_items_of_a_list_are_answered_in_order(engine_of: EngineOf) -> None:
    items = {f"{words} words": QAInput("where?", "in " * words) for words in (3, 1, 2)}
    outcomes = (await answer_all(engine_of(zeros, 2), items, list)).result
    assert [outcome.usage.tokens_in for outcome in outcomes] == [8, 6, 7]
    assert all(sum_of(outcome.stages) == outcome.stages.total for outcome in outcomes)


async def test_what_a_list_took_includes_the_combining_of_its_results(engine_of: EngineOf) -> None:
    threads: list[str] = []

    def combine(outcomes: list[Outcome]) -> int:
        threads.append(threading.current_thread().name)
        return len(outcomes)

    outcome = await answer_all(engine_of(zeros), {"first": ITEM, "second": LONG}, combine)
    assert outcome.result == 2
    assert (outcome.usage.windows, outcome.usage.tokens_in) == (5, 9 + 64)
    assert threads == ["worker"]
    assert sum_of(outcome.stages) == outcome.stages.total


async def test_time_behind_another_request_counts_as_queue(engine_of: EngineOf) -> None:
    gate = threading.Event()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
        return zeros(window)

    engine = engine_of(block)
    first, second = (asyncio.ensure_future(answer(engine, ITEM)) for _ in range(2))
    await until(lambda: len(engine.queue.jobs) == 2)
    gate.set()
    ahead, behind = await first, await second
    assert behind.stages.queue > ahead.stages.inference


async def test_a_failed_run_fails_its_own_request_alone(engine_of: EngineOf) -> None:
    runs = iter([RuntimeError("a text of the library"), None])

    def fail_once(window: Features) -> Outputs:
        if error := next(runs):
            raise error
        return zeros(window)

    engine = engine_of(fail_once)
    first, second = (asyncio.ensure_future(answer(engine, ITEM)) for _ in range(2))
    with pytest.raises(InferenceFailedError) as caught:
        await first
    assert "library" not in caught.value.detail
    assert (await second).usage.windows == 1


async def test_an_input_that_does_not_fit_is_refused_with_the_reason(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match="shorten the question"):
        await answer(engine_of(zeros), TOO_LONG)


async def test_an_item_that_does_not_fit_is_named_by_its_place(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match=r"^inputs\[1\]: .*shorten the question"):
        await answer_all(engine_of(zeros), {"inputs[0]": ITEM, "inputs[1]": TOO_LONG}, list)


async def test_a_combination_that_fails_fails_its_request(engine_of: EngineOf) -> None:
    def fail(_: list[Outcome]) -> None:
        raise RuntimeError("a text of the library")

    with pytest.raises(InferenceFailedError):
        await answer_all(engine_of(zeros), {"first": ITEM}, fail)


async def test_a_task_without_a_bundle_is_named(engine_of: EngineOf) -> None:
    with pytest.raises(ModelNotLoadedError, match="classify"):
        engine_of(zeros).model("classify")


async def test_an_engine_that_is_closed_is_not_ready_and_takes_no_request(engine_of: EngineOf) -> None:
    engine = engine_of(zeros)
    engine.check_ready()
    engine.close()
    with pytest.raises(NotReadyError):
        engine.check_ready()
    with pytest.raises(NotReadyError):
        await answer(engine, ITEM)


async def never() -> None:
    await asyncio.Event().wait()


async def test_the_windows_of_a_caller_who_left_are_not_run(engine_of: EngineOf) -> None:
    gate, ran, drops = threading.Event(), list[int](), list[tuple[str, str]]()

    def block(window: Features) -> Outputs:
        ran.append(len(window))
        gate.wait(WAIT_S)
        return zeros(window)

    async def leave() -> None:
        await left.wait()

    left = asyncio.Event()
    engine = engine_of(block, 1, lambda *drop: drops.append(drop))
    text = QAInput("where?", "a " * 900, doc_stride=0)
    waiting = asyncio.ensure_future(answer(engine, text, Caller(gone=leave)))
    await until(lambda: ran)
    left.set()
    with pytest.raises(CallerGoneError):
        await waiting
    assert not engine.queue.jobs
    gate.set()
    await answer(engine, ITEM)
    assert len(ran) == 2  # the one that was under way, and the one of the next request
    assert drops == [("qa", "client_gone")]


async def test_a_deadline_that_passes_during_a_run_fails_the_request_at_once(engine_of: EngineOf) -> None:
    gate, drops = threading.Event(), list[tuple[str, str]]()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
        return zeros(window)

    engine = engine_of(block, 1, lambda *drop: drops.append(drop))
    with pytest.raises(DeadlineExceededError):
        await answer(engine, ITEM, Caller(perf_counter_ns() + 10**8, never))
    gate.set()  # the run itself was still going on
    assert (await answer(engine, ITEM, Caller(perf_counter_ns() + 10**10, never))).usage.windows == 1
    assert drops == [("qa", "deadline")]


async def test_a_deadline_is_kept_for_a_caller_who_cannot_be_watched(engine_of: EngineOf) -> None:
    gate = threading.Event()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
        return zeros(window)

    engine = engine_of(block)
    with pytest.raises(DeadlineExceededError):
        await answer(engine, ITEM, Caller(perf_counter_ns() + 10**8))
    gate.set()


async def test_a_run_hangs_once_it_takes_longer_than_the_engine_is_told(bundles: Path) -> None:
    gate = threading.Event()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
        return zeros(window)

    def hangs() -> bool:
        try:
            engine.check_ready()
        except NotReadyError:
            return True
        return False

    bundle = load_bundle(bundles / "qa")
    model = Model(bundle, qa_task(bundle), FakeSession(block), costs=CostModel(fixed_ms=LONG_MS))
    engine = Engine([model], max_run_ms=10)
    waiting = asyncio.ensure_future(answer(engine, ITEM))
    await until(hangs)
    gate.set()
    assert (await waiting).usage.windows == 1
    engine.check_ready()


def test_runs_that_hang_are_looked_for_until_the_engine_is_closed(
    engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine.CHECK_RUNS_S", 0.001)
    looked = [threading.Event(), threading.Event()]
    engine = engine_of(zeros)
    monkeypatch.setattr(engine.workers, "check_runs", looked[0].set)
    monkeypatch.setattr(engine._inline, "check_run", looked[1].set)
    watch = threading.Thread(target=engine.check_runs, daemon=True)
    watch.start()
    assert all(event.wait(WAIT_S) for event in looked)
    engine.close()
    watch.join(WAIT_S)
    assert not watch.is_alive()


@pytest.mark.parametrize(
    ("item", "seconds", "threads", "inline"),
    [
        (ITEM, None, 2, True),
        (ITEM, None, 1, False),  # the run would leave a core for another
        (ITEM, 1000, 2, True),  # the deadline is far away
        (LONG, None, 2, False),
        (QAInput("where?", "a" * 1200), None, 2, False),  # one window, but a long one
    ],
)
async def test_a_short_request_that_is_alone_runs_on_the_event_loop_if_it_takes_every_core(
    bundles: Path, item: QAInput, seconds: int | None, threads: int, *, inline: bool
) -> None:
    seen: set[int] = set()

    def note(window: Features) -> Outputs:
        seen.add(threading.get_ident())
        return zeros(window)

    bundle = load_bundle(bundles / "qa")
    engine = Engine([Model(bundle, qa_task(bundle), FakeSession(note), LoneRuns(threads))], cores=2)
    deadline = None if seconds is None else perf_counter_ns() + seconds * 10**9
    await answer(engine, item, Caller(deadline, never))
    assert (seen == {threading.get_ident()}) is inline


async def test_the_queue_of_a_caller_who_left_while_the_text_was_read_is_empty(engine_of: EngineOf) -> None:
    engine = engine_of(zeros)
    encode, reading, left = engine.model("qa").task.encode, threading.Event(), asyncio.Event()

    async def leave() -> None:
        await left.wait()

    def leave_meanwhile(item: QAInput) -> Any:
        encoding = encode(item)
        reading.set()
        while engine.queue.jobs:  # until the loop has noticed
            sleep(0.001)
        return encoding

    object.__setattr__(engine.model("qa").task, "encode", leave_meanwhile)
    waiting = asyncio.ensure_future(answer(engine, QAInput("where?", "a " * 900, doc_stride=0), Caller(gone=leave)))
    await until(reading.is_set)
    left.set()
    with pytest.raises(CallerGoneError):
        await waiting
    engine.close()
    assert (len(engine.queue.jobs), engine.queue.queue_ms) == (0, 0.0)
