"""How a run of the command ends early, and the same run called from Python."""

import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import PATTERN
from models.data import Batch
from models.finetune import loop
from models.finetune.__main__ import main
from models.finetune.loop import finetune
from models.finetune.objective import Objective
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import Output


def train(squad: Path, out: Path, *options: str) -> int:
    data = ["--train", str(squad), "--dev", str(squad), "--max-length", "64", "--doc-stride", "8"]
    return main(["--task", "qa", *data, "--batch-size", "2", "--lr", "3e-3", "--out", str(out), *options])


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_signal_leaves_a_checkpoint_from_which_the_run_ends_as_an_unbroken_one(
    number: signal.Signals,
    name: str,
    status: int,
    tiny_teacher: Path,
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--model", str(tiny_teacher), "--epochs", "4", "--dropout", "0.1", "--evaluate-every", "5")
    assert train(squad_file, tmp_path / "whole", *options) == 0

    def terminated(objective: Objective, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
        steps.append(len(batches))
        if len(steps) == 3:
            os.kill(os.getpid(), number)
        return gradients(objective, batches)

    gradients, steps, handler = loop.gradients, list[int](), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "gradients", terminated)
        assert train(squad_file, tmp_path / "broken", *options) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == f"python -m models.finetune: stopped by {name} at step 3; run the same command to continue"
    assert signal.getsignal(signal.SIGINT) is handler
    assert [path.name for path in (tmp_path / "broken").glob(PATTERN)] == ["checkpoint-00000003.pt"]
    assert train(squad_file, tmp_path / "broken", *options) == 0

    whole, broken = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert not list((tmp_path / "broken").glob(PATTERN))


def test_a_loss_that_is_not_a_number_ends_the_run_before_a_weight_is_touched(
    tiny_teacher: Path,
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nan_loss(_: object, output: Output, __: object) -> torch.Tensor:
        loss: torch.Tensor = output.start_logits.sum() * math.nan
        return loss

    stepped: list[object] = []
    monkeypatch.setattr("models.finetune.qa.QARecipe.hard_loss", nan_loss)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: stepped.append(_))
    assert train(squad_file, tmp_path / "out", "--model", str(tiny_teacher)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == "python -m models.finetune: a loss is no longer a number: {'hard': nan}; lower --lr"
    assert stepped == []


def test_training_is_called_from_python_with_the_same_options(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(
        task="qa",
        train=(squad_file,),
        dev=squad_file,
        model=str(tiny_teacher),
        out=tmp_path / "out",
        max_length=64,
        doc_stride=8,
        bf16=False,
    )
    metrics = finetune(options)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["metrics"] == {squad_file.name: metrics}
    assert record["command"] == (
        f"python -m models.finetune --task qa --train {squad_file} --dev {squad_file} --model {tiny_teacher}"
        f" --out {tmp_path / 'out'} --no-bf16 --max-length 64 --doc-stride 8"
    )


@pytest.mark.parametrize("start", [[], ["--model", "a", "--teacher", "b"]])
def test_a_run_has_either_a_model_or_teachers(start: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", "qa", "--train", "t", "--dev", "d", "--out", "o", *start]) == 2
    assert capsys.readouterr().err == (
        "python -m models.finetune: give either --model (to fine-tune) or --teacher (to distil)\n"
    )
