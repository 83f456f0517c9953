"""Writes the log line of a request that has been answered, and counts it.

Entries are written several at a time: after an inference this code has left the processor's caches, and a caller who
asks again at once would wait until it is back (docs/log/serving.md).
"""

import asyncio
import logging
from time import perf_counter_ns

from starlette.types import Scope

from service.telemetry.context import RequestContext, current_request
from service.telemetry.logs import together
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

logger = logging.getLogger("service.access")

DELAY_S = 0.02
HEALTH = {"/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"}
QUIET = HEALTH | {"/metrics"}  # requested every few seconds


class Journal:
    """Writes each entry within DELAY_S. A scrape and the end of the service call `write`, since they cannot wait."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics, self._tracing = metrics, tracing
        self._entries: list[tuple[Scope, RequestContext, int]] = []

    def add(self, scope: Scope, request: RequestContext, status: int) -> None:
        if self._tracing is not None:
            request.ended = perf_counter_ns()
        self._entries.append((scope, request, status))
        if not DELAY_S:
            self.write()
        elif len(self._entries) == 1:
            asyncio.get_running_loop().call_later(DELAY_S, self.write)

    def write(self) -> None:
        entries, self._entries = self._entries, []
        with together():
            for scope, request, status in entries:
                if self._tracing is not None and _route(scope) not in QUIET:
                    request.span = self._tracing.record(scope, request, status)
                self._metrics.answered(request, status)
                token = current_request.set(request)
                _log(scope, request, status)
                current_request.reset(token)


def _route(scope: Scope) -> str | None:
    """Returns: the route's path, which is ours; the path that was asked could hold anything."""
    return getattr(scope.get("route"), "path", None)


def _log(scope: Scope, request: RequestContext, status: int) -> None:
    route = _route(scope)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    data["model"] = request.model
    if (usage := request.usage) is not None:
        data |= {"tokens_in": usage.tokens_in, "tokens_used": usage.tokens_used}
        data |= {"windows": usage.windows, "truncated": usage.truncated, "unknown_tokens": usage.unknown_tokens}
    data |= request.span or {}
    data |= {f"{stage}_ms": duration_ms for stage, duration_ms in (request.timings_ms or {}).items()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
