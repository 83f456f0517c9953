"""Answers what is not a task: health, versions, metrics, and Swagger UI over the OpenAPI document.

FastAPI's `/docs` loads Swagger UI from a CDN: without a network the page stays blank, and the CDN's script could read
what is typed there. Here its files come from the package fastapi-offline, of which nothing else is used.
"""

import base64
import hashlib
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from models.tasks.qa import QuestionAnswering
from service.compat.forms import OPENAI
from service.compat.openai import ModelList, model_list
from service.docs.examples import OPENAI_MODELS
from service.docs.openapi import CLIENTS, OPERATION, failures, success
from service.engine.engine import Engine
from service.engine.errors import NotReadyError
from service.engine.model import Model
from service.errors import DrainingError, UnauthorizedError
from service.http.gate import Lifecycle
from service.responses import BundleInfo, Cost, Health, HubInfo, Info, LoneRunsInfo, ReloadInfo
from service.startup.reload import Reload
from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics

LIBRARIES = ("halfdepth", "onnxruntime", "tokenizers")
DOCS = Mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))
READY = ("/health/ready", "/health", "/ping")
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});'
START_DIGEST = base64.b64encode(hashlib.sha256(START.encode()).digest()).decode()
PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>halfdepth</title>
<link rel="stylesheet" href="docs/files/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="docs"></div>
<script src="docs/files/swagger-ui-bundle.js"></script>
<script>{START}</script>
</body>
</html>
"""
HEADERS = {
    # Swagger UI sets inline styles and draws its icons from data: URLs.
    "Content-Security-Policy": f"default-src 'none'; script-src 'self' 'sha256-{START_DIGEST}'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Pages:
    """Holds the endpoints that do not depend on the tasks that are served."""

    def __init__(
        self,
        engine: Engine,
        lifecycle: Lifecycle,
        metrics: Metrics,
        journal: Journal,
        last_reload: Callable[[], Reload | None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._journal = journal
        self._last_reload = last_reload
        # Read once: each is in a file, which a process without free descriptors cannot open.
        self._versions = {name: installed_version(name) for name in LIBRARIES} | {"python": platform.python_version()}

    def routes(self) -> list[BaseRoute]:
        readiness_failures = failures(NotReadyError, DrainingError)
        access_failures = failures(UnauthorizedError, DrainingError)
        return [
            *(
                APIRoute(
                    path, self.ready, tags=[OPERATION], response_model=Health, responses=success() | readiness_failures
                )
                for path in READY
            ),
            APIRoute(
                "/health/live", self.live, tags=[OPERATION], response_model=Health, responses=success() | failures()
            ),
            APIRoute(
                "/metrics",
                self.metrics,
                tags=[OPERATION],
                response_class=PlainTextResponse,
                responses=success() | failures(),
            ),
            APIRoute("/info", self.info, tags=[OPERATION], response_model=Info, responses=success() | access_failures),
            APIRoute(
                "/v1/models",
                self.models,
                tags=[CLIENTS],
                response_model=ModelList,
                responses=success() | failures(UnauthorizedError, DrainingError, form=OPENAI),
                openapi_extra={"responses": {"200": {"content": {"application/json": {"example": OPENAI_MODELS}}}}},
            ),
            APIRoute("/docs", self.docs, include_in_schema=False),
            DOCS,
        ]

    async def live(self) -> Response:
        """Tell whether the process runs."""
        return _json(Health().model_dump_json())

    async def ready(self) -> Response:
        """Tell whether the service accepts requests."""
        self._lifecycle.check_ready()
        self._engine.check_ready()
        return _json(Health().model_dump_json())

    async def info(self) -> Response:
        """List versions, loaded bundles and numbers of threads."""
        last = self._last_reload()
        info = Info(
            versions=self._versions,
            threads=self._engine.threads,
            workers=self._engine.queue.cores,
            bundles=[self._bundle_info(model) for model in self._engine.models],
            last_reload=ReloadInfo(at=last.at, errors=list(last.errors)) if last else None,
        )
        return _json(info.model_dump_json())

    async def models(self) -> Response:
        """List the loaded models, the default of a task before its others."""
        return _json(model_list(self._engine.models).model_dump_json())

    async def metrics(self, request: Request) -> Response:
        """Write counters, histograms and gauges for Prometheus."""
        self._journal.write()
        content, media_type = self._metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    async def docs(self) -> Response:
        return HTMLResponse(PAGE, headers=HEADERS)

    def _bundle_info(self, model: Model) -> BundleInfo:
        bundle, task = model.bundle, model.task
        return BundleInfo(
            task=bundle.task,
            directory=bundle.directory,
            hub=HubInfo(**asdict(bundle.origin)) if bundle.origin else None,
            default=self._engine.model(bundle.task) is model,
            name=bundle.name,
            revision=bundle.revision,
            precision=bundle.precision,
            file=bundle.file,
            loaded_at=model.loaded_at,
            no_answer=task.abstains if isinstance(task, QuestionAnswering) else None,
            lone_runs=[
                LoneRunsInfo(
                    up_to_tokens=lengths.up_to, threads=lengths.threads, runs=lengths.runs, changed=lengths.changed
                )
                for lengths in model.lone.ranges()
            ],
            cost=Cost(fixed_ms=round(model.costs.fixed_ms, 4), ms_per_token=round(model.costs.ms_per_token, 5)),
        )


def _json(content: str) -> Response:
    return Response(content, media_type="application/json")


def installed_version(distribution: str) -> str:
    """Tell the version of a library, or of halfdepth itself."""
    try:
        return version(distribution)
    except PackageNotFoundError:  # halfdepth run from a checkout that was never installed
        return "not installed"
