"""Serves OpenAI's embeddings and list of models under `/v1`, for its client with `base_url` set."""

import base64
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError, to_json

from models.tasks.build import KnownTask
from models.tasks.similarity import EmbeddingInput
from service.engine.model import Model
from service.http.body import RequestModel
from service.replies import Answered, EngineCall, Vector, embed, places, vectors_json
from service.responses import ResponseModel
from service.schemas import Dimensions, OneOrMoreTexts, Overflow, TaskRequest

TOKENS = (
    "must be text; arrays of tokens belong to another model's vocabulary: tell the client to send text "
    "(LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False)"
)


class EmbeddingsInput(RequestModel):
    """One text or several."""

    input: Annotated[
        OneOrMoreTexts, Field(description="a text, or a list of at most HALFDEPTH_MAX_INPUTS texts; none of them blank")
    ]


class EmbeddingsRequest(TaskRequest, EmbeddingsInput):
    """One text or several. Arrays of tokens are refused: they belong to another model's vocabulary."""

    model: Annotated[
        str, Field(description="name of a loaded model, or any other for the default; the answer names the model")
    ]
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="numbers, or their float32 little-endian bytes in base64")
    ] = "float"
    dimensions: Dimensions = None
    on_overflow: Overflow = "truncate"
    user: Annotated[str | None, Field(description="not used")] = None

    @field_validator("input", mode="before")
    @classmethod
    def _refuse_tokens(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
            raise PydanticCustomError("tokens", TOKENS)
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


class ListedModel(ResponseModel):
    """A model that is loaded."""

    id: str = Field(description="what a request may name it by")
    object: Literal["model"] = Field(default="model", description="always `model`")
    created: int = Field(description="when its file was written here, seconds since 1970")
    owned_by: Literal["halfdepth"] = Field(default="halfdepth", description="always `halfdepth`")
    task: KnownTask = Field(description="its task, on whose routes it answers")


class ModelList(ResponseModel):
    """Every model that is loaded."""

    object: Literal["list"] = Field(default="list", description="always `list`")
    data: list[ListedModel] = Field(description="the models, the default of a task before its others")


def model_list(models: Iterable[Model]) -> ModelList:
    """List models as OpenAI's API does."""
    return ModelList(
        data=[
            ListedModel(id=model.id, created=int(model.bundle.model_path.stat().st_mtime), task=model.bundle.task)
            for model in models
        ]
    )


def embeddings(body: EmbeddingsRequest) -> EngineCall:
    """Embed texts. As on `/embed`, a text that is longer than the model reads at once is cut off unless `on_overflow`,
    which OpenAI's own API does not have, says otherwise.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    data = _base64_data if body.encoding_format == "base64" else _number_data
    make_input = partial(EmbeddingInput, on_overflow=body.on_overflow, dimensions=body.dimensions)
    return embed(places("input", texts), make_input, data, _write)


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
