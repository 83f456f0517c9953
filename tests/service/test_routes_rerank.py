import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle
from models.tasks.rerank import build as rerank_task
from models.tasks.rerank import sigmoid
from service.app import create_app
from service.engine.costs import CostModel
from service.engine.engine import Engine
from service.engine.model import Model
from service.settings import Settings
from tests.service.conftest import FakeSession

BODY = {"query": "where?", "documents": ["she lives", "in Oslo", "in Paris", "or Oslo"]}
LONG = "a " * 60 + "Paris"
DEADLINE = {"x-deadline-ms": "500"}
WAIT_S = 10.0


def ask(client: TestClient, path: str = "/rerank", **fields: object) -> dict[str, Any]:
    response = client.post(path, json=BODY | fields)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def test_documents_are_ordered_by_their_relevance_and_equal_ones_by_their_index(client: TestClient) -> None:
    content = ask(client)
    assert set(content) == {"results", "unscored", "usage", "timings_ms", "model"}
    assert [result["index"] for result in content["results"]] == [2, 1, 3, 0]
    scores = [result["score"] for result in content["results"]]
    assert scores == pytest.approx([sigmoid(logit) for logit in (3, 2, 2, -1)])
    assert content["unscored"] == []
    assert all(set(result) == {"index", "score"} for result in content["results"])
    assert (content["usage"]["windows"], content["usage"]["tokens_in"]) == (4, 4 * 7)
    assert content["model"]["name"] == "rerank"


def test_raw_scores_are_the_logits(client: TestClient) -> None:
    assert [result["score"] for result in ask(client, raw_scores=True)["results"]] == [3, 2, 2, -1]


def test_the_best_are_given_with_their_texts_where_that_is_asked(client: TestClient) -> None:
    content = ask(client, top_n=2, return_documents=True)
    assert [(result["index"], result["document"]) for result in content["results"]] == [(2, "in Paris"), (1, "in Oslo")]
    assert content["usage"]["windows"] == 4
    assert len(ask(client, top_n=100)["results"]) == 4


def test_a_long_document_counts_by_its_best_window(client: TestClient) -> None:
    content = ask(client, documents=["in Oslo", LONG])
    assert [result["index"] for result in content["results"]] == [1, 0]
    assert content["usage"]["windows"] > 2
    cut = ask(client, documents=["in Oslo", LONG], on_overflow="truncate")
    assert [result["index"] for result in cut["results"]] == [0, 1]
    assert cut["usage"]["truncated"]
    refused = client.post("/rerank", json=BODY | {"documents": ["in Oslo", LONG], "on_overflow": "error"})
    assert (refused.status_code, refused.json()["code"]) == (422, "input_too_long")
    assert refused.json()["detail"].startswith("documents[1]: ")


