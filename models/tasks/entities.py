"""Finds named entities in a text: windows in, labelled spans out, as transformers' pipeline does."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat
from tokenizers import Tokenizer

from models.tasks.base import (
    MAX_WINDOW_TOKENS,
    NO_TOKEN,
    NOTHING_LEFT,
    Features,
    GoldenRecord,
    InputTooLongError,
    Outputs,
    TaskSpec,
    UnsupportedInputError,
    Usage,
    unknown_id,
    without_limits,
)
from models.tasks.directory.model import ModelDirectory, architectures, label_names, max_tokens
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings, load_tokenizer, read_settings
from models.tasks.qa import window_starts
from models.tasks.text import passages
from models.tasks.text.label_scheme import Scheme
from models.tasks.text.windows import OnOverflow, readable, too_long, too_many
from models.tasks.text.words import align

Aggregation = Literal["none", "simple", "first", "average", "max"]
"""How tokens become entities, by transformers' names: not at all; neighbours with the same label; or first the tokens
of a word, which take the label of its first token, of their mean, or of the most certain one.
"""

OUTSIDE = "O"  # the label of what is in no entity
DEFAULT_STRIDE = 128  # tokens that neighbouring windows share
LANGUAGE_MODELS = ("ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel")  # whose logits look like labels'


@dataclass(frozen=True, slots=True)
class EntitiesInput:
    """A text.

    `stride` is the overlap of neighbouring windows in tokens; by default 128, or half of a window where that is less.
    `words`: whether entities tell how the tokenizer spells them, and where their token stands.
    """

    text: str
    on_overflow: OnOverflow = "window"
    aggregation: Aggregation = "simple"
    stride: int | None = None
    ignore_labels: tuple[str, ...] = (OUTSIDE,)
    words: bool = False

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the text is tokenized."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Window(Features):
    """A window whose positions [position, position + length) hold the text's tokens [first, first + length)."""

    position: int
    first: int
    length: int


@dataclass(frozen=True, slots=True)
class EntitiesEncoding:
    """`offsets` are the text's tokens' (start, end) in code points. Shape: (tokens, 2)."""

    item: EntitiesInput
    windows: tuple[Window, ...]
    usage: Usage
    offsets: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entity:
    """A span of the text in code points; `score` is the mean probability of its tokens' labels."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class SpelledEntity(Entity):
    """`word` is what the tokenizer makes of its tokens; `index` the place of an only token in its window."""

    word: str
    index: int | None


@dataclass(frozen=True, slots=True)
class EntitiesResult:
    """Entities in the order of the text."""

    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A token, or a word of several, with one label. `tokens`: their places among the window's tokens."""

    label: str
    score: np.float32
    tokens: range


