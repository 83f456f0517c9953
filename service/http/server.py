"""Extends uvicorn's server by a shutdown that loses no request, and by a sweep for slow clients."""

import asyncio
import itertools
import logging
import os
import resource
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import cast

import uvicorn

from service.http.gate import Lifecycle
from service.http.protocol import Config, HttpProtocol

logger = logging.getLogger("service")

TICK_SECONDS = 0.1
TICKS_BETWEEN_SWEEPS = 5


class Server(uvicorn.Server):
    """Serves until a signal, then drains.

    On the first signal readiness says 503; DRAIN_SECONDS later new requests are refused, those in flight are finished,
    and `run` returns. A second signal ends the process at once, with status 128 plus its number, as in a shell.

    uvicorn by itself would close its listeners on the first signal, and a second SIGTERM would not end it sooner.
    """

    config: Config

    def __init__(self, config: Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's own signature)
        if self._lifecycle.phase != "serving":
            os._exit(128 + sig)  # also if something hangs; the kernel has no default action for process 1
        self._lifecycle.phase = "leaving"
        self.should_exit = True

    async def main_loop(self) -> None:
        await super().main_loop()  # until the first signal
        end = monotonic() + self.config.settings.drain_seconds
        await self._tick_while(lambda: monotonic() < end)
        self._lifecycle.phase = "draining"
        logger.info("draining", extra={"data": {"in_flight": self._lifecycle.in_flight}})
        await self._tick_while(lambda: self._lifecycle.in_flight > 0)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_BETWEEN_SWEEPS == 0:
            self._sweep()
        return await super().on_tick(counter)

    async def _tick_while(self, condition: Callable[[], bool]) -> None:
        for counter in itertools.count():
            if not condition():
                return
            await self.on_tick(counter)
            await asyncio.sleep(TICK_SECONDS)

    def _sweep(self) -> None:
        now = monotonic()
        connections = cast("list[HttpProtocol]", list(self.server_state.connections))  # Config names no other protocol
        cut_off = sum(connection.cut_off_if_slow(now) for connection in connections)
        if cut_off:
            logger.info("cut off slow clients", extra={"data": {"connections": cut_off}})


def allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed: the usual 1,024 is meant for programs that call select()."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
