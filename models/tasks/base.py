"""What a task is: the one contract that training, export checks and serving share.

A task turns an input into unpadded windows (`encode`), and the model's outputs over these windows into
an answer (`decode`). What lies between is a forward pass that this package knows nothing of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.errors import InputError

Metrics = dict[str, float]
"""Percentages, and counts under `n`."""

TaskName = Literal["qa", "classify", "similarity"]
Precision = Literal["int8", "fp32"]
MAX_WINDOW_TOKENS = 384

Outputs = tuple[NDArray[np.float32], ...]
"""One window's model outputs in the order of `Task.output_names`, without a batch dimension."""


class InputTooLongError(InputError):
    """The input does not fit the model or the limit of windows; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Features:
    """One unpadded window, the unit of work. Shapes: (seq_len,) int64."""

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.input_ids)

    def feed(self, input_names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The window as a batch of one, for a graph with these inputs. Shapes: (1, seq_len)."""
        arrays = {
            "input_ids": self.input_ids,
            "attention_mask": np.ones_like(self.input_ids),
            "token_type_ids": self.token_type_ids,
        }
        return {name: arrays[name][None] for name in input_names}


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """Sentence encoders ship with truncation and padding switched on: texts would be cut in silence."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True, slots=True)
class Usage:
    """What an input cost in tokens.

    `tokens_in` counts the whole input once, special tokens included and before any truncation;
    `tokens_used` what the model read, summed over the windows.
    """

    tokens_in: int
    tokens_used: int
    windows: int
    truncated: bool


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
    """Encode, decode. Both are pure and may run on any thread."""

    @property
    def output_names(self) -> Sequence[str]: ...

    def encode(self, item: InputT) -> EncodingT:
        """Raises: InputTooLongError."""
        ...

    def decode(self, encoding: EncodingT, outputs: Sequence[Outputs]) -> ResultT:
        """`outputs` holds one entry for each window, in order."""
        ...
