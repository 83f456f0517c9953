"""Asks for sizes, prompts and tensors that the model has, which the OpenAPI document cannot name."""

from typing import Any

import schemathesis
from pydantic import ValidationError

from service.compat.inference import InferRequest

SIZE, PROMPT = 4, "query"
TENSORS: Any = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["in Paris"]}]


def is_valid(body: dict[str, Any]) -> bool:
    """Whether nothing but the model can refuse it."""
    try:
        InferRequest.model_validate(body)
    except ValidationError:
        return False
    return True


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: object) -> None:  # of any answer
    """Replace a valid size or prompt by one of the model's; what is refused for its form stays as it is."""
    del kwargs
    body = case.body
    if not isinstance(body, dict):
        return
    if case.path.startswith("/v2/models/") and is_valid(body):
        case.path_parameters = (case.path_parameters or {}) | {"name": "classify"}
        body["inputs"] = TENSORS
        for name in ("parameters", "outputs"):
            body.pop(name, None)
    size = body.get("dimensions")
    if isinstance(size, int | float) and not isinstance(size, bool) and size >= 1 and size == int(size):
        body["dimensions"] = SIZE
    if isinstance(body.get("prompt_name"), str):
        body["prompt_name"] = PROMPT
