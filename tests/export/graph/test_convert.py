"""PyTorch to ONNX by both ways: optimum's, and torch.onnx alone, which is all that there is beside transformers 5."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import numpy_helper
from transformers import PreTrainedModel

from export.graph import convert as converting
from export.graph.convert import convert
from models.tasks.base import TaskName
from models.tasks.similarity import POOLED
from tests.export.conftest import HEADS

# What DeBERTa and ModernBERT raise when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

SHAPES = ((1, 1), (1, 7), (3, 30), (2, 64))  # (batch, seq_len)
SIZES = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
    "max_position_embeddings": 66, "num_labels": 2,
}  # fmt: skip
WIDE = {"initializer_range": 0.2}  # or else all logits are nearly the same
ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1, **WIDE}
RELATIVE = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
KINDS: dict[str, dict[str, Any]] = {  # options, as the configurations take them
    "Bert": WIDE,
    "DistilBert": WIDE,
    "Roberta": ROBERTA,
    "MPNet": {"pad_token_id": 1, **WIDE},
    "Electra": {"embedding_size": 16, **WIDE},
    "Camembert": ROBERTA,
    "XLMRoberta": ROBERTA,
    "Albert": {"embedding_size": 16, **WIDE},
    "DebertaV2": {"type_vocab_size": 0, "position_biased_input": False, **RELATIVE, **WIDE},
    "ModernBert": {
        "pad_token_id": 0,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "reference_compile": False,
    },
}
CELLS: list[tuple[str, TaskName]] = [
    *((kind, "classify") for kind in KINDS),
    *((kind, "qa") for kind in ("Bert", "DistilBert")),
    *((kind, "similarity") for kind in ("Bert", "Roberta")),
]


def tiny(kind: str, task: TaskName) -> PreTrainedModel:
    sizes = SIZES | KINDS[kind]
    if kind == "DistilBert":
        sizes["hidden_dim"] = sizes.pop("intermediate_size")  # the one name that it does not share
    config = getattr(transformers, f"{kind}Config")(**sizes)
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = getattr(transformers, kind + HEADS[task])(config).eval()
    return model


def batch(shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Random ids; all but the first row end in padding."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 100, shape))
    mask = torch.ones_like(ids)
    mask[1:, shape[1] // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def converted(model: PreTrainedModel, task: TaskName, path: Path) -> onnx.ModelProto:
    convert(model, task, path)
    return onnx.load(path)


@pytest.mark.parametrize(("kind", "task"), CELLS)
def test_both_ways_give_one_graph_and_it_says_what_the_model_says(
    kind: str, task: TaskName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(kind, task)
    theirs = converted(model, task, tmp_path / "optimum.onnx")
    monkeypatch.setattr(converting, "has_optimum", lambda: False)
    ours = converted(model, task, tmp_path / "torch.onnx")
    values = [
        [value.SerializeToString() for value in (*made.graph.input, *made.graph.output)] for made in (ours, theirs)
    ]
    assert values[0] == values[1]
    assert operators(ours) == operators(theirs)
    assert weights(ours) == weights(theirs)

    session = onnxruntime.InferenceSession(tmp_path / "torch.onnx", providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs() if item.name != POOLED]
    for shape in SHAPES:
        tensors = {item.name: batch(shape)[item.name] for item in session.get_inputs()}
        with torch.inference_mode():
            expected = model(**tensors)
        outputs = session.run(names, {name: tensor.numpy() for name, tensor in tensors.items()})
        for name, output in zip(names, outputs, strict=True):
            kept = tensors["attention_mask"].numpy().astype(bool) if output.shape[:2] == shape else ...
            np.testing.assert_allclose(output[kept], expected[name].numpy()[kept], atol=1e-5)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def weights(model: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


def test_two_exports_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "has_optimum", lambda: False)
    model = tiny("Bert", "qa")
    for name in ("first", "second"):
        convert(model, "qa", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_kind_that_optimum_cannot_export_for_a_task_goes_through_torch(tmp_path: Path) -> None:
    graph = converted(tiny("ModernBert", "qa"), "qa", tmp_path / "graph.onnx").graph
    assert [value.name for value in graph.output] == ["start_logits", "end_logits"]
