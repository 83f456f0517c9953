"""What a run was trained on, and what it began with was."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from models.data import DataError
from models.provenance import PROVENANCE, training_data


def began_with(directory: Path, record: object) -> Namespace:
    (directory / PROVENANCE).write_text(json.dumps(record))
    train = directory / "train.tsv"
    train.write_text("text\tlabel\n")
    return Namespace(train=[train, train], unlabelled=[], teacher=[str(directory)], student="absent", model=None)


def test_the_data_of_a_teacher_are_named_once_beside_those_of_the_run(tmp_path: Path) -> None:
    older = {"name": "older.tsv", "sha256": "0" * 64, "bytes": 9}
    data = training_data(began_with(tmp_path, {"data": [older, older], "licence": "any"}))
    assert [file.name for file in data] == ["train.tsv", "older.tsv"]


def test_a_record_without_data_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not list the data of a training"):
        training_data(began_with(tmp_path, {"data": ["older.tsv"]}))
