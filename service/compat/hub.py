"""Serves Hugging Face's Inference API under `/hf/<pipeline tag>`, for `InferenceClient` by URL."""

from functools import partial
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, RootModel, TypeAdapter, model_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError, to_json

from models.tasks.answers import QAResult
from models.tasks.classification import ALL_LABELS, ClassificationInput, ClassificationResult
from models.tasks.entities import Aggregation, EntitiesInput, EntitiesResult, Entity, SpelledEntity
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput, cosines
from models.tasks.text.windows import OnOverflow
from service.http.body import RequestModel
from service.replies import Answered, EngineCall, combined_json, embed, places, vectors_json
from service.responses import Label, ResponseModel
from service.schemas import WHOLE, NotSupported, OneOrMoreTexts, PromptName, TaskRequest, Text, Texts

TOKENS_OF_WINDOWS: JsonDict = {  # which the pipeline refuses
    "properties": {"aggregation_strategy": {"const": "none"}, "stride": {"type": "number"}},
    "required": ["aggregation_strategy", "stride"],
}


class HubOptions(RequestModel):
    """Options of the hosted API, which change no answer: models are loaded from the start, and nothing is cached."""

    wait_for_model: Annotated[bool | None, Field(description="without effect")] = None
    use_cache: Annotated[bool | None, Field(description="without effect")] = None
    use_gpu: Annotated[bool | None, Field(description="without effect")] = None
    dont_load_model: Annotated[bool | None, Field(description="without effect")] = None


class HubRequest(TaskRequest):
    """The body of a request to a pipeline."""

    options: Annotated[HubOptions, Field(description="options of the hosted API, without effect")] = HubOptions()


class QuestionAndContext(RequestModel):
    """A question, and the text that contains the answer."""

    question: Annotated[Text, Field(description="the question, not blank")]
    context: Annotated[Text, Field(description="the text that contains the answer, not blank")]


class QuestionParameters(RequestModel):
    """The pipeline's parameters that are supported."""

    top_k: Annotated[
        int | None, Field(ge=1, le=100, description="maximum number of answers; above 1 the response is a list"), WHOLE
    ] = None
    doc_stride: Annotated[
        int | None, Field(ge=0, le=383, description="overlap of neighbouring windows, tokens"), WHOLE
    ] = None
    max_answer_len: Annotated[
        int | None, Field(ge=1, le=384, description="longest answer, tokens; 15 if it is left out"), WHOLE
    ] = None
    handle_impossible_answer: Annotated[
        bool | None, Field(description="give an empty answer if there probably is no answer")
    ] = None
    align_to_words: Annotated[
        bool | None, Field(description="whether answers are whole words; they are by default")
    ] = None
    max_question_len: NotSupported = None
    max_seq_len: NotSupported = None


class HubQuestion(HubRequest):
    """A question for the question-answering pipeline."""

    inputs: Annotated[QuestionAndContext, Field(description="question and context")]
    parameters: Annotated[QuestionParameters, Field(description="options of the pipeline")] = QuestionParameters()


class ClassificationParameters(RequestModel):
    """The pipeline's parameters that are supported."""

    top_k: Annotated[
        int | None,
        Field(ge=1, le=ALL_LABELS, description="maximum number of labels; all labels if it is left out"),
        WHOLE,
    ] = None
    function_to_apply: NotSupported = None


class HubClassification(HubRequest):
    """A text for the text-classification pipeline."""

    inputs: Annotated[Text, Field(description="the text, not blank")]
    parameters: Annotated[ClassificationParameters, Field(description="options of the pipeline")] = (
        ClassificationParameters()
    )


class TokenParameters(RequestModel):
    """The pipeline's parameters that are supported."""

    model_config = ConfigDict(json_schema_extra={"not": TOKENS_OF_WINDOWS})

    aggregation_strategy: Annotated[
        Aggregation | None,
        Field(description="how tokens become entities: `simple` if it is left out; `none` gives every token by itself"),
    ] = None
    ignore_labels: Annotated[
        list[str] | None, Field(description="labels that are left out of the response; `O` alone if it is left out")
    ] = None
    stride: Annotated[
        int | None,
        Field(ge=0, le=383, description="overlap of neighbouring windows, tokens; left out, a long text is cut"),
        WHOLE,
    ] = None

    @model_validator(mode="after")
    def _refuse_tokens_of_windows(self) -> Self:
        if self.stride is not None and self.aggregation_strategy == "none":
            raise PydanticCustomError(
                "stride", "stride needs entities; set aggregation_strategy to another than none, or leave stride out"
            )
        return self


class HubTokens(HubRequest):
    """A text for the token-classification pipeline."""

    inputs: Annotated[Text, Field(description="the text, not blank")]
    parameters: Annotated[TokenParameters, Field(description="options of the pipeline")] = TokenParameters()


class SentencePairs(RequestModel):
    """A sentence, and the sentences to compare it with."""

    source_sentence: Annotated[Text, Field(description="the text to compare, not blank")]
    sentences: Annotated[Texts, Field(description="the texts to compare it with; at most HALFDEPTH_MAX_INPUTS")]


class NoParameters(RequestModel):
    """No parameters are supported."""


class HubSimilarity(HubRequest):
    """Sentences for the sentence-similarity pipeline."""

    inputs: Annotated[SentencePairs, Field(description="the sentences")]
    parameters: Annotated[NoParameters, Field(description="empty")] = NoParameters()


