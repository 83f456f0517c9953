"""Readers, labels, moved questions and batches."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from models.data import (
    DataError,
    QAExample,
    collate,
    encode_examples,
    label_windows,
    length_buckets,
    move_questions,
    read_squad,
)
from models.tasks.qa import NULL_POSITION, QAInput, QuestionAnswering

CONTEXT = "Ada Lovelace wrote the first program in 1843."


def example(answer: str | None = "Ada Lovelace", context: str = CONTEXT, title: str = "Ada") -> QAExample:
    answers = () if answer is None else (answer,)
    starts = () if answer is None else (context.index(answer),)
    return QAExample("1", title, "Who wrote the first program?", context, answers, starts)


def squad_file(path: Path, qas: list[object]) -> Path:
    path.write_text(json.dumps({"data": [{"title": "Ada", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    return path


def test_squad_is_read_with_its_unanswerable_questions(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path / "squad.json",
        [
            {"id": "a", "question": "Who? ", "answers": [{"text": "Ada", "answer_start": 0}]},
            {"id": "b", "question": "Why?", "answers": [], "is_impossible": True},
        ],
    )
    first, second = read_squad(path)
    assert (first.question, first.answers, first.answer_starts) == ("Who?", ("Ada",), (0,))
    assert not first.is_impossible
    assert second.is_impossible


@pytest.mark.parametrize("content", ["no json", "[]", '{"data": [{}]}', '{"data": 3}'])
def test_a_file_that_is_no_squad_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"broken\.json is not SQuAD JSON"):
        read_squad(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json"):
        read_squad(tmp_path / "absent.json")


def test_an_answer_that_does_not_stand_at_its_start_is_refused(tmp_path: Path) -> None:
    path = squad_file(
        tmp_path / "squad.json", [{"id": "a", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 4}]}]
    )
    with pytest.raises(DataError, match="question a: 'Ada' does not stand at answer_start 4"):
        read_squad(path)


@pytest.mark.parametrize("answer", ["Ada Lovelace", "the first program", "1843", CONTEXT])
def test_labels_point_at_the_answers_tokens(bert_tokenizer: Tokenizer, answer: str) -> None:
    task = QuestionAnswering(bert_tokenizer)
    item = example(answer)
    encoding = task.encode(QAInput(item.question, item.context))
    (labelled,) = label_windows(item, encoding)
    first = labelled.start - labelled.window.position
    last = labelled.end - labelled.window.position
    assert CONTEXT[encoding.offsets[first, 0] : encoding.offsets[last, 1]] == answer


def test_the_answer_that_most_annotators_gave_is_the_label(bert_tokenizer: Tokenizer) -> None:
    item = QAExample("1", "Ada", "When?", CONTEXT, ("Ada", "1843", "1843"), (0, 40, 40))
    task = QuestionAnswering(bert_tokenizer)
    encoding = task.encode(QAInput(item.question, item.context))
    (labelled,) = label_windows(item, encoding)
    assert encoding.offsets[labelled.start - labelled.window.position, 0] == 40


def test_windows_without_the_answer_and_unanswerable_questions_point_at_the_null(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer, max_length=40)
    filler = "alpha beta gamma delta " * 30
    labelled = encode_examples(task, [example("1843", filler + CONTEXT), example(None)], doc_stride=5)
    positions = [(item.start, item.end) for item in labelled]
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


def test_buckets_hold_every_index_once_in_an_order_of_seed_and_epoch_alone() -> None:
    lengths = [(7 * i) % 50 for i in range(1003)]
    batches = length_buckets(lengths, 4, seed=1, epoch=0)
    assert sorted(index for batch in batches for index in batch) == list(range(1003))
    assert batches == length_buckets(lengths, 4, seed=1, epoch=0)
    assert batches != length_buckets(lengths, 4, seed=1, epoch=1)
    padding = sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)


def test_a_batch_is_padded_to_its_longest_window(bert_tokenizer: Tokenizer) -> None:
    task = QuestionAnswering(bert_tokenizer)
    windows = encode_examples(task, [example(), example("Ada", "Ada did.")], doc_stride=0)
    batch = collate(windows, pad_token_id=9, device=torch.device("cpu"))
    long, short = len(windows[0].window), len(windows[1].window)
    assert batch.input_ids.shape == (2, long)
    assert batch.attention_mask.sum(1).tolist() == [long, short]
    assert batch.input_ids[1, short:].tolist() == [9] * (long - short)
    assert batch.starts.tolist() == [item.start for item in windows]
