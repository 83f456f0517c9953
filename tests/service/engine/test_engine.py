import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from service.engine.engine import Engine
from service.engine.model import Model
from service.engine.pool import Pool
from service.engine.request import Outcome
from service.errors import DeadlineExceededError, InferenceFailedError, InputTooLongError, ModelNotLoadedError
from service.telemetry.context import RequestContext
from service.telemetry.stages import Stages
from tests.service.conftest import FakeSession, zeros

ITEM = QAInput("where?", "in Paris.")
LONG = QAInput("where?", "a " * 60, doc_stride=0)  # four windows
TOO_LONG = QAInput("a " * 30, "in Paris.")
WAIT_S = 10

Act = Callable[[Features], Outputs]
EngineOf = Callable[..., Engine]


@pytest.fixture
def engine_of(bundles: Path) -> EngineOf:
    """An engine whose session does what the test gives it to do."""

    def build(act: Act, workers: int = 1, dropped: Callable[[str, str], None] = lambda _task, _reason: None) -> Engine:
        bundle = load_bundle(bundles / "qa")
        return Engine({"qa": Model(bundle, qa_task(bundle), FakeSession(act))}, Pool(workers, dropped=dropped))

    return build


def answer(engine: Engine, item: QAInput) -> Outcome:
    return asyncio.run(asyncio.wait_for(engine.answer("qa", item), WAIT_S))


def answer_all(engine: Engine, items: Mapping[str, QAInput], combine: Callable[[list[Outcome]], Any]) -> Outcome:
    return asyncio.run(asyncio.wait_for(engine.answer_all("qa", items, combine), WAIT_S))


def of_all(stages: Stages) -> int:
    return stages.queue + stages.tokenization + stages.inference_wall + stages.postprocess


@pytest.mark.parametrize("item", [ITEM, LONG])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_stages_of_an_input_make_up_its_total(engine_of: EngineOf, item: QAInput, workers: int) -> None:
    stages = answer(engine_of(zeros, workers), item).stages
    assert of_all(stages) == stages.total
    assert min(stages.queue, stages.tokenization, stages.inference_wall, stages.postprocess) > 0


def test_each_window_is_run_once_and_their_outputs_keep_their_order(engine_of: EngineOf) -> None:
    seen: list[int] = []

    def count(window: Features) -> Outputs:
        seen.append(len(window))
        return zeros(window)

    outcome = answer(engine_of(count, 3), LONG)
    assert len(seen) == outcome.usage.windows == 4
    assert sum(seen) == outcome.usage.tokens_used


def test_windows_of_one_input_run_at_the_same_time(engine_of: EngineOf) -> None:
    together = threading.Barrier(4)

    def meet(window: Features) -> Outputs:
        together.wait(WAIT_S)  # until all four are here
        return zeros(window)

    stages = answer(engine_of(meet, 4), LONG).stages
    assert stages.inference > stages.inference_wall


def test_several_cores_and_one_give_the_same_answer(engine_of: EngineOf) -> None:
    def by_position(window: Features) -> Outputs:
        return window.input_ids.astype("f4"), window.input_ids[::-1].astype("f4")

    item = QAInput("where?", "she lives in oslo or paris . " * 9, doc_stride=3, top_k=5)
    assert answer(engine_of(by_position, 1), item).result == answer(engine_of(by_position, 4), item).result


def test_a_run_takes_every_core_only_when_it_is_alone(bundles: Path) -> None:
    taken: list[bool] = []

    class Session:
        def run(self, window: Features, options: object = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
            taken.append(wide)
            return zeros(window)

    bundle = load_bundle(bundles / "qa")
    engine = Engine({"qa": Model(bundle, qa_task(bundle), Session())}, Pool(1))
    answer(engine, ITEM)
    assert taken == [True]
    taken.clear()
    answer(engine, LONG)
    assert taken == [False, False, False, True]  # the others were still waiting


def test_items_of_a_list_are_answered_in_order(engine_of: EngineOf) -> None:
    items = {f"{words} words": QAInput("where?", "in " * words) for words in (3, 1, 2)}
    outcomes = answer_all(engine_of(zeros, 2), items, list).result
    assert [each.usage.tokens_in for each in outcomes] == [8, 6, 7]
    assert all(of_all(each.stages) == each.stages.total for each in outcomes)


def test_what_a_list_took_includes_the_combining_of_its_results(engine_of: EngineOf) -> None:
    threads: list[str] = []

    def combine(outcomes: list[Outcome]) -> int:
        threads.append(threading.current_thread().name)
        return len(outcomes)

    outcome = answer_all(engine_of(zeros), {"first": ITEM, "second": LONG}, combine)
    assert outcome.result == 2
    assert (outcome.usage.windows, outcome.usage.tokens_in) == (5, 9 + 64)
    assert threads == ["worker"]
    assert of_all(outcome.stages) == outcome.stages.total


def test_time_behind_another_request_counts_as_queue(engine_of: EngineOf) -> None:
    gate = threading.Event()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
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

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))


def test_an_input_that_does_not_fit_is_told(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match="shorten the question"):
        answer(engine_of(zeros), TOO_LONG)


def test_an_item_that_does_not_fit_is_told_by_its_place(engine_of: EngineOf) -> None:
    with pytest.raises(InputTooLongError, match=r"^inputs\[1\]: .*shorten the question"):
        answer_all(engine_of(zeros), {"inputs[0]": ITEM, "inputs[1]": TOO_LONG}, list)


