"""Turns inputs into outcomes: a request becomes a job, and is given up when its caller is gone."""

import asyncio
import threading
from collections.abc import Mapping
from time import perf_counter_ns

from starlette.requests import ClientDisconnect

from models.tasks.base import TaskName
from service.engine.admission import LATE
from service.engine.model import Model
from service.engine.pool import Pool
from service.engine.request import Combine, Outcome, TaskJob
from service.errors import DeadlineExceededError, ModelNotLoadedError
from service.telemetry.context import RequestContext

WATCHED_MS = 5.0  # a job behind less work than this is answered sooner than a watch over its caller pays
CHECK_RUNS_S = 1.0


class Engine:
    """All models of the service over one pool. `threads` is what a request takes that is alone.

    Where a model's run takes all cores of the pool, a short request that is alone runs on the event loop, which would
    have no core left anyway.
    """

    def __init__(self, models: Mapping[TaskName, Model], pool: Pool, *, threads: int = 1) -> None:
        self.models = models
        self.pool = pool
        self.threads = threads
        self._closed = threading.Event()

    def model(self, task: TaskName) -> Model:
        """Raises: ModelNotLoadedError."""
        model = self.models.get(task)
        if model is None:
            raise ModelNotLoadedError(f"no bundle for the task {task} is loaded; GET /info lists those that are")
        return model

    async def answer(self, task: TaskName, item: object, caller: RequestContext | None = None) -> Outcome:
        """`caller`: who can leave, and may have set a deadline.

        Raises: ModelNotLoadedError, InputTooLongError, InferenceFailedError, QueueFullError, DeadlineExceededError,
        NotReadyError; ClientDisconnect if the caller has left.
        """
        return await self._do(task, {"": item}, None, caller)

    async def answer_all(
        self, task: TaskName, items: Mapping[str, object], combine: Combine, caller: RequestContext | None = None
    ) -> Outcome:
        """The same of several, named by their places in the request; the first that fails fails them all."""
        return await self._do(task, items, combine, caller)

    def check_runs(self) -> None:
        """Until it is closed: end runs that hang. For a thread of its own: the event loop may be within one."""
        while not self._closed.wait(CHECK_RUNS_S):
            self.pool.check_runs()

    def close(self) -> None:
        """Finish what is queued, then end the workers."""
        self.pool.close()
        self._closed.set()

    async def _do(
        self, task: TaskName, items: Mapping[str, object], combine: Combine | None, caller: RequestContext | None
    ) -> Outcome:
        model = self.model(task)
        job = TaskJob(model, items, combine, deadline=caller.deadline if caller else None)
        inline = job.is_short and job.deadline is None and model.threads == self.pool.size
        self.pool.submit(job, inline=inline and await self.pool.stays_idle())
        if caller is None or (job.deadline is None and self.pool.queue_ms < WATCHED_MS):
            return await job
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._drop_when_gone(job, caller))
        alarm = None
        if job.deadline is not None:
            left_s = (job.deadline - perf_counter_ns()) / 1e9
            alarm = loop.call_later(left_s, self.pool.drop, job, DeadlineExceededError(LATE), "deadline")
        try:
            return await job
        finally:
            watch.cancel()
            if alarm is not None:
                alarm.cancel()

    async def _drop_when_gone(self, job: TaskJob, caller: RequestContext) -> None:
        await caller.leaves()
        self.pool.drop(job, ClientDisconnect(), "client_gone")
