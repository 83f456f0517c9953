"""Runs that hang, and workers that die."""

import asyncio
import ctypes
import logging
import threading
from functools import partial

import pytest

from service.engine.errors import InferenceFailedError, NotReadyError
from tests.service.engine.jobs import WAIT_S, Calls, hang, machine_of, until

pytestmark = pytest.mark.anyio


async def test_a_run_that_hangs_is_ended_and_its_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), machine_of(1, max_run_ms=50) as machine:
        slot = machine.slots[0]

        hung = asyncio.ensure_future(machine.do(Calls(partial(hang, slot))))
        await asyncio.sleep(0)
        await until(lambda: slot.runs_longer_than(50))
        with pytest.raises(NotReadyError, match=r"^a run hangs; restart this replica if that persists$") as caught:
            machine.workers.check_ready()
        assert caught.value.retry_after_s == 1.0
        machine.workers.check_runs()
        with pytest.raises(InferenceFailedError):
            await hung
        assert await machine.do(Calls(lambda: 42)) == 42
        machine.workers.check_ready()
        assert slot in machine.slots
    assert [(record.getMessage(), vars(record)["data"]) for record in caplog.records] == [
        ("a run hangs and is ended", {"task": "qa"})
    ]


async def test_a_run_that_cannot_be_ended_loses_its_place_and_readiness_tells() -> None:
    gate = threading.Event()
    with machine_of(1, max_run_ms=50) as machine:
        worker = machine.workers._workers[0]
        hung = asyncio.ensure_future(machine.do(Calls(lambda: gate.wait(WAIT_S))))
        await asyncio.sleep(0)
        await until(lambda: worker.slot.runs_longer_than(100))
        machine.workers.check_runs()
        assert worker in machine.workers._workers  # it may still end
        machine.workers.check_runs()
        with pytest.raises(InferenceFailedError):
            await hung
        assert await machine.do(Calls(lambda: 42)) == 42
        with pytest.raises(NotReadyError):
            machine.workers.check_ready()
        gate.set()
        await until(lambda: not worker.slot.runs_longer_than(50))
        machine.workers.check_ready()
        worker.thread.join(WAIT_S)
        assert not worker.thread.is_alive()


async def test_a_worker_that_is_killed_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), machine_of(1) as machine:
        worker = machine.workers._workers[0]
        await machine.do(Calls(lambda: 42))
        ident = ctypes.c_ulong(worker.thread.ident or 0)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit)) == 1
        # It is thrown in when the thread next runs Python, which is in the first of these or around it.
        await asyncio.gather(*[machine.do(Calls(lambda: 42)) for _ in range(3)], return_exceptions=True)
        assert await machine.do(Calls(lambda: 42)) == 42
