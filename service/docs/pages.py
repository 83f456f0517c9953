"""What is answered beside tasks and health: the metrics, and Swagger UI over the OpenAPI document.

FastAPI's own `/docs` loads Swagger UI from a CDN: without a network it stays white, and a CDN's script could read what
is typed there. The files come from the package fastapi-offline instead, of which nothing else is used.
"""

import base64
import hashlib

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics

DOCS = Mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))
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
    # Swagger UI sets styles of its own and draws its icons from data: URLs.
    "Content-Security-Policy": f"default-src 'none'; script-src 'self' 'sha256-{START_DIGEST}'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Pages:
    """The endpoints."""

    def __init__(self, metrics: Metrics, journal: Journal) -> None:
        self._metrics = metrics
        self._journal = journal

    async def metrics(self, request: Request) -> Response:
        """Counters, histograms and gauges for Prometheus."""
        self._journal.write()
        content, media_type = self._metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    async def docs(self) -> Response:
        return HTMLResponse(PAGE, headers=HEADERS)
