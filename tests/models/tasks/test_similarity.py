"""Embeddings of unit length, and their cosine."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.base import InputTooLongError, Outputs, UnsupportedInputError, Usage
from models.tasks.directory.overrides import Overrides
from models.tasks.directory.sentences import (
    Activation,
    Dense,
    Head,
    Mode,
    Normalize,
    Preparation,
    read_head,
    read_preparation,
)
from models.tasks.similarity import (
    EmbeddingInput,
    SentenceEmbedding,
    cosines,
    neighbour_overlap,
    pooler,
    write_sentence_files,
)

TWO_WINDOWS = EmbeddingInput("alpha " * 11, on_overflow="window")  # at most 8 tokens in each: 8 and 7
TWO_EQUAL_WINDOWS = EmbeddingInput("alpha " * 10, on_overflow="window")

few_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)


def outputs(*windows: object) -> list[Outputs]:
    """The vector of each window, or the vectors of its tokens."""
    return [(np.array(vectors, dtype=np.float32),) for vectors in windows]


@pytest.fixture
def pooled(bert_tokenizer: Tokenizer) -> SentenceEmbedding:
    return SentenceEmbedding(bert_tokenizer, max_length=8)


@pytest.fixture
def unpooled(bert_tokenizer: Tokenizer) -> SentenceEmbedding:
    return SentenceEmbedding(bert_tokenizer, output_name="last_hidden_state", max_length=8)


def test_an_embedding_has_unit_length_and_the_models_direction(pooled: SentenceEmbedding) -> None:
    embedding = pooled.decode(pooled.encode(EmbeddingInput("alpha")), outputs([3.0, -4.0]))
    assert embedding.dtype == np.float32
    assert embedding.tolist() == pytest.approx([0.6, -0.8])


def test_windows_weigh_by_their_tokens(pooled: SentenceEmbedding) -> None:
    encoding = pooled.encode(TWO_WINDOWS)
    assert list(map(len, encoding.windows)) == [8, 7]
    embedding = pooled.decode(encoding, outputs([1.0, 0.0], [0.0, 1.0]))
    assert embedding.tolist() == pytest.approx([8 / math.sqrt(113), 7 / math.sqrt(113)])


@pytest.mark.parametrize("output_name", ["last_hidden_state", "token_embeddings"])
def test_vectors_of_tokens_are_averaged(bert_tokenizer: Tokenizer, output_name: str) -> None:
    task = SentenceEmbedding(bert_tokenizer, output_name=output_name)
    assert task.output_names == (output_name,)
    encoding = task.encode(EmbeddingInput("alpha"))
    embedding = task.decode(encoding, outputs([[1.0, 8.0], [3.0, 0.0], [5.0, 4.0]]))  # the mean is [3, 4]
    assert embedding.tolist() == pytest.approx([0.6, 0.8])


@few_examples
@given(seed=st.integers(0, 10_000))
def test_a_graph_that_pools_and_one_that_does_not_give_the_same_embedding(
    pooled: SentenceEmbedding, unpooled: SentenceEmbedding, seed: int
) -> None:
    tokens = np.random.default_rng(seed).normal(1.0, size=(15, 4))
    means = [part.mean(axis=0) for part in (tokens[:8], tokens[8:])]
    by_graph = pooled.decode(pooled.encode(TWO_WINDOWS), outputs(*(mean / np.linalg.norm(mean) for mean in means)))
    by_us = unpooled.decode(unpooled.encode(TWO_WINDOWS), outputs(tokens[:8], tokens[8:]))
    np.testing.assert_allclose(by_graph, by_us, atol=1e-6)


@few_examples
@given(vector=st.lists(st.integers(-9, 9), min_size=3, max_size=3).filter(any), scale=st.floats(1e-30, 1e30))
def test_every_vector_with_a_direction_comes_to_unit_length_whatever_its_scale(
    pooled: SentenceEmbedding, vector: list[int], scale: float
) -> None:
    encoding = pooled.encode(EmbeddingInput("alpha"))
    embedding = pooled.decode(encoding, outputs([scale * value for value in vector]))
    np.testing.assert_allclose(embedding, np.array(vector) / math.hypot(*vector), atol=1e-6)


@pytest.mark.parametrize("vector", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [-math.inf, math.nan]])
def test_a_vector_without_a_direction_is_refused(pooled: SentenceEmbedding, vector: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^the model's embedding has no direction$"):
        pooled.decode(pooled.encode(EmbeddingInput("alpha")), outputs(vector))


def test_windows_that_cancel_out_are_refused(pooled: SentenceEmbedding) -> None:
    with pytest.raises(ValueError, match=r"^the model's embedding has no direction$"):
        pooled.decode(pooled.encode(TWO_EQUAL_WINDOWS), outputs([7.0, 0.0], [-8.0, 0.0]))


def test_cosines_are_dot_products_in_the_order_of_the_targets() -> None:
    source, crosswise, other = (np.array(unit, dtype=np.float32) for unit in ([0.6, 0.8], [-0.8, 0.6], [0.8, 0.6]))
    assert cosines(source, [other, crosswise, source, -source]) == pytest.approx([0.96, 0.0, 1.0, -1.0], abs=1e-6)
    assert cosines(source, []) == []


def test_cosines_that_rounding_takes_past_one_are_clipped() -> None:
    longer = np.array([1.0000001, 0.0], dtype=np.float32)
    assert float(longer @ longer) > 1
    assert cosines(longer, [longer, -longer]) == [1.0, -1.0]


@pytest.mark.parametrize("name", ["bert_tokenizer", "roberta_tokenizer"])
def test_a_text_is_laid_out_by_the_tokenizers_own_post_processor(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    text = "Ada Lovelace wrote the first program in 1843."
    encoding = SentenceEmbedding(tokenizer).encode(EmbeddingInput(text))
    whole = tokenizer.encode(text)
    (window,) = encoding.windows
    assert window.input_ids.tolist() == whole.ids
    assert window.token_type_ids.tolist() == whole.type_ids


def test_truncation_and_padding_that_the_tokenizer_ships_with_are_switched_off(bert_tokenizer: Tokenizer) -> None:
    task = SentenceEmbedding(bert_tokenizer)
    assert len(task.encode(EmbeddingInput("alpha")).windows[0]) == 3  # it pads to 16
    assert len(task.encode(EmbeddingInput("alpha " * 100)).windows[0]) == 102  # it truncates to 16


def test_overflow_is_the_inputs_choice_and_truncation_the_default(bert_tokenizer: Tokenizer) -> None:
    task = SentenceEmbedding(bert_tokenizer, max_length=8, max_windows=2)
    assert task.encode(EmbeddingInput("alpha " * 12)).usage == Usage(14, 8, windows=1, truncated=True)
    assert task.encode(TWO_WINDOWS).usage == Usage(13, 15, windows=2, truncated=False)
    with pytest.raises(InputTooLongError, match="takes 14 tokens"):
        task.encode(EmbeddingInput("alpha " * 12, on_overflow="error"))
    with pytest.raises(InputTooLongError, match="the limit is 2"):
        task.encode(EmbeddingInput("alpha " * 13, on_overflow="window"))


def test_the_limit_is_the_bundles_own_and_may_exceed_384_tokens(bert_tokenizer: Tokenizer) -> None:
    task = SentenceEmbedding(bert_tokenizer, max_length=512)
    assert task.encode(EmbeddingInput("alpha " * 600)).usage.tokens_used == 512


def circle(*degrees: float) -> list[NDArray[np.float32]]:
    """Unit vectors at these angles."""
    angles = np.radians(degrees)
    return list(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))


def test_neighbours_overlap_by_how_many_of_the_ten_nearest_stay() -> None:
    # Each of two groups of eleven finds the ten others of its group, whatever their order.
    groups = [*range(11), *range(90, 101)]
    turned = [*range(10, -1, -1), *range(90, 101)]
    assert neighbour_overlap(circle(*groups), circle(*turned)) == 1.0
    # The first of each group trade places: it finds none of its old ten, and each of the ten others loses one.
    traded = [90, *range(1, 11), 0, *range(91, 101)]
    assert neighbour_overlap(circle(*groups), circle(*traded)) == pytest.approx(20 * 0.9 / 22)


def test_many_texts_are_compared_a_block_of_rows_at_a_time() -> None:
    vectors = np.random.default_rng(0).normal(size=(1100, 8)).astype(np.float32)
    unit = list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    assert neighbour_overlap(unit, unit) == 1.0
    assert neighbour_overlap(unit, unit[::-1]) == pytest.approx(10 / 1099, abs=0.005)


def test_equal_texts_are_found_in_one_order_and_eleven_texts_tell_nothing() -> None:
    assert neighbour_overlap(circle(*[0.0] * 30), circle(*[90.0] * 30)) == 1.0
    assert neighbour_overlap(circle(*range(11)), circle(*range(11))) is None


STATES = np.array([[3.0, 0.0], [1.0, 4.0], [2.0, 5.0]])


@pytest.mark.parametrize(
    ("mode", "vector"),
    [
        ("cls", [3.0, 0.0]),
        ("max", [3.0, 5.0]),
        ("mean", [2.0, 3.0]),
        ("mean_sqrt_len_tokens", [6 / math.sqrt(3), 9 / math.sqrt(3)]),
        ("weightedmean", [11 / 6, 23 / 6]),
        ("lasttoken", [2.0, 5.0]),
    ],
)
def test_states_become_a_vector_as_their_mode_says(mode: Mode, vector: list[float]) -> None:
    assert pooler(Head((mode,), ()), None)(STATES) == pytest.approx(vector)


def test_modes_stand_side_by_side_and_layers_follow_each_other() -> None:
    head = Head(("cls", "lasttoken"), (Dense(Path("2_Dense"), "ReLU"), Normalize()))
    weights = {"linear.weight": np.array([[1.0, 0, 1, 0], [0, 1, 0, -1], [0, 0, 0, 1]])}
    pool = pooler(head, lambda folder: weights if folder == Path("2_Dense") else {})
    assert pool(STATES) == pytest.approx(np.array([5.0, 0.0, 5.0]) / math.sqrt(50))  # -5 before the ReLU
    weights["linear.bias"] = np.array([-2.0, 9.0, -5.0])
    pool = pooler(head, lambda _: weights)
    assert pool(STATES) == pytest.approx([0.6, 0.8, 0.0])  # 3, 4 and 0


@pytest.mark.parametrize(
    ("activation", "value"),
    [("Identity", -1.0), ("Tanh", -math.tanh(1)), ("ReLU", 0.0), ("Sigmoid", 1 / (1 + math.e)), ("GELU", -0.15865525)],
)
def test_a_layer_ends_with_its_activation(activation: Activation, value: float) -> None:
    weights = {"linear.weight": np.array([[1.0, -1.0]])}
    pool = pooler(Head(("cls",), (Dense(Path("1"), activation),)), lambda _: weights)
    assert pool(np.array([[2.0, 3.0]])) == pytest.approx([value])


def test_files_for_sentence_transformers_tell_how_texts_are_embedded(bert_tokenizer: Tokenizer, tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    preparation = Preparation(prompts, "passage", lower_case=True, max_length=7)
    task = SentenceEmbedding(bert_tokenizer, preparation=preparation, max_length=7)
    head = Head(("cls", "mean"))
    write_sentence_files(tmp_path, task, 4, head)
    assert read_preparation(tmp_path) == preparation
    assert read_head(tmp_path, Overrides()) == head
    assert json.loads((tmp_path / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 4
    assert json.loads((tmp_path / "config_sentence_transformers.json").read_text())["similarity_fn_name"] == "cosine"


def test_files_for_sentence_transformers_keep_silent_where_there_is_nothing_to_tell(
    pooled: SentenceEmbedding, tmp_path: Path
) -> None:
    write_sentence_files(tmp_path, pooled, 4, None)
    assert [path.name for path in tmp_path.iterdir()] == ["sentence_bert_config.json"]
    assert read_preparation(tmp_path) == Preparation(max_length=8)


def test_a_prompt_stands_before_the_text_and_counts_as_part_of_it(bert_tokenizer: Tokenizer) -> None:
    preparation = Preparation({"query": "alpha beta", "passage": ""}, "passage")
    task = SentenceEmbedding(bert_tokenizer, preparation=preparation)
    [window] = task.encode(EmbeddingInput(" gamma", prompt_name="query")).windows
    [expected] = task.encode(EmbeddingInput("alpha beta gamma")).windows
    assert window.input_ids.tolist() == expected.input_ids.tolist()


@pytest.mark.parametrize(
    ("prompts", "remedy"), [({"query": "q: ", "passage": ""}, "name one of query, passage"), ({}, "leave it out")]
)
def test_a_prompt_that_the_model_lacks_is_refused(
    bert_tokenizer: Tokenizer, prompts: dict[str, str], remedy: str
) -> None:
    task = SentenceEmbedding(bert_tokenizer, preparation=Preparation(prompts))
    with pytest.raises(UnsupportedInputError, match=f"is not a prompt of this model; {remedy}") as refusal:
        task.encode(EmbeddingInput("alpha", prompt_name="document"))
    assert refusal.value.field == "prompt_name"


def test_an_embedding_is_cut_to_a_size_that_the_model_was_trained_for(bert_tokenizer: Tokenizer) -> None:
    task = SentenceEmbedding(bert_tokenizer, sizes=(1, 2))
    encoding = task.encode(EmbeddingInput("alpha", dimensions=2))
    assert task.decode(encoding, outputs([3.0, -4.0, 12.0])).tolist() == pytest.approx([0.6, -0.8])
    with pytest.raises(UnsupportedInputError, match="choose one of 1, 2") as refusal:
        task.encode(EmbeddingInput("alpha", dimensions=3))
    assert refusal.value.field == "dimensions"
    with pytest.raises(UnsupportedInputError, match=r"; leave it out: the model's files name no other sizes$"):
        SentenceEmbedding(bert_tokenizer).encode(EmbeddingInput("alpha", dimensions=2))


def test_unknown_tokens_of_a_text_are_counted(bert_tokenizer: Tokenizer) -> None:
    usage = SentenceEmbedding(bert_tokenizer).encode(EmbeddingInput("alpha 雪 雨")).usage
    assert (usage.tokens_in, usage.unknown_tokens) == (5, 2)
