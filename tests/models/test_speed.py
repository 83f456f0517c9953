"""The comparison with the Trainer runs both and prints what it measured."""

import re
from pathlib import Path

import pytest
from transformers import DistilBertConfig

from models.speed import flops_per_token, main
from tests.conftest import PARAGRAPHS


def test_both_are_measured_and_compared(tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("\n".join(line for lines in PARAGRAPHS.values() for line in lines))
    argv = ["--teacher", str(tiny_teacher), "--train", str(tmp_path / "text.txt"), "--cache", str(tmp_path / "cache")]
    assert (
        main([*argv, "--steps", "2", "--rounds", "2", "--batch-size", "2", "--no-bf16", "--peak-tflops", "0.001"]) == 0
    )
    printed = capsys.readouterr().out
    rates = re.findall(r"^(?:models\.pretrain|transformers) +(\d+)$", printed, re.MULTILINE)
    assert len(rates) == 2
    assert min(map(int, rates)) > 0
    assert re.search(r"^ratio, pair by pair +\d+\.\d\d$", printed, re.M)
    assert re.search(r"^ours: 0\.\d{3} GFLOP for a token, 0\.\d{3} TFLOP/s, \d+\.\d% of the peak$", printed, re.M)


def test_the_operations_of_a_token_are_those_of_its_products() -> None:
    student = DistilBertConfig(dim=4, hidden_dim=8, n_layers=3, vocab_size=100)
    layer = 4 * (4 * 4) + 2 * (4 * 8) + 5 * 4 + 5 * 4  # projections, feed-forward, scores and values over 5 tokens
    head = 4 * 4 + 4 * 100
    assert flops_per_token(student, 5) == pytest.approx(6 * (3 * layer + 0.15 * head))


@pytest.mark.parametrize("flag", ["--steps", "--rounds", "--batch-size", "--peak-tflops"])
def test_numbers_that_must_be_above_0_are_checked(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--teacher", "any", "--train", "any.txt", flag, "0"]) == 2
    assert f"{flag} must be above 0" in capsys.readouterr().err
