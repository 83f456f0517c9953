"""Short jobs on the event loop's own thread."""

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from time import perf_counter_ns, sleep
from typing import Any, NoReturn

import pytest

from service.engine.errors import DeadlineExceededError, InferenceFailedError, NotReadyError
from service.engine.policy import LONG_MS
from tests.service.engine.jobs import WAIT_S, Calls, Chain, Machine, hang, machine_of, until

pytestmark = pytest.mark.anyio


async def place(machine: Machine, **options: Any) -> str:
    """Where a short job is done that comes by itself. `options`: of the job."""
    await until(lambda: not (machine.queue.running or machine.queue.inline))
    thread = await machine.do(Calls(threading.get_ident, **options), inline=True)
    return "loop" if thread == threading.get_ident() else "worker"


async def places(machine: Machine, count: int, **options: Any) -> list[str]:
    """Where short jobs are done that come at the same time, sorted."""
    threads = await asyncio.gather(
        *[machine.do(Calls(threading.get_ident, **options), inline=True) for _ in range(count)]
    )
    return sorted("loop" if thread == threading.get_ident() else "worker" for thread in threads)


async def test_a_job_that_comes_alone_and_takes_every_core_is_done_on_the_event_loop_s_thread() -> None:
    with machine_of(2) as machine:
        assert [await place(machine, threads=2) for _ in range(3)] == ["loop"] * 3
        await until(lambda: machine.queue.inline is None)
        assert (len(machine.queue.jobs), machine.queue.queue_ms) == (0, 0.0)


async def test_a_job_that_comes_alone_and_would_leave_a_core_is_not() -> None:
    with machine_of(2) as machine:
        assert await place(machine, threads=1) == "worker"


async def test_the_only_core_is_the_event_loop_s() -> None:
    with machine_of(1) as machine:
        assert await place(machine) == "loop"
        assert await places(machine, 5) == ["loop"] * 5


async def test_of_two_jobs_for_two_cores_one_is_done_on_the_event_loop_s_thread() -> None:
    together = threading.Barrier(2)

    def meet() -> int:
        together.wait(WAIT_S)  # neither gets past it alone
        return threading.get_ident()

    with machine_of(2) as machine:
        threads = await asyncio.gather(*[machine.do(Calls(meet), inline=True) for _ in range(2)])
    assert threading.get_ident() in threads
    assert len(set(threads)) == 2


async def test_no_more_jobs_run_at_a_time_than_there_are_cores() -> None:
    lock, counts = threading.Lock(), list[int]()
    running = 0

    def count() -> None:
        nonlocal running
        with lock:
            running += 1
            counts.append(running)
        sleep(0.001)
        with lock:
            running -= 1

    with machine_of(2) as machine:
        await asyncio.gather(*[machine.do(Calls(count), inline=number % 3 > 0) for number in range(60)])
    assert (len(counts), max(counts)) == (60, 2)


async def test_a_long_job_is_left_to_a_worker_and_a_short_one_passes_it() -> None:
    gate = threading.Event()
    with machine_of(1) as machine:
        long = asyncio.ensure_future(
            machine.do(Calls(lambda: gate.wait(WAIT_S) and threading.get_ident(), cost_ms=LONG_MS), inline=True)
        )
        await until(lambda: machine.queue.running)
        assert (await places(machine, 2), long.done()) == (["worker", "worker"], False)  # the spare one
        gate.set()
        assert await long != threading.get_ident()


async def test_what_turns_out_to_be_long_goes_on_on_a_worker() -> None:
    with machine_of(1) as machine:
        first, second = await machine.do(Chain(2, threading.get_ident, LONG_MS), inline=True)
        assert first == threading.get_ident() != second
        first, second = await machine.do(Chain(2, threading.get_ident, LONG_MS / 2), inline=True)
        assert first == threading.get_ident() == second


async def test_a_job_that_is_dropped_during_its_run_leaves_nothing_in_the_queue() -> None:
    with machine_of(1) as machine:
        job: Chain

        def leave() -> int:
            machine.queue.drop(job, InferenceFailedError("given up"))
            job.deliver()
            return 0

        for inline in (False, True):
            job = Chain(3, leave, 20.0)
            with pytest.raises(InferenceFailedError):
                await machine.do(job, inline=inline)
            await until(lambda: not machine.queue.running)
            assert (len(machine.queue.jobs), machine.queue.queue_ms) == (0, 0.0)


async def test_a_job_that_was_dropped_before_its_run_is_not_begun() -> None:
    begun = list[int]()
    with machine_of(1) as machine:
        job = Calls(lambda: begun.append(1))
        machine.submit(job, inline=True)
        machine.queue.drop(job, InferenceFailedError("given up"))
        job.settle()
        with pytest.raises(InferenceFailedError):
            await job.future
        assert await place(machine) == "loop"
    assert not begun


async def test_a_closed_queue_runs_nothing_inline() -> None:
    begun = list[int]()
    with machine_of(1) as machine:
        pass
    with pytest.raises(NotReadyError):
        await machine.do(Calls(lambda: begun.append(1)), inline=True)
    assert not begun


