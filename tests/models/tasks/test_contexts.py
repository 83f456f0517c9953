"""Results of several contexts are merged under one softmax; the figures are computed by hand."""

import math

import pytest

from models.tasks.answers import Answer, ContextResult
from models.tasks.contexts import ContextAnswer, merge_contexts


def result(*logits: float, null: float | None = None, further: float = 0.0) -> ContextResult:
    """Answers with these logits, beside spans whose exponents are `further` in sum. Their own scores count nowhere."""
    answers = tuple(Answer(str(logit), 0, 1, 0.0) for logit in logits)
    return ContextResult(answers, None, logits, math.log(sum(map(math.exp, logits)) + further), null)


def test_scores_are_shares_of_all_spans_and_of_the_least_null_logit() -> None:
    merged = merge_contexts([result(1.0, 0.0, null=4.0, further=3.0), result(2.0, null=-1.0)], top_k=2)
    total = math.exp(1) + 1 + 3 + math.exp(2) + math.exp(-1)
    assert [answer.text for answer in merged.answers] == ["2.0", "1.0"]
    assert [answer.score for answer in merged.answers] == pytest.approx([math.exp(2) / total, math.exp(1) / total])
    assert merged.no_answer_score == pytest.approx(math.exp(-1) / total)


def test_of_equal_answers_the_first_context_s_comes_first() -> None:
    merged = merge_contexts([result(1.0), result(2.0), result(2.0)], top_k=3)
    assert [answer.context for answer in merged.answers if isinstance(answer, ContextAnswer)] == [1, 2, 0]
    assert merged.no_answer_score is None


def test_a_context_without_tokens_counts_for_nothing() -> None:
    nothing = ContextResult((), 1.0, (), -math.inf, math.inf)
    alone = merge_contexts([result(1.0, null=0.0)], top_k=1)
    both = merge_contexts([nothing, result(1.0, null=0.0)], top_k=1)
    assert both.no_answer_score == alone.no_answer_score
    assert [answer.score for answer in both.answers] == [answer.score for answer in alone.answers]
    assert merge_contexts([nothing, nothing], top_k=1).no_answer_score == 1.0
    assert merge_contexts([ContextResult((), None, (), -math.inf, None)], top_k=1).no_answer_score is None


def test_answers_are_left_out_where_no_answer_wins_over_all_contexts() -> None:
    results = [result(1.0, null=0.9), result(0.0, null=5.0)]  # the second alone would abstain
    assert merge_contexts(results, top_k=1, allow_no_answer=True).answers
    results = [result(1.0, null=1.1), result(0.0, null=5.0)]
    assert merge_contexts(results, top_k=1, allow_no_answer=True).answers == ()
    assert merge_contexts(results, top_k=1).answers


def test_logits_far_from_zero_do_not_overflow() -> None:
    far = [ContextResult((Answer("a", 0, 1, 1.0),), 0.0, (1000.0,), 1000.0, -1000.0)] * 2
    assert merge_contexts(far, top_k=1).answers[0].score == pytest.approx(0.5)
