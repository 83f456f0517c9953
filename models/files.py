"""Reads data files: UTF-8 text, what a suffix says, tables, wrong rows; and writes texts whole."""

import csv
import io
import itertools
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from models.data import DataError
from models.tasks.directory.files import not_text
from models.tasks.options import Flag

Kind = Literal["text", "table", "json"]
KINDS: dict[str, Kind] = {  # by suffix, in any case
    "": "text",
    ".txt": "text",
    ".text": "text",
    ".raw": "text",  # these two are WikiText's
    ".tokens": "text",
    ".tsv": "table",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
TEXT_COLUMNS = (  # ours, and those of GLUE's pairs and singles, as its own files and Hugging Face's datasets name them
    *(("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2")),
    *(("question", "sentence"), ("sentence", None)),
)
SHOWN_FAULTS = 5
SHOWN_NAMES = 8
SHOWN_CHARACTERS = 40

BOM = b"\xef\xbb\xbf"
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
JSON_START = re.compile(r'\s*(\{\s*("|\Z)|\[\s*(\{|"|\Z))')  # of an object, or of a list of objects or texts
CSV_DELIMITERS = {",": "commas", ";": "semicolons"}
LINE_ENDS = re.compile(r"\r\n|\r|\n")


READING = "how data files are read"  # the group of these flags in --help
Quoting = Annotated[
    bool,
    Flag("TSV: fields are quoted as in CSV; without it quotes are part of the text, as in GLUE's files", group=READING),
]
SkipBad = Annotated[bool, Flag("continue without rows that cannot be used; they are counted", group=READING)]


@dataclass(slots=True)
class Reading:
    """Says how a command reads its data files, and counts the rows that it leaves out.

    * `quoting`: fields of tables are quoted as in CSV; without it a quote is part of the text, as in GLUE's files.
    * `skip_bad`: go on without the rows that cannot be used.
    * `skipped`: how many were left out, by their file; of a file without any there is no entry.
    """

    quoting: bool = True
    skip_bad: bool = False
    skipped: dict[Path, int] = field(default_factory=dict)


@dataclass(slots=True)
class Faults:
    """Counts the wrong rows of a file and keeps the first few in words. `rows` is what they are called."""

    path: Path
    rows: str
    count: int = 0
    shown: list[str] = field(default_factory=list)
    quoting: bool = False  # a quote is wrong, so that nobody can tell where rows begin

    def add(self, place: str, fault: str, *, quoting: bool = False) -> None:
        self.count += 1
        self.quoting |= quoting
        if len(self.shown) < SHOWN_FAULTS:
            self.shown.append(f"{place}: {fault}")

    def settle(self, reading: Reading, usable: int) -> None:
        """Note the wrong rows as left out where the command asks for that and others are usable, else refuse the file.

        Rows whose quotes are wrong are never left out: they may hold others. Raises: DataError.
        """
        if not self.count:
            return
        if not reading.skip_bad or self.quoting or not usable:
            raise DataError(f"{self}; {self._advice(usable)}")
        reading.skipped[self.path] = self.count
        sys.stderr.write(f"{self}; left out\n")

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.path}: {self.shown[0]}"
        more = f"; and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        return f"{self.path}: {self.count} {self.rows} cannot be used: {'; '.join(self.shown)}{more}"

    def _advice(self, usable: int) -> str:
        if self.quoting:
            return "quote fields as in CSV, or give --no-quoting if quotes are part of the text, as in GLUE's files"
        them = "it" if self.count == 1 else "them"
        return f"correct {them}, or give --skip-bad to go on without {them}" if usable else f"correct {them}"


