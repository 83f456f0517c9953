"""The engine under all that requests do, drawn from a seed: short, long, late, given up, failing."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import perf_counter_ns, sleep

import numpy as np
import pytest

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.rerank import RerankInput
from models.tasks.rerank import build as rerank_task
from models.tasks.session import Cancellation
from service.engine.costs import CostModel, LoneRuns
from service.engine.engine import Engine
from service.engine.errors import CallerGoneError, DeadlineExceededError, InferenceFailedError, QueueFullError
from service.engine.model import Model
from service.engine.request import Outcome
from service.telemetry.context import Caller
from tests.service.engine.jobs import WAIT_S, until

pytestmark = pytest.mark.anyio

REQUESTS = 200
COSTS = CostModel(fixed_ms=3.0, ms_per_token=0.3)  # so that five words are short, and forty are long
TEXTS = ["in Oslo", "she lives in Oslo", "a " * 16, "a " * 40, "a " * 150]  # the last is read in windows


class Busy:
    """A session that counts its runs and those at the same time; a few of them fail."""

    def __init__(self, random: Random) -> None:
        self.runs = self.most = 0
        self._at_once, self._random, self._lock = 0, random, threading.Lock()

    def run(self, window: Features, _: Cancellation | None = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
        with self._lock:
            self.runs += 1
            self._at_once += 1
            self.most = max(self.most, self._at_once)
            fails = self._random.random() < 0.02
        sleep(len(window) * 2e-5)
        with self._lock:
            self._at_once -= 1
        if fails:
            raise RuntimeError("this run fails")
        return (np.zeros(1, np.float32),)


def count(outcomes: Sequence[Outcome | None]) -> int:
    return sum([outcome is not None for outcome in outcomes])


async def ask(engine: Engine, random: Random) -> str:
    """Send a request of any kind. Returns: how it ended."""
    texts = random.choices(TEXTS, k=random.choice([1, 1, 1, 2, 8]))
    items = {f"documents[{index}]": RerankInput("where?", text) for index, text in enumerate(texts)}
    deadline = perf_counter_ns() + int(random.uniform(1, 60) * 1e6) if random.random() < 0.4 else None
    stays_s = random.uniform(0, 0.02) if random.random() < 0.3 else 2 * WAIT_S
    combine_some = random.choice([None, count])

    async def gone() -> None:
        await asyncio.sleep(stays_s)

    try:
        caller = Caller(deadline, gone)
        outcome = await engine.answer_all(engine.model("rerank"), items, count, caller, combine_some)
    except (CallerGoneError, DeadlineExceededError, InferenceFailedError, QueueFullError) as error:
        return type(error).__name__
    assert outcome.result == len(texts) or (combine_some and deadline and 0 < outcome.result < len(texts))
    return "answered"


@pytest.mark.parametrize("cores", [1, 2, 3])
async def test_every_request_ends_and_leaves_nothing_behind(bundles: Path, cores: int) -> None:
    random, bundle = Random(cores), load_bundle(bundles / "rerank")
    session, lone = Busy(Random(cores)), LoneRuns(cores, learns=True, wide_share=0.5, costs=COSTS)
    model = Model(bundle, rerank_task(bundle), session, lone, COSTS)
    engine = Engine([model], cores=cores, threads=cores, max_queue_ms=2_000.0)
    tasks = []
    for _ in range(REQUESTS):
        tasks.append(asyncio.ensure_future(ask(engine, random)))
        if random.random() < 0.3:
            await asyncio.sleep(random.choice([0.0, 0.001, 0.005]))
        if random.random() < 0.05:
            random.choice(tasks).cancel()  # as a server does with its last requests
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)
    unexpected = [end for end in ends if not isinstance(end, str | asyncio.CancelledError)]
    assert not unexpected
    assert {"answered", "CallerGoneError", "DeadlineExceededError"} <= Counter(map(str, ends)).keys()
    assert session.runs > 0
    assert session.most <= cores + 1  # the spare worker's
    queue = engine.queue
    await until(lambda: not (queue.jobs or queue.heap or queue.running or queue.inline))
    assert queue.queue_ms == 0
    assert await asyncio.wait_for(ask_one(engine), WAIT_S) == 1
    engine.close()


async def ask_one(engine: Engine) -> int:
    """Ask the engine once more, until a run does not fail."""
    while True:
        try:
            outcome = await engine.answer_all(engine.model("rerank"), {"": RerankInput("where?", "in Oslo")}, count)
        except InferenceFailedError:
            continue
        result: int = outcome.result
        return result


async def test_requests_that_wait_when_the_engine_closes_are_answered(bundles: Path) -> None:
    bundle = load_bundle(bundles / "rerank")
    for cores in (1, 2, 3):
        model = Model(bundle, rerank_task(bundle), Busy(Random(1)), LoneRuns(cores), COSTS)
        engine = Engine([model], cores=cores, threads=cores)
        random = Random(cores)
        tasks = [asyncio.ensure_future(ask(engine, random)) for _ in range(30)]
        await asyncio.sleep(0)  # all are submitted
        engine.close()
        ends = await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)
        assert "answered" in ends
