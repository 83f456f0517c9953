"""A sentence encoder of any kind teaches by its embeddings, and pairs with scores teach a student of any width."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel

from models.finetune.__main__ import main
from models.finetune.options import FinetuneOptions
from models.finetune.prepare import prepare
from tests.models.teaching.kinds import KINDS, save_kind

LONG = " ".join(["Ada Lovelace wrote the first program"] * 30)
SENTENCES = ("The lamp is RED.", "Where is Zürich?", "An old oven.", LONG)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(SENTENCES) + "\n")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tscore\nalpha beta\tgamma delta\t0\nalpha beta\teta theta\t5\n")
    return path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("bert", "distilbert", "electra", "mpnet")])
def test_embeddings_are_the_means_of_what_transformers_makes_of_the_text(
    kind: str, tiny_teacher: Path, text: Path, pairs: Path, tmp_path: Path
) -> None:
    path = save_kind(kind, tiny_teacher, tmp_path / kind, AutoModel)
    options = FinetuneOptions(
        task="similarity",
        teacher=(str(path),),
        student_from=str(tiny_teacher),
        layers="2",
        train=(text,),
        dev=pairs,
        out=tmp_path / "out",
        bf16=False,
    )
    recipe = prepare(options).recipe
    teacher, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    assert recipe.reader is not None
    assert recipe.reader.difference
    for item, sentence in zip(recipe.items(teacher), SENTENCES, strict=True):
        with torch.no_grad():
            states = teacher(**tokenizer(sentence, truncation=True, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(np.asarray(item.label, np.float32), states.mean(dim=0).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["mpnet", "modernbert"])
def test_a_student_learns_from_an_encoder_of_another_kind(
    kind: str, tiny_teacher: Path, text: Path, pairs: Path, tmp_path: Path
) -> None:
    path = save_kind(kind, tiny_teacher, tmp_path / kind, AutoModel)
    given = ["--task", "similarity", "--teacher", path, "--student-from", tiny_teacher, "--layers", "2", "--no-bf16"]
    given += ["--train", text, "--dev", pairs, "--pairs", pairs, "--epochs", "20", "--lr", "1e-2"]
    given += ["--no-freeze-embeddings", "--out", tmp_path / "out"]
    assert main([str(part) for part in given]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert np.isfinite(rows[-2]["hard"])


def test_a_student_of_another_width_learns_the_scores_of_pairs_alone(
    tiny_teacher: Path, text: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    config = DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path / "narrow")
    tokenizer.save_pretrained(tmp_path / "narrow")
    given = ["--task", "similarity", "--teacher", tiny_teacher, "--student", tmp_path / "narrow", "--no-bf16"]
    given += ["--train", text, "--dev", pairs, "--out", tmp_path / "out", "--epochs", "30", "--lr", "1e-2"]
    assert main([str(part) for part in given]) == 2
    assert "have a width of 32 and the student's of 16: they cannot be compared; use a stud" in capsys.readouterr().err
    assert main([str(part) for part in [*given, "--pairs", pairs, "--no-freeze-embeddings"]]) == 0
    assert "only the scores of --pairs are learned" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["spearman"] == pytest.approx(100)
