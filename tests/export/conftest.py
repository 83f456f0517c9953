"""Graphs of tiny random encoders, each kind for each task, as they are before any rewrite."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.tasks.base import TaskName
from models.tasks.bundle import Bundle

KINDS = ("bert", "distilbert", "roberta")
TASKS: tuple[TaskName, ...] = ("qa", "classify", "similarity")
VOCABULARY = 100
PADDING = {"bert": 0, "distilbert": 0, "roberta": 1}
HEADS = {"qa": "ForQuestionAnswering", "classify": "ForSequenceClassification", "similarity": "Model"}
NAMES = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta"}


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, TaskName], tuple[Path, Path]]:
    """By kind and task: two layers of 32 in float, and the same in int8."""
    import torch
    import transformers

    from export.graph.convert import convert
    from export.graph.quantize import quantize

    made = {}
    for kind in KINDS:
        for task in TASKS:
            directory = tmp_path_factory.mktemp("graphs")
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = getattr(transformers, NAMES[kind] + HEADS[task])(_config(kind)).eval()
            convert(model, task, directory / "fp32.onnx")
            quantize(directory / "fp32.onnx", directory / "int8.onnx")
            made[kind, task] = (directory / "fp32.onnx", directory / "int8.onnx")
    return made


def _config(kind: str) -> Any:  # any of transformers' configurations
    import transformers

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    sizes |= {"num_hidden_layers": 2, "max_position_embeddings": 64, "pad_token_id": PADDING[kind]}
    if kind == "distilbert":
        sizes["hidden_dim"] = sizes.pop("intermediate_size")  # the one name that it does not share
    return getattr(transformers, f"{NAMES[kind]}Config")(
        **sizes, initializer_range=0.2, num_labels=2, attn_implementation="eager"
    )


def feed(kind: str, *lengths: int) -> dict[str, np.ndarray]:
    """A batch of random inputs of these lengths, padded to the longest; a graph takes of it what it reads."""
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, ids, PADDING[kind])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="session")
def bundles(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[TaskName, Bundle]:
    """A rewritten int8 bundle of each task, each of another kind of encoder, with random weights."""
    import torch
    from transformers import AutoModel, AutoModelForSequenceClassification

    from export.options import ExportOptions
    from export.pipeline import export

    root = tmp_path_factory.mktemp("tiny")
    kinds: list[tuple[TaskName, str, Any, dict[str, Any]]] = [  # any of transformers' Auto classes, and its options
        ("classify", "roberta", AutoModelForSequenceClassification, {"id2label": {0: "no", 1: "yes"}}),
        ("similarity", "bert", AutoModel, {}),
    ]
    checkpoints: dict[TaskName, Path] = {"qa": tiny_qa["distilbert"]}
    for task, kind, auto, options in kinds:
        path = Path(shutil.copytree(tiny_qa[kind], root / f"{task}-checkpoint"))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            auto.from_pretrained(tiny_qa[kind], **options).save_pretrained(path)
        checkpoints[task] = path
    dev: dict[TaskName, Path] = {"qa": squad_file, "classify": root / "labels.tsv", "similarity": root / "pairs.tsv"}
    dev["classify"].write_text("text\tlabel\nthe red lamp\tno\nan old oven\tyes\n")
    dev["similarity"].write_text("sentence1\tsentence2\tscore\na lamp\tlamps\t4\nred\tgrey\t1\nan oven\ta sea\t0\n")
    return {
        task: export(
            ExportOptions(
                task=task, student=path, dev=dev[task], out=root / task, max_metric_drop=200.0, min_agreement=0.0
            )
        ).bundle
        for task, path in checkpoints.items()
    }
