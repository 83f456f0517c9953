"""What a run was trained on, and what it began with was."""

import json
from pathlib import Path

import pytest

from models.data import DataError
from models.provenance import PROVENANCE, TrainingData, training_data


def data_of_run(directory: Path, record: object) -> list[TrainingData]:
    """The data of a run that trains on one file twice, and begins with a model that has this record."""
    (directory / PROVENANCE).write_text(json.dumps(record))
    train = directory / "train.tsv"
    train.write_text("text\tlabel\n")
    return training_data([train, train], [str(directory), "absent"])


def test_the_data_of_a_teacher_are_named_once_beside_those_of_the_run(tmp_path: Path) -> None:
    older = {"name": "older.tsv", "sha256": "0" * 64, "bytes": 9}
    data = data_of_run(tmp_path, {"data": [older, older], "licence": "any"})
    assert [file.name for file in data] == ["train.tsv", "older.tsv"]


def test_a_record_without_data_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not list the data of a training"):
        data_of_run(tmp_path, {"data": ["older.tsv"]})
