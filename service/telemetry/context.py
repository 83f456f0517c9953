"""Holds what is known of the request that is being answered, for its log line, the metrics and errors."""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns

from models.tasks.base import TaskName, Usage
from service.telemetry.stages import Stages

TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?P<parent_id>(?!0{16})[0-9a-f]{16})"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for an answer. `deadline`: by when, in `perf_counter_ns`. `gone` waits until the caller has left."""

    deadline: int | None = None
    gone: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True)
class RequestContext:
    """Records a request while it is answered, but never its texts. Clocks are in `perf_counter_ns`."""

    id: str = field(default_factory=partial(secrets.token_hex, 16))
    task: TaskName | None = None
    model: str | None = None  # the id of the one that was asked, once that is known
    usage: Usage | None = None
    timings_ms: dict[str, float] | None = None
    stages: Stages | None = None
    code: str | None = None  # of the error that it ended in
    traceparent: str | None = None  # as it came
    span: dict[str, str] | None = None  # `trace_id` and `span_id` of our own, where it is traced and sampled
    received: int = field(default_factory=perf_counter_ns)
    ended: int = 0  # only where requests are traced


current_request: ContextVar[RequestContext] = ContextVar("current_request")


def trace(traceparent: str | None) -> dict[str, str]:
    """Read `trace_id` and `parent_id` from the header. Returns: nothing if it is missing or malformed.

    Source: W3C Trace Context, sections 3.2 and 4.3: version 00 has four fields exactly, a later one may have more.
    """
    parts = TRACEPARENT.fullmatch(traceparent or "")
    if parts is None or (parts["version"] == "00" and parts["more"]):
        return {}
    return {"trace_id": parts["trace_id"], "parent_id": parts["parent_id"]}
