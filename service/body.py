"""A request's body: declared as JSON, within its bounds, parsed and validated."""

import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, get_type_hints

from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from service.errors import (
    BodyTooLargeError,
    InvalidField,
    InvalidRequestError,
    MalformedJsonError,
    UnsupportedMediaTypeError,
    invalid_request,
)
from service.settings import Settings

LISTS = ("inputs", "targets")  # the fields that MAX_INPUTS bounds


class JsonRoute(APIRoute):
    """A POST whose endpoint takes one argument, `body`; its annotation is what the body must be.

    FastAPI documents it as usual. The request is read here instead of by FastAPI, which takes NaN, UTF-16 and
    bodies of any size for JSON, and spends more time on it.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Awaitable[Response]], *, settings: Settings, **options: Any
    ) -> None:  # APIRoute has some thirty options
        self._settings = settings
        self._adapter: TypeAdapter[object] = TypeAdapter(get_type_hints(endpoint, include_extras=True)["body"])
        super().__init__(path, endpoint, methods=["POST"], **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handler(request: Request) -> Response:
            content = parse_json(await read_body(request, self._settings.max_body_bytes))
            response: Response = await self.endpoint(validate(self._adapter, content, self._settings.max_inputs))
            return response

        return handler


async def read_body(request: Request, limit: int) -> bytes:
    """Raises: UnsupportedMediaTypeError, BodyTooLargeError."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (media_type.startswith("application/") and media_type[-5:] == "+json"):
        raise UnsupportedMediaTypeError("send JSON, declared as such: the header Content-Type: application/json")
    too_large = BodyTooLargeError(f"the body is over the limit of {limit} bytes; send less, or fewer inputs at once")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():  # a chunked body declares no length
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def parse_json(body: bytes) -> object:
    """UTF-8 alone; of a key given twice the last counts. Raises: MalformedJsonError, also for what Python would not
    read: nesting beyond its stack, integers of more than 4300 digits.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return _parse_lone_surrogates(body)


def _parse_lone_surrogates(body: bytes) -> object:
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
