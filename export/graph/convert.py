"""Converts PyTorch to ONNX through optimum: fp32, dynamic batch and length, no optimizer."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from optimum.exporters.onnx import onnx_export_from_model
from optimum.exporters.tasks import TasksManager
from transformers import PreTrainedModel

from export.graph.pooling import add_pooling
from models.finetune.recipes import RECIPES
from models.predict import read_weights
from models.tasks.base import AnySpec, TaskName
from models.tasks.build import SPECS
from models.tasks.directory.sentences import Head
from models.tasks.similarity import POOLED

OPSET = 18


def can_convert(kind: str, task: TaskName) -> bool:
    """Tell whether optimum has an export of this `model_type` for the task."""
    tasks = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
    return RECIPES[task].optimum_task in tasks


def convert(model: PreTrainedModel, task: TaskName, path: Path, head: Head | None = None) -> None:
    """Write the model's graph. Inputs: input_ids, attention_mask and, for BERT, token_type_ids.

    `head`: how the states of an embedder become one vector, by default their mean at unit length.

    Shapes: inputs (batch, seq_len) int64; start_logits, end_logits (batch, seq_len), logits (batch, labels),
    last_hidden_state (batch, seq_len, hidden_size), sentence_embedding (batch, hidden_size), all float32.
    """
    spec = SPECS[task]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        # From many places in torch's older exporter: which one is used is optimum's choice.
        warnings.simplefilter("ignore", DeprecationWarning)
        onnx_export_from_model(
            model,
            output=directory,
            task=RECIPES[task].optimum_task,
            opset=OPSET,
            do_validation=False,  # by one made-up input; `verify` takes 200 real ones
        )
        Path(directory, "model.onnx").rename(path)
    if POOLED in spec.graph_outputs:
        add_pooling(path, head or Head(), read_weights)
    _assert_relied_on(onnx.load(path, load_external_data=False), spec)


def _assert_relied_on(model: onnx.ModelProto, spec: AnySpec) -> None:
    """Check what the rewrites, the service and its clients rely on; a new exporter may change it without a word."""
    assert tuple(output.name for output in model.graph.output) == spec.graph_outputs
    assert {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")} == {OPSET}
    assert all(node.op_type != "IsNaN" for node in model.graph.node), "attention was not exported as eager"
    text_outputs = set(spec.graph_outputs) - spec.token_outputs  # all else has a value for each token
    for value in [*model.graph.input, *model.graph.output]:
        axes = value.type.tensor_type.shape.dim[: 1 if value.name in text_outputs else 2]
        assert all(axis.dim_param for axis in axes), f"{value.name} has a fixed shape"
