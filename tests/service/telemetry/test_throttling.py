import logging
from itertools import count
from pathlib import Path

import pytest

from service.telemetry import throttling
from service.telemetry.throttling import CHECK_S, WARN_S, Throttling, throttled_seconds

V2 = "usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n"
V1 = "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n"


def write(root: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "fs" / name).write_text(text)
    (root / "cgroup").write_text(membership)
    return root / "fs", root / "cgroup"


@pytest.mark.parametrize(
    ("files", "membership", "seconds"),
    [
        ({"pod/cpu.stat": V2}, "0::/pod\n", 2.5),
        ({"cpu.stat": V2}, "0::/\n", 2.5),
        ({"cpu.stat": V2}, "0::/../../a/path/of/the/host\n", 2.5),
        ({"cpu,cpuacct/pod/cpu.stat": V1}, "9:memory:/pod\n4:cpu,cpuacct:/pod\n", 1.5),
        ({"cpu/cpu.stat": V1}, "4:cpu:/docker/0123\n0::/\n", 1.5),
        ({"cpu.stat": "usage_usec 5\n"}, "0::/\n", None),
        ({"cpu.stat": "nothing like it\n\n"}, "0::/\n", None),
        ({"unlike": ""}, "9:memory:/pod\n", None),
    ],
)
def test_the_kernel_s_record_is_found(
    tmp_path: Path, files: dict[str, str], membership: str, seconds: float | None
) -> None:
    assert throttled_seconds(*write(tmp_path, files, membership)) == seconds


def test_without_a_cgroup_nothing_is_told(tmp_path: Path) -> None:
    assert throttled_seconds(tmp_path, tmp_path / "missing") is None
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
