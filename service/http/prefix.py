"""Serves under a prefix of paths, whether the proxy in front takes it away or not."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.telemetry.context import RequestContext


class Prefix:
    """Takes HALFDEPTH_ROOT_PATH off the paths that begin with it; others are served as they are.

    The pages' links are relative, so that `/prefix` itself is sent on to `/prefix/`.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """`prefix` begins with a slash, and does not end with one."""
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path == self._prefix and scope["method"] in ("GET", "HEAD"):
                response = RedirectResponse(f"{self._prefix}/", headers={"X-Request-ID": RequestContext().id})
                await response(scope, receive, send)
                return
            if path.startswith(f"{self._prefix}/"):
                scope["path"] = path.removeprefix(self._prefix)
                scope["raw_path"] = scope["path"].encode()
        await self._app(scope, receive, send)
