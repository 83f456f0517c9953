import base64
import errno
import hashlib
import re

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings


def scrape(client: TestClient) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-request-id"]
    lines = [line.rpartition(" ") for line in response.text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


def test_metrics_tell_the_clocks_of_the_body(client: TestClient) -> None:
    timings = client.post("/qa", json={"question": "where?", "context": "in Paris"}).json()["timings_ms"]
    told = scrape(client)
    assert told['halfdepth_requests_total{model="qa",status="200",task="qa"}'] == 1
    for stage, milliseconds in timings.items():
        assert told[f'halfdepth_stage_seconds_sum{{model="qa",stage="{stage}",task="qa"}}'] == pytest.approx(
            milliseconds / 1e3
        )


def test_refusals_and_both_routes_of_embeddings_are_counted_by_task(client: TestClient) -> None:
    client.post("/embed", json={"inputs": "in Paris"})
    client.post("/similarity", json={})
    client.post("/classify", content=b"{", headers={"Content-Type": "application/json"})
    client.get("/qa")
    client.get("/nowhere")
    told = scrape(client)
    counted = {name: value for name, value in told.items() if name.startswith("halfdepth_requests")}
    assert counted == {
        'halfdepth_requests_total{model="similarity",status="200",task="similarity"}': 1,
        'halfdepth_requests_total{model="",status="422",task="similarity"}': 1,
        'halfdepth_requests_total{model="",status="400",task="classify"}': 1,
        'halfdepth_requests_total{model="",status="405",task="qa"}': 1,
    }


def test_a_scrape_does_not_count_itself(client: TestClient) -> None:
    told = scrape(client)
    assert told["halfdepth_in_flight"] == 0
    assert told["halfdepth_queue_ms"] == 0
    assert told["process_resident_memory_bytes"] > 0


def test_the_documentation_needs_no_network(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    references = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(references) == 3
    for reference in references:
        assert "//" not in reference
        if not reference.startswith("data:"):
            assert client.get(f"/{reference}").status_code == 200, reference


def test_the_documentation_runs_its_own_scripts_alone(client: TestClient) -> None:
    page = client.get("/docs")
    (script,) = re.findall(r"<script>(.+?)</script>", page.text)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}';" in page.headers["content-security-policy"]


def test_a_file_that_is_not_there_is_a_problem_too(client: TestClient) -> None:
    for path in ("/docs/files/nothing.js", "/docs/files/../__init__.py", "/docs/files/%2e%2e/__init__.py"):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_the_format_of_metrics_follows_what_is_accepted(client: TestClient) -> None:
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        ("/info", "service.docs.pages.Info"),
        ("/v1/models", "service.docs.pages.model_list"),
        ("/v2", "service.inference.ServerMetadata"),
    ],
)
def test_a_page_that_fails_is_answered_with_a_problem(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str, broken: str
) -> None:
    def fail(*_args: object, **_fields: object) -> None:
        raise OSError(errno.EMFILE, "secret")

    client = TestClient(create_app(settings))
    monkeypatch.setattr(broken, fail)
    response = client.get(path)
    assert response.status_code == 500
    assert response.headers["content-type"].endswith("json")
    assert response.headers["x-request-id"]
    assert "failed on this request" in response.text
    assert "secret" not in response.text
