"""The doctor as a whole: on machines that are not here, and once on this one, with the default bundles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import doctor
from service.checkup import speed
from service.checkup.finding import Finding, System
from service.doctor import NEEDS_DOING, main, run
from service.startup.cgroups import Cgroups
from tests.server import ROOT
from tests.service.checkup.trees import system

SUBJECTS = ["processor", "cores", "throttling", "load", "bundles", "memory", "int8", "threads"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no bundle in the working directory, and timings are good."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "milliseconds", lambda opened, tokens, **_how: tokens * (1 if opened == "int8" else 2))
    monkeypatch.setattr(speed, "open_encoder", lambda precision, _threads: precision)


def test_without_bundles_cgroups_or_proc_every_check_says_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    assert run("doctor", ["--json"], System(missing, Cgroups(missing, missing))) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "ok"
    assert [finding["subject"] for finding in report["findings"]] == SUBJECTS
    assert all(finding["text"] and finding["advice"] for finding in report["findings"])


def test_what_needs_doing_is_the_exit_status_and_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = system(tmp_path, cgroup={"cpu.max": "50000 100000", "cpu.stat": "nr_periods 900\nnr_throttled 800\n"})
    assert run("doctor", [], slow) == NEEDS_DOING
    shown = capsys.readouterr().out
    assert "ACT   cores: " in shown
    assert "      Raise the CPU limit" in shown
    assert shown.endswith("To do: cores, throttling.\n")


def test_all_is_well_on_a_quiet_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", [], system(tmp_path)) == 0
    assert capsys.readouterr().out.endswith("All is well.\n")


def test_a_finding_is_printed_before_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def checks(*_what: object) -> object:
        yield Finding("first", "ok", "here")
        assert capsys.readouterr().out == "ok    first: here\n"

    monkeypatch.setattr(doctor, "examine", checks)
    assert run("doctor", [], system(tmp_path)) == 0


def test_a_wrong_setting_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HALFDEPTH_THREADS", "many")
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m service.doctor: HALFDEPTH_THREADS: ")
    assert error.count("\n") == 1


def test_the_default_bundles_are_whole_here_where_nothing_can_be_written() -> None:
    """A real run in the serving libraries alone; no timing is asserted, and asking for a temporary file fails.

    Whether something needs doing beside the bundles is this machine's affair.
    """
    hidden = ("torch", "transformers", "onnx", "tqdm")
    script = f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
    script += "import tempfile; tempfile._get_default_tempdir = None\n"
    script += "from service.doctor import main; sys.exit(main(['--json', '--bundles', 'bundles']))"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, NEEDS_DOING), done.stderr
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    names = sorted(path.name for path in (ROOT / "bundles").iterdir())
    assert {subject for subject in findings if subject.startswith("bundle ")} == {f"bundle {name}" for name in names}
    for name in names:
        assert findings[f"bundle {name}"]["values"]["drift"] is not None
    assert findings["int8"]["values"]["tokens"] == [16, 128, 384]
    assert all(gain > 0 for gain in findings["int8"]["values"]["gain"])
    assert findings["memory"]["values"]["taken_mb"] > 100
