"""Serves the page for questions on the device, with bundles beside it, and takes its reports."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from loadtest.process import ROOT, LoadTestError

PAGE = ROOT / "deploy" / "on-device"
MODULES = PAGE / "node_modules"
LIBRARY = MODULES / "@huggingface" / "transformers" / "dist" / "transformers.min.js"
MAX_REPORT = 1 << 16  # bytes

Report = dict[str, Any]
"""JSON of the page: a row, an error, or that it is done."""


class Pages(ThreadingHTTPServer):
    """Listens on a free port of this machine alone. `reports` holds what was posted to /report, in order.

    Queue has a lock of its own; nothing else changes after the start.
    """

    daemon_threads = True

    def __init__(self, bundles: Mapping[str, Path], page: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bundles, self.page = bundles, page
        self.reports: Queue[Report] = Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    """Maps /NAME/FILE to the page's files, and /bundles/NAME/FILE to those of a bundle."""

    server: Pages

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if urlsplit(self.path).path != "/report" or length > MAX_REPORT:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.server.reports.put(json.loads(self.rfile.read(length)))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def translate_path(self, path: str) -> str:
        """Find the file of a URL's path; whatever leads out of the page and the bundles is not there."""
        parts = [part for part in unquote(urlsplit(path).path).split("/") if part not in ("", ".")]
        root = self.server.page
        if parts[:1] == ["bundles"]:
            root, parts = self.server.bundles.get("".join(parts[1:2]), Path("/nowhere")), parts[2:]
        return str(Path("/nowhere") if ".." in parts else root.joinpath(*parts))

    def list_directory(self, path: object) -> None:  # noqa: ARG002  # the base class's own signature
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *arguments: Any) -> None:  # the base class's own signature
        pass


@contextmanager
def serve_pages(bundles: Mapping[str, Path], page: Path = PAGE) -> Iterator[Pages]:
    """Serve until the block ends. `bundles`: names to directories.

    Raises: LoadTestError if the page is not there, or its library is not installed.
    """
    if not (page / "index.html").is_file():
        raise LoadTestError(f"{page} does not hold the page; run this in a checkout of halfdepth")
    if page == PAGE and not LIBRARY.is_file():
        command = "npm ci --ignore-scripts --prefix deploy/on-device"
        raise LoadTestError(f"transformers.js is not installed beside the page; run `{command}` in {ROOT}")
    with Pages(bundles, page) as pages:
        thread = Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield pages
        finally:
            pages.shutdown()
            thread.join()
