"""Builds the JSON of an answer, and the reply that carries it."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from models.tasks.similarity import EmbeddingInput
from models.tasks.texts import OnOverflow
from service.engine.engine import Engine
from service.engine.request import Outcome
from service.errors import (
    InvalidField,
    InvalidRequestError,
)
from service.telemetry.context import current_request
from service.telemetry.stages import server_timing

T = TypeVar("T")
Vector = NDArray[np.float32]


def results_json(outcomes: Sequence[Outcome]) -> bytes:
    """A JSON array of the results of several inputs, each with what it took."""
    return b"[%s]" % b",".join([to_json(_fields(outcome) | _cost(outcome)) for outcome in outcomes])


def vectors_json(vectors: Sequence[Vector]) -> bytes:
    """A JSON array of arrays, to 8 decimals, which is as exact as a float32 of 0.1 and half as long as all its digits.

    One vector at a time, so that this thread can let go of Python's lock in between.
    """
    return b"[%s]" % b",".join([to_json(vector.astype(np.float64).round(8).tolist()) for vector in vectors])


def _fields(outcome: Outcome) -> dict[str, Any]:  # of whichever result
    result = outcome.result
    return {field.name: getattr(result, field.name) for field in fields(result)}


def _cost(outcome: Outcome) -> dict[str, Any]:  # as JSON has it
    return {"usage": outcome.usage, "timings_ms": outcome.stages.milliseconds()}


class Reply:
    """A JSON response: an ASGI app as Starlette's, without what we do not use."""

    def __init__(self, content: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.content = content
        self.headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            *headers,
        ]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.content})


def check_length(field: str, items: Sequence[object], limit: int) -> None:
    """Raises: InvalidRequestError."""
    if len(items) > limit:
        message = f"holds {len(items)} items where the limit is {limit}; split the request"
        raise InvalidRequestError(f"{field}: {message}", errors=[InvalidField(field=field, message=message)])


async def embed(
    engine: Engine, texts: Sequence[str], field: str, on_overflow: OnOverflow, combine: Callable[[list[Vector]], T]
) -> Outcome:
    """What `combine` makes, on the worker, of the texts' embeddings. Errors name the text's place in `field`."""
    items = {f"{field}[{index}]": EmbeddingInput(text, on_overflow) for index, text in enumerate(texts)}

    def combine_all(outcomes: list[Outcome]) -> T:
        return combine([outcome.result for outcome in outcomes])

    return await engine.answer_all("similarity", items, combine_all, current_request.get().caller)


def reply(outcome: Outcome, content: bytes) -> Reply:
    """The content, with what the request cost noted for its log line, the metrics and Server-Timing."""
    request = current_request.get()
    request.usage, request.timings_ms = outcome.usage, outcome.stages.milliseconds()
    return Reply(content, [(b"server-timing", server_timing(request.timings_ms).encode())])
