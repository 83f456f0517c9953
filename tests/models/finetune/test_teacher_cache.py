"""What teachers say is kept once, goes on where it stopped, and teaches what the teachers themselves would."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DistilBertForQuestionAnswering

from models.data import Item, collate
from models.finetune import teacher_cache
from models.finetune.__main__ import main
from models.finetune.objective import Objective, Weights
from models.finetune.qa import QARecipe, encode_examples
from models.finetune.teacher_cache import taught_items
from models.squad import read_squad
from models.student import make_student
from models.tasks.qa import QuestionAnswering
from tests.models.finetune.mpnet import save_mpnet

CPU = torch.device("cpu")
RECIPE = QARecipe.__new__(QARecipe)  # its losses need none of what it is made of


@pytest.fixture
def items(tiny_teacher: Path, squad_file: Path) -> list[Item]:
    task = QuestionAnswering(AutoTokenizer.from_pretrained(tiny_teacher).backend_tokenizer, max_length=32)
    return encode_examples(task, read_squad(squad_file), doc_stride=8)


def test_losses_from_the_cache_are_those_of_the_teachers(
    items: list[Item], tiny_qa: dict[str, Path], tmp_path: Path
) -> None:
    teachers = [AutoModelForQuestionAnswering.from_pretrained(tiny_qa["bert"]).eval() for _ in range(2)]
    with torch.no_grad():
        teachers[1].qa_outputs.weight.neg_()
    student = make_student(teachers[0], DistilBertForQuestionAnswering, (0,)).eval()
    kept = taught_items(tmp_path, teachers, RECIPE, items, bf16=False)
    weights = Weights(0.3, 0.7)
    with torch.no_grad():
        live = Objective(student, teachers, RECIPE, weights)(collate(items, pad_token_id=0, device=CPU))
        cached = Objective(student, [], RECIPE, weights)(collate(kept, pad_token_id=0, device=CPU))
    assert live.keys() == cached.keys() == {"hard", "soft"}
    for name, loss in live.items():
        assert abs(float(loss - cached[name])) < 1e-3


def test_a_cache_is_read_again_and_another_teacher_has_its_own(
    items: list[Item], tiny_qa: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = AutoModelForQuestionAnswering.from_pretrained(tiny_qa["bert"]).eval()
    first = taught_items(tmp_path, [teacher], RECIPE, items, bf16=False)
    with monkeypatch.context() as patch:
        patch.setattr(teacher_cache, "ask", None)  # nobody is asked again
        again = taught_items(tmp_path, [teacher], RECIPE, items, bf16=False)
    for one, other in zip(first, again, strict=True):
        assert one.taught is not None
        assert other.taught is not None
        np.testing.assert_array_equal(one.taught, other.taught)
        assert one.taught.shape == (1, 2, len(one.window))
    with torch.no_grad():
        teacher.qa_outputs.bias.add_(1)
    taught_items(tmp_path, [teacher], RECIPE, items, bf16=False)
    assert len(list(tmp_path.glob("logits-*.f16"))) == 2


def test_a_cache_that_was_cut_short_is_finished_and_not_begun_anew(
    items: list[Item], tiny_qa: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = AutoModelForQuestionAnswering.from_pretrained(tiny_qa["bert"]).eval()
    whole = taught_items(tmp_path / "whole", [teacher], RECIPE, items, bf16=False)
    monkeypatch.setattr(teacher_cache, "TOKENS", {"cpu": 64})
    monkeypatch.setattr(teacher_cache, "KEEP_EVERY", 1)
    ask = teacher_cache.ask
    asked: list[int] = []

    def ask_and_die(*arguments: object, **options: object) -> object:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(1)
        return ask(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(teacher_cache, "ask", ask_and_die)
    with pytest.raises(KeyboardInterrupt):
        taught_items(tmp_path / "cut", [teacher], RECIPE, items, bf16=False)
    counter = next((tmp_path / "cut").glob("*.json"))
    assert json.loads(counter.read_text()) == {"batches": 2}
    batches = len(list(teacher_cache._batches([len(item.window) for item in items], 64)))
    asked.clear()

    def ask_and_count(*arguments: object, **options: object) -> object:
        asked.append(1)
        return ask(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(teacher_cache, "ask", ask_and_count)
    finished = taught_items(tmp_path / "cut", [teacher], RECIPE, items, bf16=False)
    assert len(asked) == batches - 2
    for one, other in zip(whole, finished, strict=True):
        assert one.taught is not None
        assert other.taught is not None
        np.testing.assert_allclose(one.taught, other.taught, atol=1e-3)
    assert not counter.exists()


def test_students_of_an_mpnet_teacher_are_the_same_from_one_cache(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--task", "qa", "--train", str(squad_file), "--dev", str(squad_file), "--max-length", "64"]
    mpnet = str(save_mpnet(tiny_teacher, tmp_path / "mpnet"))
    run = [*data, "--batch-size", "4", "--no-bf16"]
    assert main([*run, "--model", mpnet, "--one-separator", "--out", str(tmp_path / "teacher")]) == 0
    student = ["--student-from", str(tiny_teacher), "--layers", "2", "--cache-teacher", str(tmp_path / "cache")]
    for name in ("first", "second"):
        assert main([*run, "--teacher", str(tmp_path / "teacher"), *student, "--out", str(tmp_path / name)]) == 0
    error = capsys.readouterr().err
    assert "the teacher has a width of 48 and the student of 32: the losses of hidden states and relations are off" in (
        error
    )
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    tokenizer = json.loads((tmp_path / "first" / "tokenizer.json").read_text())
    assert "[CLS]" in tokenizer["model"]["vocab"]


def test_a_teacher_with_two_separators_is_refused_for_pairs(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mpnet = str(save_mpnet(tiny_teacher, tmp_path / "mpnet"))
    data = ["--task", "qa", "--train", str(squad_file), "--dev", str(squad_file), "--out", str(tmp_path / "out")]
    assert main([*data, "--teacher", mpnet, "--student-from", str(tiny_teacher)]) == 2
    assert "their tokenizer differs (they put other marks around a pair of texts)" in capsys.readouterr().err
