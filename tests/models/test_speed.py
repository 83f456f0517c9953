"""The comparison with the Trainer runs both and prints what it measured."""

import re
from pathlib import Path

import pytest

from models.speed import main
from tests.conftest import PARAGRAPHS


def test_both_are_measured_and_compared(tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("\n".join(line for lines in PARAGRAPHS.values() for line in lines))
    argv = ["--teacher", str(tiny_teacher), "--train", str(tmp_path / "text.txt"), "--cache", str(tmp_path / "cache")]
    assert main([*argv, "--steps", "2", "--rounds", "2", "--batch-size", "2", "--no-bf16"]) == 0
    printed = capsys.readouterr().out
    rates = re.findall(r"^(?:models\.pretrain|transformers) +(\d+)$", printed, re.MULTILINE)
    assert len(rates) == 2
    assert min(map(int, rates)) > 0
    assert re.search(r"^ratio, pair by pair +\d+\.\d\d$", printed, re.M)


@pytest.mark.parametrize("flag", ["--steps", "--rounds", "--batch-size"])
def test_numbers_that_must_be_above_0_are_checked(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--teacher", "any", "--train", "any.txt", flag, "0"])
    assert f"{flag} must be above 0" in capsys.readouterr().err
