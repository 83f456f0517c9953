from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import Scope

from service.app import create_app
from service.errors import DrainingError, UnauthorizedError
from service.http.gate import Gate, Lifecycle
from service.settings import Settings

KEYS = ("first-key", "second-key")


def scope(path: str = "/qa", authorization: str | None = None) -> Scope:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return {"type": "http", "path": path, "headers": headers}


@pytest.fixture
def guarded(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(**settings.model_dump() | {"api_keys": ",".join(KEYS)}))) as client:
        yield client


@pytest.mark.parametrize("authorization", ["Bearer first-key", "bearer second-key", "Bearer  first-key "])
def test_a_key_lets_in(authorization: str) -> None:
    Gate(Lifecycle(), KEYS).check(scope(authorization=authorization))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer first-ke", "Bearer first-key second-key", "Basic first-key", "first-key"],
)
def test_all_else_is_refused(authorization: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        Gate(Lifecycle(), KEYS).check(scope(authorization=authorization))


def test_without_keys_everybody_is_let_in() -> None:
    Gate(Lifecycle()).check(scope())


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"])
def test_health_and_metrics_stay_open(path: str) -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    Gate(lifecycle, KEYS).check(scope(path))


@pytest.mark.parametrize("path", ["/", "/playground/app.js"])
def test_the_page_where_a_key_is_typed_in_needs_none(path: str) -> None:
    Gate(Lifecycle(), KEYS).check(scope(path))
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    with pytest.raises(DrainingError):
        Gate(lifecycle, KEYS).check(scope(path))


def test_nobody_is_let_in_while_the_service_drains() -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    with pytest.raises(DrainingError):
        Gate(lifecycle, KEYS).check(scope(authorization="Bearer first-key"))


@pytest.mark.parametrize("path", ["/qa", "/info", "/docs", "/openapi.json", "/nowhere", "/playground", "/health/live/"])
def test_a_request_without_a_key_is_told_how_to_send_one(guarded: TestClient, path: str) -> None:
    response = guarded.get(path)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="halfdepth"'
    assert not any(key in response.text for key in KEYS)


def test_a_request_with_a_key_is_answered(guarded: TestClient) -> None:
    body = {"question": "where?", "context": "in Paris"}
    assert guarded.post("/qa", json=body, headers={"Authorization": f"Bearer {KEYS[1]}"}).status_code == 200
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert guarded.get(path).status_code == 200


def test_a_service_that_serves_refuses_nothing() -> None:
    lifecycle = Lifecycle()
    lifecycle.check_ready()
    lifecycle.check_open()


def test_a_service_that_leaves_is_not_ready_but_takes_requests() -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "leaving"
    lifecycle.check_open()
    with pytest.raises(DrainingError) as caught:
        lifecycle.check_ready()
    assert caught.value.retry_after_s == 1.0


def test_a_service_that_drains_refuses() -> None:
    lifecycle = Lifecycle()
    lifecycle.phase = "draining"
    with pytest.raises(DrainingError) as caught:
        lifecycle.check_open()
    assert caught.value.retry_after_s == 1.0
