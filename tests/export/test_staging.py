"""What an export leaves where it was killed, and what the next one makes of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.staging import staging
from models.tasks.bundle import MANIFEST
from tests.server import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from export.staging import staging

rename = Path.rename

def rename_and_die(self, target):
    if self.name == "bundle":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(self, target)

Path.rename = rename_and_die
with staging(Path(sys.argv[1])) as stage:
    (stage / "manifest.json").write_text("new")
    if sys.argv[2] == "early":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The place of a bundle, with an old one in it."""
    out = tmp_path / "qa"
    out.mkdir()
    (out / MANIFEST).write_text("old")
    return out


def kill(out: Path, *, moment: str) -> None:
    """`moment`: early, while the stage is filled, or late, once the old bundle is out of its place."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out), moment], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(out.parent)) == (2 if moment == "early" else 1)


@pytest.mark.parametrize("moment", ["early", "late"])
def test_what_a_killed_export_left_is_cleared_away_and_the_old_bundle_is_kept(out: Path, moment: str) -> None:
    kill(out, moment=moment)
    with staging(out) as stage:
        assert sorted(os.listdir(out.parent)) == [stage.parent.name, "qa"]
        assert (out / MANIFEST).read_text() == "old"
        (stage / MANIFEST).write_text("new")
    assert os.listdir(out.parent) == ["qa"]
    assert (out / MANIFEST).read_text() == "new"


def test_exports_that_run_and_what_others_keep_are_left_alone(out: Path) -> None:
    kept = [out.parent / name for name in (".qa-notes", ".qa-12345678", ".qa-small-12345678")]
    for path in kept:
        (path / "papers").mkdir(parents=True)
    with staging(out) as stage:
        (stage / MANIFEST).write_text("first")
        with staging(out) as second:
            (second / MANIFEST).write_text("second")
        assert stage.exists()
    assert sorted(os.listdir(out.parent)) == sorted([*(path.name for path in kept), "qa"])
    assert (out / MANIFEST).read_text() == "first"
