"""From checkpoint to bundle, for each kind of encoder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.__main__ import main
from export.checkpoint import ExportError
from export.graph import outliers
from export.options import ExportOptions
from export.pipeline import export
from export.verify import MAX_LOGIT_DIFFERENCE, VerifyError
from models.predict import load_bundle_run
from models.tasks.base import answerer
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.errors import UsageError
from models.tasks.manifest import Manifest
from models.tasks.qa import SPEC, threshold_of
from models.tasks.qa import build as qa_task
from tests.export.served import served

KINDS = ("bert", "distilbert", "roberta")
ANY_DROP = 100.0  # a random model's F1 is a matter of chance


@pytest.fixture(scope="session")
def bundles(tiny_qa: dict[str, Path], squad_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Each kind's bundle, with both graphs in it."""
    root = tmp_path_factory.mktemp("bundles")
    return {
        kind: export(
            ExportOptions(
                task="qa",
                student=tiny_qa[kind],
                teacher=str(tiny_qa["bert"]),
                dev=squad_file,
                out=root / kind,
                keep_fp32=True,
                max_metric_drop=ANY_DROP,
                min_agreement=0.0,
            )
        ).bundle
        for kind in KINDS
    }


def manifest_of(bundle: Bundle) -> Manifest:
    assert bundle.manifest is not None
    return bundle.manifest


@pytest.mark.parametrize("kind", KINDS)
def test_graph_equals_the_checkpoint_and_every_figure_is_recorded(bundles: dict[str, Bundle], kind: str) -> None:
    manifest = manifest_of(bundles[kind])
    assert 0.0 <= manifest.checks.max_logit_difference <= MAX_LOGIT_DIFFERENCE
    assert manifest.checks.parity_inputs == 12
    assert manifest.metrics.teacher is not None
    assert manifest.metrics.student_int8 is not None
    assert manifest.metrics.student_fp32["n_answerable"] == 10
    assert manifest.teacher is not None
    assert manifest.teacher.architecture == "BertForQuestionAnswering"
    assert manifest.student.architecture.lower() == f"{kind}forquestionanswering"


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_bundle_gives_its_golden_answers_again(bundles: dict[str, Bundle], kind: str) -> None:
    run, task = load_bundle_run(bundles[kind].path, "qa")
    answer = answerer(task, run)
    assert tuple(SPEC.record(item, answer(item)) for item in SPEC.golden_inputs) == manifest_of(bundles[kind]).golden


@pytest.mark.parametrize("kind", KINDS)
def test_batch_and_length_are_free_and_the_mask_hides_padding(bundles: dict[str, Bundle], kind: str) -> None:
    session = onnxruntime.InferenceSession(
        bundles[kind].path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_inputs()]
    assert ("token_type_ids" in names) == (kind == "bert")
    pad = bundles[kind].config["pad_token_id"]
    long, short = np.arange(10, 30), np.arange(30, 37)
    padded = np.stack([long, np.pad(short, (0, 13), constant_values=pad)])
    both = {"input_ids": padded, "attention_mask": np.stack([np.ones(20, int), np.arange(20) < 7]).astype(np.int64)}
    alone = {"input_ids": short[None], "attention_mask": np.ones((1, 7), np.int64)}
    for feed in (both, alone):
        feed["token_type_ids"] = np.zeros_like(feed["input_ids"])
    batch = session.run(None, {name: both[name] for name in names})
    single = session.run(None, {name: alone[name] for name in names})
    for together, by_itself in zip(batch, single, strict=True):
        assert together.shape == (2, 20)
        np.testing.assert_allclose(together[1, :7], by_itself[0], atol=1e-5)


