"""Does the work of one request in three stages: encode its items, run their windows, decode.

Every item and every window is a unit, so that several cores can share a request and other requests come in between. A
stage begins when the one before has ended, so that each has its time.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import Any

from models.tasks import base
from models.tasks.base import MAX_WINDOW_TOKENS, Encoding, Features, Outputs, Usage
from service.engine.errors import InferenceFailedError, InputTooLongError, InvalidField, InvalidRequestError
from service.engine.job import Answer, Job, Runner, Unit
from service.engine.model import Model
from service.engine.policy import CHARACTERS_PER_TOKEN, ENCODE_MS_PER_TOKEN, LONG_MS
from service.telemetry.stages import Stages, add_up_usage

Combine = Callable[[list["Outcome"]], Any]
CombineSome = Callable[[Sequence["Outcome | None"]], Any]
"""As Combine, where a deadline may have left items out, for which there is None."""


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
    encoded: int = 0
    inference: int = 0
    run_from: int = 0  # the start of its first run
    run_to: int = 0  # the end of its last
    postprocess: int = 0
    decoded: int = 0

    @property
    def was_read(self) -> bool:
        """Whether the model has read all of its windows."""
        return bool(self.outputs) and all(self.outputs)

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
            submitted=submitted,
            encoded=self.encoded,
            inferred=self.run_to,
        )
        return Outcome(self.result, self.encoding.usage, stages)


class TaskJob(Job[Outcome]):
    """The job of a request to a task.

    Its future raises InputTooLongError or InvalidRequestError that names the item's place, or whatever ended it.

    The mutable state is `_left`, the units of the current stage that have not ended, and the clocks of its parts for
    their runs (`inference`, `run_from`, `run_to`): both change under `_lock`. All else of a part is written by the one
    unit that works on it, and read in a later stage.
    """

    def __init__(
        self,
        model: Model,
        items: Mapping[str, Any],
        combine: Combine | None,
        combine_some: CombineSome | None = None,
        *,
        deadline: int | None = None,
    ) -> None:
        """Estimate the work. `items`: inputs of the model's task, by their places in the request. `combine` makes one
        result of the outcomes of several items, on a worker, as part of the postprocessing; `combine_some` of those
        that are there at the deadline, where a part of the items makes an answer too.
        """
        self.model, self.combine, self.combine_some = model, combine, combine_some
        self.parts = [Part(item, place) for place, item in items.items()]
        tokens = [item.characters / CHARACTERS_PER_TOKEN for item in items.values()]  # by estimate
        estimates_ms = list(map(model.costs.window_ms, tokens))
        estimate_ms = sum(estimates_ms)
        # What is one window, as far as can be told before its tokens are known, is done in a single unit.
        self._is_one_unit = len(tokens) == 1 and tokens[0] <= MAX_WINDOW_TOKENS
        self._encoding_ms = [estimate_ms] if self._is_one_unit else [ENCODE_MS_PER_TOKEN * count for count in tokens]
        self._short_tokens = model.costs.tokens_within(LONG_MS)
        self._lock = threading.Lock()
        self._left = len(self.parts)
        self._began = self._encoded = self._inferred = 0
        super().__init__(
            model.bundle.task,
            estimate_ms,
            least_ms=min(estimates_ms) if combine_some else estimate_ms,
            deadline=deadline,
            is_short=self._is_one_unit and estimate_ms < LONG_MS,
            threads=model.lone.threads_for(tokens[0]) if self._is_one_unit else 1,
        )
        self.may_answer_in_part = combine_some is not None
        self.is_partial = False

    def first_units(self) -> Sequence[Unit]:
        costs = zip(self.parts, self._encoding_ms, strict=True)
        return [Unit(self, cost_ms, partial(self._encode, part)) for part, cost_ms in costs]

    def _encode(self, part: Part, runner: Runner) -> Sequence[Unit] | Answer[Outcome]:
        began = perf_counter_ns()
        self._began = self._began or began
        if self._is_late_to_encode(began):
            return self._run_units(began) if self._was_last() else ()
        try:
            encoding = part.encoding = self.model.task.encode(part.item)
        except base.InputTooLongError as error:
            raise InputTooLongError(_at(part.place, error)) from error
        except base.UnsupportedInputError as error:
            raise _invalid(part.place, error) from error
        encoded = perf_counter_ns()
        part.encoded, part.tokenization = encoded, encoded - began
        part.outputs = [()] * len(encoding.windows)
        if self._is_one_unit and len(encoding.windows) == 1:
            tokens = encoding.usage.tokens_used
            if tokens < self._short_tokens or not runner.is_inline:
                self._encoded = encoded
                return self._run(part, 0, encoding.windows[0], tokens, runner)
        return self._run_units(encoded) if self._was_last() else ()

    def _is_late_to_encode(self, now: int) -> bool:
        """Tell whether half of the time is over, where a part of the items makes an answer: the rest is for the model,
        and what is not encoded by then is left out.
        """
        if self.combine_some is None or self.deadline is None:
            return False
        return 2 * now > self.submitted + self.deadline and any(part.encoding for part in self.parts)

    def _run_units(self, encoded: int) -> Sequence[Unit]:
        self._encoded = encoded
        return self._next_stage(
            [
                self._run_unit(part, index, window)
                for part in self.parts
                for index, window in enumerate(part.encoding.windows if part.encoding else ())
            ]
        )

    def _run_unit(self, part: Part, index: int, window: Features) -> Unit:
        tokens = len(window)
        return Unit(self, self.model.costs.window_ms(tokens), partial(self._run, part, index, window, tokens))

    def _run(
        self, part: Part, index: int, window: Features, tokens: int, runner: Runner
    ) -> Sequence[Unit] | Answer[Outcome]:
        model, is_alone = self.model, runner.is_alone()
        threads = model.lone.threads_for(tokens) if is_alone else 1
        began = perf_counter_ns()
        try:
            part.outputs[index] = model.session.run(window, runner.cancellation, wide=threads > 1)
        except base.UnsupportedInputError as error:
            raise _invalid(part.place, error) from error
        ended = perf_counter_ns()
        if is_alone:
            model.lone.learn(tokens, threads, (ended - began) / 1e6)
        else:
            model.costs.learn(tokens, (ended - began) / 1e6)
        with self._lock:
            part.inference += ended - began
            part.run_from = min(part.run_from or began, began)
            part.run_to = max(part.run_to, ended)
        if not self._was_last():
            return ()
        self._inferred = ended
        if len(self.parts) == 1:
            self._left = 1
            return self._decode(part, runner)
        return self._next_stage(
            [
                Unit(self, ENCODE_MS_PER_TOKEN * part.encoding.usage.tokens_used, partial(self._decode, part))
                for part in self.parts
                if part.encoding
            ]
        )

    def _decode(self, part: Part, _: Runner) -> Sequence[Unit] | Answer[Outcome]:
        began = perf_counter_ns()
        part.result = self.model.task.decode(part.encoding, part.outputs)
        part.decoded = perf_counter_ns()
        part.postprocess = part.decoded - began
        if not self._was_last():
            return ()
        if not all(part.decoded for part in self.parts):
            return Answer(self._combined_some())
        outcomes = [part.outcome(self.submitted) for part in self.parts]
        if self.combine is None:
            return Answer(outcomes[0])
        return Answer(self._combined(self.combine(outcomes), outcomes))

    def at_the_deadline(self) -> Outcome | None:
        """Make what an answer can be made of once the deadline has ended the job. Returns: None if that is nothing.

        Raises: InferenceFailedError.
        """
        parts = [part for part in self.parts if part.was_read]
        if self.combine_some is None or not parts:
            return None
        self._inferred = perf_counter_ns()
        try:
            for part in parts:
                part.result = self.model.task.decode(part.encoding, part.outputs)
                part.decoded = perf_counter_ns()
            return self._combined_some()
        except Exception as error:  # of a kernel, as in Unit.run
            raise InferenceFailedError from error

    def _combined_some(self) -> Outcome:
        assert self.combine_some is not None, "without it no item is left out"
        outcomes = [part.outcome(self.submitted) if part.decoded else None for part in self.parts]
        self.is_partial = None in outcomes
        return self._combined(self.combine_some(outcomes), [outcome for outcome in outcomes if outcome])

    def _combined(self, result: Any, outcomes: list[Outcome]) -> Outcome:  # of whichever combination
        now = perf_counter_ns()
        stages = Stages(
            queue=self._began - self.submitted,
            tokenization=self._encoded - self._began,
            inference=sum([outcome.stages.inference for outcome in outcomes]),
            inference_wall=self._inferred - self._encoded,
            postprocess=now - self._inferred,
            total=now - self.submitted,
            submitted=self.submitted,
            encoded=self._encoded,
            inferred=self._inferred,
        )
        return Outcome(result, add_up_usage([outcome.usage for outcome in outcomes]), stages)

    def _next_stage(self, units: list[Unit]) -> list[Unit]:
        self._left = len(units)
        return units

    def _was_last(self) -> bool:
        """Count down the units of the stage. Returns: whether this was the last of them."""
        with self._lock:
            self._left -= 1
            return self._left == 0


def _invalid(place: str, error: base.UnsupportedInputError) -> InvalidRequestError:
    if not error.field:
        return InvalidRequestError(_at(place, error))
    return InvalidRequestError(str(error), errors=[InvalidField(field=error.field, message=error.text)])


def _at(place: str, error: Exception) -> str:
    return f"{place}: {error}" if place else str(error)
