import json
from typing import Any

import pytest

from service.compat.forms import HUB, INFERENCE, OPENAI
from service.engine.errors import InvalidField
from service.errors import PROBLEM, ErrorForm, Problem
from service.routes import ROUTES, error_form


def problem(status: int = 422, errors: list[InvalidField] | None = None) -> Problem:
    return Problem(title="", status=status, detail="do this", code="some_code", request_id="id-1", errors=errors)


def test_only_other_people_s_routes_have_other_forms() -> None:
    assert {row.path for row in ROUTES if row.error_form is PROBLEM} == {
        "/qa",
        "/classify",
        "/similarity",
        "/embed",
        "/rerank",
        "/entities",
    }


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.path)
def test_the_form_of_a_path_is_that_of_its_route(row: Any) -> None:
    assert error_form(ROUTES, row.path) is row.error_form


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/hf/translation", HUB),
        ("/hf/", HUB),
        ("/v1/models", OPENAI),
        ("/v2", INFERENCE),
        ("/v2/models/qa/infer", INFERENCE),
        ("/v2/rerank/more", INFERENCE),
        ("/v2x", PROBLEM),
        ("/hf", PROBLEM),
        ("/hfx/translation", PROBLEM),
        ("/nowhere/else", PROBLEM),
        ("/", PROBLEM),
        ("", PROBLEM),
    ],
)
def test_a_path_without_a_route_has_the_form_of_the_routes_beside_it(path: str, form: ErrorForm) -> None:
    assert error_form(ROUTES, path) is form


def test_the_hub_s_client_gets_its_own_form() -> None:
    assert json.loads(HUB.write(problem())) == {"error": "do this", "error_type": "some_code"}


def test_the_clients_of_kserve_and_triton_get_their_own_form() -> None:
    assert json.loads(INFERENCE.write(problem())) == {"error": "do this"}


def test_openai_s_client_gets_its_own_form_with_the_field_that_was_refused() -> None:
    fields = [InvalidField(field="input", message="is required"), InvalidField(field="model", message="is required")]
    error = {"message": "do this", "type": "invalid_request_error", "param": "input", "code": "some_code"}
    assert json.loads(OPENAI.write(problem(errors=fields))) == {"error": error}


def test_a_failure_of_ours_is_a_server_error_to_openai_s_client() -> None:
    error = json.loads(OPENAI.write(problem(500)))["error"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "some_code")