def test_a_combination_that_fails_fails_its_request(engine_of: EngineOf) -> None:
    def fail(_: list[Outcome]) -> None:
        raise RuntimeError("a text of the library")

    with pytest.raises(InferenceFailedError):
        answer_all(engine_of(zeros), {"first": ITEM}, fail)


def test_a_task_without_a_bundle_is_told(engine_of: EngineOf) -> None:
    with pytest.raises(ModelNotLoadedError, match="classify"):
        asyncio.run(engine_of(zeros).answer("classify", ITEM))


class Caller(RequestContext):
    """Leaves when it is told to."""

    def __init__(self, deadline: int | None = None) -> None:
        super().__init__(deadline=deadline)
        self.left = asyncio.Event()
        self.receive = self._receive

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


def test_the_windows_of_a_caller_who_left_are_not_run(engine_of: EngineOf) -> None:
    gate, ran, dropped = threading.Event(), list[int](), list[tuple[str, str]]()

    def block(window: Features) -> Outputs:
        ran.append(len(window))
        gate.wait(WAIT_S)
        return zeros(window)

    async def scenario() -> None:
        engine = engine_of(block, 1, lambda *what: dropped.append(what))
        caller = Caller()
        text = QAInput("where?", "a " * 900, doc_stride=0)
        waiting = asyncio.ensure_future(engine.answer("qa", text, caller))
        while not ran:
            await asyncio.sleep(0.001)
        caller.left.set()
        with pytest.raises(ClientDisconnect):
            await waiting
        assert engine.pool.in_flight == 0
        gate.set()
        await engine.answer("qa", ITEM)
        assert len(ran) == 2  # the one that was under way, and the one of the next request

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
    assert dropped == [("qa", "client_gone")]


def test_a_deadline_that_passes_during_a_run_is_told_at_once(engine_of: EngineOf) -> None:
    gate, dropped = threading.Event(), list[tuple[str, str]]()

    def block(window: Features) -> Outputs:
        gate.wait(WAIT_S)
        return zeros(window)

    async def scenario() -> None:
        engine = engine_of(block, 1, lambda *what: dropped.append(what))
        with pytest.raises(DeadlineExceededError):
            await engine.answer("qa", ITEM, Caller(deadline=perf_counter_ns() + 10**8))
        gate.set()  # the run itself was still going on
        assert (await engine.answer("qa", ITEM, Caller(deadline=perf_counter_ns() + 10**10))).usage.windows == 1

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
    assert dropped == [("qa", "deadline")]


def test_runs_that_hang_are_looked_for_until_the_engine_is_closed(
    engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.engine.CHECK_RUNS_S", 0.001)
    looked = threading.Event()
    engine = engine_of(zeros)
    monkeypatch.setattr(engine.pool, "check_runs", looked.set)
    watch = threading.Thread(target=engine.check_runs, daemon=True)
    watch.start()
    assert looked.wait(WAIT_S)
    engine.close()
    watch.join(WAIT_S)
    assert not watch.is_alive()


@pytest.mark.parametrize(
    ("item", "seconds", "threads", "inline"),
    [
        (ITEM, None, 2, True),
        (ITEM, None, 1, False),  # the run would leave a core for another
        (ITEM, 1000, 2, False),  # somebody has to look at the clock
        (LONG, None, 2, False),
        (QAInput("where?", "a" * 1200), None, 2, False),  # one window, but a long one
    ],
)
def test_a_short_request_that_is_alone_runs_on_the_event_loop_if_it_takes_every_core(
    bundles: Path, item: QAInput, seconds: int | None, threads: int, *, inline: bool
) -> None:
    seen: set[int] = set()

    def note(window: Features) -> Outputs:
        seen.add(threading.get_ident())
        return zeros(window)

    bundle = load_bundle(bundles / "qa")
    engine = Engine({"qa": Model(bundle, qa_task(bundle), FakeSession(note), threads)}, Pool(2))

    async def scenario() -> None:
        caller = Caller(None if seconds is None else perf_counter_ns() + seconds * 10**9)
        await engine.answer("qa", item, caller)

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
    assert (seen == {threading.get_ident()}) is inline


def test_the_queue_of_a_caller_who_left_while_his_text_was_read_is_empty(engine_of: EngineOf) -> None:
    engine = engine_of(zeros)
    encode, left = engine.models["qa"].task.encode, threading.Event()

    async def scenario() -> None:
        caller = Caller()

        def leave_meanwhile(item: QAInput) -> Any:
            encoding = encode(item)
            left.set()
            while engine.pool.in_flight:  # until the loop has noticed
                sleep(0.001)
            return encoding

        object.__setattr__(engine.models["qa"].task, "encode", leave_meanwhile)
        waiting = asyncio.ensure_future(engine.answer("qa", QAInput("where?", "a " * 900, doc_stride=0), caller))
        while not left.is_set():
            await asyncio.sleep(0.001)
        caller.left.set()
        with pytest.raises(ClientDisconnect):
            await waiting

    asyncio.run(asyncio.wait_for(scenario(), WAIT_S))
    engine.close()
    assert (engine.pool.in_flight, engine.pool.queue_ms) == (0, 0.0)
