"""Around every request: its id, its log line, and an answer whatever happens."""

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import RequestContext, current_request, request_id
from service.errors import problem_response
from service.lifecycle import Lifecycle

logger = logging.getLogger("service.access")

CLIENT_GONE = 499  # nginx's number for a caller that left; logged, never sent
OPEN = {"/health/live", "/health/ready"}  # answered to everybody, until the end
QUIET = OPEN  # probes come every second


class RequestMiddleware:
    """Pure ASGI: Starlette's BaseHTTPMiddleware would add a task and a queue to each request."""

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        offered = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), None)
        known = request_id(offered)
        request = RequestContext(known) if known else RequestContext()
        token = current_request.set(request)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request.id.encode())]
            await send(message)

        self.lifecycle.in_flight += 1
        try:
            if scope["path"] not in OPEN:
                self.lifecycle.check_open()
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            if status:
                raise  # half an answer is out; only the server can cut the connection now
            await problem_response(error)(scope, receive, send_with_id)
        finally:
            self.lifecycle.in_flight -= 1
            _log(scope, request, status)
            current_request.reset(token)


def _log(scope: Scope, request: RequestContext, status: int) -> None:
    # The path as it was asked for could hold anything; the route's is ours.
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    data |= dict(request.usage or ()) | {f"{stage}_ms": spent for stage, spent in request.timings_ms or ()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
