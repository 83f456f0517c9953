"""Our own client, against a service that wants a key, and against things that are none."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from models.tasks.remote import client
from models.tasks.remote.client import KEY_VARIABLE, Client, ClientError, client_key, refusal

PROBLEM = {"title": "x", "status": 422, "detail": "question: must not be blank", "code": "invalid_request"}


class Handler(BaseHTTPRequestHandler):
    """Answers /fine, refuses /problem and all that has no key, and closes without an answer at /close.

    So it does at /silent, but only once `given_up` is set.
    """

    given_up = threading.Event()

    def do_POST(self) -> None:
        if self.path == "/silent":
            self.given_up.wait(10)
        if self.path in ("/close", "/silent"):
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, content = 200, json.dumps({"key": self.headers["authorization"], "body": body.decode()}).encode()
        if self.path == "/problem":
            status, content = 422, json.dumps(PROBLEM).encode()
        elif self.path == "/page":
            content = b"<html>"
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_a_key_comes_from_the_command_line_or_from_the_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert Client.of(url + "/", None).get("/fine")["key"] is None
    monkeypatch.setenv(KEY_VARIABLE, "second ")
    assert Client.of(url, "first").get("/fine")["key"] == "Bearer first"
    assert Client.of(url, None).post("/fine", {"a": 1}) == {"key": "Bearer second", "body": '{"a": 1}'}


@pytest.mark.parametrize("key", ["canary key", "can\nary", "canäry"])
def test_a_key_that_cannot_be_is_not_repeated(key: str) -> None:
    with pytest.raises(ClientError) as caught:
        client_key(key)
    text = "the API key has characters that no key has; give it by --api-key or HALFDEPTH_CLIENT_KEY"
    assert str(caught.value) == text


def test_a_refusal_is_told_in_the_service_s_own_words(url: str) -> None:
    with pytest.raises(ClientError, match=r"/problem: 422: question: must not be blank$"):
        Client(url).post("/problem", {})


@pytest.mark.parametrize("path", ["/page", "/close"])
def test_what_is_no_service_is_told_in_one_line(url: str, path: str) -> None:
    with pytest.raises(ClientError, match="http") as caught:
        Client(url).get(path)
    assert "\n" not in str(caught.value)


def test_a_service_that_stays_silent_is_not_waited_for_without_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.1)
    with pytest.raises(ClientError, match=rf"^{url}: .*timed out; start the service"):
        Client(url).get("/silent")
    Handler.given_up.set()


def test_a_service_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(ClientError, match=r":9: Connection refused; start the service"):
        Client("http://127.0.0.1:9").get("/info")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"detail": "a problem"}, "400: a problem"),
        ({"error": "of the hub", "error_type": "x"}, "400: of the hub"),
        ({"error": {"message": "of\nopenai"}}, "400: of openai"),
        ({"detail": [{"msg": "of another service"}]}, '400: {"detail": [{"msg": "of another service"}]}'),
        (["x" * 300], '400: ["' + "x" * 198),
    ],
)
def test_the_sentence_of_every_form_is_found(body: object, sentence: str) -> None:
    assert refusal(400, json.dumps(body).encode()) == sentence


def test_other_errors_have_at_least_their_name() -> None:
    assert refusal(502, b"<html>") == "502: Bad Gateway"
    assert refusal(500, b"caf\xe9") == "500: caf\ufffd"
    assert refusal(599, b"") == "599: without a word"
    assert refusal(401, b"") == f"401: Unauthorized; --api-key and {KEY_VARIABLE} send one"
