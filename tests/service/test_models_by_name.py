"""Several models for a task in one process, asked by name."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import onnx
import pytest
from openai import OpenAI
from starlette.testclient import TestClient

from loadtest.bench.measurements import untimed
from loadtest.connection import Connection, post
from service.app import create_app
from service.routes import ROUTES, TaskRoute
from service.settings import Settings
from tests.server import serve
from tests.service.conftest import CONFIGS, GRAPHS, table_of, tiny_qa_graph, write_bundle

ITEM = {"question": "where?", "context": "in Oslo or Paris"}
BODIES: dict[str, dict[str, Any]] = {
    "/qa": ITEM,
    "/classify": {"text": "in Paris"},
    "/similarity": {"source": "in Paris", "targets": ["Oslo"]},
    "/embed": {"inputs": "in Paris"},
    "/rerank": {"query": "where?", "documents": ["in Paris"]},
    "/entities": {"text": "in Paris"},
    "/hf/question-answering": {"inputs": ITEM},
    "/hf/text-classification": {"inputs": "in Paris"},
    "/hf/token-classification": {"inputs": "in Paris"},
    "/hf/sentence-similarity": {"inputs": {"source_sentence": "in Paris", "sentences": ["Oslo"]}},
    "/hf/feature-extraction": {"inputs": "in Paris"},
    "/v1/embeddings": {"input": "in Paris"},
    "/v1/rerank": {"query": "where?", "documents": ["in Paris"]},
    "/v2/rerank": {"query": "where?", "documents": ["in Paris"]},
}


def northern_graph() -> onnx.ModelProto:
    """As the tiny one, and prefers Oslo."""
    graph = tiny_qa_graph()
    table = table_of({"[CLS]": [2, 2], "oslo": [9, 9], "paris": [7, 7]}, other=[-5, -5])
    [initializer] = [each for each in graph.graph.initializer if each.name == "table"]
    initializer.CopyFrom(onnx.numpy_helper.from_array(table, "table"))
    return graph


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two bundles for each task; those of `qa` answer differently."""
    root = tmp_path_factory.mktemp("pairs")
    for task in CONFIGS:
        write_bundle(root / task, task)
        write_bundle(root / f"{task}-small", task, northern_graph() if task == "qa" else GRAPHS[task]())
    return root


@pytest.fixture
def client(settings: Settings, pairs: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(**settings.model_dump() | {"bundles": pairs}))) as client:
        yield client


def answered(client: TestClient, path: str, **fields: object) -> dict[str, Any]:
    """The answer without its timings."""
    response = client.post(path, json=BODIES[path] | fields)
    assert response.status_code == 200, response.text
    content = untimed(response.content)
    assert isinstance(content, dict)
    return content


def test_a_model_answers_by_its_name_and_the_default_without_one(client: TestClient) -> None:
    default, small = answered(client, "/qa"), answered(client, "/qa", model="qa-small")
    assert [content["model"]["name"] for content in (default, small)] == ["qa", "qa-small"]
    assert [content["answers"][0]["text"] for content in (default, small)] == ["Paris", "Oslo"]
    assert answered(client, "/qa", model="qa") == answered(client, "/qa", model=None) == default
    by_revision = f"qa-small@{small['model']['revision']}"
    assert answered(client, "/qa", model=by_revision) == small


def test_a_list_is_answered_by_one_model_which_stands_beside_it(client: TestClient) -> None:
    content = client.post("/qa", json={"inputs": [ITEM, ITEM], "model": "qa-small"}).json()
    assert content["model"]["name"] == "qa-small"
    assert [result["answers"][0]["text"] for result in content["results"]] == ["Oslo", "Oslo"]
    refused = client.post("/qa", json={"inputs": [ITEM | {"model": "qa-small"}]}).json()
    assert refused["detail"] == "inputs[0].model: is not a field of this request"


def model_of(row: TaskRoute, response: Any) -> object:  # as the client of tests gives it
    """The model that an answer names, in the way of its form."""
    if row.path.startswith("/hf/"):
        return response.headers["x-model"]
    model = response.json()["model"]
    return model["name"] if row.is_ours else model


@pytest.mark.parametrize("row", ROUTES, ids=[row.path for row in ROUTES])
def test_every_route_takes_a_model(client: TestClient, row: TaskRoute) -> None:
    name = f"{row.task}-small"
    response = client.post(row.path, json=BODIES[row.path] | {"model": name})
    assert response.status_code == 200, response.text
    assert (
        f'halfdepth_requests_total{{model="{name}",status="200",task="{row.task}"}} 1.0' in client.get("/metrics").text
    )
    assert model_of(row, response) == name


