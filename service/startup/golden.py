"""The check at load: does a bundle still give, on this CPU, what it gave when it was exported?

int8 products saturate on CPUs without VNNI (onnxruntime#6004): the same file then answers otherwise, in silence.
"""

from typing import Any

import numpy as np

from models.tasks.base import TaskName
from models.tasks.classification import ClassificationInput
from models.tasks.manifest import GoldenAnswer, GoldenEmbedding, GoldenLabels
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput
from service.engine.model import Model

# Of probabilities, and of cosines. Another CPU with VNNI drifts by less than a thousandth (assumption: float rounding).
MAX_DRIFT: dict[TaskName, float] = {"qa": 0.05, "classify": 0.05, "similarity": 0.01}
ALL_LABELS = 100


def drift(model: Model) -> float | None:
    """The furthest that any golden answer is from the recorded one; None if the bundle records none.

    qa: the change of the answer's probability, or all of it if the answer is another; classify: the largest change of
    a label's probability; similarity: 1 - cosine.
    """
    manifest = model.bundle.manifest
    if manifest is None or not manifest.golden:
        return None
    return max(float(_DRIFTS[type(recorded)](model, recorded)) for recorded in manifest.golden)


def _answer(model: Model, recorded: GoldenAnswer) -> float:
    best = model.answer(QAInput(recorded.question, recorded.context)).answers[0]
    same = (best.start, best.end) == (recorded.start, recorded.end)
    return float(abs(best.score - recorded.score) if same else max(best.score, recorded.score))


def _labels(model: Model, recorded: GoldenLabels) -> float:
    item = ClassificationInput(recorded.text, recorded.text_pair, ALL_LABELS, "window")
    scores: dict[str, float] = {label.label: label.score for label in model.answer(item).labels}
    return max(abs(scores.get(label, 0.0) - score) for label, score in recorded.labels.items())


def _embedding(model: Model, recorded: GoldenEmbedding) -> float:
    vector = np.array(recorded.embedding)
    cosine = float(np.dot(model.answer(EmbeddingInput(recorded.text, "window")), vector) / np.linalg.norm(vector))
    return max(1.0 - cosine, 0.0)


_DRIFTS: dict[type, Any] = {GoldenAnswer: _answer, GoldenLabels: _labels, GoldenEmbedding: _embedding}
