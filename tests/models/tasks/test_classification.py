"""Windows in, labels out."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.tasks.base import InputTooLongError, Outputs, Usage
from models.tasks.classification import Classification, ClassificationInput, ClassificationResult

LABELS = ("negative", "neutral", "positive")

few_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
rows = st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3)


def outputs(*windows: list[float]) -> list[Outputs]:
    """The logits of each window."""
    return [(np.array(logits, dtype=np.float32),) for logits in windows]


def decode(task: Classification, *windows: list[float], top_k: int = 3) -> ClassificationResult:
    return task.decode(task.encode(ClassificationInput("alpha", top_k=top_k)), outputs(*windows))


def scores(result: ClassificationResult) -> dict[str, float]:
    return {label.label: label.score for label in result.labels}


@pytest.fixture
def softmax(bert_tokenizer: Tokenizer) -> Classification:
    return Classification(bert_tokenizer, LABELS)


@pytest.fixture
def sigmoid(bert_tokenizer: Tokenizer) -> Classification:
    return Classification(bert_tokenizer, LABELS, multi_label=True)


def test_scores_are_the_softmax_over_the_labels_likeliest_first(softmax: Classification) -> None:
    result = decode(softmax, [math.log(2), 0.0, math.log(3)])
    assert [label.label for label in result.labels] == ["positive", "negative", "neutral"]
    assert [label.score for label in result.labels] == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_labels_that_may_hold_together_have_a_sigmoid_each(sigmoid: Classification) -> None:
    result = decode(sigmoid, [math.log(3), 0.0, -math.log(3)])
    assert scores(result) == pytest.approx({"negative": 0.75, "neutral": 0.5, "positive": 0.25})


def test_extreme_logits_neither_overflow_nor_warn(softmax: Classification, sigmoid: Classification) -> None:
    assert scores(decode(softmax, [-1e4, 0.0, 1e4])) == {"negative": 0.0, "neutral": 0.0, "positive": 1.0}
    tied = {"negative": 0.5, "neutral": 0.5, "positive": 0.0}
    assert scores(decode(softmax, [1e4, 1e4, -1e4])) == pytest.approx(tied)
    assert scores(decode(sigmoid, [-1e4, 0.0, 1e4])) == {"negative": 0.0, "neutral": 0.5, "positive": 1.0}


@few_examples
@given(logits=rows)
def test_scores_of_one_window_fall_and_are_probabilities(
    softmax: Classification, sigmoid: Classification, logits: list[float]
) -> None:
    for task in (softmax, sigmoid):
        result = decode(task, logits)
        assert sorted(scores(result)) == sorted(LABELS)
        assert all(0 <= label.score <= 1 for label in result.labels)
        assert all(left.score >= right.score for left, right in pairwise(result.labels))
    assert sum(scores(decode(softmax, logits)).values()) == pytest.approx(1)


@few_examples
@given(logits=rows)
def test_a_softmax_over_two_labels_is_the_sigmoid_of_their_difference(
    softmax: Classification, sigmoid: Classification, logits: list[float]
) -> None:
    two, difference = np.array([logits[:2]]), np.array([[logits[0] - logits[1]]])
    assert softmax.probabilities(two)[0, 0] == pytest.approx(sigmoid.probabilities(difference)[0, 0], rel=1e-9)


def test_windows_are_averaged_by_probability_and_not_by_logit(softmax: Classification) -> None:
    one = [math.log(probability) for probability in (0.98, 0.01, 0.01)]
    two = [math.log(probability) for probability in (0.10, 0.10, 0.80)]
    result = decode(softmax, one, two, two)
    assert [label.label for label in result.labels] == ["positive", "negative", "neutral"]  # by logit: negative
    assert [label.score for label in result.labels] == pytest.approx([1.61 / 3, 1.18 / 3, 0.21 / 3])


def test_windows_are_averaged_label_by_label_where_several_may_hold(sigmoid: Classification) -> None:
    result = decode(sigmoid, [math.log(3), 0.0, 1e4], [-math.log(3), math.log(3), -1e4])
    assert scores(result) == pytest.approx({"neutral": 0.625, "negative": 0.5, "positive": 0.5})


@pytest.mark.parametrize(("top_k", "given"), [(1, 1), (2, 2), (3, 3), (100, 3)])
def test_top_k_is_cut_to_the_labels_that_exist(softmax: Classification, top_k: int, given: int) -> None:
    result = decode(softmax, [0.0, 1.0, 2.0], top_k=top_k)
    assert [label.label for label in result.labels] == ["positive", "neutral", "negative"][:given]


def test_ties_keep_the_order_of_the_labels(softmax: Classification, sigmoid: Classification) -> None:
    for task in (softmax, sigmoid):
        assert [label.label for label in decode(task, [5.0, 5.0, 5.0]).labels] == list(LABELS)
        assert [label.label for label in decode(task, [0.0, 5.0, 5.0], top_k=2).labels] == ["neutral", "positive"]


@pytest.mark.parametrize("logits", [[0.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
def test_logits_of_another_count_than_the_labels_are_an_error(softmax: Classification, logits: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"gives {len(logits)} logits and its configuration 3 labels"):
        decode(softmax, logits)


@pytest.mark.parametrize("logits", [[math.nan] * 3, [0.0, math.nan, 1.0], [0.0, math.inf, 1.0]])
@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_that_are_not_numbers_are_an_error_and_no_label(
    bert_tokenizer: Tokenizer, logits: list[float], multi_label: bool
) -> None:
    task = Classification(bert_tokenizer, ("negative", "neutral", "positive"), multi_label=multi_label)
    encoding = task.encode(ClassificationInput("alpha"))
    with pytest.raises(ValueError, match=r"^the model's logits are not numbers$"):
        task.decode(encoding, [(np.array(logits, dtype=np.float32),)])


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
def test_a_pair_is_laid_out_by_the_tokenizers_own_post_processor(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    item = ClassificationInput("Who wrote the first program?", "Ada Lovelace wrote the first program in 1843.")
    encoding = Classification(tokenizer, LABELS).encode(item)
    pair = tokenizer.encode(item.text, item.text_pair)
    (window,) = encoding.windows
    assert window.input_ids.tolist() == pair.ids
    assert window.token_type_ids.tolist() == pair.type_ids
    assert encoding.item is item
    assert encoding.usage == Usage(len(pair.ids), len(pair.ids), windows=1, truncated=False)


def test_truncation_and_padding_that_the_tokenizer_ships_with_are_switched_off(softmax: Classification) -> None:
    assert len(softmax.encode(ClassificationInput("alpha")).windows[0]) == 3  # it pads to 16
    assert len(softmax.encode(ClassificationInput("alpha " * 100)).windows[0]) == 102  # it truncates to 16


def test_a_window_is_as_long_as_the_model_allows(bert_tokenizer: Tokenizer) -> None:
    task = Classification(bert_tokenizer, LABELS, max_length=512)
    encoding = task.encode(ClassificationInput("alpha " * 600))
    assert encoding.usage == Usage(tokens_in=602, tokens_used=512, windows=1, truncated=True)


def test_overflow_is_the_inputs_choice_and_truncation_the_default(bert_tokenizer: Tokenizer) -> None:
    task = Classification(bert_tokenizer, LABELS, max_length=8, max_windows=2)
    text = "alpha " * 12
    assert task.encode(ClassificationInput(text)).usage.truncated
    assert task.encode(ClassificationInput(text, on_overflow="window")).usage.windows == 2
    with pytest.raises(InputTooLongError, match="takes 14 tokens"):
        task.encode(ClassificationInput(text, on_overflow="error"))
    with pytest.raises(InputTooLongError, match="the limit is 2"):
        task.encode(ClassificationInput(text + "alpha", on_overflow="window"))


def test_unknown_tokens_of_a_text_are_counted(softmax: Classification) -> None:
    usage = softmax.encode(ClassificationInput("alpha 雪 雨")).usage
    assert (usage.tokens_in, usage.unknown_tokens) == (5, 2)
