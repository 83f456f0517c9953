"""Embeds sentences at unit length, prepared and pooled as the files of sentence-transformers say."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat
from tokenizers import Tokenizer

from models.tasks.base import (
    MAX_WINDOW_TOKENS,
    GoldenRecord,
    Outputs,
    TaskSpec,
    UnsupportedInputError,
    unknown_id,
    without_limits,
)
from models.tasks.directory.files import CONFIG, BundleError
from models.tasks.directory.model import ModelDirectory, max_tokens
from models.tasks.directory.overrides import OVERRIDES
from models.tasks.directory.sentences import (
    MODULES,
    POOLING_FOLDER,
    SETTINGS,
    TRANSFORMER_CONFIG,
    Activation,
    Dense,
    Head,
    Mode,
    Preparation,
    check_prompts,
    check_similarity,
    read_head,
    read_preparation,
    write_head,
    write_json,
)
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings, load_tokenizer, read_settings
from models.tasks.text import passages
from models.tasks.text.windows import OnOverflow, TextEncoding, encode_text

POOLED = "sentence_embedding"
STATES = "last_hidden_state"
TOKEN_OUTPUTS = (STATES, "token_embeddings")  # the first is transformers' name, the second optimum's
SIZES = "matryoshka_dimensions"  # in config.json: of shorter embeddings, as Kusupati et al. 2022, arXiv:2205.13147

NEIGHBOURS = 10  # that a search finds, where int8 is compared with float
ROWS = 512  # of cosines that are sorted at once

Vector = NDArray[np.floating]
POOLERS: dict[Mode, Callable[[Vector], Vector]] = {  # shape: (seq_len, hidden_size) to (hidden_size,)
    "cls": lambda states: states[0],
    "max": lambda states: states.max(axis=0),
    "mean": lambda states: states.mean(axis=0),
    "mean_sqrt_len_tokens": lambda states: states.sum(axis=0) / math.sqrt(len(states)),
    "weightedmean": lambda states: np.average(states, axis=0, weights=np.arange(1, len(states) + 1)),
    "lasttoken": lambda states: states[-1],
}
ACTIVATIONS: dict[Activation, Callable[[Vector], Vector]] = {
    "Identity": lambda values: values,
    "Tanh": np.tanh,
    "ReLU": lambda values: np.maximum(values, 0),
    "Sigmoid": lambda values: 1 / (1 + np.exp(-values)),
    "GELU": lambda values: values * (1 + np.vectorize(math.erf)(values / math.sqrt(2))) / 2,
}


@dataclass(frozen=True, slots=True)
class EmbeddingInput:
    """A text to embed.

    `prompt_name`: one of the model's own prompts, or None for its default. `dimensions`: of the embedding, one of the
    sizes that the model was trained for, or None for all.
    """

    text: str
    on_overflow: OnOverflow = "truncate"
    prompt_name: str | None = None
    dimensions: int | None = None

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the text is tokenized."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class EmbeddingEncoding(TextEncoding):
    """The windows of a text, and how much of its embedding is wanted."""

    dimensions: int | None


class SentenceEmbedding:
    """The task over one tokenizer.

    `output_name` is the graph's output: our own graphs pool by themselves (`sentence_embedding`); of one that gives
    a vector for each token, `head` says how they become one. `weights` reads those of its layers. `sizes`: of shorter
    embeddings that the model was trained for.

    Raises: BundleError, where a layer needs weights.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        output_name: str = POOLED,
        head: Head | None = None,
        weights: Callable[[Path], Mapping[str, Vector]] | None = None,
        preparation: Preparation | None = None,
        sizes: Sequence[int] = (),
        max_length: int = MAX_WINDOW_TOKENS,
        max_windows: int | None = None,
        settings: TokenizerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.unknown_id = unknown_id(tokenizer)
        self.output_names = (output_name,)
        self.head = head or Head()
        self.pool = pooler(self.head, weights)
        self.preparation = preparation or Preparation()
        self.sizes = tuple(sizes)
        self.max_length = max_length
        self.max_windows = max_windows
        self.settings = settings

    def encode(self, item: EmbeddingInput) -> EmbeddingEncoding:
        """Prepare and encode a text; its prompt is part of it. Raises: InputTooLongError, UnsupportedInputError."""
        prompts = self.preparation.prompts
        if item.prompt_name is not None and item.prompt_name not in prompts:
            remedy = f"name one of {', '.join(prompts)}" if prompts else "leave it out: the model has no prompts"
            raise UnsupportedInputError(f"is not a prompt of this model; {remedy}", field="prompt_name")
        if item.dimensions is not None and item.dimensions not in self.sizes:
            sizes = ", ".join(map(str, self.sizes))
            remedy = f"choose one of {sizes}" if sizes else "leave it out: the model's files name no other sizes"
            text = f"is not a size that this model was trained for; {remedy}"
            raise UnsupportedInputError(text, field="dimensions")
        encoding = encode_text(
            self.tokenizer,
            self.preparation.prepare(item.text, item.prompt_name),
            max_length=self.max_length,
            on_overflow=item.on_overflow,
            max_windows=self.max_windows,
            unknown=self.unknown_id,
            settings=self.settings,
        )
        return EmbeddingEncoding(encoding.windows, encoding.usage, item.dimensions)

    def decode(self, encoding: EmbeddingEncoding, outputs: Sequence[Outputs]) -> NDArray[np.float32]:
        """Average the windows' embeddings, weighted by their tokens, at unit length. Shape: (hidden_size,)."""
        pooled = [output if self.output_names[0] == POOLED else self.pool(output) for (output,) in outputs]
        weights = [len(window) for window in encoding.windows]
        mean = np.average(np.stack([_unit(vector) for vector in pooled]), axis=0, weights=weights)
        return _unit(_unit(mean)[: encoding.dimensions]).astype(np.float32)


