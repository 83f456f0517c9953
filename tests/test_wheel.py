"""The wheel: it holds every file that the packages need, and serves from an environment of its own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from loadtest.process import free_port, wait_until_ready
from tests.server import ROOT

PACKAGES = ("models", "export", "service", "loadtest")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a clone, or what lies around here would be in it too."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)
    # setuptools is here already: nothing is downloaded.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *options, str(folder / "clone")]
    subprocess.run(command, check=True)
    [path] = folder.glob("*.whl")
    return path


def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "halfdepth.py", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(listed.stdout.split())


def test_it_brings_the_command_the_licence_and_the_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        meta = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "halfdepth = halfdepth:main" in meta["entry_points.txt"]
    assert "Apache License" in meta["LICENSE"]
    assert "License-Expression: Apache-2.0" in meta["METADATA"]
    assert "# halfdepth" in meta["METADATA"]


@pytest.mark.system
def test_from_an_environment_of_its_own_it_serves(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    python = tmp_path / "fresh" / "bin" / "python"
    options = ["--quiet", "--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", *options, wheel], check=True)
    port = free_port()
    command = [str(python.with_name("halfdepth")), "serve", "--bundles", str(ROOT / "bundles")]
    environment = {"HALFDEPTH_PORT": str(port), "HALFDEPTH_THREADS": "1", "HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:  # in another directory than the sources'
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process)
        body = {"question": "Who repaired the lamp?", "context": "Maria Jensen repaired the lamp."}
        assert httpx.post(f"{url}/qa", json=body).json()["answers"][0]["text"] == "Maria Jensen"
        assert "playground" in httpx.get(url).text
        assert httpx.get(f"{url}/docs/files/swagger-ui.css").is_success
    finally:
        process.terminate()
        assert process.wait() == 0