class HubFeatures(HubRequest):
    """Texts for the feature-extraction pipeline."""

    inputs: Annotated[
        OneOrMoreTexts, Field(description="a text, or a list of at most HALFDEPTH_MAX_INPUTS texts; none of them blank")
    ]
    normalize: Annotated[Literal[True] | None, Field(description="embeddings always have unit length")] = None
    truncate: Annotated[bool | None, Field(description="whether a text that is too long is cut; it is by default")] = (
        None
    )
    truncation_direction: Annotated[Literal["Right", "right"] | None, Field(description="the end is cut off")] = None
    prompt_name: PromptName = None


class HubAnswer(ResponseModel):
    """A span of the context."""

    answer: str = Field(description="the span; empty if there probably is no answer")
    score: float = Field(description="probability, 0 to 1")
    start: int = Field(description="code points from the start of the context")
    end: int = Field(description="code points from the start of the context, exclusive")


class HubEntity(ResponseModel):
    """An entity, which has `entity_group`, or a token, which has `entity` and `index`."""

    entity_group: str | None = Field(default=None, description="kind of the entity")
    entity: str | None = Field(default=None, description="label of the token")
    score: float = Field(description="probability, 0 to 1; of an entity the mean")
    index: int | None = Field(default=None, description="place of the token in what the model read")
    word: str = Field(description="the entity or the token, as the tokenizer spells it")
    start: int = Field(description="code points from the start of the text")
    end: int = Field(description="code points from the start of the text, exclusive")


HubAnswers = RootModel[HubAnswer | list[HubAnswer]]
HubEntities = RootModel[list[HubEntity]]
HubLabels = RootModel[list[list[Label]]]
HubScores = RootModel[list[float]]
HubVectors = RootModel[list[list[float]]]
LABELS = TypeAdapter(list[Label])
MAX_ANSWER_TOKENS = 15  # the pipeline's default, which is not ours


def question_answering(body: HubQuestion) -> EngineCall:
    """Answer as the question-answering pipeline does: one answer, or a list of `top_k`."""
    parameters = body.parameters.model_dump(exclude_none=True)
    names = {"max_answer_len": "max_answer_tokens", "handle_impossible_answer": "allow_no_answer"}
    options = {names.get(name, name): value for name, value in parameters.items()}
    item = QAInput(body.inputs.question, body.inputs.context, **({"max_answer_tokens": MAX_ANSWER_TOKENS} | options))

    def write(answered: Answered) -> bytes:
        answers = _answers(answered.result)
        return HubAnswers(answers if item.top_k > 1 else answers[0]).model_dump_json().encode()

    return EngineCall({"": item}, None, write)


def text_classification(body: HubClassification) -> EngineCall:
    """Answer as the text-classification pipeline does: the labels of one text, within a list of one."""
    item = ClassificationInput(body.inputs, None, top_k=body.parameters.top_k or ALL_LABELS, on_overflow="truncate")
    return EngineCall({"": item}, None, _labels_json)


def token_classification(body: HubTokens) -> EngineCall:
    """Find entities as the token-classification pipeline does, or label every token."""
    parameters = body.parameters
    exclusion = {} if parameters.ignore_labels is None else {"ignore_labels": tuple(parameters.ignore_labels)}
    item = EntitiesInput(
        body.inputs,
        on_overflow="truncate" if parameters.stride is None else "window",
        aggregation=parameters.aggregation_strategy or "simple",
        stride=parameters.stride,
        words=True,
        **exclusion,
    )
    return EngineCall({"": item}, None, _entities_json)


def sentence_similarity(body: HubSimilarity) -> EngineCall:
    """Compare a sentence with others: the cosine of their embeddings."""
    texts = places("inputs", [body.inputs.source_sentence, *body.inputs.sentences])
    return embed(texts, EmbeddingInput, lambda vectors: to_json(cosines(vectors[0], vectors[1:])), combined_json)


def feature_extraction(body: HubFeatures) -> EngineCall:
    """Embed texts as vectors of unit length."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    on_overflow: OnOverflow = "error" if body.truncate is False else "truncate"
    make_input = partial(EmbeddingInput, on_overflow=on_overflow, prompt_name=body.prompt_name)
    return embed(places("inputs", texts), make_input, vectors_json, combined_json)


def _answers(result: QAResult) -> list[HubAnswer]:
    """List the answers, best first; like the pipeline, an empty one if there probably is none."""
    if not result.answers:
        return [HubAnswer(answer="", score=result.no_answer_score or 0.0, start=0, end=0)]
    return [
        HubAnswer(answer=answer.text, score=answer.score, start=answer.start, end=answer.end)
        for answer in result.answers
    ]


def _labels_json(answered: Answered) -> bytes:
    result: ClassificationResult = answered.result
    labels = LABELS.validate_python(result.labels, from_attributes=True)
    return HubLabels([labels]).model_dump_json().encode()


def _entities_json(answered: Answered) -> bytes:
    result: EntitiesResult = answered.result
    return HubEntities([_entity(entity) for entity in result.entities]).model_dump_json(exclude_none=True).encode()


def _entity(entity: Entity) -> HubEntity:
    assert isinstance(entity, SpelledEntity), "the inputs above ask for words"
    label = {"entity_group": entity.label} if entity.index is None else {"entity": entity.label}
    return HubEntity(
        **label, score=entity.score, index=entity.index, word=entity.word, start=entity.start, end=entity.end
    )
