"""Embedders of every pooling, with and without an export, against SentenceTransformer itself."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from optimum.exporters.onnx import main_export, onnx_export_from_model
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as modules
from torch import nn
from transformers import AutoModel, PreTrainedModel

from export.checkpoint import ExportError
from export.options import ExportOptions
from export.pipeline import export
from models.predict import load_bundle_run, load_checkpoint
from models.tasks.base import AnyTask, Run, answerer
from models.tasks.directory.files import BundleError
from models.tasks.session import graph_outputs, open_graph
from models.tasks.similarity import EmbeddingInput

# Of torch's older exporter, which is optimum's choice.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")

WIDTH, LIMIT = 32, 40
TEXTS = (
    "  The old lighthouse was BUILT in 1871\t",
    "Anna",
    "His grandmother opened the shop in 1949 with a loan of 300 escudos. " * 3,  # longer than the limit
)
PROMPTS = {"query": "Who? ", "passage": " Paragraph: "}
ACTIVATIONS = {"Tanh": nn.Tanh, "GELU": nn.GELU, "ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid, "Identity": nn.Identity}
# Pooling modes, and what follows: a Dense by its activation.
HEADS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "mean": (["mean_tokens"], ["Normalize"]),
    "mean of any length": (["mean_tokens"], []),
    "cls": (["cls_token"], ["Normalize"]),
    "max": (["max_tokens"], ["Normalize"]),
    "last": (["lasttoken"], []),
    "square root": (["mean_sqrt_len_tokens"], ["Sigmoid"]),
    "weighted": (["weightedmean_tokens"], ["ReLU", "Normalize"]),
    "two at once": (["cls_token", "max_tokens"], []),
    "LaBSE": (["cls_token"], ["Tanh", "Normalize"]),
    "all at once": (["max_tokens", "mean_tokens", "lasttoken"], ["Normalize", "GELU", "Identity"]),
}
EXPORTED = ("mean", "two at once", "square root", "weighted", "LaBSE", "all at once")  # every mode and activation
WITH_DENSE = {name for name, (_, layers) in HEADS.items() if set(layers) - {"Normalize"}}


@pytest.fixture(scope="module")
def library_models(tiny_qa: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each head; every other one is cased, reads lower case, and has prompts."""
    paths = {}
    for number, (name, (modes, layers)) in enumerate(HEADS.items()):
        is_cased = number % 2 == 1
        torch.manual_seed(number)
        transformer = modules.Transformer(
            str(tiny_qa["roberta" if is_cased else "bert"]), max_seq_length=LIMIT, do_lower_case=is_cased
        )
        flags = {f"pooling_mode_{mode}": mode in modes for mode in ("mean_tokens", *modes)}
        pooling = modules.Pooling(WIDTH, None, **flags)
        width, parts = pooling.get_sentence_embedding_dimension(), [transformer, pooling]
        for layer in layers:
            if layer == "Normalize":
                parts.append(modules.Normalize())
            else:
                parts.append(modules.Dense(width, 24, layer != "ReLU", ACTIVATIONS[layer]()))
                width = 24
        model = SentenceTransformer(
            modules=parts,
            device="cpu",
            prompts=PROMPTS if is_cased else None,
            default_prompt_name="passage" if is_cased else None,
        )
        paths[name] = tmp_path_factory.mktemp("library") / "model"
        model.save(str(paths[name]), safe_serialization=layers[:1] != ["Tanh"])  # of LaBSE the older format
    return paths


