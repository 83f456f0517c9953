"""The whole bench, briefly, against a real server with tiny bundles, and with the default one where that matters."""

import json
import os
import re
from pathlib import Path

import pytest

from loadtest.bench.__main__ import asked, main
from models.tasks.bundle import load_bundle
from tests.server import ROOT
from tests.service.conftest import CONFIGS, write_bundle

POSITIONS = 512  # as the default bundles have, whose texts the bench makes
BRIEFLY = ["--threads", "1", "--seconds", "0.5", "--rounds", "1", "--tokens", "16", "40", "--concurrency", "2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for each task, whose graphs take next to no time."""
    root = tmp_path_factory.mktemp("tiny")
    for task in CONFIGS:
        write_bundle(root / task, task, max_length=POSITIONS)
    return root


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the default bundles."""
    root = tmp_path_factory.mktemp("default")
    (root / "qa-small").symlink_to(ROOT / "bundles" / "qa-small")
    return root


def test_every_part_prints_its_figures(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.measurements.SIGTERM_AFTER_S", 0.3)
    monkeypatch.setattr("loadtest.bench.measurements.SIGTERM_LOAD_S", 0.6)
    arguments = ["--bundles", str(tiny), *BRIEFLY, "--requests", "200", "--overload-seconds", "0.5"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    for figure in ("listening after", "cost at p50", "requests/s", "p99", "goodput", "resident memory"):
        assert figure in told
    assert "200 mixed requests at concurrency 16, against the same one by one: 0 differ" in told
    assert "without an answer 0; exit 0" in told


def test_the_plain_server_stands_beside_ours(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = set(sorted(os.sched_getaffinity(0))[:2])  # a process for each core would be many on a large machine
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: two)
    monkeypatch.setattr("loadtest.bench.against_plain.BUSY_S", 0.0)
    monkeypatch.setattr("loadtest.bench.against_plain.WARM_UP_S", 0.1)
    (tmp_path / "qa-small").symlink_to(tiny / "qa")
    arguments = ["--bundles", str(tmp_path), "--model", "qa-small", "--rounds", "1", "--seconds", "0.4"]
    assert main([*arguments, "--against-plain", "--starts", "2"]) == 0
    told = capsys.readouterr().out
    rows = re.findall(r"^ +(\d+)  (plain|ours) +\d+ +\d+\.\d\d ", told, re.MULTILINE)
    concurrencies = ["1", "8", "32", "1", "1", str(4 * len(two)), str(16 * len(two))]
    assert rows == [(concurrency, server) for concurrency in concurrencies for server in ("plain", "ours")]


def test_the_cpu_of_a_request_is_told_by_part(
    default: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.profile.WARM_UP_S", 0.2)
    arguments = ["--bundles", str(default), "--model", "qa-small", "--seconds", "0.7", "--concurrency", "4"]
    assert main([*arguments, "--profile"]) == 0
    told = capsys.readouterr().out
    cpu = {part.strip(): float(ms) for part, ms in re.findall(r"^([a-zA-Z, ]{20}) +(\d+\.\d{3})", told, re.MULTILINE)}
    assert set(cpu) == {"encode", "run", "decode", "HTTP, queue, log", "all"}
    assert cpu["all"] == pytest.approx(sum(cpu.values()) - cpu["all"], abs=0.01)
    assert cpu["run"] > cpu["encode"] > 0


def test_one_comparison_is_made_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--against-plain", "--profile"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_memory_is_told_minute_by_minute(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.measurements.MINUTE_S", 0.5)
    assert main(["--bundles", str(tiny), *BRIEFLY, "--only", "memory", "--memory-minutes", "2"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ +1 +[1-9][0-9]+   2 of 2 answered$", told, re.MULTILINE)
    assert re.search(r"^ +2 +[1-9][0-9]+   2 of 2 answered$", told, re.MULTILINE)
    assert "goodput" not in told


@pytest.mark.parametrize(
    "flag",
    ["--tokens", "--rounds", "--concurrency", "--seconds", "--requests", "--overload-seconds", "--memory-minutes"],
)
def test_numbers_that_must_be_above_0_are_checked(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-3"):
        assert main([flag, number]) == 2
        assert re.search(rf"{flag} must be above 0, not {number}(\.0)?$", capsys.readouterr().err, re.MULTILINE)
    assert main([flag, "x"]) == 2
    assert re.search(rf"argument {flag}: 'x' is not a (whole )?number$", capsys.readouterr().err, re.MULTILINE)


def test_a_model_is_measured_by_its_name(
    tiny: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.measurements.WINDOW_TOKENS", 64)
    (tmp_path / "qa").symlink_to(ROOT / "bundles" / "qa-small")
    (tmp_path / "similarity").symlink_to(tiny / "similarity")
    twin = tmp_path / "a-qa"
    twin.mkdir()
    for path in (ROOT / "bundles" / "qa-small").iterdir():
        (twin / path.name).symlink_to(path)
    manifest = json.loads((twin / "manifest.json").read_text())
    (twin / "manifest.json").unlink()
    (twin / "manifest.json").write_text(json.dumps(manifest | {"name": "twin"}))
    bundles = [load_bundle(path) for path in sorted(tmp_path.iterdir())]
    assert {task: bundle.path.name for task, bundle in asked(bundles, None).items()} == {
        "qa": "qa",
        "similarity": "similarity",
    }
    assert asked(bundles, "a-qa")["qa"].name == asked(bundles, "twin")["qa"].name == "twin"
    part = ["--only", "sameness", "--requests", "100", "--threads", "1"]
    assert main(["--bundles", str(tmp_path), "--model", "a-qa", *part]) == 0
    assert "100 mixed requests at concurrency 16, against the same one by one: 0 differ" in capsys.readouterr().out
    assert main(["--bundles", str(tmp_path), "--model", "b-qa"]) == 2
    assert "no bundle is called b-qa; there are " in capsys.readouterr().err


def test_a_directory_without_what_the_bench_needs_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--bundles", str(tmp_path)]) == 2
    assert "has no bundle for qa" in capsys.readouterr().err
    assert main(["--bundles", str(tmp_path / "missing")]) == 2
    assert "missing is not a directory" in capsys.readouterr().err
    assert main(["--bundles", str(tmp_path / "missing")]) == 2
    assert "missing" in capsys.readouterr().err
