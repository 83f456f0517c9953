"""Defines the bodies of the Open Inference Protocol v2, which KServe, Triton and their clients speak."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from service.http.body import RequestModel
from service.responses import ResponseModel
from service.schemas import WHOLE


def _scalar(value: object) -> object:
    """Raises: PydanticCustomError."""
    if value is not None and not isinstance(value, bool | int | float | str):
        raise PydanticCustomError("scalar", "must be a text, a number or a boolean")
    return value


def _given(parameters: dict[str, object]) -> dict[str, object]:
    """Leave out those that are null, which is the same."""
    return {name: value for name, value in parameters.items() if value is not None}


Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_scalar)]
Parameters = Annotated[dict[str, Scalar], AfterValidator(_given)]
Datatype = Literal["BYTES", "FP64"]


class InputTensor(RequestModel):
    """Texts, one or several for each item of the batch."""

    name: Annotated[str, Field(description="name of the input, as the model's metadata has it")]
    shape: Annotated[
        list[Annotated[int, Field(ge=0), WHOLE]],
        Field(min_length=1, description="the first axis is the batch: that many requests, each answered by itself"),
    ]
    datatype: Annotated[str, Field(description="`BYTES`")]
    parameters: Annotated[
        Parameters,
        Field(
            default_factory=dict,
            description="`binary_data_size`: bytes of the tensor behind the JSON; `content_type`: `str` alone",
        ),
    ]
    data: Annotated[
        list[Any] | None, Field(description="texts, row-major, nested or flat; left out if they come in binary form")
    ] = None


class RequestedOutput(RequestModel):
    """An output that the answer shall have."""

    name: Annotated[str, Field(description="name of the output, as the model's metadata has it")]
    parameters: Annotated[
        Parameters, Field(default_factory=dict, description="`binary_data`: whether it comes in binary form")
    ]


class InferRequest(RequestModel):
    """A batch of requests as tensors; each of the batch is answered by itself, in order."""

    # The pattern, which every text has, makes pydantic look for lone surrogates, which cannot be written.
    id: Annotated[str | None, Field(pattern="", description="repeated in the answer")] = None
    model_name: Annotated[str | None, Field(description="not used: the path names the model")] = None
    parameters: Annotated[
        Parameters,
        Field(
            default_factory=dict,
            description="fields of the task's own route that are no texts, such as `top_k`; `binary_data_output`",
        ),
    ]
    inputs: Annotated[list[InputTensor], Field(min_length=1, description="the texts")]
    outputs: Annotated[
        list[RequestedOutput] | None, Field(description="what the answer shall have; left out, everything")
    ] = None


class TensorMetadata(ResponseModel):
    """What a model takes or gives."""

    name: str = Field(description="name of the tensor: a field of the task's own route")
    datatype: Datatype = Field(description="`BYTES`, a text, which holds JSON in outputs; or `FP64`, numbers")
    shape: list[int] = Field(description="-1 is any length; the first axis is the batch")
    optional: bool = Field(default=False, description="whether it may be left out")


class OutputTensor(TensorMetadata):
    """What the model gave, one or several elements for each item of the batch."""

    parameters: dict[str, int] | None = Field(default=None, description="`binary_data_size`, if it is behind the JSON")
    data: list[Any] | None = Field(default=None, description="elements, row-major, flat; null in binary form")


class ServerMetadata(ResponseModel):
    """What serves."""

    name: Literal["halfdepth"] = Field(default="halfdepth", description="always `halfdepth`")
    version: str = Field(description="version of this service")
    extensions: list[str] = Field(default=["binary_tensor_data"], description="extensions of the protocol")


class Live(ResponseModel):
    """The process runs."""

    live: Literal[True] = Field(default=True, description="always true; otherwise there is no answer")


class Ready(ResponseModel):
    """The service accepts requests."""

    ready: Literal[True] = Field(default=True, description="always true; otherwise the answer is an error")


class ModelReady(Ready):
    """The model accepts requests."""

    name: str = Field(description="name of the model, as in the path")


class ModelMetadata(ResponseModel):
    """What a model is, takes and gives."""

    name: str = Field(description="name of the model, as in the path")
    versions: list[str] = Field(description="the revision of its bundle")
    platform: Literal["onnxruntime_onnx"] = Field(default="onnxruntime_onnx", description="what runs it")
    inputs: list[TensorMetadata] = Field(description="texts; all else are parameters")
    outputs: list[TensorMetadata] = Field(description="the fields of an answer")


class InferResponse(ResponseModel):
    """The answers to a batch, in order."""

    model_name: str = Field(description="name of the model, as in the path")
    model_version: str = Field(description="the revision of its bundle")
    id: str | None = Field(default=None, description="that of the request")
    outputs: list[OutputTensor] = Field(description="what was asked for")
