"""Inputs whose answers a bundle records, so that whoever loads it can see that it still gives them.

Written for this project: a manifest carries no text of anybody else's. Short and long, one longer than a
window, with and without characters beyond ASCII.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.devset import ALL_LABELS
from models.tasks.base import TaskName
from models.tasks.classification import ClassificationInput, ClassificationResult
from models.tasks.manifest import Golden, GoldenAnswer, GoldenEmbedding, GoldenLabels
from models.tasks.qa import QAInput, QAResult
from models.tasks.similarity import EmbeddingInput

LIGHTHOUSE = (
    "The lighthouse on Grey Point was built in 1871 by Anna Lindqvist, an engineer from Gothenburg. It stands 34 "
    "metres above the sea and was lit by whale oil until 1902, when a paraffin lamp was installed. The last keeper "
    "left in 1968."
)
BAKERY = (
    "Every morning at four, Tomás unlocks the bakery behind the market and feeds the oven with beech wood. His "
    "grandmother, Inês, opened the shop in 1949 with a loan of 300 escudos; the café next door pays its rent in rolls."
)
RIVER = (
    "The river Osk rises in the Harrow hills and flows 112 kilometres north-east before it reaches the lake. Salmon "
    "returned to it after two weirs were removed, and the mill at Tern now makes electricity instead of flour."
)
LAB = (
    "In the second trial the team cooled the alloy to 4 kelvin with liquid helium. Resistance vanished below 9.2 "
    "kelvin, as it does in pure niobium, so the copper that had been added made no difference."
)
SERVER = (
    "The outage began at 09:12 when an expired certificate stopped the load balancer from reaching either data centre. "
    "Engineers issued a new certificate at 09:40 and traffic recovered within five minutes. No data was lost."
)
CHRONICLE = " ".join(
    f"In year {year} of its charter the society met in the old library and elected {year // 2} new members."
    for year in range(21, 35)
)

CHARTER = f"{CHRONICLE} {LIGHTHOUSE} {CHRONICLE}"

QUESTIONS = (
    QAInput("Who built the lighthouse?", LIGHTHOUSE),
    QAInput("How was the lamp lit before 1902?", LIGHTHOUSE),
    QAInput("Who opened the bakery in 1949?", BAKERY),
    QAInput("Why did salmon return to the river?", RIVER),
    QAInput("Below which temperature did the resistance vanish?", LAB),
    QAInput("What caused the outage?", SERVER),
    QAInput("When did the last keeper leave the lighthouse?", CHARTER),
)
TEXTS = (
    "What a dull evening.",
    "A café worth the walk!",
    "How far is it?",
    LIGHTHOUSE,
    BAKERY,
    RIVER,
    LAB,
    SERVER,
    CHARTER,
)


def golden(answer: Callable[[Any], Any], task: TaskName) -> Golden:
    """What this graph gives to each input on this machine. `answer`: the kernel's inputs to its results."""
    if task == "qa":
        return tuple(_answer(item, answer(item)) for item in QUESTIONS)
    if task == "classify":
        return tuple(_labels(text, answer(ClassificationInput(text, None, ALL_LABELS, "window"))) for text in TEXTS)
    return tuple(_embedding(text, answer(EmbeddingInput(text, "window"))) for text in TEXTS)


def _answer(item: QAInput, result: QAResult) -> GoldenAnswer:
    best = result.answers[0]
    return GoldenAnswer(
        question=item.question,
        context=item.context,
        text=best.text,
        start=best.start,
        end=best.end,
        score=round(best.score, 6),
    )


def _labels(text: str, result: ClassificationResult) -> GoldenLabels:
    labels = {label.label: round(label.score, 6) for label in result.labels}
    return GoldenLabels(text=text, text_pair=None, labels=labels)


def _embedding(text: str, vector: NDArray[np.float32]) -> GoldenEmbedding:
    return GoldenEmbedding(text=text, embedding=tuple(round(float(value), 6) for value in vector))
