"""Answers questions by spans of a context: windows in, spans out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from models.tasks.answers import Answer, ContextResult, GoldenAnswer, QAResult, agreement, drift, recorded
from models.tasks.base import (
    MAX_WINDOW_TOKENS,
    NOTHING_LEFT,
    Features,
    InputTooLongError,
    Outputs,
    TaskSpec,
    UnsupportedInputError,
    Usage,
    unknown_id,
    without_limits,
)
from models.tasks.directory.files import CONFIG
from models.tasks.directory.model import ModelDirectory, max_tokens
from models.tasks.directory.overrides import OVERRIDES
from models.tasks.directory.thresholds import BY_TOKENS, NEVER, THRESHOLD, Thresholds, read_thresholds
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings, load_tokenizer, read_settings
from models.tasks.text import passages
from models.tasks.text.pieces import PIECE, tokens_over
from models.tasks.text.words import align

NO_ENDS = np.full(MAX_WINDOW_TOKENS, -np.inf, dtype=np.float32)
NULL_POSITION = 0  # the first token ([CLS], <s>) stands for "no answer", as in SQuAD 2.0


@dataclass(frozen=True, slots=True)
class QAInput:
    """A question over a context.

    `doc_stride` is the overlap of neighbouring windows in tokens. No answer cuts a character in two, and, with
    `align_to_words`, no word.
    """

    question: str
    context: str
    doc_stride: int = 128
    top_k: int = 1
    max_answer_tokens: int = 30
    allow_no_answer: bool = False
    align_to_words: bool = True

    @property
    def characters(self) -> int:
        """Allows an estimate of the tokens before the texts are tokenized."""
        return len(self.question) + len(self.context)


@dataclass(frozen=True, slots=True)
class ContextInput(QAInput):
    """A question over one of several contexts: its result is a ContextResult, for `merge_contexts`."""


@dataclass(frozen=True, slots=True)
class Window(Features):
    """A window whose positions [position, position + length) hold the context tokens [first, first + length)."""

    position: int
    first: int
    length: int


@dataclass(frozen=True, slots=True)
class QAEncoding:
    """`places` are the context tokens' (start, end) in code points."""

    item: QAInput
    windows: tuple[Window, ...]
    usage: Usage
    places: Sequence[tuple[int, int]]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """`places` as an array. Shape: (context tokens, 2)."""
        return np.array(self.places, dtype=np.int64).reshape(-1, 2)


