import logging
from itertools import count

import pytest

from service.telemetry import throttling
from service.telemetry.throttling import CHECK_S, WARN_S, Throttling


def test_without_a_cgroup_nothing_is_told() -> None:
    assert list(Throttling(lambda: None).collect()) == []


def test_the_counter_is_told() -> None:
    [metric] = Throttling(lambda: 2.5).collect()
    assert [(sample.name, sample.value) for sample in metric.samples] == [
        ("halfdepth_cpu_throttled_seconds_total", 2.5)
    ]


def test_growth_is_warned_of_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    seconds, looks = 0.0, count(0.0, CHECK_S)
    limit = Throttling(lambda: seconds, lambda: next(looks))
    limit.check()
    assert caplog.text == ""
    for _ in range(int(WARN_S // CHECK_S)):
        seconds += 1.0
        limit.check()
    assert len(caplog.records) == 1
    assert "held this container back for 1.0 s within 10 s" in caplog.text
    seconds += 1.0
    limit.check()
    assert len(caplog.records) == 2
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_trifle_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    seconds, looks = iter([0.0, 0.05]), count(0.0, CHECK_S)
    Throttling(lambda: next(seconds), lambda: next(looks)).check()
    assert caplog.text == ""
    assert throttling.SHARE * CHECK_S > 0.05
