"""Browsers on other origins, where HALFDEPTH_CORS_ORIGINS lets them in."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from service.context import RequestContext

REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-ID", "X-Deadline-Ms", "traceparent")
RESPONSE_HEADERS = ("X-Request-ID", "Server-Timing", "Retry-After")


class Cors(CORSMiddleware):
    """Starlette's; around all else, so that refusals may be read too."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=REQUEST_HEADERS,
            expose_headers=RESPONSE_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answered before any key is asked for, since a browser sends none; with an id of its own, as every answer."""
        response = super().preflight_response(request_headers)
        response.headers["X-Request-ID"] = RequestContext().id
        return response
