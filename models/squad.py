"""Reads question answering data: SQuAD JSON, and rows as Hugging Face's datasets have them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data import DataError
from models.files import Faults, Reading, cut, json_lines, read_text, split_lines

FORMS = "data, paragraphs, qas, answers; or rows with id, context, question, answers, as a list or JSON lines"
LINES = {".jsonl", ".ndjson"}
LABEL_STUDIO = {"annotations", "completions", "annotation_id", "annotator", "lead_time"}  # keys of its two exports
TABLE_HEADER = re.compile(r"""["']?\w+["']?\s*[,;\t].*""")
WHOLE_NUMBER = re.compile(r"\s*[0-9]{1,10}(\.0*)?\s*")


@dataclass(frozen=True, slots=True)
class QAExample:
    """A question of a data file; `answer_starts` are code points of the context. No answers: unanswerable."""

    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]

    @property
    def is_impossible(self) -> bool:
        return not self.answers


@dataclass(frozen=True, slots=True)
class _Question:
    """A question as its file has it; `place` is what a message calls it if it has no id."""

    place: str
    fields: Mapping[str, Any]  # Any: JSON, here and below
    context: object
    title: object


def read_squad(path: Path, reading: Reading | None = None) -> list[QAExample]:
    """Read SQuAD 1.1 or 2.0 JSON, or rows of Hugging Face's form: JSON lines, a list, a list under `data`, or columns.

    An answer without text is no answer, as in the official script, and a question that has no other is unanswerable.
    Where a program wrote the offset 66 as `66.0` or `"66"`, it is taken.

    Raises: DataError.
    """
    reading = reading or Reading()
    faults = Faults(path, "questions")
    examples: list[QAExample] = []
    for question in _questions(path, faults):
        try:
            examples.append(_example(question))
        except DataError as error:
            identity = question.fields.get("id")
            faults.add(f"question {identity}" if _is_id(identity) else question.place, str(error))
    faults.settle(reading, len(examples))
    if not examples:
        raise DataError(f"{path} holds no question")
    return examples


def _questions(path: Path, faults: Faults) -> Iterator[_Question]:
    """Yield the questions of a file. Raises: DataError if it is of another form."""
    number = 0
    for place, entry in _entries(path, faults):
        if not entry.keys() & {"paragraphs", "qas"}:
            yield _Question(place, entry, entry.get("context"), entry.get("title"))
            continue
        for paragraph in _objects(path, place, entry, "paragraphs") if "paragraphs" in entry else [entry]:
            for fields in _objects(path, place, paragraph, "qas"):
                number += 1
                yield _Question(f"question number {number}", fields, paragraph.get("context"), entry.get("title"))


