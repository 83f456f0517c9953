"""The commands of docs/load.md, run against the default bundles, shorter than they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.process import service
from tests.server import ROOT

TEXT = (ROOT / "docs" / "load.md").read_text()
SECTIONS = ("Locust", "The latency grid")
"""Whose commands are run here; those of others are run by tests of their own."""
SHORTER = (
    ("http://localhost:8000", "$URL"),
    ("--seconds 10", "--seconds 2"),
    ("grid --short", 'grid --short --seconds 1 --bundles "$BUNDLES"'),
    ("--bundles bundles", '--bundles "$BUNDLES"'),
    ("--seconds 60", "--seconds 1"),
)


def section(name: str) -> str:
    """A section without its heading, up to the next of its level."""
    return re.split(r"^## ", TEXT.partition(f"\n## {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", SECTIONS)
def test_it_has_commands(name: str) -> None:
    assert re.search(r"^halfdepth loadtest ", section(name), re.MULTILINE)


@pytest.mark.system
@pytest.mark.parametrize("name", SECTIONS)
def test_every_command_of_the_page_ends_well(name: str, tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```", section(name), re.MULTILINE | re.DOTALL))
    for written, shorter in SHORTER:
        script = script.replace(written, shorter)
    halfdepth = f'halfdepth() {{ "{sys.executable}" "{ROOT / "halfdepth.py"}" "$@"; }}\n'
    with service(tmp_path / "log", BUNDLES=str(ROOT / "bundles"), MAX_QUEUE_MS="60000") as running:
        environment = {"URL": running.url, "PATH": "/usr/bin:/bin", "BUNDLES": str(ROOT / "bundles")}
        done = subprocess.run(
            ["bash", "-euc", halfdepth + script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
