"""/similarity and /embed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.build import build_task
from models.tasks.bundle import load_bundle
from service.app import create_app
from service.engine.engine import Engine
from service.engine.model import Model
from service.responses import EmbedResponse
from service.settings import Settings
from tests.service.conftest import FakeSession, tiny_embedding_graph, write_bundle

OSLO, PARIS, WORD = [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]
FILLER = "a " * 20  # more than the tiny model embeds at once


def post(client: TestClient, path: str, **fields: object) -> dict[str, Any]:
    response = client.post(path, json=fields)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def problem(client: TestClient, path: str, content: object) -> dict[str, Any]:
    response = client.post(path, content=json.dumps(content).encode(), headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    problem: dict[str, Any] = response.json()
    return problem


def unit(vector: Sequence[float]) -> list[float]:
    normalized: list[float] = (np.array(vector) / np.linalg.norm(vector)).tolist()
    return normalized


@pytest.fixture
def runs() -> list[int]:
    """Tokens of each window that the client's session ran."""
    return []


@pytest.fixture
def counting_client(settings: Settings, bundles: Path, runs: list[int]) -> TestClient:
    """The embedding of each window is its length along the first axis, and 1 along the second."""

    def count(window: Features) -> Outputs:
        runs.append(len(window))
        return (np.array([len(window), 1], np.float32),)

    return client_of(settings, bundles, count)


def client_of(settings: Settings, bundles: Path, act: Callable[[Features], Outputs]) -> TestClient:
    """Of a service whose session does what the test gives it to do."""
    bundle = load_bundle(bundles / "similarity")
    model = Model(bundle, build_task(bundle, ["sentence_embedding"]), FakeSession(act))
    return TestClient(create_app(settings, Engine([model])))


def test_scores_are_cosines_in_the_order_of_the_targets(client: TestClient) -> None:
    content = post(client, "/similarity", source="Paris", targets=["Oslo", "Paris", "Oslo Paris", "paris PARIS"])
    assert set(content) == {"scores", "usage", "timings_ms", "model"}
    assert content["scores"] == pytest.approx([0, 1, 0.5**0.5, 1])
    assert content["usage"] == {
        "tokens_in": 14,
        "tokens_used": 14,
        "windows": 4,
        "truncated": False,
        "unknown_tokens": 0,
    }
    assert content["model"]["name"] == "similarity"


def test_a_text_and_a_list_of_it_are_embedded_alike(client: TestClient) -> None:
    for inputs in ("Oslo", ["Oslo"]):
        content = post(client, "/embed", inputs=inputs)
        assert set(content) == {"embeddings", "usage", "timings_ms", "model"}
        assert content["embeddings"] == [OSLO]


def test_embeddings_are_of_unit_length_and_in_order(client: TestClient) -> None:
    content = post(client, "/embed", inputs=["in Oslo or Paris", "Paris", "Oslo"])
    assert content["embeddings"][0] == pytest.approx(unit([1, 1, 2, 0]), abs=1e-7)
    assert content["embeddings"][1:] == [PARIS, OSLO]


def test_the_response_is_what_is_documented(client: TestClient) -> None:
    response = client.post("/embed", json={"inputs": ["Oslo", "in Paris"]})
    documented = EmbedResponse.model_validate_json(response.content)
    assert json.loads(documented.model_dump_json()) == response.json()


def test_a_score_is_the_scalar_product_of_the_embeddings(client: TestClient) -> None:
    texts = ["in Oslo or Paris", "Paris, she", "where?"]
    source, *targets = post(client, "/embed", inputs=texts)["embeddings"]
    scores = post(client, "/similarity", source=texts[0], targets=texts[1:])["scores"]
    assert scores == pytest.approx([float(np.dot(source, target)) for target in targets], abs=1e-6)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/similarity", {"source": "a", "targets": ["a b", "a", "a b", "a b c"]}),
        ("/embed", {"inputs": ["a", "a b", "a", "a b c", "a b c"]}),
    ],
)
def test_identical_texts_are_run_and_counted_once(
    counting_client: TestClient, runs: list[int], path: str, body: dict[str, object]
) -> None:
    usage = post(counting_client, path, **body)["usage"]
    assert runs == [3, 4, 5]
    assert usage == {"tokens_in": 12, "tokens_used": 12, "windows": 3, "truncated": False, "unknown_tokens": 0}


