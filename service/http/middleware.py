"""Wraps every request: gives it an id, lets it in or refuses it, always answers it, and logs it."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.tasks.base import TaskName
from service.engine.errors import CallerGoneError
from service.errors import PROBLEM, ErrorForm, problem_response
from service.http.gate import Gate, Lifecycle
from service.telemetry.context import RequestContext, current_request
from service.telemetry.journal import Journal

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
OF_TENSORS = "Inference-Header-Content-Length"  # tells how much of a body of /v2 is JSON, in requests and answers
REQUEST_HEADERS = (
    *("Authorization", "Content-Encoding", "Content-Type", "X-Request-ID", "X-Deadline-Ms"),
    *("traceparent", "tracestate", OF_TENSORS),
)
RESPONSE_HEADERS = ("X-Request-ID", "Server-Timing", "Retry-After", "X-Model", OF_TENSORS)

BLANKS = " \t"  # around a field's value, which they do not belong to (RFC 9110, 5.5); the parser keeps those behind it
CLIENT_GONE = 499  # nginx's status for a client that left; logged, never sent


class DirectRoute(Protocol):
    """Declares what the middleware needs to know of a task's route."""

    path: str

    @property
    def task(self) -> TaskName | None:
        """None where the request itself tells."""
        ...

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class RequestMiddleware:
    """Works on raw ASGI messages: Starlette's BaseHTTPMiddleware would add a task and a queue to every request.

    Requests to the routes `direct` bypass the layers of the framework. `error_form` tells how the clients of a path
    expect an error. Where GET is answered, HEAD is too (RFC 9110, 9.1). From the first signal on, every answer asks its
    client to close the connection: what it would send next on it might meet the end of this process.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        journal: Journal,
        direct: Sequence[DirectRoute] = (),
        error_form: Callable[[str], ErrorForm] = lambda _path: PROBLEM,
    ) -> None:
        self.app = app
        self.gate = gate
        self.journal = journal
        self.error_form = error_form
        self.direct = {route.path: route for route in direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = scope
        if scope.get("method") == "HEAD":
            scope = dict(asked) | {"method": "GET"}  # the server knows what was asked, and leaves the body out
        route = self.direct.get(scope["path"])
        request = _context(scope, route.task if route else None)
        token = current_request.set(request)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.id.encode())]
                if self.gate.lifecycle.phase != "serving":
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        self.gate.lifecycle.in_flight += 1
        try:
            self.gate.check(scope)
            if route is None or scope["method"] != "POST":
                await self.app(scope, receive, send_with_id)
            else:
                scope["route"] = route
                await route.answer(scope, receive, send_with_id)
        except (ClientDisconnect, CallerGoneError):
            status = CLIENT_GONE
        except Exception as error:
            if status:
                raise  # a part of the answer has been sent; the server closes the connection
            await problem_response(error, self.error_form(scope["path"]))(scope, receive, send_with_id)
        finally:
            self.gate.lifecycle.in_flight -= 1
            status = status or CLIENT_GONE  # cancelled at the end of a drain, as the client did not finish
            if scope is not asked:
                scope["method"] = asked["method"]
            self.journal.add(scope, request, status)
            current_request.reset(token)


def _context(scope: Scope, task: TaskName | None) -> RequestContext:
    """Begin the record of a request; the caller's own id is taken if it is safe to repeat in headers and logs."""
    offered = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and offered is None:
            offered = value.decode("latin-1").strip(BLANKS)
        elif name == b"traceparent":  # two of them are as malformed as a comma
            traceparent = value.decode("latin-1").strip(BLANKS) if traceparent is None else ","
    if offered is not None and REQUEST_ID.fullmatch(offered):
        return RequestContext(offered, task, traceparent=traceparent)
    return RequestContext(task=task, traceparent=traceparent)


class Cors(CORSMiddleware):
    """Lets pages of other origins read every answer, refusals too: it wraps everything else."""

    def __init__(self, app: ASGIApp, origins: Sequence[str], lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer without a key, since a browser sends none; with an id, as on every answer."""
        response = super().preflight_response(request_headers)
        response.headers["X-Request-ID"] = RequestContext().id
        if self._lifecycle.phase != "serving":
            response.headers["Connection"] = "close"
        return response
