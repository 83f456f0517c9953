"""One command from an encoder to a bundle, which goes on where it stopped."""

import json
from pathlib import Path

import pytest
from transformers import AutoModel

from export import __main__ as command
from export import chain
from export.__main__ import main
from export.chain import is_ready, plan
from export.options import ExportOptions
from models.finetune.prepare import prepare
from models.tasks.bundle import load_bundle
from tests.models.finetune.mpnet import save_mpnet

SHORT = "--epochs 1 --batch-size 4 --no-bf16 --evaluate-every 1000"


@pytest.fixture
def given(tiny_teacher: Path, squad_file: Path, tmp_path: Path) -> list[str]:
    """An encoder without a head, and what it takes to make a bundle of it."""
    return [
        *("--task", "qa", "--teacher", str(tiny_teacher), "--train", str(squad_file), "--dev", str(squad_file)),
        *("--layers", "2", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "bundle")),
        *("--teacher-arguments", SHORT, "--student-arguments", SHORT, "--max-metric-drop", "100"),
    ]


def test_a_dry_run_prints_the_plan_and_does_nothing(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--dry-run"]) == 0
    teacher, student, bundle = capsys.readouterr().out.splitlines()
    assert teacher.startswith("to do     teacher: python -m models.finetune --task qa --train")
    assert "--layers 2" in student
    assert bundle.startswith("to do     bundle: python -m export --task qa")
    assert list(tmp_path.iterdir()) == []


def test_every_stage_reads_its_data_alike(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "--no-quoting", "--skip-bad", "--language", "zh", "--dry-run"]) == 0
    stages = capsys.readouterr().out.splitlines()
    assert len(stages) == 3
    assert all("--no-quoting --skip-bad --language zh" in stage for stage in stages)


