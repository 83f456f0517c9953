"""Defines the bodies of responses. Offsets count Unicode code points; durations are milliseconds."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from models.tasks.build import KnownTask
from models.tasks.directory.graph import Precision


class ResponseModel(BaseModel):
    """Reads the kernel's objects by their attributes, and never quotes a value in an error."""

    model_config = ConfigDict(from_attributes=True, frozen=True, hide_input_in_errors=True)


class Usage(ResponseModel):
    """What an input, or a whole request, cost in tokens."""

    tokens_in: int = Field(description="tokens before any truncation, special tokens included")
    tokens_used: int = Field(description="tokens that the model read, summed over windows")
    windows: int = Field(description="number of windows that the model read")
    truncated: bool = Field(description="whether a part of a text was cut off before the model read it")
    unknown_tokens: int = Field(
        description="tokens of `tokens_in` for what the vocabulary does not have; the model cannot tell them apart"
    )


class Timings(ResponseModel):
    """Where the time went, in milliseconds. queue, tokenization, inference_wall and postprocess add up to the total."""

    queue: float = Field(description="time without any work on the request, ms")
    tokenization: float = Field(description="turning text into tokens and windows, ms")
    inference: float = Field(description="neural compute, summed over windows, ms")
    inference_wall: float = Field(description="elapsed time of the inference, ms")
    postprocess: float = Field(description="turning the model's outputs into an answer, ms")
    total: float = Field(description="time from submission to the answer, ms")


class ModelInfo(ResponseModel):
    """The model that answered."""

    name: str = Field(description="name, as in its bundle")
    revision: str = Field(description="first 12 characters of its manifest's SHA-256")
    precision: Precision = Field(description="precision of its weights")


UsageField = Annotated[Usage, Field(description="tokens and windows")]
TimingsField = Annotated[Timings, Field(description="where the time went")]
ModelField = Annotated[ModelInfo, Field(description="the model that answered")]


class Answer(ResponseModel):
    """A span of the context."""

    text: str = Field(description="the span, exactly as in the context")
    start: int = Field(description="code points from the start of the context")
    end: int = Field(description="code points from the start of the context, exclusive")
    score: float = Field(description="probability among all valid spans, 0 to 1")


class QAResult(ResponseModel):
    """Answers, best first, without overlaps."""

    answers: list[Answer] = Field(
        description="answers; empty only if `allow_no_answer` is set, or if the context has nothing that the model can "
        "read, as one zero-width space"
    )
    no_answer_score: float | None = Field(
        description="probability that there is no answer, 0 to 1; null if the model was not trained to abstain"
    )
    usage: UsageField
    timings_ms: TimingsField


class Label(ResponseModel):
    """A label of the model, with its probability."""

    label: str = Field(description="name of the label, as in the model's configuration")
    score: float = Field(
        description="probability among all labels, or of only this label if several may apply; mean over windows"
    )


class ClassifyResult(ResponseModel):
    """Labels, likeliest first."""

    labels: list[Label] = Field(description="at most `top_k` labels")
    usage: UsageField
    timings_ms: TimingsField


class QAResponse(QAResult):
    """The answer to one question."""

    model: ModelField


class ContextAnswer(Answer):
    """A span of one of the contexts."""

    context: int = Field(description="position of its text in `contexts`, from 0; `start` and `end` count in that text")


class QAContextsResponse(ResponseModel):
    """The answer to one question over several contexts: scores are probabilities over the spans of all."""

    answers: list[ContextAnswer] = Field(
        description="at most `top_k` answers over all contexts, best first, without overlaps within a context; empty "
        "as those over one context are"
    )
    no_answer_score: float | None = Field(
        description="probability that no context has an answer, 0 to 1; null if the model was not trained to abstain"
    )
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class ClassifyResponse(ClassifyResult):
    """The labels of one text or pair."""

    model: ModelField


ResultT = TypeVar("ResultT", bound=ResponseModel)


