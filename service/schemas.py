"""Defines the bodies of requests."""

from typing import Annotated, Generic, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from models.tasks.classification import ALL_LABELS
from models.tasks.entities import Aggregation
from models.tasks.text.windows import OnOverflow
from service.http.body import AtMostInputs, RequestModel, one_or_several

# Not blank. The pattern also refuses lone surrogates: pydantic finds them only if it has to read the text. U+0085 is a
# space to Unicode and none to JSON Schema, and U+FEFF the other way round: the document says what is done here.
NOT_BLANK = r"[^\s\u0085]|\uFEFF"
Text = Annotated[str, Field(pattern=NOT_BLANK)]
# In JSON Schema 17.0 is an integer too. This follows a field's bounds, or the document would lose them.
WHOLE = BeforeValidator(lambda value: int(value) if _is_whole(value) else value)
Texts = Annotated[list[Text], Field(min_length=1), AtMostInputs()]
OneOrMoreTexts = Annotated[Text | Texts, one_or_several(Text, Texts)]
Overflow = Annotated[
    OnOverflow,
    Field(description="if a text is longer than the model reads at once: cut it off, refuse it, or read it in windows"),
]


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


NotSupported = Annotated[None, Field(description="not supported: null, or left out")]  # of other people's protocols


ModelName = Annotated[
    str | None,
    Field(description="name of a loaded model or of its directory, or either with `@revision`; left out, the default"),
]


class TaskRequest(RequestModel):
    """The body of a request to a task, which may name one of the task's models."""

    model: ModelName = None


ItemT = TypeVar("ItemT", bound=RequestModel)


class InputList(TaskRequest, Generic[ItemT]):
    """Several inputs, answered in order."""

    inputs: Annotated[
        list[ItemT], Field(min_length=1, description="at most HALFDEPTH_MAX_INPUTS items"), AtMostInputs()
    ]


class QAOptions(RequestModel):
    """A question, and how to answer it."""

    question: Annotated[Text, Field(description="the question, not blank")]
    top_k: Annotated[int, Field(ge=1, le=100, description="maximum number of answers"), WHOLE] = 1
    max_answer_tokens: Annotated[int, Field(ge=1, le=384, description="longest answer, tokens"), WHOLE] = 30
    doc_stride: Annotated[int, Field(ge=0, le=383, description="overlap of neighbouring windows, tokens"), WHOLE] = 128
    allow_no_answer: Annotated[bool, Field(description="leave `answers` empty if there probably is no answer")] = False


class QAOneContext(QAOptions):
    """One question over one context."""

    context: Annotated[Text, Field(description="the text that contains the answer, not blank")]


class QAItem(QAOneContext):
    """One question over one context, among others."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_contexts(cls, content: object) -> object:
        if isinstance(content, dict) and content.get("contexts") is not None:
            raise PydanticCustomError(
                "contexts_in_inputs",
                "contexts cannot stand in inputs; give each item one context, or send a request for each question",
            )
        return content


class QAQuestion(TaskRequest, QAOneContext):
    """One question over one context, as a request of its own."""


class QAContexts(TaskRequest, QAOptions):
    """One question over several contexts, as a request of its own."""

    contexts: Annotated[
        Texts,
        Field(description="texts that may hold the answer; at most HALFDEPTH_MAX_INPUTS, and none of them blank"),
    ]

    @model_validator(mode="before")
    @classmethod
    def _refuse_both(cls, content: object) -> object:
        if isinstance(content, dict) and content.get("context") is not None:
            raise PydanticCustomError("context_and_contexts", "give context or contexts, not both")
        return content


class QAList(InputList[QAItem]):
    """Several questions, each over its own context; answered in order."""


OneQuestion = Annotated[QAQuestion | QAContexts, one_or_several(QAQuestion, QAContexts, field="contexts")]
QARequest = Annotated[QAQuestion | QAContexts | QAList, one_or_several(OneQuestion, QAList, field="inputs")]


class ClassifyItem(RequestModel):
    """One text, or two that belong together, such as a premise and a hypothesis."""

    text: Annotated[Text, Field(description="the text, not blank")]
    text_pair: Annotated[Text | None, Field(description="the second text of a pair, not blank")] = None
    top_k: Annotated[int, Field(ge=1, le=ALL_LABELS, description="maximum number of labels"), WHOLE] = 1
    on_overflow: Overflow = "truncate"


class ClassifyText(TaskRequest, ClassifyItem):
    """One text or pair, as a request of its own."""


class ClassifyList(InputList[ClassifyItem]):
    """Several texts, or pairs of them; answered in order."""


ClassifyRequest = Annotated[ClassifyText | ClassifyList, one_or_several(ClassifyText, ClassifyList, field="inputs")]


class RerankRequest(TaskRequest):
    """A query, and the documents to put in the order of their relevance to it."""

    query: Annotated[Text, Field(description="what the documents should answer, not blank")]
    documents: Annotated[
        Texts, Field(description="the texts to score; at most HALFDEPTH_MAX_INPUTS, and none of them blank")
    ]
    top_n: Annotated[int | None, Field(ge=1, description="maximum number of results; left out, all"), WHOLE] = None
    return_documents: Annotated[bool, Field(description="repeat the text of each document in its result")] = False
    raw_scores: Annotated[bool, Field(description="give the model's logits, whatever it usually makes of them")] = False
    on_overflow: Overflow = "window"


class EntitiesItem(RequestModel):
    """One text."""

    text: Annotated[Text, Field(description="the text, not blank")]
    aggregation: Annotated[
        Aggregation,
        Field(
            description="how tokens become entities, by transformers' names: neighbours with the same label, or whole "
            "words with the label of their first token, of the mean of their tokens, or of the most certain one; with "
            "`none` every token is one"
        ),
    ] = "simple"
    stride: Annotated[
        int | None,
        Field(ge=0, le=383, description="overlap of neighbouring windows, tokens; left out, 128 or half a window"),
        WHOLE,
    ] = None
    on_overflow: Overflow = "window"


class EntitiesText(TaskRequest, EntitiesItem):
    """One text, as a request of its own."""


class EntitiesList(InputList[EntitiesItem]):
    """Several texts, answered in order."""


EntitiesRequest = Annotated[EntitiesText | EntitiesList, one_or_several(EntitiesText, EntitiesList, field="inputs")]


class SimilarityRequest(TaskRequest):
    """One text, and the texts to compare it with."""

    source: Annotated[Text, Field(description="the text to compare, not blank")]
    targets: Annotated[Texts, Field(description="the texts to compare it with; at most HALFDEPTH_MAX_INPUTS")]
    on_overflow: Overflow = "truncate"


PromptName = Annotated[
    str | None,
    Field(description="name of one of the model's own prompts, which is put before each text; left out, its default"),
]
Dimensions = Annotated[
    int | None,
    Field(ge=1, description="size of the embeddings, one that the model was trained for; left out, all of it"),
    WHOLE,
]


class EmbedRequest(TaskRequest):
    """One text or several."""

    inputs: Annotated[
        OneOrMoreTexts,
        Field(description="a text, or a list of at most HALFDEPTH_MAX_INPUTS texts; none of them blank"),
    ]
    on_overflow: Overflow = "truncate"
    prompt_name: PromptName = None
    dimensions: Dimensions = None