def test_an_encoder_becomes_a_bundle_and_a_killed_run_repeats_no_finished_stage(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "export", killed)
        with pytest.raises(KeyboardInterrupt):
            main(given)
    assert not (tmp_path / "bundle").exists()

    def must_not_run(_: object) -> int:
        raise AssertionError("a finished stage ran again")

    monkeypatch.setattr(chain, "finetune", must_not_run)
    assert main(given) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest is not None
    assert manifest.name == "bundle"
    assert manifest.student.layers == 2
    assert manifest.teacher is not None
    assert manifest.teacher.layers == 4
    assert manifest.metrics.teacher is not None
    last = capsys.readouterr().out
    assert "rewrites: fold_constants, plain_attention, scale_queries, mask_in_keys, tokens_first" in last
    assert main([*given, "--dry-run"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["finished", "finished", "to"]


def test_a_stage_that_another_command_finished_is_not_taken_for_this_ones(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work" / "student").mkdir(parents=True)
    (tmp_path / "work" / "student" / "training.json").write_text('{"command": "python -m models.finetune --lr 1"}')
    assert main(given) == 2
    assert (
        "already contains a student trained with different arguments; choose another --work" in capsys.readouterr().err
    )


def test_a_stage_that_fails_ends_the_run_with_its_status(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given[given.index("--layers") + 1] = "9"
    given[given.index("--teacher") + 1] = str(tmp_path / "no" / "such" / "encoder")
    assert main(given) == 2
    assert "is neither a directory nor a name" in capsys.readouterr().err


def test_a_teacher_that_knows_the_task_is_not_fine_tuned(tiny_qa: dict[str, Path], tiny_teacher: Path) -> None:
    assert is_ready(str(tiny_qa["bert"]), "qa")
    assert not is_ready(str(tiny_teacher), "qa")
    assert not is_ready("an/encoder", "qa")
    assert is_ready("an/encoder", "similarity")
    options = ExportOptions(
        task="qa",
        teacher=str(tiny_qa["bert"]),
        train=(Path("train"),),
        dev=Path("dev"),
        out=Path("out"),
        layers="2",
        work=Path("work"),
        student_arguments="--epochs 2 --layers 1,3",
    )
    chain = plan(options)
    [student] = chain.stages
    assert (student.name, student.options.epochs, student.options.layers) == ("student", 2.0, "1,3")
    assert chain.teacher == str(tiny_qa["bert"])
    exported = chain.export_options(options)
    assert (exported.student, exported.teacher, exported.name) == (Path("work/student"), chain.teacher, "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--epochs 0", "--student-arguments: --epochs must be above 0"),
        ("--epoch-count 3", "--student-arguments: unrecognized arguments: --epoch-count 3"),
        ('--layers "3', "--student-arguments: No closing quotation"),
        ("--model other", "--student-arguments: give either --model (to fine-tune) or --teacher (to distil)"),
    ],
)
def test_flags_of_a_stage_are_read_before_anything_is_trained(
    text: str, message: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*given, "--student-arguments", text]) == 2
    assert capsys.readouterr().err.startswith(f"python -m export: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give exactly one of --train (with --teacher), --student and --from-onnx"),
        (["--student", "a", "--from-onnx", "b"], "give exactly one of"),
        (["--train", "a"], "--train needs --teacher"),
    ],
)
def test_what_it_begins_with_must_be_clear(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", "qa", "--dev", "d", "--out", "o", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layers", "9"], "a student of 9 layers cannot be cut from a teacher of 4"),
        (["--student-arguments", "--dev absent.json"], "cannot read absent.json"),
        (["--student-arguments", "--max-length 1000"], "--max-length 1000 is more than the 512 tokens"),
        (
            ["--layers", "3", "--student-arguments", "--student {qa}"],
            "is of kind 'bert' and a student of kind 'distilbert'",
        ),
        (
            ["--student-arguments", "--student-from {roberta}"],
            "cannot teach one student: their tokenizer differs (the ",
        ),
        (["--student-arguments", "--hard 0 --soft 0 --hidden 0 --relation 0"], "every loss is switched off"),
        (["--out", "{squad}"], "exists and is not a bundle; remove it or use a different --out"),
        (["--out", "{squad}/below"], "cannot be written (File exists); use a different --out"),
        (["--work", "{squad}"], "cannot be written (Not a directory); use a different --out"),
    ],
)
def test_what_a_later_stage_would_refuse_is_told_before_the_first(
    flags: list[str],
    message: str,
    given: list[str],
    tiny_qa: dict[str, Path],
    squad_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(chain, "finetune", lambda _: pytest.fail("a stage ran"))
    paths = {"qa": tiny_qa["bert"], "roberta": tiny_qa["roberta"], "squad": squad_file}
    assert main([*given, *(flag.format(**paths) for flag in flags)]) == 2
    assert message in capsys.readouterr().err


def test_sentences_that_cannot_be_read_are_told_before_the_first_stage(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chain, "finetune", lambda _: pytest.fail("a stage ran"))
    (tmp_path / "pairs.tsv").write_text("sentence1\tsentence2\tscore\nA day.\tA night.\t1\nA cat.\tA dog.\t2\n")
    given = ["--task", "similarity", "--teacher", tiny_teacher, "--train", tmp_path / "pairs.tsv"]
    given += ["--dev", tmp_path / "pairs.tsv", "--out", tmp_path / "bundle", "--work", tmp_path / "work"]
    assert main([*map(str, given), "--sentences", "absent.txt"]) == 2
    assert "cannot read absent.txt" in capsys.readouterr().err


def test_a_dev_set_that_tells_no_threshold_is_told_before_the_first_stage(
    given: list[str],
    squad_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(chain, "finetune", lambda _: pytest.fail("a stage ran"))
    content = json.loads(squad_file.read_text())
    for paragraph in (paragraph for article in content["data"] for paragraph in article["paragraphs"]):
        paragraph["qas"] = [question for question in paragraph["qas"] if question["answers"]]
    dev = tmp_path / "dev.json"
    dev.write_text(json.dumps(content))
    assert main([*given, "--dev", str(dev), "--calibrate-no-answer"]) == 2
    assert f"{dev} has no question without an answer, which --calibrate-no-answer needs" in capsys.readouterr().err


def test_a_teacher_that_the_export_could_not_measure_is_told_before_the_first_stage(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chain, "finetune", lambda _: pytest.fail("a stage ran"))
    monkeypatch.setattr("export.checkpoint.KINDS", ("distilbert",))
    assert main(given) == 2
    assert "model type 'bert' is not supported; supported are distilbert" in capsys.readouterr().err


def test_a_teacher_s_separators_are_those_that_its_stage_leaves(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path
) -> None:
    encoder = save_mpnet(tiny_teacher, tmp_path / "mpnet")
    AutoModel.from_pretrained(encoder).save_pretrained(encoder)  # without a head, so that it is fine-tuned first
    options = ExportOptions(
        task="qa",
        teacher=str(encoder),
        train=(squad_file,),
        dev=squad_file,
        out=tmp_path / "bundle",
        layers="2",
        work=tmp_path / "work",
        teacher_arguments="--one-separator",
        student_arguments=f"--student-from {tiny_teacher}",
    )
    teacher, student = plan(options).stages
    before = prepare(teacher.options)
    assert prepare(student.options, before).readers[0].ids is not None
