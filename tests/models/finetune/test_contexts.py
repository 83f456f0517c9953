"""Questions that are made of others keep their answers, or lose them for good."""

from models.finetune.contexts import crop_paragraphs, join_paragraphs, swap_words
from models.squad import QAExample

PARAGRAPHS = [
    f"Paragraph {n} tells of the year {1900 + n}. It has a second sentence about Town {n}." for n in range(40)
]


def examples() -> list[QAExample]:
    years = [str(1900 + n) for n in range(len(PARAGRAPHS))]
    return [
        QAExample(str(n), "Years", f"Which year does paragraph {n} tell of?", text, (year,), (text.index(year),))
        for n, (text, year) in enumerate(zip(PARAGRAPHS, years, strict=True))
    ]


def test_joined_paragraphs_hold_the_answer_where_it_is_said_to_stand() -> None:
    joined = join_paragraphs(examples(), 1.0, 0, removed=False)
    assert len(joined) == len(PARAGRAPHS)
    for example in joined:
        (text,), (start,) = example.answers, example.answer_starts
        assert example.context[start : start + len(text)] == text
        assert len(example.context.split()) > 100
        assert example.context.count(text) == 1


def test_without_the_right_paragraph_nothing_holds_the_answer() -> None:
    removed = join_paragraphs(examples(), 1.0, 0, removed=True)
    assert len(removed) == len(PARAGRAPHS)
    for example in removed:
        assert example.is_impossible
        assert str(1900 + int(example.id.split("-")[0])) not in example.context
        assert PARAGRAPHS[int(example.id.split("-")[0])] not in example.context


def test_lengths_spread_over_the_whole_range() -> None:
    lengths = [len(example.context.split()) for example in join_paragraphs(examples(), 1.0, 0, removed=False)]
    assert min(lengths) < 250
    assert max(lengths) > 450  # all that there is


def test_cropped_paragraphs_are_shorter_and_hold_the_answer() -> None:
    cropped = crop_paragraphs(examples(), 1.0, 0)
    assert cropped
    for example in cropped:
        (text,), (start,) = example.answers, example.answer_starts
        assert example.context[start : start + len(text)] == text
        assert len(example.context) < len(PARAGRAPHS[int(example.id.split("-")[0])])


def test_a_swapped_question_differs_by_what_stands_in_its_paragraph_or_by_an_opposite() -> None:
    context = "In 1843 Ada Lovelace wrote the first program. Charles Babbage built nothing."
    by_name = QAExample("a", "", "What did Ada Lovelace write?", context, ("the first program",), (27,))
    by_word = QAExample("b", "", "who wrote the first program?", context, ("Ada Lovelace",), (8,))
    (name,) = swap_words([by_name], 1.0, 0)
    assert name.question == "What did Charles Babbage write?" or name.question.startswith("What did ")
    assert name.question != by_name.question
    assert name.is_impossible
    (word,) = swap_words([by_word], 1.0, 0)
    assert word.question == "who wrote the last program?"


def test_what_is_made_depends_on_the_seed_alone() -> None:
    for make in (swap_words, crop_paragraphs):
        assert make(examples(), 0.5, 3) == make(examples(), 0.5, 3)
    assert join_paragraphs(examples(), 0.5, 3, removed=False) == join_paragraphs(examples(), 0.5, 3, removed=False)
    assert join_paragraphs(examples(), 0.5, 3, removed=False) != join_paragraphs(examples(), 0.5, 4, removed=False)


def test_unanswerable_questions_are_left_alone() -> None:
    impossible = [QAExample("a", "t", "Which year?", PARAGRAPHS[0], (), ())]
    assert not swap_words(impossible, 1.0, 0)
    assert not crop_paragraphs(impossible, 1.0, 0)
    assert not join_paragraphs(impossible, 1.0, 0, removed=True)
