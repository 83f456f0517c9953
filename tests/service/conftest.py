"""Bundles of a few kilobytes whose answers are known: all that they see in a text is Oslo and Paris."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.tasks.base import Features, Outputs, TaskName
from models.tasks.remote.address import PREFIX
from models.tasks.session import Cancellation
from service.app import create_app
from service.settings import Settings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "in", "where", "she", "lives", "or", "oslo", "paris", ".", "?"]
VOCABULARY = {word: index for index, word in enumerate(SPECIAL + WORDS)}
LOGITS = {"[CLS]": 2.0, "oslo": 7.0, "paris": 9.0}  # as start and as end; every other token has -5
MAX_LENGTH = 24
MAX_EMBEDDED = MAX_LENGTH // 2  # tokens of a text to embed
LABELS = ("oslo", "paris", "neither")
CONFIGS: dict[TaskName, dict[str, object]] = {
    "qa": {"architectures": ["BertForQuestionAnswering"], "no_answer_threshold": 0.0},
    "classify": {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
    },
    "similarity": {"architectures": ["BertModel"]},
    "rerank": {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}},
    "entities": {
        "architectures": ["BertForTokenClassification"],
        "id2label": {"0": "O", "1": "B-LOC", "2": "I-LOC"},
    },
}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What runs the tests that are marked `anyio`."""
    return "asyncio"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    delete_settings(monkeypatch)


def delete_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment set nothing."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def prompt_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that looks for a log line or a count finds it as soon as it has the answer."""
    monkeypatch.setattr("service.telemetry.journal.DELAY_S", 0)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle for each task."""
    root = tmp_path_factory.mktemp("bundles")
    for task in CONFIGS:
        write_bundle(root / task, task)
    return root


@pytest.fixture
def settings(bundles: Path) -> Settings:
    return tiny_settings(bundles)


def tiny_settings(bundles: Path) -> Settings:
    return Settings(bundles=bundles, threads=1, max_windows=8, max_inputs=5, max_body_bytes=10_000)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@dataclass(frozen=True)
class FakeSession:
    """A session that does what a test wants: block, raise, or answer."""

    act: Callable[[Features], Outputs]

    def run(self, window: Features, cancellation: Cancellation | None = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
        return self.act(window)


def zeros(window: Features) -> Outputs:
    return np.zeros(len(window), np.float32), np.zeros(len(window), np.float32)


def write_bundle(
    path: Path, task: TaskName = "qa", graph: onnx.ModelProto | None = None, *, max_length: int = MAX_LENGTH
) -> None:
    """Without a manifest; the graph is the task's, unless it is given. `max_length`: tokens."""
    (path / "onnx").mkdir(parents=True)
    config = {"model_type": "bert", "max_position_embeddings": max_length} | CONFIGS[task]
    (path / "config.json").write_text(json.dumps(config))
    if task == "similarity":
        (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_length // 2}))
    tiny_tokenizer().save(str(path / "tokenizer.json"))
    onnx.save(graph or GRAPHS[task](), str(path / "onnx" / "model.onnx"))


def as_int8(graph: Path) -> onnx.ModelProto:
    """Read a graph and put a product of bytes into it, which nothing reads, so that it counts as int8."""
    model = onnx.load(graph)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 1), np.uint8), "byte"))
    model.graph.node.append(helper.make_node("MatMulInteger", ["byte", "byte"], ["unread"]))
    return model


def tiny_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, VOCABULARY[word]) for word in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def tiny_qa_graph() -> onnx.ModelProto:
    """Each token has its own two logits, whatever stands around it."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("Split", ["logits"], ["starts", "ends"], axis=2, num_outputs=2),
        helper.make_node("Squeeze", ["starts", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["ends", "last"], ["end_logits"]),
    ]
    table = table_of({word: [logit, logit] for word, logit in LOGITS.items()}, other=[-5, -5])
    shape = ["batch", "sequence"]
    return graph_of(nodes, {"start_logits": shape, "end_logits": shape}, table=table, last=np.array([2]))


def tiny_classify_graph() -> onnx.ModelProto:
    """The mean of the tokens' logits: Oslo and Paris outweigh a window of anything else."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("ReduceMean", ["each", "tokens"], ["logits"], keepdims=0),
    ]
    table = table_of({"oslo": [400, 0, 0], "paris": [0, 400, 0]}, other=[0, 0, 4])
    return graph_of(nodes, {"logits": ["batch", "labels"]}, table=table, tokens=np.array([1]))


def tiny_embedding_graph(*, pooled: bool = True, scale: float = 1.0, start: float = 0.0) -> onnx.ModelProto:
    """Oslo, Paris, unknown and all other words lie each along an axis of their own; [SEP] is zero.

    `start`: of [CLS]; with 0, a text without tokens has no direction.
    """
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
        helper.make_node("ReduceMean", ["last_hidden_state", "tokens"], ["mean"], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["sentence_embedding"]),
    ]
    table = table_of(
        {"oslo": [1, 0, 0, 0], "paris": [0, 1, 0, 0], "[UNK]": [0, 0, 0, 1], "[CLS]": [start] * 4, "[SEP]": [0] * 4},
        other=[0, 0, 1, 0],
    )
    outputs = {"last_hidden_state": ["batch", "sequence", "hidden"]}
    if pooled:
        outputs["sentence_embedding"] = ["batch", "hidden"]
    return graph_of(nodes, outputs, table=scale * table, tokens=np.array([1]))


def tiny_rerank_graph() -> onnx.ModelProto:
    """The largest of the tokens' logits: 2 for Oslo, 3 for Paris, -1 for a window of anything else."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("ReduceMax", ["each", "tokens"], ["logits"], keepdims=0),
    ]
    table = table_of({"oslo": [2], "paris": [3]}, other=[-1])
    return graph_of(nodes, {"logits": ["batch", "labels"]}, table=table, tokens=np.array([1]))


def tiny_entities_graph() -> onnx.ModelProto:
    """Oslo and Paris begin a place, and a point goes on with it."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["logits"])]
    table = table_of({"oslo": [0, 9, 0], "paris": [0, 9, 0], ".": [0, 0, 9]}, other=[9, 0, 0])
    return graph_of(nodes, {"logits": ["batch", "sequence", "labels"]}, table=table)


GRAPHS = {
    "qa": tiny_qa_graph,
    "classify": tiny_classify_graph,
    "similarity": tiny_embedding_graph,
    "rerank": tiny_rerank_graph,
    "entities": tiny_entities_graph,
}


def table_of(rows: Mapping[str, Sequence[float]], other: Sequence[float]) -> NDArray[np.float32]:
    """A row for each word of the vocabulary."""
    return np.array([rows.get(word, other) for word in VOCABULARY], np.float32)


def graph_of(
    nodes: Sequence[onnx.NodeProto], outputs: Mapping[str, Sequence[str]], **initializers: NDArray[np.generic]
) -> onnx.ModelProto:
    """Over the inputs that every BERT has; `outputs` are float, with the names of their axes."""
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    return model
