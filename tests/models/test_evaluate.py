"""The command over its three sources."""

import json
from pathlib import Path

import pytest

from models.evaluate import main


@pytest.mark.parametrize("source", ["--bundle", "--checkpoint", "--url"])
def test_what_cannot_be_measured_ends_with_status_2_and_one_line(
    source: str, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "http://127.0.0.1:9" if source == "--url" else str(tmp_path / "absent")
    assert main(["--task", "qa", "--dev", str(squad_file), source, where]) == 2
    assert "python -m models.evaluate: " in capsys.readouterr().err


def test_a_checkpoint_is_measured_by_the_command(
    tiny_qa: dict[str, Path], squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "qa", "--dev", str(squad_file), "--checkpoint", str(tiny_qa["roberta"])]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12


@pytest.mark.parametrize("sources", [[], ["--bundle", "a", "--url", "b"]])
def test_what_is_measured_must_be_clear(sources: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", "qa", "--dev", "d", *sources]) == 2
    assert capsys.readouterr().err == (
        "python -m models.evaluate: give exactly one of --checkpoint, --bundle and --url\n"
    )
