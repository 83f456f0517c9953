"""Sentences out of text, tables and questions."""

import json
from pathlib import Path

import pytest

from models.data import DataError
from models.files import Reading
from models.sentences import read_sentences

CONTEXT = "Ada Lovelace wrote the first program in 1843."
ROW = {"id": "a", "context": CONTEXT, "question": "Who?", "answers": {"text": [], "answer_start": []}}


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
    squad = tmp_path / "a.json"
    squad.write_text(json.dumps({"data": [{"title": "Ada", "paragraphs": [{"context": CONTEXT, "qas": [ROW]}]}]}))
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
    assert read_sentences(path) == ["one\u2028two\x0bthree"]


def test_a_table_without_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("name\tlabel\na\tgood\n")
    with pytest.raises(DataError, match="lacks a column `text`; its header has name, label"):
        read_sentences(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.TSV", "text\tlabel\nOne. Two.\tgood\n"), ("a.TXT", "One. Two.\n"), ("a", "One. Two.\n")],
)
def test_capitals_of_a_suffix_do_not_matter(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read_sentences(path) == ["One.", "Two."]


def test_json_lines_are_questions_and_not_text_with_braces(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"question": "When?"}) + "\n")
    assert read_sentences(path) == [CONTEXT, "Who?", "When?"]
    path.write_text('{"text": "One."}\n')
    with pytest.raises(DataError, match="entry 1 is neither an article nor a question"):
        read_sentences(path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow"])
def test_a_suffix_that_no_reader_knows_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("text,label\nOne.,good\n")
    with pytest.raises(DataError, match="no reader knows the suffix"):
        read_sentences(path)


def test_quotes_of_a_single_column_that_hold_whole_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\n"One.\nTwo."\n')
    with pytest.raises(DataError, match=r"line 2: a quoted field holds a tab or whole rows; .*--no-quoting"):
        read_sentences(path)
    assert read_sentences(path, Reading(quoting=False)) == ['"One.', 'Two."']


def test_wrong_rows_of_a_table_are_left_out_on_request(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\nOne.\tgood\nTwo.\n")
    with pytest.raises(DataError, match="line 3: it has 1 column and the header has 2"):
        read_sentences(path)
    reading = Reading(skip_bad=True)
    assert read_sentences(path, reading) == ["One."]
    assert reading.skipped == {path: 1}
