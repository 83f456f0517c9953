"""Answers the lines of a file of requests: each becomes one line, of an answer or of an error."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any

from pydantic_core import from_json, to_json

from service.answering import Answering
from service.engine.engine import Engine
from service.engine.errors import InvalidField, InvalidRequestError, ServiceError
from service.errors import STATUSES, BodyTooLargeError, NotFoundError, translate
from service.http.body import parse_json
from service.routes import TaskRoute

logger = logging.getLogger(__name__)

TIMINGS = "timings_ms"
LINE_FIELDS = ("route", "body", "id")


@dataclass(frozen=True, slots=True)
class Answered:
    """A line of the output, without its end; `error` is what it tells, if it is no answer."""

    content: bytes
    error: ServiceError | None = None


class LineAnswers:
    """Answers lines by the routes that are ours.

    `route`: the path of the one that every line is a body of; without it, each line names its own. `timings`: whether
    answers keep `timings_ms`, with which no two runs would give the same bytes.
    """

    def __init__(
        self,
        rows: Sequence[TaskRoute],
        engine: Engine,
        *,
        route: str | None = None,
        timings: bool = False,
        max_inputs: int,
    ) -> None:
        self._answering = {row.path: Answering(row, engine, max_inputs) for row in rows if row.is_ours}
        self._route, self._timings = route, timings

    async def answer(self, line: bytes | None) -> Answered:
        """Answer a line; None is one that was too long to be read. Whatever fails becomes an error of this line."""
        named: dict[str, Any] = {}
        try:
            if line is None:
                raise BodyTooLargeError("the line is over the limit of HALFDEPTH_MAX_BODY_BYTES; send fewer inputs")
            content = parse_json(line)
            if isinstance(content, dict) and "id" in content:
                named = _named(content["id"])
            answering, body = self._divide(content)
            written = await answering.answer(answering.read(body))
        except Exception as error:
            return Answered(to_json(named | {"error": _problem(error)}), translate(error))
        answer = written.content if self._timings else to_json(_without_timings(from_json(written.content)))
        return Answered(b"%s,%s" % (to_json(named)[:-1], answer[1:]) if named else answer)

    def _divide(self, content: object) -> tuple[Answering, object]:
        """Find the route and the body of a line. Raises: InvalidRequestError, NotFoundError."""
        if self._route is not None:
            is_named = isinstance(content, dict) and "id" in content
            body = {name: value for name, value in content.items() if name != "id"} if is_named else content  # type: ignore[attr-defined]
            return self._answering[self._route], body
        if not isinstance(content, dict):
            raise _refused("", "must be an object with route and body")
        for name in ("route", "body"):
            if name not in content:
                raise _refused(name, "is required; with --route, a line is a body by itself")
        if any(name not in LINE_FIELDS for name in content):
            raise _refused("", f"has other fields than {', '.join(LINE_FIELDS)}")
        answering = self._answering.get(content["route"]) if isinstance(content["route"], str) else None
        if answering is None:
            raise NotFoundError(f"there is no such route; name one of {', '.join(self._answering)}")
        return answering, content["body"]


def _named(identity: object) -> dict[str, object]:
    """Raises: InvalidRequestError if the answer could not repeat it: half a surrogate pair, 1e999, endless nesting."""
    named = {"id": identity}
    try:
        from_json(to_json(named), allow_inf_nan=False)
    except ValueError:
        raise _refused("id", "cannot be repeated in the answer; use a text or a whole number") from None
    return named


def _refused(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field or 'the line'}: {message}", errors=[InvalidField(field=field, message=message)])


def _problem(error: Exception) -> dict[str, Any]:
    """Tell an error with the code and the status that it has over HTTP."""
    failure = translate(error)
    status = STATUSES[type(failure)]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", failure.code, exc_info=error)
    problem = {"status": status, "code": failure.code, "detail": failure.detail}
    errors = failure.errors if isinstance(failure, InvalidRequestError) else []
    return problem | ({"errors": errors} if errors else {})


def _without_timings(content: Any) -> Any:  # any part of an answer
    if isinstance(content, dict):
        return {name: _without_timings(value) for name, value in content.items() if name != TIMINGS}
    return [_without_timings(part) for part in content] if isinstance(content, list) else content


def lines_of(file: IO[bytes], limit: int, *, skip: int = 0) -> Iterator[bytes | None]:
    """Read lines, without those that are skipped. One that is longer than the limit is passed over, and gives None."""
    number = 0
    while line := file.readline(limit + 2):
        is_whole = line.endswith(b"\n")
        length = len(line) - is_whole
        while not is_whole and (rest := file.readline(limit + 2)):
            length += len(rest)
            is_whole = rest.endswith(b"\n")
        number += 1
        if number > skip:
            yield None if length > limit else line
