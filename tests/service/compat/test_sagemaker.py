import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from service.__main__ import without_word
from service.app import create_app
from service.settings import Settings
from tests.server import serve
from tests.service.conftest import write_bundle

ITEM = {"question": "where?", "context": "she lives in Paris."}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[TestClient]:
    """A service with one task."""
    write_bundle(tmp_path / "qa")
    with TestClient(create_app(Settings(bundles=tmp_path, threads=1))) as client:
        yield client


def test_a_container_with_one_route_is_invoked_in_its_form(alone: TestClient) -> None:
    assert alone.get("/ping").status_code == 200
    answer = alone.post("/invocations", json=ITEM)
    assert answer.json()["answers"] == alone.post("/qa", json=ITEM).json()["answers"]
    assert "inference" in answer.headers["server-timing"]
    refused = alone.post("/invocations", json={"question": "where?"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert alone.get("/invocations").status_code == 405
    metrics = alone.get("/metrics").text
    assert 'halfdepth_requests_total{model="qa",status="200",task="qa"} 2.0' in metrics


def test_with_several_routes_an_attribute_names_the_one(client: TestClient) -> None:
    for attributes in ("route=/embed", "trace=1, route=embed"):
        answer = client.post("/invocations", json={"inputs": "Paris"}, headers={ATTRIBUTES: attributes})
        assert len(answer.json()["embeddings"]) == 1


@pytest.mark.parametrize("attributes", [None, "", "route=/nowhere", "route=/v1/embeddings", "colour=blue"])
def test_without_a_route_all_are_named(client: TestClient, attributes: str | None) -> None:
    headers = {} if attributes is None else {ATTRIBUTES: attributes}
    refused = client.post("/invocations", json=ITEM, headers=headers)
    assert refused.status_code == 422
    assert refused.json()["detail"] == (
        f"{ATTRIBUTES}: name one of the routes of this container, as in route=/qa: "
        "/qa, /classify, /similarity, /embed, /rerank, /entities"
    )


def test_the_word_serve_that_every_container_is_started_with_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert without_word(["serve"]) == []
    assert without_word(["serve", "org/name"]) == ["org/name"]
    assert without_word(["org/name", "serve"]) == ["org/name", "serve"]
    (tmp_path / "serve").mkdir()
    assert without_word(["serve"]) == ["serve"]


def test_a_container_is_started_as_sagemaker_does_and_pinged_while_it_drains(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    with serve(tmp_path, API_KEYS="secret", DRAIN_SECONDS="600") as (process, url):
        assert httpx.get(f"{url}/ping").status_code == 200  # without a key, which SageMaker has no way to send
        process.send_signal(signal.SIGTERM)
        while httpx.get(f"{url}/ping").status_code == 200:
            pass
        assert httpx.get(f"{url}/health").json()["code"] == "draining"
