"""Serves OpenAI's embeddings under `/v1/embeddings`, for its client with `base_url` set."""

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError, to_json

from service.replies import Answered, EngineCall, Vector, embed, places, vectors_json
from service.responses import ResponseModel
from service.schemas import OneOrMoreTexts, RequestModel


class EmbeddingsRequest(RequestModel):
    """One text or several. Arrays of tokens are refused: they belong to another model's vocabulary."""

    input: Annotated[
        OneOrMoreTexts, Field(description="a text, or a list of at most HALFDEPTH_MAX_INPUTS texts; none of them blank")
    ]
    model: Annotated[str, Field(description="any name; the answer names the model that is loaded")]
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="numbers, or their float32 little-endian bytes in base64")
    ] = "float"
    user: Annotated[str | None, Field(description="not used")] = None

    @field_validator("input", mode="before")
    @classmethod
    def _refuse_tokens(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
            raise PydanticCustomError("tokens", "must be text; arrays of tokens belong to another model's vocabulary")
        return value


class Embedding(ResponseModel):
    """The embedding of one text."""

    object: Literal["embedding"] = Field(description="always `embedding`")
    index: int = Field(description="position of its text in `input`, from 0")
    embedding: list[float] | str = Field(description="a vector of unit length, encoded as `encoding_format` says")


class EmbeddingsUsage(ResponseModel):
    """Numbers of tokens, special tokens included."""

    prompt_tokens: int = Field(description="tokens of all texts")
    total_tokens: int = Field(description="the same number")


class EmbeddingsResponse(ResponseModel):
    """One embedding for each text, in order."""

    object: Literal["list"] = Field(description="always `list`")
    data: list[Embedding] = Field(description="the embeddings")
    model: str = Field(description="name of the model that answered")
    usage: EmbeddingsUsage = Field(description="what it cost")


def embeddings(body: EmbeddingsRequest) -> EngineCall:
    """Embed texts. A text that is longer than the model reads at once is read in windows, and its embedding is their
    mean, weighted by tokens: this form of response could not say that a text was cut off.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    data = _base64_data if body.encoding_format == "base64" else _number_data
    return embed(places("input", texts), "window", data, _write)


def _write(answered: Answered) -> bytes:
    tokens = answered.usage.tokens_in
    answer = {
        "object": "list",
        "model": answered.bundle.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return b'%s,"data":%s}' % (to_json(answer)[:-1], answered.result)


def _base64_data(vectors: Sequence[Vector]) -> bytes:
    return _data([b'"%s"' % base64.b64encode(vector.astype("<f4").tobytes()) for vector in vectors])


def _number_data(vectors: Sequence[Vector]) -> bytes:
    return _data([vectors_json([vector])[1:-1] for vector in vectors])


def _data(embeddings: Sequence[bytes]) -> bytes:
    """Write the list of embeddings. `embeddings`: the JSON of every one."""
    items = [b'{"object":"embedding","index":%d,"embedding":%s}' % pair for pair in enumerate(embeddings)]
    return b"[%s]" % b",".join(items)
