"""A measurement on disk: what it says of where it was taken, and files that are none."""

from pathlib import Path

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