@pytest.mark.parametrize("row", ROUTES, ids=[row.path for row in ROUTES])
def test_a_name_that_is_not_loaded_is_refused_by_us_and_means_the_default_to_others(
    client: TestClient, row: TaskRoute
) -> None:
    response = client.post(row.path, json=BODIES[row.path] | {"model": "text-embedding-3-small"})
    if row.is_ours:
        problem = response.json()
        assert (response.status_code, problem["code"]) == (404, "model_not_loaded")
        assert problem["detail"].endswith(f"name one of these: {row.task}, {row.task}-small")
        counted = f'{{model="",status="404",task="{row.task}"}} 1.0'
    else:
        assert (response.status_code, model_of(row, response)) == (200, row.task)
        counted = f'{{model="{row.task}",status="200",task="{row.task}"}} 1.0'
    assert f"halfdepth_requests_total{counted}" in client.get("/metrics").text
    assert "text-embedding" not in client.get("/metrics").text + response.text


def test_a_hub_answer_names_its_model_only_where_one_was_asked_for(client: TestClient) -> None:
    response = client.post("/hf/feature-extraction", json={"inputs": "in Paris"})
    assert "x-model" not in response.headers


def test_a_refusal_by_a_model_is_counted_under_its_name(client: TestClient) -> None:
    body = ITEM | {"question": "a " * 30, "model": "qa-small"}
    assert client.post("/qa", json=body).json()["code"] == "input_too_long"
    assert '{model="qa-small",status="422",task="qa"} 1.0' in client.get("/metrics").text


def test_info_tells_every_model_and_which_is_the_default(client: TestClient) -> None:
    told = [(each["task"], each["directory"], each["default"]) for each in client.get("/info").json()["bundles"]]
    tasks = sorted(CONFIGS)
    assert told == [(task, task, True) for task in tasks] + [(task, f"{task}-small", False) for task in tasks]


def test_openai_s_client_lists_the_models_and_asks_one(pairs: Path) -> None:
    with serve(pairs, API_KEYS="secret") as (_, url), OpenAI(base_url=f"{url}/v1", api_key="secret") as client:
        listed = client.models.list().data
        assert {model.id for model in listed} == {name for task in CONFIGS for name in (task, f"{task}-small")}
        assert all(model.created > 0 and model.object == "model" for model in listed)
        for name, named in (("similarity-small", "similarity-small"), ("text-embedding-3-small", "similarity")):
            assert client.embeddings.create(model=name, input="in Paris").model == named


def test_a_refused_list_of_models_has_openai_s_form(settings: Settings, pairs: Path) -> None:
    closed = Settings(**settings.model_dump() | {"bundles": pairs, "api_keys": "secret"})
    response = TestClient(create_app(closed)).get("/v1/models")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")


def test_mixed_requests_to_two_models_are_answered_as_by_each_alone(pairs: Path, tmp_path: Path) -> None:
    """A few hundred here; docs/log/scripts/two_models.py asks thousands of models that ship."""
    random = Random(0)
    words = ["in", "where", "she", "lives", "or", "oslo", "paris", ".", "?", "a", "b"]
    bodies = [ITEM | {"context": " ".join(random.choices(words, k=random.randint(3, 60)))} for _ in range(30)]
    alone: dict[str, list[object]] = {}
    for name in ("qa", "qa-small"):
        (tmp_path / name / name).parent.mkdir()
        (tmp_path / name / name).symlink_to(pairs / name)
        with serve(tmp_path / name) as (_, url), Connection(url) as connection:
            alone[name] = [untimed(connection.ask(post("/qa", body)).body) for body in bodies]
    assert json.dumps(alone["qa"]) != json.dumps(alone["qa-small"]).replace("qa-small", "qa")
    asked = [(name, index) for name in alone for index in range(len(bodies))] * 5
    random.shuffle(asked)
    with serve(pairs, THREADS="2") as (_, url):

        def differing(requests: list[tuple[str, int]]) -> int:
            with Connection(url) as connection:
                return sum(
                    untimed(connection.ask(post("/qa", bodies[index] | {"model": name})).body) != alone[name][index]
                    for name, index in requests
                )

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(differing, [asked[start::4] for start in range(4)])) == 0
