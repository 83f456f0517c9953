"""What a caller sends, a key or what an exception says must show in no answer and no log line: canaries are sent."""

import io
import json
import logging
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import build as qa_task
from service.app import create_app
from service.engine.engine import Engine
from service.engine.model import Model
from service.routes import ROUTES, TaskRoute
from service.settings import Settings
from service.telemetry.logs import JsonFormatter, TextFormatter
from tests.server import connect, serve, serve_on_socket
from tests.service.conftest import FakeSession
from tests.service.telemetry.receiver import Receiver, receiver

CANARY = "canary"
KEY = f"key-{CANARY}-key"
LIMITS = {"API_KEYS": KEY, "DRAIN_SECONDS": "0", "MAX_BODY_BYTES": "10000"}
TEXT = f"she {CANARY} lives"
ITEM = {"question": TEXT, "context": TEXT}
BODIES: list[bytes] = [
    *(json.dumps(body).encode() for body in (
        ITEM,
        {"inputs": [ITEM]},
        {"inputs": ITEM},
        {"inputs": TEXT},
        {"inputs": [TEXT, TEXT]},
        {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}},
        {"input": [TEXT], "model": CANARY},
        {"input": TEXT, "model": CANARY, "encoding_format": CANARY},
        {"text": TEXT, "text_pair": TEXT, "on_overflow": CANARY},
        {"text": TEXT},
        {"source": TEXT, "targets": [TEXT]},
        {"source": TEXT * 100, "targets": [TEXT], "on_overflow": "error"},
        {"inputs": [{"name": name, "datatype": "BYTES", "shape": [1], "data": [TEXT]} for name in ITEM]},
        {"inputs": [{"name": CANARY, "datatype": CANARY, "shape": [1], "data": [{CANARY: TEXT}]}]},
        {f"{CANARY} {CANARY}": 1},
        {"question": TEXT * 100, "context": TEXT},
        {"question": [TEXT], "context": {CANARY + " ": TEXT}},
        [TEXT],
        TEXT,
    )),
    b'{"question": "%s' % TEXT.encode(),
    b'{"question": "\\ud800%s", "context": "%s"}' % (TEXT.encode(), TEXT.encode()),
    TEXT.encode() * 1_000,
]  # fmt: skip
HEADERS = {
    "Inference-Header-Content-Length": CANARY,
    "X-Amzn-SageMaker-Custom-Attributes": f"route={CANARY}",
    "X-Request-ID": f"{CANARY} {CANARY}",
    "traceparent": CANARY,
    "tracestate": f"{CANARY}={CANARY}",
    "baggage": f"{CANARY}={CANARY}",
    "X-Deadline-Ms": CANARY,
    "User-Agent": CANARY,
    "Cookie": CANARY,
}
JSON = {"Content-Type": "application/json"}
OURS = [row for row in ROUTES if row.is_ours]


def filled(content: Any) -> Any:  # JSON
    """The same with a canary in each text, which is what has a space; names of options and models have none."""
    match content:
        case str() if " " in content:
            return TEXT
        case list():
            return [filled(each) for each in content]
        case dict():
            return {name: filled(each) for name, each in content.items() if name != "model"}
    return content


def rows(path: str) -> list[TaskRoute]:
    """The rows whose bodies a path takes, whether it is theirs or another protocol's."""
    return [row for row in ROUTES if row.path == path] or OURS


