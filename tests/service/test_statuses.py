"""Every status and code of the table in the documentation, produced."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.qa import build as qa_task
from service.app import create_app
from service.engine.engine import Engine
from service.engine.errors import DeadlineExceededError, QueueFullError, ServiceError
from service.engine.model import Model
from service.errors import STATUSES
from service.http.gate import Lifecycle
from service.settings import Settings
from tests.service.conftest import FakeSession

ITEM = {"question": "where?", "context": "in Paris"}
JSON = {"Content-Type": "application/json"}


Run = Callable[[Features], Outputs]


@pytest.fixture
def make(settings: Settings, bundles: Path) -> Callable[..., TestClient]:
    """A client of a service whose runs do what a test wants."""

    def client(act: Run | None = None, phase: str = "serving", **fields: object) -> TestClient:
        bundle = load_bundle(bundles / "qa")
        model = Model(bundle, qa_task(bundle), FakeSession(act or fail(RuntimeError())))
        lifecycle = Lifecycle()
        lifecycle.phase = "draining" if phase == "draining" else "serving"
        engine = Engine([model])
        if phase == "closed":
            engine.close()
        return TestClient(create_app(Settings(**settings.model_dump() | fields), engine, lifecycle=lifecycle))

    return client


def fail(error: Exception) -> Run:
    def run(_: Features) -> Outputs:
        raise error

    return run


def produced(make: Callable[..., TestClient]) -> Iterator[tuple[int, str]]:
    client = make()
    full = QueueFullError(wait_ms=3_000.0, retry_after_s=2.0)
    late = DeadlineExceededError()
    for response in (
        client.post("/qa", content=b"{", headers=JSON),
        make(api_keys="secret").post("/qa", json=ITEM),
        client.get("/nowhere"),
        client.post("/classify", json={"text": "in Paris"}),
        client.get("/qa"),
        client.post("/qa", content=b" " * 10_001, headers=JSON),
        client.post("/qa", content=b"{}"),
        client.post("/qa", json={}),
        client.post("/qa", json=ITEM | {"question": "a " * 100}),
        client.post("/qa", json=ITEM),
        make(fail(full)).post("/qa", json=ITEM),
        make(phase="draining").post("/qa", json=ITEM),
        make(phase="closed").post("/qa", json=ITEM),
        make(fail(late)).post("/qa", json=ITEM),
        make(fail(ServiceError("sorry"))).post("/qa", json=ITEM),
    ):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-request-id"] == response.json()["request_id"]
        assert ("retry-after" in response.headers) == (response.status_code == 503)
        yield response.status_code, response.json()["code"]


def test_every_error_of_the_tree_is_answered(make: Callable[..., TestClient]) -> None:
    assert sorted(produced(make)) == sorted((status, error.code) for error, status in STATUSES.items())
