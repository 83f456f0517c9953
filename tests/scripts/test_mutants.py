"""The draw of mutants, and their count."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts import mutants
from scripts.mutants import draw, main, summary, verdicts

NAMES = [f"models.tasks.qa.x_decode__mutmut_{number}" for number in range(1, 101)]


def test_a_draw_depends_on_its_seed_alone() -> None:
    drawn = draw(NAMES, 20, seed=1)
    assert drawn == draw(NAMES, 20, seed=1) != draw(NAMES, 20, seed=2)
    assert len(set(drawn)) == 20
    assert set(drawn) < set(NAMES)


def test_without_a_number_all_are_drawn() -> None:
    assert draw(NAMES, 0, seed=1) == draw(NAMES, 1_000, seed=1) == NAMES


def test_verdicts_are_read_from_the_files_of_every_module(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name, codes in (("models/qa.py.meta", {"a": 1}), ("spans.py.meta", {"b": 0, "c": None})):
        (tmp_path / name).write_text(json.dumps({"exit_code_by_key": codes, "durations_by_key": {}}))
    assert verdicts(tmp_path) == {"a": 1, "b": 0, "c": None}


def test_only_a_mutant_that_fails_a_test_or_its_time_is_killed() -> None:
    codes = {"a": 1, "b": 1, "c": 1, "d": 36, "e": 0, "f": 33, "g": None, "h": -11}
    assert summary(codes) == "8 mutants: 3 killed, 2 survived, 1 timed out, 1 untested, 1 not tried; 50.0% killed"


@pytest.mark.parametrize(("killed", "status"), [(85, 0), (84, 1)])
def test_the_status_says_whether_85_of_100_are_killed(
    killed: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(codes: Sequence[int | None]) -> None:
        meta = {"exit_code_by_key": dict(zip(NAMES, codes, strict=True))}
        (tmp_path / "qa.py.meta").write_text(json.dumps(meta))

    def mutmut(command: list[str], **_: Any) -> None:
        commands.append(command[3])
        if command[3] == "run":
            assert command[6:] == NAMES
            write([1] * killed + [0] * (100 - killed))

    commands: list[str] = []
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)
    monkeypatch.setattr(mutants, "make", lambda: write([None] * 100))
    monkeypatch.setattr(mutants, "subprocess", SimpleNamespace(run=mutmut))
    monkeypatch.setattr(mutants, "draw", lambda *_: NAMES)
    assert main([]) == status
    assert commands == ["run", *["show"] * (100 - killed)]
    assert capsys.readouterr().out.endswith(f"; {killed}.0% killed\n")
