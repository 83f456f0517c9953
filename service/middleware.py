"""Around every request: its id, its log line, and an answer whatever happens."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.body import JsonRoute
from service.context import RequestContext, current_request, request_id
from service.errors import problem_response

logger = logging.getLogger("service.access")

CLIENT_GONE = 499  # nginx's number for a caller that left; logged, never sent
QUIET = {"/health/live", "/health/ready"}  # probes come every second


class RequestMiddleware:
    """Pure ASGI: Starlette's BaseHTTPMiddleware would add a task and a queue to each request.

    Requests to the routes `direct` go straight there, past the layers of the framework.
    """

    def __init__(self, app: ASGIApp, *, direct: Sequence[JsonRoute] = ()) -> None:
        self.app = app
        self.direct = {route.path: route for route in direct}

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

        try:
            route = self.direct.get(scope["path"]) if scope["method"] == "POST" else None
            if route is None:
                await self.app(scope, receive, send_with_id)
            else:
                scope["route"] = route
                await route.answer(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            if status:
                raise  # half an answer is out; only the server can cut the connection now
            await problem_response(error)(scope, receive, send_with_id)
        finally:
            _log(scope, request, status)
            current_request.reset(token)


def _log(scope: Scope, request: RequestContext, status: int) -> None:
    # The path as it was asked for could hold anything; the route's is ours.
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    data |= asdict(request.usage) if request.usage else {}
    data |= {f"{stage}_ms": spent for stage, spent in (request.timings_ms or {}).items()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
