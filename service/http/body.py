"""A request's body: declared as JSON, within its bounds, parsed and validated."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NoReturn, get_type_hints

from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from models.tasks.base import TaskName
from service.errors import (
    BodyTooLargeError,
    InvalidField,
    InvalidRequestError,
    MalformedJsonError,
    UnsupportedMediaTypeError,
    invalid_request,
)
from service.settings import Settings
from service.telemetry.context import Caller, current_request

DEADLINE = r"(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,6})?"
LISTS = ("inputs", "targets")  # the fields that MAX_INPUTS bounds


class JsonRoute(APIRoute):
    """A POST whose endpoint takes one argument, `body`; its annotation is what the body must be.

    FastAPI documents it as usual. The request is read here instead of by FastAPI, which takes NaN, UTF-16 and
    bodies of any size for JSON; and `answer` is an ASGI app of its own, so that the middleware can call it without
    the layers in between, which take longer than all that is done here (docs/log.md).
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Awaitable[ASGIApp]],
        *,
        task: TaskName,
        settings: Settings,
        **options: Any,  # APIRoute has some thirty
    ) -> None:
        self.task = task
        self._max_body_bytes, self._max_inputs = settings.max_body_bytes, settings.max_inputs
        self._adapter: TypeAdapter[object] = TypeAdapter(get_type_hints(endpoint, include_extras=True)["body"])
        super().__init__(path, endpoint, methods=["POST"], **options)
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        answer_by = deadline(headers.get(b"x-deadline-ms"), request.received)
        content = parse_json(await read_body(headers, receive, self._max_body_bytes))
        request.caller = Caller(answer_by, partial(wait_until_gone, receive))
        reply: ASGIApp = await self.endpoint(validate(self._adapter, content, self._max_inputs))
        await reply(scope, receive, send)


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes | bytearray:
    """Raises: UnsupportedMediaTypeError, BodyTooLargeError, ClientDisconnect."""
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json":
        kind = media_type.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
            raise UnsupportedMediaTypeError("send JSON, declared as such: the header Content-Type: application/json")
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared[:20]) > limit:  # Python reads no more than 4,300 digits
        raise _too_large(limit)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:  # a chunked body declares no length
            raise _too_large(limit)
        if not message.get("more_body", False):
            return body


async def wait_until_gone(receive: Receive) -> None:
    """Wait until the caller closes the connection, or has the answer. For use once the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is over the limit of {limit} bytes; send less, or fewer inputs at once")


def deadline(header: bytes | None, received: int) -> int | None:
    """X-Deadline-Ms, milliseconds from the receipt of the request, as a point on its clock.

    Raises: InvalidRequestError.
    """
    if header is None:
        return None
    if not re.fullmatch(DEADLINE, header.decode("latin-1")):
        message = "must be milliseconds above 0, such as 250"
        raise InvalidRequestError(
            f"X-Deadline-Ms: {message}", errors=[InvalidField(field="X-Deadline-Ms", message=message)]
        )
    return received + int(float(header) * 1e6)


def parse_json(body: bytes | bytearray) -> object:
    """UTF-8 alone; of a key given twice the last counts. Raises: MalformedJsonError, also for what Python would not
    read: nesting beyond its stack, integers of more than 4300 digits.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return _parse_lone_surrogates(body)


def _parse_lone_surrogates(body: bytes | bytearray) -> object:
    """pydantic's parser takes a lone surrogate for bad JSON, which it is not: the standard one lets it pass, so that
    validation can name its field. Raises: MalformedJsonError.
    """
    try:
        return json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise MalformedJsonError("the body is not JSON in UTF-8; check its syntax and encoding") from None


def validate(adapter: TypeAdapter[object], content: object, max_inputs: int) -> object:
    """Raises: InvalidRequestError."""
    fields = content if isinstance(content, dict) else {}
    for field in LISTS:
        items = fields.get(field)
        if isinstance(items, list) and len(items) > max_inputs:
            message = f"holds {len(items)} items where the limit is {max_inputs}; split the request"
            raise InvalidRequestError(f"{field}: {message}", errors=[InvalidField(field=field, message=message)])
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise invalid_request(error) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are not JSON
