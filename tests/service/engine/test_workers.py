import asyncio
import threading
from functools import partial
from time import perf_counter_ns
from typing import Any

import pytest

from service.engine.errors import (
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    NotReadyError,
    QueueFullError,
)
from service.engine.job import Answer, Job, Runner, Unit
from service.engine.policy import LONG_MS, SHORT_MS
from service.engine.queue import Queue
from service.engine.workers import Workers
from tests.service.engine.jobs import WAIT_S, Calls, Chain, Machine, machine_of, until

pytestmark = pytest.mark.anyio


def fail_with(error: type[BaseException]) -> None:
    raise error


async def test_a_job_runs_off_the_event_loop_s_thread() -> None:
    with machine_of(1) as machine:
        assert await machine.do(Calls(threading.get_ident)) != threading.get_ident()


@pytest.mark.parametrize("error", [RuntimeError, StopIteration, SystemExit, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("inline", [False, True])
async def test_a_job_that_raises_fails_alone(error: type[BaseException], *, inline: bool) -> None:
    with machine_of(1) as machine:
        failing_job, good_job = Calls(partial(fail_with, error)), Calls(lambda: 42)
        failing = asyncio.ensure_future(machine.do(failing_job, inline=inline))
        assert await machine.do(good_job) == 42
        with pytest.raises(InferenceFailedError) as caught:
            await failing
        assert isinstance(caught.value.__cause__, error)


async def test_an_error_for_the_client_passes_as_it_is() -> None:
    def refuse() -> None:
        raise InputTooLongError("shorten it")

    with machine_of(1) as machine, pytest.raises(InputTooLongError, match="shorten it"):
        await machine.do(Calls(refuse))


async def test_units_of_one_job_run_on_several_workers_at_once() -> None:
    together = threading.Barrier(2)
    with machine_of(2) as machine:
        last = await machine.do(Calls(together.wait, together.wait))  # neither gets past it alone
        assert last in {0, 1}  # its place in the barrier


async def test_a_unit_that_follows_alone_stays_on_its_worker() -> None:
    with machine_of(4) as machine:
        assert len(set(await machine.do(Chain(20, threading.get_ident)))) == 1


async def test_a_unit_that_follows_alone_goes_before_what_waits() -> None:
    order = list[str]()
    with machine_of(1) as machine:
        waiting = Calls(lambda: order.append("waiting"))

        def note() -> int:
            if not order:
                machine.submit(waiting)  # shorter than what follows, so due before it
            order.append("chain")
            return 0

        await machine.do(Chain(2, note, cost_ms=1_000.0))
        await asyncio.wait_for(waiting.future, WAIT_S)
    assert order == ["chain", "chain", "waiting"]


async def test_a_worker_is_alone_until_something_else_waits_or_runs() -> None:
    gate, alone = threading.Event(), list[bool]()

    class Asks(Job[None]):
        def first_units(self) -> list[Unit]:
            return [Unit(self, 1.0, self._ask)]

        def _ask(self, runner: Runner) -> Answer[None]:
            alone.append(runner.is_alone())
            return Answer(None)

    with machine_of(2) as machine:
        await machine.do(Asks("qa", 1.0))
        other = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S))))
        await asyncio.sleep(0)
        await until(lambda: any(slot.since for slot in machine.slots))
        await machine.do(Asks("qa", 1.0))
        gate.set()
        await other
        await machine.do(Asks("qa", 1.0))
    assert alone == [True, False, True]


async def test_what_does_not_fit_the_queue_is_refused_with_a_time_to_retry() -> None:
    gate, drops = threading.Event(), list[tuple[str, str]]()
    with machine_of(1, max_queue_ms=1000.0, count_drop=lambda *drop: drops.append(drop)) as machine:
        held = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S), cost_ms=5000.0)))
        await asyncio.sleep(0)
        assert machine.queue.queue_ms == 5000.0
        with pytest.raises(QueueFullError) as caught:
            await machine.do(Chain(5000, lambda: 42))
        assert caught.value.retry_after_s == 4.0
        # A short one is due before the long one's end.
        short = asyncio.ensure_future(machine.do(Calls(lambda: 42, cost_ms=10.0)))
        gate.set()
        assert await short == 42
        await held
        assert (machine.queue.queue_ms, len(machine.queue.jobs)) == (0.0, 0)
    assert drops == [("qa", "queue_full")]


