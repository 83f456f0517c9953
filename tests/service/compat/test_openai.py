"""OpenAI's own client against a real server."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import AuthenticationError, OpenAI, UnprocessableEntityError

from tests.server import serve


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    with serve(bundles, API_KEYS="secret", MAX_INPUTS="5") as (_, url):
        yield f"{url}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="secret") as client:
        yield client


def test_texts_are_embedded_in_order(client: OpenAI) -> None:
    answer = client.embeddings.create(model="any", input=["in Oslo", "Paris"])  # the client asks for base64 by itself
    assert [each.index for each in answer.data] == [0, 1]
    np.testing.assert_allclose(answer.data[1].embedding, [0, 1, 0, 0])
    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1)
    assert answer.model == "similarity"
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)


def test_numbers_and_base64_say_the_same(client: OpenAI, url: str) -> None:
    numbers = client.embeddings.create(model="any", input="a in Oslo", encoding_format="float").data[0].embedding
    decoded = client.embeddings.create(model="any", input="a in Oslo").data[0].embedding
    np.testing.assert_allclose(numbers, decoded, atol=1e-8)
    raw = client.embeddings.with_raw_response.create(model="any", input="Oslo", encoding_format="base64")
    assert raw.headers["server-timing"].startswith("queue;dur=")
    body = {"model": "any", "input": "Oslo", "encoding_format": "base64"}
    answer = httpx.post(f"{url}/embeddings", json=body, headers={"Authorization": "Bearer secret"}).json()
    assert isinstance(answer["data"][0]["embedding"], str)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_tokens_are_refused(client: OpenAI, tokens: list[int]) -> None:
    with pytest.raises(UnprocessableEntityError, match="tokens belong to another model's vocabulary") as caught:
        client.embeddings.create(model="any", input=tokens)
    assert "check_embedding_ctx_length=False" in str(caught.value)  # the client that sends them most is LangChain's
    assert (caught.value.param, caught.value.code, caught.value.type) == (
        "input",
        "invalid_request",
        "invalid_request_error",
    )


def test_a_long_text_is_cut_unless_its_caller_wants_it_read_to_its_end(client: OpenAI) -> None:
    text = "a " * 100 + "Oslo"
    assert client.embeddings.create(model="any", input=text).data[0].embedding[0] == 0
    answer = client.embeddings.create(model="any", input=text, extra_body={"on_overflow": "window"})
    assert answer.usage.prompt_tokens == 103
    assert answer.data[0].embedding[0] > 0


def test_a_text_of_too_many_windows_is_named(client: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError, match=r"input\[1\]") as caught:
        client.embeddings.create(model="any", input=["Oslo", "a " * 10_000], extra_body={"on_overflow": "window"})
    assert caught.value.code == "input_too_long"


def test_too_many_texts_are_refused(client: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError, match="holds 6 items where the limit is 5"):
        client.embeddings.create(model="any", input=["Oslo"] * 6)


def test_a_wrong_key_is_told_in_the_client_s_form(url: str) -> None:
    with OpenAI(base_url=url, api_key="wrong") as client, pytest.raises(AuthenticationError) as caught:
        client.embeddings.create(model="any", input="Oslo")
    assert caught.value.code == "unauthorized"
