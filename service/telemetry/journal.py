"""What is told of a request once it has been answered: its log line, and what Prometheus counts of it.

Some requests at a time: after an inference none of this code is in the caches any more, and a caller who asks again at
once would wait for it (docs/log.md).
"""

import asyncio
import logging

from starlette.types import Scope

from service.telemetry.context import RequestContext, current_request
from service.telemetry.logs import together
from service.telemetry.metrics import Metrics

logger = logging.getLogger("service.access")

DELAY_S = 0.02
QUIET = {"/health/live", "/health/ready", "/metrics"}  # asked for every few seconds


class Journal:
    """Entries are written within DELAY_S; `write` is for those who cannot wait, a scrape and the end."""

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
    # The path as it was asked for could hold anything; the route's is ours.
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in QUIET else logging.INFO
    if not logger.isEnabledFor(level):
        return
    data = {"method": scope["method"], "route": route, "status": status, "code": request.code, "task": request.task}
    if (usage := request.usage) is not None:
        data |= {"tokens_in": usage.tokens_in, "tokens_used": usage.tokens_used}
        data |= {"windows": usage.windows, "truncated": usage.truncated}
    data |= {f"{stage}_ms": spent for stage, spent in (request.timings_ms or {}).items()}
    logger.log(level, "request", extra={"data": {name: value for name, value in data.items() if value is not None}})