def test_identical_texts_are_answered_each_in_its_place(counting_client: TestClient) -> None:
    embeddings = post(counting_client, "/embed", inputs=["a b", "a", "a b"])["embeddings"]
    assert embeddings[0] == embeddings[2] == pytest.approx(unit([4, 1]), abs=1e-7)
    assert embeddings[1] == pytest.approx(unit([3, 1]), abs=1e-7)
    scores = post(counting_client, "/similarity", source="a", targets=["a b", "a", "a b"])["scores"]
    assert scores[0] == scores[2] == pytest.approx(float(np.dot(unit([3, 1]), unit([4, 1]))))
    assert scores[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("path", "body"), [("/similarity", {"source": "a", "targets": ["b"] * 5}), ("/embed", {"inputs": ["a", "b"]})]
)
def test_timings_are_told_in_body_and_header_and_add_up(client: TestClient, path: str, body: dict[str, object]) -> None:
    response = client.post(path, json=body)
    timings = response.json()["timings_ms"]
    header = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert {stage: float(duration) for stage, duration in header.items()} == timings
    parts = timings["queue"] + timings["tokenization"] + timings["inference_wall"] + timings["postprocess"]
    assert parts == pytest.approx(timings["total"], abs=0.003)


def test_a_long_text_is_truncated_at_the_bundle_s_own_limit(client: TestClient) -> None:
    content = post(client, "/embed", inputs=FILLER + "Paris")
    assert content["embeddings"] == [WORD]
    assert content["usage"] == {
        "tokens_in": 23,
        "tokens_used": 12,
        "windows": 1,
        "truncated": True,
        "unknown_tokens": 0,
    }
    assert post(client, "/similarity", source="Paris", targets=[FILLER + "Paris"])["scores"] == [0.0]


def test_a_long_text_can_be_read_in_windows(client: TestClient) -> None:
    content = post(client, "/embed", inputs=FILLER + "Paris", on_overflow="window")
    # 21 words in three windows of 7, each with [CLS] and [SEP]; the last one holds Paris.
    expected = unit(np.add(unit([0, 1, 6, 0]), [0, 0, 2, 0]).tolist())
    assert content["embeddings"][0] == pytest.approx(expected, abs=1e-7)
    assert content["usage"] == {
        "tokens_in": 23,
        "tokens_used": 27,
        "windows": 3,
        "truncated": False,
        "unknown_tokens": 0,
    }
    scores = post(client, "/similarity", source="Paris", targets=[FILLER + "Paris"], on_overflow="window")["scores"]
    assert scores == pytest.approx([expected[1]])


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/embed", {"inputs": FILLER}, "inputs"),
        ("/embed", {"inputs": ["a", FILLER]}, "inputs[1]"),
        ("/similarity", {"source": FILLER, "targets": ["a"]}, "source"),
        ("/similarity", {"source": "a", "targets": ["a", "b", FILLER, FILLER]}, "targets[2]"),
    ],
)
def test_a_long_text_can_be_refused_by_its_place(
    client: TestClient, path: str, body: dict[str, object], place: str
) -> None:
    told = problem(client, path, body | {"on_overflow": "error"})
    assert told["code"] == "input_too_long"
    assert told["detail"].startswith(f"{place}: the text takes 22 tokens and the model reads 12 at once; shorten it")


def test_a_bundle_whose_graph_does_not_pool_gives_the_same_embeddings(
    client: TestClient, settings: Settings, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "theirs", "similarity", tiny_embedding_graph(pooled=False))
    (tmp_path / "theirs" / "halfdepth.json").write_text('{"pooling": "mean"}')
    theirs = TestClient(create_app(settings.model_copy(update={"bundles": tmp_path})))
    inputs = ["in Oslo or Paris", FILLER + "Paris", "\x00"]
    assert post(theirs, "/embed", inputs=inputs)["embeddings"] == post(client, "/embed", inputs=inputs)["embeddings"]


@pytest.fixture
def prompted(settings: Settings, tmp_path: Path) -> TestClient:
    """Of a model with prompts of its own, one of them its default, that was trained for embeddings of 2 as well."""
    path = tmp_path / "prompted"
    write_bundle(path, "similarity")
    prompts = {"query": "Paris ", "document": ""}
    settings_file = path / "config_sentence_transformers.json"
    settings_file.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
    config = json.loads((path / "config.json").read_text()) | {"matryoshka_dimensions": [2]}
    (path / "config.json").write_text(json.dumps(config))
    return TestClient(create_app(settings.model_copy(update={"bundles": tmp_path})))


def test_the_default_prompt_stands_before_every_text(prompted: TestClient) -> None:
    content = post(prompted, "/embed", inputs=["Oslo"])
    assert content["embeddings"][0] == pytest.approx(unit([1, 1, 0, 0]), abs=1e-7)
    assert content["usage"]["tokens_in"] == 4  # the prompt is counted
    assert post(prompted, "/similarity", source="Oslo", targets=["Paris"])["scores"] == pytest.approx([0.5**0.5])
    [features] = prompted.post("/hf/feature-extraction", json={"inputs": "Oslo"}).json()
    openai = prompted.post("/v1/embeddings", json={"model": "any", "input": "Oslo"}).json()
    assert features == openai["data"][0]["embedding"] == content["embeddings"][0]


