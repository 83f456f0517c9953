import logging
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from service.context import current_request
from service.gate import Gate
from service.journal import Journal
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.middleware import RequestMiddleware

App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("secret")


async def deserted(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ClientDisconnect


async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret")


def wrap(app: App, lifecycle: Lifecycle | None = None) -> RequestMiddleware:
    metrics = Metrics([], queue_ms=lambda: 0, in_flight=lambda: 0)
    return RequestMiddleware(app, gate=Gate(lifecycle or Lifecycle()), journal=Journal(metrics))


def client(app: App) -> TestClient:
    return TestClient(wrap(app))


def test_the_caller_s_id_comes_back() -> None:
    response = client(PlainTextResponse("fine")).get("/", headers={"X-Request-ID": "caller-1"})
    assert response.headers["x-request-id"] == "caller-1"


def test_an_unsafe_id_is_replaced() -> None:
    response = client(PlainTextResponse("fine")).get("/", headers={"X-Request-ID": "a b"})
    assert len(response.headers["x-request-id"]) == 32


def test_a_crash_is_answered_with_a_problem_and_its_id() -> None:
    response = client(broken).get("/")
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


def test_a_crash_after_the_answer_began_is_left_to_the_server() -> None:
    with pytest.raises(RuntimeError, match="secret"):
        client(half).get("/")


def test_a_caller_who_left_is_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.access")
    with pytest.raises(AssertionError):  # the test client misses its answer
        client(deserted).get("/")
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


@pytest.mark.parametrize(("sent", "known"), [(["one"], "one"), (["one", "one"], ","), ([], None)])
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
