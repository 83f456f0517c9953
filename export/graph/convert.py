"""Converts PyTorch to ONNX, by optimum or torch.onnx: fp32, any batch and length, not optimized."""

import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from export.graph.pooling import add_pooling
from models.finetune.recipes import RECIPES
from models.predict import read_weights
from models.tasks.base import AnySpec, TaskName
from models.tasks.build import SPECS
from models.tasks.directory.model import OFFSET_POSITIONS
from models.tasks.directory.sentences import Head
from models.tasks.similarity import POOLED

OPSET = 18
AXES = {0: "batch_size", 1: "sequence_length"}  # as optimum names them
EXAMPLE_SHAPE = (2, 4)  # which is traced; the graph takes any batch and length


def convert(model: PreTrainedModel, task: TaskName, path: Path, head: Head | None = None) -> None:
    """Write the model's graph. Inputs: input_ids, attention_mask and, for BERT, token_type_ids.

    optimum exports it where it is installed and knows the kind; both ways trace it by the same exporter of torch.
    `head`: how the states of an embedder become one vector, by default their mean at unit length.

    Shapes: inputs (batch, seq_len) int64; start_logits, end_logits (batch, seq_len), logits (batch, labels),
    last_hidden_state (batch, seq_len, hidden_size), sentence_embedding (batch, hidden_size), all float32.
    """
    spec = SPECS[task]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        # From many places in torch's older exporter, which both ways use. Its newer one needs onnxscript, and names no
        # node after its module, as --keep-float expects.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Of transformers 5, which looks masks up by indices that are never negative.
        warnings.filterwarnings("ignore", "Exporting aten::index operator of advanced indexing", UserWarning)
        if has_optimum() and _optimum_knows(model, task):
            _export_by_optimum(model, task, Path(directory))
        else:
            _export_by_torch(model, spec, Path(directory, "model.onnx"))
        Path(directory, "model.onnx").rename(path)
    if POOLED in spec.graph_outputs:
        add_pooling(path, head or Head(), read_weights)
    _assert_relied_on(onnx.load(path, load_external_data=False), spec)


def has_optimum() -> bool:
    """Find out whether optimum's exporter is installed; it is not beside transformers 5."""
    try:
        version("optimum-onnx")
    except PackageNotFoundError:
        return False
    return True


def _optimum_knows(model: PreTrainedModel, task: TaskName) -> bool:
    from optimum.exporters.tasks import TasksManager  # slow to import, and not always there

    kind: str = model.config.model_type
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, exporter="onnx", library_name="transformers")
    except KeyError:
        return False
    return RECIPES[task].optimum_task in tasks


def _export_by_optimum(model: PreTrainedModel, task: TaskName, directory: Path) -> None:
    from optimum.exporters.onnx import onnx_export_from_model  # slow to import, and not always there

    onnx_export_from_model(
        model,
        output=directory,
        task=RECIPES[task].optimum_task,
        opset=OPSET,
        do_validation=False,  # by one made-up input; `verify` takes 200 real ones
    )


def _export_by_torch(model: PreTrainedModel, spec: AnySpec, path: Path) -> None:
    inputs = _example(model)
    outputs = [name for name in spec.graph_outputs if name != POOLED]
    torch.onnx.export(
        _ByPosition(model, list(inputs), outputs).eval(),
        tuple(inputs.values()),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes={
            name: AXES if name in inputs or name in spec.token_outputs else {0: AXES[0]} for name in (*inputs, *outputs)
        },
    )


def _example(model: PreTrainedModel) -> dict[str, Tensor]:
    """Make inputs by their names, in the order of the graph's. RoBERTa's kinds have token types, but never read them.

    Shapes: (batch, seq_len) int64.
    """
    config = model.config
    mask = torch.ones(EXAMPLE_SHAPE, dtype=torch.int64)
    mask[1, -1] = 0  # or a model that finds nothing masked might leave the mask out
    example = {"input_ids": torch.ones_like(mask), "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1 and config.model_type not in OFFSET_POSITIONS:
        example["token_type_ids"] = torch.zeros_like(mask)
    return example


class _ByPosition(nn.Module):
    """Takes and gives tensors in a fixed order, as torch.onnx does; models have both by name."""

    def __init__(self, model: PreTrainedModel, input_names: list[str], output_names: list[str]) -> None:
        super().__init__()
        self.model, self.input_names, self.output_names = model, input_names, output_names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.input_names, inputs, strict=True)), return_dict=True)
        return tuple(output[name] for name in self.output_names)


def _assert_relied_on(model: onnx.ModelProto, spec: AnySpec) -> None:
    """Check what the rewrites, the service and its clients rely on; a new exporter may change it without a word."""
    assert tuple(output.name for output in model.graph.output) == spec.graph_outputs
    assert {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")} == {OPSET}
    assert all(node.op_type != "IsNaN" for node in model.graph.node), "attention was not exported as eager"
    text_outputs = set(spec.graph_outputs) - spec.token_outputs  # all else has a value for each token
    for value in [*model.graph.input, *model.graph.output]:
        axes = value.type.tensor_type.shape.dim[: 1 if value.name in text_outputs else 2]
        assert all(axis.dim_param for axis in axes), f"{value.name} has a fixed shape"
