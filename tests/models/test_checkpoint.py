"""Checkpoints are whole or absent."""

from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertModel

from models.checkpoint import Checkpoint, CheckpointError


def checkpoint_in(directory: Path, seed: str = "0") -> Checkpoint:
    model = BertModel(BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    optimizer = torch.optim.AdamW(model.parameters())
    return Checkpoint(directory, {"seed": seed}, model, optimizer, LambdaLR(optimizer, lambda _: 1.0))


def test_a_save_that_dies_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"step": 1})

    def die(_state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", die)
        with pytest.raises(OSError, match="no space"):
            checkpoint.save({"step": 2})
    assert checkpoint.resume() == {"step": 1}


def test_weights_and_random_numbers_come_back(tmp_path: Path) -> None:
    saved, fresh = checkpoint_in(tmp_path), checkpoint_in(tmp_path)
    saved.save({"step": 1})
    drawn = torch.rand(3)
    fresh.resume()
    assert torch.equal(torch.rand(3), drawn)
    assert all(torch.equal(fresh.model.state_dict()[name], w) for name, w in saved.model.state_dict().items())


def test_without_a_checkpoint_a_run_begins_anew(tmp_path: Path) -> None:
    assert checkpoint_in(tmp_path).resume() is None


def test_a_checkpoint_of_other_arguments_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint_in(tmp_path).save({"step": 1})
    with pytest.raises(CheckpointError, match="of a run with another seed; give the same arguments"):
        checkpoint_in(tmp_path, seed="1").resume()
