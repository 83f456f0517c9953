"""A measurement on disk: what it says of where it was taken, and files that are none."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from loadtest.record import RecordError, read_record, record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "grid.json"
    written = record(
        "grid", [{"tokens": 8, "p50_ms": 0.5, "task": "qa", "note": None}], ["halfdepth", "loadtest", "a b"]
    )
    written.write(path)
    read = read_record(path)
    assert read == written
    assert read.command == "halfdepth loadtest 'a b'"


def test_a_record_says_where_it_was_taken() -> None:
    taken = record("grid", [])
    assert taken.machine.cores >= 1
    assert taken.machine.memory_gb > 0
    assert taken.versions["onnxruntime"]
    assert taken.commit != ""


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"part": "grid"}', '{"machine": {"cores": 2}}'])
def test_a_file_that_is_no_record_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"other\.json is not a measurement"):
        read_record(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nothing\.json is not a measurement"):
        read_record(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("argv0", "module", "shown"),
    [
        ("/usr/bin/halfdepth", None, "halfdepth loadtest 'a b'"),
        ("/src/halfdepth.py", "halfdepth", "halfdepth loadtest 'a b'"),
        ("/src/loadtest/__main__.py", "loadtest.__main__", "python -m loadtest loadtest 'a b'"),
    ],
)
def test_the_command_of_a_record_can_be_given_again(
    argv0: str, module: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = ModuleType("__main__")
    started.__spec__ = ModuleSpec(module, None) if module else None
    monkeypatch.setitem(sys.modules, "__main__", started)
    monkeypatch.setattr(sys, "argv", [argv0, "loadtest", "a b"])
    assert record("grid", []).command == shown