class ListResponse(ResponseModel, Generic[ResultT]):
    """The results of several inputs, in order, with the totals."""

    results: list[ResultT] = Field(description="one result for each input, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class QAListResponse(ListResponse[QAResult]):
    """The answers to several questions, in order, with the totals."""


class ClassifyListResponse(ListResponse[ClassifyResult]):
    """The labels of several texts or pairs, in order, with the totals."""


class RankedDocument(ResponseModel):
    """A document with its relevance to the query."""

    index: int = Field(description="position of the document in `documents`, from 0")
    score: float = Field(
        description="relevance, a probability from 0 to 1 or a logit, as the model's configuration has it; of several "
        "windows the best counts"
    )
    document: str | None = Field(default=None, description="its text, only with `return_documents`")


class RerankResponse(ResponseModel):
    """The documents that were scored, most relevant first. The totals count these alone."""

    results: list[RankedDocument] = Field(
        description="at most `top_n` documents; of equal scores the first comes first"
    )
    unscored: list[int] = Field(
        description="positions of the documents that X-Deadline-Ms left no time for; they have no result"
    )
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class Entity(ResponseModel):
    """A named entity: a span of the text, and what kind of thing it names."""

    label: str = Field(description="kind of the entity, as in the model's configuration, without B-, I- and their like")
    text: str = Field(description="the span, exactly as in the text")
    start: int = Field(description="code points from the start of the text")
    end: int = Field(description="code points from the start of the text, exclusive")
    score: float = Field(description="mean probability of the labels of its tokens, or words, 0 to 1")


class EntitiesResult(ResponseModel):
    """Entities in the order of the text, without overlaps."""

    entities: list[Entity] = Field(description="entities; empty if the text has none")
    usage: UsageField
    timings_ms: TimingsField


class EntitiesResponse(EntitiesResult):
    """The entities of one text."""

    model: ModelField


class EntitiesListResponse(ListResponse[EntitiesResult]):
    """The entities of several texts, in order, with the totals."""


class SimilarityResponse(ResponseModel):
    """The totals count every distinct text once, however often it occurs in the request."""

    scores: list[float] = Field(description="cosine of source and target, -1 to 1, one for each target, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class EmbedResponse(ResponseModel):
    """The totals count every distinct text once, however often it occurs in the request."""

    embeddings: list[list[float]] = Field(description="vectors of unit length, one for each input, in order")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


class Health(ResponseModel):
    """The service works."""

    status: Literal["ok"] = Field(default="ok", description="always `ok`; otherwise the answer is an error")


class Cost(ResponseModel):
    """The estimated time of one window on one core: a line from tokens to milliseconds."""

    fixed_ms: float = Field(description="time of a window, whatever its length, ms")
    ms_per_token: float = Field(description="time of every token, ms")


class LoneRunsInfo(ResponseModel):
    """Inferences of a length that ran while nothing else did."""

    up_to_tokens: int = Field(description="the longest of them, tokens; the shortest are half as long")
    threads: int = Field(description="threads of the next one, but for a trial now and then")
    runs: int = Field(description="how many were learned from")
    changed: AwareDatetime | None = Field(description="when `threads` last changed; null if it did not")


class HubInfo(ResponseModel):
    """Where on the Hugging Face Hub a bundle comes from."""

    repository: str = Field(description="`owner/name`, by which a request may name the model")
    revision: str = Field(description="branch, tag or commit that was asked for at the start")
    commit: str = Field(description="hash of the commit that is served")


class BundleInfo(ModelInfo):
    """A bundle that is loaded."""

    task: KnownTask = Field(description="task of the bundle")
    directory: str = Field(
        description="name of the bundle's directory, or of its repository, by which a request may name the model too"
    )
    hub: HubInfo | None = Field(description="where it was downloaded from; null for a directory")
    default: bool = Field(description="whether it answers requests that name no model")
    file: str = Field(description="the graph that is served, relative to the directory")
    loaded_at: AwareDatetime = Field(description="when it was loaded, at the start or by a reload")
    no_answer: bool | None = Field(
        description="whether a question-answering model was trained to abstain; null for other tasks"
    )
    cost: Cost = Field(description="estimated time of a window on this machine, from the start")
    lone_runs: list[LoneRunsInfo] = Field(
        description="what was learned of inferences that run alone; empty where HALFDEPTH_THREADS sets their threads"
    )


class ReloadInfo(ResponseModel):
    """The last time that the bundles were looked at again, if that found anything or a signal asked for it."""

    at: AwareDatetime = Field(description="when it ended")
    errors: list[str] = Field(description="what failed; the bundle that was loaded is served on")


class Info(ResponseModel):
    """What runs on this server."""

    versions: dict[str, str] = Field(description="versions of this service and of its libraries")
    threads: int = Field(description="threads of an inference that runs alone, at most; under load it has one")
    workers: int = Field(description="number of inferences at the same time")
    bundles: list[BundleInfo] = Field(description="every bundle that is loaded, the default of its task before others")
    last_reload: ReloadInfo | None = Field(description="null if there was none since the start")
