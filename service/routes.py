"""What each route answers."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.responses import Response

from models.tasks import qa
from models.tasks.bundle import Bundle, TaskName
from models.tasks.similarity import EmbeddingInput, cosines
from models.tasks.texts import OnOverflow
from service.context import current_request
from service.engine import AnyModel, Engine, Outcome
from service.lifecycle import Lifecycle
from service.responses import (
    BundleInfo,
    ClassifyListResponse,
    ClassifyResponse,
    EmbedResponse,
    Health,
    Info,
    QAListResponse,
    QAResponse,
    SimilarityResponse,
    TaskResponse,
)
from service.schemas import ClassifyRequest, EmbedRequest, InputList, Item, QARequest, SimilarityRequest
from service.telemetry import server_timing

T = TypeVar("T")
Vector = NDArray[np.float32]

LIBRARIES = ("halfdepth", "onnxruntime", "tokenizers")


class Routes:
    """The endpoints over one engine."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self.engine = engine
        self.lifecycle = lifecycle

    async def qa(self, body: QARequest) -> Response:
        """Answer a question, or several, out of the context that comes with each."""
        return await self._one_or_list("qa", body, QAResponse, QAListResponse)

    async def classify(self, body: ClassifyRequest) -> Response:
        """Tell what a text, or a pair of texts, is; or several of them."""
        return await self._one_or_list("classify", body, ClassifyResponse, ClassifyListResponse)

    async def similarity(self, body: SimilarityRequest) -> Response:
        """Tell how alike a text and each of others are: the cosine of their embeddings."""
        texts = {"source": body.source} | _places("targets", body.targets)
        outcome = await self._embed(texts, body.on_overflow, lambda vectors: cosines(vectors[0], vectors[1:]))
        fields = {"scores": outcome.result} | _cost(outcome) | self._model("similarity")
        return _reply("similarity", SimilarityResponse.model_validate(fields))

    async def embed(self, body: EmbedRequest) -> Response:
        """Embed a text, or several, as vectors whose scalar product is the similarity."""
        texts = {"inputs": body.inputs} if isinstance(body.inputs, str) else _places("inputs", body.inputs)
        outcome = await self._embed(texts, body.on_overflow, vectors_json)
        fields = {"embeddings": []} | _cost(outcome) | self._model("similarity")
        response = EmbedResponse.model_validate(fields)
        # Writing a million floats here would hold the event loop; they come as JSON, for the list that stands first.
        return _reply("similarity", response, response.model_dump_json().replace("[]", outcome.result, 1))

    async def _one_or_list(
        self,
        task: TaskName,
        body: Item | InputList[Any],  # of whichever items the task takes
        one: type[TaskResponse],
        several: type[TaskResponse],
    ) -> Response:
        """One input to a response of the type `one`, a list to one of the type `several`."""
        if isinstance(body, Item):
            outcome = await self.engine.answer(task, body.to_input())
            return _reply(task, one.model_validate(_result(outcome) | self._model(task)))
        items = {place: item.to_input() for place, item in _places("inputs", body.inputs).items()}
        outcomes = await self.engine.answer_all(task, items, list)
        fields = {"results": [_result(each) for each in outcomes.result]} | _cost(outcomes) | self._model(task)
        return _reply(task, several.model_validate(fields))

    async def _embed(
        self, texts: Mapping[str, str], on_overflow: OnOverflow, combine: Callable[[list[Vector]], T]
    ) -> Outcome[T]:
        """What `combine` makes of the texts' embeddings, in order. Each distinct text is encoded and run once."""
        first_places: dict[str, str] = {}
        for place, text in texts.items():
            first_places.setdefault(text, place)
        items = {place: EmbeddingInput(text, on_overflow) for text, place in first_places.items()}

        def combine_all(outcomes: list[Outcome[Vector]]) -> T:
            vectors = {text: outcome.result for text, outcome in zip(first_places, outcomes, strict=True)}
            return combine([vectors[text] for text in texts.values()])

        return await self.engine.answer_all("similarity", items, combine_all)

    def _model(self, task: TaskName) -> dict[str, Bundle]:
        return {"model": self.engine.model(task).bundle}

    async def live(self) -> Response:
        """The process runs."""
        return _json(Health().model_dump_json())

    async def ready(self) -> Response:
        """The service takes requests."""
        self.lifecycle.check_ready()
        self.engine.pool.check_open()
        return _json(Health().model_dump_json())

    async def info(self) -> Response:
        """Versions, loaded bundles, chosen threads."""
        versions = {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()}
        bundles = [_bundle_info(model) for model in self.engine.models.values()]
        return _json(Info(versions=versions, threads=self.engine.threads, bundles=bundles).model_dump_json())


def vectors_json(vectors: Sequence[Vector]) -> str:
    """A JSON array of arrays, to 8 decimals, which is as exact as a float32 of 0.1 and half as long as all its digits.

    One vector at a time, so that this thread can let go of Python's lock in between.
    """
    arrays = (to_json(vector.astype(np.float64).round(8).tolist()).decode() for vector in vectors)
    return f"[{','.join(arrays)}]"


def _places(field: str, values: Sequence[T]) -> dict[str, T]:
    """The values of a list by their places in the request."""
    return {f"{field}[{index}]": value for index, value in enumerate(values)}


def _result(outcome: Outcome[Any]) -> dict[str, Any]:  # fields for pydantic, which checks them
    """The responses name what a kernel's result holds as it does."""
    result = outcome.result
    return {field.name: getattr(result, field.name) for field in fields(result)} | _cost(outcome)


def _cost(outcome: Outcome[Any]) -> dict[str, Any]:
    return {"usage": outcome.usage, "timings_ms": outcome.stages.milliseconds()}


def _reply(task: TaskName, response: TaskResponse, content: str | None = None) -> Response:
    """`content`: the response as JSON, where it is there already."""
    request = current_request.get()
    request.task, request.usage, request.timings_ms = task, response.usage, response.timings_ms
    return _json(content or response.model_dump_json(), {"Server-Timing": server_timing(response.timings_ms)})


def _json(content: str, headers: dict[str, str] | None = None) -> Response:
    return Response(content, headers=headers, media_type="application/json")


def _bundle_info(model: AnyModel) -> BundleInfo:
    bundle, task = model.bundle, model.task
    return BundleInfo(
        task=bundle.task,
        name=bundle.name,
        revision=bundle.revision,
        precision=bundle.precision,
        no_answer=task.no_answer_threshold is not None if isinstance(task, qa.QuestionAnswering) else None,
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # halfdepth run from a checkout that was never installed
        return "not installed"
