"""Export without a checkpoint."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.checkpoint import ExportError
from export.graph.graph import Graph
from export.options import ExportOptions
from export.pipeline import export
from export.verify import VerifyError, parity_inputs
from models.predict import load_bundle_run
from models.tasks.base import TaskName, TaskSpec
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.errors import UsageError
from models.tasks.manifest import Manifest
from models.tasks.session import graph_outputs, open_graph
from models.tasks.similarity import POOLED, EmbeddingInput

ANY_DROP = 100.0  # a random model's F1 is a matter of chance


def manifest_of(bundle: Bundle) -> Manifest:
    assert bundle.manifest is not None
    return bundle.manifest


@pytest.fixture(scope="module")
def plain(tiny_qa: dict[str, Path], squad_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with both graphs, exported from a checkpoint without any rewrite."""
    out = tmp_path_factory.mktemp("plain") / "bundle"
    options = ExportOptions(
        task="qa",
        student=tiny_qa["distilbert"],
        teacher=str(tiny_qa["bert"]),
        dev=squad_file,
        out=out,
        rewrite=False,
        keep_fp32=True,
        max_metric_drop=ANY_DROP,
        min_agreement=0.0,
    )
    return export(options).bundle


@pytest.fixture
def int8_alone(plain: Bundle, tmp_path: Path) -> Path:
    """The same bundle as ours ship: its manifest lists no fp32 graph, and there is none."""
    path = Path(shutil.copytree(plain.path, tmp_path / "int8"))
    (path / "onnx" / "model.onnx").unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if file["path"] != "onnx/model.onnx"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.fixture
def foreign(plain: Bundle, tmp_path: Path) -> Path:
    """What somebody else would have: an fp32 graph, configuration and tokenizer."""
    path = tmp_path / "foreign"
    path.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(plain.path / name, path / name)
    shutil.copy(plain.path / "onnx" / "model.onnx", path / "model.onnx")
    return path


def test_a_bundle_is_exported_anew_from_its_int8_graph_and_keeps_what_was_known(
    int8_alone: Path, squad_file: Path, tmp_path: Path
) -> None:
    before = manifest_of(load_bundle(int8_alone))
    assert before.graph is not None
    assert (before.graph.rewrites, before.graph.disabled_optimizers) == ((), ("SkipLayerNormFusion",))
    options = ExportOptions(
        task="qa",
        from_onnx=int8_alone,
        dev=squad_file,
        out=tmp_path / "out",
        max_metric_drop=ANY_DROP,
        command="anew",
    )
    bundle = export(options).bundle
    after = manifest_of(bundle)
    assert bundle.precision == "int8"
    assert (after.student, after.teacher, after.quantization, after.data) == (
        before.student,
        before.teacher,
        before.quantization,
        before.data,
    )
    assert (after.metrics.teacher, after.metrics.student_fp32) == (before.metrics.teacher, before.metrics.student_fp32)
    assert after.metrics.student_int8 is not None
    assert after.command == "anew"
    assert after.graph is not None
    assert "tokens_first" in after.graph.rewrites
    assert bundle.disabled_optimizers == frozenset()
    assert after.checks.rewrite_difference is not None
    again = export(replace(options, from_onnx=bundle.path, out=tmp_path / "again")).bundle
    assert manifest_of(again).graph == after.graph
    assert again.model_path.read_bytes() == bundle.model_path.read_bytes()


