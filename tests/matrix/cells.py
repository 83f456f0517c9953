"""Exports tiny models in every way, serves them, and compares them with PyTorch: a cell for each."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.tasks.base import TaskName, answerer
from models.tasks.build import build_task
from models.tasks.bundle import Bundle, fp32_of, load_bundle
from models.tasks.classification import MULTI_LABEL
from models.tasks.errors import HalfdepthError
from models.tasks.session import OnnxSession, graph_outputs, open_graph
from tests.matrix.kinds import HEADS, KINDS, LABELS, save_checkpoint
from tests.matrix.references import INPUTS, Span, embeddings, label_logits, piped_spans, spans

Way = Literal["stock", "fp32", "int8", "from-onnx"]
WAYS: tuple[Way, ...] = ("stock", "int8", "fp32", "from-onnx")
OPTIMUM_TASKS = {"qa": "question-answering", "classify": "text-classification", "similarity": "feature-extraction"}
CELLS = [(kind, task, way) for kind in KINDS for task in HEADS for way in WAYS]
AGREES = "agrees"
TOLERANCE = 1e-4  # of a label's probability
COSINE, INT8_COSINE = 1 - 1e-6, 0.98
INT8_KEPT = 0.75  # of labels and answers: in a random model the best is often hardly better than another


class NoExportError(HalfdepthError):
    """Optimum itself has no export for this kind and task."""


class Matrix:
    """Makes what a cell needs when it is asked, once. `root`: an empty directory; `squad`: data for questions."""

    def __init__(self, root: Path, squad: Path) -> None:
        self.root = root
        self.dev = {"qa": squad, "classify": root / "labels.tsv", "similarity": root / "pairs.tsv"}
        lamps = "".join(f"the {label} lamp\t{label}\n" for label in LABELS)
        self.dev["classify"].write_text(f"text\tlabel\n{lamps}")
        pairs = "a lamp\tlamps\t4\nred\tgrey\t1\nan oven\ta sea\t0\n"
        self.dev["similarity"].write_text(f"sentence1\tsentence2\tscore\n{pairs}")
        self._outcomes: dict[tuple[str, TaskName, Way], str] = {}
        self._expected: dict[Path, Any] = {}  # by checkpoint, whatever its task gives

    def outcome(self, kind: str, task: TaskName, way: Way) -> str:
        """Returns: "agrees", or the refusal. Raises: AssertionError, or what a user would see as a traceback."""
        cell = (kind, task, way)
        if cell not in self._outcomes:
            try:
                self._compare(self.bundle(*cell), kind, task)
                self._outcomes[cell] = AGREES
            except HalfdepthError as error:
                self._outcomes[cell] = str(error).removeprefix(f"{self.checkpoint(kind, task)}: ")
        return self._outcomes[cell]

    def checkpoint(self, kind: str, task: TaskName) -> Path:
        path = self.root / kind / task / "checkpoint"
        if not path.exists():
            save_checkpoint(KINDS[kind], task, path)
        return path

    def bundle(self, kind: str, task: TaskName, way: Way) -> Bundle:
        """Export a model. Raises: HalfdepthError."""
        out = self.root / kind / task
        if way == "stock":
            return load_bundle(self._stock(kind, task))
        if way == "from-onnx":
            return self._export(task, out / way, from_onnx=self._stock(kind, task), int8=False)
        checkpoint = self.checkpoint(kind, task)
        if way == "int8":
            return self._export(task, out / way, student=checkpoint, keep_fp32=True)
        if (out / "int8").exists():  # the graph is the same as without int8
            return fp32_of(load_bundle(out / "int8")) or load_bundle(out / "int8")
        return self._export(task, out / way, student=checkpoint, int8=False)

    def _export(self, task: TaskName, out: Path, **options: Any) -> Bundle:  # of an export
        from export.options import ExportOptions
        from export.pipeline import export

        # A random model answers nothing right, before and after.
        given = ExportOptions(
            task=task, dev=self.dev[task], out=out, max_metric_drop=200.0, min_agreement=0.0, **options
        )
        return export(given).bundle

    def _stock(self, kind: str, task: TaskName) -> Path:
        """Export as optimum's command does: it copies the tokenizer, and none of sentence-transformers' files."""
        from optimum.exporters.onnx import main_export

        checkpoint, path = self.checkpoint(kind, task), self.root / kind / task / "stock"
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its own and torch's
                try:
                    main_export(str(checkpoint), output=path, task=OPTIMUM_TASKS[task], do_validation=False)
                except ValueError as error:
                    raise NoExportError(
                        f"optimum has no export of {kind} for {task}; halfdepth export --student has one"
                    ) from error
        return path

    def _compare(self, bundle: Bundle, kind: str, task: TaskName) -> None:
        """Ask the bundle as the service does, and PyTorch. Raises: AssertionError, HalfdepthError."""
        assert bundle.task == task
        checkpoint = self.checkpoint(kind, task)
        if checkpoint not in self._expected:
            self._expected[checkpoint] = EXPECTED[task](checkpoint)
        COMPARE[task](bundle, self._expected[checkpoint])


def served(bundle: Bundle) -> list[Any]:  # of the task's results
    """Answer all inputs of the task as the service does, with the products that every CPU has."""
    graph = open_graph(bundle, threads=1, exact_products=True)
    task = build_task(bundle, graph_outputs(graph))
    answer = answerer(task, OnnxSession(bundle, graph, task.output_names).run)
    return [answer(item) for item in INPUTS[bundle.task]]


def compare_spans(bundle: Bundle, expected: tuple[list[Span], list[Span]]) -> None:
    """Compare with the spans of the highest logits, and of one window with those of transformers' pipeline."""
    found = [(result.answers[0].start, result.answers[0].end) for result in served(bundle)]
    if bundle.precision == "int8":
        assert np.mean([span == other for span, other in zip(found, expected[0], strict=True)]) >= INT8_KEPT
        return
    by_logits, piped = expected
    assert found == by_logits
    assert found[: len(piped)] == piped


