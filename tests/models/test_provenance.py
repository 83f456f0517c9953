"""What a run was trained on, and what it began with was."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.data import DataError
from models.provenance import PROVENANCE, Teacher, TrainingData, origin_of, teachers_of, training_data, write_provenance


def data_of_run(directory: Path, record: object, skipped: int = 0) -> list[TrainingData]:
    """The data of a run that trains on one file twice, and begins with a model that has this record."""
    (directory / PROVENANCE).write_text(json.dumps(record))
    train = directory / "train.tsv"
    train.write_text("text\tlabel\n")
    return training_data([train, train], [str(directory), "absent"], {train: skipped} if skipped else {})


def test_the_data_of_a_teacher_are_named_once_beside_those_of_the_run(tmp_path: Path) -> None:
    older = {"name": "older.tsv", "sha256": "0" * 64, "bytes": 9}
    data = data_of_run(tmp_path, {"data": [older, older], "licence": "any"})
    assert [file.name for file in data] == ["train.tsv", "older.tsv"]


def test_a_record_without_data_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not list the data of a training"):
        data_of_run(tmp_path, {"data": ["older.tsv"]})


def test_rows_that_were_left_out_stand_beside_their_file(tmp_path: Path) -> None:
    older = {"name": "older.tsv", "sha256": "0" * 64, "bytes": 9, "skipped": 7}
    data = data_of_run(tmp_path, {"data": [older]}, skipped=3)
    assert [(file.name, file.skipped) for file in data] == [("train.tsv", 3), ("older.tsv", 7)]
    whole = {"name": "train.tsv", "sha256": data[0].sha256, "bytes": data[0].bytes}
    assert data_of_run(tmp_path, {"data": [whole]}, skipped=3) == data[:1]  # the teacher may have read all of it


def test_a_file_of_which_nothing_was_left_out_has_no_such_key(tmp_path: Path) -> None:
    data = data_of_run(tmp_path, {"data": [{"name": "older.tsv", "sha256": "0" * 64, "bytes": 9}]})
    assert all("skipped" not in file.model_dump(exclude_unset=True) for file in data)


def test_the_teachers_of_a_model_are_told_by_its_record(tmp_path: Path) -> None:
    teacher = Teacher(name="teacher", architecture="BertModel", layers=12, hidden_size=768, source="bert")
    rest: dict[str, Any] = {"command": "c", "seed": 0, "sources": ["teacher"], "data": [], "metrics": {}, "seconds": 1}
    write_provenance(tmp_path, **rest)
    assert "teachers" not in json.loads((tmp_path / PROVENANCE).read_text())
    assert teachers_of(str(tmp_path)) == teachers_of(str(tmp_path / "absent")) == ()
    write_provenance(tmp_path, **rest, teachers=[teacher])
    assert teachers_of(str(tmp_path)) == (teacher,)
    assert (origin_of(str(tmp_path)), origin_of(str(tmp_path / "absent"))) == ("teacher", None)
