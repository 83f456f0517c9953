"""The tables of Hugging Face Infinity and of the DistilBERT paper, as commands that leave records."""

import sys
from pathlib import Path

import pytest

from loadtest.paper import infinity, table3
from loadtest.record import read_record
from models.tasks.bundle import load_bundle
from tests.server import ROOT

CLASSIFY = ROOT / "bundles" / "classify"
ROWS = [
    {"model": "ELMo", "backend": "PyTorch fp32", "parameters_m": 180.0, "seconds": 900.0, "paper_seconds": 895},
    {"model": "BERT-base", "backend": "PyTorch fp32", "parameters_m": 110.0, "seconds": 60.0, "paper_seconds": 668},
    {"model": "halfdepth", "backend": "onnxruntime int8", "parameters_m": 17.0, "seconds": 2.0, "paper_seconds": None},
]
STATED = {"pairs": 1500, "pairs_read": 150, "threads": 2}


def test_infinitys_lengths_are_served_one_request_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(infinity, "make_bundle", lambda _: load_bundle(CLASSIFY))
    out = tmp_path / "infinity.json"
    assert infinity.main(["--tokens", "8", "64", "--rounds", "2", "--seconds", "0.2", "--out", str(out)]) == 0
    measured = read_record(out)
    assert measured.part == "infinity"
    assert [(row["tokens"], row["infinity_requests_per_s"]) for row in measured.rows] == [(8, 248), (64, 97)]
    for row in measured.rows:
        assert row["requests_per_s"] > 0
        assert len(row["requests_per_s_rounds"]) == 2
    assert "two physical cores of Ice Lake" in capsys.readouterr().out


def test_the_bundle_is_checked_on_sentences_with_both_labels() -> None:
    header, *rows = infinity.dev_set(CLASSIFY).splitlines()
    assert header == "text\tlabel"
    assert {row.split("\t")[1] for row in rows} == {"negative", "positive"}


def test_a_length_that_infinitys_table_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert infinity.main(["--tokens", "8", "9"]) == 2
    assert "Infinity's table has no 9; it has 8, 16, 32" in capsys.readouterr().err


def failing(_module: str) -> list[str]:
    """A command in place of one that imports PyTorch first; it says which file it was given, and fails."""
    return [sys.executable, "-S", "-c", "import sys; sys.exit(next(word for word in sys.argv if 'absent' in word))"]


def test_a_bundle_that_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infinity, "python_module", failing)
    arguments = ["--work", str(tmp_path / "work"), "--like", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    assert infinity.main(arguments) == 2
    assert f"the bundle cannot be made: {tmp_path / 'absent'}\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_table_3_is_written_with_the_papers_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def measured(arguments: list[str]) -> list[dict[str, object]]:
        asked.extend(arguments)
        return [row | STATED for row in ROWS]

    monkeypatch.setattr(table3, "measured", measured)
    out = tmp_path / "table3.json"
    assert table3.main(["--slice", "30", "--data", "a.tsv", "--out", str(out)]) == 0
    assert asked == ["--slice", "30", "--data", "a.tsv"]
    assert read_record(out).part == "table3"
    told = capsys.readouterr().out
    assert "30.00x" in told
    assert "668" in told
    assert "150 of them read" in told


def test_a_measurement_that_fails_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table3, "python_module", failing)
    assert table3.main(["--data", str(tmp_path / "absent.tsv"), "--out", str(tmp_path / "out")]) == 2
    told = capfd.readouterr().err
    assert "absent.tsv" in told
    assert "says above why" in told