def _entries(path: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the articles or rows of a file, and their places. Raises: DataError."""
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} is empty")
    for place, entry in _places(path, text, faults):
        keys = entry.keys() if isinstance(entry, dict) else set[str]()
        if keys & LABEL_STUDIO and not keys & {"answers", "paragraphs"}:
            raise _refusal(path, "it is an export of Label Studio, whose regions have to be made into answers first")
        if not (isinstance(entry, dict) and keys & {"paragraphs", "context", "question"}):
            raise _refusal(path, f"{place} is neither an article nor a question")
        yield place, entry


def _places(path: Path, text: str, faults: Faults) -> Iterator[tuple[str, Any]]:
    """Yield what the file is a list of, and what a message calls it. Raises: DataError."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        of_lines = path.suffix.lower() in LINES or error.msg.startswith("Extra data")
        if not (of_lines and text.lstrip().startswith("{")):
            raise _refusal(path, _not_json(path, text, error)) from error
        yield from json_lines(text, faults)
        return
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or as many brackets
        raise _refusal(path, "its JSON has a number or a nesting that nobody can mean") from error
    if isinstance(content, dict):
        content = content["data"] if isinstance(content.get("data"), list) else _rows(content)
    if not isinstance(content, list):
        raise _refusal(path, "it holds no list")
    yield from ((f"entry {number}", entry) for number, entry in enumerate(content, start=1))


def _rows(content: dict[str, Any]) -> list[Any]:
    """Turn columns into rows: lists, or pandas' objects by row; anything else is one row."""
    columns = {name: list(column.values()) if isinstance(column, dict) else column for name, column in content.items()}
    lists = [column for column in columns.values() if isinstance(column, list)]
    if len(lists) < len(columns) or len({len(column) for column in lists}) != 1 or "question" not in columns:
        return [content]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _not_json(path: Path, text: str, error: json.JSONDecodeError) -> str:
    header = split_lines(text.lstrip())[0]
    if path.suffix.lower() in (".csv", ".tsv") or (TABLE_HEADER.fullmatch(header) and "question" in header):
        return "it is a table"
    return f"what stands at line {error.lineno}, column {error.colno} is not JSON"


def _objects(path: Path, place: str, holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Take a field that must be a list of objects. Raises: DataError."""
    objects = holder.get(name)
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        raise _refusal(path, f"`{name}` of {place} is not a list of objects")
    return objects


def _refusal(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is not SQuAD JSON: {reason} ({FORMS})")


def _example(question: _Question) -> QAExample:
    """Check every field of a question. Raises: DataError, here and below with the field alone in its text."""
    fields = question.fields
    if not _is_id(fields.get("id")):
        raise _wrong("id", fields.get("id"), "a text or a whole number")
    text = _filled("question", fields.get("question")).strip()
    context = _filled("context", question.context)
    pairs = [] if _is_true("is_impossible", fields.get("is_impossible")) else list(_answers(fields.get("answers")))
    pairs = [(answer, start) for answer, start in pairs if not (isinstance(answer, str) and not answer.strip())]
    answers = tuple(_text("text", answer) for answer, _ in pairs)
    starts = tuple(_offset(start) for _, start in pairs)
    for answer, start in zip(answers, starts, strict=True):
        if context[start : start + len(answer)] != answer:
            raise DataError(_misplaced(context, answer, start))
    return QAExample(str(fields["id"]), _title(question.title), text, context, answers, starts)


def _misplaced(context: str, answer: str, start: int) -> str:
    """Say what an offset is, or where the answer stands, if that is clear."""
    if start > len(context):
        return f"the answer_start of {cut(answer)} is behind the context, which has {len(context)} characters"
    for encoding, size, units in (("utf-16-le", 2, "UTF-16 code units, as JavaScript's"), ("utf-8", 1, "bytes")):
        if context.encode(encoding)[start * size :].startswith(answer.encode(encoding)):
            return f"the answer_start of {cut(answer)} counts {units}; count code points, as Python does"
    place = f", but at {context.index(answer)}" if context.count(answer) == 1 else ""
    return f"{cut(answer)} does not stand at answer_start {start}{place}"


def _answers(answers: object) -> Iterator[tuple[Any, Any]]:
    """Yield texts and starts, of SQuAD's list of objects or Hugging Face's object of lists. Raises: DataError."""
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError("`text` and `answer_start` of `answers` are not two lists of one length")
        yield from zip(texts, starts, strict=True)
    elif isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers):
        yield from ((answer.get("text"), answer.get("answer_start")) for answer in answers)
    elif isinstance(answers, list):
        raise DataError("`answers` lists something other than objects with text and answer_start")
    else:
        raise _wrong("answers", answers, "a list of objects with text and answer_start")


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or (isinstance(value, int) and not isinstance(value, bool))


def _text(name: str, value: object) -> str:
    """Take a value that must be text. Raises: DataError."""
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"`{name}` holds half of a surrogate pair, which is not a character") from error
    return value


def _filled(name: str, value: object) -> str:
    """Take a value that must be text, and not blank. Raises: DataError."""
    if not (text := _text(name, value)).strip():
        raise DataError(f"`{name}` is blank")
    return text


def _title(value: object) -> str:
    """Take a title, which may be missing: it only tells which paragraphs belong together. Raises: DataError."""
    return "" if value is None else str(value) if _is_id(value) else _text("title", value)


def _is_true(name: str, value: object) -> bool:
    """Take a value that must be a boolean; a text is none, since "False" would be true. Raises: DataError."""
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise _wrong(name, value, "true or false")


def _offset(value: object) -> int:
    """Take a value that must be an offset, in whichever form a program wrote it. Raises: DataError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and value.is_integer() and value >= 0:
        return int(value)
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
        return int(float(value))
    raise _wrong("answer_start", value, "a whole number from 0 on")


def _wrong(name: str, value: object, wanted: str) -> DataError:
    shown = "missing or null" if value is None else _shown(value)
    return DataError(f"`{name}` is {shown}, and must be {wanted}")


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return cut(value) if isinstance(value, str) else json.dumps(value)
