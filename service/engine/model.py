"""Holds a bundle that is ready to run."""

from dataclasses import dataclass, field
from typing import Any

from models.tasks.base import Task
from models.tasks.bundle import Bundle
from models.tasks.session import Session
from service.engine.costs import CostModel


@dataclass(frozen=True, slots=True)
class Model:
    """Holds a task with its session, the threads of a run while no other runs, what a window costs, and how far its
    golden answers are from the recorded ones.

    `task` has inputs and results of any type: an engine holds models of all tasks, and no type leads from a task's
    name to the types of its inputs.
    """

    bundle: Bundle
    task: Task[Any, Any, Any]
    session: Session
    threads: int = 1
    costs: CostModel = field(default_factory=CostModel)
    drift: float | None = None

    def answer(self, item: Any) -> Any:
        """Answer one input on every core: for checks at start, when this process has nothing else to do.

        Raises: InputTooLongError of the kernel.
        """
        encoding = self.task.encode(item)
        return self.task.decode(encoding, [self.session.run(window, wide=True) for window in encoding.windows])
