"""The sweep of connections, briefly, against a real server."""

from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.record import read_record
from tests.server import ROOT

BRIEFLY = ["--threads", "1", "--seconds", "0.3", "--rounds", "2", "--tokens", "24"]


def test_each_number_of_connections_is_a_row_with_its_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qa").symlink_to(ROOT / "bundles" / "qa-small")
    out = tmp_path / "throughput.json"
    arguments = ["--bundles", str(tmp_path), *BRIEFLY, "--concurrency", "1", "4", "--out", str(out)]
    assert main(["throughput", *arguments]) == 0
    measured = read_record(out)
    assert measured.part == "throughput"
    assert [(row["task"], row["concurrency"]) for row in measured.rows] == [("qa", 1), ("qa", 4)]
    for row in measured.rows:
        assert len(row["requests_per_s_rounds"]) == len(row["p50_ms_rounds"]) == 2
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert "requests/s" in capsys.readouterr().out


def test_a_task_without_a_bundle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["throughput", "--bundles", str(ROOT / "bundles"), "--tasks", "entities"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "has no bundle for entities; there are classify, qa" in error
