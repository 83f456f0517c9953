"""What an export says at its end."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest

from export.__main__ import main
from export.bench.timing import Latencies, latencies, measure
from export.options import ExportOptions
from export.pipeline import export
from export.report import chart, report
from models.tasks.base import Features, Outputs, TaskName
from models.tasks.bundle import Bundle


def instant(features: Features) -> Outputs:
    assert len(features.token_type_ids) == len(features)
    return ()


def test_sizes_metrics_and_latencies_each_have_their_line(bundles: dict[TaskName, Bundle]) -> None:
    lines = report(bundles["qa"], {16: (2.0, 1.0), 32: (3.0, 2.0)}).splitlines()
    assert lines[0].endswith(bundles["qa"].revision)
    assert lines[1].split() == ["f1", "MB"]
    assert [line[:16].strip() for line in lines[2:5]] == ["student, fp32", "student, int8", "bundle"]
    assert lines[-2].split() == ["16", "2.000", "1.000", "2.00x"]
    assert lines[-1].split() == ["32", "3.000", "2.000", "1.50x"]
    assert "tokens_first" in lines[-4]


def test_every_task_has_a_figure_for_the_report(bundles: dict[TaskName, Bundle]) -> None:
    headlines: dict[TaskName, str] = {"classify": "accuracy", "similarity": "spearman"}
    for task, headline in headlines.items():
        assert headline in report(bundles[task], {})


def test_further_figures_of_a_task_have_a_column_for_each_model(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    options = ExportOptions(task="qa", student=tiny_qa["bert"], dev=squad_file, out=tmp_path / "out", int8=False)
    bundle = export(replace(options, no_answer_threshold=0.0)).bundle
    assert bundle.manifest is not None
    figures = bundle.manifest.metrics.student_fp32
    lines = [" ".join(line.split()) for line in report(bundle, {}).splitlines()]
    assert "fp32 further figures" in lines
    assert f"{figures['score_ece']:.2f} expected calibration error of `score`, 10 bins of equal width" in lines
    recalls = {key: value for key, value in figures.items() if key.startswith("abstaining_recall_")}
    assert recalls  # both questions without an answer
    for key, value in recalls.items():
        low, high = key.removeprefix("abstaining_recall_").split("_")
        assert f"{value:.2f} abstaining: recall, contexts of {low} to {high} tokens" in lines
        assert f"| abstaining: recall, contexts of {low} to {high} tokens | {value:.1f} |" in (
            bundle.path / "README.md"
        ).read_text(encoding="utf-8")


def test_graphs_are_timed_at_each_length_that_the_model_reads() -> None:
    assert all(time >= 0 for time in measure([instant, instant], 4, 2))
    assert list(latencies(instant, instant, max_length=64)) == [16, 32, 64]


@pytest.mark.parametrize("measured", [{16: (2.0, 1.0), 32: (3.0, 2.0), 384: (40.0, 30.0)}, {16: (2.0, 1.0)}, {}])
def test_a_chart_is_a_png_whatever_was_measured(
    bundles: dict[TaskName, Bundle], tmp_path: Path, measured: Latencies
) -> None:
    for task, bundle in bundles.items():
        path = tmp_path / f"{task}.png"
        chart(bundle, measured, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        height, width, _ = matplotlib.image.imread(path).shape
        assert (height, width) == (480, 1200)


def test_what_was_measured_is_drawn(bundles: dict[TaskName, Bundle], tmp_path: Path) -> None:
    pictures = []
    for after in (1.0, 1.5):
        chart(bundles["qa"], {16: (2.0, after), 32: (4.0, 2.0)}, tmp_path / "chart.png")
        pictures.append(matplotlib.image.imread(tmp_path / "chart.png"))
    assert (pictures[0] != pictures[1]).any()


def test_a_place_that_cannot_be_is_told_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--task", "qa", "--dev", "dev.json", "--out", "bundle", "--student", "student"]
    for place in (tmp_path, tmp_path / "missing" / "chart.png"):
        assert main([*arguments, "--chart", str(place)]) == 2
        assert f"--chart {place}: give a file in a directory that exists" in capsys.readouterr().err
