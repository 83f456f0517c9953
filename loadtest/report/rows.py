"""Reads rows of measurements: groups them, and passes over what a row does not have."""

from collections.abc import Sequence
from typing import Any

from loadtest.record import Row


def number(row: Row, name: str) -> float | None:
    """Return a column's number; None if it has none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def present(rows: Sequence[Row], *names: str) -> list[Row]:
    """Return the rows that have a number above 0 in each of these columns: others could not be measured."""
    return [row for row in rows if all((number(row, name) or 0.0) > 0 for name in names)]


def grouped(rows: Sequence[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by their values in these columns (of any type), in the order in which they come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return groups


def best_setting(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of int8, or what there is without it, on the most threads; short texts first."""
    precisions = [row.get("precision") for row in rows]
    precision = "int8" if "int8" in precisions else precisions[0]
    found = [row for row in rows if row.get("precision") == precision]
    threads = max((number(row, "threads") or 0.0) for row in found)
    return sorted([row for row in found if (number(row, "threads") or 0.0) == threads], key=lambda row: row["tokens"])