def test_somebody_elses_directory_is_quantized_and_rewritten(foreign: Path, squad_file: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((foreign / "tokenizer.json").read_text())["model"]["vocab"]
    word = next(token for token in vocabulary if len(token) > 4 and token.isalpha())
    (foreign / "added_tokens.json").write_text(json.dumps({word: vocabulary[word]}))
    options = ExportOptions(
        task="qa", from_onnx=foreign, dev=squad_file, out=tmp_path / "out", max_metric_drop=ANY_DROP, min_agreement=0.0
    )
    bundle = export(options).bundle
    manifest = manifest_of(bundle)
    assert (bundle.name, bundle.precision) == ("foreign", "int8")
    assert (manifest.student.architecture, manifest.student.layers) == ("DistilBertForQuestionAnswering", 2)
    assert manifest.teacher is None
    assert manifest.quantization is not None
    assert 0.0 <= manifest.checks.max_logit_difference <= 1e-4
    assert [record.used_for for record in manifest.data] == ["dev"]
    ids = [load_tokenizer(path).encode(f"x{word}x").ids for path in (foreign, bundle.path)]
    assert ids[0] == ids[1]
    assert vocabulary[word] in ids[0]


def test_int8_that_answers_otherwise_is_refused_of_a_foreign_model(
    foreign: Path, squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ExportOptions(
        task="qa", from_onnx=foreign, dev=squad_file, out=tmp_path / "out", max_metric_drop=ANY_DROP, min_agreement=0.0
    )
    checks = manifest_of(export(asked).bundle).checks
    assert checks.agreement_inputs == 12
    assert checks.agreement is not None
    assert 0 <= checks.agreement <= 100

    monkeypatch.setattr(TaskSpec, "kept", lambda *_: 0.5)
    with pytest.raises(VerifyError, match=r"int8 keeps 50\.00% of float's answers to 12 inputs, less than 99%"):
        export(replace(asked, min_agreement=None))


def test_an_int8_graph_that_nobody_vouches_for_is_refused(int8_alone: Path, squad_file: Path, tmp_path: Path) -> None:
    (int8_alone / "manifest.json").unlink()
    options = ExportOptions(task="qa", from_onnx=int8_alone, dev=squad_file, out=tmp_path / "out")
    with pytest.raises(ExportError, match=r"model_quantized\.onnx is int8 already, .*; add the fp32 onnx/model"):
        export(options)
    (int8_alone / "halfdepth.json").write_text('{"file": "onnx/model_quantized.onnx"}')
    with pytest.raises(ExportError, match=r"no manifest says what it was made from; name a float graph as file"):
        export(options)


def test_an_int8_graph_alone_takes_no_flags_of_the_quantizer(
    int8_alone: Path, squad_file: Path, tmp_path: Path
) -> None:
    options = ExportOptions(
        task="qa", from_onnx=int8_alone, dev=squad_file, out=tmp_path / "out", keep_float=("layer.0",)
    )
    with pytest.raises(ExportError, match="contains only an int8 graph, which cannot be requantized"):
        export(options)


def test_an_int8_graph_alone_takes_no_limit_of_what_cannot_be_compared(
    int8_alone: Path, squad_file: Path, tmp_path: Path
) -> None:
    options = ExportOptions(task="qa", from_onnx=int8_alone, dev=squad_file, out=tmp_path / "out", min_agreement=99.5)
    with pytest.raises(UsageError, match="--min-agreement does nothing without a float graph to compare int8 with"):
        export(options)
    assert export(replace(options, min_agreement=0.0, max_metric_drop=100.0)).bundle.precision == "int8"


def test_somebody_elses_encoder_gets_its_pooled_embedding(bundles: dict[TaskName, Bundle], tmp_path: Path) -> None:
    root = bundles["similarity"].path.parent
    dev = root / "pairs.tsv"
    own = export(
        ExportOptions(
            task="similarity", student=root / "similarity-checkpoint", dev=dev, out=tmp_path / "own", int8=False
        )
    ).bundle
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(own.path / name, foreign / name)
    model = onnx.load(own.model_path)
    del model.graph.output[1]
    Graph(model).finish()  # without the nodes that pooled
    onnx.save(model, foreign / "model.onnx")
    (foreign / "halfdepth.json").write_text('{"pooling": "mean"}')
    bundle = export(
        ExportOptions(task="similarity", from_onnx=foreign, dev=dev, out=tmp_path / "out", int8=False)
    ).bundle
    assert graph_outputs(open_graph(bundle, threads=1)) == ["last_hidden_state", POOLED]
    run, task = load_bundle_run(bundle.path, "similarity")
    before, _ = load_bundle_run(own.path, "similarity")
    for window in parity_inputs(task, [EmbeddingInput("The lamp is red."), EmbeddingInput("red")], seed=0):
        np.testing.assert_allclose(run(window)[0], before(window)[0], atol=1e-5)
    assert (bundle.path / "modules.json").is_file()


def test_another_task_is_refused_in_one_line(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\na\tLABEL_0\nb\tLABEL_1\n")
    given = ["--task", "classify", "--from-onnx", str(foreign), "--dev", str(dev), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert "but classify reads logits with 2 axes; name another task, or export" in capsys.readouterr().err