@dataclass(frozen=True, slots=True)
class TextExample:
    """A row of a table: a text or a pair, and its label or score as it stands there."""

    text: str
    text_pair: str | None
    label: str


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file by their first line, as an editor counts, and what is wrong with others."""

    path: Path
    header: Sequence[str]
    rows: Sequence[tuple[int, dict[str, str]]]
    faults: Faults

    def settle(self, reading: Reading, usable: int) -> None:
        """Settle the faults, and refuse a table without any row. Raises: DataError."""
        self.faults.settle(reading, usable)
        if not usable:
            raise DataError(f"{self.path} has no row below its header")


def read_text(path: Path) -> str:
    """Read the whole of a file in UTF-8, with or without a byte order mark. Raises: DataError."""
    try:
        return _decode(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a plain text as they are asked for, since the file may be larger than memory.

    Raises: DataError, also where the suffix or the first characters are those of another format.
    """
    check_plain(path)
    begin, blank = 0, True
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = _decode(line, path, begin=begin, first_line=number)
                begin += len(line)
                if blank and looks_like_json(text):
                    raise DataError(f"{path} is JSON; give plain text with a paragraph on each line")
                blank = blank and not text.strip()
                yield from split_lines(text)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def split_lines(text: str) -> list[str]:
    """Split a text as editors do: form feeds and Unicode's separators end no line, and the last may lack its end."""
    lines = LINE_ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def kind_of(path: Path) -> Kind:
    """Tell what a file holds by its suffix. Raises: DataError if no reader knows it."""
    kind = KINDS.get(path.suffix.lower())
    if path.suffix.lower() in PACKED:
        raise DataError(f"{path} is compressed; unpack it")
    if kind is None:
        raise DataError(
            f"{path}: no reader knows the suffix {path.suffix}; plain text (.txt), tables separated by tabs (.tsv) and "
            "question answering data (.json, .jsonl) are read"
        )
    return kind


def check_plain(path: Path) -> None:
    """Refuse a file whose suffix is not that of a plain text. Raises: DataError."""
    if kind_of(path) != "text":
        raise DataError(f"{path} is not plain text by its suffix; give text with a paragraph on each line, as .txt")


def looks_like_json(text: str) -> bool:
    """Judge a text by its first characters; a blank one does not look so."""
    return JSON_START.match(text) is not None


def json_lines(text: str, faults: Faults) -> Iterator[tuple[str, Any]]:  # whatever a line holds
    """Yield the place and the content of each line that is not blank; one that is not JSON is a fault."""
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError):
            faults.add(f"line {number}", "it is not JSON")


def cut(text: str) -> str:
    """Quote a text for a message, only by its beginning, since it may be a book."""
    shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return repr(shown)


def read_tsv(
    path: Path,
    label: str,
    reading: Reading | None = None,
    *,
    may_lack_label: bool = False,
    fault_of: Callable[[TextExample], str | None] = lambda _: None,
) -> list[TextExample]:
    """Read tab-separated rows under a header that names the columns: `text` and, for pairs, `text_pair` (or GLUE's
    names of TEXT_COLUMNS), and the column `label`. `may_lack_label`: an empty label means something.
    `fault_of` says what else is wrong with a row.

    Raises: DataError.
    """
    reading = reading or Reading()
    table = read_table(path, reading)
    columns = next((pair for pair in TEXT_COLUMNS if _has(table.header, pair)), None)
    if columns is None or label not in table.header:
        raise DataError(f"{path} lacks a column `text` or `{label}`; its header has {_listed(table.header)}")
    text, text_pair = columns
    examples: list[TextExample] = []
    for line, row in table.rows:
        example = TextExample(row[text], row.get(text_pair) if text_pair else None, composed(row[label].strip()))
        texts = (example.text,) if example.text_pair is None else (example.text, example.text_pair)
        blank = not ((example.label or may_lack_label) and all(part.strip() for part in texts))
        if fault := f"it lacks a text or its {label}" if blank else fault_of(example):
            table.faults.add(f"line {line}", fault)
        else:
            examples.append(example)
    table.settle(reading, len(examples))
    return examples


def _has(header: Sequence[str], pair: tuple[str, str | None]) -> bool:
    """Tell whether a header has a pair of columns. `text` and `sentence1` may lack their seconds."""
    return pair[0] in header and (pair[0] in ("text", "sentence1") or pair[1] in (None, *header))


