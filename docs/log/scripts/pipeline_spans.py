"""Compares answers with those of transformers' question answering pipeline over the very same graph.

From the root of the repository: python -m docs.log.scripts.pipeline_spans bundles/qa $DATA/qa/squad2_dev.json
With a number after these, so many questions are drawn (500). Both sides run one session of onnxruntime: what differs is
how texts become windows, and logits an answer.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from optimum.onnxruntime import ORTModelForQuestionAnswering
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, pipeline

from models.squad import QAExample, read_squad
from models.tasks.base import Run, answerer
from models.tasks.build import build_task
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.qa import QAEncoding, QAInput, QuestionAnswering
from models.tasks.session import graph_outputs, onnx_run, open_graph

COUNT, SEED = 500, 0
MAX_ANSWER_TOKENS = 30
CANDIDATES = 12  # of each window, which the pipeline widens to words: 2 * top_k + 10
Span = tuple[int, int]
NOTHING = (0, 0)  # as the pipeline says that there is no answer


@dataclass(frozen=True, slots=True)
class Setting:
    """What both sides are asked, by the pipeline's names. `max_seq_len`: None for the longest that the model reads."""

    max_seq_len: int | None = None
    doc_stride: int = 128
    handle_impossible_answer: bool = False
    align_to_words: bool = False


SETTINGS = {
    "spans of tokens": Setting(),
    "or no answer": Setting(handle_impossible_answer=True),
    "spans of words": Setting(align_to_words=True),
    "windows of 128 tokens": Setting(max_seq_len=128, doc_stride=64),
    "windows of 128 tokens, or no answer": Setting(max_seq_len=128, doc_stride=64, handle_impossible_answer=True),
}


class Sides:
    """Our task and the pipeline, over one session."""

    def __init__(self, bundle: Bundle) -> None:
        session = open_graph(bundle, threads=1)
        task = build_task(bundle, graph_outputs(session))
        assert isinstance(task, QuestionAnswering)
        task.thresholds = 0.0, ()  # the pipeline's rule
        self.task, self.longest, self.run = task, task.max_length, onnx_run(session, task.output_names)
        model = ORTModelForQuestionAnswering(config=AutoConfig.from_pretrained(bundle.path), session=session)
        tokenizer = AutoTokenizer.from_pretrained(bundle.path)
        self.ask: Any = pipeline("question-answering", model=model, tokenizer=tokenizer)  # its result has no one type

    def ours(self, example: QAExample, setting: Setting) -> tuple[Span, QAEncoding]:
        """Returns: the best span in code points, and the windows that it was found in."""
        self.task.max_length = setting.max_seq_len or self.longest
        item = QAInput(
            example.question,
            example.context,
            doc_stride=setting.doc_stride,
            max_answer_tokens=MAX_ANSWER_TOKENS,
            allow_no_answer=setting.handle_impossible_answer,
            align_to_words=setting.align_to_words,
        )
        answers = answerer(self.task, self.run)(item).answers
        return ((answers[0].start, answers[0].end) if answers else NOTHING), self.task.encode(item)

    def theirs(self, example: QAExample, setting: Setting) -> Span:
        answer = self.ask(
            question=example.question,
            context=example.context,
            max_seq_len=setting.max_seq_len or self.longest,
            doc_stride=setting.doc_stride,
            max_answer_len=MAX_ANSWER_TOKENS,
            handle_impossible_answer=setting.handle_impossible_answer,
            align_to_words=setting.align_to_words,
        )
        return answer["start"], answer["end"]


def compare(sides: Sides, examples: Sequence[QAExample], setting: Setting) -> Counter[str]:
    """Count what is equal, and the reasons of what is not."""
    counts: Counter[str] = Counter()
    for example in tqdm(examples, unit="question"):
        ours, encoding = sides.ours(example, setting)
        theirs = sides.theirs(example, setting)
        if ours == theirs:
            counts["equal"] += 1
            continue
        reason = reason_of(sides, example, setting, encoding, theirs)
        counts[reason] += 1
        if reason == "unexplained":
            sys.stderr.write(
                f"{example.question!r}: ours {cut(example, ours)}, the pipeline's {cut(example, theirs)}\n"
            )
    return counts


def reason_of(sides: Sides, example: QAExample, setting: Setting, encoding: QAEncoding, theirs: Span) -> str:
    """Tell why two answers differ: by the first thing of those that the pipeline does which gives its answer."""
    [tokens] = sides.task.tokenizer.encode_batch([(example.question, example.context)])

    def widen(span: Span) -> Span:
        """Widen a span to the words of the tokenizer."""
        first, last = (tokens.char_to_word(place, 1) for place in (span[0], span[1] - 1))
        return tokens.word_to_chars(first, 1)[0], tokens.word_to_chars(last, 1)[1]

    if setting.align_to_words:
        bare, _ = sides.ours(example, replace(setting, align_to_words=False))
        if bare != NOTHING and widen(bare) == theirs:
            return "another idea of a word"
    scores, null = window_scores(encoding, sides.run, CANDIDATES if setting.align_to_words else 1)
    if setting.align_to_words:
        scores = [(score, widen(span)) for score, span in scores]
    for reason, adds in (("each window is normalised by itself", False), ("spans of one text are added up", True)):
        score, span = best_of(example, scores, adds=adds)
        if theirs == (NOTHING if setting.handle_impossible_answer and null > score else span):
            return reason
    return "unexplained"


def window_scores(encoding: QAEncoding, run: Run, count: int) -> tuple[list[tuple[float, Span]], float]:
    """Score as the pipeline does: by a softmax over the starts of each window, and one over its ends.

    Returns: the best spans of each window, so many, and the least score of no answer.
    """
    best, null = [], 1.0
    for window in encoding.windows:
        kept = [0, *range(window.position, window.position + window.length)]  # the first token is "no answer"
        start, end = (np.exp(logits[kept] - logits[kept].max()) for logits in run(window))
        start, end = start / start.sum(), end / end.sum()
        null = min(null, float(start[0] * end[0]))
        products = np.tril(np.triu(np.outer(start[1:], end[1:])), MAX_ANSWER_TOKENS - 1)
        places = encoding.places[window.first : window.first + window.length]
        for index in np.argsort(-products, axis=None, kind="stable")[:count]:
            first, last = divmod(int(index), len(products))
            best.append((float(products[first, last]), (places[first][0], places[last][1])))
    return best, null


def best_of(example: QAExample, scores: Sequence[tuple[float, Span]], *, adds: bool) -> tuple[float, Span]:
    """Choose a span. `adds`: those with the same text are one, with the sum of their scores."""
    if not adds:
        return max(scores, key=itemgetter(0))
    spans: dict[str, Span] = {}
    sums: dict[str, float] = {}
    for score, span in scores:
        text = example.context[slice(*span)].lower()
        spans.setdefault(text, span)
        sums[text] = sums.get(text, 0.0) + score
    text = max(sums, key=lambda text: sums[text])
    return sums[text], spans[text]


def cut(example: QAExample, span: Span) -> str:
    return f"{span} {example.context[slice(*span)]!r}"


def main(bundle: Path, data: Path, count: int = COUNT) -> None:
    examples = Random(SEED).sample(read_squad(data), count)
    sides = Sides(load_bundle(bundle, "qa"))
    for name, setting in SETTINGS.items():
        counts = compare(sides, examples, setting)
        sys.stdout.write(f"{name}: {', '.join(f'{reason} {number}' for reason, number in counts.most_common())}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
