"""Short jobs on the event loop's own thread."""

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from time import perf_counter_ns, sleep
from typing import NoReturn

import pytest

from service.engine.errors import InferenceFailedError, NotReadyError
from service.engine.policy import LONG_MS
from tests.service.engine.jobs import WAIT_S, Calls, Chain, Machine, machine_of, until

pytestmark = pytest.mark.anyio


async def may_take(machine: Machine, cores: int) -> bool:
    """Of a short job without a deadline, whose model's runs take so many cores."""
    return await machine.inline.may_take(Calls(lambda: 42), cores)


async def test_a_job_runs_on_the_event_loop_s_thread_and_is_over_at_once() -> None:
    with machine_of(2) as machine:
        job = Calls(threading.get_ident)
        machine.submit(job, inline=True)
        assert (job.is_over, len(machine.queue.jobs), machine.queue.queue_ms) == (True, 0, 0.0)
        assert await job.future == threading.get_ident()


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


async def test_a_closed_queue_runs_nothing_inline() -> None:
    begun = list[int]()
    with machine_of(1) as machine:
        pass
    with pytest.raises(NotReadyError):
        await machine.do(Calls(lambda: begun.append(1)), inline=True)
    assert not begun


async def test_a_job_that_comes_alone_may_be_taken() -> None:
    with machine_of(2) as machine:
        assert await may_take(machine, 2)
        await machine.do(Calls(lambda: 42))
        await until(lambda: not machine.queue.running)
        assert await may_take(machine, 2)


async def test_a_job_whose_run_would_leave_a_core_is_not_taken() -> None:
    with machine_of(2) as machine:
        assert not await may_take(machine, 1)


async def test_a_job_that_is_not_short_is_not_taken() -> None:
    with machine_of(2) as machine:
        assert not await machine.inline.may_take(Chain(2, lambda: 42), 2)


async def test_a_job_with_a_deadline_is_not_taken() -> None:
    with machine_of(2) as machine:
        assert not await machine.inline.may_take(Calls(lambda: 42, deadline=perf_counter_ns() + 10**12), 2)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])  # as the service runs: loops differ in
@pytest.mark.parametrize(  # when they read
    ("moment", "inline"),
    [
        ("with it", {"first": False, "second": False}),
        ("in its first step", {"first": False, "second": False}),  # so it is in the kernel, and yet to be read
        ("during its run", {"first": True, "second": False}),  # it had to wait, so there are several callers
    ],
)
async def test_a_request_is_done_inline_unless_another_comes(moment: str, inline: dict[str, bool]) -> None:
    done: dict[str, bool] = {}
    decided = threading.Event()
    loop = asyncio.get_running_loop()
    ends = {name: socket.socketpair() for name in ("first", "second")}
    tasks: list[asyncio.Task[None]] = []

    def send(name: str) -> None:
        ends[name][0].sendall(b"a request")

    async def come(machine: Machine, name: str) -> None:
        if (name, moment) == ("first", "in its first step"):
            send("second")
        done[name] = await may_take(machine, 2)

        def work() -> None:
            if (name, moment) == ("first", "during its run"):
                send("second")
            elif not done[name]:
                decided.wait(WAIT_S)  # so that it is under way when the others look

        await machine.do(Calls(work), inline=done[name])

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
        decided.set()
        await asyncio.gather(*tasks)
        await until(lambda: not machine.queue.running)
        assert await may_take(machine, 2)
    for ours, _ in ends.values():
        ours.close()
    assert done == inline


async def test_no_job_is_taken_while_a_unit_runs_or_waits() -> None:
    gate = threading.Event()
    with machine_of(1) as machine:
        held = Calls(lambda: gate.wait(WAIT_S))
        machine.submit(held)
        assert not await may_take(machine, 1)
        await until(lambda: machine.queue.running)
        machine.queue.drop(held, InferenceFailedError("given up"))
        held.settle()
        with pytest.raises(InferenceFailedError):
            await held.future
        assert not await may_take(machine, 1)  # nobody waits for it, but it has a core
        gate.set()


async def test_an_inline_run_that_hangs_is_ended_from_another_thread() -> None:
    with machine_of(1, max_run_ms=50) as machine:
        slot = machine.inline.slot

        def watch() -> None:
            while not slot.runs_longer_than(50):
                sleep(0.001)
            machine.inline.check_run()

        def hang() -> None:
            while not slot.cancellation.options.terminate:  # as onnxruntime looks at it between two operators
                sleep(0.001)
            raise RuntimeError("terminated")

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        with pytest.raises(InferenceFailedError):
            await machine.do(Calls(hang), inline=True)
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
