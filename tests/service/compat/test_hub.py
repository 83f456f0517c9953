"""Hugging Face's own client against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from models.tasks.qa import QAInput
from service.compat.hub import HubQuestion, question_answering
from tests.server import serve


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    with serve(bundles, API_KEYS="secret", MAX_INPUTS="5") as (_, url):
        yield f"{url}/hf"


def client(url: str, tag: str, key: str = "secret") -> InferenceClient:
    return InferenceClient(f"{url}/{tag}", token=key)


def test_a_question_is_answered(url: str) -> None:
    answer = client(url, "question-answering").question_answering(question="where?", context="she lives in Paris.")
    assert not isinstance(answer, list)
    assert (answer.answer, answer.start, answer.end) == ("Paris", 13, 18)
    assert 0.99 < answer.score <= 1


def test_several_answers_are_a_list(url: str) -> None:
    answers = client(url, "question-answering").question_answering(
        question="where?", context="in Oslo or Paris", top_k=2, max_answer_len=1, doc_stride=4, align_to_words=True
    )
    assert isinstance(answers, list)
    assert [each.answer for each in answers] == ["Paris", "Oslo"]


@pytest.mark.parametrize(("sent", "asked"), [(None, True), (True, True), (False, False)])
def test_whole_words_may_be_asked_for_or_not(sent: bool | None, asked: bool) -> None:
    inputs = {"question": "where?", "context": "in"}
    body = HubQuestion.model_validate({"inputs": inputs, "parameters": {"align_to_words": sent}})
    [item] = question_answering(body).items.values()
    assert isinstance(item, QAInput)
    assert item.align_to_words is asked


def test_words_may_be_cut_for_hub_clients(url: str) -> None:
    answer = client(url, "question-answering").question_answering(
        question="where?", context="she lives in Paris.", align_to_words=False
    )
    assert not isinstance(answer, list)
    assert answer.answer == "Paris"


def test_an_impossible_answer_is_empty(url: str) -> None:
    answer = client(url, "question-answering").question_answering(
        question="where?", context="she lives", handle_impossible_answer=True
    )
    assert not isinstance(answer, list)
    assert (answer.answer, answer.start, answer.end) == ("", 0, 0)
    assert answer.score > 0.99


def test_a_text_is_classified(url: str) -> None:
    labels = client(url, "text-classification").text_classification("she lives in Paris.")
    assert [each.label for each in labels] == ["paris", "neither", "oslo"]
    (label,) = client(url, "text-classification").text_classification("in Oslo", top_k=1)
    assert label.label == "oslo"


def test_sentences_are_compared(url: str) -> None:
    scores = client(url, "sentence-similarity").sentence_similarity("Oslo", other_sentences=["Oslo", "Paris"])
    assert scores == pytest.approx([1, 0])


def test_a_text_is_embedded(url: str) -> None:
    vectors = client(url, "feature-extraction").feature_extraction("Paris")
    np.testing.assert_allclose(vectors, [[0, 1, 0, 0]])
    assert vectors.dtype == np.float32


def test_a_text_that_is_too_long_is_cut_unless_that_is_refused(url: str) -> None:
    features = client(url, "feature-extraction")
    assert features.feature_extraction("a " * 100, normalize=True, truncation_direction="Right").shape == (1, 4)
    with pytest.raises(HfHubHTTPError) as caught:
        features.feature_extraction("a " * 100, truncate=False)
    assert refused(caught)[1]["error_type"] == "input_too_long"


def refused(caught: pytest.ExceptionInfo[HfHubHTTPError]) -> tuple[int, dict[str, str]]:
    response = caught.value.response
    assert response is not None
    content: dict[str, str] = json.loads(response.content)
    return response.status_code, content


def test_what_the_model_cannot_do_is_refused(url: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "feature-extraction").feature_extraction("Paris", normalize=False)
    assert refused(caught)[0] == 422
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "question-answering").question_answering(question="where?", context="in", max_seq_len=9)
    assert refused(caught) == (
        422,
        {"error": "parameters.max_seq_len: is not supported; leave it out", "error_type": "invalid_request"},
    )


def test_too_many_sentences_are_refused(url: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "sentence-similarity").sentence_similarity("Oslo", other_sentences=["Oslo"] * 6)
    assert refused(caught)[1]["error"].startswith("inputs.sentences: holds 6 items where the limit is 5")


def test_a_wrong_key_and_a_wrong_route_are_told_in_the_client_s_form(url: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "sentence-similarity", "wrong").sentence_similarity("Oslo", other_sentences=["Oslo"])
    assert refused(caught)[1]["error_type"] == "unauthorized"
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "translation").sentence_similarity("Oslo", other_sentences=["Oslo"])
    assert (refused(caught)[0], refused(caught)[1]["error_type"]) == (404, "not_found")


@pytest.mark.parametrize(("sent", "asked"), [({}, 15), ({"max_answer_len": None}, 15), ({"max_answer_len": 30}, 30)])
def test_an_answer_is_as_long_as_the_pipelines_unless_asked_otherwise(sent: dict[str, int | None], asked: int) -> None:
    body = HubQuestion.model_validate({"inputs": {"question": "where?", "context": "in"}, "parameters": sent})
    [item] = question_answering(body).items.values()
    assert isinstance(item, QAInput)
    assert item.max_answer_tokens == asked


@pytest.mark.parametrize("options", [None, {}, {"wait_for_model": True, "use_cache": None}])
def test_options_of_the_hosted_api_change_no_answer(url: str, options: dict[str, object] | None) -> None:
    headers = {"authorization": "Bearer secret"}
    body = {"inputs": ["in Oslo"]}  # as LangChain's HuggingFaceInferenceAPIEmbeddings and langchain4j send it
    plain, with_options = (
        httpx.post(f"{url}/feature-extraction", json=content, headers=headers)
        for content in (body, body | {"options": options})
    )
    assert with_options.status_code == 200, with_options.text
    assert with_options.json() == plain.json()


def test_a_parameter_that_is_not_supported_says_so(url: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        client(url, "text-classification").text_classification("in Oslo", function_to_apply="sigmoid")
    assert caught.value.response.json()["error"] == "parameters.function_to_apply: is not supported; leave it out"
