"""Around every request: its id, whether it is let in, its log line and metrics, and an answer whatever happens."""

import logging
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.tasks.bundle import TaskName
from service.context import RequestContext, current_request, request_id
from service.errors import problem_response
from service.gate import Gate
from service.metrics import Metrics

logger = logging.getLogger("service.access")

CLIENT_GONE = 499  # nginx's number for a caller that left; logged, never sent
QUIET = {"/health/live", "/health/ready", "/metrics"}  # asked for every few seconds


class RequestMiddleware:
    """Pure ASGI: Starlette's BaseHTTPMiddleware would add a task and a queue to each request."""

    def __init__(self, app: ASGIApp, *, gate: Gate, metrics: Metrics, tasks: Mapping[str, TaskName]) -> None:
        """`tasks`: which one the route of a path belongs to."""
        self.app = app
        self.gate = gate
        self.metrics = metrics
        self.tasks = tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = self._context(scope)
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
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            if status:
                raise  # half an answer is out; only the server can cut the connection now
            await problem_response(error, scope["path"])(scope, receive, send_with_id)
        finally:
            self.gate.lifecycle.in_flight -= 1
            status = status or CLIENT_GONE  # cancelled, at the end of a drain that a client held up
            self.metrics.answered(request, status)  # the answer has left: both loops write at once where they can
            _log(scope, request, status)
            current_request.reset(token)

    def _context(self, scope: Scope) -> RequestContext:
        offered = traceparent = None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and offered is None:
                offered = value.decode("latin-1")
            elif name == b"traceparent":  # two of them are malformed, as a comma is
                traceparent = value.decode("latin-1") if traceparent is None else ","
        task = self.tasks.get(scope["path"])
        known = request_id(offered)
        if known:
            return RequestContext(known, task, traceparent=traceparent)
        return RequestContext(task=task, traceparent=traceparent)


def _log(scope: Scope, request: RequestContext, status: int) -> None:
    # The path as it was asked for could hold anything; the route's is ours.
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    data |= dict(request.usage or ()) | {f"{stage}_ms": spent for stage, spent in request.timings_ms or ()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
