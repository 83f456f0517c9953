"""`python -m loadtest` against a real server: what it leaves, and what it counts as what."""

import csv
from pathlib import Path

import pytest

from loadtest.__main__ import main
from tests.server import ROOT

BUNDLES = {"qa": "qa-small", "similarity": "similarity", "classify": "classify"}
"""Of the default ones, by their directories here."""


def rows(out: Path) -> dict[str, dict[str, str]]:
    """Locust's statistics by name."""
    with (out / "locust_stats.csv").open(newline="") as file:
        return {row["Name"]: row for row in csv.DictReader(file)}


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(ROOT)
    (tmp_path / "bundles").mkdir()
    for name, bundle in BUNDLES.items():
        (tmp_path / "bundles" / name).symlink_to(ROOT / "bundles" / bundle)
    monkeypatch.setenv("HALFDEPTH_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv("HALFDEPTH_THREADS", "1")
    return tmp_path / "loadtest"


def test_each_stage_has_a_row_beside_the_clients_own(out: Path) -> None:
    assert main(["--seconds", "2", "--users", "4", "--out", str(out)]) == 0
    statistics = rows(out)
    for route in ("/qa", "/similarity", "/embed"):
        asked = int(statistics[route]["Request Count"])
        assert asked > 0
        for stage in ("queue", "tokenization", "inference", "inference_wall", "postprocess", "total"):
            row = statistics[f"{route} · {stage}"]
            assert (row["Type"], int(row["Request Count"])) == ("STAGE", asked)
    tokenization, client = (float(statistics[name]["Average Response Time"]) for name in ("/qa · tokenization", "/qa"))
    assert 0 < tokenization < client
    requests = sum(int(row["Request Count"]) for row in statistics.values() if row["Type"] == "POST")
    assert int(statistics["Aggregated"]["Request Count"]) == requests
    assert "/qa \\u00b7 tokenization" in (out / "report.html").read_text()


def test_a_model_is_asked_on_the_routes_of_its_task(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seconds", "1", "--users", "2", "--out", str(out), "--model"]
    assert main([*arguments, "minilm-l3-classify"]) == 0
    assert {name for name, row in rows(out).items() if row["Type"] == "POST"} == {"/classify"}
    assert main([*arguments, "unheard-of"]) == 2
    assert "has no model unheard-of; its /info lists those that are loaded" in capsys.readouterr().err


def test_a_service_that_cannot_start_is_told(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HALFDEPTH_BUNDLES", "nowhere")
    assert main(["--out", str(out)]) == 2
    assert "service.log says why" in capsys.readouterr().err
    assert "nowhere is not a directory" in (out / "service.log").read_text()


def test_no_server_is_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:9", "--out", str(out)]) == 2
    assert capsys.readouterr().err.endswith("start the service with `make serve`\n")
