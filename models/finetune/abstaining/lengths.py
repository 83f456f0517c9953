"""Writes dev sets by length: questions asked of 50 to 2,000 tokens, with the answer and without it."""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from models.finetune.contexts import Articles, sentence_bounds
from models.squad import QAExample, read_squad
from models.tasks.answer_metrics import LENGTHS
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options

TOKENS_OF_A_WORD = 1.35  # of English prose, by BERT's vocabulary


def bucket(examples: Sequence[QAExample], tokens: int, count: int, seed: int) -> Iterator[QAExample]:
    """Ask up to `count` questions of contexts of about so many tokens, and again of others that lack the answer."""
    articles, draw, words = Articles(examples), random.Random(seed), round(tokens / TOKENS_OF_A_WORD)
    answerable = [example for example in examples if not example.is_impossible]
    for example in draw.sample(answerable, min(count, len(answerable))):
        if len(example.context.split()) >= words:
            yield crop(example, words, draw)
        elif joined := articles.join(example, words, draw, removed=False):
            yield joined
        paragraph = len(example.context.split())
        if removed := articles.join(example, words + paragraph, draw, removed=True):
            yield replace(removed, context=_cut(removed.context, words))


def crop(example: QAExample, words: int, draw: random.Random) -> QAExample:
    """Leave so many words of sentences around the one that holds the first answer."""
    bounds = list(sentence_bounds(example.context))
    begin = example.answer_starts[0]
    end = begin + len(example.answers[0])
    low = max(index for index, (start, _) in enumerate(bounds) if start <= begin)
    high = min((index for index, (_, stop) in enumerate(bounds) if stop >= end), default=len(bounds) - 1)
    while len(example.context[bounds[low][0] : bounds[high][1]].split()) < words:
        backwards = low > 0 and (high == len(bounds) - 1 or draw.random() < 0.5)
        low, high = (low - 1, high) if backwards else (low, high + 1)
    start, stop = bounds[low][0], bounds[high][1]
    kept = [
        (text, at - start)
        for text, at in zip(example.answers, example.answer_starts, strict=True)
        if start <= at and at + len(text) <= stop
    ]
    answers, starts = zip(*kept, strict=True)
    return replace(
        example, id=f"{example.id}-cropped", context=example.context[start:stop], answers=answers, answer_starts=starts
    )


def _cut(text: str, words: int) -> str:
    """Leave whole sentences from the start until there are so many words."""
    for _, stop in sentence_bounds(text):
        if len(text[:stop].split()) >= words:
            return text[:stop]
    return text


def squad(examples: Sequence[QAExample]) -> dict[str, object]:
    """Lay examples out as SQuAD 2.0 JSON, a paragraph for each."""
    paragraphs = [
        {
            "context": example.context,
            "qas": [
                {
                    "id": example.id,
                    "question": example.question,
                    "is_impossible": example.is_impossible,
                    "answers": [
                        {"text": text, "answer_start": start}
                        for text, start in zip(example.answers, example.answer_starts, strict=True)
                    ],
                }
            ],
        }
        for example in examples
    ]
    return {"version": "v2.0", "data": [{"title": "", "paragraphs": paragraphs}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthOptions(Options):
    """Ask the questions of a set of contexts of other lengths, and again of contexts without the answer."""

    dev: Annotated[Path, Flag("SQuAD JSON with whole articles", metavar="FILE")]
    out: Annotated[Path, Flag("a file for each length is written here", metavar="DIR")]
    tokens: Annotated[tuple[int, ...], Flag("lengths of the contexts", above=0)] = LENGTHS
    count: Annotated[int, Flag("questions of a length, each asked twice", above=0)] = 100
    seed: Annotated[int, Flag("of the questions that are drawn")] = 0


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.finetune.abstaining.lengths") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Write a file for each length and print its name. Raises: DataError, OSError."""
    options = read_options(LengthOptions, prog, argv)
    examples = read_squad(options.dev)
    options.out.mkdir(parents=True, exist_ok=True)
    for tokens in options.tokens:
        path = options.out / f"{options.dev.stem}-{tokens:04d}.json"
        content = squad(list(bucket(examples, tokens, options.count, options.seed)))
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
