"""Completes the OpenAPI document where FastAPI cannot read it off the routes."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.compat.forms import HubError, OpenAIError
from service.docs.examples import EXAMPLES
from service.engine.errors import ServiceError
from service.errors import MEDIA_TYPE, STATUSES, Problem
from service.http.body import DEADLINE
from service.http.gate import OPEN
from service.telemetry.context import REQUEST_ID

REF = "#/components/schemas/{model}"
LISTS = ("inputs", "targets", "sentences", "input")  # the fields that MAX_INPUTS bounds
REQUEST_HEADERS = {
    "X-Request-ID": f"comes back on the answer and stands in the logs, if it matches `{REQUEST_ID.pattern}`",
    "X-Deadline-Ms": "milliseconds from the receipt of the request; what cannot be answered by then is refused (504)",
    "traceparent": "W3C Trace Context; its ids stand in the logs",
}
PATTERNS = {"X-Deadline-Ms": {"pattern": f"^{DEADLINE}$"}}  # what does not match the others' is ignored
RESPONSE_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "the caller's own, or a new one",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
    },
    "Server-Timing": {
        "description": "`timings_ms`, as W3C Server Timing: `tokenization;dur=0.181, ...`, milliseconds",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "seconds", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "how to send a key", "required": True, "schema": {"type": "string"}},
}
OF_STATUS = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}


class Application(FastAPI):
    """FastAPI, whose document knows our errors, limits and keys."""

    def __init__(self, *, max_inputs: int, closed: bool, **options: Any) -> None:  # FastAPI has some forty options
        """`closed`: whether a request needs a key."""
        self._max_inputs = max_inputs
        self._closed = closed
        # Its telemetry asks for three providers on each request, and we have measurements of our own.
        off: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
        super().__init__(title="halfdepth", description=_description(), telemetry=off, **options)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            forms: Sequence[type[BaseModel]] = (Problem, HubError, OpenAIError)
            _, own = models_json_schema([(form, "serialization") for form in forms], ref_template=REF)
            components["schemas"] |= own["$defs"]
            _bound_lists(components["schemas"], self._max_inputs)
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            # Without keys in the settings a caller need not send one, and may.
            security: list[dict[str, Any]] = [{"key": []}] if self._closed else [{}, {"key": []}]
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    operation["security"] = [] if path in OPEN else security
        return self.openapi_schema or {}


def failures(
    *possible: type[ServiceError], form: type[BaseModel] = Problem, media_type: str = MEDIA_TYPE
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for a route that may fail by these."""
    responses: dict[int | str, dict[str, Any]] = {}
    content = {media_type: {"schema": {"$ref": REF.format(model=form.__name__)}}}
    all_possible: tuple[type[ServiceError], ...] = (*possible, ServiceError)
    for error in all_possible:
        known = responses.setdefault(
            STATUSES[error],
            {"description": "", "content": content, "headers": _headers(*OF_STATUS.get(STATUSES[error], ()))},
        )
        known["description"] = f"{known['description']} `{error.code}`: {error.__doc__}".strip()
    return responses


def success(*headers: str, **more: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"headers": _headers(*headers)} | more}


def examples(path: str) -> dict[str, Any]:
    """`openapi_extra` of a task's route: its request headers and the example's bodies."""
    parameters = [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"} | PATTERNS.get(name, {}),
            "description": description,
        }
        for name, description in REQUEST_HEADERS.items()
    ]
    requests = {name: {"value": example.request} for name, example in EXAMPLES[path].items()}
    responses = {name: {"value": example.response} for name, example in EXAMPLES[path].items()}
    return {
        "parameters": parameters,
        "requestBody": {"content": {"application/json": {"examples": requests}}},
        "responses": {"200": {"content": {"application/json": {"examples": responses}}}},
    }


def _headers(*names: str) -> dict[str, dict[str, Any]]:
    return {name: RESPONSE_HEADERS[name] for name in ("X-Request-ID", *names)}


def _bound_lists(schemas: dict[str, Any], most: int) -> None:
    for schema in schemas.values():
        for field in LISTS:
            place = schema.get("properties", {}).get(field, {})
            for each in (place, *place.get("anyOf", ())):
                if each.get("type") == "array":
                    each["maxItems"] = most


def _description() -> str:
    rows = [
        f"| {status} | `{error.code}` | {error.__doc__} |"
        for error, status in sorted(STATUSES.items(), key=lambda item: (item[1], item[0].code))
    ]
    table = "\n".join(["| status | code | when |", "|---|---|---|", *rows])
    return (
        "Small encoders over HTTP. Offsets count Unicode code points, durations are milliseconds. Errors are "
        f"`{MEDIA_TYPE}` (RFC 9457); under `/hf` and `/v1` they have the form that those clients know.\n\n{table}"
    )
