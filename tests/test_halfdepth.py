"""The one command: lazy, told apart from folders of the same names, and installed from a wheel."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import halfdepth
from models.tasks.errors import OURS
from tests.server import ROOT
from tests.service.conftest import write_bundle

# Finds none of the named libraries, then runs the command.
WITHOUT = """
import sys
class Blind:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        is_hidden = name.partition(".")[0] in sys.argv[1].split(",")
        return None if is_hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Blind, sys.meta_path)
import halfdepth
sys.exit(halfdepth.main(sys.argv[2:]))
"""


def run_without(libraries: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, libraries, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", halfdepth.COMMANDS)
def test_each_command_is_called_by_its_name_in_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        halfdepth.main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: halfdepth {name} [-h]")


@pytest.mark.parametrize("name", [name for name in halfdepth.COMMANDS if name != "serve"])
def test_each_command_tells_a_wrong_argument_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert halfdepth.main([name, "--seconds", "--no-such-flag"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"halfdepth {name}: ")
    assert error.count("\n") == 1


def test_help_lists_the_commands_and_the_version_is_that_of_the_distribution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert halfdepth.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in halfdepth.COMMANDS)
    assert halfdepth.main(["--version"]) == 0
    assert re.fullmatch(r"halfdepth \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_an_unknown_command_is_told_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert halfdepth.main(["severe"]) == 2
    assert capsys.readouterr().err == "halfdepth: there is no command 'severe'; the nearest is serve\n"
    assert halfdepth.main([]) == 2
    assert capsys.readouterr().err.startswith("halfdepth: give a command: serve, finetune, ")


def test_serve_needs_no_training_library() -> None:
    done = run_without("torch,transformers,optimum,onnx,locust,sklearn,scipy", "serve", "--help")
    assert done.returncode == 0, done.stderr
    assert "HALFDEPTH_MAX_BODY_BYTES" in done.stdout


@pytest.mark.parametrize(
    ("library", "arguments", "message"),
    [
        (
            "torch",
            ["finetune", "--help"],
            "halfdepth finetune needs torch; install it with pip install 'halfdepth[train]'\n",
        ),
        (
            "onnx",
            ["export", "--help"],
            "halfdepth export needs onnx; install it with pip install 'halfdepth[export]'\n",
        ),
        (
            "locust",
            ["loadtest", "--url", "http://127.0.0.1:9"],
            "halfdepth loadtest: locust is not installed; install it with pip install 'halfdepth[loadtest]'\n",
        ),
    ],
)
def test_a_missing_extra_is_told_with_what_brings_it(library: str, arguments: list[str], message: str) -> None:
    done = run_without(library, *arguments)
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("export", "halfdepth export", "export"),
        ("export.bench", "python -m export.bench", "train"),
        ("models.finetune", "halfdepth finetune", "train"),
        ("models.pretrain", "halfdepth pretrain", "train"),
        ("models.evaluate", "halfdepth evaluate", "train"),
        ("models.ablate", "halfdepth ablate", "train"),
        ("models.speed", "python -m models.speed", "train"),
    ],
)
def test_a_module_that_is_run_by_itself_says_the_same(module: str, command: str, extra: str) -> None:
    """In the serving environment there is no PyTorch; `None` in sys.modules is how Python says so."""
    script = "import runpy, sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
    script += f"runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"{re.escape(command)} needs \w+; install it with pip install 'halfdepth\[{extra}\]'\n", done.stderr
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of a wheel in an environment of its own, which borrows this one's libraries."""
    root = tmp_path_factory.mktemp("wheel")
    source, environment = root / "source", root / "environment"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "halfdepth.py"):
        shutil.copy(ROOT / name, source)
    for name in OURS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", *offline, "--wheel-dir", root, source], check=True, capture_output=True
    )
    [wheel] = root.glob("*.whl")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True, capture_output=True)
    [packages] = environment.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(libraries))
    return environment / "bin" / "halfdepth"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory with folders and a module that have our names, and fail when they are imported."""
    for name in OURS:
        (tmp_path / name).mkdir()
        for file in ("__init__.py", "__main__.py"):
            (tmp_path / name / file).write_text("raise AssertionError('this is somebody else')\n")
    (tmp_path / "halfdepth.py").write_text("raise AssertionError('this is somebody else')\n")
    return tmp_path


@pytest.fixture
def served(installed: Path, elsewhere: Path) -> Iterator[str]:
    """The URL of `halfdepth serve`, run from elsewhere on a bundle given by its path."""
    write_bundle(elsewhere / "my-bundles" / "qa")
    process = subprocess.Popen(
        [installed, "serve", "--bundles", "my-bundles"],
        cwd=elsewhere,
        env=os.environ | {"HALFDEPTH_PORT": "0", "HALFDEPTH_BUNDLES": "nowhere"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        log, url = "", None
        while url is None and (line := process.stderr.readline()):
            log += line
            url = re.search(r"http://[\d.]+:\d+", line)
        assert url, log
        yield url[0]
    finally:
        process.terminate()
        process.communicate()


def test_a_wheel_serves_a_bundle_from_a_directory_that_has_folders_of_our_names(served: str) -> None:
    item = {"question": "where?", "context": "she lives in Paris."}
    reply = httpx.post(f"{served}/qa", json=item).raise_for_status().json()
    assert reply["answers"][0]["text"] == "Paris"


def test_what_a_wheel_starts_in_a_child_process_is_ours_as_well(installed: Path, elsewhere: Path) -> None:
    write_bundle(elsewhere / "bundles" / "qa")
    command = [str(installed), "loadtest", "--seconds", "1", "--users", "1"]
    done = subprocess.run(
        command, cwd=elsewhere, env=os.environ | {"HALFDEPTH_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert "somebody else" not in (elsewhere / "runs" / "loadtest" / "service.log").read_text()
    assert "somebody else" not in done.stderr
    assert (elsewhere / "runs" / "loadtest" / "report.html").is_file(), done.stderr


def test_training_from_a_wheel_is_ours_wherever_it_is_run(installed: Path, elsewhere: Path) -> None:
    done = subprocess.run([installed, "finetune"], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "halfdepth finetune: the following arguments are required: --task, --train, --dev, --out\n"


def test_ctrl_c_ends_a_command_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(halfdepth, "run", interrupted)
    assert halfdepth.main(["evaluate"]) == 130
    assert capsys.readouterr().err == "halfdepth: stopped by Ctrl-C\n"
