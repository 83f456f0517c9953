import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, ElectraConfig, XLMRobertaConfig

from models.predict import load_checkpoint
from models.tasks.base import InputTooLongError, answerer
from models.tasks.build import task_of_files
from models.tasks.classification import build as build_classification
from models.tasks.directory.files import BundleError
from models.tasks.directory.model import read_directory
from models.tasks.rerank import SPEC, Relevance, Reranking, RerankInput, build, drift, record

QUERY = "Who built the lighthouse?"
DOCUMENTS = (
    "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist, an engineer from Gothenburg.",
    "His grandmother opened the shop in 1949 with a loan of 300 escudos.",
    "Its lamp burned whale oil until 1902. " * 20,
)
IDENTITY = "torch.nn.modules.linear.Identity"
SIGMOID = "torch.nn.modules.activation.Sigmoid"
Make = Callable[..., Path]


@pytest.fixture
def make(tiny_qa: dict[str, Path], tmp_path: Path) -> Make:
    """Makes a random cross-encoder with one label of a kind, with these keys in its config.json."""

    def make(kind: str = "bert", **keys: object) -> Path:
        source = tiny_qa["roberta" if "roberta" in kind else kind if kind in tiny_qa else "bert"]
        config = AutoConfig.from_pretrained(source)
        if kind == "electra":
            config = ElectraConfig(**config.to_diff_dict() | {"embedding_size": 32, "model_type": "electra"})
        elif kind == "xlm-roberta":
            config = XLMRobertaConfig(**config.to_diff_dict() | {"model_type": "xlm-roberta"})
        config.num_labels = 1
        with torch.random.fork_rng():
            torch.manual_seed(1)
            AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(source, model_max_length=128).save_pretrained(tmp_path)
        return changed(tmp_path, **keys)

    return make


def changed(path: Path, **keys: object) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | keys))
    return path


def scores_of(path: Path, *pairs: tuple[str, str], **options: Any) -> list[Relevance]:
    run, task = load_checkpoint(path, SPEC.name, AutoModelForSequenceClassification)
    answer = answerer(task, run)
    return [answer(RerankInput(query, document, **options)) for query, document in pairs]


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "xlm-roberta", "electra"])
def test_scores_are_those_of_a_cross_encoder(make: Make, kind: str) -> None:
    path = make(kind)
    pairs = [(QUERY, document) for document in DOCUMENTS] + [(DOCUMENTS[2], DOCUMENTS[0]), (DOCUMENTS[2], DOCUMENTS[2])]
    results = scores_of(path, *pairs, on_overflow="truncate")
    encoder = CrossEncoder(str(path), device="cpu")
    np.testing.assert_allclose([result.score for result in results], encoder.predict(pairs), atol=1e-5)
    logits = encoder.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose([result.logit for result in results], logits, atol=1e-4)
    assert np.ptp(logits) > 0.01  # or else nothing is compared


@pytest.mark.parametrize(
    ("keys", "sigmoid"),
    [
        ({}, True),
        ({"sbert_ce_default_activation_function": IDENTITY}, False),
        ({"sbert_ce_default_activation_function": SIGMOID}, True),
        ({"sbert_ce_default_activation_function": None}, True),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.0.1"}}, False),
        ({"sentence_transformers": {"version": "4.0.1"}}, True),
        ({"sentence_transformers": {"activation_fn": SIGMOID}, "sbert_ce_default_activation_function": IDENTITY}, True),
        ({"problem_type": "regression"}, True),
    ],
)
def test_the_activation_is_that_of_the_configuration(make: Make, keys: dict[str, object], sigmoid: bool) -> None:
    path = make(**keys)
    [result] = scores_of(path, (QUERY, DOCUMENTS[0]))
    assert result.score == pytest.approx(
        float(CrossEncoder(str(path), device="cpu").predict((QUERY, DOCUMENTS[0]))), abs=1e-5
    )
    assert (result.score == result.logit) is not sigmoid


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "somewhere.Sigmoid", 3])
def test_another_activation_is_refused(make: Make, name: object) -> None:
    path = make(sentence_transformers={"activation_fn": name})
    reason = "is .*, and only torch's Sigmoid and Identity are served; correct it$"
    with pytest.raises(BundleError, match=rf"config\.json: sentence_transformers\.activation_fn {reason}") as caught:
        build(read_directory(path, SPEC.name))
    assert "\n" not in str(caught.value)


