"""A checkpoint with random weights: what it is made like must be there."""

from pathlib import Path

import pytest

from export.bench.random_checkpoint import main


def test_a_bundle_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--like", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "absent" in line
    assert not (tmp_path / "out").exists()