class EntityRecognition:
    """The task over one tokenizer. `labels`: as the model's configuration names them, prefixes included."""

    output_names = ("logits",)

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        *,
        max_length: int = MAX_WINDOW_TOKENS,
        max_windows: int | None = None,
        settings: TokenizerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.unknown_id = unknown_id(tokenizer)
        self.labels = tuple(labels)
        self.max_length = max_length
        self.max_windows = max_windows
        self.settings = settings
        self.scheme = Scheme(labels)

    def encode(self, item: EntitiesInput) -> EntitiesEncoding:
        """Tokenize once, then slice the text into overlapping windows.

        Raises: InputTooLongError; UnsupportedInputError if windows would share all of their tokens, or there is none.
        """
        limits = (self.max_length, item.on_overflow, self.max_windows)
        kept = readable(self.tokenizer, item.text, *limits, self.unknown_id, self.settings)
        # `encode` would hold Python's lock for as long as it runs; `encode_batch` lets go of it.
        encoding = self.tokenizer.encode_batch([kept.text])[0]
        if not encoding.ids:
            raise UnsupportedInputError(NOTHING_LEFT)
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = np.array(encoding.type_ids, dtype=np.int64) if self.settings.token_types else np.zeros_like(ids)
        of_text = np.array(encoding.special_tokens_mask) == 0
        begin = int(of_text.argmax()) if of_text.any() else len(ids)
        end = begin + int(of_text.sum())
        windows = [
            Window(
                input_ids=np.concatenate([ids[:begin], ids[tokens], ids[end:]]),
                token_type_ids=np.concatenate([type_ids[:begin], type_ids[tokens], type_ids[end:]]),
                position=begin,
                first=tokens.start - begin,
                length=tokens.stop - tokens.start,
            )
            for tokens in self._slices(item, begin, end, len(ids))
        ]
        tokens = len(ids) + kept.left_out
        usage = Usage(
            tokens_in=tokens,
            tokens_used=sum(len(window) for window in windows),
            windows=len(windows),
            truncated=len(windows) == 1 and len(windows[0]) < tokens,
            unknown_tokens=int(np.count_nonzero(ids == self.unknown_id)) + kept.left_out_unknown,
        )
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[begin:end] + kept.start
        return EntitiesEncoding(item, tuple(windows), usage, offsets)

    def _slices(self, item: EntitiesInput, begin: int, end: int, tokens: int) -> Sequence[slice]:
        """Choose what of the text's tokens [begin, end) each window holds. Raises: as `encode`."""
        room, from_right = self.max_length - (tokens - (end - begin)), self.settings.truncation_side == "left"
        if room < 1:
            raise InputTooLongError(
                f"the model's limit of {self.max_length} tokens is used up by special tokens, leaving no room for text"
            )
        if item.stride is not None and item.stride >= room:
            raise UnsupportedInputError(
                f"windows hold {room} tokens of the text and cannot share {item.stride} of them; lower stride"
            )
        if tokens <= self.max_length:
            return [slice(begin, end)]
        if item.on_overflow == "error":
            raise too_long(tokens, self.max_length)
        if item.on_overflow == "truncate":
            return [slice(end - room, end) if from_right else slice(begin, begin + room)]
        stride = min(DEFAULT_STRIDE, room // 2) if item.stride is None else item.stride
        firsts = window_starts(end - begin, room, stride)
        if self.max_windows is not None and len(firsts) > self.max_windows:
            raise too_many(len(firsts), self.max_windows)
        if from_right:
            return [slice(max(end - skipped - room, begin), end - skipped) for skipped in firsts]
        return [slice(begin + skipped, min(begin + skipped + room, end)) for skipped in firsts]

    def decode(self, encoding: EntitiesEncoding, outputs: Sequence[Outputs]) -> EntitiesResult:
        """Find the entities of every window, and keep of overlapping ones the longer. `outputs`: (logits,), each
        (seq_len, labels).
        """
        item, entities = encoding.item, list[Entity]()
        for window, (logits,) in zip(encoding.windows, outputs, strict=True):
            if logits.shape != (len(window), len(self.labels)):
                raise ValueError(
                    f"the model gives {logits.shape[-1]} logits for a token and its configuration {len(self.labels)} "
                    "labels"
                )
            if not np.isfinite(logits).all():
                raise ValueError("the model's logits are not numbers")
            scores = softmax(logits[window.position : window.position + window.length])
            entities += [
                self._entity(encoding, window, label, parts)
                for label, parts in self._groups(encoding, window, scores)
                if label not in item.ignore_labels
            ]
        return EntitiesResult(tuple(entities if len(outputs) == 1 else without_overlaps(entities)))

    def _groups(
        self, encoding: EntitiesEncoding, window: Window, scores: NDArray[np.float32]
    ) -> list[tuple[str, list[Part]]]:
        """Label the tokens or the words of a window, and put together what is one entity."""
        aggregation = encoding.item.aggregation
        if aggregation in ("none", "simple"):
            words = [range(token, token + 1) for token in range(len(scores))]
        else:
            words = self._words(encoding, window)
        parts = [self._labelled(scores, word, aggregation) for word in words]
        if aggregation == "none":
            return [(part.label, [part]) for part in parts]
        groups: list[list[Part]] = []
        for part in parts:
            if groups and self.scheme.continues(groups[-1][-1].label, part.label):
                groups[-1].append(part)
            else:
                groups.append([part])
        return [(group[0].label.split("-", 1)[-1], group) for group in groups]

    def _labelled(self, scores: NDArray[np.float32], word: range, aggregation: Aggregation) -> Part:
        rows = scores[word.start : word.stop]
        if aggregation == "average":
            row = rows.mean(axis=0)
        elif aggregation == "max":
            row = rows[rows.max(axis=1).argmax()]
        else:
            row = rows[0]
        best = int(row.argmax())
        return Part(self.labels[best], row[best], word)

    def _words(self, encoding: EntitiesEncoding, window: Window) -> list[range]:
        """Split a window's tokens into words as the pipeline does: where the vocabulary marks tokens that continue a
        word, those that are spelled otherwise than the text do; elsewhere those without a space before them.
        """
        text, offsets = encoding.item.text, encoding.offsets[window.first : window.first + window.length].tolist()
        marks_words = bool(getattr(self.tokenizer.model, "continuing_subword_prefix", None))
        firsts: list[int] = []
        for token, (start, end) in enumerate(offsets):
            number = int(window.input_ids[window.position + token])
            if number == self.unknown_id != NO_TOKEN:
                continues = False
            elif marks_words:
                continues = len(self._spelled(number)) != end - start
            else:
                continues = start > 0 and " " not in text[start - 1 : start + 1]
            if not (continues and firsts):
                firsts.append(token)
        return [range(first, last) for first, last in pairwise([*firsts, len(offsets)])]

    def _entity(self, encoding: EntitiesEncoding, window: Window, label: str, parts: Sequence[Part]) -> Entity:
        tokens = range(parts[0].tokens.start, parts[-1].tokens.stop)
        start = int(encoding.offsets[window.first + tokens.start, 0])
        end = int(encoding.offsets[window.first + tokens.stop - 1, 1])
        score = float(np.mean([part.score for part in parts]))
        aggregation = encoding.item.aggregation
        if not encoding.item.words and aggregation != "none" and start < end:  # the pipeline cuts characters
            start, end = align(encoding.item.text, start, end, to_words=False)
        text = encoding.item.text[start:end]
        if not encoding.item.words:
            return Entity(label, text, start, end, score)
        spelled = [[self._token(encoding, window, token) for token in part.tokens] for part in parts]
        if aggregation == "none":
            return SpelledEntity(label, text, start, end, score, spelled[0][0], window.position + tokens.start)
        words = [word for [word] in spelled] if aggregation == "simple" else [self._joined(word) for word in spelled]
        return SpelledEntity(label, text, start, end, score, self._joined(words), None)

    def _token(self, encoding: EntitiesEncoding, window: Window, token: int) -> str:
        """Spell a token as the vocabulary does, or as the text where the vocabulary does not have it."""
        number = int(window.input_ids[window.position + token])
        if number == self.unknown_id:
            start, end = encoding.offsets[window.first + token].tolist()
            return encoding.item.text[start:end]
        return self._spelled(number)

    def _spelled(self, number: int) -> str:
        return self.tokenizer.id_to_token(number) or ""

    def _joined(self, tokens: list[str]) -> str:
        decoder = self.tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the probabilities of each row, in single precision as transformers does, by which ties are told alike."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Keep of entities that overlap, since two windows hold them, the longer, or of equally long ones the likelier."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity.start):
        if not kept or not kept[-1].start <= entity.start < kept[-1].end:
            kept.append(entity)
        elif (entity.end - entity.start, entity.score) > (kept[-1].end - kept[-1].start, kept[-1].score):
            kept[-1] = entity
    return kept


