"""Asks transformers and sentence-transformers, on PyTorch, what a checkpoint says of some inputs."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.base import TaskName
from models.tasks.classification import ClassificationInput
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput
from tests.conftest import PARAGRAPHS

LONG = " ".join(context for contexts in PARAGRAPHS.values() for context in contexts)  # several windows
DOC_STRIDE, MAX_ANSWER_TOKENS = 16, 8
QUESTIONS = ("Who built the lighthouse?", "How does the café pay?", "When was it lit?", "Tomás?")
SHORT = "It was built in 1871 by Anna Lindqvist."
PAIRS: tuple[tuple[str, str | None], ...] = (
    ("The café opened in 1949.", None),
    ("Who  built the lighthouse?", None),
    (LONG, None),
    ("The oven is heated with beech wood.", "His grandmother opened the shop."),
    ("Tomás unlocks it.", "Every morning at four."),
    (LONG, PARAGRAPHS["Bakeries"][0]),
)
INPUTS: dict[TaskName, Sequence[Any]] = {  # of the kernels' own types
    "qa": [
        QAInput(question, context, DOC_STRIDE, max_answer_tokens=MAX_ANSWER_TOKENS, align_to_words=False)
        for context in (SHORT, LONG)
        for question in QUESTIONS
    ],
    "classify": [ClassificationInput(text, pair, top_k=3) for text, pair in PAIRS],
    "similarity": [EmbeddingInput(text) for text, pair in PAIRS if pair is None] + [EmbeddingInput(SHORT)],
}

Span = tuple[int, int]
"""Start and end of an answer in code points."""


def spans(path: Path) -> list[Span]:
    """Find the span of the highest logits over all windows, as the tokenizer itself lays them out."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForQuestionAnswering.from_pretrained(path).eval()
    found = []
    for item in INPUTS["qa"]:
        windows = tokenizer(
            item.question,
            item.context,
            truncation="only_second",
            stride=item.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
        )
        logits: dict[Span, float] = {}  # by the span in code points
        for index in range(len(windows["input_ids"])):
            inputs = {key: torch.tensor([windows[key][index]]) for key in tokenizer.model_input_names}
            with torch.inference_mode():
                output = model(**inputs)
            start, end = (values[0].numpy() for values in (output.start_logits, output.end_logits))
            offsets = windows["offset_mapping"][index]
            held = [n for n, sequence in enumerate(windows.sequence_ids(index)) if sequence == 1]
            for first in held:
                for last in held[held.index(first) :][: item.max_answer_tokens]:
                    if span := _stripped(item.context, offsets[first][0], offsets[last][1]):
                        logits[span] = max(logits.get(span, -np.inf), float(start[first] + end[last]))
        found.append(max(logits, key=lambda span: logits[span]))
    return found


def _stripped(context: str, start: int, end: int) -> Span | None:
    """Leave the blanks around a span out. Returns: None if it holds nothing else."""
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    return (start, start + len(text.strip())) if text.strip() else None


def piped_spans(path: Path) -> list[Span | None]:
    """Ask transformers' own pipeline about the contexts of one window, where its settings are the kernel's."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer, QuestionAnsweringPipeline

    model = AutoModelForQuestionAnswering.from_pretrained(path)
    pipe = QuestionAnsweringPipeline(model, AutoTokenizer.from_pretrained(path), device="cpu")
    settings = {"max_answer_len": MAX_ANSWER_TOKENS, "align_to_words": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2, in the pipeline itself
        answers = [pipe(question=question, context=SHORT, **settings) for question in QUESTIONS]
    return [_stripped(SHORT, answer["start"], answer["end"]) for answer in answers]


def label_logits(path: Path) -> list[NDArray[np.float32]]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    rows = []
    for item in INPUTS["classify"]:
        inputs = tokenizer(item.text, item.text_pair, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**inputs).logits[0].numpy())
    return rows


def embeddings(path: Path) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path), device="cpu")
    vectors: NDArray[np.float32] = model.encode([item.text for item in INPUTS["similarity"]], show_progress_bar=False)
    return vectors
