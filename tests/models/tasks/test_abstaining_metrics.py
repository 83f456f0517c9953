"""Precision and recall of abstaining, and the calibration error, computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.devset import DevOptions, measure
from models.finetune.qa import QADev, score_answers
from models.squad import QAExample
from models.tasks.answer_metrics import abstaining, calibration_error
from models.tasks.answers import Answer, QAResult
from models.tasks.qa import QAInput, QuestionAnswering

REFUSED = np.array([True, True, True, False, False])
IMPOSSIBLE = np.array([True, False, True, True, False])


def test_precision_is_of_what_was_refused_and_recall_of_what_has_no_answer() -> None:
    assert abstaining(REFUSED, np.array([True, False, True, False, False])) == {
        "abstaining_precision": pytest.approx(200 / 3),
        "abstaining_recall": 100.0,
    }
    assert abstaining(REFUSED, IMPOSSIBLE)["abstaining_recall"] == pytest.approx(200 / 3)


def test_contexts_are_told_apart_by_their_tokens_with_both_ends() -> None:
    metrics = abstaining(REFUSED, IMPOSSIBLE, np.array([50, 51, 100, 100, 2001]))
    assert metrics["n_1_50"] == 1.0
    assert metrics["n_51_100"] == 3.0
    assert metrics["n_over_2000"] == 1.0
    assert "n_101_200" not in metrics
    assert (metrics["abstaining_precision_51_100"], metrics["abstaining_recall_51_100"]) == (50.0, 50.0)


def test_a_share_of_nothing_is_left_out() -> None:
    metrics = abstaining(REFUSED, IMPOSSIBLE, np.array([50, 51, 100, 100, 2001]))
    assert "abstaining_precision_over_2000" not in metrics  # nothing was refused
    assert "abstaining_recall_over_2000" not in metrics  # every question has an answer


def test_the_calibration_error_weighs_ten_bins_by_what_they_hold() -> None:
    # 0.92 and 0.98 of which one came true: off by 0.45; 0.1 and 0.15 of which none did: 0.125; 1.0 that did: in the
    # bin of the first two.
    scores, outcomes = np.array([0.92, 0.98, 0.1, 0.15]), np.array([1.0, 0.0, 0.0, 0.0])
    assert calibration_error(scores, outcomes) == pytest.approx(100 * (2 * 0.45 + 2 * 0.125) / 4)
    assert calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0.0


def result(text: str, score: float, no_answer_score: float | None) -> QAResult:
    return QAResult((Answer(text, 0, len(text), score),), no_answer_score)


def asked(answer: str | None) -> QAExample:
    return QAExample("1", "", "?", answer or "c", *(((answer,), (0,)) if answer else ((), ())))


def test_scores_are_compared_with_exact_answers_and_null_scores_with_questions_without_one() -> None:
    results = [result("red", 0.95, 0.05), result("blue", 0.65, 0.35), result("c", 0.25, 0.75)]
    metrics = score_answers(results, [asked("red"), asked("green"), asked(None)])
    assert metrics["score_ece"] == pytest.approx(100 * (0.05 + 0.65 + 0.25) / 3)
    assert metrics["no_answer_score_ece"] == pytest.approx(100 * (0.05 + 0.35 + 0.25) / 3)
    assert metrics["abstaining_precision"] == metrics["abstaining_recall"] == 100.0


def test_scores_of_a_model_that_cannot_abstain_are_judged_on_answerable_questions() -> None:
    metrics = score_answers([result("red", 0.9, None), result("c", 0.5, None)], [asked("red"), asked(None)])
    assert metrics["score_ece"] == pytest.approx(10.0)
    assert "no_answer_score_ece" not in metrics


def test_a_dev_set_is_judged_by_length_where_the_tokenizer_is_known(bert_tokenizer: Tokenizer, tmp_path: Path) -> None:
    contexts = {"alpha " * 40: True, "beta " * 150: False, "gamma " * 60: False}
    rows = [
        {"id": context[:3], "question": "?", "context": context, "answers": {"text": text, "answer_start": [0][:has]}}
        for context, has in contexts.items()
        for text in [[context.split()[0]][:has]]
    ]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(rows))
    dev, task = QADev(path, DevOptions()), QuestionAnswering(bert_tokenizer, thresholds=(0.0, ()))

    def answer(item: QAInput) -> QAResult:
        return result(item.context.split()[0], 0.1, 0.9)

    metrics = measure(answer, dev, task)
    lengths = {len(task.encode(item).places) for item in dev.inputs}
    assert sum(value for key, value in metrics.items() if key.startswith("n_") and key[2].isdigit()) == 3.0
    assert len([key for key in metrics if key.startswith("abstaining_precision_")]) == len(lengths)
    assert "abstaining_precision" in measure(answer, dev)
    assert not [key for key in measure(answer, dev) if key.startswith("abstaining_precision_")]
