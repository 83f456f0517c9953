"""Numbers that no run can use, and flags that nothing reads, are refused before anything is read."""

import pytest

from models.finetune.options import FinetuneOptions
from models.tasks.errors import UsageError
from models.tasks.options import read_options

REQUIRED = ["--task", "qa", "--train", "a", "--dev", "a", "--out", "b"]


def read(*argv: str) -> FinetuneOptions:
    return read_options(FinetuneOptions, "prog", [*REQUIRED, *argv])


@pytest.mark.parametrize(
    ("flag", "value", "bounds"),
    [
        ("--epochs", "inf", "above 0 and below inf"),
        ("--weight-decay", "-1", "at least 0"),
        ("--seed", "-1", "at least 0 and below 9.22337e+18"),
        ("--seed", "99999999999999999999", "at least 0 and below 9.22337e+18"),
        ("--doc-stride", "-5", "at least 0"),
        ("--dropout", "1", "at least 0 and below 1"),
        *((f"--{name}", "5", "at least 0 and at most 1") for name in ("moved-questions", "swapped-questions")),
        *((f"--{name}", "-0.1", "at least 0 and at most 1") for name in ("cropped", "joined", "removed")),
        *((f"--{name}", "-1", "at least 0") for name in ("hard", "soft", "hidden", "relation")),
    ],
)
def test_a_number_out_of_range_is_refused(flag: str, value: str, bounds: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag} must be {bounds}, not ".replace("+", r"\+")):
        read("--model", "m", flag, value)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--model", "m", "--layers", "2"], "--layers does nothing with --model, without a teacher; remove it"),
        (["--model", "m", "--student", "s", "--hard", "1"], "--student, --hard do nothing with --model, without a "),
        (["--teacher", "t", "--dropout", "0.1"], "--dropout does nothing with --teacher; remove it"),
        (["--teacher", "t", "--student", "s", "--layers", "2"], "--layers does nothing with --student, which has its "),
        (
            ["--teacher", "t", "--student", "s", "--student-from", "f"],
            "give either --student (which goes on) or",
        ),
    ],
)
def test_a_flag_that_nothing_reads_is_refused(argv: list[str], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert str(caught.value).startswith(line)
