"""Words with tags: how they are read, scored, trained, distilled, exported and measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from export.__main__ import main as export
from models.data import DataError
from models.devset import DevOptions, measure
from models.evaluate import main as evaluate
from models.files import Reading
from models.finetune.__main__ import main as finetune
from models.finetune.entities import EntitiesDev, TaggedText, read_tagged, spans_of
from models.tasks.bundle import load_bundle
from models.tasks.entities import EntitiesInput, EntitiesResult, Entity, EntityRecognition
from models.tasks.text.label_scheme import Scheme

CONLL = """-DOCSTART- -X- -X- O

Anna NNP B-NP B-PER
Lindqvist NNP I-NP I-PER
came VBD B-VP O
from IN B-PP O
Gothenburg NNP B-NP B-LOC
. . O O

Tomás NNP B-NP B-PER
stays VBZ B-VP O
"""


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_conll_and_json_lines_are_read_alike(tmp_path: Path) -> None:
    texts = read_tagged(write(tmp_path / "a.conll", CONLL))
    assert texts == [
        TaggedText(
            ("Anna", "Lindqvist", "came", "from", "Gothenburg", "."), ("B-PER", "I-PER", "O", "O", "B-LOC", "O")
        ),
        TaggedText(("Tomás", "stays"), ("B-PER", "O")),
    ]
    rows = [json.dumps({"tokens": text.words, "ner_tags": text.tags}) for text in texts]
    assert read_tagged(write(tmp_path / "a.jsonl", "\n".join(rows))) == texts
    assert [texts[0].text[start:][:4] for start in texts[0].starts()] == ["Anna", "Lind", "came", "from", "Goth", "."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"tokens": ["New", "York"], "ner_tags": ["B-LOC", "I-LOC"]}]'),
        ("a.json", '{"tokens": ["New", "York"], "ner_tags": ["B-LOC", "I-LOC"]}\n'),
        ("a.txt", '{"tokens": ["New", "York"], "ner_tags": ["B-LOC", "I-LOC"]}\r\n'),
        ("a.conll", "# id 7 domain=en\nNew B-LOC\nYork I-LOC\n"),
        ("eng.testa", "-DOCSTART- O\n\nNew\tB-LOC\r\nYork\tI-LOC\r\n"),
    ],
)
def test_the_same_words_come_in_several_files(tmp_path: Path, name: str, content: str) -> None:
    assert read_tagged(write(tmp_path / name, content)) == [TaggedText(("New", "York"), ("B-LOC", "I-LOC"))]


def test_a_word_may_hold_blanks_that_separate_no_columns(tmp_path: Path) -> None:
    [text] = read_tagged(write(tmp_path / "a.conll", "New York\tB-LOC\n\n10\u00a0000 O\n".replace("\n\n", "\n")))
    assert text == TaggedText(("New York", "10\u00a0000"), ("B-LOC", "O"))


def test_tags_that_look_alike_are_one(tmp_path: Path) -> None:
    [text] = read_tagged(write(tmp_path / "a.conll", "a B-Caf\u00e9\nb I-Cafe\u0301\n"))
    assert text.tags == ("B-Caf\u00e9", "I-Caf\u00e9")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.conll", "Anna B-PER\nLindqvist\n", "line 2: 'Lindqvist' is a word without a tag"),
        ("a.conll", "-DOCSTART- O\n\n", "holds no word with a tag"),
        ("a.jsonl", "{", "line 1: it is not JSON"),
        ("a.jsonl", '{"tokens": ["a"], "ner_tags": ["O", "O"]}', "line 1: it lacks tokens, or ner_tags of the same"),
        ("a.jsonl", '{"tokens": ["a"], "ner_tags": [0]}', "line 1: tokens and ner_tags must be texts"),
        ("a.jsonl", "[1]", "entry 1: it lacks tokens"),
        ("a.jsonl", "[" * 100_000, "line 1: it is not JSON"),
        (
            "a.jsonl",
            '{"tokens": ["\\ud800"], "ner_tags": ["O"]}',
            "line 1: tokens or ner_tags hold half of a",
        ),
        (
            "a.conll",
            "Anna NNP B-PER\nLindqvist B-PER\n",
            "line 2: 'Lindqvist B-PER' has 2 columns and the text's",
        ),
        ("a.conllu", "1\tAnna\tAnna\tPROPN\n", "is CoNLL-U by its suffix; give columns of CoNLL 2003"),
        ("a.CSV", "word,tag\n", "is CSV by its suffix"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(tmp_path: Path, name: str, content: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_tagged(write(tmp_path / name, content))


def test_texts_that_cannot_be_used_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    path, reading = write(tmp_path / "a.conll", f"{CONLL}\nOslo\n"), Reading(skip_bad=True)
    assert len(read_tagged(path, reading)) == 2
    assert reading.skipped == {path: 1}


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("I-PER I-PER B-PER I-LOC", [("PER", 0, 1), ("PER", 2, 2), ("LOC", 3, 3)]),
        ("I-PER O I-PER O", [("PER", 0, 0), ("PER", 2, 2)]),
        ("B-PER L-PER U-PER U-PER", [("PER", 0, 1), ("PER", 2, 2), ("PER", 3, 3)]),
    ],
)
def test_tags_become_the_entities_that_they_mean(tags: str, spans: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags.split(), Scheme(tags.split())) == spans


def test_whole_entities_are_scored_by_the_first_token_of_each_word(tmp_path: Path) -> None:
    dev = EntitiesDev(write(tmp_path / "dev.conll", CONLL), DevOptions())
    assert dev.inputs[1] == EntitiesInput("Tomás stays", aggregation="none")

    def answer(item: EntitiesInput) -> EntitiesResult:
        found = {
            "Anna": "B-PER",
            "Lind": "I-PER",
            " from": "B-LOC",
            "stays": "B-PER",
        }  # one with its space; ##qvist has none
        at = {word: item.text.find(word) for word in found}
        tokens = [Entity(found[word], word, start, start + len(word), 0.9) for word, start in at.items() if start >= 0]
        return EntitiesResult(tuple(tokens))

    assert measure(answer, dev) == {
        "n": 2.0,
        "entities": 3.0,
        "precision": pytest.approx(100 / 3),
        "recall": pytest.approx(100 / 3),
        "f1": pytest.approx(100 / 3),
    }


def test_a_set_that_does_not_fit_is_refused(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    dev = EntitiesDev(write(tmp_path / "dev.conll", CONLL), DevOptions())
    with pytest.raises(DataError, match="knows no entities of the kind LOC; its kinds are PER"):
        dev.check(EntityRecognition(bert_tokenizer, ["O", "B-PER", "I-PER"]))
    with pytest.raises(DataError, match="has no entity to measure on"):
        EntitiesDev(write(tmp_path / "none.conll", "it O\n"), DevOptions())


@pytest.mark.parametrize("cached", [False, True])
def test_the_task_is_trained_distilled_exported_and_measured(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cached: bool
) -> None:
    data = write(tmp_path / "tags.conll", CONLL.replace("Lindqvist", "St-Lindqvist"))
    common = ["--task", "entities", "--dev", str(data)]
    loop = ["--train", str(data), "--epochs", "100", "--lr", "5e-3", "--evaluate-every", "50", "--no-bf16"]
    teacher, student, bundle = (tmp_path / name for name in ("teacher", "student", "bundle"))
    assert finetune([*common, *loop, "--model", str(tiny_teacher), "--out", str(teacher)]) == 0
    config = json.loads((teacher / "config.json").read_text())
    assert list(config["id2label"].values()) == ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]
    cache = ["--cache-teacher", str(tmp_path / "cache")] if cached else []
    distil = ["--teacher", str(teacher), "--layers", "2", "--out", str(student), *cache]
    assert finetune([*common, *loop, *distil]) == 0
    capsys.readouterr()
    assert evaluate([*common, "--checkpoint", str(student)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["f1"] == 100.0
    if cached:
        return
    assert export([*common, "--student", str(student), "--out", str(bundle), "--max-metric-drop", "100"]) == 0
    loaded = load_bundle(bundle)
    assert loaded.manifest is not None
    assert loaded.manifest.metrics.student_fp32 == figures
    card = (bundle / "README.md").read_text()
    assert "2 texts with 3 entities" in card
    assert "- The labels are `O`, `B-LOC`" in card
    capsys.readouterr()
    assert evaluate([*common, "--bundle", str(bundle)]) == 0
    assert json.loads(capsys.readouterr().out) == loaded.manifest.metrics.student_int8
    assert np.isfinite(figures["precision"])
