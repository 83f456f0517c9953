"""Faults, each once, done to a real service with tiny bundles; `make torture` does all of them many times."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.torture import runs
from loadtest.torture.fault import Fault, Outcome, do, warm_up
from loadtest.torture.faults import FAULTS, main
from loadtest.torture.questions import Question, questions
from loadtest.torture.target import Scene, Target
from models.tasks.remote.client import Client
from tests.loadtest.torture.bundles import write_bundles
from tests.service.conftest import write_bundle

SHORT_S = 0.05
QUICK = (
    "raises",
    "hangs on a worker",
    "killed",
    "SIGHUP",
    "disk",
    "pipe",
    "clock",
    "served",
    "overwritten",
    "one core",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def target(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target.of(root, tmp_path_factory.mktemp("target"))
    try:
        target.start()
        yield target
    finally:
        target.stop()


@pytest.fixture(scope="module")
def asked(target: Target) -> list[Question]:
    asked = questions(Client(target.url), 2, seed=0)
    warm_up(target, asked)
    return asked


def do_once(fault: Fault, target: Target, asked: list[Question], outcome: Outcome) -> None:
    do(fault, target, asked, outcome, before=target.holdings(), number=0, seconds=SHORT_S)


def nothing(_: Scene) -> None:
    """Break nothing."""


def test_the_quick_faults_hold(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "faults.json"
    arguments = ["--bundles", str(root), "--times", "1", "--seconds", str(SHORT_S), "--out", str(out), "--only", *QUICK]
    assert main(arguments) == 0, capsys.readouterr().err
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 11
    for row in rows:
        assert row["sent"] == row["right"] + sum(row["refused"].values()) + row["closed"] > 0
        assert row["wrong"] == row["hung"] == 0
    assert "workers are killed" in capsys.readouterr().out


def test_a_wrong_answer_is_noticed(target: Target, asked: list[Question]) -> None:
    outcome = Outcome("nothing")
    others = [replace(question, answer=b"{}") if question.route == "/qa" else question for question in asked]
    do_once(Fault("nothing", nothing), target, others, outcome)
    assert outcome.wrong > 0
    assert "wrong answers to /qa" in outcome.failures[0]


def test_a_status_that_nothing_explains_is_noticed(target: Target, asked: list[Question]) -> None:
    [fault] = [fault for fault in runs.FAULTS if fault.name == "a run raises on a worker"]
    outcome = Outcome("raises")
    do_once(replace(fault, allowed=frozenset()), target, asked, outcome)
    assert outcome.wrong == 1
    assert "undocumented" in outcome.failures[0]


def test_another_process_is_noticed(target: Target, asked: list[Question]) -> None:
    def restart(scene: Scene) -> None:
        scene.target.stop()
        scene.target.start()

    outcome = Outcome("restart")
    do_once(Fault("restart", restart), target, asked, outcome)
    assert any("it is another process" in failure for failure in outcome.failures)


def test_a_fault_that_does_not_exist_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "earthquake"]) == 2
    assert "the faults are: a run raises on the event loop" in capsys.readouterr().err


def test_two_bundles_of_a_task_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(tmp_path / "qa")
    arguments = ["--bundles", str(tmp_path), "--out", str(tmp_path / "faults.json")]
    assert main(arguments) == 2
    assert "needs two bundles of one task" in capsys.readouterr().err


def test_each_fault_has_its_own_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 24
