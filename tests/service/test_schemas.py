import pytest
from pydantic import TypeAdapter, ValidationError

from service.schemas import QAItem, QAList, QARequest

ADAPTER: TypeAdapter[QAItem | QAList] = TypeAdapter(QARequest)
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
        ("top_k", None),
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
