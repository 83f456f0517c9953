"""Metrics over a predict function."""

import json
import math
from pathlib import Path

import pytest

from models.data import QAExample
from models.evaluate import main, score_answers
from models.tasks.qa import Answer, QAInput, QAResult


def example(question: str, answer: str | None) -> QAExample:
    answers = () if answer is None else (answer,)
    return QAExample(question, "", question, f"It is {answer}.", answers, (6,) * len(answers))


def result(text: str, lead: float | None) -> QAResult:
    """The null leads the best span by `lead` logits."""
    if lead is None:
        return QAResult((Answer(text, 0, len(text), 0.5),), None)
    score = 1 / (1 + math.exp(lead))
    return QAResult((Answer(text, 0, len(text), score),), 1 - score)


def test_answerable_questions_are_scored_by_their_best_span_even_if_the_null_wins() -> None:
    replies = {"a": result("red", 5.0), "b": result("blue green", -5.0), "c": result("anything", -1.0)}
    metrics = score_answers(
        lambda item: replies[item.question], [example("a", "red"), example("b", "blue"), example("c", None)]
    )
    assert metrics["exact"] == 50.0
    assert metrics["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert (metrics["n"], metrics["n_answerable"]) == (3.0, 2.0)
    assert metrics["f1_all"] == pytest.approx(100 * (2 / 3) / 3)
    assert metrics["never_answering"] == pytest.approx(100 / 3)


def test_the_best_threshold_separates_what_the_null_leads() -> None:
    replies = {"a": result("red", 1.0), "b": result("blue", 2.0), "c": result("anything", 4.0)}
    metrics = score_answers(
        lambda item: replies[item.question],
        [example("a", "red"), example("b", "blue"), example("c", None)],
        threshold=10.0,
    )
    assert metrics["best_f1_all"] == 100.0
    assert metrics["best_threshold"] == pytest.approx(13.0)
    assert metrics["f1_all"] == pytest.approx(100 / 3)


def test_a_model_that_cannot_abstain_has_figures_of_answerable_questions_alone() -> None:
    metrics = score_answers(lambda item: result(item.question, None), [example("red", "red"), example("c", None)])
    assert metrics == {"n": 2.0, "n_answerable": 1.0, "exact": 100.0, "f1": 100.0}


def test_questions_are_asked_with_the_defaults_that_a_client_gets() -> None:
    asked: list[QAInput] = []

    def answer(item: QAInput) -> QAResult:
        asked.append(item)
        return result("red", None)

    score_answers(answer, [example("a", "red")])
    assert asked == [QAInput("a", "It is red.")]


@pytest.mark.parametrize("source", ["--bundle", "--checkpoint", "--url"])
def test_what_cannot_be_measured_ends_with_status_2_and_one_line(
    source: str, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "http://127.0.0.1:9" if source == "--url" else str(tmp_path / "absent")
    assert main(["--task", "qa", "--dev", str(squad_file), source, where]) == 2
    assert "python -m models.evaluate: " in capsys.readouterr().err.splitlines()[-1]


def test_a_checkpoint_is_measured_by_the_command(
    tiny_qa: dict[str, Path], squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "qa", "--dev", str(squad_file), "--checkpoint", str(tiny_qa["roberta"])]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12
