"""A bundle that is ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort

from models.tasks.base import Features, Outputs, Task
from models.tasks.bundle import Bundle
from models.tasks.directory import BundleError
from models.tasks.session import graph_outputs
from service.engine.costs import CostModel

FEEDS = {"input_ids", "attention_mask", "token_type_ids"}


class Session(Protocol):
    """A forward pass over one unpadded window; safe to call from several threads at once."""

    def run(self, window: Features, options: ort.RunOptions | None = None, *, wide: bool = False) -> Outputs:
        """`options` can end the run from another thread; `wide` lets it take every core, with the same outputs."""
        ...


class OnnxSession:
    """Runs a bundle's graph for a task's outputs. Raises: BundleError if the graph is not one for this task.

    `wide` is the same graph over several threads, or None where one is as fast.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: ort.InferenceSession,
        output_names: Sequence[str],
        wide: ort.InferenceSession | None = None,
    ) -> None:
        self._graph = graph
        self._wide = wide or graph
        self._input_names = [node.name for node in graph.get_inputs()]
        self._output_names = list(output_names)
        _check(bundle.model_path, "needs inputs", set(self._input_names) - FEEDS)
        _check(bundle.model_path, "lacks outputs", set(output_names) - set(graph_outputs(graph)))

    def run(self, window: Features, options: ort.RunOptions | None = None, *, wide: bool = False) -> Outputs:
        graph = self._wide if wide else self._graph
        outputs = graph.run(self._output_names, window.feed(self._input_names), options)
        return tuple(output[0] for output in outputs)


@dataclass(frozen=True, slots=True)
class Model:
    """Its task, its session, the threads of a run that is alone, what a window costs, and how far its golden answers
    are from the recorded ones.

    `task` is of whichever inputs and results: an engine holds models of all tasks, and no type leads from a task's
    name to its own.
    """

    bundle: Bundle
    task: Task[Any, Any, Any]
    session: Session
    threads: int = 1
    costs: CostModel = field(default_factory=CostModel)
    drift: float | None = None

    def answer(self, item: Any) -> Any:
        """The result of one input, on every core: for checks at start, when this process has nothing else to do.

        Raises: InputTooLongError of the kernel.
        """
        encoding = self.task.encode(item)
        return self.task.decode(encoding, [self.session.run(window, wide=True) for window in encoding.windows])


def _check(path: Path, what: str, names: set[str]) -> None:
    if names:
        raise BundleError(f"{path} {what} {sorted(names)}; export the bundle again")