async def test_what_the_event_loop_has_not_begun_is_done_by_workers_when_the_queue_closes() -> None:
    for cores in (1, 2):
        with machine_of(cores) as machine:
            jobs = [Calls(threading.get_ident) for _ in range(3)]
            for job in jobs:
                machine.submit(job, inline=True)
        assert not machine.queue.jobs  # they are done before the loop has had another turn
        threads = await asyncio.wait_for(asyncio.gather(*[job.future for job in jobs]), WAIT_S)
        assert threading.get_ident() not in threads


@pytest.mark.parametrize(("left_ms", "expected"), [(LONG_MS / 2, "worker"), (1e6, "loop")])
async def test_a_deadline_that_could_pass_during_the_run_is_left_to_a_worker(left_ms: float, expected: str) -> None:
    with machine_of(1) as machine:
        try:
            done = await place(machine, deadline=perf_counter_ns() + int(left_ms * 1e6))
        except DeadlineExceededError:
            done = "worker"  # it came too late, as it may on a busy machine
    assert done == expected


async def test_an_answer_that_comes_after_its_deadline_is_refused() -> None:
    with machine_of(1) as machine:
        deadline = perf_counter_ns() + int(3 * LONG_MS * 1e6)

        def be_late() -> None:
            while perf_counter_ns() <= deadline:
                sleep(0.001)

        with pytest.raises(DeadlineExceededError):
            await machine.do(Calls(be_late, deadline=deadline), inline=True)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])  # as the service runs: loops differ in
@pytest.mark.parametrize(  # when they read
    ("moment", "expected"),
    [
        ("with it", {"loop", "worker"}),
        ("in its first step", {"loop", "worker"}),  # so it is in the kernel, and yet to be read
    ],
)
async def test_what_has_arrived_is_read_before_a_job_counts_as_alone(moment: str, expected: set[str]) -> None:
    """Of two whose runs take every core, each has one."""
    done: dict[str, str] = {}
    together = threading.Barrier(2)
    loop = asyncio.get_running_loop()
    ends = {name: socket.socketpair() for name in ("first", "second")}
    tasks: list[asyncio.Task[None]] = []

    def send(name: str) -> None:
        ends[name][0].sendall(b"a request")

    def meet() -> int:
        together.wait(WAIT_S)
        return threading.get_ident()

    async def come(machine: Machine, name: str) -> None:
        if (name, moment) == ("first", "in its first step"):
            send("second")
        thread = await machine.do(Calls(meet, threads=2), inline=True)
        done[name] = "loop" if thread == threading.get_ident() else "worker"

    class Reader(asyncio.Protocol):
        """As uvicorn's: each request becomes a task."""

        def __init__(self, machine: Machine, name: str) -> None:
            self.machine, self.name = machine, name

        def data_received(self, _: bytes) -> None:
            tasks.append(loop.create_task(come(self.machine, self.name)))

    with machine_of(2) as machine:
        for name, (_, theirs) in ends.items():
            await loop.create_connection(partial(Reader, machine, name), sock=theirs)
        send("first")
        if moment == "with it":
            send("second")
        await until(lambda: len(done) == 2)
        await asyncio.gather(*tasks)
        assert await place(machine, threads=2) == "loop"
    for ours, _ in ends.values():
        ours.close()
    assert set(done.values()) == expected


async def test_a_job_that_had_to_wait_for_an_inline_run_does_not_count_as_alone() -> None:
    with machine_of(2) as machine:
        waiting: list[asyncio.Future[int]] = []

        def work() -> int:
            waiting.append(asyncio.ensure_future(machine.do(Calls(threading.get_ident, threads=2), inline=True)))
            return threading.get_ident()

        assert await machine.do(Calls(work, threads=2), inline=True) == threading.get_ident()
        assert await waiting[0] != threading.get_ident()


async def test_an_inline_run_that_hangs_is_ended_from_another_thread() -> None:
    with machine_of(1, max_run_ms=50) as machine:
        slot = machine.inline.slot

        def watch() -> None:
            while not slot.runs_longer_than(50):
                sleep(0.001)
            machine.inline.check_run()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        with pytest.raises(InferenceFailedError):
            await machine.do(Calls(partial(hang, slot)), inline=True)
        thread.join()
        assert not slot.cancellation.options.terminate
        assert await machine.do(Calls(lambda: 42), inline=True) == 42


async def test_an_inline_run_that_cannot_be_ended_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exited, gate = list[int](), threading.Event()

    def leave(status: int) -> NoReturn:
        exited.append(status)
        gate.set()
        sys.exit()  # of the thread

    monkeypatch.setattr("os._exit", leave)
    with machine_of(1, max_run_ms=10) as machine:
        done = threading.Event()

        def watch() -> None:
            with suppress(SystemExit):
                while not done.wait(0.01):
                    machine.inline.check_run()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        with pytest.raises(InferenceFailedError):
            await machine.do(Calls(lambda: gate.wait(WAIT_S)), inline=True)
        done.set()
        thread.join()
    assert exited == [1]
    assert "start it again" in caplog.text
