"""The models that other servers load answer as the bundle whose weights they have."""

from pathlib import Path

import numpy as np
import pytest

from export.bench.stock_models import main
from models.finetune.recipes import RECIPES
from models.predict import load_bundle_run, torch_run
from models.tasks.base import Features
from models.tasks.bundle import load_bundle
from tests.server import ROOT


def test_both_models_of_a_bundle_give_its_logits(tmp_path: Path) -> None:
    path = ROOT / "bundles" / "classify"
    assert main([str(path), "--out", str(tmp_path)]) == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fp32", "stock-int8"]
    bundle = load_bundle(path)
    served, task = load_bundle_run(path, bundle.task)
    fp32 = torch_run(RECIPES[bundle.task].model_class.from_pretrained(tmp_path / "fp32"), task.output_names)
    stock, _ = load_bundle_run(tmp_path / "stock-int8", bundle.task)
    ids = np.asarray(task.tokenizer.encode("The plot is thin, but the actors are a joy.").ids)
    window = Features(ids, np.zeros_like(ids))
    logits = [np.asarray(run(window)[0]) for run in (served, fp32, stock)]
    assert logits[1] == pytest.approx(logits[0], abs=0.25)
    assert logits[2] == pytest.approx(logits[0], abs=1)


def test_what_is_no_bundle_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent"), "--out", str(tmp_path)]) == 2
    assert "absent" in capsys.readouterr().err
