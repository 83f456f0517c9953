"""The application: settings in, ASGI out."""

import logging
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from service.compat.forms import INFERENCE
from service.compat.sagemaker import Invocations
from service.docs.openapi import Application
from service.docs.pages import Pages
from service.engine.engine import Engine
from service.engine.errors import ServiceError
from service.engine.model import Model
from service.errors import PROBLEM, problem_response, unknown_route
from service.http.gate import Gate, Lifecycle
from service.http.middleware import Cors, DirectRoute, RequestMiddleware
from service.http.prefix import Prefix
from service.inference import Endpoints
from service.playground.page import playground_routes
from service.routes import ROUTES, JsonRoute, TaskRoute, error_form
from service.settings import Settings, SettingsError, variable
from service.startup.cgroups import Cgroups
from service.startup.clock import StartClock
from service.startup.loading import Change, Stock
from service.startup.reload import Reloader
from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics
from service.telemetry.throttling import Throttling
from service.telemetry.tracing import start_tracing

logger = logging.getLogger("service")


class Telemetry:
    """Tells of the service by counts, log lines and traces, for as long as the app lasts."""

    def __init__(self, served: Engine, lifecycle: Lifecycle) -> None:
        self.metrics = Metrics(
            served.models,
            queue_ms=lambda: served.queue.queue_ms,
            lone_threads=served.lone_threads,
            in_flight=lambda: lifecycle.in_flight - 1,  # the scrape itself
        )
        served.queue.count_drop = self.metrics.dropped
        self._throttling = Throttling(Cgroups().throttled_seconds)
        self.metrics.add(self._throttling)
        self._tracing = start_tracing(os.environ)
        self.journal = Journal(self.metrics, self._tracing)

    def start(self, seconds: Mapping[str, float]) -> None:
        """Tell that the service has started, and what that took, by part."""
        self._throttling.start()
        self.metrics.started(seconds)
        rounded = {part: round(duration_s, 3) for part, duration_s in seconds.items()}
        logger.info("started", extra={"data": {"seconds": round(sum(seconds.values()), 3)} | rounded})

    def reloaded(self, models: Sequence[Model], changes: Sequence[Change]) -> None:
        self.metrics.show_models(models)
        for change in changes:
            self.metrics.reloaded(change.task, change.model, change.outcome)

    def close(self) -> None:
        self._throttling.stop()
        self.journal.write()
        if self._tracing:
            self._tracing.close()


def create_app(
    settings: Settings,
    engine: Engine | None = None,
    *,
    lifecycle: Lifecycle | None = None,
    clock: StartClock | None = None,
    routes: Sequence[TaskRoute] = ROUTES,
) -> FastAPI:
    """Build the service: `routes` over an engine, which is loaded as the settings say unless it is given.

    The app closes the engine when it shuts down. A server that drains tells the app by `lifecycle`. An engine that is
    given is never reloaded. `clock` runs since the start of the process.

    Bundles load here rather than in the lifespan, where uvicorn would answer a damaged one with a traceback.

    Raises: BundleError; SettingsError if the prefix of paths is that of some of ours.
    """
    lifecycle, clock = lifecycle or Lifecycle(), clock or StartClock()
    stock = None if engine else Stock(settings, clock)
    served = engine or cast("Stock", stock).engine(settings.max_queue_ms)
    keys, form_of = settings.keys(), partial(error_form, routes)
    telemetry = Telemetry(served, lifecycle)

    def swap(models: Sequence[Model], changes: Sequence[Change]) -> None:
        served.replace_models(models)
        telemetry.reloaded(served.models, changes)

    reloader = Reloader(stock, lifecycle.reloads, settings.reload_seconds, swap) if stock else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=served.check_runs, name="watch", daemon=True).start()
        if reloader:
            reloader.start()
        telemetry.start(clock.stop())
        yield
        if reloader:
            reloader.stop()
        served.close()
        telemetry.close()

    async def handle(request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
            error = unknown_route(path, (route.path for route in app.routes if isinstance(route, Route)))
        return problem_response(error, form_of(path))

    task_routes = [JsonRoute(row, served, settings) for row in routes]
    invocations = Invocations(
        [route for route in task_routes if route.row.is_ours], lambda: {model.bundle.task for model in served.models}
    )
    direct: list[DirectRoute] = [*task_routes, invocations]
    inference = Endpoints(routes, served, lifecycle, settings)
    pages = Pages(served, lifecycle, telemetry.metrics, telemetry.journal, lambda: reloader.last if reloader else None)
    app = Application(
        error_forms=[PROBLEM, INFERENCE, *(row.error_form for row in routes)],
        max_inputs=settings.max_inputs,
        requires_key=bool(keys),
        lifespan=lifespan,
        root_path=settings.root_path,
        routes=[*task_routes, invocations, *inference.routes(), *pages.routes(), *playground_routes()],
        exception_handlers={ServiceError: handle, HTTPException: handle},
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    _check_prefix(settings.root_path, [route.path for route in app.routes if isinstance(route, Route | Mount)])
    # In front of the framework's layers instead of among them, for they take longer than ours; and instead of the first
    # of them, which would answer whatever a page raises as plain text.
    framework = cast("ServerErrorMiddleware", app.build_middleware_stack()).app
    stack: ASGIApp = RequestMiddleware(
        framework,
        gate=Gate(lifecycle, keys),
        journal=telemetry.journal,
        direct=direct,
        error_form=form_of,
    )
    if settings.cors_origins:
        stack = Cors(stack, settings.cors_origins, lifecycle)
    app.middleware_stack = Prefix(stack, settings.root_path) if settings.root_path else stack
    return app


def _check_prefix(prefix: str, paths: Sequence[str]) -> None:
    """Refuse a prefix that paths of ours begin with: whether a proxy has taken it away could not be told.

    Raises: SettingsError.
    """
    for path in paths:
        if prefix and path.startswith(f"{prefix}/"):
            raise SettingsError(f"{variable('root_path')}: {path} is a path of the service itself; use another prefix")
