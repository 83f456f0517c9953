import subprocess
import sys
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import errors

WITHOUT_TRAINING = """
import sys
for name in ("torch", "transformers", "optimum", "onnx"):
    sys.modules[name] = None  # importing it raises ImportError
import service.app, service.__main__
"""


def document(client: TestClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


def test_the_service_needs_no_training_library() -> None:
    child = subprocess.run([sys.executable, "-c", WITHOUT_TRAINING], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_the_documentation_shows_request_and_response(client: TestClient) -> None:
    for path, request, response in (
        ("/qa", {"QAItem", "QAList"}, {"QAResponse", "QAListResponse"}),
        ("/classify", {"ClassifyItem", "ClassifyList"}, {"ClassifyResponse", "ClassifyListResponse"}),
        ("/similarity", {"SimilarityRequest"}, {"SimilarityResponse"}),
        ("/embed", {"EmbedRequest"}, {"EmbedResponse"}),
    ):
        operation = document(client)["paths"][path]["post"]
        assert kinds(operation["requestBody"]) == request
        assert kinds(operation["responses"]["200"]) == response


def kinds(content: dict[str, Any]) -> set[str]:  # as an OpenAPI document is
    """Names of the schemas that a body may be of."""
    schema = content["content"]["application/json"]["schema"]
    return {kind["$ref"].rpartition("/")[2] for kind in schema.get("anyOf", [schema])}


def test_every_field_of_a_request_is_described(client: TestClient) -> None:
    schemas = document(client)["components"]["schemas"]
    for name in ("QAItem", "QAList", "ClassifyItem", "ClassifyList", "SimilarityRequest", "EmbedRequest"):
        assert all(field.get("description") for field in schemas[name]["properties"].values()), name


@pytest.mark.parametrize("path", ["/qa", "/classify", "/similarity", "/embed"])
def test_every_error_of_a_task_is_documented_as_a_problem(client: TestClient, path: str) -> None:
    content = document(client)
    responses = content["paths"][path]["post"]["responses"]
    assert set(responses) == {"200", "400", "404", "413", "415", "422", "500", "503", "504"}
    for status in set(responses) - {"200"}:
        assert responses[status]["content"] == {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert {"Problem", "InvalidField"} <= set(content["components"]["schemas"])


def test_every_reference_of_the_documentation_leads_somewhere(client: TestClient) -> None:
    content = document(client)
    text = str(content)
    for reference in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in content["components"]["schemas"]