def test_a_request_names_a_prompt(prompted: TestClient) -> None:
    assert post(prompted, "/embed", inputs="Oslo", prompt_name="document")["embeddings"] == [OSLO]
    body = {"inputs": "Oslo", "prompt_name": "document"}
    assert prompted.post("/hf/feature-extraction", json=body).json() == [OSLO]


def test_an_unknown_prompt_is_refused_with_those_that_there_are(prompted: TestClient, client: TestClient) -> None:
    told = problem(prompted, "/embed", {"inputs": "Oslo", "prompt_name": "ask"})
    assert told["code"] == "invalid_request"
    message = "is not a prompt of this model; name one of query, document"
    assert told["detail"] == f"prompt_name: {message}"
    assert told["errors"] == [{"field": "prompt_name", "message": message}]
    told = problem(client, "/embed", {"inputs": ["Oslo", "Paris"], "prompt_name": "query"})
    assert told["detail"] == "prompt_name: is not a prompt of this model; leave it out: the model has no prompts"


def test_embeddings_are_cut_to_sizes_that_the_model_was_trained_for(prompted: TestClient, client: TestClient) -> None:
    content = post(prompted, "/embed", inputs="Oslo a a", dimensions=2)
    assert content["embeddings"][0] == pytest.approx(unit([1, 1]), abs=1e-7)
    openai = prompted.post("/v1/embeddings", json={"model": "any", "input": "Oslo a a", "dimensions": 2}).json()
    assert openai["data"][0]["embedding"] == content["embeddings"][0]
    told = problem(prompted, "/embed", {"inputs": "Oslo", "dimensions": 3})
    message = "is not a size that this model was trained for; choose one of 2"
    assert told["detail"] == f"dimensions: {message}"
    assert told["errors"] == [{"field": "dimensions", "message": message}]
    told = problem(client, "/embed", {"inputs": "Oslo", "dimensions": 2})
    assert told["detail"].endswith("leave it out: the model's files name no other sizes")


def test_a_long_text_gives_the_same_embedding_on_every_route(client: TestClient) -> None:
    text = FILLER + "Paris"
    [embedding] = post(client, "/embed", inputs=text)["embeddings"]
    openai = post(client, "/v1/embeddings", model="any", input=text)
    assert openai["data"][0]["embedding"] == embedding
    assert client.post("/hf/feature-extraction", json={"inputs": text}).json() == [embedding]


def test_nul_characters_are_accepted(client: TestClient) -> None:
    assert post(client, "/similarity", source="\x00", targets=["\x00 \x00"])["scores"] == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/similarity", None, [""]),
        ("/similarity", {}, ["source", "targets"]),
        ("/similarity", {"source": " ", "targets": ["a"]}, ["source"]),
        ("/similarity", {"source": "a", "targets": []}, ["targets"]),
        ("/similarity", {"source": "a", "targets": "b"}, ["targets"]),
        (
            "/similarity",
            {"source": "a", "targets": ["b", 3, "\ud800", "\n"]},
            ["targets[1]", "targets[2]", "targets[3]"],
        ),
        ("/similarity", {"source": "a", "targets": ["b"], "inputs": ["b"]}, ["inputs"]),
        ("/similarity", {"source": "a", "targets": ["b"] * 6}, ["targets"]),
        ("/embed", [], [""]),
        ("/embed", {}, ["inputs"]),
        ("/embed", {"inputs": ""}, ["inputs"]),
        ("/embed", {"inputs": "\udfff"}, ["inputs"]),
        ("/embed", {"inputs": None}, ["inputs"]),
        ("/embed", {"inputs": []}, ["inputs"]),
        ("/embed", {"inputs": ["a", "b", "c", " "]}, ["inputs[3]"]),
        ("/embed", {"inputs": [["a"], {"text": "a"}]}, ["inputs[0]", "inputs[1]"]),
        ("/embed", {"inputs": "a", "on_overflow": "cut"}, ["on_overflow"]),
        ("/embed", {"inputs": ["a"] * 6}, ["inputs"]),
    ],
)
def test_a_wrong_value_is_told_at_its_place(client: TestClient, path: str, body: object, fields: list[str]) -> None:
    told = problem(client, path, body)
    assert told["code"] == "invalid_request"
    assert [error["field"] for error in told["errors"]] == fields


def test_the_limit_of_a_list_is_named(client: TestClient) -> None:
    told = problem(client, "/similarity", {"source": "a", "targets": ["b"] * 6})
    assert told["detail"] == "targets: holds 6 items where the limit is 5; split the request"


def test_an_embedding_without_a_direction_fails_the_request(settings: Settings, bundles: Path) -> None:
    client = client_of(settings, bundles, lambda _: (np.zeros(2, np.float32),))
    response = client.post("/embed", json={"inputs": "a"})
    assert (response.status_code, response.json()["code"]) == (500, "inference_failed")
