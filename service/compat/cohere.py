"""Serves the rerank route that Cohere, Jina, vLLM and infinity share, under `/v1` and `/v2`."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic_core import to_json

from models.tasks.rerank import RerankInput
from service.engine.request import Outcome
from service.http.body import AtMostInputs, RequestModel, one_or_several
from service.replies import Answered, EngineCall, places, ranking
from service.responses import ResponseModel
from service.schemas import WHOLE, NotSupported, TaskRequest, Text
from service.telemetry.context import current_request


class CohereText(RequestModel):
    """A document as an object."""

    text: Annotated[Text, Field(description="the text to score, not blank")]


Document = Annotated[Text | CohereText, one_or_several(Text, CohereText, field="text")]


class CohereRequest(TaskRequest):
    """A query, and the documents to put in the order of their relevance to it."""

    query: Annotated[Text, Field(description="what the documents should answer, not blank")]
    documents: Annotated[
        list[Document],
        Field(min_length=1, description="texts, or objects with a `text`; at most HALFDEPTH_MAX_INPUTS, none blank"),
        AtMostInputs(),
    ]
    top_n: Annotated[int | None, Field(ge=0, description="maximum number of results; 0 or left out, all"), WHOLE] = None
    return_documents: Annotated[bool, Field(description="repeat the text of each document in its result")] = False
    raw_scores: Annotated[bool, Field(description="give the model's logits, as infinity does")] = False
    rank_fields: NotSupported = None
    max_chunks_per_doc: NotSupported = None
    max_tokens_per_doc: NotSupported = None
    relevant_spans: NotSupported = None
    priority: Annotated[
        int | None, Field(description="without effect: what takes less time is answered earlier, whoever asks"), WHOLE
    ] = None
    truncate_prompt_tokens: NotSupported = None


class CohereDocument(ResponseModel):
    """A document as an object."""

    text: str = Field(description="its text, as it was sent")


class CohereResult(ResponseModel):
    """A document with its relevance to the query."""

    index: int = Field(description="position of the document in `documents`, from 0")
    relevance_score: float = Field(description="relevance, as the model's configuration has it: 0 to 1, or its logit")
    document: CohereDocument | None = Field(default=None, description="only with `return_documents`")


class CohereUsage(ResponseModel):
    """Numbers of tokens, special tokens included; the query counts with each document."""

    prompt_tokens: int = Field(description="tokens of the query and of all documents")
    total_tokens: int = Field(description="the same number")


class CohereTokens(ResponseModel):
    """Numbers of tokens, as Cohere's clients look for them."""

    input_tokens: int = Field(description="as `prompt_tokens`")


class CohereMeta(ResponseModel):
    """What it cost, as Cohere's clients look for it."""

    tokens: CohereTokens = Field(description="numbers of tokens")


class CohereResponse(ResponseModel):
    """The documents, most relevant first."""

    id: str = Field(description="the id of the request, as in X-Request-ID")
    model: str = Field(description="name of the model that answered")
    results: list[CohereResult] = Field(description="at most `top_n` documents; of equal scores the first comes first")
    usage: CohereUsage = Field(description="what it cost")
    meta: CohereMeta = Field(description="the same, in Cohere's form")


def rank_documents(body: CohereRequest) -> EngineCall:
    """Put documents in the order of their relevance to a query. A document that is longer than the model reads at once
    is read in windows, of which the best counts: this form of response could not say that a text was cut off. For the
    same reason a deadline that leaves a document without a score refuses the request.
    """
    texts = [document if isinstance(document, str) else document.text for document in body.documents]

    def combine(outcomes: Sequence[Outcome | None]) -> bytes:
        results = [
            {"index": index, "relevance_score": score}
            | ({"document": {"text": texts[index]}} if body.return_documents else {})
            for index, score in ranking(outcomes, body.top_n, raw_scores=body.raw_scores)
        ]
        return to_json(results)

    return EngineCall(places("documents", [RerankInput(body.query, text) for text in texts]), combine, _write)


def _write(answered: Answered) -> bytes:
    tokens = answered.usage.tokens_in
    answer = {
        "id": current_request.get().id,
        "model": answered.bundle.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"tokens": {"input_tokens": tokens}},
    }
    return b'%s,"results":%s}' % (to_json(answer)[:-1], answered.result)
