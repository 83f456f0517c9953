"""Wraps every request: its id, its admission, its journal entry, and an answer whatever happens."""

from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.tasks.base import TaskName
from service.engine.errors import CallerGoneError
from service.errors import ErrorForm, form_of, problem_response
from service.http.body import JsonRoute
from service.http.gate import Gate
from service.telemetry.context import RequestContext, current_request, request_id
from service.telemetry.journal import Journal

REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-ID", "X-Deadline-Ms", "traceparent")
RESPONSE_HEADERS = ("X-Request-ID", "Server-Timing", "Retry-After")

CLIENT_GONE = 499  # nginx's number for a caller that left; logged, never sent


class RequestMiddleware:
    """Pure ASGI: Starlette's BaseHTTPMiddleware would add a task and a queue to each request.

    Requests to the routes `direct` go straight there, past the layers of the framework.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        journal: Journal,
        direct: Sequence[JsonRoute] = (),
        forms: Mapping[str, ErrorForm] | None = None,
    ) -> None:
        """`forms`: of errors, by the beginning of a request's path; others are problems (RFC 9457)."""
        self.app = app
        self.gate = gate
        self.journal = journal
        self.direct = {route.path: route for route in direct}
        self.forms = dict(forms or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = self.direct.get(scope["path"])
        request = _context(scope, route.task if route else None)
        token = current_request.set(request)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.id.encode())]
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
                raise  # half an answer is out; only the server can cut the connection now
            await problem_response(error, form_of(scope["path"], self.forms))(scope, receive, send_with_id)
        finally:
            self.gate.lifecycle.in_flight -= 1
            status = status or CLIENT_GONE  # cancelled, at the end of a drain that a client held up
            self.journal.add(scope, request, status)
            current_request.reset(token)


def _context(scope: Scope, task: TaskName | None) -> RequestContext:
    offered = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and offered is None:
            offered = value.decode("latin-1")
        elif name == b"traceparent":  # two of them are malformed, as a comma is
            traceparent = value.decode("latin-1") if traceparent is None else ","
    known = request_id(offered)
    if known:
        return RequestContext(known, task, traceparent=traceparent)
    return RequestContext(task=task, traceparent=traceparent)


class Cors(CORSMiddleware):
    """Starlette's; around all else, so that refusals may be read too."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answered before any key is asked for, since a browser sends none; with an id of its own, as every answer."""
        response = super().preflight_response(request_headers)
        response.headers["X-Request-ID"] = RequestContext().id
        return response
