"""ONNX as other people export it: brought into our form and equal to the file, or refused in one line."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.optimizer import optimize_model

from export.__main__ import main
from export.checkpoint import ExportError
from export.foreign import ForeignGraph, read_foreign
from export.graph.normalize import OPSET, opset_of
from export.graph.quantize import quantize
from export.verify import MAX_HALF_DIFFERENCE, relative_difference
from models.finetune.recipes import RECIPES
from models.tasks.base import Features, TaskName
from models.tasks.build import SPECS
from models.tasks.session import onnx_run, open_graph
from tests.export.conftest import HEADS

KINDS: dict[str, TaskName] = {"bert": "qa", "distilbert": "classify", "roberta": "similarity", "deberta-v2": "qa"}
CONFIGS = {"bert": "Bert", "distilbert": "DistilBert", "roberta": "Roberta", "deberta-v2": "DebertaV2"}
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True}


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind, a random checkpoint's config.json and its graph as torch.onnx exports it."""
    import torch
    import transformers
    from optimum.exporters.onnx import onnx_export_from_model

    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's older exporter, and of DeBERTa's
        for kind, task in KINDS.items():
            sizes: dict[str, Any] = {"vocab_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4}
            sizes |= {"dim" if kind == "distilbert" else "hidden_size": 32, "max_position_embeddings": 66}
            sizes |= {"hidden_dim" if kind == "distilbert" else "intermediate_size": 64, "initializer_range": 0.2}
            sizes["num_labels"] = 2 if task == "qa" else 3
            sizes |= {"pad_token_id": 1 if kind == "roberta" else 0} | (DEBERTA if kind == "deberta-v2" else {})
            path = made[kind] = tmp_path_factory.mktemp(kind)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model_class = getattr(transformers, CONFIGS[kind] + HEADS[task])
                model = model_class(getattr(transformers, CONFIGS[kind] + "Config")(**sizes)).eval()
            model.config.save_pretrained(path)
            optimum_task = RECIPES[task].optimum_task
            onnx_export_from_model(model, output=path, task=optimum_task, opset=14, do_validation=False)
    return made


@pytest.fixture
def graph(directories: dict[str, Path], request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A stock graph, to be changed; of BERT, unless the test names another kind."""
    return onnx.load(directories[getattr(request, "param", "bert")] / "model.onnx")


Read = Callable[[onnx.ModelProto, str], ForeignGraph]


@pytest.fixture
def read(directories: dict[str, Path], tmp_path: Path) -> Read:
    def read_model(model: onnx.ModelProto, kind: str = "bert") -> ForeignGraph:
        onnx.save(model, tmp_path / "foreign.onnx")
        config = json.loads((directories[kind] / "config.json").read_text())
        return read_foreign(tmp_path / "foreign.onnx", SPECS[KINDS[kind]], config)

    return read_model


def windows(count: int = 4) -> list[Features]:
    draw = np.random.default_rng(0)
    lengths = range(6, 6 + 9 * count, 9)
    return [Features(draw.integers(5, 100, length), np.arange(length) // (length // 2 + 1)) for length in lengths]


def check_equal(foreign: ForeignGraph, path: Path, atol: float = 1e-5) -> None:
    """Compare with the file as onnxruntime reads it, and hold the form against that of our own export."""
    onnx.save(foreign.model, path)
    run, reference = (
        onnx_run(open_graph(path, threads=1), foreign.output_names),
        foreign.reference(foreign.output_names),
    )
    for window in windows():
        for output, expected in zip(run(window), reference(window), strict=True):
            assert np.isfinite(expected).all()
            np.testing.assert_allclose(output, expected, atol=atol)
    model = foreign.model
    assert opset_of(model) >= OPSET
    assert [value.name for value in model.graph.output] == list(foreign.output_names)
    for value in model.graph.input:
        assert value.name in (IDS, MASK, TYPES)
        assert value.type.tensor_type.elem_type == TensorProto.INT64
    assert all(tensor.data_type != TensorProto.FLOAT16 for tensor in model.graph.initializer)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


@pytest.mark.parametrize("kind", KINDS)
def test_older_opset_is_raised(directories: dict[str, Path], read: Read, tmp_path: Path, kind: str) -> None:
    check_equal(read(onnx.load(directories[kind] / "model.onnx"), kind), tmp_path / "own.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_told_by_tables_and_shapes(
    directories: dict[str, Path], read: Read, tmp_path: Path, kind: str
) -> None:
    model = onnx.load(directories[kind] / "model.onnx")
    values = [*model.graph.input, *model.graph.output]
    rename(model, {value.name: str(number) for number, value in enumerate(values, start=9000)})
    foreign = read(model, kind)
    assert foreign.output_names == (("last_hidden_state",) if kind == "roberta" else SPECS[KINDS[kind]].graph_outputs)
    check_equal(foreign, tmp_path / "own.onnx")


def test_span_heads_are_told_by_their_names_before_their_order(graph: onnx.ModelProto, read: Read) -> None:
    rename(graph, {"start_logits": "logits_start", "end_logits": "logits_end"})
    graph.graph.output.reverse()
    (window,) = windows(1)
    start_logits, end_logits = read(graph, "bert").reference(("start_logits", "end_logits"))(window)
    original = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        IDS: window.input_ids[None],
        MASK: np.ones_like(window.input_ids)[None],
        TYPES: window.token_type_ids[None],
    }
    expected = original.run(["logits_start", "logits_end"], feeds)
    np.testing.assert_array_equal([start_logits, end_logits], [array[0] for array in expected])


def test_names_of_tensorflow_are_known(graph: onnx.ModelProto, read: Read, tmp_path: Path) -> None:
    rename(graph, {IDS: "input_ids:0", MASK: "input_mask:0", TYPES: "segment_ids:0"})
    check_equal(read(graph, "bert"), tmp_path / "own.onnx")


def test_what_the_task_does_not_read_is_left_out(directories: dict[str, Path], read: Read, tmp_path: Path) -> None:
    model = onnx.load(directories["roberta"] / "model.onnx")
    (states,) = [node for node in model.graph.node if "last_hidden_state" in node.output]
    model.graph.node.append(
        helper.make_node("ReduceMax", ["last_hidden_state"], ["pooler_output"], axes=[1], keepdims=0)
    )
    model.graph.node.append(helper.make_node("Identity", [states.input[0]], ["hidden_states.0"]))
    shapes: dict[str, list[str | int | None]] = {
        "pooler_output": ["batch", 32],
        "hidden_states.0": ["batch", "length", 32],
    }
    for name, shape in shapes.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    foreign = read(model, "roberta")
    assert foreign.output_names == ("last_hidden_state",)
    check_equal(foreign, tmp_path / "own.onnx")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_positions_are_computed_inside(directories: dict[str, Path], read: Read, tmp_path: Path, kind: str) -> None:
    model = onnx.load(directories[kind] / "model.onnx")
    lookups = [node for node in model.graph.node if node.op_type == "Gather"]
    (lookup,) = [node for node in lookups if "position_embeddings" in node.input[0]]
    lookup.input[1] = "position_ids"
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "length"]))
    foreign = read(model, kind)
    check_equal(foreign, tmp_path / "own.onnx")
    whole = read(onnx.load(directories[kind] / "model.onnx"), kind)  # which computes them as transformers does
    for window in windows():
        for output, expected in zip(
            foreign.reference(foreign.output_names)(window), whole.reference(whole.output_names)(window), strict=True
        ):
            np.testing.assert_allclose(output, expected, atol=1e-5)


def test_inputs_of_32_bits_become_64(graph: onnx.ModelProto, read: Read, tmp_path: Path) -> None:
    for value in graph.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32
    for node in graph.graph.node:  # the mask of sdpa is expanded as integers of 64 bits
        if MASK in node.input and node.op_type != "Shape":
            node.input[:] = ["mask_64" if name == MASK else name for name in node.input]
    graph.graph.node.insert(0, helper.make_node("Cast", [MASK], ["mask_64"], to=TensorProto.INT64))
    check_equal(read(graph, "bert"), tmp_path / "own.onnx")


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_halves_become_floats(
    directories: dict[str, Path], read: Read, tmp_path: Path, kind: str, keep_io_types: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that small numbers are cut
        half = convert_float_to_float16(onnx.load(directories[kind] / "model.onnx"), keep_io_types=keep_io_types)
    foreign = read(half, kind)
    assert foreign.is_half
    check_equal(foreign, tmp_path / "own.onnx", atol=0.02)
    run = onnx_run(open_graph(tmp_path / "own.onnx", threads=1), foreign.output_names)
    difference = relative_difference(run, foreign.reference(foreign.output_names), windows())
    assert 0 < difference < MAX_HALF_DIFFERENCE / 10
    assert {node.op_type for node in foreign.model.graph.node if "graph_output_cast" in node.name} == set()


def test_constants_that_stand_among_the_inputs_are_constants(
    graph: onnx.ModelProto, read: Read, tmp_path: Path
) -> None:
    graph.ir_version = 3
    graph.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in graph.graph.initializer
    )
    check_equal(read(graph, "bert"), tmp_path / "own.onnx")


def test_nodes_without_names_get_names(graph: onnx.ModelProto, read: Read, tmp_path: Path) -> None:
    for node in graph.graph.node:
        node.name = ""
    check_equal(read(graph, "bert"), tmp_path / "own.onnx")


def test_weights_that_products_share_are_quantized_for_exact_products(
    directories: dict[str, Path], read: Read, tmp_path: Path
) -> None:
    foreign = read(onnx.load(directories["deberta-v2"] / "model.onnx"), "deberta-v2")
    onnx.save(foreign.model, tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert kinds.count("MatMulInteger") >= 12
    assert "DequantizeLinear" not in kinds
    run = onnx_run(open_graph(tmp_path / "int8.onnx", threads=1, exact_products=True), foreign.output_names)
    assert relative_difference(run, foreign.reference(foreign.output_names), windows()) < 0.05


def test_a_fixed_length_is_refused(graph: onnx.ModelProto, read: Read) -> None:
    for value in graph.graph.input:
        for axis, size in zip(value.type.tensor_type.shape.dim, (1, 64), strict=True):
            axis.dim_value = size
    with pytest.raises(
        ExportError, match=r"takes input_ids of the fixed size 1 by 64; export it again with dynamic axes"
    ):
        read(graph, "bert")


def test_outputs_that_cannot_be_told_apart_are_refused(graph: onnx.ModelProto, read: Read) -> None:
    rename(graph, {"start_logits": "a", "end_logits": "b"})
    graph.graph.node.append(helper.make_node("Add", ["a", "b"], ["c"]))
    graph.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["batch", "length"]))
    with pytest.raises(ExportError, match=r"where start_logits and end_logits cannot be told; rename its outputs"):
        read(graph, "bert")


@pytest.mark.parametrize("kind", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("name", ["logits", "probabilities"])
@pytest.mark.parametrize("graph", ["distilbert"], indirect=True)
def test_probabilities_are_not_taken_for_logits(graph: onnx.ModelProto, read: Read, kind: str, name: str) -> None:
    rename(graph, {"logits": "raw"})
    graph.graph.node.append(helper.make_node(kind, ["raw"], ["shares"]))
    graph.graph.node.append(helper.make_node("Identity", ["shares"], [name]))
    graph.graph.output[0].name = name
    with pytest.raises(ExportError, match=rf"gives {name}, which is the result of {kind}, where logits are read"):
        read(graph, "distilbert")


def test_a_graph_fused_for_onnxruntime_is_refused(directories: dict[str, Path], read: Read) -> None:
    optimized = optimize_model(
        str(directories["bert"] / "model.onnx"), "bert", num_heads=4, hidden_size=32, opt_level=1
    )
    with pytest.raises(ExportError, match=r"was optimised .*LayerNormalization.*; export it again without -O2, -O3"):
        read(optimized.model, "bert")


def test_a_graph_that_is_quantized_is_refused(directories: dict[str, Path], read: Read, tmp_path: Path) -> None:
    quantize_dynamic(directories["bert"] / "model.onnx", tmp_path / "uint8.onnx", weight_type=QuantType.QUInt8)
    with pytest.raises(ExportError, match=r"is quantized already \(.*MatMulInteger.*\), and int8 is made from float"):
        read(onnx.load(tmp_path / "uint8.onnx"), "bert")


def image_model() -> bytes:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8])]
        for name in ("pixel_values", "logits")
    )
    nodes = [helper.make_node("Relu", ["pixel_values"], ["logits"])]
    graph = helper.make_graph(nodes, "image", inputs, outputs)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def break_weights(path: Path, model: onnx.ModelProto, content: bytes | None) -> None:
    """Write a graph whose weights should lie beside it."""
    onnx.save(model, path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=100)
    (path / "weights").unlink()
    if content is not None:
        (path / "weights").write_bytes(content)


BROKEN: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "empty": (lambda path, _: (path / "model.onnx").write_bytes(b""), "is empty"),
    "pointer": (
        lambda path, _: (path / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        "is a Git LFS pointer and not the model; fetch it with git lfs pull",
    ),
    "page": (lambda path, _: (path / "model.onnx").write_bytes(b"<html>404</html>"), "export or download it again"),
    "cut": (lambda path, content: (path / "model.onnx").write_bytes(content[:5000]), "export or download it again"),
    "image": (lambda path, _: (path / "model.onnx").write_bytes(image_model()), "not those of a text encoder"),
    "no weights": (
        lambda path, content: break_weights(path, onnx.load_from_string(content), None),
        "export or download it again",
    ),
    "weights' pointer": (
        lambda path, content: break_weights(path, onnx.load_from_string(content), b"version https://git-lfs"),
        "export or download it again",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_ends_the_command_in_one_line(
    directories: dict[str, Path],
    tiny_qa: dict[str, Path],
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    write, reason = BROKEN[name]
    path = tmp_path / "foreign"
    path.mkdir()
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_qa["bert"] / file, path / file)
    write(path, (directories["bert"] / "model.onnx").read_bytes())
    given = ["--task", "qa", "--from-onnx", str(path), "--dev", str(squad_file), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("python -m export")]
    assert f"{path / 'model.onnx'} " in line
    assert reason in line
    assert not (tmp_path / "out").exists()
