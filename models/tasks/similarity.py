"""Sentence embeddings of unit length, and their cosine."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS, Outputs, without_limits
from models.tasks.texts import OnOverflow, TextEncoding, encode_text

POOLED = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class EmbeddingInput:
    """A text to embed."""

    text: str
    on_overflow: OnOverflow = "truncate"

    @property
    def characters(self) -> int:
        """For an estimate of the tokens before they are known."""
        return len(self.text)


class SentenceEmbedding:
    """The task over one tokenizer.

    `output_name` is the graph's output: our own graphs pool by themselves (`sentence_embedding`); of one that gives
    a vector for each token, the mean over the tokens is taken here.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        output_name: str = POOLED,
        max_length: int = MAX_WINDOW_TOKENS,
        max_windows: int | None = None,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.output_names = (output_name,)
        self.max_length = max_length
        self.max_windows = max_windows

    def encode(self, item: EmbeddingInput) -> TextEncoding:
        """Raises: InputTooLongError."""
        return encode_text(
            self.tokenizer,
            item.text,
            max_length=self.max_length,
            on_overflow=item.on_overflow,
            max_windows=self.max_windows,
        )

    def decode(self, encoding: TextEncoding, outputs: Sequence[Outputs]) -> NDArray[np.float32]:
        """The mean of the windows' embeddings, each weighted by its tokens, at unit length. Shape: (hidden_size,)."""
        pooled = [output if self.output_names[0] == POOLED else output.mean(axis=0) for (output,) in outputs]
        weights = [len(window) for window in encoding.windows]
        mean = np.average(np.stack([_unit(vector) for vector in pooled]), axis=0, weights=weights)
        return _unit(mean).astype(np.float32)


def cosines(source: NDArray[np.float32], targets: Sequence[NDArray[np.float32]]) -> list[float]:
    """Of one unit vector with others, each within [-1, 1]. Shapes: (hidden_size,)."""
    return [float(np.clip(np.dot(source, target), -1.0, 1.0)) for target in targets]


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if not 0 < length < np.inf:
        raise ValueError("the model's embedding has no direction")
    return exact / length
