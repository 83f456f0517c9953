"""Scores of labels, computed by hand."""

import math
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.data import DataError
from models.devset import DevOptions, measure
from models.files import Reading
from models.finetune.classification import ClassificationDev
from models.tasks.classification import (
    ALL_LABELS,
    MULTI_LABEL,
    Classification,
    ClassificationInput,
    ClassificationResult,
    Label,
)


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def labels(**scores: float) -> ClassificationResult:
    return ClassificationResult(tuple(Label(name, score) for name, score in scores.items()))


def test_labels_are_scored_as_glue_does(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tno", "b\tno", "c\tyes", "d\tyes")
    dev = ClassificationDev(path, DevOptions(on_overflow="window"))
    assert dev.inputs[0] == ClassificationInput("a", None, ALL_LABELS, "window")
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
    dev = ClassificationDev(path, DevOptions())
    assert dev.inputs[0].text_pair == "x"
    said = {"a": "p", "b": "q", "c": "q"}
    metrics = measure(lambda item: labels(**{said[item.text]: 0.9}), dev)
    assert metrics["f1"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)


def test_several_labels_are_right_only_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp|q", "b\tq", "c\tp")
    said = {"a": labels(p=0.9, q=0.6), "b": labels(p=0.7, q=0.6), "c": labels(p=0.4, q=0.3)}
    metrics = measure(lambda item: said[item.text], ClassificationDev(path, DevOptions(multi_label=True)))
    assert metrics["accuracy"] == pytest.approx(100 / 3)
    assert metrics["f1"] == pytest.approx(100 * (1 / 2 + 1) / 2)  # p: 1 of 2 and 1 of 2; q: all
    assert "matthews" not in metrics


@pytest.mark.parametrize("options", [DevOptions(multi_label=True), DevOptions(config={"problem_type": MULTI_LABEL})])
def test_a_text_without_a_label_is_right_where_none_is_given(tmp_path: Path, options: DevOptions) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp", "b\t", "c\t ")
    said = {"a": labels(p=0.9, q=0.1), "b": labels(p=0.4, q=0.3), "c": labels(p=0.3, q=0.6)}
    metrics = measure(lambda item: said[item.text], ClassificationDev(path, options))
    assert metrics == {"n": 3.0, "accuracy": pytest.approx(200 / 3), "f1": 100.0}


def test_a_text_without_a_label_is_a_fault_where_each_has_one(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp", "b\t")
    with pytest.raises(DataError, match="line 3: it lacks a text or its label"):
        ClassificationDev(path, DevOptions())
    assert len(ClassificationDev(path, DevOptions(reading=Reading(skip_bad=True))).examples) == 1


def test_a_set_without_any_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\t", "b\t")
    with pytest.raises(DataError, match="no row has a label, so there is nothing to measure"):
        ClassificationDev(path, DevOptions(multi_label=True))


def test_a_label_too_many_makes_the_whole_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "text\tlabel", "a\tp", "b\tq")
    dev = ClassificationDev(path, DevOptions(multi_label=True))
    assert measure(lambda _: labels(p=0.9, q=0.9, r=0.9), dev)["accuracy"] == 0.0
    one = ClassificationDev(write(tmp_path / "one.tsv", "text\tlabel", "a\tp", "b\tp"), DevOptions(multi_label=True))
    assert measure(lambda item: labels(p=0.9 if item.text == "a" else 0.1), one)["f1"] == pytest.approx(100 * 2 / 3)


def test_whether_several_labels_hold_is_for_the_model_to_say_where_it_is_known(
    tmp_path: Path, bert_tokenizer: Tokenizer
) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\tp|q", "b\tq"), DevOptions())
    both, exclusive = {"a": labels(p=0.9, q=0.9), "b": labels(q=0.9)}, {"a": labels(**{"p|q": 0.9}), "b": labels(q=0.9)}
    several = measure(lambda item: both[item.text], dev, Classification(bert_tokenizer, ["p", "q"], multi_label=True))
    one = measure(lambda item: exclusive[item.text], dev, Classification(bert_tokenizer, ["p|q", "q"]))
    assert (several["accuracy"], one["accuracy"]) == (100.0, 100.0)
    assert "matthews" in one
    assert "matthews" not in several


def test_labels_that_the_model_has_not_are_no_score_of_zero(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\t0", "b\t1"), DevOptions())
    with pytest.raises(DataError, match=r"the model has no label '0', '1'; its labels are no, yes"):
        measure(lambda _: labels(no=0.9), dev, Classification(bert_tokenizer, ["no", "yes"]))


def test_labels_are_compared_before_any_work(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\tno", "b\tperhaps"), DevOptions())
    with pytest.raises(DataError, match=r"dev\.tsv: the model has no label 'perhaps'; its labels are no, yes"):
        dev.check(Classification(bert_tokenizer, ["no", "yes"]))
    dev.check(Classification(bert_tokenizer, ["no", "yes", "perhaps"]))


def test_a_model_that_is_not_known_is_asked_once_for_its_labels(tmp_path: Path) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\tno", "b\tperhaps"), DevOptions())
    asked: list[ClassificationInput] = []

    def answer(item: ClassificationInput) -> ClassificationResult:
        asked.append(item)
        return labels(no=0.9, yes=0.1)

    with pytest.raises(DataError, match=r"the model has no label 'perhaps'; its labels are no, yes"):
        dev.check(None, answer)
    assert asked == [dev.inputs[0]]


def test_labels_of_several_are_compared_one_by_one(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    dev = ClassificationDev(
        write(tmp_path / "dev.tsv", "text\tlabel", "a\tp|q", "b\tq|r"), DevOptions(multi_label=True)
    )
    with pytest.raises(DataError, match="the model has no label 'r'; its labels are p, q"):
        dev.check(Classification(bert_tokenizer, ["p", "q"], multi_label=True))
    with pytest.raises(DataError, match="the model has no label 'r'; its labels are p, q"):
        dev.check(None, lambda _: labels(p=0.9, q=0.8))


def test_labels_that_a_model_of_a_hundred_does_not_have_are_told_before_any_work(tmp_path: Path) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\t0", "b\t1"), DevOptions())
    hundred = labels(**{f"label {number}": 0.01 for number in range(100)})
    with pytest.raises(DataError, match="no label '0', '1'; its labels are label 0, label 1, "):
        dev.check(None, lambda _: hundred)


def test_labels_that_no_answer_ever_has_are_no_score_of_zero(tmp_path: Path) -> None:
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", "a\t0", "b\t1"), DevOptions())
    with pytest.raises(DataError, match="the model has never given one of its labels, which are '0', '1'"):
        measure(lambda _: labels(p=0.9), dev)


def test_of_many_wrong_labels_the_first_are_shown(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    rows = [f"a\t{number}" for number in range(8)]
    dev = ClassificationDev(write(tmp_path / "dev.tsv", "text\tlabel", *rows), DevOptions())
    with pytest.raises(DataError, match="no label '0', '1', '2', '3', '4' and 3 more; its labels are no, yes"):
        dev.check(Classification(bert_tokenizer, ["no", "yes"]))
