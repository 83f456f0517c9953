import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.tasks.classification import ALL_LABELS
from service import errors
from service.app import create_app
from service.docs.examples import MODELS, Example
from service.http.body import AtMostInputs
from service.routes import ROUTES
from service.settings import Settings
from tests.service.conftest import delete_settings, tiny_settings

PATHS = [row.path for row in ROUTES]
STATUSES = {"400", "401", "404", "413", "415", "422", "500", "503", "504"}


@pytest.fixture(scope="module")
def document(bundles: Path) -> dict[str, Any]:
    """As it is served; made once, which takes longer than all the tests that read it."""
    with pytest.MonkeyPatch.context() as patch:
        delete_settings(patch)
        app = create_app(tiny_settings(bundles))
    with TestClient(app) as client:
        content: dict[str, Any] = client.get("/openapi.json").json()
    return content


@pytest.fixture(scope="module")
def roomy(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a service whose bundles have the names that examples give, with room for any example."""
    root = tmp_path_factory.mktemp("named")
    for bundle in bundles.iterdir():
        (root / str(MODELS[bundle.name]["name"])).symlink_to(bundle)
    with pytest.MonkeyPatch.context() as patch:
        delete_settings(patch)
        settings = Settings(**tiny_settings(bundles).model_dump() | {"bundles": root, "max_windows": 100})
    with TestClient(create_app(settings)) as client:
        yield client


def kinds(content: dict[str, Any]) -> set[str]:
    """Names of the schemas that a body may be of."""
    schema = content["content"]["application/json"]["schema"]
    return {kind["$ref"].rpartition("/")[2] for kind in schema.get("anyOf", [schema])}


@pytest.mark.parametrize(
    ("path", "request_kinds", "response_kinds"),
    [
        ("/qa", {"QAQuestion", "QAContexts", "QAList"}, {"QAResponse", "QAContextsResponse", "QAListResponse"}),
        ("/classify", {"ClassifyText", "ClassifyList"}, {"ClassifyResponse", "ClassifyListResponse"}),
        ("/similarity", {"SimilarityRequest"}, {"SimilarityResponse"}),
        ("/embed", {"EmbedRequest"}, {"EmbedResponse"}),
        ("/v1/embeddings", {"EmbeddingsRequest"}, {"EmbeddingsResponse"}),
    ],
)
def test_request_and_response_are_shown(
    document: dict[str, Any], path: str, request_kinds: set[str], response_kinds: set[str]
) -> None:
    operation = document["paths"][path]["post"]
    assert kinds(operation["requestBody"]) == request_kinds
    assert kinds(operation["responses"]["200"]) == response_kinds


def test_every_field_is_described(document: dict[str, Any]) -> None:
    undescribed = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, content in schema.get("properties", {}).items()
        if not content.get("description")
    ]
    assert undescribed == []


@pytest.mark.parametrize("path", PATHS)
def test_every_error_of_a_task_is_documented_in_its_form(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path]["post"]["responses"]
    assert set(responses) == STATUSES | {"200"}
    form = {"/hf": "HubError", "/v1": "OpenAIError", "/v2": "OpenAIError"}.get(path[:3], "Problem")
    for status in STATUSES:
        (content,) = responses[status]["content"].values()
        assert content["schema"] == {"$ref": f"#/components/schemas/{form}"}


@pytest.mark.parametrize("path", PATHS)
def test_every_header_is_documented(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    assert {each["name"] for each in operation["parameters"]} == {"X-Request-ID", "X-Deadline-Ms", "traceparent"}
    headers = {status: set(response["headers"]) for status, response in operation["responses"].items()}
    assert all("X-Request-ID" in names for names in headers.values())
    assert "Server-Timing" in headers["200"]
    assert "Retry-After" in headers["503"]
    assert "WWW-Authenticate" in headers["401"]


def test_every_code_is_in_the_table(document: dict[str, Any]) -> None:
    for error, status in errors.STATUSES.items():
        assert f"| {status} | `{error.code}` |" in document["info"]["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for part in json.dumps(document).split("#/components/schemas/")[1:]:
        assert part.split('"')[0] in document["components"]["schemas"]


def test_lists_are_bounded_as_the_settings_say(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, field in (("QAList", "inputs"), ("SimilarityRequest", "targets"), ("SentencePairs", "sentences")):
        assert schemas[name]["properties"][field]["maxItems"] == 5
    for name, field in (("EmbedRequest", "inputs"), ("HubFeatures", "inputs"), ("EmbeddingsRequest", "input")):
        assert schemas[name]["properties"][field]["anyOf"][1]["maxItems"] == 5
    assert AtMostInputs.MARK not in json.dumps(document)


def test_numbers_are_bounded(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    highest = {
        "QAItem": 100,
        "QuestionParameters": 100,
        "ClassifyItem": ALL_LABELS,
        "ClassificationParameters": ALL_LABELS,
    }
    for name, maximum in highest.items():
        bounds = schemas[name]["properties"]["top_k"]["anyOf"][0]
        assert (bounds["minimum"], bounds["maximum"]) == (1, maximum)


def test_a_key_is_asked_for_where_keys_are_set(document: dict[str, Any], settings: Settings) -> None:
    assert document["paths"]["/qa"]["post"]["security"] == [{}, {"key": []}]
    closed = create_app(Settings(**settings.model_dump() | {"api_keys": "secret"})).openapi()
    assert closed["paths"]["/qa"]["post"]["security"] == [{"key": []}]
    assert closed["paths"]["/health/ready"]["get"]["security"] == []


def shape(content: object) -> object:
    """The kinds of all values by their names; of a list its first item's."""
    if isinstance(content, dict):
        return {name: shape(value) for name, value in content.items()}
    if isinstance(content, list):
        return [shape(value) for value in content[:1]]
    return "number" if isinstance(content, int | float) and not isinstance(content, bool) else type(content).__name__


CASES = [(row.path, name, example) for row in ROUTES for name, example in row.examples.items()]


@pytest.mark.parametrize(("path", "name", "example"), CASES, ids=[f"{path}: {name}" for path, name, _ in CASES])
def test_an_example_is_answered_in_the_form_that_is_shown(
    roomy: TestClient, path: str, name: str, example: Example
) -> None:
    response = roomy.post(path, json=example.request)
    assert response.status_code == 200, response.text
    assert shape(response.json()) == shape(example.response), name


def test_every_route_of_a_task_has_examples(document: dict[str, Any]) -> None:
    for row in ROUTES:
        assert row.examples
        operation = document["paths"][row.path]["post"]
        assert set(operation["requestBody"]["content"]["application/json"]["examples"]) == set(row.examples)
        assert set(operation["responses"]["200"]["content"]["application/json"]["examples"]) == set(row.examples)
