"""The bodies of requests and responses. Offsets count Unicode code points; durations are milliseconds."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from models.tasks.bundle import Precision, TaskName
from models.tasks.qa import QAInput

# Not blank; and without lone surrogates, which pydantic notices only where it has to read the text.
Text = Annotated[str, Field(pattern=r"\S")]


class RequestModel(BaseModel):
    """Strict, and closed: a misspelt field is told rather than ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResponseModel(BaseModel):
    """Reads the kernel's own objects by their attributes; a mistake of ours must not log an answer's text."""

    model_config = ConfigDict(from_attributes=True, frozen=True, hide_input_in_errors=True)


class QAItem(RequestModel):
    """One question over one context."""

    question: Annotated[Text, Field(description="the question, not blank")]
    context: Annotated[Text, Field(description="the text that holds the answer, not blank")]
    top_k: Annotated[int, Field(ge=1, le=100, description="most answers")] = 1
    max_answer_tokens: Annotated[int, Field(ge=1, le=384, description="longest answer, tokens")] = 30
    doc_stride: Annotated[int, Field(ge=0, le=383, description="overlap of neighbouring windows, tokens")] = 128
    allow_no_answer: Annotated[bool, Field(description="leave `answers` empty where no answer is likelier")] = False

    def to_input(self) -> QAInput:
        return QAInput(
            question=self.question,
            context=self.context,
            doc_stride=self.doc_stride,
            top_k=self.top_k,
            max_answer_tokens=self.max_answer_tokens,
            allow_no_answer=self.allow_no_answer,
        )


class QAList(RequestModel):
    """Several, answered in order."""

    inputs: Annotated[list[QAItem], Field(min_length=1, description="at most HALFDEPTH_MAX_INPUTS")]


def _kind(body: object) -> Literal["list", "one"]:
    return "list" if isinstance(body, dict) and "inputs" in body else "one"


QARequest = Annotated[Annotated[QAItem, Tag("one")] | Annotated[QAList, Tag("list")], Discriminator(_kind)]


class Usage(ResponseModel):
    """What an input, or a whole request, cost in tokens."""

    tokens_in: int = Field(description="before any truncation, special tokens counted")
    tokens_used: int = Field(description="what the model read, summed over windows")
    windows: int
    truncated: bool


class Timings(ResponseModel):
    """Milliseconds. queue, tokenization, inference_wall and postprocess make up the total."""

    queue: float
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


class QAResponse(QAResult):
    """To one question."""

    model: ModelInfo


class QAListResponse(ResponseModel):
    """To several, in the order of `inputs`, with the totals."""

    results: list[QAResult]
    usage: Usage
    timings_ms: Timings
    model: ModelInfo


TaskResponse = QAResponse | QAListResponse


class Health(ResponseModel):
    """The process is well."""

    status: Literal["ok"] = "ok"


class BundleInfo(ModelInfo):
    """A bundle that is loaded."""

    task: TaskName
    no_answer: bool | None = Field(description="whether a model of qa was trained to abstain; null for other tasks")


class Info(ResponseModel):
    """What runs here."""

    versions: dict[str, str]
    threads: int = Field(description="of one inference")
    bundles: list[BundleInfo]
