"""The picture of a report."""

from pathlib import Path

import matplotlib.image
import pytest

from export.arguments import parse_arguments
from export.chart import chart
from export.timing import Latencies
from models.tasks.base import TaskName
from models.tasks.bundle import Bundle


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
        with pytest.raises(SystemExit):
            parse_arguments([*arguments, "--chart", str(place)])
        assert f"--chart {place}: give a file in a directory that exists" in capsys.readouterr().err