async def test_however_long_an_idle_queue_takes_a_job() -> None:
    with machine_of(1, max_queue_ms=1.0) as machine:
        assert await machine.do(Calls(lambda: 42, cost_ms=5000.0)) == 42


async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    gate, drops = threading.Event(), list[tuple[str, str]]()
    with machine_of(1, count_drop=lambda *drop: drops.append(drop)) as machine:
        held = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S), cost_ms=5000.0)))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError):
            await machine.do(Calls(lambda: 42, cost_ms=500.0, deadline=perf_counter_ns() + 10**8))
        gate.set()
        await held
    assert drops == [("qa", "deadline")]


async def test_work_whose_deadline_passed_in_the_queue_is_not_begun() -> None:
    begun, gate, drops = list[int](), threading.Event(), list[tuple[str, str]]()
    with machine_of(1, count_drop=lambda *drop: drops.append(drop)) as machine:
        held = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S), cost_ms=0.1)))
        await asyncio.sleep(0)
        late = Calls(partial(begun.append, 1), cost_ms=0.1, deadline=perf_counter_ns() + 10**9)
        waiting = asyncio.ensure_future(machine.do(late))
        await asyncio.sleep(0)
        late.deadline = perf_counter_ns() - 1
        gate.set()
        with pytest.raises(DeadlineExceededError):
            await waiting
        await held
    assert not begun
    assert drops == [("qa", "deadline")]


async def test_what_was_dropped_is_not_begun_and_leaves_the_queue() -> None:
    begun, gate = list[int](), threading.Event()
    with machine_of(1) as machine:
        held = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S))))
        await asyncio.sleep(0)
        job = Calls(*[partial(begun.append, 1)] * 10)
        machine.submit(job)
        assert machine.queue.drop(job, InputTooLongError("gone"))
        assert machine.queue.queue_ms == 1.0
        job.settle()
        with pytest.raises(InputTooLongError):
            await job.future
        gate.set()
        await held
    assert not begun


def test_a_caller_who_left_does_no_harm() -> None:
    with machine_of(1) as machine:
        gate = threading.Event()

        async def leave() -> None:
            caller = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S))))
            await asyncio.sleep(0)
            caller.cancel()

        async def leave_and_stay() -> Any:
            await leave()
            gate.set()
            return await machine.do(Calls(lambda: 42))

        assert asyncio.run(leave_and_stay()) == 42
        gate.clear()
        asyncio.run(leave())  # now the loop is closed before the job ends
        gate.set()
        assert asyncio.run(do_later(machine)) == 42


async def do_later(machine: Machine) -> Any:
    return await machine.do(Calls(lambda: 42))


async def test_closing_finishes_what_is_queued() -> None:
    with machine_of(2) as machine:
        jobs = [asyncio.ensure_future(machine.do(Calls(partial(int, index)))) for index in range(5)]
        chain = asyncio.ensure_future(machine.do(Chain(5, lambda: 7)))
        await asyncio.sleep(0)
    assert [*await asyncio.gather(*jobs), *await chain] == [0, 1, 2, 3, 4, 7, 7, 7, 7, 7]


async def test_a_closed_queue_refuses_a_job() -> None:
    with machine_of(1) as machine:
        pass
    with pytest.raises(NotReadyError):
        await machine.do(Calls(lambda: 42))


def test_closed_workers_end() -> None:
    queue = Queue(2)
    workers = Workers(queue)
    threads = [worker.thread for worker in workers._workers]
    queue.close()
    workers.close()
    assert not any(thread.is_alive() for thread in threads)
    assert all(thread.daemon for thread in threads)  # a process does not wait for one that hangs


async def test_a_short_job_is_not_held_up_by_long_units_that_are_under_way() -> None:
    gate = threading.Event()
    with machine_of(2) as machine:
        held = [asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S), cost_ms=LONG_MS))) for _ in range(2)]
        await until(lambda: len(machine.queue.running) == 2)
        assert await machine.do(Calls(lambda: 42, cost_ms=SHORT_MS)) == 42
        longer = asyncio.ensure_future(machine.do(Calls(lambda: 43, cost_ms=2 * SHORT_MS)))
        assert await machine.do(Calls(lambda: 42, cost_ms=SHORT_MS)) == 42
        assert not longer.done()  # it is not short enough to pass
        gate.set()
        await asyncio.gather(*held, longer)
