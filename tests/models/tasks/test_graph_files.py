"""Which of a directory's graphs is served, what its precision is, and what its revision stands for."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.tasks import bundle as bundles
from models.tasks.base import Features
from models.tasks.bundle import cpu_features, load_bundle
from models.tasks.classification import ClassificationInput
from models.tasks.directory.files import BundleError
from models.tasks.directory.graph import read_weights
from models.tasks.session import OnnxSession, open_graph

OPTIMUM = ("model_quantized", "model", "model_optimized", "model_fp16")
SENTENCE = ("model_O4", "model_qint8_arm64", "model_qint8_avx512_vnni", "model_quint8_avx2", "model", "model_O1")
TRANSFORMERS_JS = ("model_q4f16", "model_bnb4", "model_fp16", "model_q4", "model_uint8", "model_int8", "model")


def put(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(b"any graph")


@pytest.mark.parametrize(
    ("names", "features", "chosen"),
    [
        (OPTIMUM, (), "model_quantized"),
        (OPTIMUM[1:], (), "model"),
        (OPTIMUM[2:], (), "model_optimized"),
        (SENTENCE, ("avx512_vnni", "avx512", "avx2"), "model_qint8_avx512_vnni"),
        (SENTENCE, ("avx2",), "model_quint8_avx2"),
        (SENTENCE, ("arm64",), "model_qint8_arm64"),
        (SENTENCE, (), "model"),
        (TRANSFORMERS_JS, (), "model_int8"),
        (TRANSFORMERS_JS[:5], (), "model_uint8"),
        (TRANSFORMERS_JS[:4], (), "model_fp16"),
        (TRANSFORMERS_JS[:2], (), "model_q4f16"),
    ],
)
@pytest.mark.parametrize("folder", ["onnx/", ""])
def test_the_best_graph_that_the_cpu_runs_is_served(
    foreign: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    features: tuple[str, ...],
    chosen: str,
    folder: str,
) -> None:
    monkeypatch.setattr(bundles, "cpu_features", lambda: features)
    (foreign / "onnx" / "model.onnx").unlink()
    put(foreign, *(f"{folder}{name}.onnx" for name in names))
    assert load_bundle(foreign).file == f"{folder}{chosen}.onnx"


def test_only_graphs_for_other_cpus_are_refused_by_name(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "cpu_features", lambda: ("avx2",))
    (foreign / "onnx" / "model.onnx").rename(foreign / "onnx" / "model_qint8_arm64.onnx")
    put(foreign, "onnx/other.onnx")
    with pytest.raises(BundleError, match=r"none of onnx/model_qint8_arm64\.onnx, onnx/other\.onnx is known to run"):
        load_bundle(foreign)
    (foreign / "halfdepth.json").write_text('{"file": "onnx/model_qint8_arm64.onnx"}')
    assert load_bundle(foreign).file == "onnx/model_qint8_arm64.onnx"


@pytest.mark.parametrize("file", ["../model.onnx", "/model.onnx", "onnx/none.onnx", "onnx"])
def test_a_named_file_must_be_one_of_the_directory(foreign: Path, file: str) -> None:
    put(foreign, "../model.onnx")
    (foreign / "halfdepth.json").write_text(json.dumps({"file": file}))
    with pytest.raises(BundleError, match=r"halfdepth\.json: file .* is not a file of this directory"):
        load_bundle(foreign)


def test_cpus_are_told_by_their_flags(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu avx2 avx512f avx512_vnni\n")
    assert cpu_features(tmp_path / "cpuinfo", "x86_64") == ("avx512_vnni", "avx512", "avx2")
    assert cpu_features(tmp_path / "none", "x86_64") == ()
    assert cpu_features(tmp_path / "cpuinfo", "aarch64") == ("arm64",)


def graph_of(operator: str, weights: np.ndarray, input_type: int = TensorProto.INT64) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT16),
        helper.make_node(operator, ["weights", "weights"], ["unread"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", input_type, ["batch", "tokens"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT16, ["batch", "tokens"])
    graph = helper.make_graph(nodes, "graph", [ids], [logits], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("operator", "kind", "precision"),
    [
        ("MatMul", np.float32, "fp32"),
        ("MatMul", np.float16, "fp16"),
        ("MatMulInteger", np.uint8, "int8"),
        ("DequantizeLinear", np.int8, "int8"),
        ("MatMulNBits", np.float32, "q4"),
        ("MatMulNBits", np.float16, "q4f16"),
        ("MatMulBnb4", np.float32, "bnb4"),
    ],
)
def test_the_precision_is_read_from_the_graph(tmp_path: Path, operator: str, kind: type, precision: str) -> None:
    path = tmp_path / "model_int8.onnx"  # whatever its name
    onnx.save(graph_of(operator, np.ones((2, 2), kind)), path)
    weights = read_weights(path)
    assert weights is not None
    assert (weights.precision, weights.files) == (precision, ())


def test_the_revision_stands_for_every_file_that_is_served(foreign: Path) -> None:
    graph = graph_of("MatMul", np.ones((64, 64), np.float32))
    (foreign / "onnx" / "model.onnx").unlink()
    path = foreign / "onnx" / "model.onnx"
    onnx.save(graph, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    (foreign / "halfdepth.json").write_text('{"task": "classify"}')
    revisions = [load_bundle(foreign).revision]
    for name in ("onnx/model.onnx_data", "tokenizer.json", "config.json", "tokenizer_config.json", "halfdepth.json"):
        path = foreign / name
        path.write_bytes((path.read_bytes() if path.exists() else b"{}") + (b"\n" if name.endswith("json") else b"0"))
        revisions.append(load_bundle(foreign).revision)
    assert len(set(revisions)) == len(revisions)
    (foreign / "README.md").write_text("changed")
    assert load_bundle(foreign).revision == revisions[-1]


def test_int32_inputs_are_fed_and_fp16_outputs_are_float32(foreign: Path) -> None:
    onnx.save(graph_of("MatMul", np.ones((2, 2), np.float32), TensorProto.INT32), foreign / "onnx" / "model.onnx")
    (foreign / "halfdepth.json").write_text('{"task": "classify"}')
    bundle = load_bundle(foreign)
    session = OnnxSession(bundle, open_graph(bundle, threads=1), ["logits"])
    [logits] = session.run(Features(np.array([1, 2], np.int64), np.zeros(2, np.int64)))
    assert logits.dtype == np.float32
    assert logits.tolist() == [1, 2]


def test_inputs_and_outputs_of_other_types_are_refused_with_their_file(foreign: Path) -> None:
    other_input = graph_of("MatMul", np.ones((2, 2), np.float32), TensorProto.BOOL)
    other_output = graph_of("MatMul", np.ones((2, 2), np.float32))
    other_output.graph.node[0].attribute[0].i = TensorProto.BOOL
    other_output.graph.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    (foreign / "halfdepth.json").write_text('{"task": "classify"}')
    for name, graph in (("input_ids", other_input), ("logits", other_output)):
        onnx.save(graph, foreign / "onnx" / "model.onnx")
        bundle = load_bundle(foreign)
        with pytest.raises(BundleError, match=rf"model\.onnx: {name} is of type tensor\(bool\); export it again"):
            OnnxSession(bundle, open_graph(bundle, threads=1), ["logits"])


def test_evaluations_and_benchmarks_feed_what_the_service_feeds(foreign: Path) -> None:
    from loadtest.bench.inprocess import in_process
    from models.predict import load_bundle_run  # here: no other test of this file needs PyTorch

    onnx.save(graph_of("MatMul", np.ones((2, 2), np.float32), TensorProto.INT32), foreign / "onnx" / "model.onnx")
    (foreign / "halfdepth.json").write_text('{"task": "classify"}')
    [logits] = load_bundle_run(foreign, "classify")[0](Features(np.array([1, 2], np.int64), np.zeros(2, np.int64)))
    assert logits.tolist() == [1, 2]
    labels = {"id2label": {"0": "toxic"}, "problem_type": "multi_label_classification"}  # of a text of one token
    (foreign / "config.json").write_text(json.dumps(json.loads((foreign / "config.json").read_text()) | labels))
    [label] = in_process(load_bundle(foreign), 1)(ClassificationInput("ada")).labels
    assert label.label == "toxic"
