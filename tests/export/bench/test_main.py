"""The benchmark's table; no test asserts on time."""

from pathlib import Path

import pytest

from export.bench.__main__ import main, table
from export.options import ExportOptions
from export.pipeline import export
from models.tasks.base import Features


def test_a_checkpoint_is_measured_beside_the_stock_export_and_its_products_alone(
    tiny_qa: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_qa["bert"]), "--tokens", "4", "8", "--rounds", "2", "--threads", "1"]) == 0
    title, lengths, stock, ours, products, faster, floor = capsys.readouterr().out.splitlines()
    assert title == f"{tiny_qa['bert']}, 1 thread(s), median milliseconds of 2 runs"
    assert lengths.split() == ["4", "8", "mean", "tokens"]
    assert all(float(number) > 0 for row in (stock, ours, products) for number in row.split()[:2])
    assert faster.endswith("optimum, dynamic int8 / halfdepth, int8")
    assert floor.endswith("optimum, dynamic int8 / its int8 products alone")
    assert all(ratio.endswith("x") for ratio in faster.split()[:3])


def test_graphs_are_measured_as_they_are(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ExportOptions(task="qa", student=tiny_qa["bert"], dev=squad_file, out=tmp_path / "out", int8=False)
    graph = str(export(options).bundle.model_path)
    assert main([graph, graph, "--tokens", "4", "--rounds", "2", "--threads", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{graph} / {graph}")


def test_the_mean_is_geometric() -> None:
    def run(features: Features) -> object:
        return features

    last = table("", [("a", run), ("b", run)], [2, 3], 1).splitlines()[-1]
    assert last.endswith("a / b")
    assert last.count("x") == 3


def test_a_path_that_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent.onnx")]) == 2
    assert "neither an ONNX file nor a checkpoint" in capsys.readouterr().err
