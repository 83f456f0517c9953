"""A dataclass becomes a command line that reads what people have typed so far."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from models.tasks.errors import UsageError
from models.tasks.options import Flag, Options, arguments_of, change_options, read_options


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Options):
    """Train something.

    Takes a while.
    """

    task: Annotated[Literal["qa", "classify"], Flag("what to train for")]
    share: Annotated[float, Flag("of the steps", at_least=0, below=1, group="loop")] = 0.05
    train: Annotated[tuple[Path, ...], Flag("text files", metavar="FILE")]
    pair: Annotated[tuple[Path, Path] | None, Flag("two files", metavar=("TRAIN", "DEV"))] = None
    lr: Annotated[float, Flag("peak learning rate, 100% of it", above=0)] = 1e-4
    weight: Annotated[float, Flag("of the loss")] = 2.0
    dose: Annotated[float, Flag("of the drug", at_most=1)] = 1.0
    part: Annotated[str | None, Flag("what to measure", name="--only", choices=("cost", "load"))] = None
    tokens: Annotated[tuple[int, ...], Flag("lengths", above=0)] = (16, 32)
    more: Annotated[str, Flag("more flags, in one string", metavar="FLAGS")] = ""
    keep: Annotated[tuple[str, ...], Flag("names")] = ()
    bounds: Annotated[tuple[str, ...], Flag("bounds", name="--bound", repeats=True)] = ()
    bf16: Annotated[bool, Flag("autocast to bfloat16")] = True
    dry_run: Annotated[bool, Flag("do nothing")] = False
    command: str = ""

    def check(self) -> None:
        if self.dry_run and self.more:
            raise UsageError("--more does nothing in a --dry-run")


REQUIRED = ["--task", "qa", "--train", "a", "b"]


def read(*argv: str) -> Training:
    return read_options(Training, "prog", [*REQUIRED, *argv])


def test_fields_are_flags_and_what_is_left_out_keeps_its_default() -> None:
    assert read() == Training(task="qa", train=(Path("a"), Path("b")))
    options = read("--pair", "c", "d", "--lr", "3e-3", "--tokens", "8", "--keep", "x", "y", "--no-bf16", "--dry-run")
    assert options == Training(
        task="qa",
        train=(Path("a"), Path("b")),
        pair=(Path("c"), Path("d")),
        lr=3e-3,
        tokens=(8,),
        keep=("x", "y"),
        bf16=False,
        dry_run=True,
    )


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--lr", "1", "--lr", "2"], "lr", 2.0),
        (["--train", "z"], "train", (Path("z"),)),
        (["--lr=5"], "lr", 5.0),
        (["--weight", "-1"], "weight", -1.0),
        (["--more", "--epochs 2 --lr 1"], "more", "--epochs 2 --lr 1"),
        (["--wei", "3"], "weight", 3.0),
        (["--only", "load"], "part", "load"),
        (["--keep", "x", "--keep", "y"], "keep", ("y",)),
        (["--bound", "x", "--bound", "y", "z"], "bounds", ("x", "y", "z")),
    ],
)
def test_argparses_habits_are_kept(argv: list[str], field: str, value: object) -> None:
    assert getattr(read(*argv), field) == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lr", "0"], "--lr must be above 0, not 0.0"),
        (["--lr", "nan"], "--lr must be above 0, not nan"),
        (["--share", "1"], "--share must be at least 0 and below 1, not 1.0"),
        (["--dose", "1.5"], "--dose must be at most 1, not 1.5"),
        (["--weight", "nan"], "--weight must be a number, not nan"),
        (["--tokens", "4", "-3"], "--tokens must be above 0, not -3"),
        (["--tokens", "x"], "argument --tokens: 'x' is not a whole number"),
        (["--lr", "x"], "argument --lr: 'x' is not a number"),
        (["--train", "z", ""], "argument --train: the path is empty; name one, or leave the flag out"),
        (["--keep"], "argument --keep: expected at least one argument"),
        (["--task", "rank"], "argument --task: invalid choice: 'rank' (choose from 'qa', 'classify')"),
        (["--only", "x"], "argument --only: invalid choice: 'x' (choose from 'cost', 'load')"),
        (["--absent"], "unrecognized arguments: --absent"),
        (["--dry-run", "--more", "x"], "--more does nothing in a --dry-run"),
        (["--command", "x"], "unrecognized arguments: --command x"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_what_is_required_is_named() -> None:
    with pytest.raises(UsageError, match="the following arguments are required: --task, --train"):
        read_options(Training, "prog", [])


def test_options_made_in_python_are_checked_as_well() -> None:
    with pytest.raises(UsageError, match="--lr must be above 0"):
        Training(task="qa", train=(), lr=-1.0)
    with pytest.raises(UsageError, match="--only must be one of cost, load, not x"):
        Training(task="qa", train=(), part="x")


def test_help_shows_the_description_the_groups_and_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read_options(Training, "prog", ["--help"], epilog="the end")
    shown = capsys.readouterr().out
    assert " ".join(shown.split()).startswith(
        "usage: prog [-h] --task {qa,classify} --train FILE [FILE ...] [--pair TRAIN DEV] [--lr LR]"
    )
    assert "Train something.\n\nTakes a while.\n" in shown
    assert "peak learning rate, 100% of it (default: 0.0001)" in " ".join(shown.split())
    assert "lengths (default: 16 32)" in shown
    assert "--bf16, --no-bf16" in shown
    assert "autocast to bfloat16 (default: True)" in shown
    assert "--no-dry-run" not in shown
    assert "\nloop:\n  --share SHARE " in shown
    assert "None" not in shown
    assert shown.endswith("the end\n")


def test_a_command_line_changes_what_it_names_and_leaves_the_rest() -> None:
    options = read("--lr", "3", "--no-bf16", "--keep", "x")
    changed = change_options(options, "prog", ["--bf16", "--keep", "y", "z"])
    assert changed == read("--lr", "3", "--keep", "y", "z")
    with pytest.raises(UsageError, match="--lr must be above 0"):
        change_options(options, "prog", ["--lr", "-3"])


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--pair", "c", "d", "--lr", "0.003", "--weight", "-1.0", "--tokens", "8", "--more", "--epochs 2"],
        ["--keep", "x", "y", "--no-bf16", "--dry-run", "--share", "0.5"],
    ],
)
def test_options_are_written_as_the_command_line_that_they_are_read_from(argv: list[str]) -> None:
    assert arguments_of(read(*argv)) == [*REQUIRED, *argv]
    assert read_options(Training, "prog", arguments_of(read(*argv))) == read(*argv)
