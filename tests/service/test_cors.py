from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-deadline-ms",
}


def shared(settings: Settings, **fields: object) -> TestClient:
    return TestClient(create_app(Settings(**settings.model_dump() | {"cors_origins": [ORIGIN]} | fields)))


def test_other_origins_are_not_let_in_by_default(client: TestClient) -> None:
    assert "access-control-allow-origin" not in client.get("/health/live", headers={"Origin": ORIGIN}).headers
    assert client.options("/qa", headers=PREFLIGHT).status_code == 405


def test_an_origin_that_is_set_may_ask_and_read(settings: Settings) -> None:
    response = shared(settings).get("/info", headers={"Origin": ORIGIN})
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "Server-Timing" in response.headers["access-control-expose-headers"]


def test_a_preflight_needs_no_key_and_has_an_id(settings: Settings) -> None:
    response = shared(settings, api_keys="secret").options("/qa", headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    assert len(response.headers["x-request-id"]) == 32


def test_a_refusal_may_be_read_too(settings: Settings) -> None:
    response = shared(settings, api_keys="secret").post("/qa", headers={"Origin": ORIGIN}, json={})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == ORIGIN


def test_another_origin_is_refused(settings: Settings) -> None:
    response = shared(settings).options("/qa", headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers
