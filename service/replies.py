"""Says what a request asks of the engine, and writes the JSON that answers it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from models.tasks.base import Usage
from models.tasks.bundle import Bundle
from models.tasks.rerank import Relevance
from models.tasks.similarity import EmbeddingInput
from service.engine.request import Combine, CombineSome, Outcome
from service.telemetry.context import RequestContext
from service.telemetry.stages import Stages

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answered:
    """Holds what the JSON of an answer is written from."""

    result: Any  # of one input, which its task knows; or what was made of several
    usage: Usage
    timings_ms: dict[str, float]
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class EngineCall:
    """Holds what a request asks of the engine, and how its outcome is written.

    `items`: the inputs of the task by their places in the request; a single input has the empty place. `combine` makes
    one result of several outcomes, on a worker. `write` is called on the event loop. `combine_some`: what is there at
    the caller's deadline makes an answer too, by this.
    """

    items: Mapping[str, object]
    combine: Combine | None
    write: Callable[[Answered], bytes]
    combine_some: CombineSome | None = None


class Reply:
    """Sends a JSON response: an ASGI app like Starlette's, without what we do not use."""

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


def reply(
    call: EngineCall,
    outcome: Outcome,
    bundle: Bundle,
    request: RequestContext,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Reply:
    """Write the answer, and note what the request cost for its log line and the metrics."""
    request.usage, request.stages = outcome.usage, outcome.stages
    request.timings_ms = milliseconds(outcome.stages)
    content = call.write(Answered(outcome.result, outcome.usage, request.timings_ms, bundle))
    return Reply(content, [(b"server-timing", server_timing(request.timings_ms).encode()), *headers])


def embed(
    texts: Mapping[str, str],
    make_input: Callable[[str], EmbeddingInput],
    combine: Callable[[list[Vector]], bytes],
    write: Callable[[Answered], bytes],
    *,
    once: bool = False,
) -> EngineCall:
    """Embed texts, by their places in the request; `combine` gets one vector for each, in order, on a worker.

    `once`: a text that occurs in several places is read once, and counts once in the usage.
    """
    place_of: dict[str, str] = {}  # the place whose embedding a text, or a place, takes
    for place, text in texts.items():
        place_of.setdefault(text if once else place, place)
    items = {place: make_input(texts[place]) for place in place_of.values()}

    def combine_outcomes(outcomes: list[Outcome]) -> bytes:
        vectors = dict(zip(place_of, [outcome.result for outcome in outcomes], strict=True))
        return combine([vectors[text if once else place] for place, text in texts.items()])

    return EngineCall(items, combine_outcomes, write)


def places(field: str, values: Sequence[Any]) -> dict[str, Any]:  # of whichever values
    """Name the values of a list by their places in the request."""
    return {f"{field}[{index}]": value for index, value in enumerate(values)}


def result_json(answered: Answered) -> bytes:
    """Write the fields of one result, its cost, and the model."""
    return to_json(_fields(answered.result) | _totals(answered))


def totals_with(field: str) -> Callable[[Answered], bytes]:
    """Write the JSON that `combine` made under this field, then the total cost, and the model."""
    return lambda answered: b'{"%s":%s,%s' % (field.encode(), answered.result, to_json(_totals(answered))[1:])


def totals_after(answered: Answered) -> bytes:
    """Write the JSON object that `combine` made, then the total cost, and the model, as further fields of it."""
    return b"%s,%s" % (answered.result[:-1], to_json(_totals(answered))[1:])


def combined_json(answered: Answered) -> bytes:
    """Write the JSON that `combine` made, and nothing else."""
    content: bytes = answered.result
    return content


def results_json(outcomes: Sequence[Outcome]) -> bytes:
    """Write an array of the results of several inputs, with the cost of every one."""
    return b"[%s]" % b",".join(
        [
            to_json(_fields(outcome.result) | {"usage": outcome.usage, "timings_ms": milliseconds(outcome.stages)})
            for outcome in outcomes
        ]
    )


def ranking(outcomes: Sequence[Outcome | None], top_n: int | None, *, raw_scores: bool) -> list[tuple[int, float]]:
    """Order what was scored of a list of documents, best first, the first of equal ones first.

    Returns: at most `top_n` indices with their scores, which are logits with `raw_scores`.
    """
    relevances: dict[int, Relevance] = {index: outcome.result for index, outcome in enumerate(outcomes) if outcome}
    order = sorted(relevances, key=lambda index: -relevances[index].logit)
    return [
        (index, relevances[index].logit if raw_scores else relevances[index].score) for index in order[: top_n or None]
    ]


def ranking_json(
    ranked: Sequence[tuple[int, float]], outcomes: Sequence[Outcome | None], texts: Sequence[str] | None
) -> bytes:
    """Write an object with the results, with their texts if these are given, and with what has no score."""
    results = [
        {"index": index, "score": score} | ({} if texts is None else {"document": texts[index]})
        for index, score in ranked
    ]
    return to_json(
        {"results": results, "unscored": [index for index, outcome in enumerate(outcomes) if outcome is None]}
    )


def vectors_json(vectors: Sequence[Vector]) -> bytes:
    """Write an array of arrays, to 8 decimals: as exact as a float32 of 0.1, and half as long as all its digits.

    One vector at a time, so that other threads can take the interpreter lock in between.
    """
    return b"[%s]" % b",".join([to_json(vector.astype(np.float64).round(8).tolist()) for vector in vectors])


def milliseconds(stages: Stages) -> dict[str, float]:
    """Convert the stage clocks, to the microsecond."""
    return {
        "queue": round(stages.queue / 1e6, 3),
        "tokenization": round(stages.tokenization / 1e6, 3),
        "inference": round(stages.inference / 1e6, 3),
        "inference_wall": round(stages.inference_wall / 1e6, 3),
        "postprocess": round(stages.postprocess / 1e6, 3),
        "total": round(stages.total / 1e6, 3),
    }


def server_timing(timings_ms: Mapping[str, float]) -> str:
    """Write the value of a Server-Timing header, durations in milliseconds (W3C Server Timing)."""
    return ", ".join([f"{stage};dur={duration:.3f}" for stage, duration in timings_ms.items()])


def _fields(result: Any) -> dict[str, Any]:  # of whichever task, and the kernel names its fields as the responses do
    return {field.name: getattr(result, field.name) for field in fields(result)}


def _totals(answered: Answered) -> dict[str, Any]:  # as JSON has it
    bundle = answered.bundle
    model = {"name": bundle.name, "revision": bundle.revision, "precision": bundle.precision}
    return {"usage": answered.usage, "timings_ms": answered.timings_ms, "model": model}
