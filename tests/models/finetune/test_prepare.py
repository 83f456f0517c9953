"""What would end a run late is told in one line before the first step, whatever it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
)

from models.finetune.__main__ import main
from models.student import make_student

Give = Callable[..., list[str]]
ROWS = ("A warm day.\tgood", "A dull day.\tbad")


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.tsv", "text\tlabel", *ROWS)


@pytest.fixture
def teacher(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A classifier with a head of its own."""
    path = Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, id2label={0: "bad", 1: "good"})
    model.save_pretrained(path)
    return path


@pytest.fixture
def told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*options: object, out: Path = tmp_path / "out", task: str = "classify") -> str:
        """The one line in which a run ends before its first step; later flags win."""
        layers = [] if "--model" in options or "--student" in options else ["--layers", "2"]
        given = ["--task", task, "--train", data, "--dev", data, *layers, "--out", out, "--no-bf16", *options]
        capsys.readouterr()
        assert main([str(part) for part in given]) == 2
        assert not (out / "log.jsonl").exists() if out.is_dir() else True
        *_, line = capsys.readouterr().err.strip().splitlines()
        return line.removeprefix("python -m models.finetune: ")

    return run


def test_a_teacher_whose_head_was_never_trained_is_refused(
    told: Callable[..., str], tiny_teacher: Path, tmp_path: Path
) -> None:
    labelled = write(tmp_path / "labels.tsv", "text\tlabel", "a\tLABEL_0", "b\tLABEL_1")
    line = told("--teacher", tiny_teacher, "--train", labelled, "--dev", labelled)
    assert "has no trained head for the task classify (classifier.bias, classifier.weight); fine-tune it first" in line


def test_a_teacher_of_other_labels_is_refused(told: Callable[..., str], teacher: Path, tmp_path: Path) -> None:
    assert "hold the label 'so so', and the teacher knows bad, good" in told(
        "--teacher", teacher, "--train", write(tmp_path / "more.tsv", "text\tlabel", *ROWS, "A day.\tso so")
    )
    assert "the model has no label 'so so'" in told(
        "--teacher", teacher, "--dev", write(tmp_path / "dev.tsv", "text\tlabel", *ROWS, "A day.\tso so")
    )


def test_a_kind_that_cannot_be_used_is_refused(told: Callable[..., str], tmp_path: Path, teacher: Path) -> None:
    gpt = tmp_path / "gpt"
    GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)).save_pretrained(gpt)
    assert "gpt is of kind 'gpt2'; the kinds are albert, bert" in told("--model", gpt)
    assert "teacher is of kind 'bert' and a student of kind 'distilbert'" in told(
        "--teacher", teacher, "--student", teacher
    )


def test_layers_that_the_teacher_lacks_are_refused(told: Callable[..., str], teacher: Path) -> None:
    assert "a student of 9 layers cannot be cut from a teacher of 4" in told("--teacher", teacher, "--layers", "9")


def test_files_that_are_missing_are_told(told: Callable[..., str], teacher: Path, tmp_path: Path) -> None:
    for flag in ("--train", "--dev", "--unlabelled", "--unlabelled-texts"):
        assert "absent.tsv" in told("--teacher", teacher, flag, tmp_path / "absent.tsv")


def test_a_dev_text_that_no_window_holds_is_told_with_its_file(
    told: Callable[..., str], teacher: Path, tmp_path: Path
) -> None:
    pair = "good " * 90 + "\t" + "bad " * 90 + "\tgood"
    dev = write(tmp_path / "dev.tsv", "text\ttext_pair\tlabel", "a\tb\tbad", pair)
    assert "dev.tsv: both texts are too long for windows" in told(
        "--teacher", teacher, "--dev", dev, "--max-length", "64"
    )


def test_a_length_that_the_model_does_not_read_is_refused_where_it_was_asked_for(
    told: Callable[..., str], teacher: Path
) -> None:
    line = told("--teacher", teacher, "--max-length", "1000")
    assert line == f"--max-length 1000 is more than the 512 tokens that {teacher} reads"


