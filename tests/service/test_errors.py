import json
from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from service import errors
from service.compat.forms import HUB, INFERENCE, OPENAI
from service.engine.errors import InvalidField, InvalidRequestError, QueueFullError, ServiceError
from service.errors import PROBLEM, STATUSES, ErrorForm, UnauthorizedError, invalid_request, problem_response, translate
from service.schemas import QARequest
from service.telemetry.context import RequestContext, current_request


@pytest.fixture(autouse=True)
def request_context() -> Iterator[RequestContext]:
    request = RequestContext("id-1")
    token = current_request.set(request)
    yield request
    current_request.reset(token)


def refusal(body: object) -> InvalidRequestError:
    adapter: TypeAdapter[object] = TypeAdapter(QARequest)
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(body)
    return invalid_request(caught.value)


def every_error() -> list[ServiceError]:
    """One of each kind, with the detail "do this" where it has a choice."""
    with_facts: dict[type[ServiceError], ServiceError] = {
        QueueFullError: QueueFullError(wait_ms=3_000.4, retry_after_s=0.2),
    }
    return [with_facts.get(error) or error("do this") for error in STATUSES]


def subclasses(error: type[ServiceError]) -> set[type[ServiceError]]:
    return {error}.union(*(subclasses(narrower) for narrower in error.__subclasses__()))


def test_every_error_has_its_own_code_and_says_when() -> None:
    codes = [error.code for error in STATUSES]
    assert len(set(codes)) == len(codes)
    assert all(error.__doc__ for error in STATUSES)


def test_every_error_has_a_status() -> None:
    assert subclasses(ServiceError) == set(STATUSES)


def test_every_error_is_rendered_as_a_problem(request_context: RequestContext) -> None:
    for error in every_error():
        response = problem_response(error)
        assert response.status_code == STATUSES[type(error)]
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers.get("retry-after") == ("1" if response.status_code == 503 else None)
        problem = json.loads(bytes(response.body))
        assert problem.pop("title")
        assert problem == {
            "type": "about:blank",
            "status": STATUSES[type(error)],
            "detail": error.detail,
            "code": error.code,
            "request_id": "id-1",
        }
        assert error.detail == "do this" or isinstance(error, QueueFullError)
        assert request_context.code == error.code


@pytest.mark.parametrize(("retry_after_s", "seconds"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (4.0, 4)])
def test_a_time_to_retry_is_rounded_up_in_the_header_and_in_the_text(retry_after_s: float, seconds: int) -> None:
    response = problem_response(QueueFullError(wait_ms=3_000.4, retry_after_s=retry_after_s))
    assert response.headers["retry-after"] == str(seconds)
    assert json.loads(bytes(response.body))["detail"] == (
        f"the queue holds 3000 ms of work; try again after {seconds} s, or ask another replica"
    )


def test_a_request_without_a_key_is_asked_for_one() -> None:
    assert problem_response(UnauthorizedError("sorry")).headers["www-authenticate"] == 'Bearer realm="halfdepth"'


def test_the_fields_of_an_invalid_request_are_listed() -> None:
    field = InvalidField(field="top_k", message="is required")
    problem = json.loads(bytes(problem_response(InvalidRequestError("top_k", errors=[field])).body))
    assert problem["errors"] == [{"field": "top_k", "message": "is required"}]


def test_an_unknown_exception_is_logged_and_its_text_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    response = problem_response(RuntimeError("secret"))
    assert response.status_code == 500
    assert b"secret" not in response.body
    assert json.loads(bytes(response.body))["code"] == "internal"
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "RuntimeError: secret" in caplog.text


def test_a_caller_s_mistake_is_not_logged_as_ours(caplog: pytest.LogCaptureFixture) -> None:
    problem_response(InvalidRequestError("question: is required"))
    assert not caplog.records


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (418, "internal")])
def test_starlette_s_errors_are_translated(status: int, code: str) -> None:
    assert translate(HTTPException(status)).code == code


def test_a_wrong_method_keeps_the_allow_header() -> None:
    assert problem_response(HTTPException(405, headers={"Allow": "POST"})).headers["allow"] == "POST"
    assert "allow" not in problem_response(HTTPException(405)).headers


@pytest.mark.parametrize(("methods", "allowed"), [("GET", "GET, HEAD"), ("GET, HEAD", "GET, HEAD"), ("POST", "POST")])
def test_head_is_allowed_wherever_get_is(methods: str, allowed: str) -> None:
    assert problem_response(HTTPException(405, headers={"Allow": methods})).headers["allow"] == allowed


def test_fields_are_named_by_their_place() -> None:
    item = {"question": "where?", "context": " "}
    error = refusal({"inputs": [item | {"context": "in"}, item | {"top_k": 0}]})
    assert sorted([field.field for field in error.errors]) == ["inputs[1].context", "inputs[1].top_k"]
    assert error.detail.startswith("inputs[1].")
    assert error.detail.endswith(" (and 1 more)")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (None, "the body: must be a JSON object"),
        ([], "the body: must be a JSON object"),
        ({"context": "in Paris"}, "question: is required"),
        ({"question": "where?", "context": "\ud800"}, "context: must be valid Unicode, without lone surrogates"),
        ({"question": "where?", "context": "in", "topk": 1}, "topk: is not a field of this request"),
        ({"question": "where?", "context": "in", "a b": 1}, "?: is not a field of this request"),
        (
            {"question": "where?", "context": "in", "\ud800": 1},
            "the body: must be valid Unicode, without lone surrogates",
        ),
        ({"question": 1, "context": "in"}, "question: Input should be a valid string"),
        ({"inputs": []}, "inputs: List should have at least 1 item after validation, not 0"),
        ({"inputs": [3]}, "inputs[0]: must be a JSON object"),
    ],
)
def test_the_detail_says_what_to_do(body: object, detail: str) -> None:
    assert refusal(body).detail == detail


def test_a_flood_of_errors_is_counted_and_not_listed() -> None:
    error = refusal({f"field{index}": 0 for index in range(errors.MAX_LISTED + 1)})
    assert error.errors == []
    assert error.detail.startswith("the request has 1003 errors")


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (HUB, {"error": "top_k: must be less", "error_type": "invalid_request"}),
        (INFERENCE, {"error": "top_k: must be less"}),
        (
            OPENAI,
            {
                "error": {
                    "message": "top_k: must be less",
                    "type": "invalid_request_error",
                    "param": "top_k",
                    "code": "invalid_request",
                }
            },
        ),
    ],
)
def test_other_people_s_clients_get_their_own_form(form: ErrorForm, body: object) -> None:
    field = InvalidField(field="top_k", message="must be less")
    response = problem_response(InvalidRequestError("top_k: must be less", errors=[field]), form)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/json"
    assert json.loads(bytes(response.body)) == body


def test_a_failure_of_ours_is_a_server_error_to_openai_s_client() -> None:
    error = json.loads(bytes(problem_response(ServiceError("sorry"), OPENAI).body))["error"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "internal")


def test_the_form_of_an_error_is_a_problem_unless_a_route_has_another() -> None:
    assert problem_response(InvalidRequestError("sorry")).media_type == PROBLEM.media_type
