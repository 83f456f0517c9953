"""Classifies a text or a pair of texts: windows in, labels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat
from tokenizers import Tokenizer

from models.tasks.base import (
    MAX_WINDOW_TOKENS,
    Features,
    GoldenRecord,
    Outputs,
    TaskSpec,
    Usage,
    unknown_id,
    without_limits,
)
from models.tasks.directory.files import CONFIG, BundleError
from models.tasks.directory.model import ModelDirectory, label_names, max_tokens
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings, load_tokenizer, read_settings
from models.tasks.text import passages
from models.tasks.text.windows import OnOverflow, encode_text

ALL_LABELS = 2**31 - 1  # the most that a client may ask for: more than any model has
MULTI_LABEL = "multi_label_classification"  # the `problem_type` of config.json where several labels may hold


@dataclass(frozen=True, slots=True)
class ClassificationInput:
    """A text, or two that belong together, such as a premise and a hypothesis."""

    text: str
    text_pair: str | None = None
    top_k: int = 1
    on_overflow: OnOverflow = "truncate"

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the text is tokenized."""
        return len(self.text) + len(self.text_pair or "")


@dataclass(frozen=True, slots=True)
class ClassificationEncoding:
    """The windows of an input, and what it cost."""

    item: ClassificationInput
    windows: tuple[Features, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Label:
    """`score` is a probability: among all labels, or of only this label where several may hold at once."""

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
        settings: TokenizerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.unknown_id = unknown_id(tokenizer)
        self.labels = tuple(labels)
        self.multi_label = multi_label
        self.max_length = max_length
        self.max_windows = max_windows
        self.settings = settings

    def encode(self, item: ClassificationInput) -> ClassificationEncoding:
        """Raises: InputTooLongError."""
        encoding = encode_text(
            self.tokenizer,
            item.text,
            item.text_pair,
            max_length=self.max_length,
            on_overflow=item.on_overflow,
            max_windows=self.max_windows,
            unknown=self.unknown_id,
            settings=self.settings,
        )
        return ClassificationEncoding(item, encoding.windows, encoding.usage)

    def decode(self, encoding: ClassificationEncoding, outputs: Sequence[Outputs]) -> ClassificationResult:
        """Average the probabilities over the windows. `outputs`: (logits,), each (labels,)."""
        logits = np.stack([logits for (logits,) in outputs])
        if logits.shape[1:] != (len(self.labels),):
            raise ValueError(f"the model gives {logits[0].size} logits and its configuration {len(self.labels)} labels")
        if not np.isfinite(logits).all():
            raise ValueError("the model's logits are not numbers")
        scores = self.probabilities(logits).mean(axis=0)
        best = np.argsort(-scores, kind="stable")[: encoding.item.top_k]
        return ClassificationResult(tuple(Label(self.labels[index], float(scores[index])) for index in best))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Take the softmax over the labels, or the sigmoid of each. Shapes: (windows, labels)."""
        exact = logits.astype(np.float64)
        if self.multi_label:
            return np.exp(-np.logaddexp(0.0, -exact))
        return np.exp(exact - np.logaddexp.reduce(exact, axis=-1, keepdims=True))


def build(directory: ModelDirectory, _: Sequence[str] = (), max_windows: int | None = None) -> Classification:
    """Build the task of a model's directory. Raises: BundleError."""
    labels = read_labels(directory)
    tokenizer = load_tokenizer(directory.path)
    return Classification(
        tokenizer,
        labels,
        multi_label=directory.config.get("problem_type") == MULTI_LABEL,
        max_length=max_tokens(directory),
        max_windows=max_windows,
        settings=read_settings(directory.path, tokenizer),
    )


def read_labels(directory: ModelDirectory) -> list[str]:
    """Read the labels of a classifier in the order of their numbers. Raises: BundleError, also if it is none."""
    file, labels = directory.path / CONFIG, label_names(directory)
    if not has_labels(directory.config):
        raise BundleError(
            f"{file}: the model has one label, so it gives a score and classifies nothing; it is a reranker, "
            "whose task is rerank"
        )
    if directory.config.get("problem_type") == "regression":
        raise BundleError(f"{file}: the model predicts {len(labels)} numbers, not labels; it cannot be served")
    return labels


def has_labels(config: dict[str, Any]) -> bool:  # config.json, whatever its authors wrote
    """Tell a model with labels, of which there may be only one that holds or not, from one whose only logit is a score.

    As for sentence-transformers, whose cross-encoders have one label, the number alone decides.
    """
    id2label = config.get("id2label")
    count = len(id2label) if isinstance(id2label, dict) else config.get("num_labels")
    return count != 1 or config.get("problem_type") == MULTI_LABEL


class GoldenLabels(GoldenRecord):
    """A text, or a pair, and the score that this bundle gave to each label when it was exported."""

    text: str
    text_pair: str | None
    labels: dict[str, FiniteFloat]


def record(item: ClassificationInput, result: ClassificationResult) -> GoldenLabels:
    """Round the scores of all labels, as the manifest keeps them."""
    labels = {label.label: round(label.score, 6) for label in result.labels}
    return GoldenLabels(text=item.text, text_pair=item.text_pair, labels=labels)


def drift(recorded: GoldenLabels, result: ClassificationResult) -> float:
    """Returns: the largest change of a label's probability."""
    scores = {label.label: label.score for label in result.labels}
    return max(abs(scores.get(label, 0.0) - score) for label, score in recorded.labels.items())


SPEC = TaskSpec(
    name="classify",
    architectures=("ForSequenceClassification",),
    accepts=has_labels,
    signatures=({"logits": 2},),
    figure="accuracy",
    graph_outputs=Classification.output_names,
    token_outputs=frozenset(),
    warm_up=ClassificationInput("Nobody."),
    golden_inputs=tuple(ClassificationInput(text, None, ALL_LABELS, "window") for text in passages.TEXTS),
    record_type=GoldenLabels,
    record=record,
    replay=lambda recorded: ClassificationInput(recorded.text, recorded.text_pair, ALL_LABELS, "window"),
    drift=drift,
    max_drift=0.05,  # of a probability, as for questions
    agreement=lambda result, other: float(result.labels[0].label == other.labels[0].label),
    build=build,
)