def build(directory: ModelDirectory, _: Sequence[str] = (), max_windows: int | None = None) -> EntityRecognition:
    """Build the task of a model's directory. Raises: BundleError."""
    tokenizer = load_tokenizer(directory.path)
    return EntityRecognition(
        tokenizer,
        label_names(directory),
        max_length=max_tokens(directory),
        max_windows=max_windows,
        settings=read_settings(directory.path, tokenizer),
    )


def accepts(config: dict[str, Any]) -> bool:  # config.json, whatever its authors wrote
    """Tell a model that labels tokens from a language model, whose graph has an output of the same shape."""
    return not any(name.endswith(LANGUAGE_MODELS) for name in architectures(config))


class GoldenTokens(GoldenRecord):
    """A text, and the likeliest label of each of its tokens, with its probability, when the bundle was exported."""

    text: str
    labels: list[str]
    scores: list[FiniteFloat]


def _golden_input(text: str) -> EntitiesInput:
    return EntitiesInput(text, "truncate", "none", ignore_labels=())


def record(item: EntitiesInput, result: EntitiesResult) -> GoldenTokens:
    """Round the probabilities, as the manifest keeps them."""
    labels = [entity.label for entity in result.entities]
    return GoldenTokens(text=item.text, labels=labels, scores=[round(entity.score, 6) for entity in result.entities])


def drift(recorded: GoldenTokens, result: EntitiesResult) -> float:
    """Returns: the largest change of a token's probability, as far as can be told where another label is the likeliest
    now: the recorded one has at most what that leaves, and no more than that.
    """
    if len(result.entities) != len(recorded.labels):
        return 1.0
    changes = [
        abs(score - token.score) if label == token.label else max(0.0, score - min(token.score, 1 - token.score))
        for label, score, token in zip(recorded.labels, recorded.scores, result.entities, strict=True)
    ]
    return max(changes, default=0.0)


SPEC = TaskSpec(
    name="entities",
    architectures=("ForTokenClassification",),
    accepts=accepts,
    signatures=({"logits": 3},),
    figure="f1",
    graph_outputs=EntityRecognition.output_names,
    token_outputs=frozenset(EntityRecognition.output_names),
    warm_up=EntitiesInput("Nobody."),
    golden_inputs=tuple(
        _golden_input(text)
        for text in (passages.LIGHTHOUSE, passages.BAKERY, passages.RIVER, passages.LAB, passages.SERVER)
    ),
    record_type=GoldenTokens,
    record=record,
    replay=lambda recorded: _golden_input(recorded.text),
    drift=drift,
    max_drift=0.05,  # of a probability, as for labels of whole texts
    build=build,
)
