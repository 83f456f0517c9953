"""Embeds sentences at unit length, and reads and writes the files of sentence-transformers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat
from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS, GoldenRecord, Outputs, TaskSpec, unknown_id, without_limits
from models.tasks.directory.files import BundleError, read_optional_json
from models.tasks.directory.model import ModelDirectory, max_tokens
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.text import passages
from models.tasks.text.windows import OnOverflow, TextEncoding, encode_text

POOLED = "sentence_embedding"
STATES = "last_hidden_state"
TOKEN_OUTPUTS = (STATES, "token_embeddings")  # the first is transformers' name, the second optimum's
SENTENCE_CONFIG = "sentence_bert_config.json"
POOLING_CONFIG = "1_Pooling/config.json"
MODULES = "modules.json"


@dataclass(frozen=True, slots=True)
class EmbeddingInput:
    """A text to embed."""

    text: str
    on_overflow: OnOverflow = "truncate"

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the text is tokenized."""
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
        self.unknown_id = unknown_id(tokenizer)
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
            unknown=self.unknown_id,
        )

    def decode(self, encoding: TextEncoding, outputs: Sequence[Outputs]) -> NDArray[np.float32]:
        """Average the windows' embeddings, weighted by their tokens, at unit length. Shape: (hidden_size,)."""
        pooled = [output if self.output_names[0] == POOLED else output.mean(axis=0) for (output,) in outputs]
        weights = [len(window) for window in encoding.windows]
        mean = np.average(np.stack([_unit(vector) for vector in pooled]), axis=0, weights=weights)
        return _unit(mean).astype(np.float32)


def cosines(source: NDArray[np.float32], targets: Sequence[NDArray[np.float32]]) -> list[float]:
    """Compare a unit vector with others; each cosine is within [-1, 1]. Shapes: (hidden_size,)."""
    return [float(np.clip(np.dot(source, target), -1.0, 1.0)) for target in targets]


def build(directory: ModelDirectory, outputs: Sequence[str], max_windows: int | None = None) -> SentenceEmbedding:
    """Build the task of a model's directory. Raises: BundleError."""
    path = directory.path
    output = next((name for name in (POOLED, *TOKEN_OUTPUTS) if name in outputs), None)
    if output is None:
        names = ", ".join((POOLED, *TOKEN_OUTPUTS))
        raise BundleError(f"the graph in {path} has none of the outputs {names}; export the bundle again")
    if output != POOLED:
        check_mean_pooling(path)
    limit = read_optional_json(path / SENTENCE_CONFIG).get("max_seq_length")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 3):
        raise BundleError(f"{path / SENTENCE_CONFIG}: max_seq_length must be a number of tokens; correct it")
    return SentenceEmbedding(
        load_tokenizer(path),
        output_name=output,
        max_length=max_tokens(directory, limit),
        max_windows=max_windows,
    )


def check_mean_pooling(path: Path) -> None:
    """Refuse what sentence-transformers would do beyond the mean: it cannot be done here. Raises: BundleError."""
    pooling = read_optional_json(path / POOLING_CONFIG)
    declared_modes = [
        key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on
    ]
    modes = {"mean", "mean_tokens"}  # the name of the mode in newer files, and in older ones
    unknown_modes = {str(mode) for mode in [*declared_modes, pooling.get("pooling_mode", "mean")]} - modes
    if unknown_modes:
        raise BundleError(
            f"{path / POOLING_CONFIG}: only mean pooling is served, and not {', '.join(sorted(unknown_modes))}"
        )
    if not (path / MODULES).exists():
        return
    try:
        kinds = {module["type"].rpartition(".")[2] for module in json.loads((path / MODULES).read_bytes())}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path / MODULES} is not a list of modules ({error!r}); restore it") from error
    if unserved_kinds := sorted(kinds - {"Transformer", "Pooling", "Normalize"}):
        raise BundleError(
            f"{path / MODULES} asks for {', '.join(unserved_kinds)}, which cannot be served; export the whole graph"
        )


def write_sentence_config(directory: Path, max_length: int) -> None:
    """Write how many tokens the model reads of a text."""
    _write_json(directory / SENTENCE_CONFIG, {"max_seq_length": max_length, "do_lower_case": False})


def write_sentence_configs(directory: Path, max_length: int, hidden_size: int) -> None:
    """Write all that sentence-transformers needs to load a mean-pooled model. `max_length`: in tokens."""
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    _write_json(directory / MODULES, modules)
    write_sentence_config(directory, max_length)
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    _write_json(directory / POOLING_CONFIG, pooling)


class GoldenEmbedding(GoldenRecord):
    """A text and the embedding, of unit length, that this bundle gave to it when it was exported."""

    text: str
    embedding: tuple[FiniteFloat, ...]


def record(item: EmbeddingInput, vector: NDArray[np.float32]) -> GoldenEmbedding:
    """Round the embedding, as the manifest keeps it."""
    return GoldenEmbedding(text=item.text, embedding=tuple(round(float(value), 6) for value in vector))


def drift(recorded: GoldenEmbedding, vector: NDArray[np.float32]) -> float:
    """Returns: 1 - cosine of the two embeddings."""
    expected = np.array(recorded.embedding)
    return max(1.0 - float(np.dot(vector, expected) / np.linalg.norm(expected)), 0.0)


SPEC = TaskSpec(
    name="similarity",
    architectures=("Model",),  # an encoder without a head: BertModel, XLMRobertaModel, ModernBertModel
    files=(MODULES, POOLING_CONFIG),
    signatures=({POOLED: 2}, *({name: 3} for name in TOKEN_OUTPUTS)),
    figure="spearman",
    graph_outputs=(STATES, POOLED),
    token_outputs=frozenset(TOKEN_OUTPUTS),
    warm_up=EmbeddingInput("Nobody."),
    golden_inputs=tuple(EmbeddingInput(text, "window") for text in passages.TEXTS),
    record_type=GoldenEmbedding,
    record=record,
    replay=lambda recorded: EmbeddingInput(recorded.text, "window"),
    drift=drift,
    max_drift=0.01,  # of a cosine
    build=build,
)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if not 0 < length < np.inf:
        raise ValueError("the model's embedding has no direction")
    return exact / length
