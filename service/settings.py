"""Every environment variable that the service reads."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "HALFDEPTH_"


class Settings(BaseSettings):
    """Read from HALFDEPTH_ and the field's name in upper case; a misspelt variable is an error."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    bundles: Annotated[Path, Field(description="directory with one bundle for each task")] = Path("bundles")
    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 for all, as in a container")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="TCP port; 0 takes a free one")] = 8000
    max_body_bytes: Annotated[int, Field(ge=1, description="longest request body, bytes")] = 2 * 1024 * 1024
    max_windows: Annotated[int, Field(ge=1, description="most windows of one input")] = 256
    max_inputs: Annotated[int, Field(ge=1, description="most inputs in one request")] = 1000
    threads: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1, le=1024)],
        Field(description="threads of one inference; auto takes the share of the CPU that this process has"),
    ] = "auto"
    drain_seconds: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="after a signal, how long requests are still taken, seconds"),
    ] = 5.0
    read_timeout_seconds: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="longest that a client may take over a request, seconds")
    ] = 10.0
    log_format: Annotated[Literal["json", "text"], Field(description="form of the log lines on stderr")] = "json"

    @model_validator(mode="before")
    @classmethod
    def _refuse_misspelt_variables(cls, values: dict[str, Any]) -> dict[str, Any]:  # pydantic's own signature
        known = [variable(name) for name in cls.model_fields]
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name.upper() not in known:
                nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
                raise ValueError(f"{name} is not a setting of this service; the nearest is {nearest}")
        return values


def variable(field: str) -> str:
    return PREFIX + field.upper()


def explain(error: ValidationError) -> str:
    """One line that names each wrong variable; values are left out, for some may be secrets."""
    messages: dict[str, list[str]] = {}
    for part in error.errors(include_url=False, include_input=False):
        name = variable(str(part["loc"][0])) if part["loc"] else ""
        messages.setdefault(name, []).append(part["msg"].removeprefix("Value error, "))
    return "; ".join(f"{name}: {' or '.join(texts)}" if name else texts[0] for name, texts in messages.items())


def help_text() -> str:
    """The variables with units and defaults, for `--help`."""
    lines = (
        f"  {variable(name):<28}{field.description} (default: {field.default})"
        for name, field in Settings.model_fields.items()
    )
    return "environment variables:\n" + "\n".join(lines)
