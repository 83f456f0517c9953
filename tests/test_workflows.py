"""The workflows of GitHub Actions: valid, pinned, with no more rights than their work needs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
Workflow = dict[str, Any]  # YAML
WRITERS = {("release.yml", "pypi"): {"id-token"}, ("release.yml", "image"): {"packages"}}


def load(path: Path) -> Workflow:
    workflow: Workflow = yaml.safe_load(path.read_text())
    return workflow


def validate(path: Path) -> "subprocess.CompletedProcess[str]":
    schemas = ("vendor.github-workflows", "custom.github-workflows-require-timeout")
    for schema in schemas:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            break
    return done


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid_and_every_job_has_an_end(path: Path) -> None:
    done = validate(path)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_of_a_workflow_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "ci.yml").write_text(WORKFLOWS[0].read_text().replace("runs-on", "run-on"))
    assert validate(tmp_path / "ci.yml").returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_and_keeps_no_credentials(path: Path) -> None:
    for line in re.findall(r"uses: (.*)", path.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)


def test_an_action_has_the_same_commit_everywhere() -> None:
    pins = {line for path in WORKFLOWS for line in re.findall(r"uses: (\S+)", path.read_text())}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_may_write_only_what_they_publish(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        written = {right for right, level in job["permissions"].items() if level == "write"}
        assert written == WRITERS.get((path.name, name), set()), name
        assert "contents" not in written


def test_nothing_is_published_before_the_tests_and_the_audit_have_passed() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    for name, job in jobs.items():
        if any(level == "write" for level in job["permissions"].values()):
            assert "test" in job["needs"], name
    commands = "\n".join(step.get("run", "") for step in jobs["test"]["steps"])
    assert "make test" in commands
    for file in ("constraints.txt", "requirements-serve.lock"):
        assert re.search(rf"pip-audit==\S+ --strict --requirement {file} ", commands)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_of_a_caller_gets_into_a_script(path: Path) -> None:
    """A branch called `$(...)` would be run."""
    for job in load(path)["jobs"].values():
        assert [step["run"] for step in job["steps"] if "${{" in step.get("run", "")] == []
