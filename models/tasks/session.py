"""Opens graphs with onnxruntime; nothing else in this project opens one."""

import os
import re
from collections.abc import Collection, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.tasks.errors import NO_TELEMETRY

os.environ.setdefault(*NO_TELEMETRY)  # before the import, which begins it
import onnxruntime as ort

from models.tasks.base import Features, Outputs, Run, UnsupportedInputError
from models.tasks.bundle import Bundle
from models.tasks.directory.files import BundleError, remedy


def open_graph(
    graph: Bundle | Path | bytes,
    *,
    threads: int,
    exact_products: bool = False,
    disabled_optimizers: Collection[str] = (),
) -> ort.InferenceSession:
    """Open a bundle's graph, an ONNX file or its bytes, on the CPU, for serving, checks and benchmarks alike.

    * `threads` of a run: left to onnxruntime, they would be as many as the host has cores, not the container. Exports
      and evaluations take one: they often share their machine with a training run, where spinning threads crawl.
      A graph's operators run one after the other, so a second pool of threads between operators would never be used.
    * Threads spin within a run, which makes two of them pay, and stop when it ends: the cores are then free for others,
      and for the session that a benchmark measures next.
    * All sessions of the process share one arena of memory; see `_share_memory`.
    * `exact_products`: products of bytes are exact also on a CPU without VNNI, where the faster ones may saturate; with
      VNNI they are exact anyway. Figures of a model ask for them, so that they tell of the model and not of the
      machine; the service asks for them where its golden answers show that this CPU saturates.
    * `disabled_optimizers`: onnxruntime's fusions to leave out of an ONNX file; a bundle names its own.

    Raises: BundleError.
    """
    _share_memory()
    bundle = graph if isinstance(graph, Bundle) else None
    model = graph.model_path if isinstance(graph, Bundle) else graph
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.use_env_allocators", "1")
    if exact_products:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=set(bundle.disabled_optimizers if bundle else disabled_optimizers),
            enable_fallback=0,  # it would try the same again, and print that it does
        )
        graph_outputs(session)  # names that are not UTF-8 fail as late as here
        graph_inputs(session)
        return session
    except Exception as error:  # onnxruntime's errors share no narrower class
        reason = str(error).partition("\n")[0]
        name = "the graph" if isinstance(model, bytes) else model
        usual = "export the bundle again"
        advice = usual if isinstance(model, bytes) else remedy(Path(model), usual)
        raise BundleError(f"{name} cannot be loaded ({reason}); {advice}") from error


def graph_inputs(graph: ort.InferenceSession) -> list[str]:
    """Returns: names, in the graph's order."""
    return [node.name for node in graph.get_inputs()]


def graph_outputs(graph: ort.InferenceSession) -> list[str]:
    """Returns: names, in the graph's order."""
    return [node.name for node in graph.get_outputs()]


def onnx_run(graph: ort.InferenceSession, output_names: Sequence[str]) -> Run:
    """Make the forward pass of one window, for outputs of a graph of our own export; `OnnxSession` runs others."""
    input_names = graph_inputs(graph)
    names = list(output_names)

    def run(features: Features) -> Outputs:
        return tuple(np.asarray(output)[0] for output in graph.run(names, feed(features, input_names)))

    return run


@cache
def _share_memory() -> None:
    """Give all sessions of the process one arena.

    One for each would keep what its longest run took (docs/log/serving.md).
    """
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
        ort.OrtArenaCfg(
            {
                "max_mem": 0,  # no limit
                "arena_extend_strategy": 0,  # kNextPowerOfTwo; kSameAsRequested would fragment the arena
                "initial_chunk_size_bytes": -1,  # the library's default
                "max_dead_bytes_per_chunk": -1,
            }
        ),
    )


FEEDS = {"input_ids", "attention_mask", "token_type_ids"}


def feed(window: Features, input_names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Lay out a window as a batch of one, for a graph with these inputs, which are some of FEEDS.

    Shapes: (1, seq_len).
    """
    arrays = {
        "input_ids": window.input_ids,
        "attention_mask": np.ones_like(window.input_ids),
        "token_type_ids": window.token_type_ids,
    }
    return {name: arrays[name][None] for name in input_names}


class Cancellation:
    """Ends a run from another thread: onnxruntime looks at its options between two operators."""

    def __init__(self) -> None:
        self.requested = False
        self.options = ort.RunOptions()

    def request(self) -> None:
        """Let every run that was given this end with an error."""
        self.requested = self.options.terminate = True


class Session(Protocol):
    """A forward pass over one unpadded window; safe to call from several threads at once."""

    def run(self, window: Features, cancellation: Cancellation | None = None, *, wide: bool = False) -> Outputs:
        """Run the graph. `wide` lets the run take every core; its outputs are the same.

        Raises: UnsupportedInputError for a token or a position that the graph's tables do not have.
        """
        ...


class OnnxSession:
    """Runs a bundle's graph for the outputs that its task reads.

    `wide` is the same graph over several threads, or None where one thread is as fast.

    Raises: BundleError if the graph is not one for this task.
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
        self._input_names = graph_inputs(graph)
        self._output_names = list(output_names)
        _check_names(bundle.model_path, "needs inputs", set(self._input_names) - FEEDS)
        _check_names(bundle.model_path, "lacks outputs", set(output_names) - set(graph_outputs(graph)))
        self._input_types = _other_types(graph.get_inputs(), "tensor(int64)", bundle.model_path)
        self._converts_outputs = bool(_other_types(graph.get_outputs(), "tensor(float)", bundle.model_path))

    def run(self, window: Features, cancellation: Cancellation | None = None, *, wide: bool = False) -> Outputs:
        graph = self._wide if wide else self._graph
        options = None if cancellation is None else cancellation.options
        inputs: dict[str, NDArray[Any]] = {**feed(window, self._input_names)}
        for name, dtype in self._input_types.items():
            inputs[name] = inputs[name].astype(dtype)
        try:
            outputs = tuple(map(itemgetter(0), graph.run(self._output_names, inputs, options)))
        except Exception as error:  # onnxruntime's errors share no narrower class
            if BEYOND_A_TABLE.search(str(error)):
                raise UnsupportedInputError(NOT_IN_TABLES) from error
            raise
        return tuple(output.astype(np.float32) for output in outputs) if self._converts_outputs else outputs


BEYOND_A_TABLE = re.compile(
    "indices element out of data bounds"  # of Gather
    "|input index out of range"  # of EmbedLayerNormalization
    "|Attempting to broadcast an axis by a dimension other than 1"  # of an Add, to a slice of the positions
)
NOT_IN_TABLES = (
    "the model has no embedding for one of the text's tokens, or for a position so far into it; send a shorter text, "
    "or one without words that were added to the tokenizer alone"
)


def _check_names(path: Path, problem: str, names: set[str]) -> None:
    if names:
        raise BundleError(f"{path} {problem} {sorted(names)}; export it again (halfdepth export --from-onnx)")


DTYPES: dict[str, Any] = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
DTYPES |= {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def _other_types(nodes: Sequence[ort.NodeArg], usual: str, path: Path) -> dict[str, Any]:  # numpy's types
    """Find the inputs or outputs of another type than the usual. Raises: BundleError if it cannot be converted."""
    others = {node.name: node.type for node in nodes if node.type != usual}
    for name, kind in others.items():
        if kind not in DTYPES:
            raise BundleError(f"{path}: {name} is of type {kind}; export it again (halfdepth export --from-onnx)")
    return {name: DTYPES[kind] for name, kind in others.items()}
