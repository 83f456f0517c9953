"""Reads the user's own payloads: JSONL, one request a line."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.process import LoadTestError

Body = Mapping[str, Any]  # a request's JSON
FORM = '{"path": "/qa", "body": {...}}'


@dataclass(frozen=True, slots=True)
class Payload:
    """Holds a request of a file. `line` is its number there, from 1."""

    path: str
    body: Body
    line: int


def read_payloads(file: Path, route: str | None = None) -> list[Payload]:
    """Read every line; blank ones are passed over. With `route`, each line is a body for it.

    Raises: LoadTestError, which names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise LoadTestError(f"{file}, line {line}: this is not UTF-8") from error
    except OSError as error:
        raise LoadTestError(f"{file} cannot be read: {error.strerror}") from error
    # Not splitlines, which would also cut at characters that JSON may hold, such as U+2028.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise LoadTestError(f"{file} has no line; each is {FORM}")
    return [_payload(f"{file}, line {number}", number, line, route) for number, line in lines]


def _payload(place: str, number: int, line: str, route: str | None) -> Payload:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise LoadTestError(f"{place}: this is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise LoadTestError(f"{place}: this is not a JSON object")
    if route is not None:
        if content.keys() == {"path", "body"}:
            raise LoadTestError(f"{place}: it names a path itself; leave out --route")
        return Payload(route, content, number)
    if content.keys() != {"path", "body"}:
        raise LoadTestError(f"{place}: give {FORM} and nothing else, or bodies alone with --route")
    path, body = content["path"], content["body"]
    if not isinstance(path, str) or not path.startswith("/"):
        raise LoadTestError(f"{place}: the path {json.dumps(path)} does not begin with a slash")
    if not isinstance(body, dict):
        raise LoadTestError(f"{place}: the body is not a JSON object")
    return Payload(path, body, number)


def check_paths(file: Path, payloads: Sequence[Payload], templates: Sequence[str]) -> None:
    """Raises: LoadTestError if a line asks a path that the service does not have. `templates`: `/v2/models/{name}`."""
    patterns = [re.compile(re.sub(r"\\\{[^/]*\\\}", "[^/]+", re.escape(template))) for template in templates]
    for payload in payloads:
        path = payload.path.partition("?")[0]
        if not any(pattern.fullmatch(path) for pattern in patterns):
            paths = ", ".join(templates)
            raise LoadTestError(f"{file}, line {payload.line}: the service has no POST {path}; it has {paths}")
