import logging
from collections.abc import Awaitable, Callable
from typing import Literal

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.engine.errors import CallerGoneError
from service.http.gate import Gate, Lifecycle
from service.http.middleware import RequestMiddleware
from service.settings import Settings
from service.telemetry.context import current_request
from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics

App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("secret")


async def deserted(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ClientDisconnect


async def given_up(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise CallerGoneError


async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret")


def wrap(app: App, lifecycle: Lifecycle | None = None) -> RequestMiddleware:
    metrics = Metrics([], queue_ms=lambda: 0, in_flight=lambda: 0)
    return RequestMiddleware(app, gate=Gate(lifecycle or Lifecycle()), journal=Journal(metrics))


def client(app: App) -> TestClient:
    return TestClient(wrap(app))


async def returned_id(*offered: bytes) -> str:
    """The X-Request-ID of the answer to a request with these, byte by byte as a server would hand them on."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nobody reads the body")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"x-request-id", value) for value in offered]
    await wrap(PlainTextResponse("fine"))({"type": "http", "path": "/", "headers": headers}, receive, send)
    id_ = dict(sent[0]["headers"])[b"x-request-id"]
    assert isinstance(id_, bytes)
    return id_.decode()


@pytest.mark.anyio
@pytest.mark.parametrize("offered", ["caller-1", "a", "A-Z_0.9", "x" * 128])
async def test_the_caller_s_id_comes_back(offered: str) -> None:
    assert await returned_id(offered.encode()) == offered


@pytest.mark.anyio
@pytest.mark.parametrize("offered", ["", "x" * 129, "a b", "a\n", "é", "<script>"])
async def test_an_unsafe_id_is_replaced(offered: str) -> None:
    assert len(await returned_id(offered.encode())) == 32


@pytest.mark.anyio
async def test_a_request_without_an_id_gets_one_and_of_two_the_first_counts() -> None:
    assert len(await returned_id()) == 32
    assert await returned_id(b"first", b"second") == "first"


@pytest.mark.anyio
async def test_blanks_behind_an_id_do_not_belong_to_it() -> None:
    assert await returned_id(b"first \t") == "first"  # RFC 9110, 5.5; the parser leaves them there


def test_a_crash_is_answered_with_a_problem_and_its_id() -> None:
    response = client(broken).get("/")
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


def test_a_crash_after_the_answer_began_is_left_to_the_server() -> None:
    with pytest.raises(RuntimeError, match="secret"):
        client(half).get("/")


@pytest.mark.parametrize("app", [deserted, given_up])  # while the body is read, or while the engine works
def test_a_caller_who_left_is_logged_as_such(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.access")
    with pytest.raises(AssertionError):  # the test client misses its answer
        client(app).get("/")
    assert [record.__dict__["data"]["status"] for record in caplog.records] == [499]


def test_a_path_without_a_route_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "service.access")
    client(PlainTextResponse("fine")).get("/canary?canary=canary")
    assert len(caplog.records) == 1
    assert "canary" not in str(caplog.records[0].__dict__)


@pytest.mark.parametrize("app", [PlainTextResponse("fine"), broken])
def test_a_request_is_in_flight_until_it_is_answered(app: App) -> None:
    lifecycle = Lifecycle()
    seen = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(lifecycle.in_flight)
        await app(scope, receive, send)

    TestClient(wrap(watched, lifecycle)).get("/")
    assert (seen, lifecycle.in_flight) == ([1], 0)


@pytest.mark.parametrize(("sent", "known"), [(["one"], "one"), (["one "], "one"), (["one", "one"], ","), ([], None)])
def test_the_caller_s_trace_is_kept_for_the_log_lines_if_there_is_one(sent: list[str], known: str | None) -> None:
    seen = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_request.get().traceparent)
        await PlainTextResponse("fine")(scope, receive, send)

    client(watched).get("/", headers=[("traceparent", value) for value in sent])
    assert seen == [known]


def test_a_refused_request_is_logged_and_never_reaches_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "service.access")
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    response = TestClient(wrap(broken, lifecycle)).post("/qa")
    assert (response.status_code, response.json()["code"]) == (503, "draining")
    (record,) = caplog.records
    assert record.__dict__["data"] == {"method": "POST", "status": 503, "code": "draining"}


GET_PATHS = ["/health/live", "/health/ready", "/info", "/docs", "/openapi.json", "/", "/playground/app.js"]
GET_PATHS += ["/health", "/ping", "/metrics", "/v1/models", "/docs/files/swagger-ui.css"]
GET_PATHS += ["/v2", "/v2/health/live", "/v2/health/ready"]
MODEL_PATHS = {f"/v2/models/qa{version}{ready}" for version in ("", "/versions/{version}") for ready in ("", "/ready")}


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_answered_as_get_without_the_body(client: TestClient, path: str) -> None:
    expected, response = client.get(path), client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == expected.headers["content-type"]
    if path != "/metrics":  # which have grown
        assert response.headers["content-length"] == str(len(expected.content))


def test_every_get_route_is_asked_by_head_here(settings: Settings) -> None:
    routes = {getattr(route, "path", ""): getattr(route, "methods", None) for route in create_app(settings).routes}
    got = {path.replace("{name}", "qa") for path, methods in routes.items() if methods is None or "GET" in methods}
    assert got - {"/docs/files"} - MODEL_PATHS <= {
        *GET_PATHS,
        *(path for path in got if path.startswith("/playground/")),
    }


def test_head_meets_no_route_where_get_meets_none(client: TestClient) -> None:
    assert client.head("/nowhere").status_code == 404
    assert (client.head("/qa").status_code, client.head("/qa").headers["allow"]) == (405, "POST")
    assert client.post("/health/live").headers["allow"] == "GET, HEAD"


def test_head_is_logged_as_what_it_is(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.access")
    TestClient(create_app(settings)).head("/info")
    record = caplog.records[-1]
    assert record.__dict__["data"] == {"method": "HEAD", "route": "/info", "status": 200}


LEAVING: list[tuple[str, str, int]] = [
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 503),
    ("HEAD", "/health/live", 200),
    ("GET", "/metrics", 200),
    ("GET", "/docs/files/swagger-ui.css", 200),
    ("GET", "/nowhere", 404),
    ("GET", "/qa", 405),
    ("POST", "/qa", 415),
    ("OPTIONS", "/qa", 200),  # a preflight
]


@pytest.mark.parametrize("phase", ["leaving", "draining"])
@pytest.mark.parametrize(("method", "path", "status"), LEAVING)
def test_every_answer_closes_its_connection_from_the_signal_on(
    settings: Settings, method: str, path: str, status: int, phase: Literal["leaving", "draining"]
) -> None:
    lifecycle = Lifecycle()
    app = create_app(Settings(**settings.model_dump() | {"cors_origins": [ORIGIN]}), lifecycle=lifecycle)
    headers = PREFLIGHT if method == "OPTIONS" else {}
    assert "connection" not in TestClient(app).request(method, path, headers=headers).headers
    lifecycle.phase = phase
    response = TestClient(app).request(method, path, headers=headers)
    assert response.headers.get_list("connection") == ["close"]
    assert response.status_code == status or phase == "draining"


ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-encoding, content-type, x-deadline-ms, "
    "inference-header-content-length, traceparent, tracestate",
}


def shared(settings: Settings, **fields: object) -> TestClient:
    return TestClient(create_app(Settings(**settings.model_dump() | {"cors_origins": [ORIGIN]} | fields)))


def test_other_origins_are_not_let_in_by_default(client: TestClient) -> None:
    assert "access-control-allow-origin" not in client.get("/health/live", headers={"Origin": ORIGIN}).headers
    assert client.options("/qa", headers=PREFLIGHT).status_code == 405


def test_an_origin_that_is_set_may_ask_and_read(settings: Settings) -> None:
    response = shared(settings).get("/info", headers={"Origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == ORIGIN
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"Server-Timing", "Inference-Header-Content-Length"} <= set(exposed)


def test_a_preflight_needs_no_key_and_has_an_id(settings: Settings) -> None:
    response = shared(settings, api_keys="secret").options("/qa", headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert len(response.headers["x-request-id"]) == 32


def test_a_refusal_may_be_read_too(settings: Settings) -> None:
    response = shared(settings, api_keys="secret").post("/qa", headers={"Origin": ORIGIN}, json={})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == ORIGIN


def test_another_origin_is_refused(settings: Settings) -> None:
    response = shared(settings).options("/qa", headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers
