"""Jobs of the pool that do what a test wants."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from service.engine.job import Job, Unit
from service.engine.pool import Pool, Worker


class Calls(Job[Any]):
    """Each call is a unit of this cost; the last one to end completes the job with what it returned."""

    def __init__(self, *calls: Callable[[], Any], cost_ms: float = 1.0, deadline: int | None = None) -> None:
        super().__init__("qa", cost_ms * len(calls), deadline=deadline)
        self.calls, self.cost_ms, self.left = calls, cost_ms, len(calls)

    def first_units(self) -> Sequence[Unit]:
        return [Unit(self, self.cost_ms, partial(self._call, call)) for call in self.calls]

    def _call(self, call: Callable[[], Any], _: Worker) -> Sequence[Unit]:
        result = call()
        self.left -= 1
        if not self.left:
            self.complete(result)
        return ()


class Chain(Job[list[int]]):
    """Units that follow each other one by one, each with the number of the worker's thread."""

    def __init__(self, length: int, note: Callable[[], int], cost_ms: float = 1.0) -> None:
        """The first costs a millisecond, each of the others `cost_ms`."""
        super().__init__("qa", float(length))
        self.length, self.note, self.cost_ms, self.notes = length, note, cost_ms, list[int]()

    def first_units(self) -> Sequence[Unit]:
        return [Unit(self, 1.0, self._next)]

    def _next(self, _: Worker) -> Sequence[Unit]:
        self.notes.append(self.note())
        if len(self.notes) < self.length:
            return [Unit(self, self.cost_ms, self._next)]
        self.complete(self.notes)
        return ()


async def do(pool: Pool, job: Job[Any], *, inline: bool = False) -> Any:
    pool.submit(job, inline=inline)
    return await job
