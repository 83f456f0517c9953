"""Stands in for the Hugging Face Hub: the part of its HTTP API that a download uses."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

INFO = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>.+)")
FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<commit>[^/]+)/(?P<file>.+)")
Files = Mapping[str, bytes]


class Hub(ThreadingHTTPServer):
    """Repositories with their commits, and the requests that came: method, path, and Range where there is one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits: dict[tuple[str, str], Files] = {}  # by repository and hash
        self.branches: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.tokens: set[str | None] = set()  # those that open what is gated
        self.cut: dict[str, int] = {}  # files whose transfer breaks off after so many bytes, once
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str, files: Path | Files, *names: str) -> str:
        """Put files on a repository's branches or tags, by default "main". Returns: the hash of the commit."""
        if isinstance(files, Path):
            files = {
                file.relative_to(files).as_posix(): file.read_bytes() for file in files.rglob("*") if file.is_file()
            }
        parts = [part for name, content in sorted(files.items()) for part in (name.encode(), content)]
        commit = hashlib.sha1(b"\0".join(parts)).hexdigest()  # noqa: S324 - git has such commits
        self.commits[repository, commit] = files
        for name in names or ("main",):
            self.branches[repository, name] = commit
        return commit

    def downloads(self) -> list[str]:
        return [request.partition("/resolve/")[2][41:] for request in self.requests if request.startswith("GET /org/")]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *arguments: Any) -> None:  # the base class's own signature
        pass

    def _answer(self, *, with_body: bool) -> None:
        span = self.headers["Range"]
        self.server.requests.append(" ".join(filter(None, [self.command, self.path, span])))
        if match := INFO.fullmatch(self.path):
            self._info(match["repository"], match["revision"].replace("%2F", "/"))
        elif match := FILE.fullmatch(self.path):
            self._file(match["repository"], match["commit"], match["file"], span, with_body=with_body)
        else:
            self._refuse(404, "EntryNotFound")

    def _info(self, repository: str, revision: str) -> None:
        hub = self.server
        token = self.headers["Authorization"]
        if repository not in {name for name, _ in hub.commits}:
            return self._refuse(401, "RepoNotFound")  # as the Hub answers to whoever has no token
        commit = hub.branches.get((repository, revision), revision)
        if repository in hub.gated and token not in hub.tokens:
            return self._refuse(401 if token is None else 403, "GatedRepo")
        if (repository, commit) not in hub.commits:
            return self._refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": file} for file in hub.commits[repository, commit]]
        return self._send(200, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode())

    def _file(self, repository: str, commit: str, file: str, span: str | None, *, with_body: bool) -> None:
        hub = self.server
        content = hub.commits[repository, commit].get(file)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        first = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        if span:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        limit = hub.cut.pop(file, None) if with_body else None
        return self._send(206 if span else 200, content[first:], headers, with_body=with_body, limit=limit)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        with_body: bool = True,
        limit: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[:limit])
        self.close_connection = limit is not None


@contextmanager
def hub() -> Iterator[Hub]:
    """On a free port, until the block ends."""
    with Hub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
