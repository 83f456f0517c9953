"""Makes more questions out of those that there are: with other contexts, or answered by nothing."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.sentences import SENTENCE_END
from models.squad import QAExample

WORDS = (100, 1500)  # of joined paragraphs; about 130 to 2,000 tokens
NUMBER = re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")  # in the middle of a sentence
OPPOSITES = """
    first last; largest smallest; biggest smallest; highest lowest; most least; more less; before after;
    earliest latest; oldest youngest; longest shortest; best worst; north south; northern southern; east west;
    eastern western; above below; increase decrease; increased decreased; begin end; began ended; start stop;
    started stopped; win lose; won lost; major minor; public private; male female; men women; same different;
    always never; early late; old new; small large; high low; long short; good bad; strong weak; rich poor;
    common rare; positive negative; internal external; with without
"""
OPPOSITE = {one: other for pair in OPPOSITES.split(";") for a, b in [pair.split()] for one, other in ((a, b), (b, a))}
WORD = re.compile(r"[a-z]+")
VERB = re.compile(r"\b(?:is|are|was|were|does|did|has|have|had|could|would)\b")


class Articles:
    """The paragraphs of every article in the order of the examples, for contexts of other lengths."""

    def __init__(self, examples: Sequence[QAExample]) -> None:
        self.paragraphs: dict[str, list[str]] = defaultdict(list)
        self.places: dict[tuple[str, str], int] = {}
        for example in examples:
            key = example.title, example.context
            if key not in self.places:
                self.places[key] = len(self.paragraphs[example.title])
                self.paragraphs[example.title].append(example.context)

    def join(self, example: QAExample, words: int, draw: random.Random, *, removed: bool) -> QAExample | None:
        """Ask a question of about so many words of its article around the right paragraph, or (`removed`) without it.

        Other paragraphs that hold an answer's text are left out: they may answer the question too.
        Returns: None if nothing is left to join.
        """
        before, after = self._around(example, words, draw)
        if not before and not after:
            return None
        if removed:
            context = "\n".join([*before, *after])
            return replace(example, id=f"{example.id}-removed", context=context, answers=(), answer_starts=())
        shift = len("\n".join([*before, ""]))
        return replace(
            example,
            id=f"{example.id}-joined",
            context="\n".join([*before, example.context, *after]),
            answer_starts=tuple(start + shift for start in example.answer_starts),
        )

    def _around(self, example: QAExample, words: int, draw: random.Random) -> tuple[list[str], list[str]]:
        """Choose paragraphs before and after the right one, until there are so many words with it."""
        paragraphs, place = self.paragraphs[example.title], self.places[example.title, example.context]
        before: list[str] = []
        after: list[str] = []
        low, high = place - 1, place + 1
        missing = words - len(example.context.split())
        share = draw.random()  # of them that stand before
        while missing > 0 and (low >= 0 or high < len(paragraphs)):
            backwards = low >= 0 and (high >= len(paragraphs) or draw.random() < share)
            paragraph = paragraphs[low if backwards else high]
            low, high = (low - 1, high) if backwards else (low, high + 1)
            if any(answer.lower() in paragraph.lower() for answer in example.answers):
                continue
            missing -= len(paragraph.split())
            if backwards:
                before.insert(0, paragraph)
            else:
                after.append(paragraph)
        return before, after


def join_paragraphs(examples: Sequence[QAExample], fraction: float, seed: int, *, removed: bool) -> list[QAExample]:
    """Ask answerable questions of many paragraphs of their article, from 100 to 1,500 words, with or (`removed`)
    without the right one, which makes them unanswerable.
    """
    articles = Articles(examples)
    joined = []
    draw = random.Random(seed)
    for example in examples:
        if example.is_impossible or draw.random() >= fraction:
            continue
        words = int(WORDS[0] * (WORDS[1] / WORDS[0]) ** draw.random())  # every length is as likely as its double
        joined.append(articles.join(example, words, draw, removed=removed))
    return [example for example in joined if example]


def crop_paragraphs(examples: Sequence[QAExample], fraction: float, seed: int) -> list[QAExample]:
    """Ask answerable questions of some sentences of their paragraph, with those that hold the answers."""
    cropped = []
    draw = random.Random(seed)
    for example in examples:
        if example.is_impossible or draw.random() >= fraction:
            continue
        bounds = list(sentence_bounds(example.context))
        begin = min(example.answer_starts)
        end = max(start + len(text) for text, start in zip(example.answers, example.answer_starts, strict=True))
        first = max(index for index, (start, _) in enumerate(bounds) if start <= begin)
        last = min((index for index, (_, stop) in enumerate(bounds) if stop >= end), default=len(bounds) - 1)
        first, last = draw.randint(0, first), draw.randint(last, len(bounds) - 1)
        if (first, last) == (0, len(bounds) - 1):
            continue
        start, stop = bounds[first][0], bounds[last][1]
        cropped.append(
            replace(
                example,
                id=f"{example.id}-cropped",
                context=example.context[start:stop],
                answer_starts=tuple(at - start for at in example.answer_starts),
            )
        )
    return cropped


def swap_words(examples: Sequence[QAExample], fraction: float, seed: int) -> list[QAExample]:
    """Make unanswerable questions of answerable ones, as people do (Rajpurkar et al. 2018, table 1): a number or
    a name becomes another one of the same paragraph, a word its opposite, or a verb is negated, which is the rarest.
    """
    swapped = []
    draw = random.Random(seed)
    for example in examples:
        if example.is_impossible or draw.random() >= fraction:
            continue
        choices = []
        for pattern in (NUMBER, NAME):
            others = {other for other in pattern.findall(example.context) if other not in example.question}
            choices += [(match, sorted(others)) for match in pattern.finditer(example.question) if others]
        choices += [(m, [OPPOSITE[m[0]]]) for m in WORD.finditer(example.question) if m[0] in OPPOSITE]
        if not choices and draw.random() < 0.5:
            choices = [(match, [f"{match[0]}n't"]) for match in VERB.finditer(example.question)]
        if not choices:
            continue
        match, candidates = draw.choice(choices)
        question = example.question[: match.start()] + draw.choice(candidates) + example.question[match.end() :]
        swapped.append(replace(example, id=f"{example.id}-swapped", question=question, answers=(), answer_starts=()))
    return swapped


def sentence_bounds(text: str) -> Iterator[tuple[int, int]]:
    """Find where each sentence starts and ends."""
    start = 0
    for gap in SENTENCE_END.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)
