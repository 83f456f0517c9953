"""The task of somebody else's model: from its files and its graph, which must say the same, or from an operator."""

import json
from pathlib import Path

import pytest

from models.tasks.base import TaskName
from models.tasks.bundle import load_bundle
from models.tasks.directory.files import BundleError
from tests.models.tasks.directory.test_graph import write_graph

OUTPUTS: dict[TaskName, dict[str, list[int | str]]] = {
    "qa": {"start_logits": ["batch", "seq"], "end_logits": ["batch", "seq"]},
    "classify": {"logits": ["batch", 3]},
    "similarity": {"last_hidden_state": ["batch", "seq", 32]},
    "entities": {"logits": ["batch", "seq", 9]},
}
MASKED_WORDS: dict[str, list[int | str]] = {"logits": ["batch", "seq", 30522]}
HEADS = {
    "qa": "ForQuestionAnswering",
    "classify": "ForSequenceClassification",
    "similarity": "Model",
    "entities": "ForTokenClassification",
}


def model(path: Path, outputs: dict[str, list[int | str]], architectures: object) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
    write_graph(path / "onnx" / "model.onnx", outputs)
    return path


@pytest.mark.parametrize("kind", ["Electra", "Camembert", "XLMRoberta", "Albert", "DebertaV2", "ModernBert", "New"])
@pytest.mark.parametrize("task", list(OUTPUTS))
def test_every_kind_is_served_for_what_its_graph_gives(foreign: Path, kind: str, task: TaskName) -> None:
    assert load_bundle(model(foreign, OUTPUTS[task], [kind + HEADS[task]])).task == task


@pytest.mark.parametrize("architectures", [["MPNetForMaskedLM"], ["NewEncoder"], [], None])
@pytest.mark.parametrize("task", ["qa", "classify", "similarity"])
def test_the_graph_tells_the_task_where_the_class_does_not(
    foreign: Path, architectures: object, task: TaskName
) -> None:
    assert load_bundle(model(foreign, OUTPUTS[task], architectures)).task == task


@pytest.mark.parametrize("name", ["sentence_embedding", "token_embeddings"])
def test_outputs_of_sentence_transformers_make_an_embedder(foreign: Path, name: str) -> None:
    shape: list[int | str] = ["batch", 32] if name == "sentence_embedding" else ["batch", "seq", 32]
    assert load_bundle(model(foreign, {name: shape}, ["BertForMaskedLM"])).task == "similarity"


def test_files_of_sentence_transformers_make_an_embedder(foreign: Path) -> None:
    path = model(foreign, OUTPUTS["similarity"] | OUTPUTS["classify"], ["BertForSequenceClassification"])
    assert load_bundle(path).task == "classify"
    (path / "modules.json").write_text("[]")
    assert load_bundle(path).task == "similarity"


@pytest.mark.parametrize(
    ("outputs", "architecture", "message"),
    [
        (OUTPUTS["similarity"], "BertForQuestionAnswering", "last_hidden_state with 3 axes, but .* is for qa, and qa"),
        (OUTPUTS["qa"], "BertForSequenceClassification", "and classify reads logits with 2 axes; export the graph"),
        (OUTPUTS["classify"], "BertModel", "logits with 2 axes, but by its files the model is for similarity"),
        (MASKED_WORDS, "BertForPreTraining", "logits with 3 axes, which is for no task here: qa reads start"),
        (MASKED_WORDS, "BertForMaskedLM", "logits with 3 axes, which is for no task here"),
        (MASKED_WORDS, "BertForSequenceClassification", "logits with 3 axes, but .* classify reads logits with 2 axes"),
        (OUTPUTS["classify"] | OUTPUTS["qa"], "New", "which qa and classify read; name the task in halfdepth.json"),
    ],
)
def test_a_graph_of_another_task_than_the_files_is_refused(
    foreign: Path, outputs: dict[str, list[int | str]], architecture: str, message: str
) -> None:
    with pytest.raises(BundleError, match=rf"model\.onnx gives .*{message}") as caught:
        load_bundle(model(foreign, outputs, [architecture]))
    assert "\n" not in str(caught.value)


def test_the_task_that_an_operator_names_goes_before_the_files(foreign: Path) -> None:
    path = model(foreign, OUTPUTS["similarity"], ["BertForQuestionAnswering"])
    assert load_bundle(path, "similarity").task == "similarity"
    (path / "halfdepth.json").write_text('{"task": "similarity"}')
    assert load_bundle(path).task == "similarity"
    with pytest.raises(BundleError, match="is for the task similarity and not for qa; use a different --task"):
        load_bundle(path, "qa")


@pytest.mark.parametrize("by_file", [True, False])
def test_an_operator_cannot_name_a_task_that_the_graph_is_not_for(foreign: Path, by_file: bool) -> None:
    path = model(foreign, OUTPUTS["similarity"], ["BertModel"])
    if by_file:
        (path / "halfdepth.json").write_text('{"task": "classify"}')
    with pytest.raises(BundleError, match="but classify reads logits with 2 axes; name another task, or export"):
        load_bundle(path, None if by_file else "classify")
