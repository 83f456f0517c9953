"""The loop on a tiny encoder: it learns, it distils, and a killed run ends as an unbroken one would."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel
from transformers import AutoModel, DistilBertModel

from export.__main__ import main as export
from models.checkpoint import PATTERN, Checkpoint
from models.evaluate import main as evaluate
from models.finetune.__main__ import main
from models.finetune.loop import JudgedProgress, append_log
from models.student import make_student


def train(squad: Path, out: Path, *options: str) -> int:
    data = ["--train", str(squad), "--dev", str(squad), "--max-length", "64", "--doc-stride", "8"]
    return main(["--task", "qa", *data, "--batch-size", "2", "--lr", "3e-3", "--out", str(out), *options])


def test_a_teacher_learns_and_its_student_learns_from_it(tiny_teacher: Path, squad_file: Path, tmp_path: Path) -> None:
    epochs = ("--epochs", "40", "--evaluate-every", "40", "--patience", "100", "--no-freeze-embeddings", "--no-bf16")
    assert train(squad_file, tmp_path / "teacher", "--model", str(tiny_teacher), *epochs) == 0
    assert (
        train(squad_file, tmp_path / "student", "--teacher", str(tmp_path / "teacher"), "--layers", "2", *epochs) == 0
    )
    for name, source in (("teacher", "tiny-teacher"), ("student", "teacher")):
        record = json.loads((tmp_path / name / "training.json").read_text())
        assert record["metrics"]["tiny_squad.json"]["f1"] == 100.0
        assert record["source"] == source
        assert [data["name"] for data in record["data"]] == ["tiny_squad.json"]
        assert not list((tmp_path / name).glob(PATTERN))
    (teacher,) = record["teachers"]
    assert (teacher["name"], teacher["source"]) == ("teacher", "tiny-teacher")
    assert teacher["architecture"] == "BertForQuestionAnswering"
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForQuestionAnswering"]
    assert config["n_layers"] == 2
    assert isinstance(config["no_answer_threshold"], float)
    rows = [json.loads(line) for line in (tmp_path / "student" / "log.jsonl").read_text().splitlines()]
    assert {"hard", "soft", "hidden", "relation"} <= set(rows[0])
    assert rows[-2]["soft"] < rows[0]["soft"]


def rows_of(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("ema", ["0", "0.5"])
def test_a_killed_run_goes_on_to_the_same_weights(
    ema: str, tiny_teacher: Path, squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "--model",
        str(tiny_teacher),
        "--epochs",
        "6",
        "--evaluate-every",
        "5",
        "--checkpoint-every",
        "4",
        "--dropout",
        "0.1",
        "--ema",
        ema,
    )
    assert train(squad_file, tmp_path / "whole", *options) == 0

    save, saved = Checkpoint.save, []

    def save_and_die(self: Checkpoint, progress: dict[str, object]) -> None:
        save(self, progress)
        saved.append(progress["step"])
        append_log(tmp_path / "killed", {"step": 5, "f1": 0.0})  # what the run may have logged before it was killed
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(squad_file, tmp_path / "killed", *options)
    assert saved == [4]
    assert train(squad_file, tmp_path / "killed", *options) == 0

    whole = load_file(tmp_path / "whole" / "model.safetensors")
    resumed = load_file(tmp_path / "killed" / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def test_the_moving_average_of_the_weights_is_what_is_judged_and_saved(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, steps = AveragedModel.update_parameters, []

    def watched(self: AveragedModel, model: torch.nn.Module) -> None:
        update(self, model)
        steps.append({name: weight.clone() for name, weight in model.state_dict().items()})

    monkeypatch.setattr(AveragedModel, "update_parameters", watched)
    options = ("--model", str(tiny_teacher), "--epochs", "3", "--evaluate-every", "1000", "--ema", "0.75")
    assert train(squad_file, tmp_path / "out", *options) == 0
    saved = load_file(tmp_path / "out" / "model.safetensors")
    expected, *later = steps
    assert later
    for weights in later:
        expected = {name: 0.75 * average + 0.25 * weights[name] for name, average in expected.items()}
    for name, weight in saved.items():
        torch.testing.assert_close(weight, expected[name])
    assert any(not torch.equal(weight, steps[-1][name]) for name, weight in saved.items())


def test_a_finished_run_is_not_overwritten(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(squad_file, tmp_path / "out", "--model", str(tiny_teacher)) == 0
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert train(squad_file, tmp_path / "out", "--model", str(tiny_teacher)) == 2
    assert "holds a finished run; use a different --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_every_kind_is_fine_tuned_and_distilled(
    kind: str, tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    assert train(squad_file, tmp_path / "teacher", "--model", str(tiny_qa[kind]), "--dropout", "0.1") == 0
    options = ("--teacher", str(tmp_path / "teacher"), "--layers", "1", "--accumulate", "2")
    assert train(squad_file, tmp_path / "student", *options) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (config["model_type"], config["n_layers"]) == ("distilbert", 1)


def test_training_stops_early_when_the_dev_set_gains_no_more(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path
) -> None:
    options = (
        "--model",
        str(tiny_teacher),
        "--epochs",
        "100",
        "--evaluate-every",
        "1",
        "--patience",
        "3",
        "--lr",
        "1e-9",
    )
    assert train(squad_file, tmp_path / "out", *options) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4  # the first evaluation gains, the next three do not


def test_an_evaluation_without_a_figure_is_no_gain() -> None:
    progress = JudgedProgress()
    gains = [progress.judge(figure, {"f1": figure}) for figure in (math.nan, 50.0, math.nan, 50.0, 51.0)]
    assert gains == [False, True, False, False, True]
    assert (progress.best, progress.metrics, progress.without_gain) == (51.0, {"f1": 51.0}, 0)


def test_a_killed_run_ends_where_less_patience_would_have_ended_it(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--model", str(tiny_teacher), "--epochs", "100", "--evaluate-every", "1", "--lr", "1e-9")
    assert train(squad_file, tmp_path / "whole", *options, "--patience", "3") == 0
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, progress: dict[str, object]) -> None:
        save(self, progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(squad_file, tmp_path / "killed", *options, "--patience", "50", "--checkpoint-every", "4")
    assert train(squad_file, tmp_path / "killed", *options, "--patience", "3") == 0
    whole, ended = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], ended[name]) for name in whole)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layers", "9"], "a student of 9 layers cannot be cut from a teacher of 4"),
        (["--layers", "3,1"], "in ascending order"),
        (["--train", "absent.json"], "cannot read absent.json"),
        (["--teacher", "/no/such/model"], "neither a directory nor a name on the Hugging Face Hub"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_line(
    tiny_teacher: Path,
    squad_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    capsys.readouterr()
    assert train(squad_file, tmp_path / "out", "--teacher", str(tiny_teacher), *options) == 2
    assert said in capsys.readouterr().err


TEXTS = [("a good day", "good"), ("good and fine", "good"), ("all was bad", "bad"), ("bad, very bad", "bad")]


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def learn(task: str, train: Path, out: Path, *options: str, dev: Path | None = None) -> int:
    data = ["--train", str(train), "--dev", str(dev or train), "--out", str(out)]
    loop = ["--batch-size", "2", "--lr", "3e-3", "--no-freeze-embeddings", "--no-bf16", "--patience", "100"]
    return main(["--task", task, *data, *loop, *options])


def test_a_classifier_is_fine_tuned_and_distilled_with_texts_that_have_no_label(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", *("\t".join(row) for row in TEXTS))
    more = write(tmp_path / "more.txt", "A good one. A bad one!", "Neither here nor there.")
    assert learn("classify", train, tmp_path / "teacher", "--model", str(tiny_teacher), "--epochs", "30") == 0
    options = ("--teacher", str(tmp_path / "teacher"), "--layers", "2", "--unlabelled", str(more), "--epochs", "30")
    assert learn("classify", train, tmp_path / "student", *options) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["problem_type"] == "single_label_classification"
    record = json.loads((tmp_path / "student" / "training.json").read_text())
    assert record["metrics"]["train.tsv"]["accuracy"] == 100.0
    assert [data["name"] for data in record["data"]] == ["train.tsv", "more.txt"]


def test_several_teachers_teach_one_student_and_its_record_names_them_and_all_data(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", *("\t".join(row) for row in TEXTS))
    others = write(tmp_path / "others.tsv", "text\tlabel", *("\t".join(row) for row in TEXTS[::-1]))
    teachers = [tmp_path / "first", tmp_path / "second"]
    for teacher, data in zip(teachers, (train, others), strict=True):
        assert learn("classify", data, teacher, "--model", str(tiny_teacher), "--epochs", "30") == 0
    options = ("--teacher", *map(str, teachers), "--layers", "2", "--epochs", "30", "--ema", "0.5", "--hard", "0")
    assert learn("classify", train, tmp_path / "student", *options) == 0
    record = json.loads((tmp_path / "student" / "training.json").read_text())
    assert record["metrics"]["train.tsv"]["accuracy"] == 100.0
    assert record["source"] == "first, second"
    assert [teacher["name"] for teacher in record["teachers"]] == ["first", "second"]
    assert [data["name"] for data in record["data"]] == ["train.tsv", "others.tsv"]


def test_several_labels_of_a_text_or_none_are_learned_and_distilled(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("a good day\tgood|day", "good and fine\tgood", "all was bad\tbad", "a bad day\tbad|day", "the lamp\t")
    train = write(tmp_path / "train.tsv", "text\tlabel", *rows)
    options = ("--multi-label", "--epochs", "60")
    assert learn("classify", train, tmp_path / "teacher", "--model", str(tiny_teacher), *options) == 0
    origin = ("--teacher", str(tmp_path / "teacher"), "--layers", "2")
    assert learn("classify", train, tmp_path / "student", *options, *origin) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "bad", "1": "day", "2": "good"}
    record = json.loads((tmp_path / "student" / "training.json").read_text())
    assert record["metrics"]["train.tsv"] == {"n": 5.0, "accuracy": 100.0, "f1": 100.0}
    common, student = ("--task", "classify", "--dev", str(train)), str(tmp_path / "student")
    assert evaluate([*common, "--checkpoint", student]) == 0
    out = str(tmp_path / "bundle")
    assert export([*common, "--student", student, "--out", out, "--max-metric-drop", "100"]) == 0
    capsys.readouterr()
    assert evaluate([*common, "--bundle", out]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 5


def test_an_embedding_student_comes_close_to_its_teacher(tiny_teacher: Path, tmp_path: Path) -> None:
    sentences = write(tmp_path / "text.txt", *(f"{text}. {label} it was!" for text, label in TEXTS))
    dev = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "good day\tfine day\t4", "good\tbad\t1", "a\tb\t2")
    options = ("--teacher", str(tiny_teacher), "--layers", "2", "--epochs", "40", "--evaluate-every", "1000")
    assert learn("similarity", sentences, tmp_path / "student", *options, "--max-length", "64", dev=dev) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertModel"]
    limit = json.loads((tmp_path / "student" / "sentence_bert_config.json").read_text())
    assert limit["max_seq_length"] == 64
    rows = [json.loads(line) for line in (tmp_path / "student" / "log.jsonl").read_text().splitlines()]
    assert rows[-2]["hard"] < 0.5 * rows[0]["hard"]
    assert "spearman" in rows[-1]
    assert not list((tmp_path / "student").glob("*.npy"))


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("similarity", ["--model"], "a similarity model learns from a sentence encoder; name one by --teacher"),
        ("classify", ["--unlabelled", "README.md", "--model"], "texts without labels teach nothing without a teacher"),
        (
            "classify",
            ["--teacher"],
            "hold the label 'bad', 'good', and the teacher knows LABEL_0, LABEL_1",
        ),
    ],
)
def test_data_that_the_task_cannot_use_end_with_status_2(
    tiny_teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    options: list[str],
    said: str,
) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", *("\t".join(row) for row in TEXTS))
    dev = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "a\tb\t1")
    capsys.readouterr()
    given = (*options, str(tiny_teacher))
    assert learn(task, train, tmp_path / "out", *given, dev=dev if task == "similarity" else None) == 2
    assert said in capsys.readouterr().err


def test_labels_of_the_dev_set_that_the_training_files_lack_are_told_before_any_work(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", *("\t".join(row) for row in TEXTS))
    dev = write(tmp_path / "dev.tsv", "text\tlabel", "a day\tgood", "a night\t1")
    assert learn("classify", train, tmp_path / "out", "--model", str(tiny_teacher), dev=dev) == 2
    assert "dev.tsv: the model has no label '1'; its labels are bad, good" in capsys.readouterr().err
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_rows_and_questions_that_cannot_be_used_are_left_out_on_request_and_recorded(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(squad_file.read_text())
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    content["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"] = "False"
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content))
    options = ("--model", str(tiny_teacher), "--epochs", "1", "--evaluate-every", "1000")
    assert train(broken, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert "broken.json: 2 questions cannot be used: question q0: 'Anna Lindqvist' does not stand at" in error
    assert "or give --skip-bad to go on without them" in error
    assert train(broken, tmp_path / "out", *options, "--skip-bad") == 0
    assert "question q1: `is_impossible` is 'False', and must be true or false; left out" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [(file["name"], file["skipped"]) for file in record["data"]] == [("broken.json", 2)]
    assert record["metrics"]["broken.json"]["n"] == 10
    assert record["metrics"]["broken.json"]["skipped"] == 2


def test_tables_without_quoting_are_read_as_glue_writes_them(tiny_teacher: Path, tmp_path: Path) -> None:
    rows = ['"A warm day\tgood', "A dull day\tbad", 'and left"\tbad']
    data = write(tmp_path / "glue.tsv", "sentence\tlabel", *rows)
    options = ("--model", str(tiny_teacher), "--epochs", "1")
    assert learn("classify", data, tmp_path / "out", *options) == 2
    assert learn("classify", data, tmp_path / "out", *options, "--no-quoting") == 0
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["metrics"]["glue.tsv"]["n"] == 3
    assert "skipped" not in record["data"][0]


def test_an_embedding_student_has_one_teacher(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path / "text.txt", "One.")
    assert learn("similarity", text, tmp_path / "out", "--teacher", str(tiny_teacher), str(tiny_teacher)) == 2
    assert "learns the embeddings of one teacher; give --teacher only one name" in capsys.readouterr().err


def test_one_label_is_nothing_to_learn(tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", "a\tsame", "b\tsame")
    assert learn("classify", train, tmp_path / "out", "--model", str(tiny_teacher)) == 2
    assert "contain only one label (same)" in capsys.readouterr().err


def test_a_student_that_saw_no_task_yet_gets_its_teachers_labels(tiny_teacher: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", "text\tlabel", *("\t".join(row) for row in [*TEXTS, ("so so", "neither")]))
    assert learn("classify", train, tmp_path / "teacher", "--model", str(tiny_teacher)) == 0
    plain = make_student(AutoModel.from_pretrained(tiny_teacher), DistilBertModel, (0, 2))
    plain.save_pretrained(tmp_path / "plain")
    origin = ("--teacher", str(tmp_path / "teacher"), "--student", str(tmp_path / "plain"))
    assert learn("classify", train, tmp_path / "student", *origin) == 0
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "neither"}


@pytest.mark.parametrize(
    ("row", "said"),
    [("good " * 90 + "\t" + "bad " * 90 + "\tgood", "both texts are too long for windows")],
)
def test_a_pair_that_no_window_holds_is_told_in_one_line(
    tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, said: str
) -> None:
    train = write(tmp_path / "train.tsv", "text\ttext_pair\tlabel", "a\tb\tbad", row)
    assert learn("classify", train, tmp_path / "out", "--model", str(tiny_teacher), "--max-length", "64") == 2
    assert said in capsys.readouterr().err
