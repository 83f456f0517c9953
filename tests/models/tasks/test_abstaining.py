"""When a model may say that there is no answer, beside what transformers' pipeline says."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForQuestionAnswering, pipeline

from models.predict import load_checkpoint
from models.tasks.base import UnsupportedInputError, answerer
from models.tasks.build import build_task
from models.tasks.directory.model import read_directory
from models.tasks.qa import QAInput
from tests.conftest import PARAGRAPHS, QUESTIONS

# Contexts of one word: among the many spans of longer ones, a random model's null never wins.
ITEMS = [(question, word) for title, at, question, _ in QUESTIONS[::4] for word in PARAGRAPHS[title][at].split()]


@pytest.fixture(params=["bert", "roberta"])
def checkpoint(request: pytest.FixtureRequest, tiny_qa: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_qa[request.param], tmp_path / "checkpoint"))


def set_threshold(directory: Path, file: str, threshold: float) -> None:
    path = directory / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | {"no_answer_threshold": threshold}))


def empty_answers(directory: Path) -> list[bool]:
    run, task = load_checkpoint(directory, "qa", AutoModelForQuestionAnswering)
    answer = answerer(task, run)
    items = [QAInput(*item, max_answer_tokens=15, allow_no_answer=True) for item in ITEMS]
    return [not answer(item).answers for item in items]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the pipeline's own
@pytest.mark.parametrize("file", ["config.json", "halfdepth.json"])
def test_a_threshold_of_0_is_the_pipelines_rule(checkpoint: Path, file: str) -> None:
    ask = pipeline("question-answering", model=str(checkpoint), device="cpu")
    answers = [ask(question=q, context=c, handle_impossible_answer=True, align_to_words=False) for q, c in ITEMS]
    set_threshold(checkpoint, file, 0)
    expected = [answer["answer"] == "" for answer in answers]
    assert len(set(expected)) == 2, "the random model must do both"
    assert empty_answers(checkpoint) == expected


def test_halfdepth_json_decides_over_config_json(checkpoint: Path) -> None:
    set_threshold(checkpoint, "config.json", 1000.0)
    assert not any(empty_answers(checkpoint))
    set_threshold(checkpoint, "halfdepth.json", -1000.0)
    assert all(empty_answers(checkpoint))


def test_one_threshold_of_halfdepth_json_counts_at_every_length(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    points = {"no_answer_threshold_by_tokens": [[1, -1000.0], [2, 1000.0]]}
    (checkpoint / "config.json").write_text(json.dumps(config | points))
    refused = empty_answers(checkpoint)
    assert set(refused) == {True, False}, "a word is one token or several"
    set_threshold(checkpoint, "halfdepth.json", -1000.0)
    assert all(empty_answers(checkpoint))


def test_without_a_threshold_nobody_may_ask_for_no_answer(checkpoint: Path) -> None:
    task = build_task(read_directory(checkpoint, "qa"), [])
    assert task.encode(QAInput("Who?", "Ada.")).windows
    with pytest.raises(UnsupportedInputError) as refusal:
        task.encode(QAInput("Who?", "Ada.", allow_no_answer=True))
    assert str(refusal.value) == (
        "this model has no threshold for 'no answer': set no_answer_threshold in its config.json or halfdepth.json (0 "
        "is the usual rule for a model trained on SQuAD 2), or do not ask for allow_no_answer "
        "(handle_impossible_answer under /hf)"
    )
