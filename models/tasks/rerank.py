"""Scores how relevant a document is to a query: windows in, the score of the best one out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import FiniteFloat
from tokenizers import Tokenizer

from models.tasks.base import (
    MAX_WINDOW_TOKENS,
    GoldenRecord,
    Outputs,
    TaskSpec,
    unknown_id,
    without_limits,
)
from models.tasks.classification import has_labels
from models.tasks.directory.files import CONFIG, BundleError
from models.tasks.directory.model import ModelDirectory, max_tokens
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings, load_tokenizer, read_settings
from models.tasks.text import passages
from models.tasks.text.windows import OnOverflow, TextEncoding, encode_text

ACTIVATIONS = {"Sigmoid": True, "Identity": False}  # PyTorch's, and whether the score is a sigmoid


@dataclass(frozen=True, slots=True)
class RerankInput:
    """A query, and a document that may answer it."""

    query: str
    document: str
    on_overflow: OnOverflow = "window"

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the texts are tokenized."""
        return len(self.query) + len(self.document)


@dataclass(frozen=True, slots=True)
class Relevance:
    """`score` is what the model's configuration makes of the logit: a probability, or the logit itself."""

    score: float
    logit: float


class Reranking:
    """The task over one tokenizer. `sigmoid`: the score is the sigmoid of the logit."""

    output_names = ("logits",)

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        sigmoid: bool = True,
        max_length: int = MAX_WINDOW_TOKENS,
        max_windows: int | None = None,
        settings: TokenizerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.unknown_id = unknown_id(tokenizer)
        self.sigmoid = sigmoid
        self.max_length = max_length
        self.max_windows = max_windows
        self.settings = settings

    def encode(self, item: RerankInput) -> TextEncoding:
        """Raises: InputTooLongError."""
        return encode_text(
            self.tokenizer,
            item.query,
            item.document,
            max_length=self.max_length,
            on_overflow=item.on_overflow,
            max_windows=self.max_windows,
            unknown=self.unknown_id,
            settings=self.settings,
            whole_first=True,
        )

    def decode(self, _: TextEncoding, outputs: Sequence[Outputs]) -> Relevance:
        """Take the window that fits the query best. `outputs`: (logits,), each (1,)."""
        logits = np.stack([logits for (logits,) in outputs])
        if logits.shape[1:] != (1,):
            raise ValueError(f"the model gives {logits[0].size} logits, and its configuration has one label")
        if not np.isfinite(logits).all():
            raise ValueError("the model's logits are not numbers")
        logit = float(logits.max())
        return Relevance(sigmoid(logit) if self.sigmoid else logit, logit)


def sigmoid(logit: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -logit)))


def build(directory: ModelDirectory, _: Sequence[str] = (), max_windows: int | None = None) -> Reranking:
    """Build the task of a model's directory. Raises: BundleError."""
    check_score(directory)
    tokenizer = load_tokenizer(directory.path)
    return Reranking(
        tokenizer,
        sigmoid=has_sigmoid(directory),
        max_length=max_tokens(directory),
        max_windows=max_windows,
        settings=read_settings(directory.path, tokenizer),
    )


def check_score(directory: ModelDirectory) -> None:
    """Refuse a model with labels. Raises: BundleError."""
    if not is_score(directory.config):
        raise BundleError(
            f"{directory.path / CONFIG}: a reranker has one label, which is its score, and this model has others; "
            "its task is another"
        )


def is_score(config: dict[str, Any]) -> bool:  # config.json, whatever its authors wrote
    """Tell whether a model's only logit is a score."""
    return not has_labels(config)


def has_sigmoid(directory: ModelDirectory) -> bool:
    """Read what sentence-transformers makes of the logit: the sigmoid, where nothing else is said.

    Raises: BundleError.
    """
    settings, config = directory.config.get("sentence_transformers"), directory.config
    key, name = "sbert_ce_default_activation_function", config.get("sbert_ce_default_activation_function")
    if isinstance(settings, dict) and "activation_fn" in settings:
        key, name = "sentence_transformers.activation_fn", settings["activation_fn"]
    if name is None:
        return True
    kind = name.rpartition(".")[2] if isinstance(name, str) and name.startswith("torch.") else ""
    if kind not in ACTIVATIONS:
        raise BundleError(
            f"{directory.path / CONFIG}: {key} is {name!r}, and only torch's {' and '.join(ACTIVATIONS)} are served; "
            "correct it"
        )
    return ACTIVATIONS[kind]


class GoldenRelevance(GoldenRecord):
    """A query, a document, and the logit that this bundle gave to the two when it was exported."""

    query: str
    document: str
    logit: FiniteFloat


def record(item: RerankInput, result: Relevance) -> GoldenRelevance:
    """Round the logit, as the manifest keeps it."""
    return GoldenRelevance(query=item.query, document=item.document, logit=round(result.logit, 6))


def drift(recorded: GoldenRelevance, result: Relevance) -> float:
    """Returns: the change of the logit's sigmoid."""
    return abs(sigmoid(recorded.logit) - sigmoid(result.logit))


QUERY = "Who built the lighthouse on Grey Point?"

SPEC = TaskSpec(
    name="rerank",
    architectures=("ForSequenceClassification",),
    accepts=is_score,
    signatures=({"logits": 2},),
    figure="mrr@10",
    graph_outputs=Reranking.output_names,
    token_outputs=frozenset(),
    warm_up=RerankInput("Who?", "Nobody."),
    golden_inputs=(
        *(RerankInput(QUERY, text) for text in passages.TEXTS),
        RerankInput("Where do salmon live?", passages.RIVER),
        RerankInput("Who unlocks the café?", passages.BAKERY),
        RerankInput("When was traffic back to normal?", passages.SERVER),
    ),
    record_type=GoldenRelevance,
    record=record,
    replay=lambda recorded: RerankInput(recorded.query, recorded.document),
    drift=drift,
    max_drift=0.05,  # of a probability, as for labels
    build=build,
)
