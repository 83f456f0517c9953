"""Gives examples for the documentation: requests and their answers; a test posts them all."""

from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from models.tasks.classification import SPEC as LABELS
from models.tasks.entities import SPEC as ENTITY_SPANS
from models.tasks.entities import EntitiesResult, Entity
from models.tasks.qa import SPEC as QUESTIONS
from models.tasks.rerank import SPEC as RELEVANCE
from models.tasks.similarity import SPEC as EMBEDDINGS

QA_MODEL = {"name": "minilm-l6-qa", "revision": "42b104129328", "precision": "int8"}
CLASSIFY_MODEL = {"name": "minilm-l3-classify", "revision": "304009f4f8d9", "precision": "int8"}
SIMILARITY_MODEL = {"name": "minilm-l3-similarity", "revision": "f56527a2e04b", "precision": "int8"}
RERANK_MODEL = {"name": "minilm-l3-rerank", "revision": "c6355b8dab0d", "precision": "int8"}
ENTITIES_MODEL = {"name": "bert-base-ner", "revision": "3c6a1f0d7e52", "precision": "int8"}
MODELS = {  # by task
    QUESTIONS.name: QA_MODEL,
    RELEVANCE.name: RERANK_MODEL,
    LABELS.name: CLASSIFY_MODEL,
    EMBEDDINGS.name: SIMILARITY_MODEL,
    ENTITY_SPANS.name: ENTITIES_MODEL,
}


@dataclass(frozen=True, slots=True)
class Example:
    """Holds the bodies of a request and its response. Embeddings are shortened."""

    request: Any
    response: Any


def _usage(tokens: int, windows: int = 1) -> dict[str, Any]:
    return {"tokens_in": tokens, "tokens_used": tokens, "windows": windows, "truncated": False, "unknown_tokens": 0}


def _timings(queue: float, tokenization: float, inference: float, postprocess: float) -> dict[str, float]:
    total = round(queue + tokenization + inference + postprocess, 3)
    return {
        "queue": queue,
        "tokenization": tokenization,
        "inference": inference,
        "inference_wall": inference,
        "postprocess": postprocess,
        "total": total,
    }


_QUESTION = {
    "question": "Who built the lighthouse?",
    "context": "The lighthouse on the northern cape was built in 1871 by Anna Lindqvist.",
}
_ANSWER = {"text": "Anna Lindqvist", "start": 57, "end": 71, "score": 0.967}
_ANSWERED = {
    "answers": [_ANSWER],
    "no_answer_score": 0.000005,
    "usage": _usage(24),
    "timings_ms": _timings(0.041, 0.345, 1.153, 0.227),
}
_LABELLED = {
    "labels": [{"label": "entity", "score": 0.981}],
    "usage": _usage(9),
    "timings_ms": _timings(0.038, 0.121, 0.611, 0.042),
}
_COMPARED = {
    "source": "A man is playing a guitar.",
    "targets": ["Someone plays an instrument.", "The stock market fell on Monday."],
}
_SCORES = [0.5338637232780457, -0.03928019106388092]
_COST = {"usage": _usage(25, windows=3), "timings_ms": _timings(0.055, 0.259, 1.917, 0.439)}
_VECTOR = [0.03336708, -0.00287531, -0.01905411]

