import os
from pathlib import Path

import pytest

from service.startup.cgroups import Cgroups, Throttling, cpu_share

V1 = "4:memory:/outer/inner\n3:cpu,cpuacct:/outer/inner\n2:name=systemd:/\n0::/\n"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def groups(root: Path, files: dict[str, str], membership: str = "1:cpu:/elsewhere\n0::/outer/inner\n") -> Cgroups:
    """A tree of control groups with these files."""
    for name, content in files.items():
        (root / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "tree" / name).write_text(content + "\n")
    (root / "membership").write_text(membership)
    return Cgroups(root / "tree", root / "membership")


def test_without_a_limit_affinity_counts(tmp_path: Path) -> None:
    assert cpu_share(groups(tmp_path, {"outer/inner/cpu.max": "max 100000"})) == 8


@pytest.mark.parametrize(
    ("quota", "share", "cores"), [("200000", 2.0, 2), ("150000", 1.5, 1), ("20000", 0.2, 1), ("1600000", 16.0, 8)]
)
def test_a_quota_of_either_version_is_rounded_down_to_whole_cores(
    tmp_path: Path, quota: str, share: float, cores: int
) -> None:
    second = groups(tmp_path / "second", {"outer/inner/cpu.max": f"{quota} 100000"})
    files = {"cpu,cpuacct/outer/cpu.cfs_quota_us": quota, "cpu,cpuacct/outer/cpu.cfs_period_us": "100000"}
    first = groups(tmp_path / "first", files, V1)
    for each in (first, second):
        assert (each.cores(), cpu_share(each)) == (share, cores)


def test_the_narrowest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {"outer/inner/cpu.max": "400000 100000", "outer/cpu.max": "300000 100000", "cpu.max": "max 100000"}
    assert cpu_share(groups(tmp_path, files)) == 3


def test_a_container_of_version_1_sees_its_group_at_the_root(tmp_path: Path) -> None:
    """Its membership tells the host's path, which is not in its own tree; the mount may have the short name."""
    files = {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}
    files |= {"memory/memory.limit_in_bytes": "536870912"}
    container = groups(tmp_path, files, V1)
    assert (container.cores(), container.memory_limit()) == (2.0, 1 << 29)


def test_version_1_says_that_there_is_no_limit(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    files |= {"memory/memory.limit_in_bytes": "9223372036854771712"}
    unlimited = groups(tmp_path, files, V1)
    assert (unlimited.cores(), unlimited.memory_limit(), cpu_share(unlimited)) == (None, None, 8)


def test_memory_of_version_2_is_the_narrowest_on_the_way_up(tmp_path: Path) -> None:
    assert groups(tmp_path, {"outer/inner/memory.max": "max", "outer/memory.max": "1000"}).memory_limit() == 1000
    assert groups(tmp_path, {"outer/memory.max": "max"}).memory_limit() is None


def test_throttling_is_counted_in_the_units_of_either_version(tmp_path: Path) -> None:
    counts = "nr_periods 200\nnr_throttled 50\n"
    second = groups(tmp_path / "second", {"outer/inner/cpu.stat": f"usage_usec 9\n{counts}throttled_usec 1500000"})
    first = groups(tmp_path / "first", {"cpu/cpu.stat": f"{counts}throttled_time 1500000000"}, V1)
    assert first.throttling() == second.throttling() == Throttling(200, 50, 1.5)
    assert first.throttled_seconds() == second.throttled_seconds() == 1.5
    assert Throttling(200, 50, 1.5).share == 0.25
    assert Throttling(0, 0, 0.0).share == 0.0


def test_throttling_is_found_under_a_path_that_is_the_host_s(tmp_path: Path) -> None:
    files = {"cpu.stat": "nr_periods 2\nnr_throttled 1\nthrottled_usec 2500000"}
    assert groups(tmp_path, files, "0::/../../a/path/of/the/host\n").throttled_seconds() == 2.5


@pytest.mark.parametrize("content", ["usage_usec 9\nuser_usec 5", "nothing like it\n\n", ""])
def test_a_group_that_counts_no_periods_knows_no_throttling(tmp_path: Path, content: str) -> None:
    unlimited = groups(tmp_path, {"cpu.stat": content})
    assert (unlimited.throttling(), unlimited.throttled_seconds()) == (None, None)


def test_a_machine_without_cgroups_has_its_affinity(tmp_path: Path) -> None:
    missing = Cgroups(tmp_path / "missing", tmp_path / "missing")
    assert (missing.cores(), missing.memory_limit(), missing.throttling(), cpu_share(missing)) == (None, None, None, 8)
