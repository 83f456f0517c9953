"""`GET /`: one page that asks this server's own routes, and the files that it loads."""

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
    "Cache-Control": "no-cache",  # a page of one release with the scripts of another would be a riddle
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def playground_routes() -> list[Route]:
    """Read once, here: the files are small, and a route of Starlette's own stays out of the OpenAPI document."""
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return [_route("/" if path.name == "index.html" else f"/playground/{path.name}", path) for path in files]


def _route(url: str, path: Path) -> Route:
    content, media_type = path.read_bytes(), MEDIA_TYPES[path.suffix]

    async def endpoint(_: Request) -> Response:
        return Response(content, headers=HEADERS, media_type=media_type)

    return Route(url, endpoint, methods=["GET"])
