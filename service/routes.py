"""What each route answers."""

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.responses import Response

from models.tasks import qa
from models.tasks.base import TaskName
from models.tasks.similarity import EmbeddingInput, cosines
from models.tasks.texts import OnOverflow
from service.engine.engine import Engine
from service.engine.model import Model
from service.engine.request import Outcome
from service.http.gate import Lifecycle
from service.replies import Reply, Vector, _cost, _fields, results_json, vectors_json
from service.responses import BundleInfo, Cost, Health, Info
from service.schemas import ClassifyRequest, EmbedRequest, InputList, Item, QARequest, SimilarityRequest
from service.telemetry.context import current_request
from service.telemetry.stages import server_timing

T = TypeVar("T")

LIBRARIES = ("halfdepth", "onnxruntime", "tokenizers")


class Routes:
    """The endpoints over one engine. Their forms stand in `responses`, which documents them; JSON is written straight
    from the kernel's own objects, which name their fields alike.
    """

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self.engine = engine
        self.lifecycle = lifecycle

    async def qa(self, body: QARequest) -> Reply:
        """Answer a question, or several, out of the context that comes with each."""
        return await self._one_or_list("qa", body)

    async def classify(self, body: ClassifyRequest) -> Reply:
        """Tell what a text, or a pair of texts, is; or several of them."""
        return await self._one_or_list("classify", body)

    async def similarity(self, body: SimilarityRequest) -> Reply:
        """Tell how alike a text and each of others are: the cosine of their embeddings."""
        texts = {"source": body.source} | _places("targets", body.targets)
        outcome = await self._embed(texts, body.on_overflow, lambda vectors: cosines(vectors[0], vectors[1:]))
        return self._reply("similarity", outcome, "scores", to_json(outcome.result))

    async def embed(self, body: EmbedRequest) -> Reply:
        """Embed a text, or several, as vectors whose scalar product is the similarity."""
        texts = {"inputs": body.inputs} if isinstance(body.inputs, str) else _places("inputs", body.inputs)
        outcome = await self._embed(texts, body.on_overflow, vectors_json)
        return self._reply("similarity", outcome, "embeddings", outcome.result)

    async def _one_or_list(self, task: TaskName, body: Item | InputList[Any]) -> Reply:  # of the task's items
        request = current_request.get()
        if isinstance(body, Item):
            outcome = await self.engine.answer(task, body.to_input(), request.caller)
            return self._reply(task, outcome)
        items = {place: item.to_input() for place, item in _places("inputs", body.inputs).items()}
        outcome = await self.engine.answer_all(task, items, results_json, request.caller)
        return self._reply(task, outcome, "results", outcome.result)

    async def _embed(
        self, texts: Mapping[str, str], on_overflow: OnOverflow, combine: Callable[[list[Vector]], T]
    ) -> Outcome:
        """What `combine` makes of the texts' embeddings, in order. Each distinct text is encoded and run once."""
        first_places: dict[str, str] = {}
        for place, text in texts.items():
            first_places.setdefault(text, place)
        items = {place: EmbeddingInput(text, on_overflow) for text, place in first_places.items()}

        def combine_all(outcomes: list[Outcome]) -> T:
            vectors = {text: outcome.result for text, outcome in zip(first_places, outcomes, strict=True)}
            return combine([vectors[text] for text in texts.values()])

        return await self.engine.answer_all("similarity", items, combine_all, current_request.get().caller)

    def _reply(self, task: TaskName, outcome: Outcome, field: str = "", content: bytes = b"") -> Reply:
        """The outcome of one input; or, under `field`, what JSON was made of several, with the totals."""
        request, cost, bundle = current_request.get(), _cost(outcome), self.engine.model(task).bundle
        request.task, request.usage, request.timings_ms = task, outcome.usage, cost["timings_ms"]
        last = cost | {"model": {"name": bundle.name, "revision": bundle.revision, "precision": bundle.precision}}
        body = (
            b'{"%s":%s,%s' % (field.encode(), content, to_json(last)[1:]) if field else to_json(_fields(outcome) | last)
        )
        return Reply(body, [(b"server-timing", server_timing(cost["timings_ms"]).encode())])

    async def live(self) -> Response:
        """The process runs."""
        return _json(Health().model_dump_json())

    async def ready(self) -> Response:
        """The service takes requests."""
        self.lifecycle.check_ready()
        self.engine.check_ready()
        return _json(Health().model_dump_json())

    async def info(self) -> Response:
        """Versions, loaded bundles, chosen threads."""
        versions = {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()}
        info = Info(
            versions=versions,
            threads=self.engine.threads,
            workers=self.engine.queue.cores,
            bundles=[_bundle_info(model) for model in self.engine.models.values()],
        )
        return _json(info.model_dump_json())


def _places(field: str, values: Sequence[T]) -> dict[str, T]:
    """The values of a list by their places in the request."""
    return {f"{field}[{index}]": value for index, value in enumerate(values)}


def _json(content: str) -> Response:
    return Response(content, media_type="application/json")


def _bundle_info(model: Model) -> BundleInfo:
    bundle, task = model.bundle, model.task
    return BundleInfo(
        task=bundle.task,
        name=bundle.name,
        revision=bundle.revision,
        precision=bundle.precision,
        no_answer=task.no_answer_threshold is not None if isinstance(task, qa.QuestionAnswering) else None,
        cost=Cost(fixed_ms=round(model.costs.fixed_ms, 4), ms_per_token=round(model.costs.ms_per_token, 5)),
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # halfdepth run from a checkout that was never installed
        return "not installed"
