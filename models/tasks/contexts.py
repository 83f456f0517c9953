"""Makes one result of what the model says of a question over several contexts."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.tasks.answers import Answer, ContextResult, QAResult
from models.tasks.qa import add_exponents, result_of


@dataclass(frozen=True, slots=True)
class ContextAnswer(Answer):
    """An answer in one of several contexts: `context` is its index."""

    context: int


def merge_contexts(results: Sequence[ContextResult], *, top_k: int, allow_no_answer: bool = False) -> QAResult:
    """Make one result of a question's contexts: the scores come from one softmax over the spans of all.

    The null logit is the least over the contexts, as it is over windows: a context that holds the answer refutes all
    the others. Returns: at most `top_k` ContextAnswers; of equal ones the first context's comes first.
    """
    nulls = [result.null for result in results if result.null is not None]
    null = min(nulls, default=None)
    total = functools.reduce(add_exponents, [result.total for result in results])
    if total == -math.inf:  # no context has a token
        return QAResult((), None if null is None else 1.0)
    normalizer = total if null is None else add_exponents(total, null)
    found = [
        (logit, index, answer)
        for index, result in enumerate(results)
        for logit, answer in zip(result.logits, result.answers, strict=True)
    ]
    best = sorted(found, key=lambda entry: -entry[0])[:top_k]
    answers = [
        ContextAnswer(answer.text, answer.start, answer.end, math.exp(logit - normalizer), index)
        for logit, index, answer in best
    ]
    no_answer_score = None if null is None else math.exp(null - normalizer)
    return result_of(answers, no_answer_score, abstains=allow_no_answer)