def test_a_query_that_leaves_no_room_is_refused_where_a_document_needs_windows(client: TestClient) -> None:
    response = client.post("/rerank", json={"query": "where " * 30, "documents": ["in Oslo"]})
    assert (response.status_code, response.json()["code"]) == (422, "input_too_long")
    assert (
        "documents[0]: the first text takes 30 of the model's 24 tokens and leaves no room" in response.json()["detail"]
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query": " "}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["in", ""]}, "documents[1]"),
        ({"documents": ["in"] * 6}, "documents"),
        ({"documents": "in"}, "documents"),
        ({"documents": [{"text": "in"}]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
        ({"top_k": 1}, "top_k"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, fields: dict[str, object], field: str) -> None:
    response = client.post("/rerank", json=BODY | fields)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


def test_each_document_of_the_shared_form_is_a_text_or_an_object(client: TestClient) -> None:
    documents = ["she lives", {"text": "in Oslo"}, "in Paris"]
    for path in ("/v1/rerank", "/v2/rerank"):
        content = ask(client, path, documents=documents, return_documents=True, top_n=2, model="any")
        assert content["results"] == [
            {"index": 2, "relevance_score": pytest.approx(sigmoid(3)), "document": {"text": "in Paris"}},
            {"index": 1, "relevance_score": pytest.approx(sigmoid(2)), "document": {"text": "in Oslo"}},
        ]
        assert content["model"] == "rerank"
        assert content["usage"] == {"prompt_tokens": 21, "total_tokens": 21}
        assert content["meta"] == {"tokens": {"input_tokens": 21}}
    assert len(ask(client, "/v1/rerank", top_n=0)["results"]) == 4  # as vLLM has it
    assert ask(client, "/v1/rerank", raw_scores=True)["results"][0] == {"index": 2, "relevance_score": 3.0}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": ["in", {"text": " "}]}, "documents[1].text"),
        ({"documents": [{"title": "in"}]}, "documents[0]"),
        ({"documents": [{"text": "in", "title": "in"}]}, "documents[0].title"),
        ({"max_tokens_per_doc": 100}, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 2}, "max_chunks_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_what_the_shared_form_cannot_have_here_is_refused(
    client: TestClient, fields: dict[str, object], param: str
) -> None:
    response = client.post("/v1/rerank", json=BODY | fields)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param


class Slow:
    """A model that answers so many windows, then none until it is let go."""

    def __init__(self, answered: int) -> None:
        self.left, self.free = answered, threading.Event()

    def __call__(self, window: Features) -> Outputs:
        if self.left == 0:
            self.free.wait(WAIT_S)
        self.left -= 1
        return (np.array([float(window.input_ids[-2])], np.float32),)


@contextmanager
def slow_client(bundles: Path, settings: Settings, answered: int) -> Iterator[TestClient]:
    bundle, act = load_bundle(bundles / "rerank"), Slow(answered)
    engine = Engine([Model(bundle, rerank_task(bundle), FakeSession(act))])
    with TestClient(create_app(settings, engine)) as client:
        yield client
        act.free.set()


def drops(client: TestClient) -> dict[str, float]:
    """What `halfdepth_dropped_total` tells, by its reason."""
    lines = re.findall(
        r'^halfdepth_dropped_total{reason="(\w+)",task="rerank"} (\S+)$', client.get("/metrics").text, re.M
    )
    return {reason: float(count) for reason, count in lines}


@pytest.mark.parametrize("answered", [1, 3])
def test_a_deadline_leaves_out_what_was_not_scored_in_time(bundles: Path, settings: Settings, answered: int) -> None:
    with slow_client(bundles, settings, answered) as client:
        response = client.post("/rerank", json=BODY, headers=DEADLINE)
        told_drops = drops(client)
    assert response.status_code == 200, response.text
    content = response.json()
    assert sorted(result["index"] for result in content["results"]) == list(range(answered))
    assert content["unscored"] == list(range(answered, 4))
    assert content["usage"]["windows"] == answered
    timings = content["timings_ms"]
    parts = timings["queue"] + timings["tokenization"] + timings["inference_wall"] + timings["postprocess"]
    assert parts == pytest.approx(timings["total"], rel=0.05)
    assert response.headers["server-timing"].startswith("queue;dur=")
    assert told_drops == {"partial": 1.0}


def test_a_document_of_which_a_window_is_left_out_is_not_scored(bundles: Path, settings: Settings) -> None:
    with slow_client(bundles, settings, 2) as client:
        response = client.post("/rerank", json=BODY | {"documents": ["in Oslo", LONG]}, headers=DEADLINE)
    assert (response.status_code, response.json()["unscored"]) == (200, [1])


def test_a_deadline_that_leaves_nothing_scored_is_an_error(bundles: Path, settings: Settings) -> None:
    with slow_client(bundles, settings, 0) as client:
        response = client.post("/rerank", json=BODY, headers=DEADLINE)
        told_drops = drops(client)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert told_drops == {"deadline": 1.0}


def test_a_model_that_fails_on_what_was_scored_in_time_is_told_like_any_other(
    bundles: Path, settings: Settings
) -> None:
    def fail(window: Features) -> Outputs:
        slow(window)
        return (np.array([np.nan], np.float32),)

    slow, bundle = Slow(2), load_bundle(bundles / "rerank")
    engine = Engine([Model(bundle, rerank_task(bundle), FakeSession(fail))])
    with TestClient(create_app(settings, engine)) as client:
        response = client.post("/rerank", json=BODY, headers=DEADLINE)
        slow.free.set()
    assert (response.status_code, response.json()["code"]) == (500, "inference_failed")


def test_the_shared_form_is_refused_where_a_document_is_left_out(bundles: Path, settings: Settings) -> None:
    with slow_client(bundles, settings, 3) as client:
        response = client.post("/v1/rerank", json=BODY, headers=DEADLINE)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_an_estimate_that_is_over_the_deadline_refuses_only_what_must_be_whole(
    bundles: Path, settings: Settings
) -> None:
    bundle = load_bundle(bundles / "rerank")
    act = Slow(-1)
    costs = CostModel(fixed_ms=WAIT_S * 1e3 / 8, ms_per_token=0.0)
    engine = Engine([Model(bundle, rerank_task(bundle), FakeSession(act), costs=costs)])
    body = BODY | {"documents": ["in Oslo"] * 5}
    with TestClient(create_app(settings, engine)) as client:
        headers = {"x-deadline-ms": str(WAIT_S * 1e3 / 4)}
        assert client.post("/v1/rerank", json=body, headers=headers).status_code == 504
        assert client.post("/rerank", json=body, headers=headers).json()["unscored"] == []
