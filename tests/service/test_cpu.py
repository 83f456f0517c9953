import os
from pathlib import Path

import pytest

from service.cpu import cpu_share


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    path = tmp_path / "membership"
    path.write_text("1:cpu:/elsewhere\n0::/outer/inner\n")
    return path


def limit(root: Path, group: str, content: str) -> None:
    (root / group).mkdir(parents=True, exist_ok=True)
    (root / group / "cpu.max").write_text(content + "\n")


def test_without_a_limit_affinity_counts(tmp_path: Path, membership: Path) -> None:
    limit(tmp_path, "outer/inner", "max 100000")
    assert cpu_share(tmp_path, membership) == 8


@pytest.mark.parametrize(("content", "cores"), [("200000 100000", 2), ("150000 100000", 1), ("20000 100000", 1)])
def test_a_quota_is_rounded_down_to_whole_cores(tmp_path: Path, membership: Path, content: str, cores: int) -> None:
    limit(tmp_path, "outer/inner", content)
    assert cpu_share(tmp_path, membership) == cores


def test_the_narrowest_limit_on_the_way_up_counts(tmp_path: Path, membership: Path) -> None:
    limit(tmp_path, "outer/inner", "400000 100000")
    limit(tmp_path, "outer", "300000 100000")
    limit(tmp_path, "", "max 100000")
    assert cpu_share(tmp_path, membership) == 3


def test_a_machine_without_cgroups_has_its_affinity(tmp_path: Path) -> None:
    assert cpu_share(tmp_path, tmp_path / "missing") == 8
