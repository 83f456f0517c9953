"""Labels that transformers leaves out of config.json, since they are its own names, from training to the bundle."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import pipeline

from export.__main__ import main as export_main
from models.finetune.__main__ import main as finetune_main
from models.predict import load_bundle_run
from models.tasks.base import answerer
from models.tasks.bundle import load_bundle
from models.tasks.classification import ALL_LABELS, ClassificationInput

ROWS = ("a warm day\tLABEL_0", "a dull day\tLABEL_1", "so warm\tLABEL_0", "so dull\tLABEL_1")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.tsv"
    path.write_text("text\tlabel\n" + "\n".join(ROWS) + "\n")
    return path


def exported(*arguments: object) -> int:
    return export_main(["--task", "classify", "--no-int8", "--no-rewrite", *map(str, arguments)])


def test_two_labels_of_transformers_own_names_go_from_training_to_the_bundle(
    tiny_teacher: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--train", str(table), "--dev", str(table), "--out", str(tmp_path / "run")]
    run = ["--task", "classify", "--model", str(tiny_teacher), "--epochs", "1", "--no-bf16"]
    assert finetune_main([*run, *data]) == 0
    assert "id2label" not in json.loads((tmp_path / "run" / "config.json").read_text())
    assert exported("--student", tmp_path / "run", "--dev", table, "--out", tmp_path / "bundle") == 0
    forward, task = load_bundle_run(tmp_path / "bundle", "classify")
    labels = answerer(task, forward)(ClassificationInput("a warm day", None, ALL_LABELS)).labels
    classify: Any = pipeline("text-classification", str(tmp_path / "run"), top_k=None)  # its result has no one type
    [expected] = classify(["a warm day"])
    assert [label.label for label in labels] == [label["label"] for label in expected]
    assert [label.score for label in labels] == pytest.approx([label["score"] for label in expected], abs=1e-4)

    foreign = tmp_path / "foreign"  # as somebody else exported it, and then with another number of labels
    shutil.copytree(load_bundle(tmp_path / "bundle").model_path.parent, foreign)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tmp_path / "bundle" / name, foreign / name)
    assert exported("--from-onnx", foreign, "--dev", table, "--out", tmp_path / "again") == 0
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"num_labels": 3}))
    capsys.readouterr()
    assert exported("--from-onnx", foreign, "--dev", table, "--out", tmp_path / "wrong") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.endswith(
        "foreign cannot answer: the model gives 2 logits and its configuration 3 labels; correct its config.json"
    )
    assert not (tmp_path / "wrong").exists()
