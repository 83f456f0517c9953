"""A teacher of any kind teaches: by its own tokenizer where that does not map onto the student's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.finetune.__main__ import main
from models.finetune.options import FinetuneOptions
from models.finetune.prepare import prepare
from models.finetune.teacher_cache import taught_items
from tests.models.teaching.kinds import KINDS, save_kind

MAPPED = ("bert", "distilbert", "electra")  # whose windows of a pair are those of the student
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
LONG = "Ada Lovelace wrote the first program. " * 30
ROWS = (
    ("The lamp is red.", "Where is Zürich?", "good"),
    ("WHO WROTE IT?", "An old oven.", "bad"),
    ("Zürich is a city in Switzerland, by the lake.", "alpha beta", "good"),
    (LONG, "It rains.", "bad"),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.tsv"
    path.write_text("text\ttext_pair\tlabel\n" + "".join("\t".join(row) + "\n" for row in ROWS))
    return path


def run(task: str, teacher: Path, student: Path, data: Path, dev: Path, out: Path, *options: str) -> int:
    given = ["--task", task, "--teacher", str(teacher), "--student-from", str(student), "--layers", "2"]
    given += ["--train", str(data), "--dev", str(dev), "--out", str(out), "--epochs", "1", "--batch-size", "2"]
    return main([*given, "--no-bf16", "--lr", "1e-3", *options])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MAPPED])
def test_soft_targets_are_what_transformers_says_of_the_text(
    kind: str, tiny_teacher: Path, table: Path, tmp_path: Path
) -> None:
    path = save_kind(kind, tiny_teacher, tmp_path / kind, AutoModelForSequenceClassification, **LABELS)
    options = FinetuneOptions(
        task="classify",
        teacher=(str(path),),
        student_from=str(tiny_teacher),
        layers="2",
        train=(table,),
        dev=table,
        out=tmp_path / "out",
        on_overflow="truncate",
        max_length=64,
    )
    prepared = prepare(options)
    teacher = AutoModelForSequenceClassification.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    items = prepared.recipe.items(None)
    taught = taught_items(tmp_path, [teacher], prepared.recipe, items, bf16=False, readers=prepared.readers)
    assert len(taught) == len(ROWS)
    for item, (text, text_pair, _) in zip(taught, ROWS, strict=True):
        encoding = tokenizer(text, text_pair, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            expected = teacher(**encoding).logits
        assert item.taught is not None
        np.testing.assert_allclose(item.taught[0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["mpnet", "roberta", "modernbert", "deberta-v2"])
def test_a_classifier_of_any_kind_teaches_and_what_it_says_may_be_kept(
    kind: str, tiny_teacher: Path, table: Path, tmp_path: Path
) -> None:
    teacher = save_kind(kind, tiny_teacher, tmp_path / kind, AutoModelForSequenceClassification, **LABELS)
    weights = ("--hidden", "0", "--relation", "0")
    assert run("classify", teacher, tiny_teacher, table, table, tmp_path / "live", *weights) == 0
    cache = ("--cache-teacher", str(tmp_path / "cache"))
    assert run("classify", teacher, tiny_teacher, table, table, tmp_path / "kept", *weights, *cache) == 0
    live, kept = (load_file(tmp_path / name / "model.safetensors") for name in ("live", "kept"))
    for name, weight in live.items():
        assert torch.isfinite(weight).all()
        if not name.endswith("k_lin.bias"):  # whose gradients are 0 but for rounding, of which AdamW makes whole steps
            assert (kept[name] - weight).abs().mean() < 1e-5
    assert not list((tmp_path / "live").glob("logits-*"))
