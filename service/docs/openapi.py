"""Completes the OpenAPI document by what FastAPI cannot know of our routes."""

from collections.abc import Collection, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic.json_schema import models_json_schema

from models.tasks.base import TaskName
from service.docs.examples import Example
from service.engine.errors import (
    DeadlineExceededError,
    InferenceFailedError,
    InputTooLongError,
    InvalidRequestError,
    ModelNotLoadedError,
    NotReadyError,
    QueueFullError,
    ServiceError,
)
from service.errors import (
    MEDIA_TYPE,
    PROBLEM,
    STATUSES,
    BodyTooLargeError,
    DrainingError,
    ErrorForm,
    MalformedJsonError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from service.http.body import DEADLINE, AtMostInputs
from service.http.gate import OPEN
from service.http.middleware import REQUEST_ID

TASKS, CLIENTS, OPERATION = "tasks", "other people's clients", "operation"  # tags
TAGS = [
    {"name": TASKS, "description": "our own routes, one for each thing that a model can do"},
    {"name": CLIENTS, "description": "the forms of Hugging Face, OpenAI, Cohere and KServe, over the same models"},
    {"name": OPERATION, "description": "health, metrics and what is loaded"},
]
REF = "#/components/schemas/{model}"
TASK_ERRORS = (
    MalformedJsonError,
    UnauthorizedError,
    ModelNotLoadedError,
    BodyTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
    InputTooLongError,
    InferenceFailedError,
    QueueFullError,
    NotReadyError,
    DrainingError,
    DeadlineExceededError,
)
"""The errors of every task's route."""
REQUEST_HEADERS = {
    "X-Request-ID": f"returned with the answer and written to the logs, if it matches `{REQUEST_ID.pattern}`",
    "X-Deadline-Ms": "milliseconds from the receipt of the request; what cannot be answered by then is refused (504)",
    "traceparent": "W3C Trace Context; its ids are written to the logs",
}
PATTERNS = {"X-Deadline-Ms": {"pattern": f"^{DEADLINE}$"}}  # other headers are ignored if they do not match
RESPONSE_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "the id that was sent with the request, or a new one",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
    },
    "Server-Timing": {
        "description": "`timings_ms`, as W3C Server Timing: `tokenization;dur=0.181, ...`, milliseconds",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Model": {
        "description": "the model that answered, if the request names one: its name, percent-encoded",
        "required": False,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "seconds", "required": True, "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "how to send a key", "required": True, "schema": {"type": "string"}},
    "Accept-Encoding": {
        "description": "the values of Content-Encoding that are read, if the one that was sent is not",
        "required": False,
        "schema": {"type": "string"},
    },
}
STATUS_HEADERS = {401: ("WWW-Authenticate",), 415: ("Accept-Encoding",), 503: ("Retry-After",)}


class Application(FastAPI):
    """Extends FastAPI by a document that names our errors, limits and keys."""

    def __init__(
        self,
        *,
        error_forms: Collection[ErrorForm],
        max_inputs: int,
        requires_key: bool,
        root_path: str = "",
        **options: Any,  # FastAPI has some forty
    ) -> None:
        """`requires_key`: whether a request needs a key. `root_path`: the prefix that clients see before each path."""
        self._error_forms = error_forms
        self._max_inputs = max_inputs
        self._requires_key = requires_key
        # FastAPI's telemetry looks up three providers on every request, and we measure by ourselves.
        telemetry: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
        super().__init__(
            title="halfdepth",
            description=_description(),
            openapi_tags=TAGS,
            servers=[{"url": root_path}] if root_path else None,
            telemetry=telemetry,
            **options,
        )

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            models = [form.model for form in self._error_forms]
            _, schemas = models_json_schema([(model, "serialization") for model in models], ref_template=REF)
            components["schemas"] |= schemas["$defs"]
            _bound_lists(document, self._max_inputs)
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            # Without keys in the settings a caller may send one, and need not.
            security: list[dict[str, Any]] = [{"key": []}] if self._requires_key else [{}, {"key": []}]
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    operation["security"] = [] if path in OPEN else security
        return self.openapi_schema or {}


def failures(*possible: type[ServiceError], form: ErrorForm = PROBLEM) -> dict[int | str, dict[str, Any]]:
    """Make OpenAPI's `responses` for a route with these errors."""
    responses: dict[int | str, dict[str, Any]] = {}
    content = {form.media_type: {"schema": {"$ref": REF.format(model=form.model.__name__)}}}
    all_possible: tuple[type[ServiceError], ...] = (*possible, ServiceError)
    for error in all_possible:
        status = STATUSES[error]
        response = responses.setdefault(
            status, {"description": "", "content": content, "headers": _headers(*STATUS_HEADERS.get(status, ()))}
        )
        response["description"] = f"{response['description']} `{error.code}`: {error.__doc__}".strip()
    return responses


def success(*headers: str) -> dict[int | str, dict[str, Any]]:
    """Make OpenAPI's `responses` for an answer with these headers."""
    return {200: {"headers": _headers(*headers)}}


def operation(task: TaskName | None, examples: Mapping[str, Example]) -> dict[str, Any]:
    """Make `openapi_extra` for a task's route: its task, if it has one, its request headers and the bodies of its
    examples.
    """
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
    requests = {name: {"value": example.request} for name, example in examples.items()}
    responses = {name: {"value": example.response} for name, example in examples.items()}
    named = {} if task is None else {"x-task": task}  # for programs that choose routes by the bundles that /info lists
    return named | {
        "parameters": parameters,
        "requestBody": {"content": {"application/json": {"examples": requests}}},
        "responses": {"200": {"content": {"application/json": {"examples": responses}}}},
    }


def _headers(*names: str) -> dict[str, dict[str, Any]]:
    return {name: RESPONSE_HEADERS[name] for name in ("X-Request-ID", *names)}


def _bound_lists(node: Any, limit: int) -> None:  # any part of a document
    """Replace each mark of AtMostInputs by the bound."""
    if isinstance(node, dict):
        if node.pop(AtMostInputs.MARK, False):
            node["maxItems"] = limit
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            _bound_lists(part, limit)


def _description() -> str:
    rows = [
        f"| {status} | `{error.code}` | {error.__doc__} |"
        for error, status in sorted(STATUSES.items(), key=lambda item: (item[1], item[0].code))
    ]
    table = "\n".join(["| status | code | when |", "|---|---|---|", *rows])
    return (
        "Small encoders over HTTP. Offsets count Unicode code points, durations are milliseconds. Errors are "
        f"`{MEDIA_TYPE}` (RFC 9457); under `/hf`, `/v1` and `/v2` they have the form that those clients "
        f"expect.\n\n{table}"
    )
