"""Measures how much of what a search by float embeddings finds a search by int8 embeddings finds too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from export.options import ExportOptions
from export.verify import MIN_NEIGHBOURS, check_neighbours
from models.devset import DevSet
from models.files import Reading
from models.finetune.recipes import RECIPES
from models.tasks.build import SPECS

MAX_TEXTS = 5000

Answer = Callable[[Any], Any]  # from a task's inputs to its results


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`overlap`: the share of each text's nearest neighbours that int8 keeps; `inputs`: the texts."""

    overlap: float
    inputs: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A graph's results of the dev set, and what gives more of them."""

    results: Sequence[Any]
    answer: Answer


def checked_neighbours(options: ExportOptions, dev: DevSet, fp32: Answered, int8: Answered) -> Neighbours | None:
    """Compare neighbours among the distinct texts of --dev and --sentences; None where the task has none to compare.

    Raises: VerifyError, DataError.
    """
    overlap_of = SPECS[options.task].overlap
    if overlap_of is None:
        return None
    texts = chosen([*dev.inputs, *read_sentences(options)], options.seed)
    overlap = overlap_of(*(_results(graph, dev, texts) for graph in (fp32, int8)))
    if overlap is None:
        return None
    bound = MIN_NEIGHBOURS if options.min_neighbours is None else options.min_neighbours
    check_neighbours(overlap, len(texts), bound)
    return Neighbours(round(overlap, 4), len(texts))


def chosen(inputs: Sequence[Any], seed: int) -> list[Any]:
    """Draw up to 5,000 of the distinct inputs, in their order."""
    distinct = list(dict.fromkeys(inputs))
    if len(distinct) <= MAX_TEXTS:
        return distinct
    indices = np.random.default_rng(seed).choice(len(distinct), MAX_TEXTS, replace=False)
    return [distinct[index] for index in sorted(indices)]


def read_sentences(options: ExportOptions) -> list[Any]:
    """Read the inputs that `--sentences` adds to those of the dev set. Raises: DataError."""
    reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
    return [item for path in options.sentences for item in RECIPES[options.task].read_texts(path, reading)]


def _results(graph: Answered, dev: DevSet, texts: Sequence[Any]) -> list[Any]:
    """Ask a graph for the texts that are not among the dev set's inputs."""
    known = dict(zip(dev.inputs, graph.results, strict=True))
    with tqdm(texts, desc="neighbours", unit="text") as bar:
        return [known[text] if text in known else graph.answer(text) for text in bar]
