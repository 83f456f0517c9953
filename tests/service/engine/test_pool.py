import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter_ns
from typing import Any

import pytest

from service.engine.costs import LONG_MS, SHORT_MS
from service.engine.job import Job, Unit
from service.engine.pool import Pool, Worker
from service.errors import (
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    NotReadyError,
    QueueFullError,
)
from tests.service.engine.jobs import Calls, Chain, do

WAIT_S = 10  # for what must happen, however slow the machine


@contextmanager
def pool_of(size: int, **options: Any) -> Iterator[Pool]:
    pool = Pool(size, **options)
    yield pool
    pool.close()


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, WAIT_S))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def fail_with(error: type[BaseException]) -> None:
    raise error


def test_a_job_runs_off_the_event_loop_s_thread() -> None:
    async def scenario() -> None:
        with pool_of(1) as pool:
            assert await do(pool, Calls(threading.get_ident)) != threading.get_ident()

    run(scenario())


@pytest.mark.parametrize("error", [RuntimeError, StopIteration, SystemExit, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("inline", [False, True])
def test_a_job_that_raises_fails_alone(error: type[BaseException], *, inline: bool) -> None:
    async def scenario() -> None:
        with pool_of(1) as pool:
            bad, good = Calls(partial(fail_with, error)), Calls(lambda: 42)
            failing = asyncio.ensure_future(do(pool, bad, inline=inline))
            assert await do(pool, good) == 42
            with pytest.raises(InferenceFailedError) as caught:
                await failing
            assert isinstance(caught.value.__cause__, error)

    run(scenario())


def test_an_error_for_the_client_passes_as_it_is() -> None:
    def refuse() -> None:
        raise InputTooLongError("shorten it")

    async def scenario() -> None:
        with pool_of(1) as pool, pytest.raises(InputTooLongError, match="shorten it"):
            await do(pool, Calls(refuse))

    run(scenario())


def test_units_of_one_job_run_on_several_workers_at_once() -> None:
    together = threading.Barrier(2)

    async def scenario() -> None:
        with pool_of(2) as pool:
            last = await do(pool, Calls(together.wait, together.wait))  # neither gets past it alone
            assert last in {0, 1}  # its place in the barrier

    run(scenario())


def test_a_unit_that_follows_alone_stays_on_its_worker() -> None:
    async def scenario() -> None:
        with pool_of(4) as pool:
            assert len(set(await do(pool, Chain(20, threading.get_ident)))) == 1

    run(scenario())


def test_short_work_passes_between_the_units_of_long_work() -> None:
    order: list[str] = []
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            holder = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            long = Calls(*[partial(order.append, "long")] * 40, cost_ms=10.0)
            late = asyncio.ensure_future(do(pool, long))
            await asyncio.sleep(0)
            short = asyncio.ensure_future(do(pool, Calls(partial(order.append, "short"), cost_ms=1.0)))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(holder, late, short)

    run(scenario())
    assert order.index("short") == 0


def test_jobs_of_like_cost_run_in_the_order_in_which_they_came() -> None:
    order: list[int] = []
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            first = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            rest = [asyncio.ensure_future(do(pool, Calls(partial(order.append, index)))) for index in range(20)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(first, *rest)

    run(scenario())
    assert order == list(range(20))


def test_long_work_is_not_put_off_for_ever() -> None:
    order: list[str] = []
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            holder = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            long = Calls(partial(order.append, "long"), cost_ms=2.0)
            long.submitted -= 3 * 10**9  # it came three seconds ago
            jobs = [asyncio.ensure_future(do(pool, long))]
            jobs += [asyncio.ensure_future(do(pool, Calls(partial(order.append, "short")))) for _ in range(5)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(holder, *jobs)

    run(scenario())
    assert order[0] == "long"


def test_a_worker_is_alone_until_something_else_waits_or_runs() -> None:
    gate, told = threading.Event(), list[bool]()

    class Asks(Job[None]):
        def first_units(self) -> list[Unit]:
            return [Unit(self, 1.0, self._ask)]

        def _ask(self, worker: Worker) -> list[Unit]:
            told.append(worker.alone())
            self.complete(None)
            return []

    async def scenario() -> None:
        with pool_of(2) as pool:
            await do(pool, Asks("qa", 1.0))
            other = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            await asyncio.sleep(0)
            await until(lambda: any(worker.since for worker in pool._workers))
            await do(pool, Asks("qa", 1.0))
            gate.set()
            await other
            await do(pool, Asks("qa", 1.0))

    run(scenario())
    assert told == [True, False, True]


def test_what_does_not_fit_the_queue_is_refused_with_a_time_to_retry() -> None:
    gate, dropped = threading.Event(), list[tuple[str, str]]()

    async def scenario() -> None:
        with pool_of(1, max_queue_ms=1000.0, dropped=lambda *what: dropped.append(what)) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S), cost_ms=5000.0)))
            await asyncio.sleep(0)
            assert pool.queue_ms == 5000.0
            with pytest.raises(QueueFullError) as caught:
                await do(pool, Chain(5000, lambda: 42))
            assert caught.value.headers == {"Retry-After": "4"}
            short = asyncio.ensure_future(do(pool, Calls(lambda: 42, cost_ms=10.0)))  # is due before the long one's end
            gate.set()
            assert await short == 42
            await held
            assert (pool.queue_ms, pool.in_flight) == (0.0, 0)

    run(scenario())
    assert dropped == [("qa", "queue_full")]


