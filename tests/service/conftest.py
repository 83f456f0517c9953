"""A question-answering bundle of a few kilobytes whose answers are known: it says Paris, else Oslo, else nothing."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.tasks.base import Features, Outputs
from service.app import create_app
from service.settings import PREFIX, Settings

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz", "in", "where", "she", "lives", "or", "oslo", "paris", ".", "?"]
VOCABULARY = {word: index for index, word in enumerate(SPECIAL + WORDS)}
LOGITS = {"[CLS]": 2.0, "oslo": 7.0, "paris": 9.0}  # as start and as end; every other token has -5
MAX_LENGTH = 24


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of bundles that holds one, for qa."""
    root = tmp_path_factory.mktemp("bundles")
    write_bundle(root / "qa")
    return root


@pytest.fixture
def settings(bundles: Path) -> Settings:
    return Settings(bundles=bundles, threads=1, max_windows=8, max_inputs=5, max_body_bytes=10_000)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


@dataclass(frozen=True)
class FakeSession:
    """A session that does what a test wants: block, raise, or answer."""

    act: Callable[[Features], Outputs]

    def run(self, window: Features) -> Outputs:
        return self.act(window)


def zeros(window: Features) -> Outputs:
    return np.zeros(len(window), np.float32), np.zeros(len(window), np.float32)


def write_bundle(path: Path) -> None:
    (path / "onnx").mkdir(parents=True)
    config = {
        "architectures": ["BertForQuestionAnswering"],
        "model_type": "bert",
        "max_position_embeddings": MAX_LENGTH,
        "no_answer_threshold": 0.0,
    }
    (path / "config.json").write_text(json.dumps(config))
    tiny_tokenizer().save(str(path / "tokenizer.json"))
    onnx.save(tiny_graph(), str(path / "onnx" / "model.onnx"))


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


def tiny_graph() -> onnx.ModelProto:
    """Each token has its own two logits, whatever stands around it."""
    table = np.full((len(VOCABULARY), 2), -5.0, np.float32)
    for word, logit in LOGITS.items():
        table[VOCABULARY[word]] = logit
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("Split", ["logits"], ["starts", "ends"], axis=2, num_outputs=2),
        helper.make_node("Squeeze", ["starts", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["ends", "last"], ["end_logits"]),
    ]
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("start_logits", "end_logits")],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([2]), "last")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
