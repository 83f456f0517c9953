"""Holds the answers to a question, and compares them with others."""

from dataclasses import dataclass

from pydantic import FiniteFloat

from models.tasks.base import Count, GoldenRecord


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of the context in code points; `score` is its probability among all valid spans."""

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class QAResult:
    """Answers, best first, without overlaps. `no_answer_score` is None for a model not trained for it."""

    answers: tuple[Answer, ...]
    no_answer_score: float | None


@dataclass(frozen=True, slots=True)
class ContextResult(QAResult):
    """What one of several contexts gives to a softmax over all of them.

    `logits` are those of the answers, `total` is the log-sum-exp over all spans of the context, and `null` the null
    logit less the threshold: infinite for a context without tokens, None for a model not trained for it.
    """

    logits: tuple[float, ...]
    total: float
    null: float | None


class GoldenAnswer(GoldenRecord):
    """An input and the answer that this bundle gave to it when it was exported; offsets in code points."""

    question: str
    context: str
    text: str
    start: Count
    end: Count
    score: FiniteFloat


def recorded(question: str, context: str, result: QAResult) -> GoldenAnswer:
    """Round the best answer, as the manifest keeps it."""
    best = result.answers[0]
    return GoldenAnswer(
        question=question,
        context=context,
        text=best.text,
        start=best.start,
        end=best.end,
        score=round(best.score, 6),
    )


def drift(golden: GoldenAnswer, result: QAResult) -> float:
    """Returns: the change of the answer's probability, or all of it if the answer is another."""
    best = result.answers[0]
    same = (best.start, best.end) == (golden.start, golden.end)
    return abs(best.score - golden.score) if same else max(best.score, golden.score)


def agreement(result: QAResult, other: QAResult) -> float:
    """Returns: 1 if both say the same best span, or both say that there is none; else 0."""
    return float(_said(result) == _said(other))


def _said(result: QAResult) -> tuple[int, int] | None:
    if not result.answers or (result.no_answer_score or 0.0) > result.answers[0].score:
        return None
    return result.answers[0].start, result.answers[0].end
