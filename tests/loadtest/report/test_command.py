"""`halfdepth loadtest report`: from records, from parts that are run, and parts that fail."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.report.document import read_report
from loadtest.report.parts import PARTS, run
from tests.loadtest.report.samples import records


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    for taken in records():
        taken.write(tmp_path / "records" / f"{taken.part}.json")
    (tmp_path / "records" / "locust_stats.json").write_text("[]")  # other files may lie there
    return tmp_path / "records"


def test_records_become_a_page_its_json_and_pictures(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["report", "--records", str(measured), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"
    assert sum(path.stat().st_size for path in out.iterdir()) < 1_000_000
    assert set(read_report(out / "report.json").records) == set(PARTS)
    again = tmp_path / "again"
    assert main(["report", "--records", str(out / "report.json"), "--out", str(again)]) == 0
    for path in out.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_parts_are_run_and_one_that_fails_is_told_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def measure(arguments: Sequence[str]) -> tuple[int, str]:
        asked.append(arguments)
        [taken] = [taken for taken in records() if taken.part == arguments[0]]
        if taken.part == "throughput":
            return 2, "no bundle is there"
        taken.write(Path(arguments[-1]))
        return 0, ""

    monkeypatch.setattr("loadtest.report.parts.run", measure)
    assert main(["report", "--short", "--bundles", "mine", "--out", str(tmp_path)]) == 1
    assert [(arguments[0], "--short" in arguments) for arguments in asked] == [("grid", True), ("throughput", False)]
    assert all(list(arguments[-4:-2]) == ["--bundles", "mine"] for arguments in asked)
    assert "throughput is missing: exit status 2: no bundle is there" in capsys.readouterr().err
    assert "Not measured: throughput and latency" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["missing"] == {
        "throughput": "exit status 2: no bundle is there"
    }


def test_an_older_record_does_not_pass_for_one_that_failed(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.report.parts.run", lambda _: (2, "it failed"))
    assert main(["report", "--only", "grid", "--out", str(tmp_path)]) == 1  # where `measured` lies
    assert not (measured / "grid.json").exists()


def test_a_part_runs_as_a_command_of_its_own_and_its_last_line_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["throughput", "--tasks", "entities", "--bundles", "nowhere"])[0] == 2
    error = capsys.readouterr().err
    status, last = run(["compare", "nothing.json", "nothing.json"])
    assert status == 2
    assert last.startswith("halfdepth loadtest compare: nothing.json is not a measurement")
    assert error.startswith("halfdepth loadtest throughput: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--records", "nowhere"], "nowhere is not a measurement"),
        (["--records", ".", "--short"], "--short and --only mean nothing"),
        (["--short", "--only", "peers"], "peers is not a part of the short form"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_directory_without_records_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--records", str(tmp_path)]) == 2
    assert "holds no measurement" in capsys.readouterr().err
