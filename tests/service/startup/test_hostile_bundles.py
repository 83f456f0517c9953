"""Bundles that somebody has tampered with: each loads, or is refused in one line; `make torture` tries many more."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.tasks.directory.files import BundleError
from service.settings import Settings
from service.startup.loading import load_engine
from tests.service.conftest import CONFIGS, graph_of, tiny_qa_graph, write_bundle
from tests.torture import LONG

EXAMPLES = 300 if LONG else 25  # of each task; a bundle loads in some 50 milliseconds

# What a setting may hold instead of what it should.
VALUES: list[Any] = [None, -1, 0, 1.5, 1e999, float("nan"), 10**30, "", "x", "../../etc/passwd", "\ud800", "a\nb"]
VALUES += [[], ["x"], [None], [[]], {}, {"x": 1}, True, False]
TOKENIZER_CONFIG = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "strip_accents": None,
    "model_max_length": 512,
    "unk_token": "[UNK]",
    "sep_token": {"content": "[SEP]", "lstrip": False},
    "model_input_names": ["input_ids", "attention_mask"],
    "truncation_side": "right",
    "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True, "lstrip": False}},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for each task, with every optional file of settings."""
    root = tmp_path_factory.mktemp("hostile")
    for task in CONFIGS:
        write_bundle(root / task, task)
        (root / task / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
        (root / task / "special_tokens_map.json").write_text(json.dumps({"unk_token": "[UNK]"}))
        (root / task / "halfdepth.json").write_text(json.dumps({"task": task}))
    return root


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in a JSON document."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from places(part, (*place, key))


def changed(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    if not place:
        return value
    document = deepcopy(document)
    *path, last = place
    part = document
    for key in path:
        part = part[key]
    part[last] = value
    return document


def load(path: Path) -> str | None:
    """Load a bundle as the service does; returns the line that refuses it."""
    try:
        load_engine(Settings(bundles=path, threads=1)).close()
    except BundleError as error:
        return str(error)
    return None


@pytest.mark.parametrize("task", CONFIGS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_change_of_a_setting_is_read_or_refused_in_one_line(
    directory: Path, task: str, data: st.DataObject
) -> None:
    file = data.draw(st.sampled_from(sorted((directory / task).rglob("*.json"))))
    text = file.read_text()
    document = json.loads(text)
    value = data.draw(st.sampled_from(VALUES))
    file.write_text(json.dumps(changed(document, data.draw(st.sampled_from(list(places(document)))), value)))
    try:
        refusal = load(directory / task)
    finally:
        file.write_text(text)
    assert refusal is None or "\n" not in refusal


@pytest.mark.parametrize("task", CONFIGS)
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_damage_to_a_graph_is_borne_or_refused_in_one_line(directory: Path, task: str, seed: int) -> None:
    [file] = (directory / task / "onnx").glob("*.onnx")
    content, random = file.read_bytes(), Random(seed)
    damaged = bytearray(content)
    for _ in range(random.choice((1, 2, 8))):
        position = random.randrange(len(damaged) or 1)
        cut = random.choice((0, 0, 0, 1, 30))
        damaged[position : position + (cut or 1)] = b"" if cut else random.randbytes(1)
    file.write_bytes(damaged)
    try:
        refusal = load(directory / task)
    finally:
        file.write_bytes(content)
    assert refusal is None or "\n" not in refusal


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "[" * 100_000),
        ("tokenizer.json", '{"a":' * 100_000),
        ("tokenizer_config.json", '{"model_max_length": ' + "9" * 5000 + "}"),
        ("halfdepth.json", "\x00\xff"),
        ("config.json", '{"model_type": ["bert"], "architectures": ["BertForQuestionAnswering"]}'),
    ],
)
def test_json_that_is_made_to_break_readers_is_refused_by_its_file(tmp_path: Path, file: str, content: str) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / file).write_text(content)
    refusal = load(tmp_path / "qa")
    assert refusal is not None
    assert file in refusal
    assert "\n" not in refusal


def test_a_tokenizer_whose_frame_names_a_token_that_it_lacks_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    file = tmp_path / "qa" / "tokenizer.json"
    document = json.loads(file.read_text())
    document["post_processor"]["pair"][0]["SpecialToken"]["id"] = "[NONE]"
    file.write_text(json.dumps(document))
    refusal = load(tmp_path / "qa")
    assert refusal is not None
    assert "tokenizer.json has a post_processor that fails" in refusal


@pytest.mark.parametrize("location", ["/etc/hostname", "../../secret", "onnx/../../../secret"])
def test_weights_outside_the_bundle_are_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    graph = tiny_qa_graph()
    [table] = [tensor for tensor in graph.graph.initializer if tensor.name == "table"]
    del table.external_data[:]
    table.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
    table.data_location = TensorProto.EXTERNAL
    table.ClearField("raw_data")
    write_bundle(tmp_path / "bundles" / "qa", "qa")
    [file] = (tmp_path / "bundles" / "qa" / "onnx").glob("*.onnx")
    file.write_bytes(graph.SerializeToString())
    refusal = load(tmp_path / "bundles" / "qa")
    assert refusal is not None
    assert "cannot be loaded" in refusal


def test_a_graph_that_asks_for_more_memory_than_there_is_is_refused(tmp_path: Path) -> None:
    """A petabyte of zeros, of which one element is read."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["each", "zero"], ["logits"]),
        helper.make_node("Split", ["logits"], ["left", "right"], axis=-1, num_outputs=2),
        helper.make_node("Squeeze", ["left", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["right", "last"], ["end_logits"]),
    ]
    table = numpy_helper.to_array(tiny_qa_graph().graph.initializer[0])
    graph = graph_of(
        nodes,
        {"start_logits": ["batch", "sequence"], "end_logits": ["batch", "sequence"]},
        table=table,
        size=np.array([2**48], np.int64),
        last=np.array([-1], np.int64),
    )
    write_bundle(tmp_path / "qa", "qa", graph)
    refusal = load(tmp_path / "qa")
    assert refusal is not None
    assert "\n" not in refusal


def test_a_graph_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.startup.opening.WARM_UP_S", 0.2)
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["goes_on_again"]), helper.make_node("Sin", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on_again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["each"]),
        helper.make_node("Loop", ["", "yes", "each"], ["logits"], body=body),
        helper.make_node("Split", ["logits"], ["left", "right"], axis=-1, num_outputs=2),
        helper.make_node("Squeeze", ["left", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["right", "last"], ["end_logits"]),
    ]
    shape = ["batch", "sequence"]
    table = numpy_helper.to_array(tiny_qa_graph().graph.initializer[0])
    graph = graph_of(
        nodes, {"start_logits": shape, "end_logits": shape}, table=table, yes=np.array(True), last=np.array([-1])
    )
    write_bundle(tmp_path / "qa", "qa", graph)
    refusal = load(tmp_path / "qa")
    assert refusal is not None
    assert "its first run took longer than 0.2 s" in refusal
