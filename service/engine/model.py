"""Holds a bundle that is ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from models.tasks.base import Task, TaskName
from models.tasks.bundle import Bundle
from models.tasks.session import Cancellation, Session
from service.engine.costs import CostModel, LoneRuns


@dataclass(frozen=True, slots=True)
class Model:
    """Holds a task with its session, how many threads a run takes while no other runs, what a window costs, and how
    far its golden answers are from the recorded ones.

    `id` is what it is called: its bundle's name, and the revision too where another model of its task has that name.

    `task` has inputs and results of any type: an engine holds models of all tasks, and no type leads from a task's
    name to the types of its inputs.
    """

    bundle: Bundle
    task: Task[Any, Any, Any]
    session: Session
    lone: LoneRuns = field(default_factory=LoneRuns)
    costs: CostModel = field(default_factory=CostModel)
    drift: float | None = None
    id: str = ""
    loaded_at: datetime = field(default_factory=partial(datetime.now, UTC))

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.id or self.bundle.name)

    def answer(self, item: Any, cancellation: Cancellation | None = None) -> Any:
        """Answer one input on every core: for checks at start, when this process has nothing else to do.

        Raises: InputTooLongError of the kernel; what the graph raises.
        """
        encoding = self.task.encode(item)
        runs = [self.session.run(window, cancellation, wide=True) for window in encoding.windows]
        return self.task.decode(encoding, runs)


def told_apart(models: Sequence[Model]) -> list[Model]:
    """Give the models of a task that have the same name ids with their revisions."""
    names = [(model.bundle.task, model.bundle.name) for model in models]
    return [
        replace(model, id=f"{name}@{model.bundle.revision}") if names.count((task, name)) > 1 else model
        for model, (task, name) in zip(models, names, strict=True)
    ]


def by_name(models: Sequence[Model]) -> dict[tuple[TaskName, str | None], Model]:
    """Find models by their task and what a request may call them; None is the default, the first of its task.

    Where one word could mean two models, it is a name before it is a directory, and means the first of that name.
    """
    named: dict[tuple[TaskName, str | None], Model] = {}
    for model in models:
        named.setdefault((model.bundle.task, None), model)
    for names_of in (_names, _directories):
        for model in models:
            revisions = [model.bundle.revision]
            if origin := model.bundle.origin:
                revisions += [origin.commit, origin.revision]
            for name in names_of(model.bundle):
                for full_name in (name, *(f"{name}@{revision}" for revision in revisions)):
                    named.setdefault((model.bundle.task, full_name), model)
    return named


def _names(bundle: Bundle) -> list[str]:
    return [bundle.name, *([bundle.origin.repository] if bundle.origin else [])]


def _directories(bundle: Bundle) -> list[str]:
    return [bundle.directory]
