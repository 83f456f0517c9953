"""The DistilBERT paper's table 3: sizes as published, every model timed, lengths of the file or of STS-B dev."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, DistilBertConfig

from export.bench import elmo, table3
from export.bench.elmo import ElmoPair
from export.bench.random_checkpoint import main as write_checkpoint
from export.bench.stock import SHAPES
from export.bench.sts_lengths import known_lengths, read_lengths
from models.finetune.recipes import RECIPES
from models.tasks.bundle import load_bundle
from tests.server import ROOT

TINY = {"num_labels": 1}


def test_elmo_has_the_papers_180_million_parameters_of_which_the_published_model_has_93() -> None:
    with torch.device("meta"):
        pair = ElmoPair()
    assert table3.count(pair) == pytest.approx(180e6, rel=0.03)
    assert table3.count(pair.elmo) == pytest.approx(93.6e6, rel=0.005)


@pytest.mark.parametrize(("name", "millions"), [("BERT-base", 110), ("DistilBERT", 66)])
def test_the_encoders_have_the_papers_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = table3._model(table3.CONFIGS[name], "eager")
    assert table3.count(model) == pytest.approx(millions * 1e6, rel=0.02)


def test_every_model_is_timed_by_each_backend_and_seconds_are_for_all_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in {"CELLS": 8, "PROJECTION": 4, "ENCODER_CELLS": 4, "HIDDEN": 4}.items():
        monkeypatch.setattr(elmo, name, size)
    bert = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, **TINY)
    student = DistilBertConfig(dim=8, n_layers=1, n_heads=2, hidden_dim=16, **TINY)
    configs = {"BERT-base": bert, "DistilBERT": student, "halfdepth, 3 layers of 384": student}
    monkeypatch.setattr(table3, "CONFIGS", configs)
    assert table3.main(["--slice", "5", "--threads", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    torch_rows, onnx_rows = ("PyTorch fp32", "onnxruntime fp32")
    expected = [("ELMo", torch_rows)] + [(name, backend) for name in configs for backend in (torch_rows, onnx_rows)]
    assert [(row["model"], row["backend"]) for row in rows] == [*expected, ("halfdepth, 3 layers of 384", table3.INT8)]
    assert {row["paper_seconds"] for row in rows} == {895, 668, 410, None}
    assert all(row["seconds"] > 0 and row["pairs"] == 1500 and row["pairs_read"] == 5 for row in rows)


def test_a_part_has_every_length_in_proportion() -> None:
    whole = known_lengths()
    assert len(whole.tokens) == 1500
    assert len(whole.words) == 3000
    part = whole.part(150)
    assert sum(part.tokens) / 150 == pytest.approx(sum(whole.tokens) / 1500, rel=0.02)
    assert sum(part.words) / 300 == pytest.approx(sum(whole.words) / 3000, rel=0.02)
    assert sorted(whole.part(1500).tokens) == sorted(whole.tokens)


def test_lengths_of_a_file_are_those_of_its_pairs(tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("sentence1\tsentence2\tscore\nA man, here.\tA man\t5.0\n")
    lengths = read_lengths(table, Tokenizer.from_file(str(ROOT / "bundles" / "similarity" / "tokenizer.json")))
    assert list(lengths.tokens) == [3 + 5 + 2]
    assert list(lengths.words) == [5, 2]


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table3.main(["--data", str(tmp_path / "absent.tsv")]) == 2
    assert "absent.tsv" in capsys.readouterr().err


def test_a_random_checkpoint_has_the_shape_and_the_labels_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "DistilBERT-base", (1, 24, 2, 48))
    bundle = ROOT / "bundles" / "classify"
    assert write_checkpoint(["--like", str(bundle), "--out", str(tmp_path / "out")]) == 0
    model = RECIPES[load_bundle(bundle).task].model_class.from_pretrained(tmp_path / "out")
    assert (model.config.n_layers, model.config.dim) == (1, 24)
    assert model.config.id2label == {0: "negative", 1: "positive"}
