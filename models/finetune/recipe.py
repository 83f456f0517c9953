"""Defines what a task is in training: its head, its labelled windows and its losses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from models.data import Batch, Item
from models.tasks.base import AnyTask, Metrics

TaskT = TypeVar("TaskT", bound=AnyTask)
Output = Any  # transformers' own output class of the head


class Recipe(ABC, Generic[TaskT]):
    """One for each task; the loop, the weights of the losses and the checkpoints are the same for all."""

    model_class: ClassVar[type[Any]]  # transformers' Auto class of the head, for any encoder
    student_class: ClassVar[type[Any]]  # DistilBERT with that head
    teacher_in_loop: ClassVar[bool] = True  # or else it says all that it has to say in `items`
    task: TaskT  # over the model in training, for the dev set

    @abstractmethod
    def items(self, teacher: PreTrainedModel | None) -> Sequence[Item]:
        """The labelled windows of all training files. Raises: DataError."""

    @abstractmethod
    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        """A scalar, averaged over the batch."""

    @abstractmethod
    def logits(self, output: Output, batch: Batch) -> Tensor:
        """What soft targets compare. Shape: (batch, distributions, classes)."""

    def configure(self, config: PretrainedConfig) -> None:
        """Write into an encoder's configuration what its new head needs."""

    def record(self, config: PretrainedConfig, metrics: Metrics) -> None:
        """Keep in the best model's configuration what was found on the dev set."""

    def close(self) -> None:
        """The run is finished: remove what only a killed one would need."""
