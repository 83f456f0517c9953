"""The table of routes: one row for each, from which everything that knows of routes is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from models.tasks.answers import QAResult
from models.tasks.base import TaskName
from models.tasks.classification import ClassificationInput
from models.tasks.contexts import merge_contexts
from models.tasks.entities import EntitiesInput
from models.tasks.qa import ContextInput, QAInput
from models.tasks.rerank import RerankInput
from models.tasks.similarity import EmbeddingInput, cosines
from service.compat import cohere, hub, openai
from service.compat.forms import HUB, INFERENCE, OPENAI
from service.docs import examples
from service.docs.examples import Example
from service.docs.openapi import CLIENTS, TASK_ERRORS, TASKS, failures, operation, success
from service.engine.engine import Engine
from service.engine.request import Outcome
from service.errors import PROBLEM, ErrorForm
from service.http.body import deadline, parse_json, read_body, validate, wait_until_gone
from service.replies import (
    EngineCall,
    embed,
    places,
    ranking,
    ranking_json,
    reply,
    result_json,
    results_json,
    totals_after,
    totals_with,
    vectors_json,
)
from service.responses import (
    ClassifyListResponse,
    ClassifyResponse,
    EmbedResponse,
    EntitiesListResponse,
    EntitiesResponse,
    QAContextsResponse,
    QAListResponse,
    QAResponse,
    RerankResponse,
    SimilarityResponse,
)
from service.schemas import (
    ClassifyItem,
    ClassifyList,
    ClassifyRequest,
    EmbedRequest,
    EntitiesItem,
    EntitiesList,
    EntitiesRequest,
    QAContexts,
    QAItem,
    QAList,
    QAOptions,
    QARequest,
    RerankRequest,
    SimilarityRequest,
    TaskRequest,
)
from service.settings import Settings
from service.telemetry.context import Caller, current_request


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRoute:
    """Describes a POST to `path`, which the bundle of `task` answers.

    `body` and `response` are annotations that pydantic reads, and a body is a TaskRequest; `handler` turns a valid body
    into what is asked of the engine, and its docstring describes the route; `error_form` is how the route's clients
    expect an error.
    """

    path: str
    task: TaskName
    body: Any
    response: Any
    handler: Callable[[Any], EngineCall]  # of a `body`
    examples: Mapping[str, Example]
    error_form: ErrorForm = PROBLEM

    @property
    def name(self) -> str:
        """The last part of the path, as in `question_answering`."""
        return self.path.rpartition("/")[2].replace("-", "_")

    @property
    def is_ours(self) -> bool:
        """Whether its form is ours. In the others, clients send names of models that were never meant for us."""
        return self.error_form is PROBLEM


def _one_or_list(items: Sequence[object], *, several: bool) -> EngineCall:
    """Ask for one input; or for several, which are answered under `results` with the totals."""
    if several:
        return EngineCall(places("inputs", items), results_json, totals_with("results"))
    return EngineCall({"": items[0]}, None, result_json)


def answer_questions(body: QAItem | QAContexts | QAList) -> EngineCall:
    """Answer a question, or several, from the context that comes with it; or one from several contexts."""
    if isinstance(body, QAContexts):
        return _answer_over_contexts(body)
    items = [_qa_input(item, item.context) for item in (body.inputs if isinstance(body, QAList) else [body])]
    return _one_or_list(items, several=isinstance(body, QAList))


def _answer_over_contexts(body: QAContexts) -> EngineCall:
    def combine(outcomes: Sequence[Outcome]) -> QAResult:
        results = [outcome.result for outcome in outcomes]
        return merge_contexts(results, top_k=body.top_k, allow_no_answer=body.allow_no_answer)

    items = [_qa_input(body, context, ContextInput) for context in body.contexts]
    return EngineCall(places("contexts", items), combine, result_json)


def _qa_input(options: QAOptions, context: str, kind: type[QAInput] = QAInput) -> QAInput:
    return kind(
        question=options.question,
        context=context,
        doc_stride=options.doc_stride,
        top_k=options.top_k,
        max_answer_tokens=options.max_answer_tokens,
        allow_no_answer=options.allow_no_answer,
    )


def classify(body: ClassifyItem | ClassifyList) -> EngineCall:
    """Classify a text, or a pair of texts; or several of them."""
    items = [
        ClassificationInput(item.text, item.text_pair, top_k=item.top_k, on_overflow=item.on_overflow)
        for item in (body.inputs if isinstance(body, ClassifyList) else [body])
    ]
    return _one_or_list(items, several=isinstance(body, ClassifyList))


def rank_documents(body: RerankRequest) -> EngineCall:
    """Put documents in the order of their relevance to a query.

    With `X-Deadline-Ms` the answer holds the documents that could be scored in time, and `unscored` names the others.
    """
    items = [RerankInput(body.query, document, body.on_overflow) for document in body.documents]
    texts = body.documents if body.return_documents else None

    def combine(outcomes: Sequence[Outcome | None]) -> bytes:
        return ranking_json(ranking(outcomes, body.top_n, raw_scores=body.raw_scores), outcomes, texts)

    return EngineCall(places("documents", items), combine, totals_after, combine_some=combine)


def find_entities(body: EntitiesItem | EntitiesList) -> EngineCall:
    """Find the named entities of a text, or of several."""
    items = [
        EntitiesInput(item.text, item.on_overflow, aggregation=item.aggregation, stride=item.stride)
        for item in (body.inputs if isinstance(body, EntitiesList) else [body])
    ]
    return _one_or_list(items, several=isinstance(body, EntitiesList))


def compare(body: SimilarityRequest) -> EngineCall:
    """Compare a text with others: the cosine of their embeddings."""
    texts = {"source": body.source} | places("targets", body.targets)
    return embed(
        texts,
        partial(EmbeddingInput, on_overflow=body.on_overflow),
        lambda vectors: to_json(cosines(vectors[0], vectors[1:])),
        totals_with("scores"),
        once=True,
    )


def embed_texts(body: EmbedRequest) -> EngineCall:
    """Embed a text, or several, as vectors whose scalar product is the similarity."""
    texts = {"inputs": body.inputs} if isinstance(body.inputs, str) else places("inputs", body.inputs)
    make_input = partial(
        EmbeddingInput, on_overflow=body.on_overflow, prompt_name=body.prompt_name, dimensions=body.dimensions
    )
    return embed(texts, make_input, vectors_json, totals_with("embeddings"), once=True)


ROUTES = (
    TaskRoute(
        path="/qa",
        task="qa",
        body=QARequest,
        response=QAResponse | QAContextsResponse | QAListResponse,
        handler=answer_questions,
        examples=examples.QA,
    ),
    TaskRoute(
        path="/classify",
        task="classify",
        body=ClassifyRequest,
        response=ClassifyResponse | ClassifyListResponse,
        handler=classify,
        examples=examples.CLASSIFY,
    ),
    TaskRoute(
        path="/similarity",
        task="similarity",
        body=SimilarityRequest,
        response=SimilarityResponse,
        handler=compare,
        examples=examples.SIMILARITY,
    ),
    TaskRoute(
        path="/embed",
        task="similarity",
        body=EmbedRequest,
        response=EmbedResponse,
        handler=embed_texts,
        examples=examples.EMBED,
    ),
    TaskRoute(
        path="/rerank",
        task="rerank",
        body=RerankRequest,
        response=RerankResponse,
        handler=rank_documents,
        examples=examples.RERANK,
    ),
    TaskRoute(
        path="/entities",
        task="entities",
        body=EntitiesRequest,
        response=EntitiesResponse | EntitiesListResponse,
        handler=find_entities,
        examples=examples.ENTITIES,
    ),
    TaskRoute(
        path="/hf/question-answering",
        task="qa",
        body=hub.HubQuestion,
        response=hub.HubAnswers,
        handler=hub.question_answering,
        examples=examples.HUB_QUESTION_ANSWERING,
        error_form=HUB,
    ),
    TaskRoute(
        path="/hf/text-classification",
        task="classify",
        body=hub.HubClassification,
        response=hub.HubLabels,
        handler=hub.text_classification,
        examples=examples.HUB_TEXT_CLASSIFICATION,
        error_form=HUB,
    ),
    TaskRoute(
        path="/hf/token-classification",
        task="entities",
        body=hub.HubTokens,
        response=hub.HubEntities,
        handler=hub.token_classification,
        examples=examples.HUB_TOKEN_CLASSIFICATION,
        error_form=HUB,
    ),
    TaskRoute(
        path="/hf/sentence-similarity",
        task="similarity",
        body=hub.HubSimilarity,
        response=hub.HubScores,
        handler=hub.sentence_similarity,
        examples=examples.HUB_SENTENCE_SIMILARITY,
        error_form=HUB,
    ),
    TaskRoute(
        path="/hf/feature-extraction",
        task="similarity",
        body=hub.HubFeatures,
        response=hub.HubVectors,
        handler=hub.feature_extraction,
        examples=examples.HUB_FEATURE_EXTRACTION,
        error_form=HUB,
    ),
    TaskRoute(
        path="/v1/embeddings",
        task="similarity",
        body=openai.EmbeddingsRequest,
        response=openai.EmbeddingsResponse,
        handler=openai.embeddings,
        examples=examples.OPENAI_EMBEDDINGS,
        error_form=OPENAI,
    ),
    TaskRoute(
        path="/v1/rerank",
        task="rerank",
        body=cohere.CohereRequest,
        response=cohere.CohereResponse,
        handler=cohere.rank_documents,
        examples=examples.COHERE_RERANK,
        error_form=OPENAI,
    ),
    TaskRoute(  # of Cohere's second client, which sends no more than the first
        path="/v2/rerank",
        task="rerank",
        body=cohere.CohereRequest,
        response=cohere.CohereResponse,
        handler=cohere.rank_documents,
        examples=examples.COHERE_RERANK,
        error_form=OPENAI,
    ),
)


class JsonRoute(APIRoute):
    """Serves a row of the table with an engine.

    FastAPI documents it as usual. The request is read here instead of by FastAPI, which takes NaN, UTF-16 and
    bodies of any size for JSON; and `answer` is an ASGI app of its own, so that the middleware can call it without
    the layers in between, which take longer than all that is done here (docs/log/serving.md).
    """

    def __init__(self, row: TaskRoute, engine: Engine, settings: Settings) -> None:
        self.row, self.task, self.error_form = row, row.task, row.error_form
        self._engine = engine
        self._max_body_bytes, self._max_inputs = settings.max_body_bytes, settings.max_inputs
        self._adapter: TypeAdapter[Any] = TypeAdapter(row.body)
        super().__init__(
            row.path,
            _documented(row),
            methods=["POST"],
            tags=[TASKS if row.is_ours else CLIENTS],
            response_model=row.response,
            responses=success("Server-Timing", *(("X-Model",) if row.error_form is HUB else ()))
            | failures(*TASK_ERRORS, form=row.error_form),
            openapi_extra=operation(row.task, row.examples),
        )
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = current_request.get()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        answer_by = deadline(headers.get(b"x-deadline-ms"), request.received)
        content = parse_json(await read_body(scope["headers"], receive, self._max_body_bytes))
        body: TaskRequest = validate(self._adapter, content, self._max_inputs)
        call = self.row.handler(body)
        caller = Caller(answer_by, partial(wait_until_gone, receive))
        model = self._engine.model(self.task, body.model, or_default=not self.row.is_ours)
        request.model = model.id
        outcome = await self._engine.answer_all(model, call.items, call.combine, caller, call.combine_some)
        is_named = body.model is not None and self.row.error_form is HUB  # where no answer has a place for its model
        named = [(b"x-model", quote(model.id, safe="/@").encode())] if is_named else []
        await reply(call, outcome, model.bundle, request, named)(scope, receive, send)


def _documented(row: TaskRoute) -> Callable[..., object]:
    """Make a function whose name, docstring and argument FastAPI documents; it is never called."""

    def endpoint(body: object) -> None: ...

    endpoint.__name__, endpoint.__doc__ = row.name, row.handler.__doc__
    endpoint.__annotations__ = {"body": row.body}
    return endpoint


def error_form(rows: Sequence[TaskRoute], path: str) -> ErrorForm:
    """Choose the form of an error on any path: under `/hf/`, for instance, that of the rows under `/hf/`."""
    if f"{path}/".startswith("/v2/") and not any(path == row.path for row in rows):
        return INFERENCE
    first, slash, _ = path.removeprefix("/").partition("/")
    return next((row.error_form for row in rows if slash and row.path.startswith(f"/{first}/")), PROBLEM)
