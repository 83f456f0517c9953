"""When two results of one input say the same."""

import numpy as np
import pytest

from models.tasks.answers import Answer, QAResult
from models.tasks.classification import SPEC as CLASSIFICATION
from models.tasks.classification import ClassificationInput, ClassificationResult, Label
from models.tasks.qa import SPEC as QUESTION_ANSWERING
from models.tasks.qa import QAInput
from models.tasks.similarity import SPEC as SIMILARITY
from models.tasks.similarity import EmbeddingInput


def answered(start: int, score: float, no_answer_score: float | None = None) -> QAResult:
    return QAResult((Answer("Oslo", start, start + 4, score),), no_answer_score)


@pytest.mark.parametrize(
    ("other", "kept"),
    [(answered(3, 0.2), 1.0), (answered(9, 0.9), 0.0), (answered(3, 0.4, 0.6), 0.0), (QAResult((), None), 0.0)],
)
def test_spans_agree_whatever_their_scores(other: QAResult, kept: float) -> None:
    assert QUESTION_ANSWERING.kept(QAInput("Where?", "In Oslo."), answered(3, 0.9), other) == kept


def test_two_abstentions_agree() -> None:
    results = answered(3, 0.1, 0.8), QAResult((), 0.9)
    assert QUESTION_ANSWERING.kept(QAInput("Who?", "In Oslo."), *results) == 1.0


def test_labels_agree_by_the_best_one() -> None:
    yes, no = Label("yes", 0.6), Label("no", 0.4)
    item = ClassificationInput("warm")
    other = ClassificationResult((Label("yes", 0.9), Label("no", 0.1)))
    assert CLASSIFICATION.kept(item, ClassificationResult((yes, no)), other) == 1.0
    assert CLASSIFICATION.kept(item, ClassificationResult((no, yes)), other) == 0.0


def test_embeddings_agree_by_their_cosine() -> None:
    vectors = np.array([1.0, 0.0], np.float32), np.array([0.6, 0.8], np.float32)
    assert SIMILARITY.kept(EmbeddingInput("warm"), *vectors) == pytest.approx(0.6)
