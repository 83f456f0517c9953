"""Contexts of other lengths keep the answer, or hold none."""

import json
import random
from pathlib import Path

import pytest

from models.finetune.abstaining.lengths import bucket, crop, main
from models.squad import QAExample, read_squad

TEXTS = [f"Town {n} was founded in {1900 + n}. It lies by a lake. Its mayor sings in the evening." for n in range(60)]


def examples() -> list[QAExample]:
    years = [str(1900 + n) for n in range(len(TEXTS))]
    return [
        QAExample(str(n), "Towns", f"When was town {n} founded?", text, (year,), (text.index(year),))
        for n, (text, year) in enumerate(zip(TEXTS, years, strict=True))
    ]


@pytest.mark.parametrize("tokens", [100, 400])
def test_every_question_is_asked_with_its_answer_and_without(tokens: int) -> None:
    chosen = list(bucket(examples(), tokens, 10, seed=0))
    answerable = [example for example in chosen if not example.is_impossible]
    removed = [example for example in chosen if example.is_impossible]
    assert len(answerable) == len(removed) == 10
    for example in answerable:
        (text,), (start,) = example.answers, example.answer_starts
        assert example.context[start : start + len(text)] == text
        assert 0 <= len(example.context.split()) - round(tokens / 1.35) < 20
    for example in removed:
        assert str(1900 + int(example.id.split("-")[0])) not in example.context
        assert 0 <= len(example.context.split()) - round(tokens / 1.35) < 20


def test_a_long_paragraph_is_cropped_to_whole_sentences_around_the_answer() -> None:
    text = " ".join(TEXTS)
    example = QAExample(
        "a", "Towns", "When was town 30 founded?", text, ("1930", "1900"), (text.index("1930"), text.index("1900"))
    )
    cropped = crop(example, 40, random.Random(0))
    assert cropped.answers == ("1930",)
    assert cropped.context[cropped.answer_starts[0] :].startswith("1930")
    assert 40 <= len(cropped.context.split()) < 60
    assert cropped.context.endswith((".", "evening."))


def test_the_files_are_squad_json_and_depend_on_the_seed_alone(squad_file: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main(["--dev", str(squad_file), "--out", str(tmp_path / name), "--tokens", "20", "--count", "3"]) == 0
    first, second = (tmp_path / name / f"{squad_file.stem}-0020.json" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_text())["version"] == "v2.0"
    assert read_squad(first)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dev", str(tmp_path / "absent.json"), "--out", str(tmp_path)]) == 2
    assert "absent.json" in capsys.readouterr().err
