"""Every failure that a client may see, and the one form in which it is shown (RFC 9457)."""

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models.tasks.errors import HalfdepthError
from service.compat.forms import FORMS
from service.telemetry.context import current_request

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_LISTED = 1000  # building pydantic's list of 200,000 unknown fields would hold the event loop


class InvalidField(BaseModel):
    """One value of the request that was refused."""

    field: str = Field(description="where it stands, as in `inputs[3].top_k`; empty for the body itself")
    message: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """An error (RFC 9457, problem details)."""

    type: str = Field(default="about:blank", description="always `about:blank`: `code` tells errors apart")
    title: str = Field(description="of the status")
    status: int = Field(description="as of the response")
    detail: str = Field(description="a sentence that says what to do")
    code: str = Field(description="stable, for programs")
    request_id: str = Field(description="as in X-Request-ID")
    errors: list[InvalidField] | None = Field(default=None, description="of `invalid_request` alone")


class ServiceError(HalfdepthError):
    """The service failed on this request."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, errors: Sequence[InvalidField] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})


class InferenceFailedError(ServiceError):
    """The model failed on this request."""

    code = "inference_failed"


class MalformedJsonError(ServiceError):
    """The body is not JSON."""

    status = 400
    code = "malformed_json"


class UnauthorizedError(ServiceError):
    """An API key is set, and the request has none or a wrong one."""

    status = 401
    code = "unauthorized"


class NotFoundError(ServiceError):
    """There is no such route."""

    status = 404
    code = "not_found"


class ModelNotLoadedError(ServiceError):
    """No bundle for this task is loaded."""

    status = 404
    code = "model_not_loaded"


class MethodNotAllowedError(ServiceError):
    """The route does not answer this method."""

    status = 405
    code = "method_not_allowed"


class BodyTooLargeError(ServiceError):
    """The body is over the limit."""

    status = 413
    code = "body_too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The body is not declared as JSON."""

    status = 415
    code = "unsupported_media_type"


class InvalidRequestError(ServiceError):
    """A field is missing, blank, unknown, of a wrong type or out of range."""

    status = 422
    code = "invalid_request"


class InputTooLongError(ServiceError):
    """The input does not fit the model or the limit of windows."""

    status = 422
    code = "input_too_long"


class NotReadyError(ServiceError):
    """The service does not take requests now."""

    status = 503
    code = "not_ready"


class QueueFullError(ServiceError):
    """The request does not fit into the queue; Retry-After says when it may."""

    status = 503
    code = "queue_full"


class DrainingError(ServiceError):
    """The service is about to end; another replica takes requests."""

    status = 503
    code = "draining"


class DeadlineExceededError(ServiceError):
    """The deadline in X-Deadline-Ms cannot be met, or was missed; the work was dropped."""

    status = 504
    code = "deadline_exceeded"


INTERNAL = "the service failed on this request; report its request_id if that happens again"
MESSAGES = {  # where pydantic's own words would not help a caller
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_pattern_mismatch": "must not be blank",
    "string_unicode": "must be valid Unicode, without lone surrogates",
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
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRequestError(f"{errors[0].field or 'the body'}: {errors[0].message}{more}", errors=errors)


def _path(location: tuple[int | str, ...]) -> str:
    """`("inputs", 3, "top_k")` to `inputs[3].top_k`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:  # an unknown field may be anything that the caller sent: repeat it only if it looks like a name
            path += "." + (part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else "?")
    return path.removeprefix(".")


def translate(error: Exception) -> ServiceError:
    """What a client sees of any exception."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError("there is no such route; /docs lists them")
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowedError("this route answers another method; see the Allow header", headers=error.headers)
    return ServiceError(INTERNAL)


def problem_response(error: Exception, path: str = "") -> Response:
    """Render any exception, in the form that a client of this path expects; the ones that are our fault are logged with
    their traceback.
    """
    shown = translate(error)
    request = current_request.get()
    request.code = shown.code
    if shown.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s", shown.code, exc_info=error)
    for beginning, form in FORMS.items():
        if path.startswith(beginning):
            field = shown.errors[0].field if shown.errors else None
            body = form(shown.detail, shown.status, shown.code, field)
            return Response(body.model_dump_json(), shown.status, shown.headers, "application/json")
    problem = Problem(
        title=HTTPStatus(shown.status).phrase,
        status=shown.status,
        detail=shown.detail,
        code=shown.code,
        request_id=request.id,
        errors=shown.errors or None,
    )
    return Response(problem.model_dump_json(exclude_none=True), shown.status, shown.headers, MEDIA_TYPE)


async def handle(request: Request, error: Exception) -> Response:
    """The app's one exception handler."""
    return problem_response(error, request.scope["path"])


def all_errors() -> list[type[ServiceError]]:
    """The whole tree."""
    return [ServiceError, *ServiceError.__subclasses__()]
