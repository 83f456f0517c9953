"""What holds of every kernel for any text whatever; `make torture` tries many more of them."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from models.tasks.answers import Answer
from models.tasks.base import Features, InputTooLongError, Outputs, UnsupportedInputError
from models.tasks.classification import Classification, ClassificationInput
from models.tasks.entities import Aggregation, EntitiesInput, EntityRecognition
from models.tasks.qa import QAEncoding, QAInput, QuestionAnswering
from models.tasks.rerank import Reranking, RerankInput
from models.tasks.similarity import EmbeddingInput, SentenceEmbedding, cosines
from models.tasks.text.words import align

KINDS = ("wordpiece", "byte_level", "unigram")
HARD = (
    "e\u0301\u0323 \u00e9 \u200d👩🏽\u200d💻🇩🇪🇩 \U000e0067 שלום \u202eabc\u202c \0\x00 \r\n \n\r \u00ad\u2060 "
    "\ufdfa \u0130 \ufb01 漢字かな 한\u1112\u1161\u11ab ๗ก็กำ क्षि [SEP] </s> <s> ##a ▁ \u3000\u00a0\u2028 "
    "\ufeff \U0010ffff 1,000.5 don't re-use ..."
)
characters = st.sampled_from(sorted(set(HARD))) | st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=80) | st.lists(st.sampled_from(HARD.split(" ")), max_size=30).map(" ".join)
seeds = st.integers(0, 2**32 - 1)
REFUSALS = (InputTooLongError, UnsupportedInputError)
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    from tests.conftest import byte_level_bpe, word_piece  # the kinds that checkpoints of the tests have

    pieces = [("<unk>", 0.0), ("▁", -2.0), *((letter, -4.0) for letter in "abcdefghij"), ("▁re", -3.0), ("don", -3.0)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    return dict(zip(KINDS, (word_piece(), byte_level_bpe(), unigram), strict=True))


def outputs_for(windows: Sequence[Features], seed: int, *shape: int) -> list[Outputs]:
    """Random logits for each window, of a few values only, so that there are ties. Shapes: (seq_len, *shape)."""
    random = np.random.default_rng(seed)
    return [(random.integers(-4, 5, size=(len(window), *shape)).astype(np.float32),) for window in windows]


def span_outputs(windows: Sequence[Features], seed: int) -> list[Outputs]:
    random = np.random.default_rng(seed)
    return [tuple(random.integers(-4, 5, size=(2, len(window))).astype(np.float32)) for window in windows]


def brute_force(encoding: QAEncoding, outputs: Sequence[Outputs]) -> list[Answer]:
    """Find the answers as the definition says: every span of every window, the best first, without overlaps."""
    item, places = encoding.item, encoding.places
    logits: dict[tuple[int, int], np.float32] = {}
    for window, (start_logits, end_logits) in zip(encoding.windows, outputs, strict=True):
        for first in range(window.length):
            for last in range(first, min(first + item.max_answer_tokens, window.length)):
                logit = start_logits[window.position + first] + end_logits[window.position + last]
                span = (window.first + first, window.first + last)
                logits[span] = max(logit, logits.get(span, logit))
    total = sum(math.exp(logit) for logit in logits.values())
    answers: list[Answer] = []
    taken: set[int] = set()
    for (first, last), logit in sorted(logits.items(), key=lambda entry: (-entry[1], entry[0])):
        if len(answers) == item.top_k:
            break
        if not taken.isdisjoint(range(first, last + 1)):
            continue
        start, end = places[first][0], places[last][1]
        text = item.context[start:end]
        begin = start + len(text) - len(text.lstrip())
        stop = begin + len(text.strip())
        if begin < stop:
            begin, stop = align(item.context, begin, stop, to_words=item.align_to_words)
            answers.append(Answer(item.context[begin:stop], begin, stop, math.exp(logit) / total))
        start, end = min(start, begin), max(end, stop)
        taken.update(range(first, last + 1))
        taken.update(token for token, (left, right) in enumerate(places) if left < end and right > start)
    return answers


@pytest.mark.parametrize("kind", KINDS)
@given(
    question=texts.filter(str.strip),
    context=texts,
    seed=seeds,
    top_k=st.integers(1, 8),
    longest=st.integers(1, 12),
    doc_stride=st.integers(0, 20),
    words=st.booleans(),
)
@example(question="who?", context="a\u0301" * 40, seed=1, top_k=8, longest=3, doc_stride=4, words=False)
@example(question="who?", context="\0 \0" * 20, seed=1, top_k=8, longest=3, doc_stride=4, words=True)
def test_answers_are_those_of_the_definition(
    tokenizers: dict[str, Tokenizer],
    kind: str,
    question: str,
    context: str,
    seed: int,
    top_k: int,
    longest: int,
    doc_stride: int,
    words: bool,
) -> None:
    task = QuestionAnswering(tokenizers[kind], max_length=48)
    item = QAInput(question, context, doc_stride, top_k, max_answer_tokens=longest, align_to_words=words)
    try:
        encoding = task.encode(item)
    except REFUSALS:
        return
    assert {token for window in encoding.windows for token in covered(window.first, window.length)} == set(
        range(len(encoding.places))
    )
    assert all(len(window) <= task.max_length for window in encoding.windows)
    outputs = span_outputs(encoding.windows, seed)
    answers = task.decode(encoding, outputs).answers
    expected = brute_force(encoding, outputs)
    assert [(answer.start, answer.end) for answer in answers] == [(answer.start, answer.end) for answer in expected]
    assert [answer.score for answer in answers] == pytest.approx([answer.score for answer in expected], rel=1e-4)
    for answer in answers:
        assert answer.text == context[answer.start : answer.end] == answer.text.strip() != ""
    assert all(left.score >= right.score for left, right in pairwise(answers))
    in_order = sorted(answers, key=lambda answer: answer.start)
    assert all(left.end <= right.start for left, right in pairwise(in_order))


def covered(first: int, length: int) -> range:
    return range(first, first + length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aggregation", ["none", "simple", "first", "average", "max"])
@given(text=texts, seed=seeds, stride=st.none() | st.integers(0, 10))
def test_entities_are_spans_of_the_text_in_its_order(
    tokenizers: dict[str, Tokenizer], kind: str, aggregation: Aggregation, text: str, seed: int, stride: int | None
) -> None:
    task = EntityRecognition(tokenizers[kind], LABELS, max_length=24)
    try:
        encoding = task.encode(EntitiesInput(text, aggregation=aggregation, stride=stride))
    except UnsupportedInputError:
        return
    assert {token for window in encoding.windows for token in covered(window.first, window.length)} == set(
        range(len(encoding.offsets))
    )
    entities = task.decode(encoding, outputs_for(encoding.windows, seed, len(LABELS))).entities
    kinds = set(LABELS) if aggregation == "none" else {"PER", "LOC"}
    for entity in entities:
        assert entity.text == text[entity.start : entity.end]
        assert entity.label in kinds
        assert 0 <= entity.score <= 1
    assert all(left.start <= right.start for left, right in pairwise(entities))
    if len(encoding.windows) > 1:
        assert all(left.end <= right.start or left.end == left.start for left, right in pairwise(entities))


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts, pair=st.none() | texts, seed=seeds, labels=st.integers(2, 5))
def test_labels_are_probabilities_best_first_whatever_the_text(
    tokenizers: dict[str, Tokenizer], kind: str, text: str, pair: str | None, seed: int, labels: int
) -> None:
    names = [f"label {number}" for number in range(labels)]
    task = Classification(tokenizers[kind], names, max_length=32)
    try:
        encoding = task.encode(ClassificationInput(text, pair, top_k=labels, on_overflow="window"))
    except REFUSALS:
        return
    random = np.random.default_rng(seed)
    outputs = [(random.normal(scale=9, size=labels).astype(np.float32),) for _ in encoding.windows]
    scores = [label.score for label in task.decode(encoding, outputs).labels]
    assert sum(scores) == pytest.approx(1)
    assert all(left >= right >= 0 for left, right in pairwise(scores))
    assert sum(len(window) for window in encoding.windows) == encoding.usage.tokens_used


def embed(task: SentenceEmbedding, text: str) -> NDArray[np.float32]:
    """Embed a text by the counts of its tokens, which have no direction where there are none."""
    encoding = task.encode(EmbeddingInput(text, on_overflow="window"))
    vectors = [
        np.bincount(window.input_ids % 16, minlength=16).astype(np.float32) + 1e-3 for window in encoding.windows
    ]
    return task.decode(encoding, [(vector,) for vector in vectors])


@pytest.mark.parametrize("kind", KINDS)
@given(text=texts, other=texts)
def test_similarity_is_symmetric_and_a_cosine(
    tokenizers: dict[str, Tokenizer], kind: str, text: str, other: str
) -> None:
    task = SentenceEmbedding(tokenizers[kind], max_length=16)
    try:
        vector, other_vector = embed(task, text), embed(task, other)
    except UnsupportedInputError:
        return
    [there], [back] = cosines(vector, [other_vector]), cosines(other_vector, [vector])
    assert there == back
    assert -1 <= there <= 1
    assert cosines(vector, [vector]) == pytest.approx([1])


@pytest.mark.parametrize("kind", KINDS)
@given(query=texts, document=texts, seed=seeds)
def test_a_document_counts_by_its_best_window(
    tokenizers: dict[str, Tokenizer], kind: str, query: str, document: str, seed: int
) -> None:
    task = Reranking(tokenizers[kind], max_length=32)
    try:
        encoding = task.encode(RerankInput(query, document))
    except REFUSALS:
        return
    logits = np.random.default_rng(seed).normal(scale=20, size=len(encoding.windows)).astype(np.float32)
    relevance = task.decode(encoding, [(logits[window : window + 1],) for window in range(len(logits))])
    assert relevance.logit == logits.max()
    assert 0 <= relevance.score <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["a", "é", "漢", "\u0301", "\u00ad", "👨\u200d", "1,", "\0"])
def test_a_word_of_a_megabyte_is_read_or_refused(tokenizers: dict[str, Tokenizer], kind: str, word: str) -> None:
    context = word * (1_000_000 // len(word.encode()))
    task = QuestionAnswering(tokenizers[kind], max_length=384, max_windows=200)
    if len(tokenizers[kind].encode(context)) > 200 * 384:
        with pytest.raises(InputTooLongError, match="200 windows"):
            task.encode(QAInput("who?", context))
        return
    encoding = task.encode(QAInput("who?", context))
    answers = task.decode(encoding, span_outputs(encoding.windows, 0)).answers
    assert all(answer.text == context[answer.start : answer.end] for answer in answers)


READ_ANYTHING: dict[str, Callable[[Tokenizer, str], object]] = {
    "qa": lambda tokenizer, text: QuestionAnswering(tokenizer).encode(QAInput("who?", text)),
    "entities": lambda tokenizer, text: EntityRecognition(tokenizer, LABELS).encode(EntitiesInput(text)),
    "classification": lambda tokenizer, text: Classification(tokenizer, ["a", "b"]).encode(ClassificationInput(text)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", READ_ANYTHING)
@given(text=st.text(st.characters(exclude_categories=["Cs"], min_codepoint=0x80), max_size=300))
def test_any_text_is_read_unless_nothing_is_left_of_it(
    tokenizers: dict[str, Tokenizer], kind: str, task: str, text: str
) -> None:
    tokenizer = tokenizers[kind]
    if tokenizer.encode(text).ids:
        assert READ_ANYTHING[task](tokenizer, text)
    elif task != "qa":  # whose question is left
        with pytest.raises(UnsupportedInputError, match="leaves nothing of this text"):
            READ_ANYTHING[task](tokenizer, text)
