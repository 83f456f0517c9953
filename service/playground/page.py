"""Serves the playground at `/`: one page that calls the routes of this server, and its files."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # a page must not meet the scripts of another release
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def playground_routes() -> list[Route]:
    """Read the files, once, since they are small. Starlette's routes stay out of the OpenAPI document."""
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return [_route("/" if path.name == "index.html" else f"/playground/{path.name}", path) for path in files]


def _route(url: str, path: Path) -> Route:
    content, media_type = path.read_bytes(), MEDIA_TYPES[path.suffix]

    async def endpoint(_: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=media_type)

    return Route(url, endpoint, methods=["GET"])
