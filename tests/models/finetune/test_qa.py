"""Labels, moved questions, and scores computed by hand."""

import json
import math
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PretrainedConfig

from models.data import DataError, Item
from models.devset import DevOptions, measure
from models.finetune.qa import QADev, QARecipe, encode_examples, label_windows, move_questions, score_answers
from models.squad import QAExample
from models.tasks.answers import Answer, QAResult
from models.tasks.qa import NULL_POSITION, QAInput, QuestionAnswering, Window

CONTEXT = "Ada Lovelace wrote the first program in 1843."


def example(answer: str | None = "Ada Lovelace", context: str = CONTEXT, title: str = "Ada") -> QAExample:
    answers = () if answer is None else (answer,)
    starts = () if answer is None else (context.index(answer),)
    return QAExample("1", title, "Who wrote the first program?", context, answers, starts)


def position_of(item: Item) -> int:
    assert isinstance(item.window, Window)
    return item.window.position


@pytest.mark.parametrize("answer", ["Ada Lovelace", "the first program", "1843", CONTEXT])
def test_labels_point_at_the_answers_tokens(bert_tokenizer: Tokenizer, answer: str) -> None:
    task = QuestionAnswering(bert_tokenizer)
    item = example(answer)
    encoding = task.encode(QAInput(item.question, item.context))
    (labelled,) = label_windows(item, encoding)
    first = int(labelled.label[0]) - position_of(labelled)
    last = int(labelled.label[1]) - position_of(labelled)
    assert CONTEXT[encoding.offsets[first, 0] : encoding.offsets[last, 1]] == answer


def test_the_answer_that_most_annotators_gave_is_the_label(bert_tokenizer: Tokenizer) -> None:
    item = QAExample("1", "Ada", "When?", CONTEXT, ("Ada", "1843", "1843"), (0, 40, 40))
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(item.question, item.context))
    (labelled,) = label_windows(item, encoding)
    assert encoding.offsets[int(labelled.label[0]) - position_of(labelled), 0] == 40


