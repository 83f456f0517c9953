"""Jobs that do what a test wants, and a queue with all that runs its units."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import sleep
from typing import Any, NoReturn

from service.engine.inline import InlineRunner
from service.engine.job import Answer, Job, Runner, Unit
from service.engine.queue import Queue, Slot
from service.engine.workers import Workers

WAIT_S = 10  # for what must happen, however slow the machine


def hang(slot: Slot) -> NoReturn:
    """Run until the slot's cancellation, at which onnxruntime looks between two operators."""
    while not slot.cancellation.options.terminate:
        sleep(0.001)
    raise RuntimeError("terminated")


class Calls(Job[Any]):
    """Each call is a unit of this cost; the last one to end returns the job's answer."""

    def __init__(
        self, *calls: Callable[[], Any], cost_ms: float = 1.0, deadline: int | None = None, threads: int = 1
    ) -> None:
        super().__init__("qa", cost_ms * len(calls), deadline=deadline, is_short=True, threads=threads)
        self.calls, self.cost_ms, self.left = calls, cost_ms, len(calls)

    def first_units(self) -> Sequence[Unit]:
        return [Unit(self, self.cost_ms, partial(self._call, call)) for call in self.calls]

    def _call(self, call: Callable[[], Any], _: Runner) -> Sequence[Unit] | Answer[Any]:
        result = call()
        self.left -= 1
        return () if self.left else Answer(result)


class Chain(Job[list[int]]):
    """Units that follow each other one by one, each with the number of the thread that runs it."""

    def __init__(self, length: int, note: Callable[[], int], cost_ms: float = 1.0) -> None:
        """The first costs a millisecond, each of the others `cost_ms`."""
        super().__init__("qa", float(length), is_short=True)
        self.length, self.note, self.cost_ms, self.notes = length, note, cost_ms, list[int]()

    def first_units(self) -> Sequence[Unit]:
        return [Unit(self, 1.0, self._next)]

    def _next(self, _: Runner) -> Sequence[Unit] | Answer[list[int]]:
        self.notes.append(self.note())
        if len(self.notes) < self.length:
            return [Unit(self, self.cost_ms, self._next)]
        return Answer(self.notes)


class Planned(Job[None]):
    """An estimate, and units of these costs, which are never run."""

    def __init__(self, estimate_ms: float, *costs_ms: float, submitted: int = 0, deadline: int | None = None) -> None:
        super().__init__("qa", estimate_ms, deadline=deadline)
        self.submitted, self.costs_ms = submitted, costs_ms or (estimate_ms,)

    def first_units(self) -> Sequence[Unit]:
        return [self.unit(cost_ms) for cost_ms in self.costs_ms]

    def unit(self, cost_ms: float) -> Unit:
        return Unit(self, cost_ms, lambda _: ())


@dataclass(frozen=True, slots=True)
class Machine:
    """A queue, its workers, and the event loop's own slot."""

    queue: Queue
    workers: Workers
    inline: InlineRunner

    @property
    def slots(self) -> list[Slot]:
        """Those of the workers, the spare one last."""
        return [worker.slot for worker in self.workers._workers]

    def submit(self, job: Job[Any], *, inline: bool = False) -> None:
        if inline:
            self.inline.submit(job, job.first_units())
        else:
            self.workers.wake(self.queue.submit(job, job.first_units()))

    async def do(self, job: Job[Any], *, inline: bool = False) -> Any:
        self.submit(job, inline=inline)
        return await asyncio.wait_for(job.future, WAIT_S)

    def close(self) -> None:
        self.queue.close()
        self.workers.close()


@contextmanager
def machine_of(cores: int, *, max_run_ms: float = 10_000.0, **options: Any) -> Iterator[Machine]:  # the queue's
    queue = Queue(cores, **options)
    workers = Workers(queue, max_run_ms=max_run_ms)
    machine = Machine(queue, workers, InlineRunner(queue, workers))
    yield machine
    machine.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)
