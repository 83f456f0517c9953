"""/qa over several contexts, held against each context alone."""

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from starlette.testclient import TestClient

from models.tasks.qa import QAInput, QuestionAnswering, null_logit, span_logits
from service.app import create_app
from service.engine.model import Model
from service.settings import Settings
from service.startup.loading import load_engine
from tests.service.conftest import VOCABULARY, tiny_qa_graph, write_bundle

WORDS = [word for word in VOCABULARY if not word.startswith("[")]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two bundles whose tokens have logits of their own by chance; the second cannot abstain."""
    root = tmp_path_factory.mktemp("contexts")
    table = np.random.default_rng(5).normal(0, 2, (len(VOCABULARY), 2)).astype(np.float32)
    table[VOCABULARY["[CLS]"]] = 1.0
    graph = tiny_qa_graph()
    [initializer] = [each for each in graph.graph.initializer if each.name == "table"]
    initializer.CopyFrom(onnx.numpy_helper.from_array(table, "table"))
    for name in ("qa", "other"):
        write_bundle(root / name, "qa", graph)
    config = root / "other" / "config.json"
    config.write_text(config.read_text().replace('"no_answer_threshold": 0.0', '"no_answer_threshold": null'))
    return Settings(bundles=root, threads=2, max_inputs=50)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def model(settings: Settings) -> Iterator[Model]:
    engine = load_engine(settings)
    yield engine.model("qa")
    engine.close()


def texts(count: int, seed: int = 0) -> list[str]:
    """Of one window and of several."""
    random = Random(seed)
    return [" ".join(random.choices(WORDS, k=random.randint(1, 40))) for _ in range(count)]


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/qa", json={"question": "where?", "doc_stride": 4} | body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("top_k", [1, 7])
def test_fifty_contexts_answer_as_each_alone_under_one_softmax(client: TestClient, model: Model, top_k: int) -> None:
    contexts, task = texts(50), model.task
    assert isinstance(task, QuestionAnswering)
    spans, nulls, expected = [], [], []
    for index, context in enumerate(contexts):
        item = QAInput("where?", context, doc_stride=4, top_k=top_k)
        encoding = task.encode(item)
        outputs = [model.session.run(window) for window in encoding.windows]
        logits = span_logits(encoding, outputs).astype(np.float64)
        spans.append(logits[np.isfinite(logits)])
        nulls.append(null_logit(outputs))
        alone = task.decode(encoding, outputs)
        normalizer = np.log(np.exp(spans[-1]).sum() + np.exp(nulls[-1]))
        expected += [
            (np.log(answer.score) + normalizer, index, answer.start, answer.end, answer.text)
            for answer in alone.answers
        ]
    total = np.exp(np.concatenate(spans)).sum() + np.exp(min(nulls))
    best = sorted(expected, key=lambda entry: -round(entry[0], 4))[:top_k]  # equal ones in the order of contexts
    result = ask(client, contexts=contexts, top_k=top_k)
    found = [(each["context"], each["start"], each["end"], each["text"]) for each in result["answers"]]
    assert found == [entry[1:] for entry in best]
    scores = [each["score"] for each in result["answers"]]
    assert scores == pytest.approx([np.exp(entry[0]) / total for entry in best], rel=1e-5)
    assert result["no_answer_score"] == pytest.approx(np.exp(min(nulls)) / total, rel=1e-5)
    assert all(contexts[each["context"]][each["start"] : each["end"]] == each["text"] for each in result["answers"])


@pytest.mark.parametrize("context", texts(6, seed=1))
@pytest.mark.parametrize("name", ["qa", "other"])
def test_one_context_in_a_list_is_answered_as_alone(client: TestClient, context: str, name: str) -> None:
    alone = ask(client, context=context, top_k=5, model=name)
    listed = ask(client, contexts=[context], top_k=5, model=name)
    assert [answer.pop("context") for answer in listed["answers"]] == [0] * len(alone["answers"])
    for answer, same in zip(alone["answers"], listed["answers"], strict=True):
        assert answer.pop("score") == pytest.approx(same.pop("score"), abs=1e-9)
        assert answer == same
    assert listed["no_answer_score"] == pytest.approx(alone["no_answer_score"], abs=1e-9)
    assert listed["usage"] == alone["usage"]
    assert "context" not in alone["answers"][0]


def test_usage_is_the_sum_and_stages_make_up_the_total(client: TestClient) -> None:
    contexts = texts(4, seed=2)
    together = ask(client, contexts=contexts)
    alone = [ask(client, context=context)["usage"] for context in contexts]
    for field in ("tokens_in", "tokens_used", "windows", "unknown_tokens"):
        assert together["usage"][field] == sum(usage[field] for usage in alone)
    timings_ms = together["timings_ms"]
    parts = sum(timings_ms[stage] for stage in ("queue", "tokenization", "inference_wall", "postprocess"))
    assert parts == pytest.approx(timings_ms["total"], abs=0.01)


def test_allow_no_answer_is_decided_over_all_contexts(client: TestClient) -> None:
    lists = [[first, second] for first in WORDS[:8] for second in WORDS[8:16]]
    kinds = set()
    for contexts in lists:
        plain = ask(client, contexts=contexts)
        is_empty = plain["no_answer_score"] > plain["answers"][0]["score"]
        answered = ask(client, contexts=contexts, allow_no_answer=True)["answers"]
        assert answered == ([] if is_empty else plain["answers"])
        kinds.add(is_empty)
    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"contexts": ["a"], "context": "a"}, "the body: give context or contexts, not both"),
        ({}, "context: is required"),
        ({"contexts": []}, "contexts: List should have at least 1 item after validation, not 0"),
        ({"contexts": ["a", "a", "a", " "]}, "contexts[3]: must not be blank"),
        ({"contexts": ["a"] * 51}, "contexts: holds 51 items where the limit is 50; split the request"),
        ({"contexts": "a"}, "contexts: Input should be a valid list"),
        (
            {"inputs": [{"question": "a", "contexts": ["a"]}]},
            "inputs[0]: contexts cannot stand in inputs; give each item one context, or send a request for each "
            "question",
        ),
    ],
)
def test_what_is_not_one_of_both_is_refused(client: TestClient, body: dict[str, Any], detail: str) -> None:
    response = client.post("/qa", json=({} if "inputs" in body else {"question": "where?"}) | body)
    assert (response.status_code, response.json()["detail"]) == (422, detail)


def test_null_is_the_same_as_leaving_out(client: TestClient) -> None:
    assert ask(client, context="in oslo", contexts=None, inputs=None)["answers"][0]["text"]
    assert ask(client, contexts=["in oslo"], context=None, inputs=None)["answers"][0]["context"] == 0
    body = {"inputs": [{"question": "a", "context": "b"}], "question": None, "context": None, "contexts": None}
    assert client.post("/qa", json=body).status_code == 200


def test_a_model_that_cannot_abstain_refuses_to(client: TestClient) -> None:
    body = {"question": "where?", "contexts": ["in oslo"], "allow_no_answer": True, "model": "other"}
    response = client.post("/qa", json=body)
    assert response.status_code == 422
    assert "this model has no threshold for 'no answer'" in response.json()["detail"]


def test_a_deadline_is_kept_or_refused(client: TestClient) -> None:
    body = {"question": "where?", "contexts": texts(50)}
    late = client.post("/qa", json=body, headers={"X-Deadline-Ms": "0.001"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    assert client.post("/qa", json=body, headers={"X-Deadline-Ms": "60000"}).status_code == 200
