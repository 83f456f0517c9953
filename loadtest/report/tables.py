"""Writes the rows of each part as a table in HTML."""

from collections.abc import Mapping, Sequence
from html import escape

from loadtest.record import Row
from loadtest.report.peers import beside_ours

LONG = 28  # characters; longer texts are broken into lines
Column = tuple[str, str]
"""The name in the rows, and the heading. A part without columns of its own shows all that its rows have."""

COLUMNS: Mapping[str, Sequence[Column]] = {
    "grid": (
        ("task", "task"),
        ("bundle", "bundle"),
        ("precision", "precision"),
        ("threads", "threads"),
        ("tokens", "tokens"),
        ("tokenization_p50_ms", "tokenization p50"),
        ("inference_p50_ms", "inference p50"),
        ("end_to_end_p50_ms", "end to end p50"),
        ("end_to_end_ci_low_ms", "interval from"),
        ("end_to_end_ci_high_ms", "to"),
        ("end_to_end_p95_ms", "p95"),
        ("end_to_end_p99_ms", "p99, ms"),
        ("repeats", "repeats"),
        ("windows", "windows"),
        ("truncated", "cut to the limit"),
        ("note", "note"),
        ("reason", "why not"),
    ),
    "throughput": (
        ("task", "task"),
        ("bundle", "bundle"),
        ("threads", "threads"),
        ("tokens", "tokens"),
        ("concurrency", "connections"),
        ("requests_per_s", "requests/s"),
        ("p50_ms", "p50"),
        ("p95_ms", "p95"),
        ("p99_ms", "p99, ms"),
        ("requests_per_s_rounds", "requests/s of each round"),
    ),
    "peers": (
        ("peer", "peer"),
        ("task", "task"),
        ("model", "model"),
        ("concurrency", "connections"),
        ("times_ours", "times as fast as ours"),
        ("requests_per_s", "requests/s"),
        ("p50_ms", "p50"),
        ("p99_ms", "p99, ms"),
        ("memory_mb", "memory, MB"),
        ("start_s", "start, s"),
        ("idle_cpu_s", "CPU idle, s"),
        ("five_rps_cpu_s", "CPU at 5/s, s"),
        ("client_limit_rps", "client's limit, requests/s"),
        ("settings", "settings"),
        ("reason", "why not"),
    ),
    "infinity": (
        ("tokens", "tokens"),
        ("requests_per_s", "ours, requests/s"),
        ("infinity_requests_per_s", "Infinity, requests/s"),
    ),
    "table3": (
        ("model", "model"),
        ("backend", "run by"),
        ("parameters_m", "parameters, millions"),
        ("seconds", "seconds"),
        ("paper_seconds", "the paper's seconds"),
    ),
}


def table(part: str, rows: Sequence[Row]) -> str:
    """Write the columns in which some row has something, those that no list names last."""
    rows = beside_ours(rows) if part == "peers" else rows
    names = dict(COLUMNS.get(part, ()))
    unnamed = {name: name.replace("_", " ") for row in rows for name in row if name not in names}
    columns = {
        name: heading
        for name, heading in {**names, **(unnamed if _shows_all(part) else {})}.items()
        if any(shown(row.get(name)) for row in rows)
    }
    numbers = {name for name in columns if any(_is_number(row.get(name)) for row in rows)}
    head = "".join(f"<th{_style(name in numbers)}>{escape(heading)}</th>" for name, heading in columns.items())
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def shown(value: object) -> str:
    """Write a value for people: numbers in four digits, lists in a row."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _shows_all(part: str) -> bool:
    return part not in COLUMNS


def _cell(value: object) -> str:
    text = shown(value)
    style = " class=t" if len(text) > LONG else _style(_is_number(value))
    return f"<td{style}>{escape(text)}</td>"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _style(is_number: bool) -> str:
    return " class=n" if is_number else ""
