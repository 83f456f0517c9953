"""One model on onnxruntime: a graph for one core, and one for all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import onnxruntime as ort

from models.tasks.base import Features, Outputs
from models.tasks.bundle import Bundle, BundleError
from models.tasks.session import graph_outputs

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


def _check(path: Path, what: str, names: set[str]) -> None:
    if names:
        raise BundleError(f"{path} {what} {sorted(names)}; export the bundle again")
