"""What is known of the request that is being answered, for its log line and for errors."""

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.responses import Timings, Usage

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """Filled in on the way; never holds a text of the request."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    task: str | None = None
    usage: Usage | None = None
    timings_ms: Timings | None = None
    code: str | None = None  # of the error that it ended in


current_request: ContextVar[RequestContext] = ContextVar("current_request")


def request_id(offered: str | None) -> str | None:
    """The caller's own id if it is safe to repeat in headers and logs."""
    return offered if offered is not None and REQUEST_ID.fullmatch(offered) else None
