"""A soak of seconds, with tiny bundles."""

import json
from array import array
from pathlib import Path

import pytest

from loadtest.torture.load import Tally
from loadtest.torture.soak import main, p99_by_third
from tests.service.conftest import write_bundle

BRIEFLY = ["--minutes", "0.03", "--capacity-seconds", "0.5", "--share", "0.2"]
PATIENT = ["--max-drift", "1000", "--max-growth", "10"]  # seconds tell nothing of these


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALFDEPTH_THREADS", "1")  # nothing is measured at the start
    write_bundle(tmp_path / "bundles" / "qa")
    write_bundle(tmp_path / "bundles" / "similarity", "similarity")
    return tmp_path / "bundles"


def test_client_log_and_metrics_count_the_same(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "soak.json"
    assert main(["--bundles", str(root), *BRIEFLY, *PATIENT, "--out", str(out)]) == 0, capsys.readouterr().err
    [row] = json.loads(out.read_text())["rows"]
    assert row["sent"] == row["right"] + sum(row["refused"].values()) > 0
    assert row["statuses_of_tasks_at_client"] == row["statuses_in_log"] == row["statuses_in_metrics"]
    assert "p99_ms_by_third" in capsys.readouterr().out


def test_what_does_not_hold_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--max-drift", "1000", "--max-growth", "0.5"]
    assert main(["--bundles", str(root), *BRIEFLY, *limits, "--out", str(tmp_path / "soak.json")]) == 2
    assert "memory grew from" in capsys.readouterr().err


def test_bundles_that_are_not_there_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundles", str(tmp_path / "none"), *BRIEFLY]) == 2
    assert f"{tmp_path / 'none'} is not a directory" in capsys.readouterr().err  # the log is gone by then


def test_p99_is_told_by_third_in_the_order_of_sending() -> None:
    tally = Tally(began_s=array("d", [3, 1, 2]), took_ms=array("d", [30, 10, 20]))
    assert p99_by_third(tally) == [10, 20, 30]
