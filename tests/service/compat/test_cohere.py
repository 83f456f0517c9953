"""Cohere's own clients against a real server, and what those of infinity, Jina and vLLM send."""

from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from models.tasks.rerank import sigmoid
from tests.server import serve

DOCUMENTS = ["she lives", "in Oslo", "in Paris"]


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    with serve(bundles, API_KEYS="secret", MAX_INPUTS="5") as (_, url):
        yield url


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """What the clients leave open if they make it themselves."""
    with httpx.Client() as http:
        yield http


def test_the_first_client_ranks_texts_and_objects(url: str, http: httpx.Client) -> None:
    client = cohere.Client("secret", base_url=url, httpx_client=http)
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]]
    answer = client.rerank(model="any", query="where?", documents=documents, top_n=2, return_documents=True)
    assert [(result.index, result.document.text) for result in answer.results] == [(2, "in Paris"), (1, "in Oslo")]
    assert answer.results[0].relevance_score == pytest.approx(sigmoid(3))
    assert answer.meta.tokens.input_tokens == 21
    assert answer.id


def test_the_second_client_ranks_texts(url: str, http: httpx.Client) -> None:
    client = cohere.ClientV2("secret", base_url=url, httpx_client=http)
    answer = client.rerank(model="rerank-v3.5", query="where?", documents=DOCUMENTS)
    assert [result.index for result in answer.results] == [2, 1, 0]
    assert [result.relevance_score for result in answer.results] == pytest.approx([sigmoid(x) for x in (3, 2, -1)])


def test_a_priority_is_taken_and_changes_nothing(url: str, http: httpx.Client) -> None:
    client = cohere.ClientV2("secret", base_url=url, httpx_client=http)
    plain, urgent = (
        client.rerank(
            model="rerank-v3.5",
            query="where?",
            documents=DOCUMENTS,
            request_options={"additional_body_parameters": more},
        )
        for more in ({}, {"priority": 1})
    )
    assert urgent.results == plain.results


def test_what_is_not_supported_is_told_in_a_sentence(url: str, http: httpx.Client) -> None:
    client = cohere.ClientV2("secret", base_url=url, httpx_client=http)
    with pytest.raises(ApiError) as caught:
        client.rerank(model="any", query="where?", documents=DOCUMENTS, max_tokens_per_doc=100)
    assert caught.value.status_code == 422
    assert caught.value.body["error"]["message"] == "max_tokens_per_doc: is not supported; leave it out"
    with pytest.raises(ApiError) as caught:
        cohere.ClientV2("wrong", base_url=url, httpx_client=http).rerank(
            model="any", query="where?", documents=DOCUMENTS
        )
    assert caught.value.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"model": "BAAI/bge-reranker-base", "return_documents": True, "raw_scores": False},  # infinity's
        {"model": "jina-reranker-v2-base-multilingual", "top_n": 3, "return_documents": True},  # Jina's
        {"model": "BAAI/bge-reranker-base", "top_n": 0, "return_documents": True},  # vLLM's
    ],
    ids=["infinity", "Jina", "vLLM"],
)
def test_what_other_servers_document_is_answered(url: str, body: dict[str, object]) -> None:
    headers = {"authorization": "Bearer secret"}
    response = httpx.post(f"{url}/v1/rerank", json={"query": "where?", "documents": DOCUMENTS} | body, headers=headers)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [result["index"] for result in answer["results"]] == [2, 1, 0]
    assert [result["document"]["text"] for result in answer["results"]] == ["in Paris", "in Oslo", "she lives"]
    assert answer["usage"]["total_tokens"] == 21
    assert answer["model"] == "rerank"
