"""The loop on a tiny encoder: it learns, it distils, and a killed run ends as an unbroken one would."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import FILE, Checkpoint
from models.finetune import main


def train(squad: Path, out: Path, *options: str) -> int:
    data = ["--train", str(squad), "--dev", str(squad), "--max-length", "64", "--doc-stride", "8"]
    return main(["--task", "qa", *data, "--batch-size", "2", "--lr", "3e-3", "--out", str(out), *options])


def test_a_teacher_learns_and_its_student_learns_from_it(tiny_teacher: Path, squad_file: Path, tmp_path: Path) -> None:
    epochs = ("--epochs", "40", "--evaluate-every", "40", "--patience", "100", "--no-freeze-embeddings", "--no-bf16")
    assert train(squad_file, tmp_path / "teacher", "--model", str(tiny_teacher), *epochs) == 0
    assert (
        train(squad_file, tmp_path / "student", "--teacher", str(tmp_path / "teacher"), "--layers", "2", *epochs) == 0
    )
    for name, source in (("teacher", "tiny-teacher"), ("student", "teacher")):
        record = json.loads((tmp_path / name / "training.json").read_text())
        assert record["metrics"]["tiny_squad.json"]["f1"] == 100.0
        assert record["source"] == source
        assert [data["name"] for data in record["data"]] == ["tiny_squad.json"]
        assert not (tmp_path / name / FILE).exists()
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForQuestionAnswering"]
    assert config["n_layers"] == 2
    assert isinstance(config["no_answer_threshold"], float)
    rows = [json.loads(line) for line in (tmp_path / "student" / "log.jsonl").read_text().splitlines()]
    assert {"hard", "soft", "hidden", "relation"} <= set(rows[0])
    assert rows[-2]["soft"] < rows[0]["soft"]


def test_a_killed_run_goes_on_to_the_same_weights(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "--model",
        str(tiny_teacher),
        "--epochs",
        "6",
        "--evaluate-every",
        "5",
        "--checkpoint-every",
        "4",
        "--dropout",
        "0.1",
    )
    assert train(squad_file, tmp_path / "whole", *options) == 0

    save, saved = Checkpoint.save, []

    def save_and_die(self: Checkpoint, progress: dict[str, object]) -> None:
        save(self, progress)
        saved.append(progress["step"])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(squad_file, tmp_path / "killed", *options)
    assert saved == [4]
    assert train(squad_file, tmp_path / "killed", *options) == 0

    whole = load_file(tmp_path / "whole" / "model.safetensors")
    resumed = load_file(tmp_path / "killed" / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_run_is_not_overwritten(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(squad_file, tmp_path / "out", "--model", str(tiny_teacher)) == 0
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert train(squad_file, tmp_path / "out", "--model", str(tiny_teacher)) == 2
    assert "holds a finished run; give another --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_every_kind_is_fine_tuned_and_distilled(
    kind: str, tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    assert train(squad_file, tmp_path / "teacher", "--model", str(tiny_qa[kind]), "--dropout", "0.1") == 0
    options = ("--teacher", str(tmp_path / "teacher"), "--layers", "1", "--accumulate", "2")
    assert train(squad_file, tmp_path / "student", *options) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (config["model_type"], config["n_layers"]) == ("distilbert", 1)


def test_training_stops_early_when_the_dev_set_gains_no_more(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path
) -> None:
    options = (
        "--model",
        str(tiny_teacher),
        "--epochs",
        "100",
        "--evaluate-every",
        "1",
        "--patience",
        "3",
        "--lr",
        "1e-9",
    )
    assert train(squad_file, tmp_path / "out", *options) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4  # the first evaluation gains, the next three do not


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "9"], "a student of 9 layers cannot be cut from a teacher of 4"),
        (["--layers", "3,1"], "a list rises"),
        (["--train", "absent.json"], "cannot read absent.json"),
        (["--teacher", "/no/such/model"], "neither a directory nor a name on the Hugging Face Hub"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_line(
    tiny_teacher: Path,
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    capsys.readouterr()
    assert train(squad_file, tmp_path / "out", "--teacher", str(tiny_teacher), *options) == 2
    assert said in capsys.readouterr().err