def test_however_long_an_idle_pool_takes_a_job() -> None:
    async def scenario() -> None:
        with pool_of(1, max_queue_ms=1.0) as pool:
            assert await do(pool, Calls(lambda: 42, cost_ms=5000.0)) == 42

    run(scenario())


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    gate, dropped = threading.Event(), list[tuple[str, str]]()

    async def scenario() -> None:
        with pool_of(1, dropped=lambda *what: dropped.append(what)) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S), cost_ms=5000.0)))
            await asyncio.sleep(0)
            with pytest.raises(DeadlineExceededError):
                await do(pool, Calls(lambda: 42, cost_ms=500.0, deadline=perf_counter_ns() + 10**8))
            gate.set()
            await held

    run(scenario())
    assert dropped == [("qa", "deadline")]


def test_work_whose_deadline_passed_in_the_queue_is_not_begun() -> None:
    begun: list[int] = []
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S), cost_ms=0.1)))
            await asyncio.sleep(0)
            late = Calls(partial(begun.append, 1), cost_ms=0.1, deadline=perf_counter_ns() + 10**9)
            waiting = asyncio.ensure_future(do(pool, late))
            await asyncio.sleep(0)
            late.deadline = perf_counter_ns() - 1
            gate.set()
            with pytest.raises(DeadlineExceededError):
                await waiting
            await held

    run(scenario())
    assert not begun


def test_what_was_dropped_is_not_begun_and_leaves_the_queue() -> None:
    begun: list[int] = []
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            job = Calls(*[partial(begun.append, 1)] * 10)
            waiting = asyncio.ensure_future(do(pool, job))
            await asyncio.sleep(0)
            pool.drop(job, InputTooLongError("gone"))
            assert pool.queue_ms == 1.0
            with pytest.raises(InputTooLongError):
                await waiting
            gate.set()
            await held

    run(scenario())
    assert not begun


def test_a_waiter_who_left_does_no_harm() -> None:
    with pool_of(1) as pool:
        gate = threading.Event()

        async def leave() -> None:
            waiter = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            await asyncio.sleep(0)
            waiter.cancel()

        async def leave_and_stay() -> Any:
            await leave()
            gate.set()
            return await do(pool, Calls(lambda: 42))

        assert run(leave_and_stay()) == 42
        gate.clear()
        asyncio.run(leave())  # now the loop is closed before the job ends
        gate.set()
        assert run(do_later(pool)) == 42


async def do_later(pool: Pool) -> Any:
    return await do(pool, Calls(lambda: 42))


def test_closing_finishes_what_is_queued() -> None:
    async def scenario() -> list[int]:
        pool = Pool(2)
        jobs = [asyncio.ensure_future(do(pool, Calls(partial(int, index)))) for index in range(5)]
        chain = asyncio.ensure_future(do(pool, Chain(5, lambda: 7)))
        await asyncio.sleep(0)
        pool.close()
        return [*await asyncio.gather(*jobs), *await chain]

    assert run(scenario()) == [0, 1, 2, 3, 4, 7, 7, 7, 7, 7]


def test_a_closed_pool_refuses_with_a_time_to_retry() -> None:
    pool = Pool(1)
    pool.close()

    async def scenario() -> None:
        with pytest.raises(NotReadyError) as caught:
            await do(pool, Calls(lambda: 42))
        assert caught.value.headers == {"Retry-After": "1"}

    run(scenario())


def test_a_short_job_is_not_held_up_by_long_units_that_are_under_way() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(2) as pool:
            held = [
                asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S), cost_ms=LONG_MS))) for _ in range(2)
            ]
            await until(lambda: all(worker.is_long for worker in pool._workers))
            assert await do(pool, Calls(lambda: 42, cost_ms=SHORT_MS)) == 42
            longer = asyncio.ensure_future(do(pool, Calls(lambda: 43, cost_ms=2 * SHORT_MS)))
            assert await do(pool, Calls(lambda: 42, cost_ms=SHORT_MS)) == 42
            assert not longer.done()  # it is not short enough to pass
            gate.set()
            await asyncio.gather(*held, longer)

    run(scenario())
