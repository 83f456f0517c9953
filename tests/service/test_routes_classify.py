import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import graph_of, table_of, write_bundle

FILLER = "a " * 30  # more than the tiny model reads at once


def classify(client: TestClient, **fields: object) -> dict[str, Any]:
    response = client.post("/classify", json=fields)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def problem(client: TestClient, content: object) -> dict[str, Any]:
    response = client.post(
        "/classify", content=json.dumps(content).encode(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    problem: dict[str, Any] = response.json()
    return problem


def test_a_text_is_classified(client: TestClient) -> None:
    content = classify(client, text="she lives in Paris.")
    assert set(content) == {"labels", "usage", "timings_ms", "model"}
    (label,) = content["labels"]
    assert label["label"] == "paris"
    assert 0.99 < label["score"] <= 1.0
    usage = {"tokens_in": 7, "tokens_used": 7, "windows": 1, "truncated": False, "unknown_tokens": 0}
    assert content["usage"] == usage
    assert content["model"]["name"] == "classify"


def test_a_pair_is_read_as_one(client: TestClient) -> None:
    content = classify(client, text="where?", text_pair="in Oslo.")
    assert content["labels"][0]["label"] == "oslo"
    assert content["usage"]["tokens_in"] == 8
    assert classify(client, text="in Oslo.", text_pair=None)["labels"][0]["label"] == "oslo"


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (100, 3)])
def test_top_k_gives_the_likeliest_first(client: TestClient, top_k: int, count: int) -> None:
    labels = classify(client, text="in", top_k=top_k)["labels"]
    assert len(labels) == count
    assert labels[0]["label"] == "neither"
    assert [label["score"] for label in labels] == sorted((label["score"] for label in labels), reverse=True)


def test_all_labels_share_one_probability(client: TestClient) -> None:
    labels = classify(client, text="in", top_k=100)["labels"]
    assert sum(label["score"] for label in labels) == pytest.approx(1.0)


def test_a_long_text_is_truncated_unless_told_otherwise(client: TestClient) -> None:
    content = classify(client, text=FILLER + "Paris")
    assert content["labels"][0]["label"] == "neither"
    assert content["usage"] == {
        "tokens_in": 33,
        "tokens_used": 24,
        "windows": 1,
        "truncated": True,
        "unknown_tokens": 0,
    }
    assert classify(client, text=FILLER + "Paris", on_overflow="truncate")["usage"] == content["usage"]


def test_a_long_text_can_be_read_in_windows(client: TestClient) -> None:
    content = classify(client, text=FILLER + "Paris", on_overflow="window", top_k=2)
    assert content["usage"] == {
        "tokens_in": 33,
        "tokens_used": 35,
        "windows": 2,
        "truncated": False,
        "unknown_tokens": 0,
    }
    assert content["labels"][0]["label"] == "paris"
    assert [label["score"] for label in content["labels"]] == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_long_text_can_be_refused(client: TestClient) -> None:
    told = problem(client, {"text": FILLER, "on_overflow": "error"})
    assert told["code"] == "input_too_long"
    assert told["detail"].startswith("the text takes 32 tokens and the model reads 24 at once; shorten it")
    inputs = [{"text": "in"}, {"text": FILLER, "on_overflow": "error"}]
    assert problem(client, {"inputs": inputs})["detail"].startswith("inputs[1]: the text takes 32 tokens")


def test_more_windows_than_the_limit_are_refused(client: TestClient) -> None:
    told = problem(client, {"text": FILLER * 10, "on_overflow": "window"})
    assert (told["code"], "the limit is 8" in told["detail"]) == ("input_too_long", True)


def test_a_list_is_answered_in_order_with_totals(client: TestClient) -> None:
    inputs = [{"text": "in Paris"}, {"text": "where?", "text_pair": "in Oslo"}, {"text": "she", "top_k": 3}]
    content = classify(client, inputs=inputs)
    assert set(content) == {"results", "usage", "timings_ms", "model"}
    assert [result["labels"][0]["label"] for result in content["results"]] == ["paris", "oslo", "neither"]
    assert len(content["results"][2]["labels"]) == 3
    for result in content["results"]:
        assert set(result) == {"labels", "usage", "timings_ms"}
    for name in ("tokens_in", "tokens_used", "windows"):
        assert content["usage"][name] == sum(result["usage"][name] for result in content["results"])


def test_nul_characters_are_accepted(client: TestClient) -> None:
    assert classify(client, text="\x00")["labels"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (None, [""]),
        ({}, ["text"]),
        ({"text": " "}, ["text"]),
        ({"text": 3}, ["text"]),
        ({"text": "\ud800"}, ["text"]),
        ({"text": "in", "text_pair": "\t"}, ["text_pair"]),
        ({"text": "in", "top_k": 0}, ["top_k"]),
        ({"text": "in", "top_k": 2**31}, ["top_k"]),
        ({"text": "in", "top_k": True}, ["top_k"]),
        ({"text": "in", "on_overflow": "cut"}, ["on_overflow"]),
        ({"text": "in", "max_length": 3}, ["max_length"]),
        ({"inputs": []}, ["inputs"]),
        ({"inputs": "in"}, ["inputs"]),
        ({"inputs": [{"text": "in"}] * 6}, ["inputs"]),
        ({"inputs": ["in"]}, ["inputs[0]"]),
        ({"inputs": [{"text": "in"}, {"text": ""}, {"text": "in", "top_k": 0}]}, ["inputs[1].text", "inputs[2].top_k"]),
        ({"inputs": [{"text": "in"}], "top_k": 1}, ["top_k"]),
    ],
)
def test_a_wrong_value_is_told_at_its_place(client: TestClient, body: object, fields: list[str]) -> None:
    told = problem(client, body)
    assert told["code"] == "invalid_request"
    assert [error["field"] for error in told["errors"]] == fields


def test_a_model_of_many_labels_gives_all_of_them(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(151)]
    table = table_of({}, other=[float(number) for number in range(151)])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("ReduceMean", ["each", "tokens"], ["logits"], keepdims=0),
    ]
    graph = graph_of(nodes, {"logits": ["batch", "labels"]}, table=table, tokens=np.array([1]))
    write_bundle(tmp_path / "classify", "classify", graph)
    config = json.loads((tmp_path / "classify" / "config.json").read_text())
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    (tmp_path / "classify" / "config.json").write_text(json.dumps(config))
    with TestClient(create_app(Settings(bundles=tmp_path, threads=1))) as client:
        for top_k, count in ((1, 1), (101, 101), (151, 151), (1_000_000, 151)):
            assert len(classify(client, text="in", top_k=top_k)["labels"]) == count
        for parameters, count in (({}, 151), ({"top_k": None}, 151), ({"top_k": 150}, 150)):
            body = {"inputs": "in", "parameters": parameters}
            [labels] = client.post("/hf/text-classification", json=body).json()
            assert [label["label"] for label in labels] == names[::-1][:count]
        [labels] = client.post("/hf/text-classification", json={"inputs": "in"}).json()
        assert len(labels) == 151