QA = {
    "one question": Example(_QUESTION, _ANSWERED | {"model": QA_MODEL}),
    "several contexts": Example(
        {
            "question": "Who built the lighthouse?",
            "contexts": ["The bakery behind the market opens at four.", _QUESTION["context"]],
        },
        {
            "answers": [_ANSWER | {"context": 1}],
            "no_answer_score": 0.000005,
            "usage": _usage(41, windows=2),
            "timings_ms": _timings(0.046, 0.402, 2.057, 0.391),
            "model": QA_MODEL,
        },
    ),
    "a model by name": Example(_QUESTION | {"model": QA_MODEL["name"]}, _ANSWERED | {"model": QA_MODEL}),
    "several": Example(
        {"inputs": [_QUESTION, _QUESTION | {"question": "When was it built?", "top_k": 3}]},
        {
            "results": [_ANSWERED, _ANSWERED | {"answers": [_ANSWER | {"text": "1871", "start": 49, "end": 53}]}],
            "usage": _usage(48, windows=2),
            "timings_ms": _timings(0.041, 0.587, 2.294, 0.602),
            "model": QA_MODEL,
        },
    ),
}
CLASSIFY = {
    "one text": Example({"text": "What is the highest mountain?"}, _LABELLED | {"model": CLASSIFY_MODEL}),
    "several": Example(
        {"inputs": [{"text": "What is the highest mountain?"}, {"text": "Who climbed it first?", "top_k": 2}]},
        {
            "results": [_LABELLED, _LABELLED],
            "usage": _usage(17, windows=2),
            "timings_ms": _timings(0.038, 0.224, 1.198, 0.131),
            "model": CLASSIFY_MODEL,
        },
    ),
}
_NAMED = {"text": "The lighthouse was built by Anna Lindqvist, an engineer from Gothenburg."}
_ENTITIES = (
    Entity("PER", "Anna Lindqvist", 28, 42, 0.9981),
    Entity("LOC", "Gothenburg", 61, 71, 0.9954),
)
_FOUND = to_jsonable_python(EntitiesResult(_ENTITIES)) | {
    "usage": _usage(19),
    "timings_ms": _timings(0.039, 0.187, 12.304, 0.226),
}
ENTITIES = {
    "one text": Example(_NAMED, _FOUND | {"model": ENTITIES_MODEL}),
    "several": Example(
        {"inputs": [_NAMED, _NAMED | {"aggregation": "first"}]},
        {
            "results": [_FOUND, _FOUND],
            "usage": _usage(38, windows=2),
            "timings_ms": _timings(0.039, 0.341, 24.517, 0.437),
            "model": ENTITIES_MODEL,
        },
    ),
}
SIMILARITY = {
    "one with others": Example(_COMPARED, {"scores": _SCORES} | _COST | {"model": SIMILARITY_MODEL}),
}
EMBED = {
    "one text": Example(
        {"inputs": "A man is playing a guitar."}, {"embeddings": [_VECTOR]} | _COST | {"model": SIMILARITY_MODEL}
    ),
    "several": Example(
        {"inputs": _COMPARED["targets"], "on_overflow": "window"},
        {"embeddings": [_VECTOR, _VECTOR]} | _COST | {"model": SIMILARITY_MODEL},
    ),
}
_QUERY = {
    "query": "Who built the lighthouse?",
    "documents": ["The keeper left in 1968.", "It was built by Anna Lindqvist.", "The lamp burned whale oil."],
}
_RANKED = [(1, 0.9679297176772861), (0, 0.004740776754094505), (2, 0.0034016472166828893)]
RERANK = {
    "a query with documents": Example(
        _QUERY,
        {
            "results": [{"index": index, "score": score} for index, score in _RANKED],
            "unscored": [],
            "usage": _usage(45, windows=3),
            "timings_ms": _timings(0.048, 0.287, 1.746, 0.143),
            "model": RERANK_MODEL,
        },
    ),
    "the best two, with their texts": Example(
        _QUERY | {"top_n": 2, "return_documents": True},
        {
            "results": [
                {"index": index, "score": score, "document": _QUERY["documents"][index]} for index, score in _RANKED[:2]
            ],
            "unscored": [],
            "usage": _usage(45, windows=3),
            "timings_ms": _timings(0.048, 0.287, 1.746, 0.143),
            "model": RERANK_MODEL,
        },
    ),
}
COHERE_RERANK = {
    "a query with documents": Example(
        _QUERY | {"model": "minilm-l3-rerank", "top_n": 2},
        {
            "id": "5f2b7c1e9a4d4c0b8e3f6a7d1c2b3e4f",
            "model": "minilm-l3-rerank",
            "results": [{"index": index, "relevance_score": score} for index, score in _RANKED[:2]],
            "usage": {"prompt_tokens": 45, "total_tokens": 45},
            "meta": {"tokens": {"input_tokens": 45}},
        },
    ),
}
HUB_QUESTION_ANSWERING = {
    "a question": Example(
        {"inputs": _QUESTION, "parameters": {"top_k": 1}},
        {"answer": "Anna Lindqvist", "start": 57, "end": 71, "score": 0.967},
    ),
}
HUB_TEXT_CLASSIFICATION = {
    "a text": Example(
        {"inputs": "What is the highest mountain?", "parameters": {"top_k": 1}},
        [[{"label": "entity", "score": 0.981}]],
    ),
}
HUB_TOKEN_CLASSIFICATION = {
    "a text": Example(
        {"inputs": _NAMED["text"], "parameters": {"aggregation_strategy": "simple"}},
        [
            {
                "entity_group": entity.label,
                "score": entity.score,
                "word": entity.text,
                "start": entity.start,
                "end": entity.end,
            }
            for entity in _ENTITIES
        ],
    ),
}
HUB_SENTENCE_SIMILARITY = {
    "one with others": Example(
        {"inputs": {"source_sentence": _COMPARED["source"], "sentences": _COMPARED["targets"]}}, _SCORES
    ),
}
HUB_FEATURE_EXTRACTION = {"a text": Example({"inputs": "A man is playing a guitar."}, [_VECTOR])}
OPENAI_EMBEDDINGS = {
    "two texts": Example(
        {"input": _COMPARED["targets"], "model": "minilm-l3-similarity"},
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": _VECTOR} for index in range(2)],
            "model": "minilm-l3-similarity",
            "usage": {"prompt_tokens": 16, "total_tokens": 16},
        },
    ),
}
_TWO_QUESTIONS = {
    "question": ["Who built the lighthouse?", "When was it built?"],
    "context": [_QUESTION["context"]] * 2,
}
TENSORS = {
    "two questions": Example(
        {
            "inputs": [
                {"name": name, "datatype": "BYTES", "shape": [2], "data": texts}
                for name, texts in _TWO_QUESTIONS.items()
            ],
            "outputs": [{"name": "answers"}],
            "parameters": {"top_k": 1},
        },
        {
            "model_name": QA_MODEL["name"],
            "model_version": QA_MODEL["revision"],
            "outputs": [
                {
                    "name": "answers",
                    "datatype": "BYTES",
                    "shape": [2],
                    "data": [
                        '[{"text":"Anna Lindqvist","start":57,"end":71,"score":0.967}]',
                        '[{"text":"1871","start":49,"end":53,"score":0.981}]',
                    ],
                }
            ],
        },
    ),
}
OPENAI_MODELS = {
    "object": "list",
    "data": [
        {"id": model["name"], "object": "model", "created": 1795737600, "owned_by": "halfdepth", "task": task}
        for task, model in MODELS.items()
    ],
}
