"""A service behind a proxy that gives it a prefix of paths."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings, SettingsError

PREFIX = "/models/tiny"
ITEM = {"question": "where?", "context": "she lives in Paris."}


@pytest.fixture
def client(bundles: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(bundles=bundles, threads=1, root_path=PREFIX))) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", PREFIX], ids=["stripped", "kept"])
def test_every_kind_of_path_is_served_whether_the_proxy_strips_the_prefix_or_not(
    client: TestClient, prefix: str
) -> None:
    answer = client.post(f"{prefix}/qa", json=ITEM)
    assert answer.json()["answers"][0]["text"] == "Paris"
    for path in ("/health/ready", "/metrics", "/info", "/v1/models", "/openapi.json", "/docs", "/"):
        assert client.get(f"{prefix}{path}").status_code == 200, path
    assert client.head(f"{prefix}/health/live").status_code == 200
    assert client.post(f"{prefix}/v1/embeddings", json={"input": 1}).json()["error"]["type"] == "invalid_request_error"
    assert client.get(f"{prefix}/nowhere").json()["code"] == "not_found"


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_links_of_pages_lead_to_what_is_there_under_the_prefix(client: TestClient, page: str) -> None:
    text = client.get(f"{PREFIX}{page}").text
    links = [link for link in re.findall(r'(?:href|src)="([^"]+)"', text) if not link.startswith("data:")]
    assert links
    for link in links:
        assert not link.startswith(("/", "http"))
        assert client.get(f"{PREFIX}/{link}").status_code == 200, link


@pytest.mark.parametrize("prefix", ["/health", "/v1", "/v2/models", "/hf", "/docs"])
def test_a_prefix_that_paths_of_ours_begin_with_is_refused(bundles: Path, prefix: str) -> None:
    with pytest.raises(SettingsError, match=rf"HALFDEPTH_ROOT_PATH: {prefix}/\S+ is a path of the service itself"):
        create_app(Settings(bundles=bundles, threads=1, root_path=prefix))


def test_the_prefix_alone_leads_to_the_playground(client: TestClient) -> None:
    redirect = client.get(PREFIX, follow_redirects=False)
    assert (redirect.status_code, redirect.headers["location"]) == (307, f"{PREFIX}/")
    assert redirect.headers["x-request-id"]
    assert client.get(f"{PREFIX}s").status_code == 404


def test_the_document_names_the_prefix_as_its_server(client: TestClient, bundles: Path) -> None:
    document = client.get(f"{PREFIX}/openapi.json").json()
    assert document["servers"] == [{"url": PREFIX}]
    assert "/qa" in document["paths"]
    plain = create_app(Settings(bundles=bundles, threads=1))
    with TestClient(plain) as without:
        assert "servers" not in without.get("/openapi.json").json()


@pytest.mark.parametrize(("value", "path"), [("models/tiny/", PREFIX), ("/a", "/a"), ("/", ""), ("", ""), (" ", "")])
def test_slashes_at_the_ends_do_not_matter(monkeypatch: pytest.MonkeyPatch, value: str, path: str) -> None:
    monkeypatch.setenv("HALFDEPTH_ROOT_PATH", value)
    assert Settings().root_path == path


@pytest.mark.parametrize("value", ["https://example.org/a", "/a b", "/a//b", "/a/../b", "/ä", "/a?b"])
def test_what_is_not_a_path_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HALFDEPTH_ROOT_PATH", value)
    with pytest.raises(ValidationError, match="must be a path of letters"):
        Settings()


def test_the_script_asks_paths_that_are_relative() -> None:
    script = (Path(__file__).parents[3] / "service" / "playground" / "app.js").read_text()
    routes = re.findall(r'(?:send|ask)\("([^"]+)"', script)
    assert routes == [route for route in routes if not route.startswith("/")]
    assert json.dumps("/qa") not in script
