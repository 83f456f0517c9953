"""A bundle is served only if every file is what its manifest says."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.tasks.base import TaskName
from models.tasks.bundle import bundle_paths, fp32_of, load_bundle, sha256_of
from models.tasks.directory.files import BundleError
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.manifest import Manifest, manifest_schema
from models.tasks.session import open_graph

PUBLISHED_SCHEMA = Path(__file__).parents[3] / "docs" / "manifest.schema.json"
Edit = Callable[[dict[str, Any]], object]  # of a manifest as JSON


def manifest_of(path: Path) -> dict[str, Any]:  # JSON
    model = {
        "name": "student",
        "revision": "0123456789ab",
        "architecture": "DistilBertForQuestionAnswering",
        "parameters": 10,
        "layers": 1,
        "hidden_size": 2,
        "bytes": 40,
        "training": {"command": "python -m models.finetune", "seed": 0, "seconds": 1.5, "source": "teacher"},
    }
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        "schema_version": 1,
        "task": "qa",
        "name": "tiny",
        "student": model,
        "teacher": None,
        "data": [
            {"name": "a.json", "sha256": "0" * 64, "bytes": 1, "used_for": "dev", "source": None, "licence": "MIT"}
        ],
        "command": "python -m export",
        "seed": 0,
        "tools": {"onnx": "1"},
        "opset": 18,
        "quantization": None,
        "metrics": {"data": "a.json", "teacher": None, "student_fp32": {"f1": 80}, "student_int8": None},
        "checks": {"parity_inputs": 200, "max_logit_difference": 1e-6, "metric_drop": None},
        "golden": [{"question": "Who?", "context": "Ada.", "text": "Ada", "start": 0, "end": 3, "score": 0.5}],
        "files": [
            {"path": file.relative_to(path).as_posix(), "bytes": file.stat().st_size, "sha256": sha256_of(file)}
            for file in files
        ],
    }


@pytest.fixture
def bundle(foreign: Path) -> Path:
    (foreign / "onnx" / "model_quantized.onnx").write_bytes(b"int8 graph")
    (foreign / "manifest.json").write_text(json.dumps(manifest_of(foreign)))
    return foreign


def edit_manifest(path: Path, edit: Edit) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def edit_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def test_published_schema_is_that_of_the_model() -> None:
    command = "python -m models.tasks.manifest > docs/manifest.schema.json"
    assert PUBLISHED_SCHEMA.read_text() == manifest_schema(), f"out of date; run {command}"


def test_intact_bundle_is_loaded_with_its_int8_graph(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert (loaded.task, loaded.name) == ("qa", "tiny")
    assert loaded.model_path == bundle / "onnx" / "model_quantized.onnx"
    assert loaded.revision == sha256_of(bundle / "manifest.json")[:12]
    assert isinstance(loaded.manifest, Manifest)
    (bundle / "halfdepth.json").write_text("{}")
    assert load_bundle(bundle).revision != loaded.revision


def test_graph_that_the_manifest_does_not_list_is_not_served(bundle: Path) -> None:
    def forget_int8(manifest: dict[str, Any]) -> None:  # JSON
        manifest["files"] = [file for file in manifest["files"] if "quantized" not in file["path"]]

    edit_manifest(bundle, forget_int8)
    assert load_bundle(bundle).model_path == bundle / "onnx" / "model.onnx"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model_quantized.onnx"])
def test_missing_file_is_refused_by_name(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing; restore it"):
        load_bundle(bundle)


def test_truncated_file_is_refused_by_name(bundle: Path) -> None:
    (bundle / "onnx" / "model_quantized.onnx").write_bytes(b"int8")
    with pytest.raises(BundleError, match=r"model_quantized\.onnx has 4 bytes where the manifest says 10; restore it"):
        load_bundle(bundle)


def test_altered_file_of_the_same_size_is_refused_by_name(bundle: Path) -> None:
    (bundle / "onnx" / "model_quantized.onnx").write_bytes(b"int8 grapH")
    with pytest.raises(BundleError, match=r"model_quantized\.onnx was altered"):
        load_bundle(bundle)


@pytest.mark.parametrize("escape", ["../x", "/etc/hostname", "onnx/../../x", "C:/x", "onnx\\x", ""])
def test_path_that_escapes_the_bundle_is_refused(bundle: Path, escape: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest["files"][0].update(path=escape))
    with pytest.raises(BundleError, match=r"files\.0\.path: .*points outside the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize("content", ["", "{", '"text"', "[]", "\x00", "null"])
def test_broken_manifest_is_refused_in_one_line(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=r"manifest\.json is not a valid manifest") as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)
    assert "(: " not in str(caught.value)  # no place where there is none


def test_newer_schema_is_refused_as_such(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(schema_version=2, something_new=True))
    with pytest.raises(BundleError, match="version 2 and this program reads 1; use the version that wrote it or exp"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda manifest: manifest.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda manifest: manifest.pop("metrics"), "metrics: Field required"),
        (lambda manifest: manifest.update(task="translate"), "task: "),
        (lambda manifest: manifest["files"].clear(), "files: "),
        (lambda manifest: manifest["student"].update(layers="3"), r"student\.layers: "),
    ],
)
def test_manifest_off_its_schema_is_refused_with_the_place(bundle: Path, edit: Edit, where: str) -> None:
    edit_manifest(bundle, edit)
    with pytest.raises(BundleError, match=where):
        load_bundle(bundle)


def test_manifest_that_does_not_vouch_for_the_tokenizer_is_refused(bundle: Path) -> None:
    def forget_tokenizer(manifest: dict[str, Any]) -> None:  # JSON
        manifest["files"] = [file for file in manifest["files"] if file["path"] != "tokenizer.json"]

    edit_manifest(bundle, forget_tokenizer)
    with pytest.raises(BundleError, match=r"does not list tokenizer\.json"):
        load_bundle(bundle)


def test_an_operator_cannot_give_a_bundle_another_task_than_its_manifest(bundle: Path) -> None:
    (bundle / "halfdepth.json").write_text('{"task": "classify"}')
    with pytest.raises(
        BundleError, match=r"halfdepth\.json says that the task is classify and manifest\.json qa; remove"
    ):
        load_bundle(bundle)
    (bundle / "halfdepth.json").write_text('{"task": "qa"}')
    assert load_bundle(bundle, "qa").task == "qa"
    with pytest.raises(BundleError, match="is for the task qa and not for similarity; use a different --task"):
        load_bundle(bundle, "similarity")


def test_directory_without_manifest_is_loaded_with_a_warning(foreign: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = load_bundle(foreign)
    assert "no manifest.json: its files are served unchecked" in caplog.text
    assert (loaded.manifest, loaded.name, loaded.precision) == (None, "tiny", "fp32")
    assert len(loaded.revision) == 12


def test_graph_at_the_root_of_a_foreign_directory_is_found(foreign: Path) -> None:
    (foreign / "onnx" / "model.onnx").rename(foreign / "model_quantized.onnx")
    loaded = load_bundle(foreign)
    assert loaded.file == "model_quantized.onnx"


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("RobertaForQuestionAnswering", "qa"),
        ("DistilBertForSequenceClassification", "classify"),
        ("BertModel", "similarity"),
    ],
)
def test_task_of_a_foreign_directory_is_its_architectures(foreign: Path, architecture: str, task: TaskName) -> None:
    edit_config(foreign, architectures=[architecture])
    assert load_bundle(foreign).task == task


@pytest.mark.parametrize("architectures", [["BertForMaskedLM"], [], None])
def test_architecture_of_no_task_is_refused(foreign: Path, architectures: object) -> None:
    edit_config(foreign, architectures=architectures)
    with pytest.raises(BundleError, match="belong to no task here; supported are"):
        load_bundle(foreign)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnx/model.onnx", "holds no model"),
        ("config.json", r"config\.json is missing"),
        ("tokenizer.json", r"tokenizer\.json is missing"),
    ],
)
def test_incomplete_foreign_directory_is_refused(foreign: Path, name: str, message: str) -> None:
    (foreign / name).unlink()
    with pytest.raises(BundleError, match=message):
        load_bundle(foreign)


def test_broken_config_and_tokenizer_are_refused_by_name(foreign: Path) -> None:
    (foreign / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a readable tokenizer \(.*\); restore the file$"):
        load_tokenizer(load_bundle(foreign).path)
    (foreign / "config.json").write_text("{")
    with pytest.raises(BundleError, match=r"config\.json is not valid JSON \(.*\); restore it$"):
        load_bundle(foreign)


def test_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is not a directory"):
        load_bundle(tmp_path / "nowhere")


def test_architectures_that_are_no_list_are_refused(foreign: Path) -> None:
    edit_config(foreign, architectures=5)
    with pytest.raises(BundleError, match="belong to no task here"):
        load_bundle(foreign)


@pytest.mark.parametrize("marks", [("config.json",), ("manifest.json",), ("onnx/model.onnx",), ("model.onnx",)])
def test_any_part_of_a_bundle_makes_a_directory_one(tmp_path: Path, marks: tuple[str, ...]) -> None:
    for mark in marks:
        (tmp_path / "mine" / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / mark).write_text("")
    assert bundle_paths(tmp_path) == [tmp_path / "mine"]


@pytest.mark.parametrize("name", ["lost+found", ".cache", "..data", "dangling", "unreadable"])
def test_what_is_no_bundle_is_passed_over_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "qa").mkdir()
    (tmp_path / "qa" / "config.json").write_text("{}")
    if name == "dangling":
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / name).mkdir()
    if name.startswith("."):
        (tmp_path / name / "config.json").write_text("{}")
    listed = os.listdir

    def listdir(path: Path) -> list[str]:
        if path.name == "unreadable":  # root, who runs the tests, may read any
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert bundle_paths(tmp_path) == [tmp_path / "qa"]
    [record] = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / name} is passed over: it ")


def test_files_are_passed_over_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_text("bundles")
    (tmp_path / ".gitkeep").write_text("")
    assert (bundle_paths(tmp_path), caplog.records) == ([], [])


@pytest.mark.parametrize("marks", [("manifest.json",), ("config.json", "tokenizer.json"), ("onnx/model.onnx",)])
def test_a_bundle_itself_is_told_from_a_directory_of_bundles(tmp_path: Path, marks: tuple[str, ...]) -> None:
    for mark in marks:
        (tmp_path / mark).parent.mkdir(exist_ok=True)
        (tmp_path / mark).write_text("")
    assert bundle_paths(tmp_path) == [tmp_path]


def test_a_stray_configuration_makes_no_bundle_of_a_directory_of_bundles(foreign: Path) -> None:
    (foreign.parent / "config.json").write_text("{}")
    assert bundle_paths(foreign.parent) == [foreign]


def test_a_directory_that_may_not_be_read_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(_: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\); correct its permissions"):
        bundle_paths(tmp_path)


def name_in_overrides(path: Path, **keys: str) -> None:
    """Into halfdepth.json; a manifest goes on vouching for the directory."""
    (path / "halfdepth.json").write_text(json.dumps(keys))


def test_halfdepth_json_names_the_graph(bundle: Path) -> None:
    name_in_overrides(bundle, file="onnx/model.onnx")
    assert load_bundle(bundle).model_path == bundle / "onnx" / "model.onnx"


@pytest.mark.parametrize("file", ["/etc/hosts", "../tiny/onnx/model.onnx", "onnx/missing.onnx", "onnx"])
def test_halfdepth_json_names_no_graph_elsewhere(foreign: Path, file: str) -> None:
    name_in_overrides(foreign, file=file)
    with pytest.raises(BundleError, match=rf"halfdepth\.json: file '{file}' is not a file of this directory"):
        load_bundle(foreign)


def test_halfdepth_json_names_no_graph_for_which_the_manifest_does_not_vouch(bundle: Path) -> None:
    (bundle / "onnx" / "other.onnx").write_bytes(b"another graph")
    name_in_overrides(bundle, file="onnx/other.onnx")
    with pytest.raises(BundleError, match=r"halfdepth\.json: manifest\.json does not list 'onnx/other\.onnx'"):
        load_bundle(bundle)


def test_halfdepth_json_names_a_task_that_there_is(foreign: Path) -> None:
    name_in_overrides(foreign, task="translate")
    with pytest.raises(BundleError, match="'translate' is not a task; the tasks are qa, rerank, "):
        load_bundle(foreign)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_a_directory_in_place_of_a_file_is_told_in_one_line(bundle: Path, name: str) -> None:
    if name == "config.json":
        (bundle / "manifest.json").unlink()
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).mkdir()
    with pytest.raises(BundleError, match=rf"{name} cannot be read \(Is a directory\)".replace(".", r"\.")):
        load_bundle(bundle)


def test_fp32_is_at_hand_where_the_manifest_lists_it(bundle: Path) -> None:
    quantized = replace(load_bundle(bundle), precision="int8")
    exact = fp32_of(quantized)
    assert exact == replace(quantized, precision="fp32", model_path=bundle / "onnx" / "model.onnx")
    assert fp32_of(exact) is None  # it is

    def forget_fp32(manifest: dict[str, Any]) -> None:  # JSON
        manifest["files"] = [file for file in manifest["files"] if file["path"] != "onnx/model.onnx"]

    edit_manifest(bundle, forget_fp32)
    assert fp32_of(replace(load_bundle(bundle), precision="int8")) is None


def test_without_a_manifest_no_fp32_is_at_hand(foreign: Path) -> None:
    assert fp32_of(replace(load_bundle(foreign), precision="int8")) is None


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"  # what Git has before git lfs pull


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model_quantized.onnx"])
def test_pointers_of_git_lfs_are_told_as_such(bundle: Path, name: str) -> None:
    (bundle / name).write_text(POINTER)
    with pytest.raises(BundleError, match=r"it is a pointer of Git LFS; fetch the file with git lfs pull") as caught:
        load_bundle(bundle)
    assert str(bundle / name) in str(caught.value)


def test_pointers_without_a_manifest_are_told_when_they_are_opened(foreign: Path) -> None:
    graph = foreign / "onnx" / "model.onnx"
    graph.write_text(POINTER)
    (foreign / "tokenizer.json").write_text(POINTER)
    with pytest.raises(BundleError, match=r"it is a pointer of Git LFS"):
        open_graph(graph, threads=1)
    with pytest.raises(BundleError, match=r"it is a pointer of Git LFS"):
        load_tokenizer(foreign)


def test_a_manifest_may_begin_with_a_byte_order_mark(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert load_bundle(bundle).name == "tiny"
