"""What int8 changes for a search: the nearest neighbours that an export compares."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export.__main__ import main
from export.neighbours import MAX_TEXTS, chosen
from export.options import ExportOptions
from export.pipeline import export
from export.report import report
from export.verify import MIN_NEIGHBOURS, VerifyError, check_neighbours
from models.tasks.errors import UsageError

WORDS = ("lamp", "oven", "sea", "tower", "garden", "river", "hail", "keeper")


@pytest.fixture
def options(tiny_qa: dict[str, Path], tmp_path: Path) -> ExportOptions:
    """A random encoder, and 8 distinct sentences in its dev set."""
    dev = tmp_path / "pairs.tsv"
    rows = [f"the {word} is old\tthe {WORDS[0]} is old\t{place % 5}" for place, word in enumerate(WORDS)]
    dev.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]) + "\n")
    student = Path(shutil.copytree(tiny_qa["bert"], tmp_path / "student"))
    return ExportOptions(
        task="similarity",
        student=student,
        dev=dev,
        out=tmp_path / "out",
        max_metric_drop=200.0,
        min_agreement=0.0,
        min_neighbours=0.0,
    )


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(f"The {word} by the {other} is red." for word in WORDS for other in WORDS) + "\n")
    return path


def test_the_neighbours_that_int8_keeps_reach_manifest_and_report(options: ExportOptions, sentences: Path) -> None:
    exported = export(replace(options, sentences=(sentences,)))
    assert exported.bundle.manifest is not None
    checks = exported.bundle.manifest.checks
    assert checks.neighbour_inputs == 8 + 64  # distinct ones
    assert checks.neighbour_overlap is not None
    assert 0.0 < checks.neighbour_overlap <= 1.0
    line = f"int8 keeps {100 * checks.neighbour_overlap:.1f}% of float's ten nearest neighbours among 72 texts"
    assert line in report(exported.bundle, {}).splitlines()


def test_an_export_that_loses_neighbours_writes_nothing_and_says_what_to_do(
    options: ExportOptions, sentences: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--task", "similarity", "--student", str(options.student), "--dev", str(options.dev)]
    arguments += ["--max-metric-drop", "200", "--min-agreement", "0", "--out", str(options.out)]
    assert main([*arguments, "--sentences", str(sentences), "--min-neighbours", "1"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "of each text's ten nearest neighbours by float among 72 texts, less than 1; leave products" in line
    assert line.endswith("or lower --min-neighbours; nothing was written")
    assert not options.out.exists()


def test_eleven_texts_tell_nothing_of_their_ten_neighbours(options: ExportOptions) -> None:
    exported = export(replace(options, min_neighbours=None))
    assert exported.bundle.manifest is not None
    assert exported.bundle.manifest.checks.neighbour_overlap is None
    assert "neighbours" not in report(exported.bundle, {})


def test_the_bound_itself_passes_and_less_is_refused() -> None:
    check_neighbours(MIN_NEIGHBOURS, 5000, MIN_NEIGHBOURS)
    with pytest.raises(VerifyError, match=r"^int8 keeps 0\.949 of .* among 5000 texts, less than 0\.95; "):
        check_neighbours(0.9491, 5000, MIN_NEIGHBOURS)
    with pytest.raises(VerifyError):
        check_neighbours(float("nan"), 5000, MIN_NEIGHBOURS)


def test_no_more_than_5000_distinct_texts_are_drawn_always_the_same() -> None:
    texts = [str(number % 6000) for number in range(7000)]
    drawn = chosen(texts, seed=0)
    assert len(set(drawn)) == len(drawn) == MAX_TEXTS == 5000
    assert drawn == sorted(drawn, key=int) == chosen(texts, seed=0) != chosen(texts, seed=1)
    assert chosen(["b", "a", "b"], seed=0) == ["b", "a"]


def test_flags_that_mean_nothing_are_refused(options: ExportOptions, sentences: Path) -> None:
    for share in (95.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="--min-neighbours must be at least 0 and at most 1, not"):
            replace(options, min_neighbours=share)
    with pytest.raises(UsageError, match="qa has no embeddings to compare; remove --min-neighbours and --sentences"):
        replace(options, task="qa")
    with pytest.raises(UsageError, match="qa has no embeddings to compare"):
        replace(options, task="qa", min_neighbours=None, sentences=(sentences,))
