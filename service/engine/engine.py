"""Turns inputs into outcomes: a request becomes a job, and is given up when its caller is gone."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter_ns

from models.tasks.base import TaskName
from service.engine.errors import CallerGoneError, DeadlineExceededError, ModelNotLoadedError
from service.engine.inline import InlineRunner
from service.engine.model import Model, by_name, told_apart
from service.engine.policy import CHECK_RUNS_S, MAX_RUN_MS, WATCH_FROM_MS
from service.engine.queue import Queue
from service.engine.request import Combine, CombineSome, Outcome, TaskJob
from service.engine.workers import Workers
from service.telemetry.context import Caller


class Engine:
    """Answers inputs by the models of the service, over one queue, its workers, and the event loop's own thread.

    `models`: the first of a task is its default. `cores` is how many units run at the same time; `threads` is how many
    a request takes while nothing else runs.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        cores: int = 1,
        threads: int = 1,
        max_queue_ms: float = math.inf,
        max_run_ms: float = MAX_RUN_MS,
    ) -> None:
        self.models = told_apart(models)
        self._by_name = by_name(self.models)
        self.threads = threads
        self.queue = Queue(cores, max_queue_ms)
        self.workers = Workers(self.queue, max_run_ms=max_run_ms)
        self._inline = InlineRunner(self.queue, self.workers)
        self._closed = threading.Event()

    def model(self, task: TaskName, name: str | None = None, *, or_default: bool = False) -> Model:
        """Find a model by its name, its directory, or one of these with `@revision`; the task's default without a name.

        `or_default`: a name that is not loaded means the default too. Raises: ModelNotLoadedError.
        """
        model = self._by_name.get((task, name))
        if model is None and or_default:
            model = self._by_name.get((task, None))
        if model is None:
            loaded = [model.id for model in self.models if model.bundle.task == task]
            raise ModelNotLoadedError(
                f"no model of this name is loaded for the task {task}; name one of these: {', '.join(loaded)}"
                if loaded
                else f"no bundle for the task {task} is loaded; GET /info lists those that are"
            )
        return model

    async def answer(self, model: Model, item: object, caller: Caller | None = None) -> Outcome:
        """Answer one input. `caller`: who can leave, and may have set a deadline.

        Raises: InputTooLongError, InvalidRequestError, InferenceFailedError, QueueFullError, DeadlineExceededError,
        NotReadyError;
        CallerGoneError if the caller has left.
        """
        return await self._do(TaskJob(model, {"": item}, None, deadline=caller.deadline if caller else None), caller)

    async def answer_all(
        self,
        model: Model,
        items: Mapping[str, object],
        combine: Combine | None,
        caller: Caller | None = None,
        combine_some: CombineSome | None = None,
    ) -> Outcome:
        """Answer several inputs, named by their places in the request; the first that fails fails them all.

        `combine_some`: what is there at the deadline makes an answer too, if it is anything. Raises: as `answer`.
        """
        job = TaskJob(model, items, combine, combine_some, deadline=caller.deadline if caller else None)
        try:
            return await self._do(job, caller)
        except DeadlineExceededError:
            outcome = job.at_the_deadline()
            if outcome is None:
                raise
            return outcome

    def check_runs(self) -> None:
        """End runs that hang until the engine is closed. For a thread of its own: the event loop may be within one."""
        while not self._closed.wait(CHECK_RUNS_S):
            self.workers.check_runs()
            self._inline.check_run()

    def check_ready(self) -> None:
        """Raises: NotReadyError if the engine is closed, or while a run hangs."""
        self.queue.check_open()
        self.workers.check_ready()

    def close(self) -> None:
        """Finish what is queued, then end the workers."""
        self.queue.close()
        self.workers.close()
        self._closed.set()

    async def _do(self, job: TaskJob, caller: Caller | None) -> Outcome:
        deadline = job.deadline
        units = job.first_units()
        if await self._inline.may_take(job, job.model.threads):
            self._inline.run(job, units)
        else:
            self.workers.wake(self.queue.submit(job, units))
        if job.is_over or caller is None or (deadline is None and self.queue.queue_ms < WATCH_FROM_MS):
            return await job.future
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._drop_when_gone(job, caller.gone)) if caller.gone else None
        alarm = None
        if deadline is not None:
            left_s = (deadline - perf_counter_ns()) / 1e9
            alarm = loop.call_later(left_s, self._drop, job, DeadlineExceededError())
        try:
            return await job.future
        finally:
            if watch is not None:
                watch.cancel()
            if alarm is not None:
                alarm.cancel()

    async def _drop_when_gone(self, job: TaskJob, gone: Callable[[], Awaitable[None]]) -> None:
        await gone()
        self._drop(job, CallerGoneError())

    def _drop(self, job: TaskJob, error: Exception) -> None:
        if self.queue.drop(job, error):
            job.settle()
