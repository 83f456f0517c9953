"""Writes the log line of a request that has been answered, and counts it.

Entries are written several at a time: after an inference this code has left the processor's caches, and a caller who
asks again at once would wait until it is back (docs/log/serving.md).
"""

import asyncio
import logging

from starlette.types import Scope

from service.telemetry.context import RequestContext, current_request
from service.telemetry.logs import together
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.access")

DELAY_S = 0.02
QUIET = {"/health", "/health/live", "/health/ready", "/ping", "/metrics"}  # requested every few seconds


class Journal:
    """Writes each entry within DELAY_S. A scrape and the end of the service call `write`, since they cannot wait."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._entries: list[tuple[Scope, RequestContext, int]] = []

    def add(self, scope: Scope, request: RequestContext, status: int) -> None:
        self._entries.append((scope, request, status))
        if not DELAY_S:
            self.write()
        elif len(self._entries) == 1:
            asyncio.get_running_loop().call_later(DELAY_S, self.write)

    def write(self) -> None:
        entries, self._entries = self._entries, []
        with together():
            for scope, request, status in entries:
                self._metrics.answered(request, status)
                token = current_request.set(request)
                _log(scope, request, status)
                current_request.reset(token)


def _log(scope: Scope, request: RequestContext, status: int) -> None:
    # The requested path could hold anything; the route's path is ours.
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    data["model"] = request.model
    if (usage := request.usage) is not None:
        data |= {"tokens_in": usage.tokens_in, "tokens_used": usage.tokens_used}
        data |= {"windows": usage.windows, "truncated": usage.truncated, "unknown_tokens": usage.unknown_tokens}
    data |= {f"{stage}_ms": duration_ms for stage, duration_ms in (request.timings_ms or {}).items()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