class QuestionAnswering:
    """The task over one tokenizer.

    `thresholds` are what the null logit must exceed the best span's logit by. Subtracting it from the null logit
    before the softmax makes "the null wins" and "`no_answer_score` exceeds the best answer's score" the same statement.
    """

    output_names = ("start_logits", "end_logits")

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int = MAX_WINDOW_TOKENS,
        thresholds: Thresholds = NEVER,
        max_windows: int | None = None,
        settings: TokenizerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.tokenizer = without_limits(tokenizer)
        self.unknown_id = unknown_id(tokenizer)
        self.max_length = min(max_length, MAX_WINDOW_TOKENS)
        self.thresholds = thresholds
        self.max_windows = max_windows
        self.settings = settings

    def encode(self, item: QAInput) -> QAEncoding:
        """Tokenize once, then slice the context into overlapping windows around the question.

        The tokenizer's own post-processor lays out the pair, so BERT and RoBERTa kinds need no case here.

        Raises: InputTooLongError if the question leaves no room for context, or the windows are too many;
        UnsupportedInputError if the model cannot tell that there is no answer, or nothing is left of the texts.
        """
        if item.allow_no_answer and not self.abstains:
            raise UnsupportedInputError(
                f"this model has no threshold for 'no answer': set no_answer_threshold in its {CONFIG} or {OVERRIDES} "
                "(0 is the usual rule for a model trained on SQuAD 2), or do not ask for allow_no_answer "
                "(handle_impossible_answer under /hf)"
            )
        pair = self._tokenize(item)
        tokens, sequences = pair.ids, pair.sequence_ids
        ids = np.array(tokens, dtype=np.int64)
        type_ids = np.array(pair.type_ids, dtype=np.int64) if self.settings.token_types else np.zeros_like(ids)
        context = 0 if self.settings.context_first else 1  # its number in the pair
        begin = sequences.index(context) if context in sequences else len(ids)
        end = begin + sequences.count(context)

        frame = len(ids) - (end - begin)
        room = self.max_length - frame
        if room < 1:
            raise InputTooLongError(
                f"the question leaves no room for context: it takes {frame} of the model's "
                f"{self.max_length} tokens; shorten the question"
            )
        firsts = window_starts(end - begin, room, item.doc_stride)
        if self.max_windows is not None and len(firsts) > self.max_windows:
            raise InputTooLongError(
                f"the context needs {len(firsts)} windows and the limit is {self.max_windows}; "
                "shorten the context or lower doc_stride"
            )

        if self.settings.truncation_side == "left":
            places = [(max(end - skipped - room, begin), end - skipped) for skipped in firsts]
        else:
            places = [(begin + skipped, min(begin + skipped + room, end)) for skipped in firsts]
        windows = tuple([_window(ids, type_ids, place, (begin, end)) for place in places])
        usage = Usage(
            tokens_in=len(ids),
            tokens_used=sum([len(window.input_ids) for window in windows]),
            windows=len(windows),
            truncated=False,
            unknown_tokens=tokens.count(self.unknown_id),
        )
        return QAEncoding(item, windows, usage, pair.offsets[begin:end])

    def _tokenize(self, item: QAInput) -> Encoding:
        """Tokenize both texts as a pair, in the order that the model reads.

        Raises: InputTooLongError as soon as it is known; UnsupportedInputError if nothing is left of the texts.
        """
        texts = (item.context, item.question) if self.settings.context_first else (item.question, item.context)
        most = math.inf if self.max_windows is None else self.max_windows * self.max_length
        if item.characters > PIECE:
            for text in texts:
                if tokens := tokens_over(self.tokenizer, text, most):
                    raise self._too_long(f"at least {tokens}")
        # `encode` would hold Python's lock for as long as it runs; `encode_batch` lets go of it.
        pair = self.tokenizer.encode_batch([texts])[0]
        if not pair.ids:
            raise UnsupportedInputError(NOTHING_LEFT)
        if len(pair) > most:
            raise self._too_long(len(pair))
        return pair

    def _too_long(self, tokens: int | str) -> InputTooLongError:
        return InputTooLongError(
            f"question and context take {tokens} tokens, more than {self.max_windows} windows of {self.max_length} "
            "hold; shorten the context"
        )

    def decode(self, encoding: QAEncoding, outputs: Sequence[Outputs]) -> QAResult:
        """Find the best spans over all windows. `outputs`: (start_logits, end_logits), each (seq_len,)."""
        item, places = encoding.item, encoding.places
        if not places:
            no_answer_score = 1.0 if self.abstains else None
            if isinstance(item, ContextInput):
                null = None if no_answer_score is None else math.inf
                return ContextResult((), no_answer_score, (), -math.inf, null)
            return QAResult((), no_answer_score)
        spans = span_logits(encoding, outputs)
        total = normalizer = log_sum_exp(spans)
        null = None
        if (threshold := threshold_of(self.thresholds, len(places))) is not None:
            null = null_logit(outputs) - threshold
            normalizer = add_exponents(total, null)
        if not math.isfinite(normalizer):
            raise ValueError("the model's logits are not numbers")

        answers: list[Answer] = []
        logits: list[float] = []
        while len(answers) < item.top_k:
            first, extra = divmod(int(spans.argmax()), spans.shape[1])
            logit = float(spans[first, extra])
            if not math.isfinite(logit):
                break
            start, end = places[first][0], places[first + extra][1]
            answer = _answer(item, start, end, logit - normalizer)
            if answer.text:  # a byte-level token may be a space alone
                answers.append(answer)
                logits.append(logit)
                if len(answers) == item.top_k:
                    break
            # Several tokens may stand for one character or word: what overlaps is told by characters.
            start, end = min(start, answer.start), max(end, answer.end)
            offsets = encoding.offsets
            _mask_overlaps(
                spans,
                min(first, int(np.searchsorted(offsets[:, 1], start, side="right"))),
                max(first + extra, int(np.searchsorted(offsets[:, 0], end, side="left")) - 1),
            )

        no_answer_score = None if null is None else math.exp(null - normalizer)
        if isinstance(item, ContextInput):
            return ContextResult(tuple(answers), no_answer_score, tuple(logits), total, null)
        return result_of(answers, no_answer_score, abstains=item.allow_no_answer)

    @property
    def abstains(self) -> bool:
        """Whether the model was trained to say that there is no answer."""
        return self.thresholds != NEVER


