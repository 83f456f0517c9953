"""Checkpoints are whole or absent."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertModel

from models.checkpoint import Checkpoint, CheckpointError, claim, discard_checkpoints
from models.provenance import PROVENANCE


def checkpoint_in(directory: Path, seed: str = "0") -> Checkpoint:
    model = BertModel(BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    optimizer = torch.optim.AdamW(model.parameters())
    return Checkpoint(directory, {"seed": seed}, model, optimizer, LambdaLR(optimizer, lambda _: 1.0))


def test_a_disk_that_is_full_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"step": 1})
    with full_disk(), pytest.raises(CheckpointError, match=r"cannot be written: .*; make room, and the same command"):
        checkpoint.save({"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]
    assert checkpoint.resume() == {"step": 1}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 1 kB: the system refuses each further byte, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_the_newest_checkpoints_are_kept_and_the_older_ones_removed(tmp_path: Path) -> None:
    checkpoint = checkpoint_in(tmp_path)
    for step in (1, 2, 10):
        checkpoint.save({"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000002.pt", "checkpoint-00000010.pt"]
    assert checkpoint.resume() == {"step": 10}
    (tmp_path / "checkpoint-00000012.tmp").touch()  # as a run leaves that is killed while it writes one
    discard_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_whose_checkpoints_are_left_is_not_finished(tmp_path: Path) -> None:
    checkpoint_in(tmp_path).save({"step": 1})
    (tmp_path / PROVENANCE).write_text("{}")
    claim(tmp_path, [], log="log.jsonl")
    discard_checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="holds a finished run"):
        claim(tmp_path, [], log="log.jsonl")


@pytest.mark.parametrize("kept", [0, 1000, 0.5])
def test_a_checkpoint_cut_short_is_passed_over_for_the_one_before_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: float
) -> None:
    checkpoint = checkpoint_in(tmp_path)
    checkpoint.save({"step": 1})
    checkpoint.save({"step": 2})
    newest = tmp_path / "checkpoint-00000002.pt"
    content = newest.read_bytes()
    newest.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    assert checkpoint.resume() == {"step": 1}
    warning = capsys.readouterr().err
    assert warning.startswith(f"{newest} cannot be read (")
    assert warning.endswith("the checkpoint before it is used\n")


def test_where_no_checkpoint_can_be_read_the_run_does_not_begin_anew_in_silence(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-00000001.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read; remove them"):
        checkpoint_in(tmp_path).resume()


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
    with pytest.raises(CheckpointError, match="belongs to a run with a different seed; use the same arguments"):
        checkpoint_in(tmp_path, seed="1").resume()
