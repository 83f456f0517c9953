"""Labels, moved questions, and what the losses read of the head."""

import pytest
from tokenizers import Tokenizer

from models.data import Item, QAExample
from models.finetune.qa import encode_examples, label_windows, move_questions
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
