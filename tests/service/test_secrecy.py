"""What a caller sends, a key or what an exception says must show in no answer and no log line: canaries are sent."""

import io
import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import build as qa_task
from service.app import create_app
from service.engine.engine import Engine
from service.engine.model import Model
from service.routes import ROUTES
from service.settings import Settings
from service.telemetry.logs import JsonFormatter, TextFormatter
from tests.server import connect, serve
from tests.service.conftest import FakeSession

CANARY = "canary"
KEY = f"key-{CANARY}-key"
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
INFER = ["/v2/models/qa/infer", f"/v2/models/{CANARY}/infer", f"/v2/models/qa/versions/{CANARY}/infer"]
HEADERS = {
    "Inference-Header-Content-Length": CANARY,
    "X-Request-ID": f"{CANARY} {CANARY}",
    "traceparent": CANARY,
    "X-Deadline-Ms": CANARY,
    "User-Agent": CANARY,
    "Cookie": CANARY,
}


def requests(client: httpx.Client) -> Iterator[httpx.Response]:
    for path in [*(row.path for row in ROUTES), *INFER]:
        for body in BODIES:
            json_type = HEADERS | {"Content-Type": "application/json"}
            yield client.post(path, content=body, headers=json_type)
            yield client.post(path, content=body, headers=json_type | {"Authorization": f"Bearer {CANARY}"})
        yield client.post(f"{path}?{CANARY}={CANARY}", content=BODIES[0], headers={"Content-Type": f"text/{CANARY}"})
        yield client.put(path, content=BODIES[0])
    for path in (
        f"/{CANARY}",
        f"/hf/{CANARY}",
        f"/v1/{CANARY}",
        f"/v2/{CANARY}",
        f"/v2/models/{CANARY}",
        f"/v2/models/qa/versions/{CANARY}/ready",
        f"/docs/files/{CANARY}",
        f"/docs/files/../../{CANARY}",
    ):
        yield client.get(path, headers=HEADERS)
    for path in ("/info", "/metrics", "/health/ready", "/docs", "/openapi.json"):
        yield client.get(path, headers=HEADERS, params={CANARY: CANARY})


@pytest.mark.parametrize("form", ["json", "text"])
def test_nothing_that_was_sent_shows_in_an_answer_or_a_log_line(bundles: Path, tmp_path: Path, form: str) -> None:
    variables = {"API_KEYS": KEY, "LOG_FORMAT": form, "DRAIN_SECONDS": "0", "MAX_BODY_BYTES": "10000"}
    with serve(bundles, tmp_path / "log", **variables) as (process, url):
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            for answer in requests(client):
                told = str(answer.headers)
                if not (answer.is_success and "answer" in answer.text):  # a span of the caller's text is what she wants
                    told += answer.text
                assert CANARY not in told, answer.request.url
        with connect(url) as connection:
            connection.sendall(f"{CANARY} / {CANARY}\r\n\r\n".encode())
            assert CANARY.encode() not in connection.recv(10_000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    log = (tmp_path / "log").read_text()
    assert len(log.splitlines()) > 100
    assert CANARY not in log


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