def test_files_are_those_of_the_layout(bundles: dict[str, Bundle]) -> None:
    path = bundles["bert"].path
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    layout = {
        "README.md",
        "config.json",
        "manifest.json",
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert files == layout
    assert {record.path for record in manifest_of(bundles["bert"]).files} == layout - {"manifest.json"}
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_optimum_loads_the_bundle_as_its_card_says(bundles: dict[str, Bundle]) -> None:
    from optimum.onnxruntime import ORTModelForQuestionAnswering  # slow to import, and for this test alone
    from transformers import AutoTokenizer

    bundle = bundles["distilbert"]
    assert 'subfolder="onnx", file_name="model_quantized.onnx"' in (bundle.path / "README.md").read_text()
    model = ORTModelForQuestionAnswering.from_pretrained(
        bundle.path, subfolder="onnx", file_name="model_quantized.onnx"
    )
    item = SPEC.golden_inputs[0]
    encoded = AutoTokenizer.from_pretrained(bundle.path)(item.question, item.context, return_tensors="np")
    session, _ = served(bundle)
    start_logits, end_logits = session.run(qa_task(bundle).encode(item).windows[0])
    output = model(**encoded)
    np.testing.assert_allclose(output.start_logits[0], start_logits, atol=1e-5)
    np.testing.assert_allclose(output.end_logits[0], end_logits, atol=1e-5)


@pytest.mark.parametrize("begins_with", ["student", "from_onnx"])
def test_a_threshold_comes_from_its_flag_or_halfdepth_json(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path, begins_with: str
) -> None:
    origin = Path(shutil.copytree(tiny_qa["distilbert"], tmp_path / "student"))
    options = ExportOptions(task="qa", student=origin, dev=squad_file, out=tmp_path / "plain", int8=False)
    if begins_with == "from_onnx":
        plain = export(options).bundle
        assert qa_task(plain).thresholds == (None, ())
        origin = plain.path
        options = replace(options, student=None, from_onnx=origin, out=tmp_path / "out")
    (origin / "halfdepth.json").write_text('{"no_answer_threshold": 0.5}')
    assert qa_task(export(options).bundle).thresholds == (0.5, ())
    flagged = export(replace(options, no_answer_threshold=-0.25)).bundle
    assert qa_task(flagged).thresholds == (-0.25, ())
    assert not (flagged.path / "halfdepth.json").exists()
    by_tokens = export(replace(options, no_answer_by_tokens=("8=-1", "64=2.5"))).bundle
    assert threshold_of(qa_task(by_tokens).thresholds, 64) == 2.5
    (origin / "halfdepth.json").write_text('{"no_answer_threshold_by_tokens": [[8, 1], [16, 2]]}')
    kept = export(options).bundle
    assert (threshold_of(qa_task(kept).thresholds, 1), threshold_of(qa_task(kept).thresholds, 99)) == (1.0, 2.0)


def test_the_threshold_may_be_found_on_the_dev_set(tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        task="qa", student=tiny_qa["bert"], dev=squad_file, out=tmp_path / "out", int8=False, calibrate_no_answer=True
    )
    bundle = export(options).bundle
    figures = manifest_of(bundle).metrics.student_fp32
    assert qa_task(bundle).thresholds[0] == pytest.approx(figures["best_threshold"], abs=1e-3)
    assert figures["f1_all"] == figures["best_f1_all"]

    answerable = json.loads(squad_file.read_text())
    for article in answerable["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [entry for entry in paragraph["qas"] if entry["answers"]]
    (tmp_path / "dev.json").write_text(json.dumps(answerable))
    with pytest.raises(ExportError, match=r"dev\.json has no question without an answer, which --calibrate-no-answer"):
        export(replace(options, dev=tmp_path / "dev.json"))
    for flag in ({"no_answer_threshold": 0.0}, {"no_answer_by_tokens": ("8=1",)}):
        with pytest.raises(UsageError, match="not both"):
            replace(options, **flag)


@pytest.mark.parametrize(("seconds", "duration"), [(88, "88 seconds"), (120, "2 minutes")])
def test_threshold_and_training_reach_bundle_and_card(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path, seconds: int, duration: str
) -> None:
    student = Path(shutil.copytree(tiny_qa["distilbert"], tmp_path / "student"))
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(config | {"no_answer_threshold": 0.25}))
    data = [{"name": name, "sha256": digit * 64, "bytes": 1} for name, digit in (("qamr.json", "1"), ("own.json", "2"))]
    training = {"command": "train", "seed": 1, "seconds": seconds, "source": "tiny-teacher", "data": data}
    (student / "training.json").write_text(json.dumps(training))

    options = ExportOptions(task="qa", student=student, dev=squad_file, out=tmp_path / "out", int8=False, name="named")
    bundle = export(options).bundle
    manifest = manifest_of(bundle)
    assert (bundle.name, bundle.precision, manifest.quantization) == ("named", "fp32", None)
    assert qa_task(bundle).thresholds == (0.25, ())
    assert "f1_all" in manifest.metrics.student_fp32
    assert [(record.name, record.licence) for record in manifest.data] == [
        ("qamr.json", "MIT"),
        ("own.json", None),
        ("tiny_squad.json", None),
    ]
    card = (bundle.path / "README.md").read_text()
    assert "| `qamr.json` | train | QAMR, dev and test (Michael et al. 2018) | MIT |" in card
    assert "| `own.json` | train | not stated | not stated |" in card
    assert f"- student: `train` ({duration})" in card
    assert "parameters. Its training began from tiny-teacher." in card
    assert "Trained to say that a passage holds no answer" in card


def test_failed_check_writes_nothing_and_keeps_the_old_bundle(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ExportOptions(
        task="qa", student=tiny_qa["distilbert"], dev=squad_file, out=out, max_metric_drop=ANY_DROP, min_agreement=0.0
    )
    before = export(options).bundle.revision
    with pytest.raises(VerifyError, match=r"the loss of int8 in points of f1 on dev is .*, above the limit of -101 "):
        export(replace(options, max_metric_drop=-101.0))
    assert load_bundle(out).revision == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_outliers_are_moved_unless_it_is_unwanted(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outliers, "QUANTILE", 0.5)  # random weights have no outliers
    options = ExportOptions(
        task="qa", student=tiny_qa["bert"], dev=squad_file, out=tmp_path / "out", max_metric_drop=ANY_DROP
    )
    options = replace(options, min_agreement=0.0)
    smoothed, plain = (
        manifest_of(export(replace(options, smooth=smooth)).bundle).quantization for smooth in (True, False)
    )
    assert smoothed is not None
    assert plain is not None
    assert any("output/dense" in node for node in smoothed.smoothed_nodes)
    assert plain.smoothed_nodes == ()


def test_directory_that_is_no_bundle_is_never_replaced(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ExportError, match="exists and is not a bundle"):
        export(ExportOptions(task="qa", student=tiny_qa["bert"], dev=squad_file, out=tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_wrong_arguments_exit_with_status_2_and_one_line(
    tiny_teacher: Path,
    tiny_qa: dict[str, Path],
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--task", "qa", "--out", str(tmp_path / "out")]
    assert main([*given, "--dev", str(squad_file), "--student", str(tiny_teacher)]) == 2
    assert main([*given, "--dev", str(tmp_path / "absent.json"), "--student", str(tiny_qa["bert"])]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "fine-tune it first" in lines[0]
    assert "absent.json" in lines[1]
    assert not (tmp_path / "out").exists()