@pytest.fixture(scope="module")
def states_graphs(tiny_qa: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What optimum and transformers.js have of an encoder by its kind: ONNX that gives the states alone."""
    paths = {}
    for kind in ("bert", "roberta"):
        directory = tmp_path_factory.mktemp(kind)
        encoder: PreTrainedModel = AutoModel.from_pretrained(tiny_qa[kind], add_pooling_layer=False)
        onnx_export_from_model(
            encoder.eval(), output=directory, task="feature-extraction", opset=18, do_validation=False
        )
        paths[kind] = directory / "model.onnx"
    return paths


@pytest.fixture
def states_only(library_models: dict[str, Path], states_graphs: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes the directory of a head's model with ONNX in place of its weights, with these files of the library's."""

    def make(name: str, *patterns: str) -> Path:
        source, path = library_models[name], tmp_path / "states-only"
        path.mkdir()
        for pattern in ("config.json", "tokenizer*.json", "special_tokens_map.json", *patterns):
            for file in source.glob(pattern):
                (path / file.relative_to(source)).parent.mkdir(exist_ok=True)
                shutil.copy(file, path / file.relative_to(source))
        kind = json.loads((path / "config.json").read_text())["model_type"]
        shutil.copy(states_graphs[kind], path / "model.onnx")
        return path

    return make


ALL_FILES = ("modules.json", "*sentence*.json", "*_*/*")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tscore\nAnna\tPiet\t1\nthe lamp\tthe oil\t3\nthe oven\tAnna Lindqvist\t5\n")
    return path


def check_same(path: Path, run: Run, task: AnyTask, *, cosine: float = 1 - 1e-6) -> None:
    """Compare with what the library makes of the model in `path`, by each of its prompts."""
    library = SentenceTransformer(str(path), device="cpu")
    answer = answerer(task, run)
    for prompt_name in (None, *(PROMPTS if "Who? " in library.prompts.values() else ())):
        expected = library.encode(list(TEXTS), prompt_name=prompt_name)
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        vectors = np.stack([answer(EmbeddingInput(text, prompt_name=prompt_name)) for text in TEXTS])
        assert vectors.shape == expected.shape
        cosines: NDArray[np.float64] = (vectors.astype(np.float64) * expected).sum(axis=1)
        assert cosines.min() >= cosine


@pytest.mark.parametrize("name", HEADS)
def test_a_checkpoint_is_the_library_s_model(library_models: dict[str, Path], name: str) -> None:
    check_same(library_models[name], *load_checkpoint(library_models[name], "similarity", AutoModel))


@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_is_the_library_s_model_here_and_there(
    library_models: dict[str, Path], pairs: Path, tmp_path: Path, name: str
) -> None:
    path, out = library_models[name], tmp_path / "out"
    export(ExportOptions(task="similarity", student=path, dev=pairs, out=out, int8=False))
    check_same(path, *load_bundle_run(out, "similarity"))
    library = SentenceTransformer(str(path), device="cpu")
    options = {"file_name": "onnx/model.onnx"}
    exported = SentenceTransformer(str(out), device="cpu", backend="onnx", model_kwargs=options)
    np.testing.assert_allclose(exported.encode(list(TEXTS)), library.encode(list(TEXTS)), atol=1e-5)
    assert (exported.prompts, exported.default_prompt_name) == (library.prompts, library.default_prompt_name)
    assert exported.max_seq_length == library.max_seq_length


@pytest.mark.parametrize("name", HEADS)
def test_a_graph_of_states_is_pooled_as_the_files_beside_it_say(
    states_only: Callable[..., Path], library_models: dict[str, Path], name: str
) -> None:
    path = states_only(name, *ALL_FILES)
    if name in WITH_DENSE:
        with pytest.raises(BundleError, match=r"modules\.json asks for Dense.* export the model with halfdepth export"):
            load_bundle_run(path, "similarity")
    else:
        check_same(library_models[name], *load_bundle_run(path, "similarity"))


@pytest.mark.parametrize("name", ["cls", "all at once"])
def test_a_graph_of_states_is_exported_with_its_head(
    states_only: Callable[..., Path], library_models: dict[str, Path], pairs: Path, tmp_path: Path, name: str
) -> None:
    options = ExportOptions(
        task="similarity", from_onnx=states_only(name, *ALL_FILES), dev=pairs, out=tmp_path / "out", int8=False
    )
    check_same(library_models[name], *load_bundle_run(export(options).bundle.path, "similarity"))


def test_a_graph_of_states_is_not_pooled_by_a_guess(
    states_only: Callable[..., Path], library_models: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    path = states_only("cls", "sentence_bert_config.json")
    with pytest.raises(BundleError, match=r'no file says how .* name it in halfdepth\.json, as in {"pooling": "mean"}'):
        load_bundle_run(path, "similarity")
    options = ExportOptions(task="similarity", from_onnx=path, dev=pairs, out=tmp_path / "out", int8=False)
    with pytest.raises(BundleError, match="no file says how"):
        export(options)
    (path / "halfdepth.json").write_text('{"pooling": "cls"}')
    check_same(library_models["cls"], *load_bundle_run(path, "similarity"))
    check_same(library_models["cls"], *load_bundle_run(export(options).bundle.path, "similarity"))


@pytest.mark.parametrize("name", ["last", "LaBSE"])
def test_a_graph_that_pools_is_taken_as_it_is(
    library_models: dict[str, Path], pairs: Path, tmp_path: Path, name: str
) -> None:
    path, source = tmp_path / "theirs", library_models[name]
    main_export(str(source), path, task="feature-extraction", library_name="sentence_transformers", do_validation=False)
    assert graph_outputs(open_graph(path / "model.onnx", threads=1)) == ["token_embeddings", "sentence_embedding"]
    shutil.copy(source / "sentence_bert_config.json", path)  # which optimum leaves out
    check_same(source, *load_bundle_run(path, "similarity"))
    (path / "halfdepth.json").write_text('{"pooling": "cls"}')
    with pytest.raises(ExportError, match=r"halfdepth\.json: the graph pools by itself; remove pooling"):
        export(ExportOptions(task="similarity", from_onnx=path, dev=pairs, out=tmp_path / "out", int8=False))


def test_int8_keeps_the_head(library_models: dict[str, Path], pairs: Path, tmp_path: Path) -> None:
    path = library_models["all at once"]
    options = ExportOptions(
        task="similarity", student=path, dev=pairs, out=tmp_path / "out", max_metric_drop=200, min_agreement=0
    )
    bundle = export(options).bundle
    check_same(path, *load_bundle_run(bundle.path, "similarity"), cosine=0.99)
