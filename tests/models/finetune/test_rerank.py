import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from export.__main__ import main as export
from models.data import DataError
from models.devset import DevOptions
from models.evaluate import main as evaluate
from models.finetune.__main__ import main as finetune
from models.finetune.rerank import RerankDev, labelled_pairs, mean_ranks, rank
from models.predict import load_bundle_run
from models.squad import QAExample, read_squad
from models.tasks.base import answerer
from models.tasks.rerank import Relevance, RerankInput
from tests.conftest import PARAGRAPHS, QUESTIONS


def test_a_question_is_paired_with_its_paragraph_and_with_others_of_its_article(squad_file: Path) -> None:
    pairs = list(labelled_pairs(read_squad(squad_file), negatives=3, seed=0))
    answerable = [(text, title, place) for title, place, text, answer in QUESTIONS if answer]
    assert len(pairs) == 2 * len(answerable)  # each article has one other paragraph
    for (text, title, place), positive, negative in zip(answerable, pairs[::2], pairs[1::2], strict=True):
        assert positive == (RerankInput(text, PARAGRAPHS[title][place], "error"), 1.0)
        assert negative == (RerankInput(text, PARAGRAPHS[title][1 - place], "error"), 0.0)


def example(question: str, context: str, answer: str) -> QAExample:
    return QAExample(question, "Towers", question, context, (answer,), (context.index(answer),))


def test_negatives_are_the_nearest_in_words_and_never_hold_the_answer() -> None:
    right = example("Who built the red tower?", "The red tower was built by Ida Holm.", "Ida Holm")
    near = [
        example(f"What is number {n}?", f"The red tower has number {n} and was built late.", str(n)) for n in range(12)
    ]
    holding = example("Who is she?", "The red tower was built when Ida Holm was young.", "young")
    far = [example(f"Where is {n}?", f"Bread costs {n} crowns at noon.", str(n)) for n in range(100, 130)]
    pairs = labelled_pairs([right, *far, holding, *near], negatives=5, seed=1)
    negatives = [pair.document for pair, label in pairs if pair.query == right.question and label == 0]
    assert len(set(negatives)) == 5
    assert set(negatives) <= {other.context for other in near}


def test_the_rank_is_that_among_all_paragraphs_of_the_article(squad_file: Path) -> None:
    dev = RerankDev(squad_file, DevOptions())
    assert [(item.query, item.document) for item in dev.inputs[:2]] == [
        (QUESTIONS[0][2], paragraph) for paragraph in PARAGRAPHS["Lighthouses"]
    ]
    always_the_first = [Relevance(0.5, -float(index % 2)) for index in range(len(dev.inputs))]
    places = [place for _, place, _, answer in QUESTIONS if answer]
    assert dev.score(always_the_first) == {
        "n": 10.0,
        "mrr@10": pytest.approx(100 * np.mean([1 / (1 + place) for place in places])),
        "accuracy@1": pytest.approx(100 * np.mean([place == 0 for place in places])),
    }


def test_of_equal_scores_the_first_is_the_better_and_from_rank_11_on_nothing_counts() -> None:
    assert [rank([1.0, 2.0, 1.0], place) for place in range(3)] == [2, 1, 3]
    assert mean_ranks([1, 2, 10, 11])["mrr@10"] == pytest.approx(100 * (1 + 0.5 + 0.1 + 0) / 4)


def test_articles_of_one_paragraph_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alone.json"
    row = {"id": "1", "title": "A", "context": "in Oslo", "question": "Where?"}
    path.write_text(json.dumps([row | {"answers": {"text": ["Oslo"], "answer_start": [3]}}]))
    with pytest.raises(
        DataError, match=r"alone\.json has no answerable question of an article with several paragraphs"
    ):
        RerankDev(path, DevOptions())


def test_a_reranker_is_trained_distilled_measured_and_exported(
    tiny_teacher: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student, bundle = (tmp_path / name for name in ("teacher", "student", "bundle"))
    common = ["--task", "rerank", "--dev", str(squad_file)]
    loop = ["--train", str(squad_file), "--epochs", "40", "--lr", "3e-3", "--evaluate-every", "1000", "--no-bf16"]
    more = ["--max-length", "96", "--negatives", "1"]
    assert finetune([*common, *loop, *more, "--model", str(tiny_teacher), "--out", str(teacher)]) == 0
    assert finetune([*common, *loop, *more, "--teacher", str(teacher), "--layers", "2", "--out", str(student)]) == 0
    capsys.readouterr()
    assert evaluate([*common, "--checkpoint", str(student)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["mrr@10"] > 90  # of what it has seen; 75 by chance
    origin = ["--student", str(student), "--out", str(bundle), "--no-int8"]
    assert export([*common, *origin]) == 0

    run, task = load_bundle_run(bundle, "rerank")
    answer, document = answerer(task, run), PARAGRAPHS["Lighthouses"][0]
    pairs = [(QUESTIONS[0][2], document), (QUESTIONS[0][2], " ".join([document] * 9))]
    encoder = CrossEncoder(str(bundle), backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"}, device="cpu")
    scores = [answer(RerankInput(*pair, "truncate")).score for pair in pairs]
    np.testing.assert_allclose(scores, encoder.predict(pairs), atol=1e-4)
