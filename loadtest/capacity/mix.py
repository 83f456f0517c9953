"""Reads what traffic consists of: shares of routes, and of lengths on each."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from models.tasks.errors import InputError

FIELDS = {"share", "tokens", "items"}
MOST_TOKENS = 100_000
FORM = '{"/qa": {"share": 3, "tokens": {"32": 1, "128": 2}}}'


class MixError(InputError):
    """A file does not say what traffic consists of; the text is one line that says where."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Describes requests that cost the same. `items`: texts in the route's list, if it takes one."""

    route: str
    tokens: int
    items: int = 1

    def __str__(self) -> str:
        return f"{self.route} {self.tokens}" + (f" x{self.items}" if self.items > 1 else "")


Mix = dict[Kind, float]
"""The share of each kind; they add up to 1."""

DEFAULT: Mix = {
    **{Kind("/qa", 32): 0.15, Kind("/qa", 64): 0.15, Kind("/qa", 128): 0.15, Kind("/qa", 192): 0.1},
    **{Kind("/qa", 256): 0.05, Kind("/classify", 16): 0.15, Kind("/classify", 32): 0.15, Kind("/classify", 64): 0.1},
}
"""What `--check` sends without `--mix`: of many lengths, as traffic is. Of a few, half of the requests may take as long
as one kind alone and the other half twice that, so that the median jumps from one to the other by chance.
"""


def read_mix(path: Path) -> Mix:
    """Raises: MixError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MixError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise MixError(f"{path}: the mix is not an object of routes, such as {FORM}")
    mix: Mix = {}
    for route, entry in content.items():
        place = f"{path}: {route}"
        if not route.startswith("/"):
            raise MixError(f"{place}: a route begins with a slash, as /qa does")
        if not isinstance(entry, dict) or not {"share", "tokens"} <= entry.keys() <= FIELDS:
            raise MixError(f"{place} needs share and tokens, may have items, and nothing else: {FORM}")
        share, items = _share(entry["share"], f"{place}: share"), _count(entry.get("items", 1), f"{place}: items")
        lengths = entry["tokens"]
        if not isinstance(lengths, dict) or not lengths:
            raise MixError(f"{place}: tokens is not an object of lengths with their shares: {FORM}")
        shares = {
            Kind(route, _count(tokens, f"{place}: tokens"), items): _share(weight, f"{place}: share of {tokens} tokens")
            for tokens, weight in lengths.items()
        }
        total = sum(shares.values())
        if len(shares) < len(lengths) or total == 0:
            raise MixError(f"{place}: tokens names a length twice, or all its shares are 0")
        for kind, weight in shares.items():
            mix[kind] = share * weight / total
    total = sum(mix.values())
    if total == 0:
        raise MixError(f"{path}: all shares are 0")
    return {kind: share / total for kind, share in mix.items() if share > 0}


def _share(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise MixError(f"{place} is not a number of 0 or more: {value!r}")
    return float(value)


def _count(value: object, place: str) -> int:
    """Read a whole number; as the name of a field it is a text."""
    text = str(value)
    if isinstance(value, bool | float) or not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_TOKENS:
        raise MixError(f"{place} is not a whole number from 1 to {MOST_TOKENS}: {value!r}")
    return int(text)
