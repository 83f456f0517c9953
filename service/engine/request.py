"""The work of one request, phase by phase: encode its items, run their windows, decode.

Every item and every window is a unit of its own, so that several cores can share a request and other requests come
in between. A phase begins when the one before has ended, so that each has its time.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import Any

from models.tasks import base
from models.tasks.base import MAX_WINDOW_TOKENS, Encoding, Features, Outputs, Usage
from service.engine.costs import CHARACTERS_PER_TOKEN, ENCODE_MS_PER_TOKEN, LONG_MS
from service.engine.job import Job, Unit
from service.engine.model import Model
from service.engine.pool import Worker
from service.errors import InputTooLongError
from service.telemetry.stages import Stages, add_up_usage

Combine = Callable[[list["Outcome"]], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one item, or what was made of several, and what it took."""

    result: Any  # of the task, which knows its type, or of a combination
    usage: Usage
    stages: Stages


@dataclass(slots=True)
class Part:
    """One item of a request. Clocks are in `perf_counter_ns`, times in nanoseconds."""

    item: Any  # an input of the task
    place: str  # where it stands in the request; empty if it is all of it
    encoding: Encoding | None = None
    outputs: list[Outputs] = field(default_factory=list)
    result: Any = None
    tokenization: int = 0
    inference: int = 0
    run_from: int = 0  # the start of its first run
    run_to: int = 0  # the end of its last
    postprocess: int = 0
    decoded: int = 0

    def outcome(self, submitted: int) -> Outcome:
        assert self.encoding is not None
        total, inference_wall = self.decoded - submitted, self.run_to - self.run_from
        stages = Stages(
            queue=total - self.tokenization - inference_wall - self.postprocess,
            tokenization=self.tokenization,
            inference=self.inference,
            inference_wall=inference_wall,
            postprocess=self.postprocess,
            total=total,
        )
        return Outcome(self.result, self.encoding.usage, stages)


class TaskJob(Job[Outcome]):
    """`combine` makes one result of the outcomes of several items, on a worker, as part of the postprocessing.

    Raises, when awaited: InputTooLongError that names the item's place, and whatever else ended it.
    """

    def __init__(
        self, model: Model, items: Mapping[str, Any], combine: Combine | None, *, deadline: int | None = None
    ) -> None:
        # items: inputs of the model's task
        guesses = [item.characters / CHARACTERS_PER_TOKEN for item in items.values()]
        super().__init__(model.bundle.task, sum(map(model.costs.window_ms, guesses)), deadline=deadline)
        self.model, self.combine = model, combine
        self.parts = [Part(item, place) for place, item in items.items()]
        # What is one window, as far as can be told before its tokens are known, is done in one go.
        self._in_one_go = len(guesses) == 1 and guesses[0] <= MAX_WINDOW_TOKENS
        self._encoding_ms = [self.estimate_ms] if self._in_one_go else [ENCODE_MS_PER_TOKEN * each for each in guesses]
        self._lock = threading.Lock()
        self._left = len(self.parts)  # units of this phase that have not ended
        self._began = self._encoded = self._inferred = 0

    @property
    def is_short(self) -> bool:
        """One window, as far as can be told, and not a long one."""
        return self._in_one_go and self.estimate_ms < LONG_MS

    def first_units(self) -> Sequence[Unit]:
        costs = zip(self.parts, self._encoding_ms, strict=True)
        return [Unit(self, cost, partial(self._encode, part)) for part, cost in costs]

    def _encode(self, part: Part, worker: Worker) -> Sequence[Unit]:
        began = perf_counter_ns()
        self._began = self._began or began
        try:
            part.encoding = self.model.task.encode(part.item)
        except base.InputTooLongError as error:
            raise InputTooLongError(f"{part.place}: {error}" if part.place else str(error)) from error
        encoded = perf_counter_ns()
        part.tokenization = encoded - began
        part.outputs = [()] * len(part.encoding.windows)
        if not self._was_last():
            return ()
        self._encoded = encoded
        if self._in_one_go and len(part.encoding.windows) == 1:
            window = part.encoding.windows[0]
            if worker.may_take(self.model.costs.window_ms(len(window))):
                self._left = 1
                return self._run(part, 0, window, worker)
        return self._next_phase(
            [
                Unit(self, self.model.costs.window_ms(len(window)), partial(self._run, each, index, window))
                for each in self.parts
                for index, window in enumerate(each.encoding.windows if each.encoding else ())
            ]
        )

    def _run(self, part: Part, index: int, window: Features, worker: Worker) -> Sequence[Unit]:
        wide = worker.alone()
        began = perf_counter_ns()
        part.outputs[index] = self.model.session.run(window, worker.options, wide=wide)
        ended = perf_counter_ns()
        if not wide:
            self.model.costs.learn(len(window), (ended - began) / 1e6)
        with self._lock:
            part.inference += ended - began
            part.run_from = min(part.run_from or began, began)
            part.run_to = max(part.run_to, ended)
        if not self._was_last():
            return ()
        self._inferred = ended
        if len(self.parts) == 1:
            self._left = 1
            return self._decode(part, worker)
        return self._next_phase(
            [
                Unit(self, ENCODE_MS_PER_TOKEN * each.encoding.usage.tokens_used, partial(self._decode, each))
                for each in self.parts
                if each.encoding
            ]
        )

    def _decode(self, part: Part, _: Worker) -> Sequence[Unit]:
        began = perf_counter_ns()
        part.result = self.model.task.decode(part.encoding, part.outputs)
        part.decoded = perf_counter_ns()
        part.postprocess = part.decoded - began
        if self._was_last():
            self._answer_with([each.outcome(self.submitted) for each in self.parts])
        return ()

    def _answer_with(self, outcomes: list[Outcome]) -> None:
        if self.combine is None:
            self.complete(outcomes[0])
            return
        combined = self.combine(outcomes)
        now = perf_counter_ns()
        stages = Stages(
            queue=self._began - self.submitted,
            tokenization=self._encoded - self._began,
            inference=sum(each.stages.inference for each in outcomes),
            inference_wall=self._inferred - self._encoded,
            postprocess=now - self._inferred,
            total=now - self.submitted,
        )
        self.complete(Outcome(combined, add_up_usage([each.usage for each in outcomes]), stages))

    def _next_phase(self, units: list[Unit]) -> list[Unit]:
        self._left = len(units)
        return units

    def _was_last(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left == 0
