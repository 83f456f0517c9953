"""Runs of a bundle's graph for a task."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.tasks.base import Features, UnsupportedInputError
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.session import Cancellation, OnnxSession, feed, graph_outputs, open_graph
from tests.service.conftest import VOCABULARY, as_int8, graph_of, tiny_qa_graph, write_bundle

QA_OUTPUTS = ("start_logits", "end_logits")


def window(*words: str) -> Features:
    ids = np.array([VOCABULARY[word] for word in words], np.int64)
    return Features(ids, np.zeros_like(ids))


def session_of(bundle: Bundle, *output_names: str, threads: int = 1) -> OnnxSession:
    return OnnxSession(bundle, open_graph(bundle, threads=threads), output_names or QA_OUTPUTS)


def test_a_graph_tells_its_outputs(tmp_path: Path) -> None:
    write_bundle(tmp_path / "similarity", "similarity")
    graph = open_graph(load_bundle(tmp_path / "similarity"), threads=1)
    assert graph_outputs(graph) == ["last_hidden_state", "sentence_embedding"]


def test_threads_stop_spinning_with_their_run_and_sessions_share_memory(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    options = open_graph(load_bundle(tmp_path / "qa"), threads=2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.get_session_config_entry("session.use_env_allocators") == "1"


def test_a_window_gives_outputs_without_a_batch_dimension(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    session = session_of(load_bundle(tmp_path / "qa"))
    start_logits, end_logits = session.run(window("[CLS]", "in", "paris"))
    assert start_logits.tolist() == [2.0, -5.0, 9.0]
    assert end_logits.tolist() == [2.0, -5.0, 9.0]


def test_outputs_come_in_the_order_of_the_task(tmp_path: Path) -> None:
    write_bundle(tmp_path / "similarity", "similarity")
    bundle = load_bundle(tmp_path / "similarity")
    pooled, vectors = session_of(bundle, "sentence_embedding", "last_hidden_state").run(window("oslo", "[CLS]"))
    assert pooled.tolist() == [1, 0, 0, 0]
    assert vectors.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_an_int8_bundle_loads_too(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    model = tmp_path / "qa" / "onnx" / "model.onnx"
    onnx.save(as_int8(model), model.with_name("model_quantized.onnx"))
    bundle = load_bundle(tmp_path / "qa")
    assert bundle.precision == "int8"
    assert len(session_of(bundle, threads=2).run(window("paris"))) == 2


def test_a_graph_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / "onnx" / "model.onnx").write_bytes(b"no graph")
    reason = r"cannot be loaded \(.*INVALID_PROTOBUF.*\); export the bundle again$"
    with pytest.raises(BundleError, match=rf"model\.onnx {reason}") as caught:
        open_graph(load_bundle(tmp_path / "qa"), threads=1)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=f"^the graph {reason}"):
        open_graph(b"no graph", threads=1)


def test_a_token_that_the_embeddings_do_not_have_is_the_texts_fault(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    session = session_of(load_bundle(tmp_path / "qa"), threads=2)
    beyond = Features(np.array([0, len(VOCABULARY)], np.int64), np.zeros(2, np.int64))
    for wide in (False, True):
        with pytest.raises(UnsupportedInputError, match="has no embedding for one of the text"):
            session.run(beyond, wide=wide)
    assert len(session.run(window("paris"))) == 2


def test_a_text_longer_than_a_slice_of_the_positions_is_told_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Shape", ["input_ids"], ["count"], start=1),
        helper.make_node("Slice", ["rows", "zero", "count", "one"], ["positions"]),
        helper.make_node("Add", ["words", "positions"], ["hidden"]),
        helper.make_node("ReduceMax", ["hidden", "two"], ["start_logits"], keepdims=0),
        helper.make_node("ReduceMin", ["hidden", "two"], ["end_logits"], keepdims=0),
    ]
    numbers = {name: np.array([number]) for number, name in enumerate(("zero", "one", "two"))}
    tables = {"table": np.ones((len(VOCABULARY), 2), np.float32), "rows": np.ones((1, 8, 2), np.float32)}
    shape = ["batch", "sequence"]
    graph = graph_of(nodes, {"start_logits": shape, "end_logits": shape}, **tables, **numbers)
    write_bundle(tmp_path / "qa", graph=graph)
    session = session_of(load_bundle(tmp_path / "qa"))
    assert len(session.run(window(*["paris"] * 8))) == 2
    with pytest.raises(UnsupportedInputError, match="send a shorter text"):
        session.run(window(*["paris"] * 9))


def test_a_fused_embedding_that_lacks_a_token_or_a_position_tells_the_same(tmp_path: Path) -> None:
    """EmbedLayerNormalization, into which onnxruntime's optimizer fuses BERT's three tables."""
    rng, ones, zeros = np.random.default_rng(0), np.ones(4, np.float32), np.zeros(4, np.float32)
    words, positions, types = (rng.normal(size=(rows, 4)).astype(np.float32) for rows in (len(VOCABULARY), 8, 2))
    inputs = ["ids", "types", "words", "positions", "kinds", "gamma", "beta"]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT32),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.INT32),
        helper.make_node("EmbedLayerNormalization", inputs, ["hidden", "mask"], domain="com.microsoft"),
        helper.make_node("Split", ["hidden"], ["starts", "ends"], axis=2, num_outputs=2),
        helper.make_node("ReduceMax", ["starts", "last"], ["start_logits"], keepdims=0),
        helper.make_node("ReduceMax", ["ends", "last"], ["end_logits"], keepdims=0),
    ]
    tables = {"words": words, "positions": positions, "kinds": types, "gamma": ones, "beta": zeros}
    shape = ["batch", "sequence"]
    outputs = {"start_logits": shape, "end_logits": shape}
    write_bundle(tmp_path / "qa", graph=graph_of(nodes, outputs, **tables, last=np.array([2])))
    session = session_of(load_bundle(tmp_path / "qa"))
    assert len(session.run(window("paris"))) == 2
    for ids in ([0, len(VOCABULARY)], [0] * 9):
        with pytest.raises(UnsupportedInputError, match="or for a position so far into it"):
            session.run(Features(np.array(ids, np.int64), np.zeros(len(ids), np.int64)))


def test_a_graph_without_the_task_s_outputs_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    with pytest.raises(BundleError, match=r"lacks outputs \['logits'\]"):
        session_of(load_bundle(tmp_path / "qa"), "logits")


def test_a_graph_with_an_input_that_no_task_has_is_refused(tmp_path: Path) -> None:
    graph = tiny_qa_graph()
    graph.graph.input[1].name = "pixel_values"
    write_bundle(tmp_path / "qa", graph=graph)
    with pytest.raises(BundleError, match=r"needs inputs \['pixel_values'\]"):
        session_of(load_bundle(tmp_path / "qa"))


def test_exact_products_are_exact_on_every_cpu(tmp_path: Path) -> None:
    """255 · 127 + 255 · 127 does not fit into the 16 bits of a CPU without VNNI."""
    rows = np.where(np.arange(len(VOCABULARY))[:, None] % 2, 1.0, 0.99).astype(np.float32) * np.ones(
        (1, 64), np.float32
    )
    weight = np.full((64, 2), 127, np.int8)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("DynamicQuantizeLinear", ["hidden"], ["bytes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "weight", "zero"], ["products"]),
        helper.make_node("Cast", ["products"], ["sums"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["sums", "scale"], ["logits"]),
        helper.make_node("Split", ["logits"], ["starts", "ends"], axis=2, num_outputs=2),
        helper.make_node("Squeeze", ["starts", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["ends", "last"], ["end_logits"]),
    ]
    shape = ["batch", "sequence"]
    outputs = {"start_logits": shape, "end_logits": shape}
    write_bundle(tmp_path / "qa", graph=graph_of(nodes, outputs, table=rows, weight=weight, last=np.array([2])))
    bundle = load_bundle(tmp_path / "qa")
    session = OnnxSession(bundle, open_graph(bundle, threads=1, exact_products=True), QA_OUTPUTS)
    read = window("in", "oslo", "or", "paris")
    np.testing.assert_allclose(session.run(read)[0], 64 * 127 * rows[read.input_ids, 0], rtol=1 / 255)


def test_a_run_that_is_cancelled_ends_with_an_error(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    session, cancellation = session_of(load_bundle(tmp_path / "qa")), Cancellation()
    session.run(window("paris"), cancellation)
    cancellation.request()
    assert cancellation.requested
    with pytest.raises(Exception, match="terminate flag"):
        session.run(window("paris"), cancellation)


def test_a_window_is_fed_as_a_batch_of_one_without_padding() -> None:
    features = Features(np.array([2, 7, 3]), np.array([0, 0, 1]))
    assert len(features) == 3
    arrays = feed(features, ["input_ids", "attention_mask", "token_type_ids"])
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "input_ids": [[2, 7, 3]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[0, 0, 1]],
    }


def test_a_graph_is_fed_only_the_inputs_that_it_has() -> None:
    features = Features(np.array([2, 3]), np.array([0, 0]))
    assert list(feed(features, ["attention_mask", "input_ids"])) == ["attention_mask", "input_ids"]
