import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from service.errors import InferenceFailedError, InputTooLongError, NotReadyError
from service.pool import Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.close()


def test_a_job_runs_off_the_event_loop_s_thread(pool: Pool) -> None:
    assert asyncio.run(pool.submit(threading.get_ident)) != threading.get_ident()


@pytest.mark.parametrize("error", [RuntimeError, StopIteration, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_job_that_raises_fails_alone(pool: Pool, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    async def scenario() -> None:
        failed, fine = await asyncio.gather(pool.submit(fail), pool.submit(lambda: 42), return_exceptions=True)
        assert isinstance(failed, InferenceFailedError)
        assert isinstance(failed.__cause__, error)
        assert fine == 42

    asyncio.run(asyncio.wait_for(scenario(), timeout=10))


def test_an_error_for_the_client_passes_as_it_is(pool: Pool) -> None:
    def refuse() -> None:
        raise InputTooLongError("shorten it")

    with pytest.raises(InputTooLongError, match="shorten it"):
        asyncio.run(pool.submit(refuse))


def test_jobs_run_in_the_order_in_which_they_came(pool: Pool) -> None:
    order: list[int] = []

    async def scenario() -> None:
        gate = threading.Event()
        first = asyncio.ensure_future(pool.submit(gate.wait))
        rest = [asyncio.ensure_future(pool.submit(partial(order.append, index))) for index in range(20)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *rest)

    asyncio.run(scenario())
    assert order == list(range(20))


def test_the_event_loop_stays_free_while_a_job_blocks(pool: Pool) -> None:
    async def scenario() -> bool:
        gate = threading.Event()
        blocked = asyncio.ensure_future(pool.submit(lambda: gate.wait(10)))
        await asyncio.sleep(0)
        gate.set()  # only a free loop gets here before the job ends
        return await blocked

    assert asyncio.run(scenario())


def test_a_waiter_who_left_does_no_harm(pool: Pool) -> None:
    gate = threading.Event()

    async def leave() -> None:
        waiter = asyncio.ensure_future(pool.submit(lambda: gate.wait(10)))
        await asyncio.sleep(0)
        waiter.cancel()

    async def leave_and_stay() -> int:
        await leave()
        gate.set()
        return await pool.submit(lambda: 42)

    assert asyncio.run(leave_and_stay()) == 42
    gate.clear()
    asyncio.run(leave())  # now the loop is closed before the job ends
    gate.set()
    assert asyncio.run(pool.submit(lambda: 42)) == 42


def test_closing_finishes_what_is_queued() -> None:
    pool = Pool()

    async def scenario() -> list[int]:
        jobs = [asyncio.ensure_future(pool.submit(partial(int, index))) for index in range(5)]
        await asyncio.sleep(0)
        pool.close()
        return list(await asyncio.gather(*jobs))

    assert asyncio.run(scenario()) == [0, 1, 2, 3, 4]


def test_a_closed_pool_refuses_with_a_time_to_retry() -> None:
    pool = Pool()
    pool.close()
    with pytest.raises(NotReadyError) as caught:
        asyncio.run(pool.submit(threading.get_ident))
    assert caught.value.headers == {"Retry-After": "1"}
