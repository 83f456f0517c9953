"""The bodies of responses. Offsets count Unicode code points; durations are milliseconds."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.tasks.base import Precision
from models.tasks.build import KnownTask


class ResponseModel(BaseModel):
    """Reads the kernel's own objects by their attributes; a mistake of ours must not log an answer's text."""

    model_config = ConfigDict(from_attributes=True, frozen=True, hide_input_in_errors=True)


class Usage(ResponseModel):
    """What an input, or a whole request, cost in tokens."""

    tokens_in: int = Field(description="before any truncation, special tokens counted")
    tokens_used: int = Field(description="what the model read, summed over windows")
    windows: int = Field(description="how many windows the model read")
    truncated: bool = Field(description="whether the model did not see all of a text")


class Timings(ResponseModel):
    """Milliseconds. queue, tokenization, inference_wall and postprocess make up the total."""

    queue: float = Field(description="in which nothing was done of it, ms")
    tokenization: float = Field(description="text to tokens and windows, ms")
    inference: float = Field(description="neural compute, summed over windows, ms")
    inference_wall: float = Field(description="elapsed time of the inference, ms")
    postprocess: float = Field(description="outputs to an answer, ms")
    total: float = Field(description="from submission to the answer, ms")


class ModelInfo(ResponseModel):
    """Which model answered."""

    name: str = Field(description="as its bundle says")
    revision: str = Field(description="of its manifest, the first 12 characters of the SHA-256")
    precision: Precision = Field(description="of its weights")


UsageField = Annotated[Usage, Field(description="tokens and windows")]
TimingsField = Annotated[Timings, Field(description="where the time went")]
ModelField = Annotated[ModelInfo, Field(description="the model that answered")]


class Answer(ResponseModel):
    """A span of the context."""

    text: str = Field(description="as it stands in the context")
    start: int = Field(description="code points from the start of the context")
    end: int = Field(description="code points from the start of the context, exclusive")
    score: float = Field(description="probability among all valid spans, 0 to 1")


class QAResult(ResponseModel):
    """Answers, best first, without overlaps."""

    answers: list[Answer] = Field(description="empty only where `allow_no_answer` let it be")
    no_answer_score: float | None = Field(
        description="probability that there is none, 0 to 1; null if the model was not trained to abstain"
    )
    usage: UsageField
    timings_ms: TimingsField


class Label(ResponseModel):
    """A class of the model's."""

    label: str = Field(description="its name in the model's configuration")
    score: float = Field(
        description="probability among all labels, or of this label alone where several may hold; mean over windows"
    )


class ClassifyResult(ResponseModel):
    """Labels, likeliest first."""

    labels: list[Label] = Field(description="at most `top_k`")
    usage: UsageField
    timings_ms: TimingsField


class QAResponse(QAResult):
    """To one question."""

    model: ModelField


class ClassifyResponse(ClassifyResult):
    """To one text or pair."""

    model: ModelField


ResultT = TypeVar("ResultT", bound=ResponseModel)


class ListResponse(ResponseModel, Generic[ResultT]):
    """To several, in the order of `inputs`, with the totals."""

    results: list[ResultT] = Field(description="one for each input, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class QAListResponse(ListResponse[QAResult]):
    """To several questions, in the order of `inputs`, with the totals."""


class ClassifyListResponse(ListResponse[ClassifyResult]):
    """To several texts or pairs, in the order of `inputs`, with the totals."""


class SimilarityResponse(ResponseModel):
    """The totals are of the distinct texts: each is read once, however often it stands in the request."""

    scores: list[float] = Field(description="cosine of source and target, -1 to 1, one for each target, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class EmbedResponse(ResponseModel):
    """The totals are of the distinct texts: each is read once, however often it stands in the request."""

    embeddings: list[list[float]] = Field(description="of unit length, one for each input, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class Health(ResponseModel):
    """The process is well."""

    status: Literal["ok"] = Field(default="ok", description="always `ok`; otherwise an error is answered")


class Cost(ResponseModel):
    """The line from tokens to milliseconds by which work is estimated: one window, one core."""

    fixed_ms: float = Field(description="of a window, whatever its length, ms")
    ms_per_token: float = Field(description="of each token, ms")


class BundleInfo(ModelInfo):
    """A bundle that is loaded."""

    task: KnownTask = Field(description="what it is for")
    no_answer: bool | None = Field(description="whether a model of qa was trained to abstain; null for other tasks")
    cost: Cost = Field(description="what a window takes here, as estimated at start")


class Info(ResponseModel):
    """What runs here."""

    versions: dict[str, str] = Field(description="of this service and of what it stands on")
    threads: int = Field(description="of an inference that is alone; under load each has one")
    workers: int = Field(description="inferences at the same time")
    bundles: list[BundleInfo] = Field(description="one for each task that is served")
