"""Defines a labelled set to measure on: the inputs a client would send, and the scores of the results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from tqdm import tqdm

from models.files import READING, Reading
from models.tasks.answer_metrics import Language
from models.tasks.base import AnyTask, Metrics
from models.tasks.options import Flag
from models.tasks.text.windows import OnOverflow

AnswerLanguage = Annotated[
    Language,
    Flag(
        "language of the answers in --dev, which are compared by SQuAD's normalization (en) or by MLQA's", group=READING
    ),
]


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What some tasks must know beside the file of a labelled set.

    `on_overflow`: how to treat texts that are too long. `multi_label`: texts have several labels; it counts where the
    model is not known, as behind HTTP. `config`: the model's config.json, where it is known. `language`: the language
    of answers, by whose normalization they are compared. `reading`: how the file is read, and what is left out of it.
    """

    on_overflow: OnOverflow = "truncate"
    multi_label: bool = False
    language: Language = "en"
    config: Mapping[str, Any] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)


class DevSet(ABC):
    """`inputs` are the kernel's; `score` takes a result for each. `skipped`: rows of the file that were left out."""

    inputs: Sequence[Any]
    skipped: int = 0

    @abstractmethod
    def score(self, results: Sequence[Any], task: AnyTask | None = None) -> Metrics:
        """`task`: what gave the results, where it is known."""

    def check(  # noqa: B027 - most sets have nothing to compare
        self, task: AnyTask | None, answer: Callable[[Any], Any] | None = None
    ) -> None:
        """Compare, before any work, what the set holds with what the model can say.

        `task`: the model's, where it is known; or else `answer` is asked once. Raises: DataError if they do not fit.
        """


def measure(answer: Callable[[Any], Any], dev: DevSet, task: AnyTask | None = None, *, name: str = "dev") -> Metrics:
    """Ask every input and score the results. `answer`: an input to its result; `name`: of the progress bar."""
    return score_all(answers(answer, dev, name=name), dev, task)


def answers(answer: Callable[[Any], Any], dev: DevSet, *, name: str) -> list[Any]:  # the task's results
    """Ask every input. `name`: of the progress bar."""
    with tqdm(dev.inputs, desc=name, unit="input") as bar:  # which ends before an error is told
        return [answer(item) for item in bar]


def score_all(results: Sequence[Any], dev: DevSet, task: AnyTask | None = None) -> Metrics:
    """Score the results of every input; rows that were left out are counted under `skipped`."""
    metrics = dev.score(results, task)
    return metrics | {"skipped": float(dev.skipped)} if dev.skipped else metrics
