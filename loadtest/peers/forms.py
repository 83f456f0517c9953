"""Makes the same request in the form of each server, and reads the answer out of each reply."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from loadtest.connection import post
from models.tasks.base import TaskName

Texts = Mapping[str, str]
"""`question` and `context`, or `text`."""
Answer = str | list[float]
LEAST_COSINE = 0.99


@dataclass(frozen=True, slots=True)
class Form:
    """Says how a server is asked for a task. `read`: the answer out of the JSON of a reply."""

    path: str
    body: Callable[[Texts], object]
    read: Callable[[Any], Answer]  # of JSON

    def request(self, texts: Texts) -> bytes:
        return post(self.path, self.body(texts))

    def answer(self, reply: bytes) -> Answer:
        """Raises: ValueError if the reply has another form than this one."""
        try:
            return self.read(json.loads(reply))
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"an answer of another form: {reply[:200]!r}") from error


def _infer(texts: Texts) -> object:
    return {
        "inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": [text]} for name, text in texts.items()]
    }


OURS: dict[TaskName, Form] = {
    "qa": Form("/qa", dict, lambda reply: str(reply["answers"][0]["text"])),
    "classify": Form("/classify", dict, lambda reply: str(reply["labels"][0]["label"])),
    "similarity": Form("/embed", lambda texts: {"inputs": texts["text"]}, lambda reply: list(reply["embeddings"][0])),
}
PLAIN: dict[TaskName, Form] = {
    "qa": Form("/qa", dict, lambda reply: str(reply["answer"])),
    "similarity": Form("/embed", dict, lambda reply: list(reply["embedding"])),
}
INFINITY: dict[TaskName, Form] = {
    "classify": Form(
        "/classify",
        lambda texts: {"model": "peer", "input": [texts["text"]]},
        lambda reply: str(max(reply["data"][0], key=lambda label: label["score"])["label"]),
    ),
    "similarity": Form(
        "/embeddings",
        lambda texts: {"model": "peer", "input": [texts["text"]]},
        lambda reply: list(reply["data"][0]["embedding"]),
    ),
}
OPEN_INFERENCE: dict[TaskName, Form] = {
    "qa": Form("/v2/models/qa/infer", _infer, lambda reply: str(json.loads(reply["outputs"][0]["data"][0])["answer"])),
}


def is_same(answer: Answer, other: Answer) -> bool:
    """Compare spans and labels as texts, embeddings by their cosine."""
    if isinstance(answer, str) or isinstance(other, str):
        return answer == other
    if len(answer) != len(other):
        return False
    product = sum(left * right for left, right in zip(answer, other, strict=True))
    lengths = sqrt(sum(left * left for left in answer) * sum(right * right for right in other))
    return lengths > 0 and product / lengths > LEAST_COSINE
