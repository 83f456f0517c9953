from models.tasks.base import Usage
from service.telemetry.stages import Stages, add_up_usage, server_timing

FIRST = Stages(queue=1_000, tokenization=2_000, inference=4_000, inference_wall=5_000, postprocess=1_000, total=9_000)


def test_milliseconds_keep_microseconds() -> None:
    assert Stages(1_234_567, 0, 0, 0, 0, 2_000_000).milliseconds()["queue"] == 1.235


def test_usage_adds_up() -> None:
    usages = [Usage(10, 12, 2, truncated=False), Usage(5, 4, 1, truncated=True)]
    assert add_up_usage(usages) == Usage(15, 16, 3, truncated=True)


def test_server_timing_names_each_stage_with_its_duration() -> None:
    assert server_timing(FIRST.milliseconds()) == (
        "queue;dur=0.001, tokenization;dur=0.002, inference;dur=0.004, "
        "inference_wall;dur=0.005, postprocess;dur=0.001, total;dur=0.009"
    )
