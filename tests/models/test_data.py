"""Readers and batches."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data import (
    DataError,
    Item,
    TextExample,
    collate,
    length_buckets,
    read_sentences,
    read_squad,
    read_tsv,
)
from models.tasks.base import Features

CPU = torch.device("cpu")
CONTEXT = "Ada Lovelace wrote the first program in 1843."


def squad_file(path: Path, qas: list[object]) -> Path:
    path.write_text(json.dumps({"data": [{"title": "Ada", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    return path


def test_squad_is_read_with_its_unanswerable_questions(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path / "squad.json",
        [
            {"id": "a", "question": "Who? ", "answers": [{"text": "Ada", "answer_start": 0}]},
            {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
        ],
    )
    first, second = read_squad(path)
    assert (first.question, first.answers, first.answer_starts) == ("Who?", ("Ada",), (0,))
    assert not first.is_impossible
    assert second.is_impossible


@pytest.mark.parametrize("content", ["no json", "[]", '{"data": [{}]}', '{"data": 3}'])
def test_a_file_that_is_no_squad_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"broken\.json is not SQuAD JSON"):
        read_squad(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json"):
        read_squad(tmp_path / "absent.json")


def test_an_answer_that_does_not_stand_at_its_start_is_refused(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path / "squad.json", [{"id": "a", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 4}]}]
    )
    with pytest.raises(DataError, match="question a: 'Ada' does not stand at answer_start 4"):
        read_squad(path)


def test_buckets_hold_every_index_once_in_an_order_of_seed_and_epoch_alone() -> None:
    lengths = [(7 * i) % 50 for i in range(1003)]
    batches, again, later = (
        [batch.tolist() for batch in length_buckets(lengths, 4, seed=1, epoch=epoch)] for epoch in (0, 0, 1)
    )
    assert sorted(index for batch in batches for index in batch) == list(range(1003))
    assert batches == again
    assert batches != later
    padding = sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)


def test_a_batch_is_padded_to_its_longest_window() -> None:
    long, short = (Features(np.arange(length), np.ones(length, np.int64)) for length in (5, 2))
    batch = collate([Item(long, np.array([1, 2])), Item(short, np.array([0, 0]))], pad_token_id=9, device=CPU)
    assert len(batch) == 2
    assert batch.input_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 9, 9, 9]]
    assert batch.attention_mask.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.token_type_ids.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.labels.tolist() == [[1, 2], [0, 0]]


def test_tsv_is_read_by_its_header_with_quotes_as_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('label\ttext\textra\ngood\t"a ""fine"" one\nover two lines"\tx\nbad\tno\tx\n')
    assert read_tsv(path, "label") == [
        TextExample('a "fine" one\nover two lines', None, "good"),
        TextExample("no", None, "bad"),
    ]
    path.write_text("sentence1\tsentence2\tscore\nA.\tB.\t4.5\n")
    assert read_tsv(path, "score") == [TextExample("A.", "B.", "4.5")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\tscore\na\t1\n", "lacks a column `text` or `label`; its header has text, score"),
        ("text\tlabel\n", "has no row below its header"),
        ("", "has no row below its header"),
        ("text\tlabel\na\n", "row 2: it lacks the columns of the header"),
        ("text\tlabel\na\tb\tc\n", "row 2: it lacks the columns of the header"),
        ('text\tlabel\n"a\tb\n', "row 2: unexpected end of data"),
        ("text\tlabel\n \tb\n", "row 2: it lacks a text or its label"),
        (b"text\tlabel\n\xff\tb\n", "is not UTF-8"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_place(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"rows\.tsv:? {re.escape(message)}"):
        read_tsv(path, "label")


def test_sentences_come_once_each_from_text_tables_and_questions(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text('It rains. It "pours." Mr. Hill stays in!\n\nIt rains.\nVersion 2.5 is out? Yes.\n')
    assert read_sentences(text) == [
        "It rains.",
        'It "pours."',
        "Mr.",
        "Hill stays in!",
        "Version 2.5 is out?",
        "Yes.",
    ]
    table = tmp_path / "a.tsv"
    table.write_text("sentence1\tsentence2\tscore\nOne. Two.\tThree.\t1\nThree.\tFour.\t2\n")
    assert read_sentences(table) == ["One.", "Two.", "Three.", "Four."]
    squad = squad_file(tmp_path / "a.json", [{"id": "a", "question": "Who?", "answers": [], "is_impossible": True}])
    assert read_sentences(squad) == [CONTEXT, "Who?"]


def test_a_full_stop_between_spaces_ends_a_sentence_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "tokenized.txt"
    path.write_text('it was dull . i left ! why ? so . . . no " it was . " he said\nin a. b. and e.g. words, not .\n')
    assert read_sentences(path) == [
        "it was dull .",
        "i left !",
        "why ?",
        "so . . .",
        'no " it was . " he said',
        "in a. b. and e.g. words, not .",
    ]


def test_a_table_may_come_from_elsewhere(tmp_path: Path) -> None:
    """With a byte order mark, an index column without a name, and separators of lines that end none here."""
    path = tmp_path / "rows.tsv"
    path.write_bytes("\ufeff\tsentence\tlabel\r\n0\tone\u2028two\x0bthree\tgood\r\n".encode())
    assert read_tsv(path, "label") == [TextExample("one\u2028two\x0bthree", None, "good")]
    assert read_sentences(path) == ["one\u2028two\x0bthree"]


def test_half_a_pair_and_a_table_without_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("text\ttext_pair\tlabel\na\t \tgood\n")
    with pytest.raises(DataError, match="row 2: it lacks a text"):
        read_tsv(path, "label")
    path.write_text("name\tlabel\na\tgood\n")
    with pytest.raises(DataError, match="lacks a column `text`; its header has name, label"):
        read_sentences(path)
