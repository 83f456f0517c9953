"""Classification of a text or a pair of texts: windows in, labels out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS, Features, Outputs, Usage, without_limits
from models.tasks.texts import OnOverflow, encode_text


@dataclass(frozen=True, slots=True)
class ClassificationInput:
    """A text, or two that belong together, such as a premise and a hypothesis."""

    text: str
    text_pair: str | None = None
    top_k: int = 1
    on_overflow: OnOverflow = "truncate"

    @property
    def characters(self) -> int:
        """For an estimate of the tokens before they are known."""
        return len(self.text) + len(self.text_pair or "")


@dataclass(frozen=True, slots=True)
class ClassificationEncoding:
    """The windows of an input, and what it cost."""

    item: ClassificationInput
    windows: tuple[Features, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Label:
    """`score` is a probability: among all labels, or of this label alone where several may hold at once."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Labels, likeliest first."""

    labels: tuple[Label, ...]


class Classification:
    """The task over one tokenizer. `multi_label`: several labels may hold at once, each by its own sigmoid."""

    output_names = ("logits",)

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        multi_label: bool = False,
        max_length: int = MAX_WINDOW_TOKENS,
        max_windows: int | None = None,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.labels = tuple(labels)
        self.multi_label = multi_label
        self.max_length = min(max_length, MAX_WINDOW_TOKENS)
        self.max_windows = max_windows

    def encode(self, item: ClassificationInput) -> ClassificationEncoding:
        """Raises: InputTooLongError."""
        encoding = encode_text(
            self.tokenizer,
            item.text,
            item.text_pair,
            max_length=self.max_length,
            on_overflow=item.on_overflow,
            max_windows=self.max_windows,
        )
        return ClassificationEncoding(item, encoding.windows, encoding.usage)

    def decode(self, encoding: ClassificationEncoding, outputs: Sequence[Outputs]) -> ClassificationResult:
        """Probabilities averaged over the windows. `outputs`: (logits,), each (labels,)."""
        logits = np.stack([logits for (logits,) in outputs])
        if logits.shape[1:] != (len(self.labels),):
            raise ValueError(f"the model gives {logits[0].size} logits and its configuration {len(self.labels)} labels")
        if not np.isfinite(logits).all():
            raise ValueError("the model's logits are not numbers")
        scores = self.probabilities(logits).mean(axis=0)
        best = np.argsort(-scores, kind="stable")[: encoding.item.top_k]
        return ClassificationResult(tuple(Label(self.labels[index], float(scores[index])) for index in best))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax over the labels, or a sigmoid of each. Shapes: (windows, labels)."""
        exact = logits.astype(np.float64)
        if self.multi_label:
            return np.exp(-np.logaddexp(0.0, -exact))
        return np.exp(exact - np.logaddexp.reduce(exact, axis=-1, keepdims=True))
