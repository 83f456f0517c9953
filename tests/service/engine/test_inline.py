"""Short jobs on the event loop's own thread."""

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from time import sleep
from typing import NoReturn

import pytest
import uvloop

from service.engine.costs import LONG_MS
from service.engine.pool import Pool
from service.errors import InferenceFailedError, NotReadyError
from tests.service.engine.jobs import Calls, Chain, do
from tests.service.engine.test_pool import WAIT_S, pool_of, run, until


def test_a_job_runs_on_the_event_loop_s_thread_and_is_over_at_once() -> None:
    async def scenario() -> None:
        with pool_of(2) as pool:
            job = Calls(threading.get_ident)
            pool.submit(job, inline=True)
            assert (job.over, pool.in_flight, pool.queue_ms) == (True, 0, 0.0)
            assert await job == threading.get_ident()

    run(scenario())


def test_what_turns_out_to_be_long_goes_on_on_a_worker() -> None:
    async def scenario() -> None:
        with pool_of(1) as pool:
            first, second = await do(pool, Chain(2, threading.get_ident, LONG_MS), inline=True)
            assert first == threading.get_ident() != second
            first, second = await do(pool, Chain(2, threading.get_ident, LONG_MS / 2), inline=True)
            assert first == threading.get_ident() == second

    run(scenario())


def test_a_job_that_is_dropped_during_its_run_leaves_nothing_in_the_queue() -> None:
    async def scenario() -> None:
        with pool_of(1) as pool:
            job: Chain

            def leave() -> int:
                pool.drop(job, InferenceFailedError("given up"))
                return 0

            for inline in (False, True):
                job = Chain(3, leave, 20.0)
                with pytest.raises(InferenceFailedError):
                    await do(pool, job, inline=inline)
                await until(lambda: pool.is_alone(pool._inline))
                assert (pool.in_flight, pool.queue_ms) == (0, 0.0)

    run(scenario())


def test_a_closed_pool_runs_nothing_inline() -> None:
    begun: list[int] = []
    pool = Pool(1)
    pool.close()

    async def scenario() -> None:
        with pytest.raises(NotReadyError):
            await do(pool, Calls(lambda: begun.append(1)), inline=True)

    run(scenario())
    assert not begun


def test_a_pool_stays_idle_for_one_who_comes_alone() -> None:
    async def scenario() -> None:
        with pool_of(2) as pool:
            assert await pool.stays_idle()
            await do(pool, Calls(lambda: 42))
            await until(lambda: pool.is_alone(pool._inline))
            assert await pool.stays_idle()

    run(scenario())


@pytest.mark.parametrize(
    ("moment", "inline"),
    [
        ("with it", {"first": False, "second": False}),
        ("in its first step", {"first": False, "second": False}),  # so it is in the kernel, and yet to be read
        ("during its run", {"first": True, "second": False}),  # it had to wait, so there are several callers
    ],
)
def test_a_request_is_done_inline_unless_another_comes(moment: str, inline: dict[str, bool]) -> None:
    done: dict[str, bool] = {}
    decided = threading.Event()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ends = {name: socket.socketpair() for name in ("first", "second")}
        tasks: list[asyncio.Task[None]] = []

        def send(name: str) -> None:
            ends[name][0].sendall(b"a request")

        async def come(pool: Pool, name: str) -> None:
            if (name, moment) == ("first", "in its first step"):
                send("second")
            done[name] = await pool.stays_idle()

            def work() -> None:
                if (name, moment) == ("first", "during its run"):
                    send("second")
                elif not done[name]:
                    decided.wait(WAIT_S)  # so that it is under way when the others look

            await do(pool, Calls(work), inline=done[name])

        class Reader(asyncio.Protocol):
            """As uvicorn's: each request becomes a task."""

            def __init__(self, pool: Pool, name: str) -> None:
                self.pool, self.name = pool, name

            def data_received(self, _: bytes) -> None:
                tasks.append(loop.create_task(come(self.pool, self.name)))

        with pool_of(2) as pool:
            for name, (_, theirs) in ends.items():
                await loop.create_connection(partial(Reader, pool, name), sock=theirs)
            send("first")
            if moment == "with it":
                send("second")
            await until(lambda: len(done) == 2)
            decided.set()
            await asyncio.gather(*tasks)
            await until(lambda: pool.is_alone(pool._inline))
            assert await pool.stays_idle()
        for ours, _ in ends.values():
            ours.close()

    uvloop.run(asyncio.wait_for(scenario(), WAIT_S))  # as the service runs: loops differ in when they read
    assert done == inline


def test_a_pool_is_not_idle_while_a_unit_runs_or_waits() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            await until(lambda: not pool.is_alone(pool._inline))
            assert not await pool.stays_idle()
            await until(lambda: any(worker.unit for worker in pool._workers))
            pool.drop(next(iter(pool._admission.jobs)), InferenceFailedError("given up"))
            with pytest.raises(InferenceFailedError):
                await held
            assert not await pool.stays_idle()  # nobody waits for it, but it has a core
            gate.set()

    run(scenario())


def test_an_inline_run_that_hangs_is_ended_from_another_thread() -> None:
    async def scenario() -> None:
        with pool_of(1, max_run_ms=50) as pool:

            def watch() -> None:
                while not pool._inline.takes_over(50):
                    sleep(0.001)
                pool.check_runs()

            def hang() -> None:
                while not pool._inline.options.terminate:  # as onnxruntime looks at it between two operators
                    sleep(0.001)
                raise RuntimeError("terminated")

            thread = threading.Thread(target=watch, daemon=True)
            thread.start()
            with pytest.raises(InferenceFailedError):
                await do(pool, Calls(hang), inline=True)
            thread.join()
            assert not pool._inline.options.terminate
            assert await do(pool, Calls(lambda: 42), inline=True) == 42

    run(scenario())


def test_an_inline_run_that_cannot_be_ended_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exited, gate = list[int](), threading.Event()

    def leave(status: int) -> NoReturn:
        exited.append(status)
        gate.set()
        sys.exit()  # of the thread

    monkeypatch.setattr("os._exit", leave)

    async def scenario() -> None:
        with pool_of(1, max_run_ms=10) as pool:
            done = threading.Event()

            def watch() -> None:
                with suppress(SystemExit):
                    while not done.wait(0.01):
                        pool.check_runs()

            thread = threading.Thread(target=watch, daemon=True)
            thread.start()
            with pytest.raises(InferenceFailedError):
                await do(pool, Calls(lambda: gate.wait(WAIT_S)), inline=True)
            done.set()
            thread.join()

    run(scenario())
    assert exited == [1]
    assert "start it again" in caplog.text
