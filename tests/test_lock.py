"""The lock file of the serving environment, against pyproject.toml and constraints.txt."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.server import ROOT

LOCK = ROOT / "requirements-serve.lock"
ENTRY = re.compile(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)    # via .+\n", re.MULTILINE)


def locked(path: Path = LOCK) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version, _ in ENTRY.findall(path.read_text())}


def constraints() -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def asked() -> list[Requirement]:
    """What pyproject.toml asks for, to serve and to build."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Requirement(line) for line in pyproject["project"]["dependencies"] + pyproject["build-system"]["requires"]]


def brought(requirement: Requirement) -> list[Requirement]:
    """What the installed library asks for, with those extras of it that are asked for."""
    lines = [Requirement(line) for line in requires(requirement.name) or ()]
    extras = requirement.extras or {""}
    return [line for line in lines if not line.marker or any(line.marker.evaluate({"extra": it}) for it in extras)]


def test_the_lock_names_what_serving_needs_and_nothing_else() -> None:
    needed, waiting = set[str](), asked()
    while waiting:
        requirement = waiting.pop()
        if (name := canonicalize_name(requirement.name)) not in needed:
            needed.add(name)
            waiting += brought(requirement)
    assert set(locked()) == needed, "run `make lock`"


def test_the_lock_has_the_versions_of_constraints_txt_and_pyproject_allows_them() -> None:
    pins = locked()
    assert pins == {name: constraints().get(name) for name in pins}, "run `make lock`"
    assert [str(line) for line in asked() if not line.specifier.contains(pins[canonicalize_name(line.name)])] == []


def test_every_line_of_the_lock_belongs_to_a_pin_with_hashes_and_names_no_index() -> None:
    rest = ENTRY.sub("", LOCK.read_text())
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []
    assert "://" not in LOCK.read_text()


@pytest.mark.system
def test_make_lock_changes_no_version(tmp_path: Path) -> None:
    """Hashes may come along: an index lists files for new platforms later."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(["make", "lock"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert locked(tmp_path / LOCK.name) == locked()
