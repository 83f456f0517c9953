"""Exports tiny random encoders as others do: by optimum with its defaults, and by torch.onnx."""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from optimum.exporters.onnx import onnx_export_from_model

from export.graph.quantize import quantize
from models.finetune.recipes import RECIPES
from models.tasks.base import TaskName
from models.tasks.build import SPECS
from tests.export.conftest import VOCABULARY

# By the attention that transformers chooses: scaled_dot_product_attention, and eager where a kind has no other.
FOREIGN: dict[str, dict[str, Any]] = {  # transformers' own options
    "bert": {},
    "distilbert": {},
    "roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "electra": {"embedding_size": 16},
    "camembert": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
}
HEADS: dict[TaskName, Any] = {  # transformers' Auto classes
    "qa": transformers.AutoModelForQuestionAnswering,
    "classify": transformers.AutoModelForSequenceClassification,
    "similarity": transformers.AutoModel,
}


def random_model(kind: str, task: TaskName, attention: str | None = None) -> transformers.PreTrainedModel:
    """Two layers of 32, with the attention that transformers chooses unless one is named."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    sizes |= {"hidden_dim" if kind == "distilbert" else "intermediate_size": 64, "max_position_embeddings": 64}
    options = {"pad_token_id": 0, "num_labels": 2, "initializer_range": 0.2} | FOREIGN[kind]
    config = transformers.AutoConfig.for_model(kind, **sizes, **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: transformers.PreTrainedModel = HEADS[task].from_config(config, attn_implementation=attention).eval()
    return model


def export_by_optimum(kind: str, task: TaskName, directory: Path) -> tuple[Path, Path]:
    """As `optimum-cli export onnx` does, in float and in our int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        warnings.simplefilter("ignore", DeprecationWarning)
        onnx_export_from_model(
            random_model(kind, task), output=directory, task=RECIPES[task].optimum_task, do_validation=False
        )
    quantize(directory / "model.onnx", directory / "int8.onnx")
    return directory / "model.onnx", directory / "int8.onnx"


def export_by_torch(kind: str, task: TaskName, path: Path, *, opset: int, attention: str) -> Path:
    """As `torch.onnx.export` does with its older exporter."""
    names = SPECS[task].graph_outputs if task != "similarity" else ("last_hidden_state",)
    inputs = {name: torch.ones((2, 7), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    axes = {name: {0: "batch", 1: "tokens"} for name in (*inputs, *names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            random_model(kind, task, attention),
            (inputs,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(names),
            dynamic_axes=axes,
        )
    return path