def cosines(source: NDArray[np.float32], targets: Sequence[NDArray[np.float32]]) -> list[float]:
    """Compare a unit vector with others; each cosine is within [-1, 1]. Shapes: (hidden_size,)."""
    return [float(np.clip(np.dot(source, target), -1.0, 1.0)) for target in targets]


def build(directory: ModelDirectory, outputs: Sequence[str], max_windows: int | None = None) -> SentenceEmbedding:
    """Build the task of a model's directory. Raises: BundleError."""
    path, overrides = directory.path, directory.overrides
    names = (*TOKEN_OUTPUTS, POOLED) if overrides.pooling else (POOLED, *TOKEN_OUTPUTS)
    output = next((name for name in names if name in outputs), None)
    if output is None:
        names = (POOLED, *TOKEN_OUTPUTS)
        raise BundleError(f"the graph in {path} has none of the outputs {', '.join(names)}; export the bundle again")
    if overrides.pooling and output == POOLED:
        raise BundleError(f"{path / OVERRIDES}: the graph pools by itself; remove pooling")
    check_similarity(path, overrides)
    preparation = read_preparation(path)
    sizes = directory.config.get(SIZES) or []
    if not isinstance(sizes, list) or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise BundleError(f"{path / CONFIG}: {SIZES} must be a list of whole numbers; correct it")
    if output == POOLED:
        check_prompts(path, preparation)
        head = None
    elif directory.weights is None:
        head = known_head(directory, can_weigh=False)
    else:  # a checkpoint, of which sentence-transformers takes the mean if it has no files of its own
        head = read_head(path, overrides)
    tokenizer = load_tokenizer(path)
    return SentenceEmbedding(
        tokenizer,
        output_name=output,
        head=head,
        weights=directory.weights,
        preparation=preparation,
        sizes=sizes,
        max_length=max_tokens(directory, preparation.max_length),
        max_windows=max_windows,
        settings=read_settings(path, tokenizer),
    )


def known_head(directory: ModelDirectory, *, can_weigh: bool) -> Head:
    """Read how states become a vector. `can_weigh`: whether weights of layers can be read. Raises: BundleError."""
    head = read_head(directory.path, directory.overrides, can_weigh=can_weigh)
    if head is None:
        raise BundleError(
            f"{directory.path}: no file says how the states of the tokens become one vector (1_Pooling/config.json); "
            f'name it in {OVERRIDES}, as in {{"pooling": "mean"}}'
        )
    return head


def pooler(head: Head, weights: Callable[[Path], Mapping[str, Vector]] | None) -> Callable[[Vector], Vector]:
    """Make the function from a window's states to its vector. `weights`: reads those of a folder.

    Raises: BundleError.
    """
    layers = [_dense(layer, weights) if isinstance(layer, Dense) else _unit for layer in head.layers]

    def pool(states: Vector) -> Vector:
        vector: Vector = np.concatenate([POOLERS[mode](states) for mode in head.modes])
        for layer in layers:
            vector = layer(vector)
        return vector

    return pool


def _dense(layer: Dense, weights: Callable[[Path], Mapping[str, Vector]] | None) -> Callable[[Vector], Vector]:
    assert weights is not None, "checked when the head was read"
    tensors, activation = weights(layer.folder), ACTIVATIONS[layer.activation]
    matrix, bias = tensors["linear.weight"], tensors.get("linear.bias")

    def apply(vector: Vector) -> Vector:
        product = matrix @ vector
        return activation(product if bias is None else product + bias)

    return apply


def write_sentence_files(directory: Path, task: SentenceEmbedding, hidden_size: int, head: Head | None) -> None:
    """Write what sentence-transformers needs to make the same embeddings. `head`: None where nobody knows it."""
    preparation = task.preparation
    limits = {"max_seq_length": task.max_length, "do_lower_case": preparation.lower_case}
    write_json(directory / TRANSFORMER_CONFIG, limits)
    if preparation.prompts:
        prompts = {"prompts": preparation.prompts, "default_prompt_name": preparation.default_prompt_name}
        write_json(directory / SETTINGS, {**prompts, "similarity_fn_name": "cosine"})
    if head:
        write_head(directory, head, hidden_size)


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


def neighbour_overlap(vectors: Sequence[NDArray[np.float32]], others: Sequence[NDArray[np.float32]]) -> float | None:
    """Compare what a search for each text among the rest finds by `vectors` and by `others`, both of the same texts.

    Returns: the mean share of the ten nearest by cosine that are the same, whatever their order, from 0 to 1; None for
    eleven texts or fewer, which would all be found.
    """
    if len(vectors) <= NEIGHBOURS + 1:
        return None
    pairs = zip(_nearest(np.stack(vectors)), _nearest(np.stack(others)), strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / NEIGHBOURS for pair in pairs]))


def _nearest(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Find the ten nearest of each unit vector among the others; of equally near ones, the first. Shape: (10,)."""
    for start in range(0, len(vectors), ROWS):
        rows = np.arange(start, min(start + ROWS, len(vectors)))
        distances = -(vectors[rows] @ vectors.T)
        distances[rows - start, rows] = np.inf  # a text does not find itself
        yield from np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]


SPEC = TaskSpec(
    name="similarity",
    architectures=("Model",),  # an encoder without a head: BertModel, XLMRobertaModel, ModernBertModel
    files=(MODULES, f"{POOLING_FOLDER}/config.json"),
    override_keys=("pooling",),
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
    agreement=lambda vector, other: float(np.dot(vector, other)),  # both of unit length
    overlap=neighbour_overlap,
    build=build,
)


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if not 0 < length < np.inf:
        raise ValueError("the model's embedding has no direction")
    return exact / length
