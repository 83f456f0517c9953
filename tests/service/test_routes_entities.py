"""POST /entities, and the same for clients of the Hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from starlette.testclient import TestClient

from tests.server import serve
from tests.service.compat.test_hub import client as hub_client
from tests.service.compat.test_hub import refused

TEXT = "🙂 she lives in Paris. or Oslo"
PARIS = {"label": "LOC", "text": "Paris.", "start": 15, "end": 21}
OSLO = {"label": "LOC", "text": "Oslo", "start": 25, "end": 29}


def spans(entities: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{name: value for name, value in entity.items() if name != "score"} for entity in entities]


def test_entities_are_spans_in_code_points_with_their_cost(client: TestClient) -> None:
    response = client.post("/entities", json={"text": TEXT})
    content = response.json()
    assert spans(content["entities"]) == [PARIS, OSLO]
    assert all(0.99 < entity["score"] <= 1 for entity in content["entities"])
    assert content["usage"] == {
        "tokens_in": 10,
        "tokens_used": 10,
        "windows": 1,
        "truncated": False,
        "unknown_tokens": 1,
    }
    assert content["model"]["name"] == "entities"
    assert response.headers["server-timing"].startswith("queue;dur=")


def test_several_texts_are_answered_in_order(client: TestClient) -> None:
    texts = [{"text": "Oslo"}, {"text": "she", "aggregation": "first"}, {"text": TEXT, "on_overflow": "error"}]
    content = client.post("/entities", json={"inputs": texts}).json()
    assert [spans(result["entities"]) for result in content["results"]] == [
        [{"label": "LOC", "text": "Oslo", "start": 0, "end": 4}],
        [],
        [PARIS, OSLO],
    ]
    assert content["usage"]["tokens_in"] == 3 + 3 + 10


@pytest.mark.parametrize("options", [{}, {"stride": 0}, {"stride": 10}, {"aggregation": "average"}])
def test_long_texts_are_read_in_windows_and_no_entity_is_told_twice(
    client: TestClient, options: dict[str, object]
) -> None:
    text = "she lives in Oslo or " * 8
    content = client.post("/entities", json={"text": text} | options).json()
    assert [entity["start"] for entity in content["entities"]] == [21 * place + 13 for place in range(8)]
    assert content["usage"]["windows"] > 1


def test_long_texts_are_cut_or_refused_where_that_is_asked(client: TestClient) -> None:
    text = "she lives in Oslo or " * 8
    cut = client.post("/entities", json={"text": text, "on_overflow": "truncate"}).json()
    assert (len(cut["entities"]), cut["usage"]["truncated"]) == (4, True)
    refusal = client.post("/entities", json={"text": text, "on_overflow": "error"})
    assert (refusal.status_code, refusal.json()["code"]) == (422, "input_too_long")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"text": " "}, "text: must not be blank"),
        ({"text": "in", "aggregation": "last"}, "aggregation: Input should be"),
        ({"text": "in", "stride": 22}, "windows hold 22 tokens of the text and cannot share 22 of them; lower stride"),
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, body: dict[str, object], detail: str) -> None:
    response = client.post("/entities", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["detail"].startswith(detail)


@pytest.fixture(scope="module")
def hub(bundles: Path) -> Iterator[InferenceClient]:
    with serve(bundles, API_KEYS="secret") as (_, url):
        yield hub_client(f"{url}/hf", "token-classification")


def test_the_hub_s_client_works_as_it_is(hub: InferenceClient) -> None:
    found = hub.token_classification(TEXT)
    assert [(entity.entity_group, entity.word, entity.start, entity.end) for entity in found] == [
        ("LOC", "paris .", 15, 21),
        ("LOC", "oslo", 25, 29),
    ]
    assert all(0.99 < entity.score <= 1 for entity in found)


def test_the_hub_s_client_gets_tokens_where_it_asks_for_them(hub: InferenceClient) -> None:
    found = hub.token_classification(TEXT, aggregation_strategy="none")
    assert [(token["entity"], token["index"], token["word"]) for token in found] == [
        ("B-LOC", 5, "paris"),
        ("I-LOC", 6, "."),
        ("B-LOC", 8, "oslo"),
    ]
    everything = hub.token_classification(TEXT, ignore_labels=[])
    assert [entity.entity_group for entity in everything] == ["O", "LOC", "O", "LOC"]
    assert hub.token_classification(TEXT, ignore_labels=["LOC", "O"]) == []


def test_the_hub_s_client_gets_all_of_a_long_text_by_a_stride(hub: InferenceClient) -> None:
    text = "she lives in Oslo or " * 8
    assert len(hub.token_classification(text)) == 4
    assert len(hub.token_classification(text, stride=5)) == 8
    with pytest.raises(HfHubHTTPError) as caught:
        hub.token_classification(text, stride=5, aggregation_strategy="none")
    status, content = refused(caught)
    assert status == 422
    assert "stride needs entities; set aggregation_strategy to another than none" in content["error"]
