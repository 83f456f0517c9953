"""What both translations share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.tasks.similarity import EmbeddingInput
from models.tasks.texts import OnOverflow
from service.body import Reply
from service.context import current_request
from service.engine import Engine
from service.errors import InvalidField, InvalidRequestError
from service.phases import Outcome
from service.telemetry import server_timing

T = TypeVar("T")
Vector = NDArray[np.float32]


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

    return await engine.answer_all("similarity", items, combine_all, current_request.get())


def reply(outcome: Outcome, content: bytes) -> Reply:
    """The content, with what the request cost noted for its log line, the metrics and Server-Timing."""
    request = current_request.get()
    request.usage, request.timings_ms = outcome.usage, outcome.stages.milliseconds()
    return Reply(content, [(b"server-timing", server_timing(request.timings_ms).encode())])
