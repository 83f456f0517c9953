"""Flags of an export that nothing would read are refused before any work."""

import pytest

from export.options import ExportOptions
from models.tasks.errors import UsageError
from models.tasks.options import read_options

STUDENT = ["--task", "classify", "--dev", "d", "--out", "o", "--student", "s"]
ONNX = [*STUDENT[:-2], "--from-onnx", "f"]
DATA = [*STUDENT[:-2], "--teacher", "t", "--train", "d"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([*STUDENT, "--layers", "2", "--work", "w"], "--layers, --work do nothing without --train; remove them"),
        ([*ONNX, "--student-arguments", "--lr 1"], "--student-arguments does nothing without --train; remove it"),
        ([*ONNX, "--teacher", "t"], "--teacher does nothing with --from-onnx; remove it"),
        ([*DATA, "--calibrate-no-answer"], "a model for classify has no no_answer_threshold; remove the flags of one"),
        ([*STUDENT, "--no-answer-threshold", "0"], "a model for classify has no no_answer_threshold; remove the flags"),
    ],
)
def test_a_flag_that_nothing_reads_is_refused(argv: list[str], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_options(ExportOptions, "prog", argv)
    assert str(caught.value).startswith(line)
