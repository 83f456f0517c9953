"""Decides how each failure is shown to a client: its status, its headers, its form (RFC 9457)."""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.engine.errors import (
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    InvalidField,
    InvalidRequestError,
    ModelNotLoadedError,
    NotReadyError,
    QueueFullError,
    ServiceError,
    whole_seconds,
)
from service.telemetry.context import current_request

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_LISTED = 1000  # building pydantic's list of 200,000 unknown fields would hold the event loop


class Problem(BaseModel):
    """An error (RFC 9457, problem details)."""

    type: str = Field(default="about:blank", description="always `about:blank`: `code` tells errors apart")
    title: str = Field(description="name of the HTTP status")
    status: int = Field(description="HTTP status, as in the response")
    detail: str = Field(description="a sentence that says what to do")
    code: str = Field(description="stable name of the error, for programs")
    request_id: str = Field(description="id of the request, as in X-Request-ID")
    errors: list[InvalidField] | None = Field(default=None, description="what was refused, only with `invalid_request`")


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """How the clients of a route expect an error: the model of its body, its media type, and what writes it as JSON."""

    model: type[BaseModel]
    media_type: str
    write: Callable[[Problem], str]


PROBLEM = ErrorForm(Problem, MEDIA_TYPE, lambda problem: problem.model_dump_json(exclude_none=True))


class MalformedJsonError(ServiceError):
    """The body is not JSON."""

    code = "malformed_json"


class UnauthorizedError(ServiceError):
    """An API key is set, and the request has none or a wrong one."""

    code = "unauthorized"


class NotFoundError(ServiceError):
    """There is no such route."""

    code = "not_found"


class MethodNotAllowedError(ServiceError):
    """The route does not answer this method."""

    code = "method_not_allowed"

    def __init__(self, detail: str, *, allowed_methods: str | None = None) -> None:
        """`allowed_methods`: separated by commas."""
        super().__init__(detail)
        self.allowed_methods = allowed_methods


class BodyTooLargeError(ServiceError):
    """The body is over the limit."""

    code = "body_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The body is not declared as JSON, or has a Content-Encoding other than gzip."""

    code = "unsupported_media_type"

    def __init__(self, detail: str, *, accepted_encodings: str | None = None) -> None:
        """`accepted_encodings`: separated by commas."""
        super().__init__(detail)
        self.accepted_encodings = accepted_encodings


class DrainingError(ServiceError):
    """The service is about to end; another replica takes requests."""

    code = "draining"
    retry_after_s = 1.0  # by then another replica has the caller's next connection


STATUSES: dict[type[ServiceError], int] = {
    MalformedJsonError: 400,
    UnauthorizedError: 401,
    ModelNotLoadedError: 404,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    BodyTooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    InputTooLongError: 422,
    InvalidRequestError: 422,
    InferenceFailedError: 500,
    ServiceError: 500,
    DrainingError: 503,
    NotReadyError: 503,
    QueueFullError: 503,
    DeadlineExceededError: 504,
}
"""Every error that a client may see."""


def headers_of(error: ServiceError) -> dict[str, str]:
    """Return the headers that tell a program what to do about an error."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(whole_seconds(error.retry_after_s))
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="halfdepth"'
    if isinstance(error, UnsupportedMediaTypeError) and error.accepted_encodings is not None:
        headers["Accept-Encoding"] = error.accepted_encodings  # RFC 9110, 15.5.16
    if isinstance(error, MethodNotAllowedError) and error.allowed_methods is not None:
        headers["Allow"] = error.allowed_methods
    return headers


INTERNAL = "the service failed on this request; report its request_id if that happens again"
MESSAGES = {  # where pydantic's own words would not help a caller
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_pattern_mismatch": "must not be blank",
    "string_unicode": "must be valid Unicode, without lone surrogates",
    "none_required": "is not supported; leave it out",
    "model_type": "must be a JSON object",
}


def invalid_request(error: ValidationError) -> InvalidRequestError:
    """Name each wrong field, never its value."""
    if error.error_count() > MAX_LISTED:
        return InvalidRequestError(f"the request has {error.error_count()} errors; see /docs for its fields")
    errors = [
        InvalidField(field=_path(part["loc"]), message=MESSAGES.get(part["type"], part["msg"]))
        for part in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    suffix = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRequestError(f"{errors[0].field or 'the body'}: {errors[0].message}{suffix}", errors=errors)


def _path(location: tuple[int | str, ...]) -> str:
    """Convert `("inputs", 3, "top_k")` to `inputs[3].top_k`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:  # an unknown field may be anything that the caller sent: repeat it only if it looks like a name
            path += "." + (part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else "?")
    return path.removeprefix(".")


def unknown_route(path: str, paths: Iterable[str]) -> NotFoundError:
    """Say which route was probably meant: one that differs by slashes, by capitals or by what stands before it.

    `paths` are those of the routes. A caller's own path is not repeated.
    """
    parts = [part for part in path.lower().split("/") if part]
    asked = f"/{'/'.join(parts)}"
    routes = sorted((route for route in paths if route != "/"), key=len, reverse=True)
    within = [route for route in routes if asked.endswith(route)]  # the longest first
    around = [route for route in routes if parts and route.endswith(asked)]
    meant = within[:1] or around[-1:]
    hint = f"did you mean {meant[0]}? /docs lists all" if meant else "/docs lists them"
    return NotFoundError(f"there is no such route; {hint}")


def translate(error: Exception) -> ServiceError:
    """Return what a client sees of any exception."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        return unknown_route("", ())
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed_methods = (error.headers or {}).get("Allow")
        if allowed_methods is not None and "HEAD" not in allowed_methods:
            allowed_methods = allowed_methods.replace("GET", "GET, HEAD")  # the middleware answers HEAD by GET
        return MethodNotAllowedError(
            "this route answers another method; see the Allow header", allowed_methods=allowed_methods
        )
    return ServiceError(INTERNAL)


def problem_response(error: Exception, form: ErrorForm = PROBLEM) -> Response:
    """Render any exception in a form; the ones that are our fault are logged with their traceback."""
    service_error = translate(error)
    status = STATUSES[type(service_error)]
    request = current_request.get()
    request.code = service_error.code
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", service_error.code, exc_info=error)
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=service_error.detail,
        code=service_error.code,
        request_id=request.id,
        errors=(service_error.errors or None) if isinstance(service_error, InvalidRequestError) else None,
    )
    return Response(form.write(problem), status, headers_of(service_error), form.media_type)
