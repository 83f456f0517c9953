"""Defines what a task is: the one contract that training, export checks and serving share.

A task turns an input into unpadded windows (`encode`), and the model's outputs over these windows into
an answer (`decode`). What lies between is a forward pass that this package knows nothing of. What else
is known of a task stands in its `TaskSpec`, beside its kernel.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from models.tasks.directory.model import ModelDirectory
from models.tasks.errors import InputError

Metrics = dict[str, float]
"""Percentages, and counts under `n`."""

TaskName = str
"""A key of `SPECS` (build.py). What comes from outside is checked against it."""

MAX_WINDOW_TOKENS = 384

Outputs = tuple[NDArray[np.float32], ...]
"""One window's model outputs in the order of `Task.output_names`, without a batch dimension."""

Run = Callable[["Features"], Outputs]
"""A forward pass over one unpadded window."""

Count = Annotated[int, Field(ge=0)]


class InputTooLongError(InputError):
    """The input does not fit the model or the limit of windows; the text says what to change."""


class UnsupportedInputError(InputError):
    """The input asks for what this model cannot do; the text says what to change.

    `field`: what asks for it, where all inputs of a request have the same; the text goes on from there.
    """

    def __init__(self, text: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {text}" if field else text)
        self.field, self.text = field, text


@dataclass(frozen=True, slots=True)
class Features:
    """One unpadded window, the unit of work. Shapes: (seq_len,) int64."""

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """Switch off truncation and padding, with which sentence encoders ship: texts would be cut in silence."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True, slots=True)
class Usage:
    """What an input cost in tokens.

    `tokens_in` counts the whole input once, special tokens included and before any truncation;
    `tokens_used` what the model read, summed over the windows. Of `tokens_in`, `unknown_tokens` stand for what the
    vocabulary does not have: the model reads all of them as the same token.
    """

    tokens_in: int
    tokens_used: int
    windows: int
    truncated: bool
    unknown_tokens: int = 0


NOTHING_LEFT = "the tokenizer leaves nothing of this text; send one with letters"
"""What UnsupportedInputError says where a tokenizer without special tokens gives no token at all."""

NO_TOKEN = -1  # the id of no token


def unknown_id(tokenizer: Tokenizer) -> int:
    """Find the token for what the vocabulary does not have; NO_TOKEN for a tokenizer that falls back to bytes."""
    model = tokenizer.model
    if not hasattr(model, "unk_token"):  # Unigram, which tells only by its file
        number = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return number if isinstance(number, int) else NO_TOKEN
    number = None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
    return number if isinstance(number, int) else NO_TOKEN


class Encoding(Protocol):
    """An encoded input: its windows in order, and what it cost."""

    @property
    def windows(self) -> Sequence[Features]: ...

    @property
    def usage(self) -> Usage: ...


InputT = TypeVar("InputT", contravariant=True)
EncodingT = TypeVar("EncodingT", bound=Encoding)
ResultT = TypeVar("ResultT", covariant=True)


class Task(Protocol[InputT, EncodingT, ResultT]):
    """Encodes and decodes. Both are pure and may run on any thread.

    `max_windows`: the most that an input may take; None for no limit.
    """

    max_windows: int | None

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_length(self) -> int:
        """Tokens of a window, at most."""
        ...

    @property
    def output_names(self) -> Sequence[str]:
        """What `decode` reads of the graph's outputs, in this order."""
        ...

    def encode(self, item: InputT) -> EncodingT:
        """Raises: InputTooLongError, UnsupportedInputError."""
        ...

    def decode(self, encoding: EncodingT, outputs: Sequence[Outputs]) -> ResultT:
        """`outputs` holds one entry for each window, in order."""
        ...


AnyTask = Task[Any, Any, Any]
"""A task of whichever inputs and results: no type leads from a task's name to its own."""


def answerer(task: Task[InputT, EncodingT, ResultT], run: Run) -> Callable[[InputT], ResultT]:
    """Make the function from an input to its result: it encodes, runs each window and decodes."""

    def answer(item: InputT) -> ResultT:
        encoding = task.encode(item)
        return task.decode(encoding, [run(window) for window in encoding.windows])

    return answer


class Record(BaseModel):
    """A part of manifest.json, where no key is unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GoldenRecord(Record):
    """An input of a task, and what a bundle gave to it when it was exported."""


ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")
RecordT = TypeVar("RecordT", bound=GoldenRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec(Generic[ItemT, AnswerT, RecordT]):
    """What is known of a task beside its kernel.

    * `architectures`: endings of the names in config.json's `architectures`; `accepts` tells by its other keys, where
      tasks share an architecture or a signature, whose a model is.
    * `files`: what lies beside a model for this task alone, whatever its architecture; `override_keys`: what
      halfdepth.json may say for this task alone.
    * `signatures`: what a graph must give to be one for the task, with the number of each output's axes; one of them
      is enough.
    * `figure`: the metric that decides between models, in points of 100.
    * `graph_outputs`: what an exported graph gives, in order; `token_outputs` are those with a value for each token.
    * `warm_up`: an input that any vocabulary can read.
    * `record`: an input and its result as the manifest keeps them; `replay` is the way back to the input.
    * `drift`: how far a result is from the recorded one; more than `max_drift` is another model.
    * `agreement`: how much of a result another one keeps, from 0 to 1; by default 1 if its drift is within `max_drift`.
    * `overlap`: where results are compared with each other, as in a search: the share of each one's nearest neighbours
      that other results of the same inputs keep, from 0 to 1; None where there are too few to tell.
    * `build`: a directory, the outputs of its graph and the most windows that an input may take, to the task.
      Raises: BundleError.
    """

    name: TaskName
    architectures: tuple[str, ...]
    accepts: Callable[[dict[str, Any]], bool] = lambda _: True
    files: tuple[str, ...] = ()
    override_keys: tuple[str, ...] = ()
    signatures: tuple[Mapping[str, int], ...]
    figure: str
    graph_outputs: tuple[str, ...]
    token_outputs: frozenset[str]
    warm_up: ItemT
    golden_inputs: Sequence[ItemT]
    record_type: type[RecordT]
    record: Callable[[ItemT, AnswerT], RecordT]
    replay: Callable[[RecordT], ItemT]
    drift: Callable[[RecordT, AnswerT], float]
    max_drift: float
    agreement: Callable[[AnswerT, AnswerT], float] | None = None
    overlap: Callable[[Sequence[AnswerT], Sequence[AnswerT]], float | None] | None = None
    build: Callable[[ModelDirectory, Sequence[str], int | None], Task[ItemT, Any, AnswerT]]

    def kept(self, item: ItemT, result: AnswerT, other: AnswerT) -> float:
        """Returns: how much of the result of an input another result keeps, from 0 to 1."""
        if self.agreement is not None:
            return self.agreement(result, other)
        return float(self.drift(self.record(item, result), other) <= self.max_drift)


AnySpec = TaskSpec[Any, Any, Any]
"""A spec of whichever task, as above."""
