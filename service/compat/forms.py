"""Writes errors in the forms that other people's clients expect."""

from http import HTTPStatus

from pydantic import BaseModel, Field

from service.errors import ErrorForm, Problem

JSON = "application/json"


class HubError(BaseModel):
    """An error in the form of Hugging Face's Inference API."""

    error: str = Field(description="a sentence that says what to do")
    error_type: str = Field(description="our code: stable, for programs")


class InferenceError(BaseModel):
    """An error in the form of the Open Inference Protocol."""

    error: str = Field(description="a sentence that says what to do")


class OpenAIErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="a sentence that says what to do")
    type: str = Field(description="`invalid_request_error` or `server_error`")
    param: str | None = Field(description="the field that was refused, if a field was")
    code: str = Field(description="our code: stable, for programs")


class OpenAIError(BaseModel):
    """An error in the form of OpenAI's API."""

    error: OpenAIErrorBody = Field(description="what went wrong")


def _hub_error(problem: Problem) -> str:
    return HubError(error=problem.detail, error_type=problem.code).model_dump_json()


def _inference_error(problem: Problem) -> str:
    return InferenceError(error=problem.detail).model_dump_json()


def _openai_error(problem: Problem) -> str:
    body = OpenAIErrorBody(
        message=problem.detail,
        type="server_error" if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error",
        param=problem.errors[0].field if problem.errors else None,
        code=problem.code,
    )
    return OpenAIError(error=body).model_dump_json()


HUB = ErrorForm(HubError, JSON, _hub_error)
INFERENCE = ErrorForm(InferenceError, JSON, _inference_error)
OPENAI = ErrorForm(OpenAIError, JSON, _openai_error)