def posts(path: str) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Right bodies of the route, wrong ones of every kind, and a right one with a canary in each header."""
    right = [
        (json.dumps(filled(example.request)).encode(), {"X-Amzn-SageMaker-Custom-Attributes": f"route={row.path}"})
        for row in rows(path)
        for example in row.examples.values()
    ]
    for body, header in right:
        yield path, body, JSON | header
    for body in BODIES:
        yield path, body, JSON
    for name, value in [*HEADERS.items(), ("Authorization", f"Bearer {CANARY}")]:
        yield path, right[0][0], JSON | {name: value}
    yield f"{path}?{CANARY}={CANARY}", right[0][0], {"Content-Type": f"text/{CANARY}"}


def requests(client: httpx.Client, routes: Iterable[BaseRoute]) -> Iterator[httpx.Response]:
    """Every route by itself, so that a new one needs no line here; and beside each a path that nobody serves."""
    for route in routes:
        assert isinstance(route, Route | APIRoute | Mount)
        for path in {re.sub(r"{\w+}", name, route.path) for name in ("qa", CANARY)}:
            if isinstance(route, Route | APIRoute) and "POST" in (route.methods or ()):
                for target, body, headers in posts(path):
                    yield client.post(target, content=body, headers=headers)
            for target in (path, f"{path}/{CANARY}", f"{path.rpartition('/')[0]}/{CANARY}", f"{path}/../../{CANARY}"):
                yield client.put(target, content=BODIES[0], headers=HEADERS)
                yield client.get(target, headers=HEADERS, params={CANARY: CANARY})
    for path in ("/info", "/metrics"):
        yield client.get(path)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Takes the spans of the services that start meanwhile."""
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000000")
        yield collector


def check(process: subprocess.Popen[str], client: httpx.Client, routes: Iterable[BaseRoute], log: Path) -> None:
    client.headers["Authorization"] = f"Bearer {KEY}"
    answered = set[str]()
    for answer in requests(client, routes):
        told = str(answer.headers)
        if answer.is_success and answer.request.method == "POST":  # with a span of the caller's text, as she wants
            answered.add(answer.request.url.path.removeprefix(client.base_url.path.rstrip("/")))
        else:
            told += answer.text
        assert CANARY not in told, answer.request.url
    assert answered == {*(row.path for row in ROUTES), "/invocations", "/v2/models/qa/infer"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    lines = log.read_text()
    assert len(lines.splitlines()) > 100
    assert CANARY not in lines


@pytest.mark.parametrize("variables", [{"LOG_FORMAT": "text"}, {"ROOT_PATH": "/models"}], ids=str)
def test_nothing_that_was_sent_shows_in_an_answer_a_log_line_or_a_span(
    bundles: Path, settings: Settings, collector: Receiver, tmp_path: Path, variables: dict[str, str]
) -> None:
    log = tmp_path / "log"
    with serve(bundles, log, **LIMITS, **variables) as (process, url):
        with connect(url) as connection:
            connection.sendall(f"{CANARY} / {CANARY}\r\n\r\n".encode())
            assert CANARY.encode() not in connection.recv(10_000)
        with httpx.Client(base_url=url + variables.get("ROOT_PATH", "")) as client:
            check(process, client, create_app(settings).routes, log)
    assert len(collector.spans) > 100
    assert CANARY not in str(collector.spans)


def test_nothing_that_was_sent_over_a_unix_socket_shows(bundles: Path, settings: Settings) -> None:
    with TemporaryDirectory() as folder:  # shorter than pytest's: a socket's path may have 107 characters
        path = Path(folder, "socket")
        with serve_on_socket(bundles, path, **LIMITS) as (process, client):
            check(process, client, create_app(settings).routes, path.with_suffix(".log"))


def test_what_an_exception_says_stays_here(settings: Settings, bundles: Path) -> None:
    def fail(_: Features) -> Outputs:
        raise RuntimeError(CANARY) from ValueError(CANARY)

    bundle = load_bundle(bundles / "qa")
    model = Model(bundle, qa_task(bundle), FakeSession(fail))
    log = io.StringIO()
    handlers = [logging.StreamHandler(log), logging.StreamHandler(log)]
    for handler, formatter in zip(handlers, (JsonFormatter(), TextFormatter()), strict=True):
        handler.setFormatter(formatter)
        logging.getLogger("service").addHandler(handler)
    try:
        client = TestClient(create_app(settings, Engine([model])))
        body = {"question": "where?", "context": "in Paris"}
        answers = [
            client.post("/qa", json=body),
            client.post("/qa", json={"inputs": [body]}),
            client.post("/hf/question-answering", json={"inputs": body}),
        ]
    finally:
        for handler in handlers:
            logging.getLogger("service").removeHandler(handler)
    for answer in answers:
        assert answer.status_code == 500
        assert CANARY not in answer.text
    assert "RuntimeError" in log.getvalue()
    assert CANARY not in log.getvalue()
