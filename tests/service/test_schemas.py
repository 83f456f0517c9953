from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.testclient import TestClient

from service.http.body import RequestModel
from service.routes import ROUTES, TaskRoute
from service.schemas import ClassifyRequest, QAContexts, QAItem, QAList, QAQuestion, QARequest

ADAPTER: TypeAdapter[QAQuestion | QAContexts | QAList] = TypeAdapter(QARequest)
ITEM = {"question": "where?", "context": "in Paris."}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 1),
        ("top_k", 100),
        ("max_answer_tokens", 1),
        ("max_answer_tokens", 384),
        ("doc_stride", 0),
        ("doc_stride", 383),
        ("question", "\x00"),
        ("question", "\ufeff"),
        ("context", "a\x00b"),
    ],
)
def test_bounds_are_within(field: str, value: object) -> None:
    assert ADAPTER.validate_python(ITEM | {field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question", ""),
        ("question", " \t\n\u2003"),
        ("question", "\x85"),
        ("question", None),
        ("question", 3),
        ("question", ["where?"]),
        ("question", "\ud800"),
        ("context", ""),
        ("context", "  "),
        ("context", "in \udfff Paris"),
        ("top_k", 0),
        ("top_k", 101),
        ("top_k", 10_000),
        ("top_k", 10**400),
        ("top_k", "1"),
        ("top_k", 1.5),
        ("top_k", float("inf")),
        ("top_k", True),
        ("max_answer_tokens", 0),
        ("max_answer_tokens", 385),
        ("doc_stride", -1),
        ("doc_stride", 384),
        ("allow_no_answer", "true"),
        ("allow_no_answer", 1),
        ("topk", 1),
    ],
)
def test_a_wrong_value_is_refused_at_its_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(ITEM | {field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_a_list_names_the_index_of_the_bad_item() -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python({"inputs": [ITEM, ITEM | {"top_k": 0}]})
    assert [error["loc"] for error in caught.value.errors()] == [("inputs", 1, "top_k")]


@pytest.mark.parametrize("body", [{"inputs": []}, {"inputs": None}, {"inputs": ITEM}, {"inputs": [ITEM], "top_k": 1}])
def test_a_list_is_a_list_of_at_least_one_and_nothing_beside(body: object) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(body)


@pytest.mark.parametrize("body", [None, [], [ITEM], "text", 3, True, {}])
def test_a_body_that_is_no_request_is_refused(body: object) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(body)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    item = QAItem.model_validate({"question": "where?", "context": "in", "top_k": 17.0})
    assert (item.top_k, type(item.top_k)) == (17, int)


BODIES: dict[str, dict[str, Any]] = {
    "/qa": ITEM,
    "/classify": {"text": "in"},
    "/similarity": {"source": "in", "targets": ["in"]},
    "/embed": {"inputs": "in"},
    "/rerank": {"query": "where?", "documents": ["in"]},
    "/entities": {"text": "in"},
    "/hf/question-answering": {"inputs": ITEM},
    "/hf/text-classification": {"inputs": "in"},
    "/hf/token-classification": {"inputs": "in"},
    "/hf/sentence-similarity": {"inputs": {"source_sentence": "in", "sentences": ["in"]}},
    "/hf/feature-extraction": {"inputs": "in"},
    "/v1/embeddings": {"input": "in", "model": "any"},
    "/v1/rerank": {"query": "where?", "documents": ["in"]},
    "/v2/rerank": {"query": "where?", "documents": ["in"]},
}


def models_within(annotation: Any) -> list[type[RequestModel]]:
    """The request models that an annotation names, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, RequestModel):
        fields = annotation.model_fields.values()
        return [annotation, *(model for field in fields for model in models_within(field.annotation))]
    return [model for part in get_args(annotation) for model in models_within(part)]


def with_nulls(model: type[RequestModel], body: dict[str, Any]) -> dict[str, Any]:
    return body | {name: None for name, field in model.model_fields.items() if not field.is_required()}


def nulled(row: TaskRoute) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Bodies with null in all their optional fields, beside the same without them."""
    body = BODIES[row.path]
    [first, *others] = models_within(row.body)
    yield body, with_nulls(first, body)
    for name, ending in (("parameters", "Parameters"), ("options", "Options")):
        if name in first.model_fields:
            [options] = [model for model in others if model.__name__.endswith(ending)]
            yield body, body | {name: with_nulls(options, {})}
    if row.path in ("/qa", "/classify"):
        item = {name: value for name, value in with_nulls(first, body).items() if name != "model"}
        yield {"inputs": [body]}, {"inputs": [item]} | dict.fromkeys(body)
        yield body, with_nulls(first, body) | {"inputs": None}


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.path)
def test_null_in_an_optional_field_is_the_same_as_leaving_it_out(client: TestClient, row: TaskRoute) -> None:
    headers = {"x-request-id": "the-same"}  # which some forms repeat in the body
    for plain, with_null in nulled(row):
        expected, response = (client.post(row.path, json=body, headers=headers) for body in (plain, with_null))
        assert (expected.status_code, response.status_code) == (200, 200), response.text
        assert without_timings(response.json()) == without_timings(expected.json())


def without_timings(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: without_timings(value) for name, value in content.items() if name != "timings_ms"}
    return [without_timings(part) for part in content] if isinstance(content, list) else content


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.path)
def test_null_in_a_field_that_is_needed_is_refused(client: TestClient, row: TaskRoute) -> None:
    for name in BODIES[row.path]:
        assert client.post(row.path, json=BODIES[row.path] | {name: None}).status_code == 422


def test_null_in_an_unknown_field_is_refused(client: TestClient) -> None:
    assert client.post("/qa", json=ITEM | {"topk": None}).json()["errors"][0]["field"] == "topk"


def test_optional_fields_are_documented_as_nullable_and_no_others_are(client: TestClient) -> None:
    document = client.get("/openapi.json").json()["components"]["schemas"]
    models = {model.__name__: model for row in ROUTES for model in models_within(row.body)}
    seen = 0
    for name, model in models.items():
        for field_name, schema in (document.get(name) or document[name.replace("[", "_").replace("]", "_")])[
            "properties"
        ].items():
            nullable = {"type": "null"} in schema.get("anyOf", ()) or schema.get("type") == "null"
            assert nullable != model.model_fields[field_name].is_required(), (name, field_name)
            seen += nullable
    assert seen > 20


def test_every_label_may_be_asked_for() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ClassifyRequest)
    assert adapter.validate_python({"text": "in", "top_k": 151}).top_k == 151
