"""The bodies of requests."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WrapValidator

from models.tasks.classification import ClassificationInput
from models.tasks.qa import QAInput
from models.tasks.texts import OnOverflow

# Not blank; and without lone surrogates, which pydantic notices only where it has to read the text.
Text = Annotated[str, Field(pattern=r"\S")]
# To JSON Schema 17.0 is an integer too. It stands behind a field's bounds, or the document would lose them.
WHOLE = BeforeValidator(lambda value: int(value) if _is_whole(value) else value)
Texts = Annotated[list[Text], Field(min_length=1)]
Overflow = Annotated[
    OnOverflow,
    Field(description="of a text that is longer than the model reads at once: cut it, refuse it, or read windows"),
]


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


class RequestModel(BaseModel):
    """Strict, and closed: a misspelt field is told rather than ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Item(RequestModel):
    """One input of a task."""

    @abstractmethod
    def to_input(self) -> object: ...


class QAItem(Item):
    """One question over one context."""

    question: Annotated[Text, Field(description="the question, not blank")]
    context: Annotated[Text, Field(description="the text that holds the answer, not blank")]
    top_k: Annotated[int, Field(ge=1, le=100, description="most answers"), WHOLE] = 1
    max_answer_tokens: Annotated[int, Field(ge=1, le=384, description="longest answer, tokens"), WHOLE] = 30
    doc_stride: Annotated[int, Field(ge=0, le=383, description="overlap of neighbouring windows, tokens"), WHOLE] = 128
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


class ClassifyItem(Item):
    """One text, or two that belong together, such as a premise and a hypothesis."""

    text: Annotated[Text, Field(description="the text, not blank")]
    text_pair: Annotated[Text | None, Field(description="the second of two texts, not blank")] = None
    top_k: Annotated[int, Field(ge=1, le=100, description="most labels"), WHOLE] = 1
    on_overflow: Overflow = "truncate"

    def to_input(self) -> ClassificationInput:
        return ClassificationInput(self.text, self.text_pair, top_k=self.top_k, on_overflow=self.on_overflow)


ItemT = TypeVar("ItemT", bound=Item)


class InputList(RequestModel, Generic[ItemT]):
    """Several, answered in order."""

    inputs: Annotated[list[ItemT], Field(min_length=1, description="at most HALFDEPTH_MAX_INPUTS")]


class QAList(InputList[QAItem]):
    """Several questions, each over its own context; answered in order."""


class ClassifyList(InputList[ClassifyItem]):
    """Several texts, or pairs of them; answered in order."""


def _either(one: Any, several: Any, is_several: Callable[[object], bool]) -> WrapValidator:  # any two types
    """Validate by one of two types alone: pydantic's own unions put their members' names into an error's place."""
    first, second = TypeAdapter(one), TypeAdapter(several)
    return WrapValidator(lambda value, _: (second if is_several(value) else first).validate_python(value, strict=True))


def _has_inputs(body: object) -> bool:
    return isinstance(body, dict) and "inputs" in body


def _is_list(value: object) -> bool:
    return isinstance(value, list)


OneOrMoreTexts = Annotated[Text | Texts, _either(Text, Texts, _is_list)]
QARequest = Annotated[QAItem | QAList, _either(QAItem, QAList, _has_inputs)]
ClassifyRequest = Annotated[ClassifyItem | ClassifyList, _either(ClassifyItem, ClassifyList, _has_inputs)]


class SimilarityRequest(RequestModel):
    """One text, to be compared with each of others."""

    source: Annotated[Text, Field(description="the text to compare, not blank")]
    targets: Annotated[Texts, Field(description="the texts to compare it with; at most HALFDEPTH_MAX_INPUTS")]
    on_overflow: Overflow = "truncate"


class EmbedRequest(RequestModel):
    """One text or several."""

    inputs: Annotated[
        OneOrMoreTexts,
        Field(description="a text, or a list of at most HALFDEPTH_MAX_INPUTS texts; none of them blank"),
    ]
    on_overflow: Overflow = "truncate"