def compare_labels(bundle: Bundle, logits: NDArray[np.float32]) -> None:
    """Compare each label's probability, with labels that exclude each other and with some that may all hold."""
    assert np.ptp(logits, axis=0).max() > 0.5, "the inputs do not differ"
    several = replace(bundle, config=bundle.config | {"problem_type": MULTI_LABEL})
    exponentials = np.exp(logits)
    for asked, probabilities in (
        (bundle, exponentials / exponentials.sum(axis=1, keepdims=True)),
        (several, 1 / (1 + np.exp(-logits))),
    ):
        scores = [{label.label: label.score for label in result.labels} for result in served(asked)]
        found = np.array([[row[label] for label in LABELS] for row in scores])
        if bundle.precision == "int8":
            assert np.mean(found.argmax(axis=1) == probabilities.argmax(axis=1)) >= INT8_KEPT
        else:
            assert np.abs(found - probabilities).max() < TOLERANCE


def compare_embeddings(bundle: Bundle, expected: NDArray[np.float32]) -> None:
    cosines = (np.stack(served(bundle)) * expected).sum(axis=1)
    assert cosines.min() > (INT8_COSINE if bundle.precision == "int8" else COSINE)


EXPECTED: dict[TaskName, Callable[[Path], Any]] = {  # what the comparison of the task takes
    "qa": lambda checkpoint: (spans(checkpoint), piped_spans(checkpoint)),
    "classify": lambda checkpoint: np.stack(label_logits(checkpoint)),
    "similarity": embeddings,
}
COMPARE: dict[TaskName, Callable[[Bundle, Any], None]] = {
    "qa": compare_spans,
    "classify": compare_labels,
    "similarity": compare_embeddings,
}
