"""Control groups in a directory of files, as the kernel shows them."""

import shutil
from pathlib import Path

import pytest

from loadtest import cgroups
from loadtest.cgroups import cgroup

LIMITS = {"version_1": ("memory.limit_in_bytes", "1000"), "version_2": ("memory.max", "2000")}
MEMBERSHIPS = ("0::/", "2:cpu,memory:/\n1:pids:/")  # of version 2, and of version 1


@pytest.fixture(params=MEMBERSHIPS)
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the groups, in which process 7 is."""
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroups, "PROC", tmp_path / "proc")
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(request.param)
    (tmp_path / "groups/cpu,memory").mkdir(parents=True)
    return tmp_path / "groups"


def test_a_process_is_in_a_limited_group_until_the_block_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_directory = Path.mkdir

    def make_group(folder: Path) -> None:
        make_directory(folder)
        for name in ("memory.limit_in_bytes", "memory.max"):
            (folder / name).touch()

    monkeypatch.setattr(Path, "mkdir", make_group)
    monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
    with cgroup(7, **LIMITS) as is_made:
        assert is_made
        [group] = root.rglob("halfdepth-*")
        limits = (group / "memory.limit_in_bytes").read_text(), (group / "memory.max").read_text()
        assert limits == (("", "2000") if group.parent == root else ("1000", ""))
        assert (group / "cgroup.procs").read_text() == "7"
    assert not group.exists()
    assert (group.parent / "cgroup.procs").read_text() == "7"


def test_a_group_without_the_controller_is_removed_again(root: Path) -> None:
    with cgroup(7, **LIMITS) as is_made:  # a plain directory has no files of a controller
        assert not is_made
    assert list(root.rglob("halfdepth-*")) == []


def test_without_the_tree_no_group_is_made(root: Path) -> None:
    shutil.rmtree(root)
    with cgroup(7, **LIMITS) as is_made:
        assert not is_made
