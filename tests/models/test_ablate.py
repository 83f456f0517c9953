"""The whole ablation on a tiny encoder, and the arithmetic of its table."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM

from models import ablate
from models.ablate import ROWS, main, tabulate
from tests.conftest import PARAGRAPHS


@pytest.fixture
def files(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A teacher with a head, text, and a labelled file for each of the two tasks."""
    shutil.copytree(tiny_teacher, tmp_path / "teacher")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM.from_pretrained(tiny_teacher).save_pretrained(tmp_path / "teacher")
    lines = [line for lines in PARAGRAPHS.values() for line in lines]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    rows = [f"{line}\t{number % 2}" for number, line in enumerate(lines)]
    (tmp_path / "labels.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    pairs = [f"{line}\t{lines[0]}\t{number}" for number, line in enumerate(lines)]
    (tmp_path / "scores.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *pairs]), encoding="utf-8")
    return tmp_path


def test_every_row_is_trained_once_and_a_second_run_finds_it_done(
    files: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, labels, scores = (str(files / name) for name in ("text.txt", "labels.tsv", "scores.tsv"))
    argv = ["--teacher", str(files / "teacher"), "--sentence-teacher", str(tiny_teacher), "--layers", "2"]
    argv += ["--train", text, "--dev", text, "--classify", labels, labels, "--similarity", scores, scores]
    argv += ["--seeds", "1", "--task-epochs", "1", "--out", str(files / "out")]
    monkeypatch.setenv("HF_DATASETS_CACHE", str(files / "cache"))
    assert main(argv) == 0
    table = capsys.readouterr().out
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]] == [row.name for row in ROWS]
    assert (files / "out" / "ablation.md").read_text() == table
    for row in ROWS:
        runs = sorted(
            path.parent.name for path in (files / "out").glob(f"{row.name.replace(' ', '-')}-1/*/config.json")
        )
        assert runs == ["classify", "similarity", "student"]

    def train_again(*_: object) -> None:
        raise AssertionError("this run is finished")

    monkeypatch.setattr(ablate, "pretrain", train_again)
    monkeypatch.setattr(ablate, "finetune", train_again)
    assert main(argv) == 0
    assert capsys.readouterr().out == table


def test_a_task_file_that_cannot_be_used_is_told_before_anything_is_trained(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, labels, scores = (str(files / name) for name in ("text.txt", "labels.tsv", "scores.tsv"))
    (files / "others.tsv").write_text("text\tlabel\na\t0\nb\tgood\n")
    (files / "wrong.tsv").write_text("sentence1\tsentence2\tscore\na\tb\thigh\n")
    argv = ["--teacher", str(files / "teacher"), "--sentence-teacher", str(files / "teacher"), "--train", text]
    argv += ["--dev", text, "--out", str(files / "out")]
    assert main([*argv, "--classify", labels, str(files / "others.tsv"), "--similarity", scores, scores]) == 2
    assert "others.tsv: the model has no label 'good'; its labels are 0, 1" in capsys.readouterr().err
    assert main([*argv, "--classify", labels, labels, "--similarity", scores, str(files / "wrong.tsv")]) == 2
    assert "wrong.tsv: line 2: the score 'high' is not a number" in capsys.readouterr().err
    assert not (files / "out").exists()


def test_deltas_are_taken_seed_by_seed() -> None:
    scores = {row.name: [(80.0, 60.0), (90.0, 70.0)] for row in ROWS}
    scores["without cosine"] = [(78.0, 60.0), (86.0, 70.0)]
    lines = tabulate(scores).splitlines()
    assert lines[2] == "| all three losses | 85.00 ± 7.07 | 65.00 ± 7.07 | 75.00 ± 7.07 |  |  |"
    assert lines[4] == "| without cosine | 82.00 ± 5.66 | 65.00 ± 7.07 | 73.50 ± 6.36 | -1.50 ± 0.71 | -1.46 |"


def test_a_teacher_without_a_head_is_refused(
    files: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, labels, scores = (str(files / name) for name in ("text.txt", "labels.tsv", "scores.tsv"))
    argv = ["--teacher", str(tiny_teacher), "--sentence-teacher", str(tiny_teacher), "--out", str(files / "out")]
    argv += ["--train", text, "--dev", text, "--classify", labels, labels, "--similarity", scores, scores]
    assert main(argv) == 2
    assert "has no head for masked tokens" in capsys.readouterr().err


def test_a_task_file_that_is_not_there_is_told_before_anything_is_trained(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, scores = str(files / "text.txt"), str(files / "scores.tsv")
    argv = ["--teacher", str(files / "teacher"), "--sentence-teacher", str(files / "teacher"), "--train", text]
    argv += ["--dev", text, "--classify", scores, str(files / "absent.tsv"), "--similarity", scores, scores]
    assert main([*argv, "--out", str(files / "out")]) == 2
    assert "absent.tsv is not a file" in capsys.readouterr().err
    assert not (files / "out").exists()


def test_a_pair_that_is_too_long_for_its_task_is_told_in_one_line_after_the_distillation(
    files: Path, tiny_teacher: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "\t".join(("good " * 190, "bad " * 190, "1"))
    (files / "long.tsv").write_text(f"text\ttext_pair\tlabel\na\tb\t0\n{long}\n")
    text, labels, scores = (str(files / name) for name in ("text.txt", "long.tsv", "scores.tsv"))
    argv = ["--teacher", str(files / "teacher"), "--sentence-teacher", str(tiny_teacher), "--layers", "2"]
    argv += ["--train", text, "--dev", text, "--classify", labels, labels, "--similarity", scores, scores]
    monkeypatch.setenv("HF_DATASETS_CACHE", str(files / "cache"))
    assert main([*argv, "--seeds", "1", "--out", str(files / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"python -m models.ablate: {labels}: both texts are too long for windows")
    assert (files / "out" / "all-three-losses-1" / "student" / "training.json").exists()
