"""`halfdepth loadtest grid`: its rows, what it says where there is no graph, and when it has measured enough."""

from pathlib import Path

import onnx
import pytest

from loadtest.__main__ import main
from loadtest.grid.cells import Bounds, Cell, _turns
from loadtest.grid.command import default_bundles, lay_out
from loadtest.record import read_record
from models.tasks.bundle import load_bundle
from tests.server import ROOT
from tests.service.conftest import as_int8, write_bundle

FIGURES = {f"{part}_p{percent}_ms" for part in ("tokenization", "inference", "end_to_end") for percent in (50, 95, 99)}


def cell(*times: float, request: bytes = b"x") -> Cell:
    made = Cell("qa", "mine", "int8", threads=1, tokens=8, url="", request=request, note="none")
    for values in made.times.values():
        values += times
    return made


def test_each_task_precision_and_length_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.grid.command.WHOLE", Bounds(share=0.02, seconds=0.1, block=3, least=3))
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    for name in ("qa-small", "similarity"):
        (bundles / name).symlink_to(ROOT / "bundles" / name)
    out = tmp_path / "grid.json"
    arguments = ["--bundles", str(bundles), "--tokens", "8", "512", "--out", str(out)]
    assert main(["grid", *arguments], prog="halfdepth loadtest") == 0
    written = read_record(out)
    assert (written.part, written.command.split()[:3]) == ("grid", ["halfdepth", "loadtest", "grid"])
    rows = written.rows
    threads = {row["threads"] for row in rows}
    assert 1 in threads
    assert {(row["task"], row["precision"], row["tokens"]) for row in rows} == {
        (task, precision, tokens)
        for task in ("qa", "similarity")
        for precision in ("int8", "fp32")
        for tokens in (8, 512)
    }
    assert len(rows) == 8 * len(threads)
    for row in rows:
        assert row.keys() >= FIGURES
        assert 0 < row["tokenization_p50_ms"] < row["end_to_end_p50_ms"] <= row["end_to_end_p99_ms"]
        assert row["end_to_end_ci_low_ms"] <= row["end_to_end_p50_ms"] + 1e-3
        assert row["end_to_end_p50_ms"] <= row["end_to_end_ci_high_ms"] + 1e-3
        assert row["repeats"] >= 3
        assert bool(row["note"]) is (row["precision"] == "fp32")
    qa = {row["tokens"]: row for row in rows if row["task"] == "qa"}
    assert (qa[8]["tokens_used"], qa[8]["windows"], qa[512]["windows"]) == (8, 1, 2)
    shown = capsys.readouterr().out
    assert "2 windows" in shown
    assert "fp32: weights of the int8 graph, in float" in shown


def test_a_precision_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    write_bundle(tmp_path / "plain")
    write_bundle(tmp_path / "bytes", "classify")
    graph = tmp_path / "bytes" / "onnx" / "model.onnx"
    onnx.save(as_int8(graph), tmp_path / "bytes" / "onnx" / "model_quantized.onnx")
    graph.unlink()
    (tmp_path / "served").mkdir()
    bundles = [load_bundle(tmp_path / name) for name in ("bytes", "plain")]
    graphs = lay_out(bundles, tmp_path / "served")
    assert [(graph.precision, graph.name) for graph in graphs] == [
        ("int8", "classify"),
        ("fp32", ""),
        ("fp32", "qa"),
        ("int8", ""),
    ]
    assert "has a form that is not ours" in graphs[1].note
    assert "the bundle has no int8 graph" in graphs[3].note
    empty = cell(request=b"")
    assert empty.row()["end_to_end_p50_ms"] is None
    assert (empty.row()["repeats"], empty.row()["reason"]) == (0, "none")


def test_the_short_form_takes_the_default_of_each_task() -> None:
    bundles = [load_bundle(ROOT / "bundles" / name) for name in ("qa-small", "qa", "rerank")]
    assert [bundle.path.name for bundle in default_bundles(bundles)] == ["qa", "rerank"]


def test_rounds_go_on_until_a_cell_is_known_or_the_time_is_over() -> None:
    known, unknown = cell(*[1.0] * 10), cell(*map(float, range(1, 11)))
    turns = _turns([known, unknown], Bounds(share=0.05, seconds=60, block=1, least=5))
    assert [next(turns) for _ in range(4)] == [known, unknown, unknown, unknown]
    over = _turns([known, unknown], Bounds(share=0.05, seconds=0, block=1, least=5))
    assert list(over) == [known, unknown]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bundles", "nowhere"], "nowhere is not a directory"),
        (["--tokens", "4"], "--tokens must be at least 8, not 4"),
        (["--short", "--tokens", "16"], "leave out --tokens"),
        (["--share", "1"], "--share must be above 0 and below 1"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
