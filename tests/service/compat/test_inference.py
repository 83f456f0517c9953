"""The Open Inference Protocol over the tiny bundles: each route of ours is a model."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.tasks.bundle import load_bundle
from models.tasks.qa import build as qa_task
from service.app import create_app
from service.engine.engine import Engine
from service.engine.model import Model
from service.http.gate import Lifecycle
from service.routes import ROUTES
from service.settings import Settings
from tests.server import ROOT
from tests.service.conftest import FakeSession, zeros

QUESTION = {"question": "where?", "context": "she lives in Paris or Oslo"}
BODIES: dict[str, dict[str, Any]] = {  # of our own routes
    "qa": QUESTION | {"top_k": 2},
    "classify": {"text": "in Oslo", "text_pair": "in Paris", "top_k": 3},
    "similarity": {"source": "in Oslo", "targets": ["Oslo", "in Paris"]},
    "embed": {"inputs": ["in Oslo", "in Paris"], "on_overflow": "window"},
    "rerank": {"query": "where?", "documents": ["she lives", "in Oslo", "in Paris"], "return_documents": True},
    "entities": {"text": "she lives in Oslo", "aggregation": "first"},
}
TEXTS = {"question", "context", "contexts", "text", "text_pair", "source", "targets", "inputs", "query", "documents"}


def tensor(name: str, *texts: Any) -> dict[str, Any]:
    """Texts, or lists of as many texts each."""
    shape = [len(texts), len(texts[0])] if isinstance(texts[0], list) else [len(texts)]
    return {"name": name, "datatype": "BYTES", "shape": shape, "data": list(texts)}


def asked(*bodies: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The bodies of our own route as one batch."""
    tensors = [tensor(name, *(body[name] for body in bodies)) for name in bodies[0] if name in TEXTS]
    return {"inputs": tensors, "parameters": {k: v for k, v in bodies[0].items() if k not in TEXTS}} | options


def answers(content: dict[str, Any]) -> list[dict[str, Any]]:
    """What our own routes would have said, but for timings."""
    rows: list[dict[str, Any]] = [{} for _ in range(content["outputs"][0]["shape"][0])]
    for output in content["outputs"]:
        size = len(output["data"]) // len(rows)
        for index, row in enumerate(rows):
            elements = output["data"][index * size : (index + 1) * size]
            is_json = output["datatype"] == "BYTES"
            row[output["name"]] = json.loads(elements[0]) if is_json else nested(elements, output["shape"][1:])
    return [{name: value for name, value in row.items() if name != "timings_ms"} for row in rows]


