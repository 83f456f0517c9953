"""Holds a report, the records of its parts; reads it from one JSON file or a directory of records."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.record import Machine, Record, RecordError, read_record

KIND = "halfdepth latency report"


@dataclass(frozen=True, slots=True)
class Report:
    """Holds the newest record of each part, under the part's name, and why a part is missing that was asked for."""

    records: Mapping[str, Record]
    missing: Mapping[str, str]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [asdict(record) for record in self.records.values()]
        content = {"kind": KIND, "records": records, "missing": dict(self.missing)}
        path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def report_of(records: Iterable[Record], missing: Mapping[str, str] | None = None) -> Report:
    """Take the newest record of each part, in the order of the parts' names."""
    newest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (record.part, record.date)):
        newest[record.part] = record
    return Report(newest, missing or {})


def read_report(path: Path) -> Report:
    """Read the JSON of a report, one record, or a directory of records. Raises: RecordError."""
    if path.is_dir():
        return _read_directory(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} is not a measurement of `halfdepth loadtest` or `make bench`: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        return report_of([checked(read_record(path), path)])
    try:
        records = [Record(**{**fields, "machine": Machine(**fields["machine"])}) for fields in content["records"]]
        return report_of([checked(record, path) for record in records], dict(content["missing"]))
    except (TypeError, KeyError, ValueError) as error:
        raise RecordError(f"{path} is not a whole report of `make bench`: {error}") from error


def checked(record: Record, path: Path) -> Record:
    """Return the record. Raises: RecordError if its rows are not what a measurement writes."""
    rows = record.rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not isinstance(record.part, str):
        raise RecordError(f"{path}: the rows of part {record.part} are not a list of objects")
    return record


def _read_directory(path: Path) -> Report:
    """Read every file that is a record; other JSON may lie beside them, as the JSON of Locust or of a report."""
    records = []
    for file in sorted(path.glob("*.json")):
        try:
            records.append(checked(read_record(file), file))
        except RecordError:
            continue  # not a record
    if not records:
        raise RecordError(f"{path} holds no measurement of `halfdepth loadtest` (files that end in .json)")
    return report_of(records)
