"""General distillation from the command line, on a tiny encoder: to the end, broken off, and refused."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForMaskedLM, DistilBertForMaskedLM

from models.pretrain.__main__ import main
from models.pretrain.loss_log import LossLog
from models.pretrain.options import PretrainOptions
from models.pretrain.run import pretrain
from models.tasks.options import read_options
from tests.conftest import PARAGRAPHS
from tests.models.pretrain.torchrun import run_in_two_processes


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(line for lines in PARAGRAPHS.values() for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def masked_teacher(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny teacher with a head for masked tokens, which is random as all of it is."""
    path = tmp_path_factory.mktemp("checkpoints") / "masked-teacher"
    shutil.copytree(tiny_teacher, path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM.from_pretrained(tiny_teacher).save_pretrained(path)
    return path


def command(teacher: Path, text: Path, out: Path, *options: str) -> list[str]:
    data = ["--teacher", str(teacher), "--train", str(text), "--dev", str(text), "--cache", str(text.parent / "cache")]
    loop = ["--batch-size", "1", "--max-length", "32", "--log-every", "1", "--lr", "3e-3", "--no-bf16"]
    return [*data, *loop, "--out", str(out), *options]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "losses.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_a_teacher_without_a_head_gets_one_and_hands_down_what_it_knows(
    tiny_teacher: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "student", ("--epochs", "30")
    argv = command(tiny_teacher, text, out, *options)
    assert main(argv) == 2
    assert "has no head for masked tokens; --train-mlm-head fits one" in capsys.readouterr().err
    assert main([*argv, "--train-mlm-head", "--head-epochs", "10"]) == 0
    figures = json.loads(capsys.readouterr().out)

    student = DistilBertForMaskedLM.from_pretrained(out)
    assert student.config.n_layers == 2  # half of four
    assert AutoTokenizer.from_pretrained(out).mask_token == "[MASK]"
    rows = rows_of(out)
    assert float(rows[-2]["total"]) < 0.8 * float(rows[0]["total"])
    assert rows[-1]["split"] == "dev"
    assert float(rows[-1]["total"]) == pytest.approx(figures["total"], rel=1e-5)
    record = json.loads((out / "training.json").read_text())
    assert record["command"].startswith("python -m models.pretrain --teacher")
    assert record["mlm_head"]["fitted"] == "decoder tied to the word embeddings, encoder frozen"
    assert [source["name"] for source in record["data"]] == ["text.txt"]
    assert record["metrics"] == {"text.txt": figures}
    assert not list(out.rglob("checkpoint-*"))

    given, fitted = load_file(tiny_teacher / "model.safetensors"), load_file(out / "teacher" / "model.safetensors")
    assert all(torch.equal(fitted[f"bert.{name}"], weight) for name, weight in given.items() if "pooler" not in name)

    assert main(argv) == 2
    assert "holds a finished run; use a different --out" in capsys.readouterr().err


def test_layers_that_the_teacher_lacks_are_told_before_a_head_is_fitted(
    tiny_teacher: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_teacher, text, tmp_path / "out", "--train-mlm-head", "--layers", "9")) == 2
    assert "a student of 9 layers cannot be cut from a teacher of 4" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_directory_that_holds_another_model_is_not_written_to(
    masked_teacher: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(masked_teacher, tmp_path / "other")
    for out, reason in ((other, "holds another model"), (masked_teacher, "is the directory of a model that the run")):
        assert main(command(masked_teacher, text, out)) == 2
        assert reason in capsys.readouterr().err


def test_sigterm_leaves_a_checkpoint_from_which_the_run_ends_as_an_unbroken_one(
    masked_teacher: Path,
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--epochs", "4", "--accumulate", "2", "--evaluate-every", "3")
    assert main(command(masked_teacher, text, tmp_path / "whole", *options)) == 0

    def write_and_terminate(self: LossLog, split: str, progress: dict[str, float], values: dict[str, float]) -> None:
        write(self, split, progress, values)
        if progress["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    write = LossLog.write
    with monkeypatch.context() as patch:
        patch.setattr(LossLog, "write", write_and_terminate)
        assert main(command(masked_teacher, text, tmp_path / "broken", *options)) == 143
    assert "stopped by SIGTERM at step 6; run the same command to continue" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint-*")] == ["checkpoint-00000006.pt"]
    assert main(command(masked_teacher, text, tmp_path / "broken", *options)) == 0

    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "whole")
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_run_that_was_killed_behind_its_last_step_has_its_figures(
    masked_teacher: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--epochs", "1", "--checkpoint-every", "1")
    assert main(command(masked_teacher, text, tmp_path / "whole", *options)) == 0

    def killed(_: LossLog) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LossLog, "plot", killed)
        with pytest.raises(KeyboardInterrupt):
            main(command(masked_teacher, text, tmp_path / "killed", *options))
    assert main(command(masked_teacher, text, tmp_path / "killed", *options)) == 0
    whole, ended = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("whole", "killed"))
    assert ended["metrics"] == whole["metrics"]
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def test_two_processes_train_as_one_that_accumulates_twice_as_much(
    masked_teacher: Path, text: Path, tmp_path: Path
) -> None:
    assert main(command(masked_teacher, text, tmp_path / "one", "--epochs", "3", "--accumulate", "2")) == 0
    argv = command(masked_teacher, text, tmp_path / "two", "--epochs", "3")
    run_in_two_processes("-m", "models.pretrain", *argv)
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert [row["tokens"] for row in one] == [row["tokens"] for row in two]
    for own, its in zip(one, two, strict=True):
        assert float(own["total"]) == pytest.approx(float(its["total"]), rel=1e-3)
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2


def test_the_first_weights_are_the_teachers_or_random_as_asked(
    masked_teacher: Path, text: Path, tmp_path: Path
) -> None:
    first = {}
    for init in ("teacher", "random"):
        assert (
            main(command(masked_teacher, text, tmp_path / init, "--init", init, "--epochs", "1", "--lr", "1e-9")) == 0
        )
        first[init] = load_file(tmp_path / init / "model.safetensors")
    name = "distilbert.transformer.layer.1.ffn.lin1.weight"
    teacher = load_file(masked_teacher / "model.safetensors")["bert.encoder.layer.2.intermediate.dense.weight"]
    torch.testing.assert_close(first["teacher"][name], teacher, atol=1e-6, rtol=0)
    assert not torch.allclose(first["random"][name], teacher, atol=1e-2)


def test_random_weights_may_be_of_another_depth_and_width(masked_teacher: Path, text: Path, tmp_path: Path) -> None:
    options = ("--init", "random", "--layers", "6", "--hidden-size", "16", "--cosine", "0", "--epochs", "1")
    assert main(command(masked_teacher, text, tmp_path / "student", *options)) == 0
    config = DistilBertForMaskedLM.from_pretrained(tmp_path / "student").config
    assert (config.n_layers, config.dim, config.n_heads, config.hidden_dim) == (6, 16, 2, 32)


def test_another_width_has_no_cosine_with_the_teachers(
    masked_teacher: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(masked_teacher, text, tmp_path / "student", "--init", "random", "--hidden-size", "16")) == 2
    assert "--hidden-size requires --init random and --cosine 0" in capsys.readouterr().err


def test_a_cosine_alone_leaves_the_head_as_it_was(masked_teacher: Path, text: Path, tmp_path: Path) -> None:
    options = ("--soft", "0", "--mlm", "0", "--epochs", "1", "--init", "random")
    assert main(command(masked_teacher, text, tmp_path / "student", *options)) == 0
    bias = load_file(tmp_path / "student" / "model.safetensors")["vocab_projector.bias"]
    assert not bias.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--layers", "0,7"),
            "--layers 0,7: layer numbers must be in ascending order, without repeats, between 0 and 3",
        ),
        (("--layers", "9"), "a student of 9 layers cannot be cut from a teacher of 4"),
        (("--soft", "0", "--mlm", "0", "--cosine", "0"), "every loss is switched off"),
        (("--init", "random", "--cosine", "0", "--hidden-size", "20"), "a width of 20 does not split into heads of 8"),
        (("--head-epochs", "2"), "--head-epochs does nothing without --train-mlm-head; remove it"),
        (("--max-length", "600"), "--max-length 600 is more than the 512 tokens that "),
        (("--mlm", "-1"), "--mlm must be at least 0, not -1.0"),
        (("--train", "absent.txt"), "absent.txt is not a text file"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    masked_teacher: Path,
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert main(command(masked_teacher, text, tmp_path / "student", *options)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("python -m models.pretrain: ")
    assert said in error


@pytest.mark.parametrize("flag", ["--epochs", "--accumulate", "--keep"])
def test_numbers_that_must_be_above_0_are_checked(
    text: Path, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, text, tmp_path / "student", flag, "0")) == 2
    assert f"{flag} must be above 0" in capsys.readouterr().err


def test_a_bug_of_ours_is_not_reported_as_bad_input(
    masked_teacher: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("temperature must be above 0")

    monkeypatch.setattr("models.pretrain.objective.soft_target_loss", broken)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        main(command(masked_teacher, text, tmp_path / "student"))


def test_a_teacher_that_no_library_can_read_is_bad_input(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "no-such-type"}')
    assert main(command(tmp_path / "odd", text, tmp_path / "student")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"python -m models.pretrain: {tmp_path / 'odd'} cannot be loaded: ")


def test_pretraining_is_called_from_python_with_the_same_options(
    masked_teacher: Path, text: Path, tmp_path: Path
) -> None:
    argv = command(masked_teacher, text, tmp_path / "typed", "--epochs", "1")
    assert main(argv) == 0
    options = read_options(PretrainOptions, "prog", command(masked_teacher, text, tmp_path / "python", "--epochs", "1"))
    figures = pretrain(options)
    records = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("typed", "python")]
    assert records[0]["metrics"] == records[1]["metrics"] == {"text.txt": figures}
    assert records[1]["command"].startswith(f"python -m models.pretrain --teacher {masked_teacher} --train {text}")
