"""What is known of the request that is being answered, for its log line and for errors."""

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter_ns

from starlette.types import Receive

from models.tasks.base import Usage

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """Filled in on the way; never holds a text of the request. Clocks are in `perf_counter_ns`."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    received: int = field(default_factory=perf_counter_ns)
    deadline: int | None = None  # by which the caller wants the answer
    receive: Receive | None = None  # once the body was read
    task: str | None = None
    usage: Usage | None = None
    timings_ms: dict[str, float] | None = None
    code: str | None = None  # of the error that it ended in

    async def leaves(self) -> None:
        """Wait until the caller closes the connection, or has the answer."""
        assert self.receive is not None
        while (await self.receive())["type"] != "http.disconnect":
            pass


current_request: ContextVar[RequestContext] = ContextVar("current_request")


def request_id(offered: str | None) -> str | None:
    """The caller's own id if it is safe to repeat in headers and logs."""
    return offered if offered is not None and REQUEST_ID.fullmatch(offered) else None
