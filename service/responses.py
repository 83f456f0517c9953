"""The bodies of responses. Offsets count Unicode code points; durations are milliseconds."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.tasks.bundle import Precision, TaskName


class ResponseModel(BaseModel):
    """Reads the kernel's own objects by their attributes; a mistake of ours must not log an answer's text."""

    model_config = ConfigDict(from_attributes=True, frozen=True, hide_input_in_errors=True)


class Usage(ResponseModel):
    """What an input, or a whole request, cost in tokens."""

    tokens_in: int = Field(description="before any truncation, special tokens counted")
    tokens_used: int = Field(description="what the model read, summed over windows")
    windows: int
    truncated: bool


class Timings(ResponseModel):
    """Milliseconds. queue, tokenization, inference_wall and postprocess make up the total."""

    queue: float = Field(description="in which nothing was done of it")
    tokenization: float
    inference: float = Field(description="neural compute, summed over windows")
    inference_wall: float = Field(description="elapsed time of the inference")
    postprocess: float
    total: float


class ModelInfo(ResponseModel):
    """Which model answered."""

    name: str
    revision: str
    precision: Precision


class Answer(ResponseModel):
    """A span of the context."""

    text: str
    start: int = Field(description="code points from the start of the context")
    end: int
    score: float = Field(description="probability among all valid spans")


class QAResult(ResponseModel):
    """Answers, best first, without overlaps."""

    answers: list[Answer]
    no_answer_score: float | None = Field(description="null if the model was not trained to abstain")
    usage: Usage
    timings_ms: Timings


class Label(ResponseModel):
    """A class of the model's."""

    label: str
    score: float = Field(
        description="probability among all labels, or of this label alone where several may hold; mean over windows"
    )


class ClassifyResult(ResponseModel):
    """Labels, likeliest first."""

    labels: list[Label]
    usage: Usage
    timings_ms: Timings


class QAResponse(QAResult):
    """To one question."""

    model: ModelInfo


class ClassifyResponse(ClassifyResult):
    """To one text or pair."""

    model: ModelInfo


ResultT = TypeVar("ResultT", bound=ResponseModel)


class ListResponse(ResponseModel, Generic[ResultT]):
    """To several, in the order of `inputs`, with the totals."""

    results: list[ResultT]
    usage: Usage
    timings_ms: Timings
    model: ModelInfo


class QAListResponse(ListResponse[QAResult]):
    """To several questions, in the order of `inputs`, with the totals."""


class ClassifyListResponse(ListResponse[ClassifyResult]):
    """To several texts or pairs, in the order of `inputs`, with the totals."""


class SimilarityResponse(ResponseModel):
    """The totals are of the distinct texts: each is read once, however often it stands in the request."""

    scores: list[float] = Field(description="cosine of source and target, -1 to 1, one for each target, in order")
    usage: Usage
    timings_ms: Timings
    model: ModelInfo


class EmbedResponse(ResponseModel):
    """The totals are of the distinct texts: each is read once, however often it stands in the request."""

    embeddings: list[list[float]] = Field(description="of unit length, one for each input, in order")
    usage: Usage
    timings_ms: Timings
    model: ModelInfo


class Health(ResponseModel):
    """The process is well."""

    status: Literal["ok"] = "ok"


class Cost(ResponseModel):
    """The line from tokens to milliseconds by which work is estimated: one window, one core."""

    fixed_ms: float
    ms_per_token: float


class BundleInfo(ModelInfo):
    """A bundle that is loaded."""

    task: TaskName
    no_answer: bool | None = Field(description="whether a model of qa was trained to abstain; null for other tasks")
    cost: Cost


class Info(ResponseModel):
    """What runs here."""

    versions: dict[str, str]
    threads: int = Field(description="of an inference that is alone; under load each has one")
    workers: int = Field(description="inferences at the same time")
    bundles: list[BundleInfo]
