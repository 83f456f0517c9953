"""The lines of a card that load a bundle, run for every task and every way of an export."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optimum.exporters.onnx import main_export
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as modules

from export.options import ExportOptions
from export.pipeline import export
from models.predict import load_bundle_run
from models.tasks.base import TaskName, answerer
from models.tasks.bundle import Bundle
from models.tasks.similarity import EmbeddingInput
from tests.export.conftest import TASKS

# Of torch's older exporter, which is optimum's choice.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
SENTENCES = ["A first sentence.", "A second one."]


def run_card(bundle: Path) -> dict[str, Any]:  # of whatever the lines name
    [lines] = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)  # noqa: S102 - they are our own
    return names


def check_embeddings(bundle: Path, embeddings: Any) -> None:  # numpy's or torch's
    graph, task = load_bundle_run(bundle, "similarity")
    answer = answerer(task, graph)
    expected = np.stack([answer(EmbeddingInput(sentence)) for sentence in SENTENCES])
    vectors = np.asarray(embeddings)
    np.testing.assert_allclose(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), expected, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_lines_of_a_card_run(
    bundles: dict[TaskName, Bundle], squad_file: Path, tmp_path: Path, task: TaskName
) -> None:
    dev = {"qa": squad_file}.get(task, bundles[task].path.parent / {"classify": "labels.tsv"}.get(task, "pairs.tsv"))
    options = ExportOptions(
        task=task, from_onnx=bundles[task].path, dev=dev, out=tmp_path / "again", max_metric_drop=100.0
    )
    for bundle in (bundles[task], export(options).bundle):
        names = run_card(bundle.path)
        if task == "similarity":
            assert len(names["embeddings"]) == 2  # int8 moves with its padding
        elif task == "classify":
            assert names["classify"]("an old oven")[0]["label"] in ("yes", "no")
        else:
            assert names["answer"](question="Who?", context="Anna Lindqvist built it.")["score"] > 0


@pytest.mark.parametrize("files", [[], ["modules.json", "1_Pooling", "sentence_bert_config.json"]])
def test_the_lines_of_somebody_else_s_pooled_graph_run(
    tiny_teacher: Path, bundles: dict[TaskName, Bundle], tmp_path: Path, files: list[str]
) -> None:
    torch.manual_seed(0)
    parts = [modules.Transformer(str(tiny_teacher)), modules.Pooling(32, "cls"), modules.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(tmp_path / "model"))
    theirs = tmp_path / "theirs"
    main_export(
        str(tmp_path / "model"),
        theirs,
        task="feature-extraction",
        library_name="sentence_transformers",
        do_validation=False,
    )
    for name in files:
        source = tmp_path / "model" / name
        if source.is_dir():
            shutil.copytree(source, theirs / name)
        else:
            shutil.copy(source, theirs)
    dev = bundles["similarity"].path.parent / "pairs.tsv"
    options = ExportOptions(task="similarity", from_onnx=theirs, dev=dev, out=tmp_path / "out", int8=False)
    bundle = export(options).bundle
    check_embeddings(bundle.path, run_card(bundle.path)["embeddings"])
