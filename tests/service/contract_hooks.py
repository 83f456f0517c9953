"""Asks for sizes and prompts that the model has, which the OpenAPI document cannot name."""

from typing import Any

import schemathesis

SIZE, PROMPT = 4, "query"


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: object) -> None:  # of any answer
    """Replace a valid size or prompt by one of the model's; what is refused for its form stays as it is."""
    del kwargs
    body = case.body
    if not isinstance(body, dict):
        return
    size = body.get("dimensions")
    if isinstance(size, int | float) and not isinstance(size, bool) and size >= 1 and size == int(size):
        body["dimensions"] = SIZE
    if isinstance(body.get("prompt_name"), str):
        body["prompt_name"] = PROMPT