def test_an_out_that_cannot_be_used_is_refused(told: Callable[..., str], teacher: Path, tmp_path: Path) -> None:
    assert "is the directory of a model that the run begins with" in told("--teacher", teacher, out=teacher)
    other = Path(shutil.copytree(teacher, tmp_path / "other"))
    assert told("--teacher", teacher, out=other) == f"{other} holds another model; use a different --out"
    file = write(tmp_path / "file", "text")
    for out in (file, file / "below"):
        assert f"{out} cannot be written (" in told("--teacher", teacher, out=out)
    assert json.loads((teacher / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


def test_a_student_without_a_tokenizer_has_no_fewer_embeddings_than_its_teacher_has_tokens(
    told: Callable[..., str], teacher: Path, tmp_path: Path
) -> None:
    student = make_student(AutoModel.from_pretrained(teacher), DistilBertModel, (0, 1))
    student.resize_token_embeddings(50)
    student.save_pretrained(tmp_path / "student")
    line = told("--teacher", teacher, "--student", tmp_path / "student")
    assert "student: its tokenizer has " in line
    assert line.endswith(" tokens and its model 50; they do not fit")


def test_a_student_s_own_tokenizer_has_to_map_where_the_teacher_says_something_of_each_token(
    told: Callable[..., str], tiny_qa: dict[str, Path], tiny_teacher: Path, squad_file: Path
) -> None:
    options = ("--train", squad_file, "--dev", squad_file, "--student-from", tiny_teacher)
    line = told("--teacher", tiny_qa["roberta"], *options, task="qa")
    assert "cannot teach one student: their tokenizer differs (the token '" in line
    assert line.endswith("has no counterpart)")


def test_every_loss_switched_off_leaves_nothing_to_learn(told: Callable[..., str], teacher: Path) -> None:
    off = ("--hard", "0", "--soft", "0", "--hidden", "0", "--relation", "0")
    assert told("--teacher", teacher, *off).startswith("every loss is switched off, so there is nothing to learn")


def test_windows_are_as_long_as_the_shorter_of_teacher_and_student_reads(teacher: Path, tmp_path: Path) -> None:
    student = make_student(AutoModel.from_pretrained(teacher), DistilBertModel, (0, 1))
    config = student.config
    config.max_position_embeddings = 16
    short = DistilBertModel(config)
    short.save_pretrained(tmp_path / "short")
    AutoTokenizer.from_pretrained(teacher).save_pretrained(tmp_path / "short")
    train = write(tmp_path / "long.tsv", "text\tlabel", *ROWS, "good " * 60 + "\tgood")
    given = ["--task", "classify", "--train", train, "--dev", train, "--out", tmp_path / "out", "--no-bf16"]
    given += ["--teacher", teacher, "--student", tmp_path / "short", "--epochs", "1"]
    assert main([str(part) for part in given]) == 0


def test_a_question_answering_teacher_of_a_classifier_is_refused(
    told: Callable[..., str], tiny_qa: dict[str, Path], tmp_path: Path
) -> None:
    labelled = write(tmp_path / "labels.tsv", "text\tlabel", "a\tLABEL_0", "b\tLABEL_1")
    line = told("--teacher", tiny_qa["distilbert"], "--train", labelled, "--dev", labelled)
    assert "has no trained head for the task classify" in line
    AutoModelForQuestionAnswering.from_pretrained(tiny_qa["distilbert"])  # it has one for its own


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"id2label": {"0": "bad", "2": "good"}}, "id2label must name the labels 0, 1, ...; add their names"),
        ({"problem_type": "regression"}, "the model predicts 2 numbers, not labels; it cannot be served"),
    ],
)
def test_a_teacher_whose_student_nobody_could_serve_is_refused(
    told: Callable[..., str], teacher: Path, change: dict[str, object], line: str
) -> None:
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | change))
    assert told("--teacher", teacher) == f"{teacher / 'config.json'}: {line}"


def test_a_teacher_for_another_number_of_labels_is_refused(
    told: Callable[..., str], teacher: Path, squad_file: Path
) -> None:
    line = told("--teacher", teacher, "--train", squad_file, "--dev", squad_file, task="rerank")
    assert line.startswith(f"{teacher / 'config.json'}: a reranker has one label, which is its score")
    line = told("--teacher", teacher, "--multi-label")
    assert line.startswith(f"{teacher} gives a text one label (problem_type in its config.json), so its student cannot")


@pytest.mark.parametrize(
    ("task", "flags", "line"),
    [
        (
            "classify",
            ["--joined", "0.5", "--doc-stride", "8"],
            "--doc-stride, --joined do nothing for the task cla",
        ),
        ("qa", ["--multi-label"], "--multi-label does nothing for the task qa; remove it"),
        (
            "similarity",
            ["--soft", "2", "--cache-teacher", "c"],
            "--cache-teacher, --soft do nothing for the task si",
        ),
    ],
)
def test_flags_of_another_task_are_refused(
    told: Callable[..., str], teacher: Path, task: str, flags: list[str], line: str
) -> None:
    assert told("--teacher", teacher, *flags, task=task).startswith(line)
