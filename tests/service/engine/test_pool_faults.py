"""Runs that hang, and workers that die."""

import asyncio
import ctypes
import logging
import threading
from time import sleep

import pytest

from service.errors import InferenceFailedError, NotReadyError
from tests.service.engine.jobs import Calls, do
from tests.service.engine.test_pool import WAIT_S, pool_of, run, until


def test_a_run_that_hangs_is_ended_and_its_worker_goes_on() -> None:
    async def scenario() -> None:
        with pool_of(1, max_run_ms=50) as pool:
            worker = pool._workers[0]

            def hang() -> None:
                while not worker.options.terminate:  # as onnxruntime looks at it between two operators
                    sleep(0.001)
                raise RuntimeError("terminated")

            hung = asyncio.ensure_future(do(pool, Calls(hang)))
            await asyncio.sleep(0)
            await until(lambda: worker.takes_over(50))
            with pytest.raises(NotReadyError):
                pool.check_ready()
            pool.check_runs()
            with pytest.raises(InferenceFailedError):
                await hung
            assert await do(pool, Calls(lambda: 42)) == 42
            pool.check_ready()
            assert worker in pool._workers

    run(scenario())


def test_a_run_that_cannot_be_ended_loses_its_place_and_readiness_tells() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1, max_run_ms=50) as pool:
            worker = pool._workers[0]
            hung = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            await asyncio.sleep(0)
            await until(lambda: worker.takes_over(100))
            pool.check_runs()
            assert worker in pool._workers  # it may still end
            pool.check_runs()
            with pytest.raises(InferenceFailedError):
                await hung
            assert await do(pool, Calls(lambda: 42)) == 42
            with pytest.raises(NotReadyError):
                pool.check_ready()
            gate.set()
            await until(lambda: not worker.takes_over(50))
            pool.check_ready()
            worker.thread.join(WAIT_S)
            assert not worker.thread.is_alive()

    run(scenario())


def test_a_worker_that_is_killed_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with pool_of(1) as pool:
            worker = pool._workers[0]
            await do(pool, Calls(lambda: 42))
            ident = ctypes.c_ulong(worker.thread.ident or 0)
            assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit)) == 1
            # It is thrown in when the thread next runs Python, which is in the first of these or around it.
            await asyncio.gather(*[do(pool, Calls(lambda: 42)) for _ in range(3)], return_exceptions=True)
            assert await do(pool, Calls(lambda: 42)) == 42

    with caplog.at_level(logging.ERROR):
        run(scenario())
