"""What an export says at its end."""

from export.report import report
from export.timing import latencies, measure
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


def test_graphs_are_timed_at_each_length_that_the_model_reads() -> None:
    assert all(time >= 0 for time in measure([instant, instant], 4, 2))
    assert list(latencies(instant, instant, max_length=64)) == [16, 32, 64]
