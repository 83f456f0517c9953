"""Defines what a task is in training and in an export: head, labelled windows, losses, card."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from models.data import Batch, Item
from models.devset import DevOptions, DevSet
from models.files import Reading
from models.finetune.options import FinetuneOptions
from models.tasks.base import AnySpec, AnyTask, Metrics
from models.tasks.directory.model import ModelDirectory
from models.teaching.readers import Reader

TaskT = TypeVar("TaskT", bound=AnyTask)
Output = Any  # transformers' own output class of the head
Post = Callable[[str, dict[str, object]], Any]
"""Sends JSON fields to a route of a running server; returns the JSON of its answer."""


@dataclass(frozen=True, slots=True)
class CardText:
    """What the model cards of a task have in common.

    `figures`: the metrics' keys and what the table calls them; `counted`: what the dev set holds; `load`: Python that
    loads `{file}` in `{subfolder}` of `{directory}`.
    """

    pipeline_tag: str
    tags: str
    summary: str
    counted: str
    figures: dict[str, str]
    limits: tuple[str, ...]
    load: str


class Recipe(ABC, Generic[TaskT]):
    """What training and export know of a task; the loop, the checkpoints and the bundle are the same for all.

    The class holds what is known before there are data, an instance is one training.
    """

    spec: ClassVar[AnySpec]
    model_class: ClassVar[type[Any]]  # transformers' Auto class of the head, for any encoder
    student_class: ClassVar[type[Any]]  # DistilBERT with that head
    optimum_task: ClassVar[str]
    has_head: ClassVar[bool] = True  # or else any encoder is a model for this task
    reads_pairs: ClassVar[bool] = True  # of texts
    reads_whole_texts: ClassVar[bool] = False  # by a tokenizer of its own, may a teacher; items have their texts
    teacher_in_loop: ClassVar[bool] = True  # or else `items` takes from it all that there is to learn
    own_options: ClassVar[tuple[str, ...]] = ()  # of a training, which some tasks alone read
    card: ClassVar[CardText]
    task: TaskT  # over the model in training, for the dev set
    reader: Reader | None = None  # how the first teacher reads
    reading: Reading  # how the training files were read, and what was left out of them

    @abstractmethod
    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        """Read the training files. Raises: DataError, BundleError.

        `tokenizer`: one of transformers' fast ones, which have no common type.
        """

    @abstractmethod
    def items(self, teacher: PreTrainedModel | None) -> Sequence[Item]:
        """Encode all training files into labelled windows. Raises: DataError."""

    @abstractmethod
    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        """Compare with the labels. Returns: a scalar, averaged over the batch."""

    @abstractmethod
    def logits(self, output: Output, batch: Batch) -> Tensor:
        """Pick what soft targets compare. Shape: (batch, distributions, classes)."""

    @abstractmethod
    def distributions(self) -> tuple[int, int]:
        """Count what `logits` has for a window, and the classes of each; whichever are the window's positions are 0."""

    @classmethod
    def teacher(cls, options: FinetuneOptions, config: PretrainedConfig) -> ModelDirectory:
        """Describe the first teacher, of this `config`, as what serves it reads it: its labels are the student's."""
        return ModelDirectory(
            Path(options.teacher[0]), cls.spec.name, json.loads(config.to_json_string(use_diff=False))
        )

    def check_width(self, width: int) -> None:
        """Check what the width of the student's states allows to learn. Raises: DataError."""

    def configure(self, config: PretrainedConfig) -> None:
        """Write into an encoder's configuration what its new head needs."""

    def record(self, config: PretrainedConfig, metrics: Metrics) -> None:
        """Keep in the best model's configuration what the dev set has shown."""

    def close(self) -> None:
        """Remove, when the run is finished, what only a killed one would need."""

    @staticmethod
    @abstractmethod
    def dev_set(path: Path, options: DevOptions) -> DevSet:
        """Read a labelled set. Raises: DataError."""

    @staticmethod
    def read_texts(path: Path, reading: Reading) -> Sequence[Any]:  # of the task's inputs
        """Read unlabelled texts as inputs, where the spec has an `overlap` of results. Raises: DataError."""
        raise NotImplementedError(f"no results are compared with each other: {path}, {reading}")

    @staticmethod
    @abstractmethod
    def ask(post: Post, item: Any) -> Any:  # of the task's inputs and results
        """Ask a running server for the result of one of the kernel's inputs. Raises: ClientError."""

    @staticmethod
    def card_limits(_: TaskT) -> Sequence[str]:
        """Say what the limits in the card add for this model."""
        return ()

    @classmethod
    def load_lines(cls, _: Path) -> str:
        """Choose the card's lines that load the bundle in this directory."""
        return cls.card.load

    @staticmethod
    def write_files(directory: Path, task: TaskT, hidden_size: int) -> None:
        """Write what other libraries need beside config.json to load an exported checkpoint."""
