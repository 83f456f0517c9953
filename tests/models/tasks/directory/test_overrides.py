"""halfdepth.json: what it may say, and what is refused in one line."""

import json
from pathlib import Path

import pytest

from models.tasks.directory.files import BundleError
from models.tasks.directory.overrides import Overrides, read_overrides


def test_without_the_file_nothing_is_overridden(tmp_path: Path) -> None:
    assert read_overrides(tmp_path) == Overrides()


def test_each_key_is_read(tmp_path: Path) -> None:
    content = {"task": "qa", "file": "onnx/model_int8.onnx", "pooling": "lasttoken", "no_answer_threshold": 0}
    (tmp_path / "halfdepth.json").write_text(json.dumps(content))
    assert read_overrides(tmp_path).model_dump(exclude_unset=True) == content
    content = {"no_answer_threshold_by_tokens": [[128, -1.0], [256, 1]]}
    (tmp_path / "halfdepth.json").write_text(json.dumps(content))
    assert read_overrides(tmp_path).thresholds == (-1.0, ((128, -1.0), (256, 1.0)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"thread": 2}, "thread is not one of its keys, which are task, file"),
        ({"pooling": "median"}, "pooling: .*'mean', 'cls', 'max' or 'lasttoken'"),
        ({"no_answer_threshold": "0"}, "no_answer_threshold: .*number"),
        ({"no_answer_threshold_by_tokens": -1}, "no_answer_threshold_by_tokens: must be pairs of context tokens"),
        ({"file": ""}, "file: .*at least 1 character"),
        ([], "must hold a JSON object"),
    ],
)
def test_what_it_cannot_mean_is_refused_by_its_key(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "halfdepth.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=rf"halfdepth\.json.*{words}") as refusal:
        read_overrides(tmp_path)
    assert "\n" not in str(refusal.value)