def threshold_of(thresholds: Thresholds, tokens: int) -> float | None:
    """Compute by how many logits the null must lead for a context of so many tokens.

    Between two points it runs straight over the logarithm of the tokens; beyond the first and the last it stays.
    """
    threshold, points = thresholds
    if not points:
        return threshold
    counts, logits = zip(*points, strict=True)
    return float(np.interp(math.log(max(tokens, 1)), [math.log(count) for count in counts], logits))


def result_of(answers: Sequence[Answer], no_answer_score: float | None, *, abstains: bool) -> QAResult:
    """Leave the answers out where "no answer" wins and may be said."""
    if abstains and no_answer_score is not None and answers and no_answer_score > answers[0].score:
        answers = ()
    return QAResult(tuple(answers), no_answer_score)


def add_exponents(logit: float, other: float) -> float:
    """Add two numbers that are given by their logarithms; -inf is zero."""
    greater, lesser = max(logit, other), min(logit, other)
    return greater if lesser == -math.inf else greater + math.log1p(math.exp(lesser - greater))


def build(directory: ModelDirectory, _: Sequence[str] = (), max_windows: int | None = None) -> QuestionAnswering:
    """Build the task of a model's directory. Raises: BundleError."""
    thresholds = directory.overrides.thresholds or read_thresholds(directory.config, directory.path / CONFIG)
    tokenizer = load_tokenizer(directory.path)
    return QuestionAnswering(
        tokenizer,
        max_length=max_tokens(directory),
        thresholds=thresholds,
        max_windows=max_windows,
        settings=read_settings(directory.path, tokenizer),
    )


def _golden_input(question: str, context: str) -> QAInput:
    """Ask for what the model says, whatever a word is: manifests were recorded before answers were aligned."""
    return QAInput(question, context, align_to_words=False)


SPEC = TaskSpec(
    name="qa",
    architectures=("ForQuestionAnswering",),
    override_keys=(THRESHOLD, BY_TOKENS),
    signatures=(dict.fromkeys(QuestionAnswering.output_names, 2),),
    figure="f1",
    graph_outputs=QuestionAnswering.output_names,
    token_outputs=frozenset(QuestionAnswering.output_names),
    warm_up=QAInput("Who?", "Nobody."),
    golden_inputs=(
        _golden_input("Who built the lighthouse?", passages.LIGHTHOUSE),
        _golden_input("How was the lamp lit before 1902?", passages.LIGHTHOUSE),
        _golden_input("Who opened the bakery in 1949?", passages.BAKERY),
        _golden_input("Why did salmon return to the river?", passages.RIVER),
        _golden_input("Below which temperature did the resistance vanish?", passages.LAB),
        _golden_input("What caused the outage?", passages.SERVER),
        _golden_input("When did the last keeper leave the lighthouse?", passages.CHARTER),
    ),
    record_type=GoldenAnswer,
    record=lambda item, result: recorded(item.question, item.context, result),
    replay=lambda golden: _golden_input(golden.question, golden.context),
    drift=drift,
    max_drift=0.05,  # of a probability; another CPU with VNNI drifts by less than 0.001 (assumption: float rounding)
    agreement=agreement,
    build=build,
)


