"""Encoding to windows, and decoding to spans."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from models.tasks.answers import Answer, ContextResult
from models.tasks.base import InputTooLongError, Outputs
from models.tasks.qa import (
    ContextInput,
    QAEncoding,
    QAInput,
    QuestionAnswering,
    null_logit,
    result_of,
    span_logits,
    threshold_of,
    window_starts,
)

POINTS = ((128, -1.0), (256, 1.0), (1024, 2.0))
QUESTION = "Who wrote the first program?"
CONTEXT = "Ada Lovelace wrote the first program in 1843."


def logits_for(encoding: QAEncoding, spans: dict[str, float], null: float = -50.0) -> list[Outputs]:
    """Outputs that give each of these texts of the context its logit, in every window that holds it."""
    outputs: list[Outputs] = []
    for window in encoding.windows:
        start, end = np.full((2, len(window)), -20.0, dtype=np.float32)
        start[0] = end[0] = null / 2
        held = encoding.offsets[window.first : window.first + window.length]
        for text, logit in spans.items():
            begin = encoding.item.context.rindex(text)
            starts = np.flatnonzero((held[:, 0] <= begin) & (begin < held[:, 1]))
            ends = np.flatnonzero(held[:, 1] == begin + len(text))
            if len(starts) and len(ends):
                start[window.position + starts[0]] = logit / 2
                end[window.position + ends[0]] = logit / 2
        outputs.append((start, end))
    return outputs


def words(count: int) -> str:
    return " ".join(["alpha", "beta", "gamma", "delta"][i % 4] for i in range(count))


def test_a_short_context_is_one_window_laid_out_by_the_tokenizers_own_post_processor(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(QUESTION, CONTEXT))
    (window,) = encoding.windows
    pair = bert_tokenizer.encode(QUESTION, CONTEXT)
    assert window.input_ids.tolist() == pair.ids
    assert window.token_type_ids.tolist() == pair.type_ids
    assert encoding.usage.tokens_in == encoding.usage.tokens_used == len(pair.ids)
    assert encoding.usage.windows == 1
    assert not encoding.usage.truncated


def test_truncation_and_padding_that_the_tokenizer_ships_with_are_switched_off(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    assert len(task.encode(QAInput("Who?", "Ada")).windows[0]) < 16  # its padding
    assert len(task.encode(QAInput("Who?", words(100))).windows[0]) > 100  # its truncation


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
def test_windows_hold_every_context_token_and_share_doc_stride(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    task = QuestionAnswering(tokenizer, max_length=40)
    encoding = task.encode(QAInput("Who?", words(200), doc_stride=10))
    whole = tokenizer.encode("Who?", words(200))
    context_ids = [i for i, sequence in zip(whole.ids, whole.sequence_ids, strict=True) if sequence == 1]
    assert len(encoding.windows) > 3
    assert all(len(window) <= 40 for window in encoding.windows)
    for window in encoding.windows:
        held = window.input_ids[window.position : window.position + window.length].tolist()
        assert held == context_ids[window.first : window.first + window.length]
    for left, right in pairwise(encoding.windows):
        assert left.first + left.length - right.first == 10
    last = encoding.windows[-1]
    assert last.first + last.length == len(context_ids)
    assert encoding.usage.tokens_in == len(whole.ids)
    assert encoding.usage.tokens_used == sum(len(window) for window in encoding.windows)


@given(tokens=st.integers(0, 500), room=st.integers(1, 80), doc_stride=st.integers(0, 400))
def test_window_starts_cover_all_tokens_and_no_window_is_idle(tokens: int, room: int, doc_stride: int) -> None:
    starts = list(window_starts(tokens, room, doc_stride))
    assert starts[0] == 0
    assert starts[-1] + room >= tokens
    assert all(left < right <= left + room for left, right in pairwise(starts))
    assert len(starts) == 1 or starts[-2] + room < tokens


def test_a_question_that_leaves_no_room_is_refused_with_what_to_do(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=32)
    with pytest.raises(InputTooLongError, match=r"no room for context.*shorten the question"):
        task.encode(QAInput(words(60), CONTEXT))
    assert task.encode(QAInput(words(28), words(3))).usage.windows == 3  # there is room for one token


def test_more_windows_than_the_limit_are_refused(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40, max_windows=3)
    with pytest.raises(InputTooLongError, match=r"the limit is 3; shorten the context or lower doc_stride$"):
        task.encode(QAInput("Who?", words(110), doc_stride=10))


def test_the_best_span_comes_back_with_its_offsets_and_probability(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(QUESTION, CONTEXT))
    result = task.decode(encoding, logits_for(encoding, {"Ada Lovelace": 30.0}))
    (answer,) = result.answers
    assert (answer.text, answer.start, answer.end) == ("Ada Lovelace", 0, 12)
    assert answer.score == pytest.approx(1.0, abs=1e-4)
    assert result.no_answer_score is None


def test_offsets_are_code_points_past_accents_and_characters_outside_the_basic_plane(bert_tokenizer: Tokenizer) -> None:
    context = "🙂🙂 é " + CONTEXT
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(QUESTION, context))
    (answer,) = task.decode(encoding, logits_for(encoding, {"1843": 30.0})).answers
    assert context[answer.start : answer.end] == answer.text == "1843"


def test_byte_level_answers_carry_no_leading_space(roberta_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(roberta_tokenizer)
    encoding = task.encode(QAInput(QUESTION, CONTEXT))
    (answer,) = task.decode(encoding, logits_for(encoding, {" wrote the": 30.0})).answers
    assert answer.text == "wrote the"
    assert CONTEXT[answer.start : answer.end] == "wrote the"


def test_scores_are_the_softmax_over_all_valid_spans(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput("Who?", "alpha beta gamma", top_k=3, max_answer_tokens=2))
    assert len(encoding.offsets) == 3
    start = np.zeros(len(encoding.windows[0]), dtype=np.float32)
    end = start.copy()
    at = encoding.windows[0].position
    start[at : at + 3] = [1.0, 2.0, 0.5]
    end[at : at + 3] = [0.0, 1.0, 3.0]
    # Spans of at most two tokens: (0,0) (0,1) (1,1) (1,2) (2,2).
    logits = [1.0, 2.0, 3.0, 5.0, 3.5]
    total = sum(math.exp(logit) for logit in logits)
    result = task.decode(encoding, [(start, end)])
    assert [answer.text for answer in result.answers] == ["beta gamma", "alpha"]
    assert [answer.score for answer in result.answers] == pytest.approx([math.exp(5) / total, math.exp(1) / total])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 100), longest=st.integers(1, 40))
def test_answers_never_overlap_and_scores_fall(bert_tokenizer: Tokenizer, seed: int, top_k: int, longest: int) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=30)
    encoding = task.encode(QAInput("Who?", words(60), top_k=top_k, max_answer_tokens=longest, doc_stride=5))
    draw = np.random.default_rng(seed)
    outputs = [tuple(draw.normal(size=(2, len(window))).astype(np.float32)) for window in encoding.windows]
    answers = task.decode(encoding, outputs).answers
    assert 1 <= len(answers) <= top_k
    assert sum(answer.score for answer in answers) <= 1 + 1e-5
    assert all(left.score >= right.score for left, right in pairwise(answers))
    in_order = sorted(answers, key=lambda answer: answer.start)
    assert all(left.end <= right.start for left, right in pairwise(in_order))
    assert all(answer.text == encoding.item.context[answer.start : answer.end] for answer in answers)


def test_a_span_in_two_windows_is_counted_once_with_its_best_logit(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=12)
    encoding = task.encode(QAInput("Who?", words(12), doc_stride=3, max_answer_tokens=1))
    first, second, *_ = encoding.windows
    shared = second.first
    outputs = [tuple(np.full((2, len(window)), -30.0, dtype=np.float32)) for window in encoding.windows]
    for (start, end), window, logit in ((outputs[0], first, 1.0), (outputs[1], second, 2.0)):
        start[window.position + shared - window.first] = logit
        end[window.position + shared - window.first] = logit
    (answer,) = task.decode(encoding, outputs).answers
    assert answer.start == encoding.offsets[shared, 0]
    assert answer.score == pytest.approx(1.0)  # counted twice, the weaker copy would take e^2 / (e^2 + e^4) away
    assert span_logits(encoding, outputs).dtype == np.float32  # the longest texts have 100 MB of them


def test_no_answer_wins_exactly_when_its_score_exceeds_the_best_answers(bert_tokenizer: Tokenizer) -> None:
    item = QAInput(QUESTION, CONTEXT, allow_no_answer=True)
    for threshold, answered in ((1.0, False), (3.0, True)):
        task = QuestionAnswering(bert_tokenizer, thresholds=(threshold, ()))
        encoding = task.encode(item)
        outputs = logits_for(encoding, {"Ada Lovelace": 10.0}, null=12.0)  # the null leads by 2
        result = task.decode(encoding, outputs)
        assert bool(result.answers) is answered
        assert result.no_answer_score is not None
        assert (result.no_answer_score < 0.5) is answered


def test_the_null_must_lead_by_the_threshold_of_the_contexts_length(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, thresholds=(1.0, ((40, 1.0), (80, 3.0))))
    for context, answered in ((CONTEXT, False), (CONTEXT + " And so on." * 40, True)):
        encoding = task.encode(QAInput(QUESTION, context, allow_no_answer=True))
        assert len(encoding.windows) == 1
        result = task.decode(encoding, logits_for(encoding, {"Ada Lovelace": 10.0}, null=12.0))
        assert bool(result.answers) is answered
    one = task.encode(ContextInput(QUESTION, CONTEXT))
    merged = task.decode(one, logits_for(one, {"Ada Lovelace": 30.0}, null=12.0))
    assert isinstance(merged, ContextResult)
    assert merged.null == 11.0


def test_between_points_it_follows_the_logarithm_of_the_tokens_and_beyond_them_it_stays() -> None:
    assert [threshold_of((-1.0, POINTS), tokens) for tokens in (0, 1, 128)] == [-1.0] * 3
    assert threshold_of((-1.0, POINTS), 181) == pytest.approx(0.0, abs=0.01)
    assert threshold_of((-1.0, POINTS), 256) == 1.0
    assert threshold_of((-1.0, POINTS), 512) == pytest.approx(1.5)
    assert [threshold_of((-1.0, POINTS), tokens) for tokens in (1024, 10**6)] == [2.0] * 2
    assert threshold_of((0.25, ((7, 0.25),)), 3) == 0.25
    assert threshold_of((-1.0, ((1, -1.0), (10**20, 1.0))), 10**10) == pytest.approx(0.0)  # over what int64 holds


def test_without_points_the_length_counts_for_nothing() -> None:
    assert threshold_of((0.5, ()), 3000) == 0.5
    assert threshold_of((None, ()), 3000) is None
    assert threshold_of((-1.0, POINTS), 3000) == 2.0


def test_an_answer_as_likely_as_none_is_given() -> None:
    answers = [Answer("Ada", 0, 3, 0.5)]
    assert result_of(answers, 0.5, abstains=True).answers == tuple(answers)
    assert result_of(answers, 0.5001, abstains=True).answers == ()


def test_answers_in_one_of_several_contexts_come_with_the_logits_by_which_they_are_merged(
    bert_tokenizer: Tokenizer,
) -> None:
    task = QuestionAnswering(bert_tokenizer, thresholds=(1.0, ()))
    encoding = task.encode(ContextInput(QUESTION, CONTEXT))
    result = task.decode(encoding, logits_for(encoding, {"Ada Lovelace": 30.0}, null=12.0))
    assert isinstance(result, ContextResult)
    assert (result.logits, result.null) == ((30.0,), 11.0)
    assert result.total == pytest.approx(30.0, abs=1e-4)


def test_without_allow_no_answer_the_best_span_is_given_beside_the_nulls_score(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, thresholds=(0.0, ()))
    encoding = task.encode(QAInput(QUESTION, CONTEXT))
    result = task.decode(encoding, logits_for(encoding, {"Ada Lovelace": 10.0}, null=12.0))
    assert result.answers[0].text == "Ada Lovelace"
    assert result.no_answer_score == pytest.approx(math.e**2 / (1 + math.e**2), abs=1e-4)


def test_one_window_that_holds_the_answer_refutes_the_null_of_the_others() -> None:
    sure = (np.array([4.0, 0.0], dtype=np.float32), np.array([4.0, 0.0], dtype=np.float32))
    refuting = (np.array([-3.0, 9.0], dtype=np.float32), np.array([-3.0, 9.0], dtype=np.float32))
    assert null_logit([sure, refuting, sure]) == -6.0


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_a_context_without_tokens_has_no_answers(bert_tokenizer: Tokenizer, threshold: float | None) -> None:
    task = QuestionAnswering(bert_tokenizer, thresholds=(threshold, ()))
    encoding = task.encode(QAInput("Who?", "\x00"))  # a BERT normalizer drops control characters
    outputs = [tuple(np.zeros((2, len(window)), dtype=np.float32)) for window in encoding.windows]
    result = task.decode(encoding, outputs)
    assert result.answers == ()
    assert result.no_answer_score == (None if threshold is None else 1.0)


def test_tokens_that_share_a_character_give_one_answer(roberta_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(roberta_tokenizer)
    encoding = task.encode(QAInput("Who?", "🙂 alpha", top_k=10, max_answer_tokens=1))
    emoji = int((encoding.offsets[:, 0] <= 1).sum())
    assert emoji > 1  # bytes of one character
    outputs = [tuple(np.zeros((2, len(window)), dtype=np.float32)) for window in encoding.windows]
    answers = task.decode(encoding, outputs).answers
    assert len({(answer.start, answer.end) for answer in answers}) == len(answers)
    assert [answer.text for answer in answers].count("🙂") == 1


def test_logits_that_are_not_numbers_are_an_error_and_no_empty_answer(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(QUESTION, CONTEXT))
    outputs = [tuple(np.full((2, len(window)), np.nan, dtype=np.float32)) for window in encoding.windows]
    with pytest.raises(ValueError, match=r"^the model's logits are not numbers$"):
        task.decode(encoding, outputs)


def test_a_text_far_over_the_limit_is_refused_before_it_is_cut_up(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40, max_windows=3)
    with pytest.raises(InputTooLongError, match="take 1005 tokens, more than 3 windows of 40 hold; shorten the con"):
        task.encode(QAInput("Who?", words(1000)))


MARKED = "The bread was baked by Andre\u0301, who lives in Oslo with \u0301Ine\u0302s and 👩\u200d💻 Zoe\u0308\u200d."


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
@pytest.mark.parametrize("to_words", [True, False])
@pytest.mark.parametrize(
    ("tokens", "whole"), [("Andre", "Andre\u0301"), ("Zoe", "Zoe\u0308\u200d"), ("in Oslo", "in Oslo")]
)
def test_what_a_normalizer_strips_of_the_last_character_belongs_to_the_answer(
    name: str, to_words: bool, tokens: str, whole: str, request: pytest.FixtureRequest
) -> None:
    task = QuestionAnswering(request.getfixturevalue(name))
    encoding = task.encode(QAInput(QUESTION, MARKED, align_to_words=to_words))
    last = MARKED.rindex(tokens) + len(tokens)
    ends = encoding.offsets[:, 1]
    stripped = last in ends
    (answer,) = task.decode(encoding, logits_for(encoding, {tokens if stripped else whole: 30.0})).answers
    assert answer.text == MARKED[answer.start : answer.end] == whole


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.BertNormalizer(strip_accents=True),
        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        normalizers.Replace(Regex(r"[\p{M}\x{200C}\x{200D}\x{FE0F}]"), ""),
    ],
    ids=["bert", "accents", "compatibility", "replaced"],
)
@pytest.mark.parametrize("word", ["Andre\u0301", "Zoe\u0308\u200d", "n\u0303\ufe0f", "x\u0301\u0302\u0323"])
def test_no_answer_ends_within_a_character_whatever_the_normalizer(
    normalizer: normalizers.Normalizer, word: str
) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    task, context = QuestionAnswering(tokenizer), f"by {word}, in"
    encoding = task.encode(QAInput("q", context))
    outputs = [
        (logits, logits)
        for window in encoding.windows
        for logits in [np.array([9.0 if at == window.position + 1 else -9.0 for at in range(len(window))], np.float32)]
    ]
    assert task.decode(encoding, outputs).answers[0].text == word


PIECES = {"[UNK]": 0, "the": 1, "firm": 2, "##ware": 3, "is": 4, "new": 5, ",": 6}


def ask_pieces(context: str, pieces: tuple[int, int], **options: object) -> list[tuple[str, int, int]]:
    """The answers of a model that likes the span of these two tokens of the context best, then every other."""
    tokenizer = Tokenizer(models.WordPiece(PIECES, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    task = QuestionAnswering(tokenizer)
    encoding = task.encode(QAInput("is", context, **options))  # type: ignore[arg-type]  # of several types
    [window] = encoding.windows
    start, end = np.full((2, len(window)), -5.0, np.float32)
    start[window.position + pieces[0]], end[window.position + pieces[1]] = 9.0, 9.0
    return [(answer.text, answer.start, answer.end) for answer in task.decode(encoding, [(start, end)]).answers]


def test_an_answer_never_begins_or_ends_within_a_word() -> None:
    context = "The firmware is new"
    assert ask_pieces(context, (0, 1)) == [("The firmware", 0, 12)]
    assert ask_pieces(context, (2, 3)) == [("firmware is", 4, 15)]
    assert ask_pieces(context, (0, 1), align_to_words=False) == [("The firm", 0, 8)]


def test_answers_that_are_aligned_do_not_overlap() -> None:
    answers = ask_pieces("The firmware, firmware is new", (1, 1), top_k=20)
    assert answers[0] == ("firmware", 4, 12)
    spans = sorted((start, end) for _, start, end in answers)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert len(answers) > 1


def test_unknown_tokens_are_counted_over_question_and_context() -> None:
    tokenizer = Tokenizer(models.WordPiece(PIECES, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    usage = QuestionAnswering(tokenizer).encode(QAInput("is สวัสดี", "the 🙂 is, new 你好")).usage
    assert (usage.tokens_in, usage.unknown_tokens) == (8, 3)


def test_a_context_that_nothing_is_left_of_has_no_answer(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(QUESTION, "\u200b"))
    outputs = [(np.zeros(len(window), np.float32),) * 2 for window in encoding.windows]
    assert task.decode(encoding, outputs).answers == ()
