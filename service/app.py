"""The application: settings in, ASGI out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from service import errors
from service.body import JsonRoute
from service.engine import Engine
from service.loading import load_engine
from service.middleware import RequestMiddleware
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

REF = "#/components/schemas/{model}"
OF_BODY = (
    errors.MalformedJsonError,
    errors.BodyTooLargeError,
    errors.UnsupportedMediaTypeError,
    errors.InvalidRequestError,
)
OF_ENGINE = (
    errors.ModelNotLoadedError,
    errors.InputTooLongError,
    errors.InferenceFailedError,
    errors.NotReadyError,
)


class Application(FastAPI):
    """FastAPI, with the form of our errors in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:  # as the base class declares it
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, problem = models_json_schema([(errors.Problem, "serialization")], ref_template=REF)
        schemas |= problem["$defs"]
        return document


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """`engine` is loaded as the settings say, unless it is given; the app closes it when it shuts down.

    Bundles load here rather than in the lifespan, where uvicorn would answer a damaged one with a traceback.

    Raises: BundleError.
    """
    engine = engine or load_engine(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    return Application(
        title="halfdepth",
        lifespan=lifespan,
        routes=_routes(Routes(engine), settings),
        middleware=[Middleware(RequestMiddleware)],
        exception_handlers={errors.ServiceError: errors.handle, HTTPException: errors.handle},
        redirect_slashes=False,
    )


def _routes(routes: Routes, settings: Settings) -> list[BaseRoute]:
    of_task = partial(JsonRoute, settings=settings, responses=errors.documented(*OF_BODY, *OF_ENGINE))
    return [
        of_task("/qa", routes.qa, response_model=QAResponse | QAListResponse),
        of_task("/classify", routes.classify, response_model=ClassifyResponse | ClassifyListResponse),
        of_task("/similarity", routes.similarity, response_model=SimilarityResponse),
        of_task("/embed", routes.embed, response_model=EmbedResponse),
        APIRoute("/health/live", routes.live, response_model=Health),
        APIRoute(
            "/health/ready", routes.ready, response_model=Health, responses=errors.documented(errors.NotReadyError)
        ),
        APIRoute("/info", routes.info, response_model=Info),
        *playground_routes(),
    ]
