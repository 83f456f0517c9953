"""Readers of text and of tables: encodings, suffixes, quotes, and how wrong rows are told."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from models.data import DataError
from models.files import Faults, Reading, TextExample, kind_of, read_lines, read_text, read_tsv, split_lines

READERS = (read_text, lambda path: list(read_lines(path)), lambda path: read_tsv(path, "label"))
ROWS = "".join(f"text {number}\t\n" for number in range(500))  # none has a label


def table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.tsv"


def test_tsv_is_read_by_its_header_with_quotes_as_in_csv(path: Path) -> None:
    table(path, 'label\ttext\textra\ngood\t"a ""fine"" one\nover two lines"\tx\nbad\tno\tx\n')
    assert read_tsv(path, "label") == [
        TextExample('a "fine" one\nover two lines', None, "good"),
        TextExample("no", None, "bad"),
    ]
    table(path, "sentence1\tsentence2\tscore\nA.\tB.\t4.5\n")
    assert read_tsv(path, "score") == [TextExample("A.", "B.", "4.5")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\tscore\na\t1\n", "lacks a column `text` or `label`; its header has text, score"),
        ("text\tlabel\n", "has no row below its header"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("text\tlabel\na\n", "line 2: it has 1 column and the header has 2"),
        ("text\tlabel\na\tb\tc\n", "line 2: it has 3 columns and the header has 2"),
        ('text\tlabel\n"a\tb\n', "line 2: a quote is opened and never closed"),
        ('text\tlabel\nc\td\n"a" said he\tb\n', "line 3: text follows the quote that closes a field"),
        ('"text\tlabel\nc\td\n', "line 1: a quote is opened and never closed"),
        ('\n"text\nlabel"\tb\nc\td\n', "line 2: a quoted field of the header holds a tab or whole rows"),
        ("text\tlabel\n \tb\n", "line 2: it lacks a text or its label"),
        (b"text\tlabel\n\xff\tb\n", "is not UTF-8 at byte 11 (line 2)"),
        ("text,label\na,b\n", "is CSV: its columns are separated by commas; separate them by tabs"),
        ('"text","label"\n"a","b"\n', "is CSV: its columns are separated by commas; separate them by tabs"),
        (
            "sentence1;sentence2;label\na;b;c\n",
            "is CSV: its columns are separated by semicolons; separate them by tabs",
        ),
        ("text\tlabel\ttext\na\tb\tc\n", "has the column `text` twice; rename one of them"),
        ("text\tlabel\tlabel\na\tb\tc\n", "has the column `label` twice; rename one of them"),
        ('{"text": "a", "label": "b"}\n', "is JSON; a table separated by tabs is wanted"),
        ('[\n  {"text": "a"}\n]\n', "is JSON; a table separated by tabs is wanted"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_by_place(path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.tsv:? {re.escape(message)}"):
        read_tsv(table(path, content), "label")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('text\tlabel\n"A warm film\tpositive\nA dull film\tnegative\nand left"\tnegative\n', 2),
        ('text\tlabel\nA\tx\n\n"over\ntwo lines"\ty\n"B\tx"\ty\n', 6),
        ('label\ttext\nx\t"said\ny\tshe"\n', 2),
    ],
)
def test_quotes_that_would_make_one_row_of_several_are_refused(path: Path, content: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"line {line}: a quoted field holds a tab.*--no-quoting") as caught:
        read_tsv(table(path, content), "label", Reading(skip_bad=True))
    assert "film" not in str(caught.value)


def test_without_quoting_every_line_is_a_row_and_quotes_are_text(path: Path) -> None:
    table(path, 'sentence\tlabel\n"A warm film\tpositive\nA "dull" film\tnegative\nand left"\tnegative\n')
    assert read_tsv(path, "label", Reading(quoting=False)) == [
        TextExample('"A warm film', None, "positive"),
        TextExample('A "dull" film', None, "negative"),
        TextExample('and left"', None, "negative"),
    ]


def test_line_numbers_are_those_of_an_editor(path: Path) -> None:
    table(path, 'text\tlabel\r\n\r\n"one\r\ntwo\r\nthree"\tgood\r\n\r\nbad row\r\n')
    with pytest.raises(DataError, match="line 7: it has 1 column"):
        read_tsv(path, "label")


def test_a_table_may_come_from_elsewhere(path: Path) -> None:
    """With a byte order mark, an index column without a name, and separators of lines that end none here."""
    table(path, "\ufeff\tsentence\tlabel\r\n0\tone\u2028two\x0bthree\tgood\r\n".encode())
    assert read_tsv(path, "label") == [TextExample("one\u2028two\x0bthree", None, "good")]


def test_names_of_columns_may_stand_in_spaces_and_quotes(path: Path) -> None:
    table(path, '"text"\t label \na\tgood\n')
    assert read_tsv(path, "label") == [TextExample("a", None, "good")]


@pytest.mark.parametrize(
    ("columns", "pair"),
    [
        ("question\tsentence", ("a", "b")),  # QNLI
        ("sentence\tquestion", ("b", "a")),
        ("premise\thypothesis", ("a", "b")),  # MNLI
        ("question1\tquestion2", ("a", "b")),  # QQP
        ("sentence\tother", ("a", None)),
    ],
)
def test_pairs_may_have_the_names_that_glue_gives_them(path: Path, columns: str, pair: tuple[str, str | None]) -> None:
    assert read_tsv(table(path, f"{columns}\tlabel\na\tb\tx\n"), "label") == [TextExample(*pair, "x")]


def test_labels_that_look_alike_are_one(path: Path) -> None:
    rows = read_tsv(table(path, "text\tlabel\na\tcaf\u00e9\nb\tcafe\u0301\n"), "label")
    assert {row.label for row in rows} == {"caf\u00e9"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"text\tlabel\na\tb\n"), "is compressed by gzip; unpack it"),
        (b"PK\x03\x04\x14\0", "is a ZIP archive, or made by Office; unpack it, or save it as text in UTF-8"),
        (b"PAR1\x15\x04", "is Parquet; write its rows as text in UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS; fetch the file with"),
    ],
    ids=["gzip", "zip", "parquet", "lfs"],
)
@pytest.mark.parametrize("read", READERS, ids=["text", "lines", "table"])
def test_what_is_no_text_is_told_by_what_it_is(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, message: str
) -> None:
    path = table(tmp_path / "rows", content)
    with pytest.raises(DataError, match=re.escape(f"{path} {message}")):
        read(path)


def test_a_compressed_file_is_told_by_its_suffix() -> None:
    with pytest.raises(DataError, match=r"a\.tsv\.GZ is compressed; unpack it"):
        kind_of(Path("a.tsv.GZ"))


def test_signs_that_cannot_be_seen_are_shown_in_a_header(path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("its header has '\\ufefftext', label")):
        read_tsv(table(path, "\ufeff\ufefftext\tlabel\na\tb\n"), "label")


def test_half_a_pair_is_refused(path: Path) -> None:
    with pytest.raises(DataError, match="line 2: it lacks a text"):
        read_tsv(table(path, "text\ttext_pair\tlabel\na\t \tgood\n"), "label")


def test_all_wrong_rows_are_counted_and_the_first_five_shown(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_tsv(table(path, "text\tlabel\n" + ROWS), "label")
    message = str(caught.value)
    assert "rows.tsv: 500 rows cannot be used: line 2: it lacks a text or its label; line 3:" in message
    assert message.count("it lacks a text") == 5
    assert "and 495 more" in message
    assert "\n" not in message


def test_wrong_rows_are_left_out_on_request_and_counted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reading = Reading(skip_bad=True)
    assert read_tsv(table(path, "text\tlabel\na\tgood\n" + ROWS), "label", reading) == [TextExample("a", None, "good")]
    assert reading.skipped == {path: 500}
    assert "rows.tsv: 500 rows cannot be used: line 3: " in capsys.readouterr().err


def test_a_file_of_wrong_rows_alone_is_refused_in_any_case(path: Path) -> None:
    reading = Reading(skip_bad=True)
    with pytest.raises(DataError, match="500 rows cannot be used"):
        read_tsv(table(path, "text\tlabel\n" + ROWS), "label", reading)
    assert reading.skipped == {}


def test_advice_is_to_leave_rows_out_only_where_others_are_usable() -> None:
    faults = Faults(Path("a.tsv"), "rows")
    faults.add("line 2", "it lacks a text")
    with pytest.raises(DataError, match=r"a\.tsv: line 2: it lacks a text; correct it, or give --skip-bad"):
        faults.settle(Reading(), usable=1)
    with pytest.raises(DataError, match=r"a\.tsv: line 2: it lacks a text; correct it$"):
        faults.settle(Reading(), usable=0)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_utf8_with_or_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(mark + "Zürich\r\nlies\rby\n\na lake".encode())
    assert read_text(path) == "Zürich\r\nlies\rby\n\na lake"
    assert list(read_lines(path)) == ["Zürich", "lies", "by", "", "a lake"]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("plain\nZürich\n".encode("latin-1"), "is not UTF-8 at byte 7 (line 2)"),
        (b"\xef\xbb\xbf" + "plain\nZürich\n".encode("latin-1"), "is not UTF-8 at byte 10 (line 2)"),
        (b"plain\nZ" + "ü".encode()[:1], "is not UTF-8 at byte 7 (line 2)"),
        ("plain".encode("utf-16"), "is not UTF-8 at byte 0 (line 1), but UTF-16"),
        ("plain".encode("utf-16-le"), "is not UTF-8 at byte 0 (line 1), but UTF-16"),
        ("plain".encode("utf-16-be"), "is not UTF-8 at byte 0 (line 1), but UTF-16"),
    ],
)
def test_another_encoding_is_told_by_its_place_and_never_by_the_content(
    tmp_path: Path, content: bytes, where: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    for read in READERS:
        with pytest.raises(DataError, match=rf"text\.txt {re.escape(where)}; save it as UTF-8$"):
            read(path)


def test_a_path_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    for read in READERS:
        with pytest.raises(DataError, match=r"cannot read .*absent\.txt: No such file"):
            read(tmp_path / "absent.txt")
        with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSON", "a.tsv", "b.TSV", "a.ndjson"])
def test_structured_files_are_no_plain_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("text\n")
    with pytest.raises(DataError, match="is not plain text by its suffix"):
        list(read_lines(path))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.md", "a.arrow", "a.xlsx"])
def test_a_suffix_that_no_reader_knows_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(name)}: no reader knows the suffix"):
        kind_of(Path(name))


def test_capitals_of_a_suffix_do_not_matter() -> None:
    assert [kind_of(Path(name)) for name in ("a", "a.TXT", "a.Tsv", "a.JSONL")] == ["text", "text", "table", "json"]


@pytest.mark.parametrize(
    "content", ['{"text": "a"}\n{"text": "b"}\n', '\n\n[{"text": "a"}]\n', '{\n  "text": "a"\n}\n', '["a", "b"]\n']
)
def test_json_under_another_name_is_no_plain_text(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=r"a\.txt is JSON; give plain text"):
        list(read_lines(path))


def test_brackets_of_prose_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("[1] A note.\n[[Link]]\n{x} is a set.\n")
    assert list(read_lines(path)) == ["[1] A note.", "[[Link]]", "{x} is a set."]


def test_lines_end_where_editors_end_them() -> None:
    assert split_lines("a\nb\r\nc\rd\x0be\u2028f\x85g") == ["a", "b", "c", "d\x0be\u2028f\x85g"]
    assert split_lines("") == []
