"""What a manifest records of a bundle's answers, and how far later answers may be from it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.tasks.answers import Answer, GoldenAnswer, QAResult
from models.tasks.build import SPECS
from models.tasks.bundle import golden_drift, load_bundle
from models.tasks.classification import ClassificationInput, ClassificationResult, GoldenLabels, Label
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput, GoldenEmbedding
from tests.models.tasks.test_bundle import manifest_of


def qa_result(start: int, end: int, score: float) -> QAResult:
    return QAResult((Answer("Anna", start, end, score), Answer("an engineer", 30, 41, 0.01)), None)


def labels(**scores: float) -> ClassificationResult:
    return ClassificationResult(tuple(Label(label, score) for label, score in scores.items()))


def test_the_best_answer_is_recorded_with_its_probability_rounded() -> None:
    item = QAInput("Who?", "Built by Anna", align_to_words=False)
    assert SPECS["qa"].record(item, qa_result(9, 13, 0.123456789)) == GoldenAnswer(
        question="Who?", context="Built by Anna", text="Anna", start=9, end=13, score=0.123457
    )


@pytest.mark.parametrize(
    ("start", "end", "score", "drift"),
    [(9, 13, 0.5, 0.0), (9, 13, 0.75, 0.25), (9, 13, 0.25, 0.25), (9, 12, 0.25, 0.5), (8, 13, 0.75, 0.75)],
)
def test_an_answer_drifts_by_its_probability_and_by_all_of_it_if_it_is_another(
    start: int, end: int, score: float, drift: float
) -> None:
    item = QAInput("Who?", "Built by Anna", align_to_words=False)
    recorded = SPECS["qa"].record(item, qa_result(9, 13, 0.5))
    assert SPECS["qa"].drift(recorded, qa_result(start, end, score)) == drift


def test_golden_answers_are_asked_again_and_the_furthest_counts(foreign: Path) -> None:
    manifest = manifest_of(foreign)
    manifest["golden"] = [manifest["golden"][0] | {"question": question} for question in ("Who?", "Whose?", "Whom?")]
    (foreign / "manifest.json").write_text(json.dumps(manifest))
    scores = {"Who?": 0.5, "Whose?": 0.25, "Whom?": 0.625}

    def answer(item: QAInput) -> QAResult:
        return QAResult((Answer("Ada", 0, 3, scores[item.question]),), None)

    bundle = load_bundle(foreign)
    assert golden_drift(bundle, answer) == 0.25
    assert golden_drift(replace(bundle, manifest=None), answer) is None


def test_every_label_is_recorded_with_its_probability_rounded() -> None:
    item = ClassificationInput("Fine.", "Or not?")
    assert SPECS["classify"].record(item, labels(good=0.7654321, bad=0.2345679)) == GoldenLabels(
        text="Fine.", text_pair="Or not?", labels={"good": 0.765432, "bad": 0.234568}
    )


def test_labels_drift_by_the_largest_change_of_one_of_them_and_a_lost_one_by_all_of_it() -> None:
    recorded = GoldenLabels(text="Fine.", text_pair=None, labels={"good": 0.75, "bad": 0.25})
    drift = SPECS["classify"].drift
    assert drift(recorded, labels(bad=0.25, good=0.75)) == 0.0
    assert drift(recorded, labels(good=0.5, bad=0.375)) == 0.25
    assert drift(recorded, labels(good=0.75, bad=0.75)) == 0.5
    assert drift(recorded, labels(bad=0.25, new=0.9)) == 0.75


def test_an_embedding_is_recorded_with_its_numbers_rounded() -> None:
    vector = np.array([0.6000004, -0.8000006], np.float32)
    recorded = SPECS["similarity"].record(EmbeddingInput("Fine."), vector)
    assert recorded == GoldenEmbedding(text="Fine.", embedding=(0.6, -0.800001))


@pytest.mark.parametrize(
    ("vector", "drift"),
    [((1.0, 0.0), 0.0), ((0.6, 0.8), 0.4), ((0.0, 1.0), 1.0), ((-1.0, 0.0), 2.0), ((1.1, 0.0), 0.0)],
)
def test_an_embedding_drifts_by_its_cosine(vector: tuple[float, float], drift: float) -> None:
    recorded = GoldenEmbedding(text="Fine.", embedding=(2.0, 0.0))  # whatever length rounding left
    assert SPECS["similarity"].drift(recorded, np.array(vector)) == pytest.approx(drift)


def test_without_an_agreement_of_its_own_a_task_keeps_what_drifts_little_enough() -> None:
    spec = replace(SPECS["qa"], agreement=None)
    item = QAInput("Who?", "Built by Anna", align_to_words=False)
    recorded = qa_result(9, 13, 0.5)
    assert spec.kept(item, recorded, qa_result(9, 13, 0.46)) == 1.0
    assert spec.kept(item, recorded, qa_result(9, 13, 0.44)) == 0.0