def test_windows_without_the_answer_and_unanswerable_questions_point_at_the_null(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    filler = "alpha beta gamma delta " * 30
    labelled = encode_examples(task, [example("1843", filler + CONTEXT), example(None)], doc_stride=5)
    positions = [tuple(item.label) for item in labelled]
    assert positions[-1] == (NULL_POSITION, NULL_POSITION)
    assert positions[0] == (NULL_POSITION, NULL_POSITION)
    assert sum(position != (NULL_POSITION, NULL_POSITION) for position in positions) == 1


def test_a_window_that_holds_the_answers_text_elsewhere_is_left_out(bert_tokenizer: Tokenizer) -> None:
    """In 1843 she wrote; whether it was in 1843 that she is asked about, this window cannot tell."""
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    filler = "alpha beta gamma delta " * 30
    context = f"In 1843 it rains. {filler}{CONTEXT}"
    item = QAExample("1", "Ada", "When?", context, ("1843",), (context.rindex("1843"),))
    encoding = task.encode(QAInput(item.question, item.context, doc_stride=5))
    labelled = label_windows(item, encoding)
    assert len(labelled) == len(encoding.windows) - 1
    assert all(item.window is not encoding.windows[0] for item in labelled)
    answers = [item for item in labelled if tuple(item.label) != (NULL_POSITION, NULL_POSITION)]
    (answer,) = answers
    assert isinstance(answer.window, Window)
    first = int(answer.label[0]) - answer.window.position + answer.window.first
    assert encoding.offsets[first, 0] == context.rindex("1843")


@pytest.mark.parametrize("mention", ["ADA", "adamant"])
def test_the_text_may_stand_in_other_letters_or_within_a_word(bert_tokenizer: Tokenizer, mention: str) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    context = f"{mention} is here. {'alpha beta gamma delta ' * 30}{CONTEXT}"
    item = QAExample("1", "Ada", "Who?", context, ("Ada",), (context.rindex("Ada"),))
    encoding = task.encode(QAInput(item.question, item.context, doc_stride=5))
    assert len(label_windows(item, encoding)) == len(encoding.windows) - 1


def test_a_window_is_labelled_by_whichever_answer_it_holds(bert_tokenizer: Tokenizer) -> None:
    """Two annotators marked one place and one another: the window that holds the other alone has its label."""
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    context = f"{CONTEXT} {'alpha beta gamma delta ' * 30}{CONTEXT}"
    early, late = context.index("1843"), context.rindex("1843")
    item = QAExample("1", "Ada", "When?", context, ("1843", "1843", "1843"), (late, early, late))
    encoding = task.encode(QAInput(item.question, item.context, doc_stride=5))
    labelled = label_windows(item, encoding)
    assert len(labelled) == len(encoding.windows)
    starts = []
    for window, label in ((item.window, item.label) for item in labelled):
        assert isinstance(window, Window)
        if label[0] != NULL_POSITION:
            starts.append(int(encoding.offsets[label[0] - window.position + window.first, 0]))
    assert starts == [early, late]


def test_all_windows_of_an_unanswerable_question_point_at_the_null(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    item = example(None, f"{'alpha beta gamma delta ' * 30}{CONTEXT}")
    encoding = task.encode(QAInput(item.question, item.context, doc_stride=5))
    labelled = label_windows(item, encoding)
    assert [tuple(item.label) for item in labelled] == [(NULL_POSITION, NULL_POSITION)] * len(encoding.windows)


def test_questions_move_only_to_paragraphs_of_their_article_that_hold_no_answer() -> None:
    other = "Charles Babbage designed the engine."
    examples = [
        example(),
        example("Charles Babbage", other),
        example("Zürich", "Zürich lies by a lake.", title="Elsewhere"),
    ]
    moved = [item for seed in range(20) for item in move_questions(examples, 1.0, seed)]
    assert {(item.title, item.context) for item in moved} == {("Ada", other), ("Ada", CONTEXT)}
    assert all(item.is_impossible and item.id.endswith("-moved") for item in moved)


def test_a_paragraph_that_mentions_the_answer_is_left_out() -> None:
    examples = [example(), example("the engine", "Ada Lovelace knew the engine.")]
    moved = [item for seed in range(20) for item in move_questions(examples, 1.0, seed)]
    assert moved
    assert {item.context for item in moved} == {CONTEXT}


def asked(question: str, answer: str | None) -> QAExample:
    answers = () if answer is None else (answer,)
    return QAExample(question, "", question, f"It is {answer}.", answers, (6,) * len(answers))


def result(text: str, lead: float | None) -> QAResult:
    """The null leads the best span by `lead` logits."""
    if lead is None:
        return QAResult((Answer(text, 0, len(text), 0.5),), None)
    score = 1 / (1 + math.exp(lead))
    return QAResult((Answer(text, 0, len(text), score),), 1 - score)


def test_answerable_questions_are_scored_by_their_best_span_even_if_the_null_wins() -> None:
    metrics = score_answers(
        [result("red", 5.0), result("blue green", -5.0), result("anything", -1.0)],
        [asked("a", "red"), asked("b", "blue"), asked("c", None)],
    )
    assert metrics["exact"] == 50.0
    assert metrics["f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert (metrics["n"], metrics["n_answerable"]) == (3.0, 2.0)
    assert metrics["f1_all"] == pytest.approx(100 * (2 / 3) / 3)
    assert metrics["never_answering"] == pytest.approx(100 / 3)


def test_the_best_threshold_separates_what_the_null_leads() -> None:
    metrics = score_answers(
        [result("red", 1.0), result("blue", 2.0), result("anything", 4.0)],
        [asked("a", "red"), asked("b", "blue"), asked("c", None)],
    )
    assert metrics["best_f1_all"] == 100.0
    assert "best_threshold" not in metrics
    assert metrics["f1_all"] == pytest.approx(100 / 3)


def test_a_model_that_cannot_abstain_has_figures_of_answerable_questions_alone() -> None:
    metrics = score_answers([result("red", None), result("c", None)], [asked("red", "red"), asked("c", None)])
    assert metrics == {"n": 2.0, "n_answerable": 1.0, "exact": 100.0, "f1": 100.0, "score_ece": 50.0}


def test_thresholds_of_the_checkpoint_that_a_run_began_from_are_replaced() -> None:
    recipe = QARecipe.__new__(QARecipe)  # what is recorded needs nothing else of what it is made of
    recipe.abstains = True
    config = PretrainedConfig(no_answer_threshold=7.0, no_answer_threshold_by_tokens=[[8, 7.0], [16, 9.0]])
    recipe.record(config, {"best_threshold": -1.5})
    saved = config.to_dict()
    assert saved["no_answer_threshold"] == -1.5
    assert "no_answer_threshold_by_tokens" not in saved


def test_questions_are_asked_with_the_defaults_that_a_client_gets(squad_file: Path) -> None:
    items: list[QAInput] = []

    def answer(item: QAInput) -> QAResult:
        items.append(item)
        return result("red", -1.0)

    metrics = measure(answer, QADev(squad_file, DevOptions()))
    assert [item == QAInput(item.question, item.context) for item in items] == [True] * 12
    assert "best_threshold" not in metrics  # the threshold that the answers came by is not known
    assert metrics["n_answerable"] == 10


def test_answers_are_compared_by_the_normalization_of_their_language(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(
        json.dumps(
            [{"id": "a", "question": "?", "context": "北京大学", "answers": {"text": ["北京"], "answer_start": [0]}}]
        )
    )
    figures = [
        measure(lambda _: result("北京大学", None), QADev(path, options))["f1"]
        for options in (DevOptions(), DevOptions(language="zh"))
    ]
    assert figures == [0.0, pytest.approx(100 * 2 / 3)]


def test_a_set_without_an_answerable_question_is_refused(tmp_path: Path) -> None:
    impossible = {"id": "a", "question": "Why?", "answers": [], "is_impossible": True}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "It is.", "qas": [impossible]}]}]}))
    with pytest.raises(DataError, match="no answerable question"):
        QADev(path, DevOptions())