def test_a_long_document_counts_by_its_best_window(make: Make) -> None:
    path = make()
    run, task = load_checkpoint(path, SPEC.name, AutoModelForSequenceClassification)
    encoding = task.encode(RerankInput(QUERY, " ".join(DOCUMENTS)))
    assert isinstance(task, Reranking)
    assert len(encoding.windows) > 1
    query = task.tokenizer.encode(QUERY).ids
    for window in encoding.windows:
        assert window.input_ids[: len(query)].tolist() == query
        assert len(window) <= task.max_length == 128  # which tokenizer_config.json says
    logits = [float(run(window)[0][0]) for window in encoding.windows]
    assert task.decode(encoding, [run(window) for window in encoding.windows]).logit == pytest.approx(max(logits))


def test_a_long_text_is_refused_where_that_is_asked_and_a_query_without_room_always(make: Make) -> None:
    task = build(read_directory(make(), SPEC.name), max_windows=1)
    with pytest.raises(InputTooLongError, match="reads 128 at once"):
        task.encode(RerankInput(QUERY, DOCUMENTS[2], "error"))
    reason = r"takes \d+ of the model's 128 tokens and leaves no room for the second; shorten it, or let on_overflow be"
    with pytest.raises(InputTooLongError, match=f"the first text {reason} truncate$"):
        task.encode(RerankInput(DOCUMENTS[2], QUERY))
    with pytest.raises(InputTooLongError, match="the limit is 1"):
        task.encode(RerankInput(QUERY, DOCUMENTS[2]))
    assert task.encode(RerankInput(DOCUMENTS[2], QUERY, "truncate")).usage.truncated


def test_the_limit_is_the_lower_one_of_tokenizer_and_model(make: Make) -> None:
    path = make()
    for limit, expected in ((64, 64), (10**30, 512), (1e30, 512), (None, 512)):
        (path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": limit}))
        assert build(read_directory(path, SPEC.name)).max_length == expected
    (path / "tokenizer_config.json").unlink()
    assert build(read_directory(path, SPEC.name)).max_length == 512


ARCHITECTURE = {"architectures": ["BertForSequenceClassification"]}
ONE, TWO = {"id2label": {"0": "LABEL_0"}}, {"id2label": {"0": "no", "1": "yes"}}


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (ONE, "rerank"),
        ({"num_labels": 1}, "rerank"),
        (ONE | {"problem_type": "regression"}, "rerank"),
        (ONE | {"problem_type": "multi_label_classification"}, "classify"),
        (TWO, "classify"),
        ({}, "classify"),
    ],
)
def test_one_logit_without_a_label_of_its_own_is_a_score(tmp_path: Path, config: dict[str, object], task: str) -> None:
    assert task_of_files(tmp_path, ARCHITECTURE | config) == task


def test_each_task_refuses_the_models_of_the_other_and_says_which_it_is(make: Make) -> None:
    path = make()
    with pytest.raises(BundleError, match=r"config\.json: the model has one label, .* whose task is rerank"):
        build_classification(read_directory(path, "classify"))
    changed(path, **TWO)
    with pytest.raises(BundleError, match=r"config\.json: a reranker has one label, .*; its task is another$"):
        build(read_directory(path, SPEC.name))
    changed(path, problem_type="regression")
    with pytest.raises(BundleError, match=r"config\.json: the model predicts 2 numbers, not labels"):
        build_classification(read_directory(path, "classify"))


def test_logits_that_cannot_be_scores_are_an_error(make: Make) -> None:
    task = build(read_directory(make(), SPEC.name))
    encoding = task.encode(RerankInput(QUERY, "in rolls"))
    for logits, reason in (([1.0, 2.0], "2 logits"), ([np.nan], "^the model's logits are not numbers$")):
        with pytest.raises(ValueError, match=reason):
            task.decode(encoding, [(np.array(logits, np.float32),)])


def test_unknown_tokens_of_query_and_document_are_counted(bert_tokenizer: Tokenizer) -> None:
    usage = Reranking(bert_tokenizer).encode(RerankInput("alpha 雪", "雨 beta")).usage
    assert (usage.tokens_in, usage.unknown_tokens) == (7, 2)


def test_the_record_comes_back_and_its_drift_is_that_of_the_probability() -> None:
    item = RerankInput(QUERY, DOCUMENTS[0])
    golden = record(item, Relevance(0.5, 0.0))
    assert SPEC.replay(golden) == item
    assert drift(golden, Relevance(1.0, 0.0)) == 0.0
    assert drift(golden, Relevance(1.0, 100.0)) == pytest.approx(0.5)
