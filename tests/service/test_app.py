import subprocess
import sys
from typing import Any

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
    operation = document(client)["paths"]["/qa"]["post"]
    kinds = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert {kind["$ref"].rpartition("/")[2] for kind in kinds} == {"QAItem", "QAList"}
    assert "200" in operation["responses"]


def test_every_error_of_a_question_is_documented_as_a_problem(client: TestClient) -> None:
    content = document(client)
    responses = content["paths"]["/qa"]["post"]["responses"]
    assert set(responses) == {"200", "400", "404", "413", "415", "422", "500", "503"}
    for status in set(responses) - {"200"}:
        assert responses[status]["content"] == {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert {"Problem", "InvalidField"} <= set(content["components"]["schemas"])


def test_every_reference_of_the_documentation_leads_somewhere(client: TestClient) -> None:
    content = document(client)
    text = str(content)
    for reference in {part.split("'")[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in content["components"]["schemas"]