def nested(elements: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return elements
    size = len(elements) // shape[0]
    return [nested(elements[index * size : (index + 1) * size], shape[1:]) for index in range(shape[0])]


def refusal(client: TestClient, body: Any, name: str = "qa", **options: Any) -> tuple[int, str]:
    response = client.post(f"/v2/models/{name}/infer", json=body, **options)
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert set(content) == {"error"}
    return response.status_code, content["error"]


def test_every_route_of_ours_is_a_model() -> None:
    assert set(BODIES) == {row.name for row in ROUTES if row.is_ours}


@pytest.mark.parametrize("name", BODIES)
def test_each_of_a_batch_is_answered_as_by_its_own_route(client: TestClient, name: str) -> None:
    body = BODIES[name]
    single = {key: "Paris" if isinstance(value, str) and key in TEXTS else value for key, value in body.items()}
    expected = []
    for each in (body, single):
        response = client.post(f"/{name}", json=each)
        assert response.status_code == 200, response.text
        expected.append({key: value for key, value in response.json().items() if key != "timings_ms"})
    response = client.post(f"/v2/models/{name}/infer", json=asked(body, single))
    assert response.status_code == 200, response.text
    assert answers(response.json()) == expected
    assert "total;dur=" in response.headers["server-timing"]


@pytest.mark.parametrize("name", BODIES)
def test_the_metadata_names_what_is_taken_and_given(client: TestClient, name: str) -> None:
    metadata = client.get(f"/v2/models/{name}").json()
    taken = {each["name"]: each for each in metadata["inputs"]}
    assert set(BODIES[name]) & TEXTS <= set(taken) <= TEXTS
    needed = [tensor(each["name"], *([["Oslo"]] if len(each["shape"]) > 1 else ["Oslo"])) for each in taken.values()
              if not each["optional"]]  # fmt: skip
    content = client.post(f"/v2/models/{name}/infer", json={"inputs": needed}).json()
    given = {output["name"]: (output["datatype"], len(output["shape"])) for output in content["outputs"]}
    assert given == {each["name"]: (each["datatype"], len(each["shape"])) for each in metadata["outputs"]}
    assert content["model_version"] == metadata["versions"][0]
    assert metadata["platform"] == "onnxruntime_onnx"


def test_the_server_tells_its_name_version_and_extension(client: TestClient) -> None:
    content = client.get("/v2").json()
    assert (content["name"], content["extensions"]) == ("halfdepth", ["binary_tensor_data"])
    assert content["version"]


def test_health_and_readiness_are_told_in_the_protocol_s_form(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/embed/ready").json() == {"name": "embed", "ready": True}
    assert client.get("/v2/models/nobody/ready").status_code == 404


def test_while_it_drains_nothing_is_ready_and_nothing_is_begun(settings: Settings) -> None:
    lifecycle = Lifecycle()
    with TestClient(create_app(settings, lifecycle=lifecycle)) as client:
        lifecycle.phase = "leaving"
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/qa/ready").status_code == 503
        assert client.post("/v2/models/qa/infer", json=asked(QUESTION)).status_code == 200
        lifecycle.phase = "draining"
        status, sentence = refusal(client, asked(QUESTION))
        assert status == 503
        assert "another one" in sentence
        assert client.get("/v2/health/live").status_code == 200


def test_a_key_is_needed_where_keys_are_set_except_for_health(settings: Settings) -> None:
    with TestClient(create_app(Settings(**settings.model_dump() | {"api_keys": "secret"}))) as client:
        assert refusal(client, asked(QUESTION))[0] == 401
        assert client.get("/v2/models/qa").status_code == 401
        assert client.get("/v2/health/ready").status_code == 200
        key = {"authorization": "Bearer secret"}
        assert client.post("/v2/models/qa/infer", json=asked(QUESTION), headers=key).status_code == 200


@pytest.fixture
def named(settings: Settings) -> Iterator[TestClient]:
    """One bundle, whose directory is not called after its task."""
    bundle = load_bundle(settings.bundles / "qa")
    model = Model(bundle, qa_task(bundle), FakeSession(zeros), id="minilm")
    with TestClient(create_app(settings, Engine([model]))) as client:
        yield client


def test_a_version_is_the_revision_of_a_bundle(named: TestClient) -> None:
    [revision] = named.get("/v2/models/qa").json()["versions"]
    assert named.get(f"/v2/models/qa/versions/{revision}").json()["name"] == "qa"
    assert named.get(f"/v2/models/qa/versions/{revision}/ready").status_code == 200
    response = named.post(f"/v2/models/qa/versions/{revision}/infer", json=asked(QUESTION))
    assert response.json()["model_version"] == revision
    for path in ("", "/ready"):
        assert named.get(f"/v2/models/qa/versions/1{path}").status_code == 404
    response = named.post("/v2/models/qa/versions/1/infer", json=asked(QUESTION))
    assert response.status_code == 404
    assert "(qa)" in response.json()["error"]


def test_a_model_that_is_not_loaded_is_told_with_those_that_are(client: TestClient) -> None:
    status, sentence = refusal(client, asked(QUESTION), "nobody")
    assert status == 404
    assert "(qa, classify, similarity, embed, rerank, entities)" in sentence


def test_the_id_comes_back_and_only_the_outputs_that_were_asked_for(client: TestClient) -> None:
    body = asked(QUESTION, id="my own", outputs=[{"name": "usage"}, {"name": "answers"}], model_name="as KServe sends")
    content = client.post("/v2/models/qa/infer", json=body).json()
    assert content["id"] == "my own"
    assert [output["name"] for output in content["outputs"]] == ["usage", "answers"]


def test_an_id_that_cannot_be_repeated_is_refused(client: TestClient) -> None:
    content = json.dumps(asked(QUESTION, id="\ud800")).encode()
    response = client.post("/v2/models/qa/infer", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()) == (
        422,
        {"error": "id: must be valid Unicode, without lone surrogates"},
    )


def test_contexts_may_be_given_instead_of_one(client: TestClient) -> None:
    body = {"inputs": [tensor("question", "where?"), tensor("contexts", ["she lives", "in Paris"])]}
    [answer] = answers(client.post("/v2/models/qa/infer", json=body).json())
    assert (answer["answers"][0]["text"], answer["answers"][0]["context"]) == ("Paris", 1)


def test_one_text_for_each_item_needs_no_second_axis(client: TestClient) -> None:
    content = client.post("/v2/models/embed/infer", json={"inputs": [tensor("inputs", "Oslo", "in Paris")]}).json()
    assert content["outputs"][0]["shape"] == [2, 1, 4]


def test_nested_and_flat_data_are_the_same(client: TestClient) -> None:
    body = asked(BODIES["similarity"])
    nested_answer = client.post("/v2/models/similarity/infer", json=body).json()
    body["inputs"][1]["data"] = body["inputs"][1]["data"][0]
    assert answers(client.post("/v2/models/similarity/infer", json=body).json()) == answers(nested_answer)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": []}, "inputs: List should have at least 1 item after validation, not 0"),
        ({"inputs": [tensor("question", "where?")]}, "context: is required"),
        ({"inputs": [tensor("text", "where?")]}, "inputs[0].name: is none of the model's inputs; they are question, "
         "context, contexts"),
        ({"inputs": [tensor("question", "a"), tensor("question", "b")]}, "inputs[1].name: is given twice"),
        ({"inputs": [tensor("question", "a") | {"datatype": "FP32"}]}, "inputs[0].datatype: must be BYTES: the model "
         "reads texts"),
        ({"inputs": [tensor("question", "a") | {"shape": [1, 1]}]}, "inputs[0].shape: must be [batch], one axis for "
         "each"),
        ({"inputs": [tensor("question", "a"), tensor("contexts", "b")]}, "inputs[1].shape: must be [batch, texts], one "
         "axis for each"),
        ({"inputs": [tensor("question", "a") | {"shape": [2]}]}, "inputs[0].data: has 1 elements where its shape has "
         "2"),
        ({"inputs": [tensor("question", "a") | {"shape": [0], "data": []}]}, "inputs[0].shape: must not be empty"),
        ({"inputs": [tensor("question", "a", "b"), tensor("context", "c")]}, "inputs: must have the same first axis: "
         "that of the batch"),
        ({"inputs": [tensor("question", 7), tensor("context", "c")]}, "question: Input should be a valid string"),
        ({"inputs": [tensor("question", "a", " "), tensor("context", "c", "d")]}, "item 1 of the batch: question: must "
         "not be blank"),
        ({"parameters": {"top_k": 0}}, "top_k: Input should be greater than or equal to 1"),
        ({"parameters": {"topk": 1}}, "topk: is not a field of this request"),
        ({"parameters": {"model": "qa"}}, "parameters.model: is not needed: the path names the model"),
        ({"parameters": {"question": "a"}}, "inputs[0].name: is given twice"),
        ({"outputs": [{"name": "labels"}]}, "outputs[0].name: is none of the model's outputs; they are answers, "
         "no_answer_score, usage, timings_ms, model"),
        ({"inputs": [tensor(name, *["in"] * 6) for name in QUESTION]}, "the batch holds 6 items where the limit is 5; "
         "split it"),
        ({"inputs": [tensor("question", "in " * 30, "a"), tensor("context", "b", "c")]}, "item 0 of the batch: "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_a_sentence(
    client: TestClient, change: dict[str, Any], sentence: str
) -> None:
    status, told = refusal(client, asked(QUESTION) | change)
    assert status == 422
    assert told.startswith(sentence)


def test_limits_hold_as_on_our_own_routes(client: TestClient) -> None:
    assert refusal(client, asked(QUESTION | {"context": "in " * 5_000}))[0] == 413
    assert refusal(client, asked(QUESTION), headers={"x-deadline-ms": "never"})[0] == 422
    assert refusal(client, asked(QUESTION), headers={"x-deadline-ms": "0.001"})[0] == 504
    assert refusal(client, asked(QUESTION), headers={"content-type": "text/plain"})[0] == 415
    assert refusal(client, asked(QUESTION), headers={"content-encoding": "br"})[0] == 415
    response = client.post("/v2/models/qa/infer", content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert client.get("/v2/models/qa/infer").status_code == 405
    assert client.get("/v2/nowhere").json() == {"error": "there is no such route; /docs lists them"}


def test_a_batch_is_counted_once_under_its_task_and_model(client: TestClient) -> None:
    client.post("/v2/models/embed/infer", json=asked({"inputs": "Oslo"}, {"inputs": "in Paris"}))
    client.post("/v2/models/qa/infer", json={})
    metrics = client.get("/metrics").text
    assert 'halfdepth_requests_total{model="similarity",status="200",task="similarity"} 1.0' in metrics
    assert 'halfdepth_windows_sum{task="similarity"} 2.0' in metrics
    assert 'halfdepth_requests_total{model="qa",status="422",task="qa"} 1.0' in metrics


def test_the_body_in_the_documentation_is_answered(client: TestClient) -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    [body] = re.findall(r"/v2/models/qa/infer`:\n\n```json\n(.*?)```", page, re.DOTALL)
    response = client.post("/v2/models/qa/infer", content=body, headers={"content-type": "application/json"})
    assert [output["shape"] for output in response.json()["outputs"]] == [[2]]
