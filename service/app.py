"""The application: settings in, ASGI out."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from models.tasks.base import TaskName
from service import errors
from service.compat.forms import FORMS, HubError, OpenAIError
from service.compat.hub import Hub, HubAnswers, HubLabels, HubScores, HubVectors
from service.compat.openai import EmbeddingsResponse, OpenAI
from service.docs.openapi import Application, examples, failures, success
from service.docs.pages import DOCS, Pages
from service.engine import errors as engine_errors
from service.engine.engine import Engine
from service.http.body import JsonRoute
from service.http.gate import Gate, Lifecycle
from service.http.middleware import Cors, RequestMiddleware
from service.playground.page import playground_routes
from service.responses import (
    ClassifyListResponse,
    ClassifyResponse,
    EmbedResponse,
    Health,
    Info,
    QAListResponse,
    QAResponse,
    SimilarityResponse,
)
from service.routes import Routes
from service.settings import Settings
from service.startup.loading import load_engine
from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics

TASKS: dict[str, TaskName] = {
    "/qa": "qa",
    "/classify": "classify",
    "/similarity": "similarity",
    "/embed": "similarity",
    "/hf/question-answering": "qa",
    "/hf/text-classification": "classify",
    "/hf/sentence-similarity": "similarity",
    "/hf/feature-extraction": "similarity",
    "/v1/embeddings": "similarity",
}
OF_TASK = (
    errors.MalformedJsonError,
    errors.UnauthorizedError,
    engine_errors.ModelNotLoadedError,
    errors.BodyTooLargeError,
    errors.UnsupportedMediaTypeError,
    errors.InvalidRequestError,
    engine_errors.InputTooLongError,
    engine_errors.InferenceFailedError,
    engine_errors.QueueFullError,
    engine_errors.NotReadyError,
    errors.DrainingError,
    engine_errors.DeadlineExceededError,
)


def create_app(settings: Settings, engine: Engine | None = None, *, lifecycle: Lifecycle | None = None) -> FastAPI:
    """`engine` is loaded as the settings say, unless it is given; the app closes it when it shuts down. A server that
    drains tells the app by `lifecycle`.

    Bundles load here rather than in the lifespan, where uvicorn would answer a damaged one with a traceback.

    Raises: BundleError.
    """
    engine = engine or load_engine(settings)
    lifecycle = lifecycle or Lifecycle()
    keys = settings.keys()
    routes = Routes(engine, lifecycle)
    metrics = Metrics(
        engine.models.values(),
        queue_ms=lambda: engine.queue.queue_ms,
        in_flight=lambda: lifecycle.in_flight - 1,  # the scrape itself
    )
    engine.queue.count_drop = metrics.dropped
    journal = Journal(metrics)
    tasks = _tasks(routes, settings)
    gate = Gate(lifecycle, keys)
    layers = [Middleware(RequestMiddleware, gate=gate, journal=journal, direct=tasks, forms=FORMS)]
    if settings.cors_origins:
        layers.insert(0, Middleware(Cors, origins=settings.cors_origins))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=engine.check_runs, name="watch", daemon=True).start()
        yield
        engine.close()
        journal.write()

    return Application(
        max_inputs=settings.max_inputs,
        closed=bool(keys),
        lifespan=lifespan,
        routes=[*tasks, *_others(routes, Pages(metrics, journal))],
        middleware=layers,
        exception_handlers={engine_errors.ServiceError: _handle, HTTPException: _handle},
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )


async def _handle(request: Request, error: Exception) -> Response:
    return errors.problem_response(error, errors.form_of(request.scope["path"], FORMS))


def _tasks(routes: Routes, settings: Settings) -> list[JsonRoute]:
    hub = Hub(routes.engine, settings.max_inputs)
    openai = OpenAI(routes.engine, settings.max_inputs)
    problems = failures(*OF_TASK)
    hub_errors = failures(*OF_TASK, form=HubError, media_type="application/json")
    openai_errors = failures(*OF_TASK, form=OpenAIError, media_type="application/json")
    of_path: dict[str, tuple[Callable[..., Awaitable[ASGIApp]], Any, dict[int | str, dict[str, Any]]]] = {
        "/qa": (routes.qa, QAResponse | QAListResponse, problems),
        "/classify": (routes.classify, ClassifyResponse | ClassifyListResponse, problems),
        "/similarity": (routes.similarity, SimilarityResponse, problems),
        "/embed": (routes.embed, EmbedResponse, problems),
        "/hf/question-answering": (hub.question_answering, HubAnswers, hub_errors),
        "/hf/text-classification": (hub.text_classification, HubLabels, hub_errors),
        "/hf/sentence-similarity": (hub.sentence_similarity, HubScores, hub_errors),
        "/hf/feature-extraction": (hub.feature_extraction, HubVectors, hub_errors),
        "/v1/embeddings": (openai.embeddings, EmbeddingsResponse, openai_errors),
    }
    return [
        JsonRoute(
            path,
            endpoint,
            task=TASKS[path],
            settings=settings,
            response_model=model,
            responses=success("Server-Timing") | possible,
            openapi_extra=examples(path),
        )
        for path, (endpoint, model, possible) in of_path.items()
    ]


def _others(routes: Routes, pages: Pages) -> list[BaseRoute]:
    not_ready = failures(engine_errors.NotReadyError, errors.DrainingError)
    closed = failures(errors.UnauthorizedError, errors.DrainingError)
    return [
        APIRoute("/health/live", routes.live, response_model=Health, responses=success() | failures()),
        APIRoute("/health/ready", routes.ready, response_model=Health, responses=success() | not_ready),
        APIRoute("/metrics", pages.metrics, response_class=PlainTextResponse, responses=success() | failures()),
        APIRoute("/info", routes.info, response_model=Info, responses=success() | closed),
        APIRoute("/docs", pages.docs, include_in_schema=False),
        DOCS,
        *playground_routes(),
    ]
