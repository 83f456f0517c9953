from dataclasses import replace

from models.tasks.base import Usage
from service.telemetry import Stages, add_up_stages, add_up_usage, server_timing

FIRST = Stages(queue=1_000, tokenization=2_000, inference=4_000, inference_wall=5_000, postprocess=1_000, total=9_000)
SECOND = Stages(queue=9_000, tokenization=100, inference=200, inference_wall=300, postprocess=400, total=9_800)


def test_milliseconds_keep_microseconds() -> None:
    assert Stages(1_234_567, 0, 0, 0, 0, 2_000_000).milliseconds().queue == 1.235


def test_stages_of_a_list_add_up_to_its_total() -> None:
    total = add_up_stages([FIRST, SECOND], 9_800)
    assert total == Stages(
        queue=1_000, tokenization=2_100, inference=4_200, inference_wall=5_300, postprocess=1_400, total=9_800
    )
    assert total.queue + total.tokenization + total.inference_wall + total.postprocess == total.total


def test_what_a_request_takes_beyond_its_inputs_is_postprocessing() -> None:
    assert add_up_stages([FIRST], 9_500) == replace(FIRST, postprocess=1_500, total=9_500)


def test_usage_adds_up() -> None:
    usages = [Usage(10, 12, 2, truncated=False), Usage(5, 4, 1, truncated=True)]
    assert add_up_usage(usages) == Usage(15, 16, 3, truncated=True)


def test_server_timing_names_each_stage_with_its_duration() -> None:
    assert server_timing(FIRST.milliseconds()) == (
        "queue;dur=0.001, tokenization;dur=0.002, inference;dur=0.004, "
        "inference_wall;dur=0.005, postprocess;dur=0.001, total;dur=0.009"
    )