def composed(label: str) -> str:
    """Write a label in Unicode's composed form (NFC), so that labels that look alike are one."""
    return unicodedata.normalize("NFC", label)


def read_table(path: Path, reading: Reading) -> Table:
    """Read tab-separated rows that have the columns of the header; the faults of others are for the caller to settle.

    Raises: DataError.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} is empty")
    if looks_like_json(text):
        raise DataError(f"{path} is JSON; a table separated by tabs is wanted, with the names of its columns on top")
    _check_delimiter(path, LINE_ENDS.split(text.lstrip("\r\n"), maxsplit=1)[0])
    faults = Faults(path, "rows")
    records = _records(text, reading.quoting, faults)
    line, cells = next(records, (0, []))
    header = [name.strip() for name in cells]
    if any("\t" in name or split_lines(name)[1:] for name in header):
        faults.add(f"line {line}", "a quoted field of the header holds a tab or whole rows", quoting=True)
    faults.settle(Reading(), 0)
    for name in header:
        if name and header.count(name) > 1:
            raise DataError(f"{path} has the column `{name}` twice; rename one of them")
    rows = []
    for line, cells in records:
        if len(cells) != len(header):
            faults.add(f"line {line}", _miscounted(len(cells), len(header)))
        elif any("\t" in cell for cell in cells) or (len(header) == 1 and split_lines(cells[0])[1:]):
            # Quotes that open one field and close another read alike, and would make one row of several.
            faults.add(f"line {line}", "a quoted field holds a tab or whole rows", quoting=True)
        else:
            rows.append((line, dict(zip(header, cells, strict=True))))
    return Table(path, header, rows, faults)


def texts_of(table: Table) -> list[str]:
    """Collect the cells of the text columns, row by row. Raises: DataError if there is no such column."""
    names = list(dict.fromkeys(name for pair in TEXT_COLUMNS for name in pair if name and name in table.header))
    if not names:
        raise DataError(f"{table.path} lacks a column `text`; its header has {_listed(table.header)}")
    return [row[name] for _, row in table.rows for name in names]


def _records(text: str, quoting: bool, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row that is not blank."""
    csv.field_size_limit(sys.maxsize)  # a review may be longer than its default of 131,072
    file = io.StringIO(text, newline="")
    if quoting:
        reader = csv.reader(file, delimiter="\t", strict=True)
    else:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the next row is read as if nothing had happened
            faults.add(f"line {line}", _in_words(error), quoting=True)
            continue
        if cells:
            yield line, cells


def _in_words(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quote is opened and never closed"
    return "text follows the quote that closes a field"


def _miscounted(cells: int, names: int) -> str:
    return f"it has {cells} column{'' if cells == 1 else 's'} and the header has {names}"


def _check_delimiter(path: Path, header: str) -> None:
    for delimiter, plural in CSV_DELIMITERS.items():
        names = {name.strip(" \"'") for name in header.split(delimiter)}
        if "\t" not in header and len(names) > 1 and names & {name for pair in TEXT_COLUMNS for name in pair}:
            raise DataError(f"{path} is CSV: its columns are separated by {plural}; separate them by tabs")


def _listed(names: Sequence[str]) -> str:
    readable = (name if len(name) <= SHOWN_CHARACTERS and name.isprintable() else cut(name) for name in names)
    shown = ", ".join(itertools.islice(readable, SHOWN_NAMES))
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown


def _decode(content: bytes, path: Path, *, begin: int = 0, first_line: int = 1) -> str:
    """Decode UTF-8. `begin`, `first_line`: where in its file the content stands. Raises: DataError."""
    if begin == 0:
        if advice := not_text(content):
            raise DataError(f"{path} {advice}")
        if content.startswith(BOM):
            content, begin = content[len(BOM) :], len(BOM)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise DataError(f"{path} is not UTF-8 at byte {begin + error.start} (line {line}); save it as UTF-8") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text beside its place, and put it there at once, so that nobody finds half of it. Raises: OSError."""
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
