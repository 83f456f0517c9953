"""Two measurements side by side: what is a regression, what is noise, and which files do not compare."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.__main__ import main
from loadtest.record import Record, Row, record
from loadtest.report.document import report_of


def grid_row(p50: float, spread: float = 0.1, **columns: Any) -> Row:  # whatever a row holds
    row = {"task": "qa", "precision": "int8", "threads": 2, "tokens": 64, "repeats": 100, "end_to_end_p50_ms": p50}
    return row | {"end_to_end_ci_low_ms": p50 - spread, "end_to_end_ci_high_ms": p50 + spread} | columns


def throughput_row(rate: float, *rounds: float) -> Row:
    return {"task": "qa", "concurrency": 8, "requests_per_s": rate, "requests_per_s_rounds": list(rounds)}


def written(path: Path, *records: Record) -> str:
    if len(records) == 1:
        records[0].write(path)
    else:
        report_of(records).write(path)
    return str(path)


def compared(tmp_path: Path, before: Record, after: Record, *flags: str) -> int:
    return main(["compare", written(tmp_path / "a.json", before), written(tmp_path / "b.json", after), *flags])


def test_a_slower_row_beyond_both_intervals_is_a_regression_with_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record("grid", [grid_row(4.0), grid_row(8.0, tokens=128)])
    after = record("grid", [grid_row(5.0, repeats=90), grid_row(8.1, tokens=128)])
    assert compared(tmp_path, before, after) == 1
    told = capsys.readouterr().out
    assert "worse: grid: qa, int8, 2 threads, 64 tokens  end_to_end_p50_ms  4 (3.9 to 4.1) -> 5 (4.9 to 5.1)" in told
    assert "+25.0%, 1.25 times" in told
    assert "2 figures compared: 1 worse, 0 better, 1 within the noise or 5%" in told


@pytest.mark.parametrize(
    ("after", "flags"),
    [
        (grid_row(5.0, spread=1.5), []),  # the intervals touch
        (grid_row(4.15, spread=0.01), []),  # under 5%
        (grid_row(5.0), ["--tolerance", "30"]),
        (grid_row(3.0), []),  # faster
    ],
)
def test_what_is_within_the_noise_or_the_tolerance_or_faster_is_none(
    after: Row, flags: list[str], tmp_path: Path
) -> None:
    assert compared(tmp_path, record("grid", [grid_row(4.0, spread=0.1)]), record("grid", [after]), *flags) == 0


def test_fewer_answers_a_second_in_every_round_are_a_regression_and_more_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record("throughput", [throughput_row(200, 190, 200, 210)])
    assert compared(tmp_path, before, record("throughput", [throughput_row(170, 160, 170, 180)])) == 1
    assert "-15.0%" in capsys.readouterr().out
    assert compared(tmp_path, before, record("throughput", [throughput_row(170, 160, 170, 195)])) == 0
    assert compared(tmp_path, before, record("throughput", [throughput_row(300, 290, 300, 310)])) == 0
    assert "better: throughput" in capsys.readouterr().out


def test_rows_that_carry_no_noise_are_counted_and_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare: list[Row] = [grid_row(4.0), {"task": "classify", "tokens": 16, "end_to_end_p50_ms": 1.0}]
    assert compared(tmp_path, record("grid", bare), record("grid", bare)) == 0
    assert "rows without an interval or rounds, which are not judged: 1" in capsys.readouterr().out
    assert compared(tmp_path, record("grid", bare[1:]), record("grid", bare[1:])) == 2
    assert "no figure can be judged" in capsys.readouterr().err


def test_other_machines_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = record("grid", [grid_row(4.0)])
    after = replace(before, machine=replace(before.machine, cores=before.machine.cores + 2))
    assert compared(tmp_path, before, after) == 2
    cores = before.machine.cores
    assert f"grid was measured on two machines that differ: cores {cores}, then {cores + 2}" in capsys.readouterr().err
    after = replace(before, machine=replace(before.machine, cpu_features=[*before.machine.cpu_features, "amx_int8"]))
    assert compared(tmp_path, before, after) == 2
    assert "cpu features none, then amx_int8" in capsys.readouterr().err


def test_other_rows_are_told_unless_the_common_ones_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = record("grid", [grid_row(4.0)]), record("grid", [grid_row(4.0), grid_row(9.0, tokens=512)])
    assert compared(tmp_path, before, after) == 2
    told = "only the second file has these rows of grid: grid: qa, int8, 2 threads, 512 tokens"
    assert told in capsys.readouterr().err
    assert compared(tmp_path, before, after, "--common") == 0
    assert compared(tmp_path, before, record("peers", [grid_row(4.0)]), "--common") == 2
    assert "the files have no parts in common" in capsys.readouterr().err


def test_two_rows_that_measured_the_same_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = record("grid", [grid_row(4.0), grid_row(5.0)])
    assert compared(tmp_path, twice, twice) == 2
    assert "two rows are the same" in capsys.readouterr().err


def test_whole_reports_compare_part_by_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, slow = record("grid", [grid_row(4.0)]), record("grid", [grid_row(6.0)])
    throughput = record("throughput", [throughput_row(200, 190, 200, 210)])
    first, second = written(tmp_path / "a.json", grid, throughput), written(tmp_path / "b.json", slow, throughput)
    assert main(["compare", first, first]) == 0
    assert main(["compare", first, second]) == 1
    assert "worse: grid" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"part": "grid"}', '{"kind": "halfdepth latency report"}', '{"rows": 3}'])
def test_a_file_that_is_no_measurement_is_told_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text(text)
    assert main(["compare", str(tmp_path / "other.json"), str(tmp_path / "nothing.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "other.json is not a" in error


def test_rows_that_are_no_rows_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.json", replace(record("grid", []), rows=[3]))  # type: ignore[list-item]  # the point
    assert main(["compare", path, path]) == 2
    assert "the rows of part grid are not a list of objects" in capsys.readouterr().err
