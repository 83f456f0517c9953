"""Turns inputs into outcomes: a request becomes a job, and is given up when its caller is gone."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

from models.tasks.base import TaskName
from service.engine.errors import CallerGoneError, DeadlineExceededError, ModelNotLoadedError
from service.engine.inline import InlineRunner
from service.engine.model import Model, by_name, told_apart
from service.engine.policy import CHECK_RUNS_S, MAX_RUN_MS, WATCH_FROM_MS
from service.engine.queue import DEADLINE, PARTIAL, Queue
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

    def replace_models(self, models: Sequence[Model]) -> None:
        """Serve other models from the next request on; those that are asked already finish with the ones they have."""
        models = told_apart(models)
        self._by_name = by_name(models)
        self.models = models

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

    def lone_threads(self) -> list[tuple[TaskName, str, int, int]]:
        """List what was learned of lone runs: task, model, the longest in tokens, and the threads of the next one."""
        return [
            (model.bundle.task, model.id, lengths.up_to, lengths.threads)
            for model in self.models
            for lengths in model.lone.ranges()
        ]

    async def answer(self, model: Model, item: object, caller: Caller | None = None) -> Outcome:
        """Answer one input. `caller`: who can leave, and may have set a deadline.

        Raises: InputTooLongError, InvalidRequestError, InferenceFailedError, QueueFullError, DeadlineExceededError,
        NotReadyError; CallerGoneError if the caller has left.
        """
        return await self.answer_all(model, {"": item}, None, caller)

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
        deadline = caller.deadline if caller else None
        job = TaskJob(model, items, combine, combine_some, deadline=deadline)
        units = job.first_units()
        takes_long = self.queue.queue_ms + job.estimate_ms / self.queue.cores >= WATCH_FROM_MS
        if job.is_short:
            self._inline.submit(job, units)
        else:
            self.workers.wake(self.queue.submit(job, units))
        if caller is None or (deadline is None and not takes_long):
            return await job.future
        with self._watched(job, caller):
            try:
                outcome = await job.future
            except DeadlineExceededError:
                answered_part = job.at_the_deadline()
                if answered_part is None:
                    if job.may_answer_in_part:
                        self.queue.count_drop(job.task, DEADLINE)
                    raise
                outcome = answered_part
            if job.is_partial:
                self.queue.count_drop(job.task, PARTIAL)
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

    @contextmanager
    def _watched(self, job: TaskJob, caller: Caller) -> Iterator[None]:
        """Drop the job once its caller has left or its deadline has passed."""
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._drop_when_gone(job, caller.gone)) if caller.gone else None
        alarm = None
        if job.deadline is not None:
            left_s = (job.deadline - perf_counter_ns()) / 1e9
            alarm = loop.call_later(left_s, self._drop, job, DeadlineExceededError())
        try:
            yield
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
