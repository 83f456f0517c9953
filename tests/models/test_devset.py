"""Scores of what came back, computed by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.data import DataError, QAExample
from models.devset import measure, read_dev, score_answers
from models.tasks.classification import Classification, ClassificationInput, ClassificationResult, Label
from models.tasks.qa import Answer, QAInput, QAResult
from models.tasks.similarity import EmbeddingInput


def example(question: str, answer: str | None) -> QAExample:
    answers = () if answer is None else (answer,)
    return QAExample(question, "", question, f"It is {answer}.", answers, (6,) * len(answers))


def result(text: str, lead: float | None) -> QAResult:
    """The null leads the best span by `lead` logits."""
    if lead is None:
        return QAResult((Answer(text, 0, len(text), 0.5),), None)
    score = 1 / (1 + math.exp(lead))
    return QAResult((Answer(text, 0, len(text), score),), 1 - score)


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def labels(**scores: float) -> ClassificationResult:
    return ClassificationResult(tuple(Label(name, score) for name, score in scores.items()))


def test_answerable_questions_are_scored_by_their_best_span_even_if_the_null_wins() -> None:
    metrics = score_answers(
        [result("red", 5.0), result("blue green", -5.0), result("anything", -1.0)],
        [example("a", "red"), example("b", "blue"), example("c", None)],
    )
    assert metrics["exact"] == 50.0
    assert metrics["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert (metrics["n"], metrics["n_answerable"]) == (3.0, 2.0)
    assert metrics["f1_all"] == pytest.approx(100 * (2 / 3) / 3)
    assert metrics["never_answering"] == pytest.approx(100 / 3)


def test_the_best_threshold_separates_what_the_null_leads() -> None:
    metrics = score_answers(
        [result("red", 1.0), result("blue", 2.0), result("anything", 4.0)],
        [example("a", "red"), example("b", "blue"), example("c", None)],
    )
    assert metrics["best_f1_all"] == 100.0
    assert metrics["threshold_shift"] == pytest.approx(3.0)
    assert metrics["f1_all"] == pytest.approx(100 / 3)


def test_a_model_that_cannot_abstain_has_figures_of_answerable_questions_alone() -> None:
    metrics = score_answers([result("red", None), result("c", None)], [example("red", "red"), example("c", None)])
    assert metrics == {"n": 2.0, "n_answerable": 1.0, "exact": 100.0, "f1": 100.0}


def test_questions_are_asked_with_the_defaults_that_a_client_gets(squad_file: Path) -> None:
    asked: list[QAInput] = []

    def answer(item: QAInput) -> QAResult:
        asked.append(item)
        return result("red", -1.0)

    metrics = measure(answer, read_dev("qa", squad_file))
    assert [item == QAInput(item.question, item.context) for item in asked] == [True] * 12
    assert "best_threshold" not in metrics  # the threshold that the answers came by is not known
    assert metrics["n_answerable"] == 10


def test_a_set_without_an_answerable_question_is_refused(tmp_path: Path) -> None:
    impossible = {"id": "a", "question": "Why?", "answers": [], "is_impossible": True}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "It is.", "qas": [impossible]}]}]}))
    with pytest.raises(DataError, match="no answerable question"):
        read_dev("qa", path)


def test_labels_are_scored_as_glue_does(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tno", "b\tno", "c\tyes", "d\tyes")
    dev = read_dev("classify", path, on_overflow="window")
    assert dev.inputs[0] == ClassificationInput("a", None, 100, "window")
    said = {"a": "no", "b": "yes", "c": "yes", "d": "yes"}
    metrics = measure(lambda item: labels(**{said[item.text]: 0.9}), dev)
    assert metrics == {
        "n": 4.0,
        "accuracy": 75.0,
        "f1": pytest.approx(80.0),  # of "yes": precision 2/3, recall 1
        "matthews": pytest.approx(100 / math.sqrt(3)),
    }


def test_f1_is_averaged_over_more_than_two_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tlabel", "a\tx\tp", "b\tx\tq", "c\tx\tr")
    dev = read_dev("classify", path)
    assert dev.inputs[0].text_pair == "x"
    said = {"a": "p", "b": "q", "c": "q"}
    metrics = measure(lambda item: labels(**{said[item.text]: 0.9}), dev)
    assert metrics["f1"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)


def test_several_labels_are_right_only_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp|q", "b\tq", "c\tp")
    said = {"a": labels(p=0.9, q=0.6), "b": labels(p=0.7, q=0.6), "c": labels(p=0.4, q=0.3)}
    metrics = measure(lambda item: said[item.text], read_dev("classify", path, multi_label=True))
    assert metrics["accuracy"] == pytest.approx(100 / 3)
    assert metrics["f1"] == pytest.approx(100 * (1 / 2 + 1) / 2)  # p: 1 of 2 and 1 of 2; q: all
    assert "matthews" not in metrics


def test_cosines_are_correlated_with_the_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "a\tb\t5", "a\tc\t1", "a\td\t0")
    dev = read_dev("similarity", path)
    assert dev.inputs[:2] == [EmbeddingInput("a"), EmbeddingInput("b")]
    angles = {"a": 0.0, "b": 0.1, "c": 1.5, "d": 1.0}
    metrics = measure(lambda item: np.array([math.cos(angles[item.text]), math.sin(angles[item.text])]), dev)
    assert metrics["n"] == 3.0
    assert metrics["spearman"] == pytest.approx(50.0)
    cosines, golds = np.cos([0.1, 1.5, 1.0]), np.array([5.0, 1.0, 0.0])
    assert metrics["pearson"] == pytest.approx(100 * np.corrcoef(cosines, golds)[0, 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("sentence1\tsentence2\tscore", "a\tb\thigh"), "a score is not a number"),
        (("sentence1\tsentence2\tscore", "a\tb\tnan", "a\tc\t1"), "scores that are not finite, or all the same"),
        (("sentence1\tsentence2\tscore", "a\tb\t1", "a\tc\t1"), "scores that are not finite, or all the same"),
        (("text\tscore", "a\t1"), "no second text to compare"),
    ],
)
def test_pairs_that_cannot_be_scored_are_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dev("similarity", write(tmp_path / "dev.tsv", *rows))


def test_a_label_too_many_makes_the_whole_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp", "b\tq")
    dev = read_dev("classify", path, multi_label=True)
    assert measure(lambda _: labels(p=0.9, q=0.9, r=0.9), dev)["accuracy"] == 0.0
    one = read_dev("classify", write(tmp_path / "one.tsv", "text\tlabel", "a\tp", "b\tp"), multi_label=True)
    assert measure(lambda item: labels(p=0.9 if item.text == "a" else 0.1), one)["f1"] == pytest.approx(100 * 2 / 3)


def test_labels_that_the_model_has_not_are_no_score_of_zero(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    dev = read_dev("classify", write(tmp_path / "dev.tsv", "text\tlabel", "a\t0", "b\t1"))
    with pytest.raises(DataError, match=r"the model has no label '0'; its labels are no, yes"):
        measure(lambda _: labels(no=0.9), dev, Classification(bert_tokenizer, ["no", "yes"]))
