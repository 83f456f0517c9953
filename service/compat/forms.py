"""The forms in which other people's clients expect an error."""

from http import HTTPStatus

from pydantic import BaseModel, Field


class HubError(BaseModel):
    """As Hugging Face's Inference API words it."""

    error: str = Field(description="a sentence that says what to do")
    error_type: str = Field(description="our code: stable, for programs")


class OpenAIErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="a sentence that says what to do")
    type: str = Field(description="`invalid_request_error` or `server_error`")
    param: str | None = Field(description="the field that was refused, if it was one")
    code: str = Field(description="our code: stable, for programs")


class OpenAIError(BaseModel):
    """As OpenAI's API words it."""

    error: OpenAIErrorBody = Field(description="what went wrong")


def hub_error(detail: str, _status: int, code: str, _field: str | None) -> HubError:
    return HubError(error=detail, error_type=code)


def openai_error(detail: str, status: int, code: str, field: str | None) -> OpenAIError:
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return OpenAIError(error=OpenAIErrorBody(message=detail, type=kind, param=field, code=code))


FORMS = {"/hf/": hub_error, "/v1/": openai_error}
"""By the beginning of a request's path."""