def _window(
    ids: NDArray[np.int64], type_ids: NDArray[np.int64], place: tuple[int, int], context: tuple[int, int]
) -> Window:
    """Make the window of the context tokens at `place`, with all around the context. Positions: [from, to)."""
    (first, last), (begin, end) = place, context
    if place != context:
        ids = np.concatenate([ids[:begin], ids[first:last], ids[end:]])
        type_ids = np.concatenate([type_ids[:begin], type_ids[first:last], type_ids[end:]])
    return Window(ids, type_ids, position=begin, first=first - begin, length=last - first)


def window_starts(context_tokens: int, room: int, doc_stride: int) -> range:
    """Returns: the first token of each window; neighbours share `doc_stride` tokens, or half a window if it is less."""
    step = room - doc_stride if doc_stride < room else (room + 1) // 2
    return range(0, max(context_tokens - room, 0) + step, step)


def span_logits(encoding: QAEncoding, outputs: Sequence[Outputs]) -> NDArray[np.float32]:
    """Add start and end logit of every valid span; one that several windows hold keeps its best logit.

    Returns: (context tokens, longest answer); [i, j] is the span of tokens i to i + j inclusive, and
    -inf marks what is no span.
    """
    tokens = len(encoding.places)
    longest = min(encoding.item.max_answer_tokens, tokens, MAX_WINDOW_TOKENS)
    spans: NDArray[np.float32] | None = None
    for window, (start_logits, end_logits) in zip(encoding.windows, outputs, strict=True):
        block = _window_spans(window, start_logits, end_logits, longest)
        if len(block) == tokens:  # it is the only window
            return block
        if spans is None:
            spans = np.full((tokens, longest), -np.inf, dtype=np.float32)
        merged = spans[window.first : window.first + window.length]
        np.maximum(merged, block, out=merged)
    assert spans is not None
    return spans


def _window_spans(
    window: Window, start_logits: NDArray[np.float32], end_logits: NDArray[np.float32], longest: int
) -> NDArray[np.float32]:
    """Add start and end logit of every valid span of a window. Returns: (its context tokens, longest answer)."""
    held = slice(window.position, window.position + window.length)
    ends = np.concatenate([end_logits[held], NO_ENDS[: longest - 1]])
    # Row i begins at the ith logit: what sliding_window_view makes, at a tenth of its cost.
    ends_of_rows: NDArray[np.float32] = np.ndarray((window.length, longest), np.float32, ends, strides=2 * ends.strides)
    return start_logits[held, None] + ends_of_rows


def null_logit(outputs: Sequence[Outputs]) -> float:
    """Take the least null logit over the windows: one window that holds the answer refutes all the others."""
    return min((float(start[NULL_POSITION] + end[NULL_POSITION]) for start, end in outputs))


def log_sum_exp(logits: NDArray[np.float32]) -> float:
    """Sum over (rows, columns), a block of rows at a time: the longest texts have 100 MB of spans."""
    top = float(logits.max())
    total = sum([float(np.exp(logits[row : row + 4096] - top).sum()) for row in range(0, len(logits), 4096)])
    return top + math.log(total) if total > 0 else math.nan


def _answer(item: QAInput, start: int, end: int, log_probability: float) -> Answer:
    """Take the text of a span, without the space that byte-level tokenizers count to a word, and with all that its
    normalizer has stripped of its last character.
    """
    text = item.context[start:end]
    start += len(text) - len(text.lstrip())
    end = start + len(text.strip())
    if start < end and not _stands_apart(item.context, start, end):
        start, end = align(item.context, start, end, to_words=item.align_to_words)
    return Answer(item.context[start:end], start, end, math.exp(log_probability))


def _stands_apart(context: str, start: int, end: int) -> bool:
    """Tell, without a look at what Unicode says of each character, whether a span stands between spaces.

    Then it cuts neither a character nor a word; so does one that ends the sentence, unless in a number.
    """
    before, after = context[start - 1 : start], context[end : end + 1]
    ends = not after or after == " " or (after in ",." and not context[end - 1].isdigit())
    return ends and (start == 0 or before == " ")


def _mask_overlaps(spans: NDArray[np.float32], first: int, last: int) -> None:
    spans[first : last + 1] = -np.inf
    for row in range(max(first - spans.shape[1] + 1, 0), first):
        spans[row, first - row :] = -np.inf
