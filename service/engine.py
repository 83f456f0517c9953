"""From inputs to results: encode, run, decode, with a clock on every stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any, Generic, TypeVar

from models.tasks import base
from models.tasks.base import Encoding, Task, Usage
from models.tasks.bundle import Bundle, TaskName
from service.errors import InputTooLongError, ModelNotLoadedError
from service.pool import Pool
from service.session import Session
from service.telemetry import Stages, add_up_stages, add_up_usage

InputT = TypeVar("InputT")
EncodingT = TypeVar("EncodingT", bound=Encoding)
ResultT = TypeVar("ResultT")
CombinedT = TypeVar("CombinedT")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[ResultT]):
    """The result of one input, or of several combined, and what it took."""

    result: ResultT
    usage: Usage
    stages: Stages


@dataclass(frozen=True, slots=True)
class Model(Generic[InputT, EncodingT, ResultT]):
    """A bundle that is ready to run."""

    bundle: Bundle
    task: Task[InputT, EncodingT, ResultT]
    session: Session

    def answer(self, item: InputT, submitted: int) -> Outcome[ResultT]:
        """`submitted`: when the request was, in `perf_counter_ns`. Raises: InputTooLongError."""
        begun = perf_counter_ns()
        try:
            encoding = self.task.encode(item)
        except base.InputTooLongError as error:
            raise InputTooLongError(str(error)) from error
        encoded = perf_counter_ns()
        outputs, inference = [], 0
        for window in encoding.windows:
            before = perf_counter_ns()
            outputs.append(self.session.run(window))
            inference += perf_counter_ns() - before
        inferred = perf_counter_ns()
        result = self.task.decode(encoding, outputs)
        decoded = perf_counter_ns()
        stages = Stages(
            queue=begun - submitted,
            tokenization=encoded - begun,
            inference=inference,
            inference_wall=inferred - encoded,
            postprocess=decoded - inferred,
            total=decoded - submitted,
        )
        return Outcome(result, encoding.usage, stages)

    def answer_all(
        self, items: Mapping[str, InputT], combine: Callable[[list[Outcome[ResultT]]], CombinedT], submitted: int
    ) -> Outcome[CombinedT]:
        """One after the other. `items` are named by their places in the request.

        Returns: what `combine` makes of the outcomes, with the totals, which count the combining as postprocessing.
        Raises: InputTooLongError that names the item's place.
        """
        outcomes = []
        for place, item in items.items():
            try:
                outcomes.append(self.answer(item, submitted))
            except InputTooLongError as error:
                raise InputTooLongError(f"{place}: {error.detail}") from error
        combined = combine(outcomes)
        usage = add_up_usage([each.usage for each in outcomes])
        stages = add_up_stages([each.stages for each in outcomes], perf_counter_ns() - submitted)
        return Outcome(combined, usage, stages)


AnyModel = Model[Any, Any, Any]  # an engine holds models of every task, and no type leads from a task's name to its own


class Engine:
    """All models of the service over one pool; a request is handed to a worker once, however many inputs it has."""

    def __init__(self, models: Mapping[TaskName, AnyModel], *, threads: int) -> None:
        self.models = models
        self.threads = threads
        self.pool = Pool()

    def model(self, task: TaskName) -> AnyModel:
        """Raises: ModelNotLoadedError."""
        model = self.models.get(task)
        if model is None:
            raise ModelNotLoadedError(f"no bundle for the task {task} is loaded; GET /info lists those that are")
        return model

    async def answer(self, task: TaskName, item: object) -> Outcome[Any]:
        """Raises: ModelNotLoadedError, InputTooLongError, InferenceFailedError, NotReadyError."""
        return await self.pool.submit(partial(self.model(task).answer, item, perf_counter_ns()))

    async def answer_all(
        self, task: TaskName, items: Mapping[str, object], combine: Callable[[list[Outcome[Any]]], CombinedT]
    ) -> Outcome[CombinedT]:
        """The same of several inputs, in order, combined on the worker too; the first that fails fails them all."""
        return await self.pool.submit(partial(self.model(task).answer_all, items, combine, perf_counter_ns()))

    def close(self) -> None:
        """Finish what is queued, then end the workers."""
        self.pool.close()
