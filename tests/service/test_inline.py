"""Short jobs on the event loop's own thread."""

import asyncio
import sys
import threading
from contextlib import suppress
from time import sleep
from typing import NoReturn

import pytest

from service.errors import InferenceFailedError, NotReadyError
from service.pool import LONG_MS, Pool
from tests.service.jobs import Calls, Chain, do
from tests.service.test_pool import WAIT_S, pool_of, run, until


async def come(pool: Pool) -> bool:
    """As a short request does. Returns: whether it was done inline."""
    return bool(await do(pool, Calls(threading.get_ident), inline=await pool.stays_idle()) == threading.get_ident())


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


def test_several_who_come_at_once_are_not_done_inline() -> None:
    async def scenario() -> None:
        with pool_of(2) as pool:
            assert await asyncio.gather(*[come(pool) for _ in range(3)]) == [False, False, False]

    run(scenario())


def test_one_who_is_followed_by_another_that_the_loop_has_yet_to_read_is_not_done_inline() -> None:
    async def scenario() -> list[bool]:
        with pool_of(2) as pool:
            tasks: list[asyncio.Task[bool]] = []

            made: list[asyncio.BaseTransport] = []

            class Reader(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    made.append(transport)

                def data_received(self, data: bytes) -> None:  # as uvicorn does
                    tasks.extend(asyncio.ensure_future(come(pool)) for _ in data)

            server = await asyncio.get_running_loop().create_server(Reader, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            clients = [await asyncio.open_connection(*address) for _ in range(2)]
            await until(lambda: len(made) == 2)
            for _, writer in clients:
                writer.write(b".")  # both are in the loop's sockets before it reads either
            sleep(0.05)
            await until(lambda: len(tasks) == 2)
            for _, writer in clients:
                writer.close()
            server.close()
            return await asyncio.gather(*tasks)

    assert run(scenario()) == [False, False]


def test_a_pool_is_not_idle_while_a_unit_runs_or_waits() -> None:
    gate = threading.Event()

    async def scenario() -> None:
        with pool_of(1) as pool:
            held = asyncio.ensure_future(do(pool, Calls(lambda: gate.wait(WAIT_S))))
            await until(lambda: not pool.is_alone(pool._inline))
            assert not await pool.stays_idle()
            await until(lambda: any(worker.unit for worker in pool._workers))
            pool.drop(next(iter(pool._jobs)), InferenceFailedError("given up"))
            with pytest.raises(InferenceFailedError):
                await held
            assert not await pool.stays_idle()  # nobody waits for it, but it has a core
            gate.set()

    run(scenario())


def test_who_had_to_wait_for_an_inline_run_is_not_taken_for_the_only_caller() -> None:
    async def scenario() -> None:
        with pool_of(2) as pool:
            waited = asyncio.ensure_future(pool.stays_idle())
            await do(pool, Calls(lambda: 42), inline=True)
            assert not await waited
            await asyncio.sleep(0)
            assert await pool.stays_idle()

    run(scenario())


def test_an_inline_run_that_hangs_is_ended_from_another_thread() -> None:
    async def scenario() -> None:
        with pool_of(1, max_run_ms=50) as pool:
            ended = threading.Event()

            def watch() -> None:
                while not ended.wait(0.01):
                    pool.check_runs()

            def hang() -> None:
                while not pool._inline.options.terminate:  # as onnxruntime looks at it between two operators
                    sleep(0.001)
                raise RuntimeError("terminated")

            thread = threading.Thread(target=watch)
            thread.start()
            with pytest.raises(InferenceFailedError):
                await do(pool, Calls(hang), inline=True)
            ended.set()
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

            thread = threading.Thread(target=watch)
            thread.start()
            with pytest.raises(InferenceFailedError):
                await do(pool, Calls(lambda: gate.wait(WAIT_S)), inline=True)
            done.set()
            thread.join()

    run(scenario())
    assert exited == [1]
    assert "start it again" in caplog.text
