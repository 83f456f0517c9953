"""The task that a bundle's files describe, out of a directory without a manifest."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.tasks.build import build_task
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.classification import Classification, ClassificationInput
from models.tasks.classification import build as classification_task
from models.tasks.directory.files import BundleError
from models.tasks.directory.model import read_directory
from models.tasks.directory.sentences import Preparation
from models.tasks.qa import QAInput, QuestionAnswering
from models.tasks.qa import build as qa_task
from models.tasks.similarity import EmbeddingInput, SentenceEmbedding
from models.tasks.similarity import build as embedding_task

MEAN = '{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}'
LABELS = {"0": "negative", "1": "positive"}


def bundle_of(path: Path, **config: object) -> Bundle:
    """The bundle after these changes to its config.json."""
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return load_bundle(path)


def classifier(path: Path, **config: object) -> Bundle:
    return bundle_of(path, **{"architectures": ["BertForSequenceClassification"], "id2label": LABELS} | config)


def encoder(path: Path, *, sentence: str | None = None, pooling: str | None = None, **config: object) -> Bundle:
    """With the files that sentence encoders have beside config.json, by their text."""
    for name, text in (("sentence_bert_config.json", sentence), ("1_Pooling/config.json", pooling)):
        if text is not None:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(text)
    return bundle_of(path, **{"architectures": ["BertModel"]} | config)


@pytest.mark.parametrize(
    ("architecture", "graph_outputs", "task"),
    [
        ("DistilBertForQuestionAnswering", ("start_logits", "end_logits"), QuestionAnswering),
        ("RobertaForSequenceClassification", ("logits",), Classification),
        ("BertModel", ("last_hidden_state", "sentence_embedding"), SentenceEmbedding),
    ],
)
def test_the_task_is_that_of_the_config_and_reads_what_the_graph_gives(
    foreign: Path, architecture: str, graph_outputs: Sequence[str], task: type
) -> None:
    built = build_task(bundle_of(foreign, architectures=[architecture], id2label=LABELS), graph_outputs, max_windows=3)
    assert isinstance(built, QuestionAnswering | Classification | SentenceEmbedding)
    assert type(built) is task
    assert set(built.output_names) <= set(graph_outputs)
    assert (built.max_length, built.max_windows) == (64, 3)


def test_limits_that_the_tokenizer_ships_with_bind_no_task(foreign: Path, bert_tokenizer: Tokenizer) -> None:
    bert_tokenizer.save(str(foreign / "tokenizer.json"))  # truncates and pads to 16
    text = "alpha " * 40
    question_answering = qa_task(bundle_of(foreign))
    assert question_answering.encode(QAInput("alpha", text)).usage.tokens_in == 44
    assert classification_task(classifier(foreign)).encode(ClassificationInput(text)).usage.tokens_used == 42
    embedding = embedding_task(encoder(foreign), ["sentence_embedding"])
    assert embedding.encode(EmbeddingInput(text)).usage.tokens_used == 42


def test_qa_task_takes_length_and_threshold_from_the_config(foreign: Path) -> None:
    task = qa_task(bundle_of(foreign, no_answer_threshold=-1.5), max_windows=3)
    assert (task.max_length, task.thresholds, task.max_windows) == (64, (-1.5, ()), 3)
    encoding = task.encode(QAInput("ada", "ada " * 80))
    assert max(map(len, encoding.windows)) == 64


def test_model_without_threshold_was_not_trained_to_abstain(foreign: Path) -> None:
    assert qa_task(load_bundle(foreign)).thresholds == (None, ())


@pytest.mark.parametrize("threshold", ["high", True, [0.5]])
def test_threshold_that_is_no_number_is_refused(foreign: Path, threshold: object) -> None:
    with pytest.raises(BundleError, match=r"config\.json: no_answer_threshold must be a number; correct it"):
        qa_task(bundle_of(foreign, no_answer_threshold=threshold))


def test_labels_stand_in_the_order_of_their_numbers(foreign: Path) -> None:
    names = {str(number): f"label {number}" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    task = classification_task(classifier(foreign, id2label=names))
    assert task.labels == tuple(f"label {number}" for number in range(11))
    assert not task.multi_label


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_labels": 2},
        {"num_labels": 4},
        {"num_labels": 3, "id2label": None, "label2id": {"LABEL_2": 2, "LABEL_0": 0, "LABEL_1": 1}},
        {"id2label": {"1": "b", "0": "a"}},
        {"id2label": {"2": "c", "0": "a", "1": "b"}, "label2id": {"c": 2, "b": 1, "a": 0}},
        {"id2label": {"0": "toxic"}, "problem_type": "multi_label_classification"},
    ],
)
def test_labels_have_the_names_that_transformers_gives_them(foreign: Path, config: dict[str, object]) -> None:
    from transformers import AutoConfig  # here: no other test of this file needs it

    file = foreign / "config.json"
    file.write_text(json.dumps({"model_type": "bert", "architectures": ["BertForSequenceClassification"], **config}))
    theirs = AutoConfig.from_pretrained(foreign).id2label
    assert classification_task(load_bundle(foreign)).labels == tuple(theirs[number] for number in range(len(theirs)))


def test_labels_that_transformers_would_not_call_by_their_names_are_refused(foreign: Path) -> None:
    with pytest.raises(BundleError, match=r"config\.json names its labels in label2id alone, .*; add id2label"):
        classification_task(classifier(foreign, id2label=None, label2id={"no": 0, "yes": 1}))


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2"])
def test_a_number_of_labels_that_is_none_is_refused(foreign: Path, count: object) -> None:
    with pytest.raises(BundleError, match="num_labels must be a whole number from 1 on"):
        classification_task(classifier(foreign, id2label=None, num_labels=count))


def test_labels_exclude_each_other_unless_the_model_is_multi_label(foreign: Path) -> None:
    assert not classification_task(classifier(foreign, problem_type="single_label_classification")).multi_label
    assert classification_task(classifier(foreign, problem_type="multi_label_classification")).multi_label
    assert not classification_task(classifier(foreign, problem_type=None)).multi_label


def test_one_label_is_served_where_it_may_hold_or_not(foreign: Path) -> None:
    bundle = classifier(foreign, id2label={"0": "toxic"}, problem_type="multi_label_classification")
    task = classification_task(bundle)
    assert (task.labels, task.multi_label) == (("toxic",), True)


def test_model_that_predicts_numbers_is_refused(foreign: Path) -> None:
    with pytest.raises(BundleError, match=r"config\.json: the model predicts 2 numbers, not labels"):
        classification_task(classifier(foreign, problem_type="regression"))


@pytest.mark.parametrize("names", [{}, {"0": "a", "2": "b"}, {"1": "a", "2": "b"}, {"a": "0"}, ["a", "b"], "ab"])
def test_labels_that_are_missing_or_have_gaps_are_refused(foreign: Path, names: object) -> None:
    with pytest.raises(BundleError, match=r"config\.json: id2label must name the labels 0, 1, \.\.\.; add their names"):
        classification_task(classifier(foreign, id2label=names))


@pytest.mark.parametrize(
    ("graph_outputs", "chosen"),
    [
        (["last_hidden_state", "sentence_embedding"], "sentence_embedding"),
        (["token_embeddings", "sentence_embedding"], "sentence_embedding"),
        (["last_hidden_state", "pooler_output"], "last_hidden_state"),
        (["token_embeddings"], "token_embeddings"),
    ],
)
def test_embeddings_that_the_graph_pools_go_before_those_of_tokens(
    foreign: Path, graph_outputs: list[str], chosen: str
) -> None:
    assert embedding_task(encoder(foreign, pooling=MEAN), graph_outputs).output_names == (chosen,)


@pytest.mark.parametrize("graph_outputs", [[], ["logits"], ["pooler_output"]])
def test_graph_without_embeddings_is_refused_with_the_outputs_that_would_do(
    foreign: Path, graph_outputs: list[str]
) -> None:
    message = r"tiny has none of the outputs sentence_embedding, last_hidden_state, token_embeddings; export"
    with pytest.raises(BundleError, match=message):
        embedding_task(encoder(foreign), graph_outputs)


@pytest.mark.parametrize(
    ("sentence", "positions", "limit"),
    [
        ('{"max_seq_length": 32, "do_lower_case": false}', 64, 32),
        ('{"max_seq_length": 128}', 64, 64),  # more than the model has positions
        ('{"max_seq_length": 512}', 512, 512),  # the bundle's own limit, past the usual 384
        ('{"do_lower_case": false}', 512, 512),
        (None, 512, 512),
        (None, 64, 64),
    ],
)
def test_the_limit_of_embeddings_is_that_of_the_sentence_encoder_and_its_positions(
    foreign: Path, sentence: str | None, positions: int, limit: int
) -> None:
    bundle = encoder(foreign, sentence=sentence, max_position_embeddings=positions)
    assert embedding_task(bundle, ["sentence_embedding"]).max_length == limit


@pytest.mark.parametrize("limit", ['"128"', "true", "2", "-1", "128.0", "[]"])
def test_limit_that_is_no_number_of_tokens_is_refused(foreign: Path, limit: str) -> None:
    bundle = encoder(foreign, sentence=f'{{"max_seq_length": {limit}}}')
    with pytest.raises(BundleError, match=r"sentence_bert_config\.json: max_seq_length must be a number of tokens"):
        embedding_task(bundle, ["sentence_embedding"])


@pytest.mark.parametrize(("text", "fault"), [("{", "is not valid JSON"), ("[]", "must hold a JSON object")])
def test_broken_files_beside_the_config_are_refused_by_name(foreign: Path, text: str, fault: str) -> None:
    with pytest.raises(BundleError, match=rf"1_Pooling/config\.json {fault}"):
        embedding_task(encoder(foreign, pooling=text), ["last_hidden_state"])
    with pytest.raises(BundleError, match=rf"sentence_bert_config\.json {fault}"):
        embedding_task(encoder(foreign, pooling="{}", sentence=text), ["last_hidden_state"])


@pytest.mark.parametrize(
    ("architecture", "graph_outputs"),
    [
        ("BertForQuestionAnswering", ["start_logits"]),
        ("BertForSequenceClassification", ["logits"]),
        ("BertModel", ["sentence_embedding"]),
    ],
)
def test_every_task_refuses_a_broken_tokenizer_and_too_few_positions(
    foreign: Path, architecture: str, graph_outputs: list[str]
) -> None:
    config = {"architectures": [architecture], "id2label": LABELS}
    with pytest.raises(BundleError, match="max_position_embeddings 0, too few"):
        build_task(bundle_of(foreign, max_position_embeddings=0, **config), graph_outputs)
    (foreign / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not a readable tokenizer"):
        build_task(bundle_of(foreign, max_position_embeddings=64, **config), graph_outputs)


def test_states_of_a_checkpoint_are_pooled_as_its_files_say_and_else_averaged(foreign: Path) -> None:
    states = [(np.array([[2.0, 0.0], [0.0, 2.0]], np.float32),)]
    for pooling, vector in ((None, [math.sqrt(0.5)] * 2), ('{"pooling_mode": "cls"}', [1.0, 0.0])):
        checkpoint = replace(encoder(foreign, pooling=pooling), weights=lambda _: {})
        task = embedding_task(checkpoint, ["last_hidden_state"])
        assert task.decode(task.encode(EmbeddingInput("ada ada")), states).tolist() == pytest.approx(vector)


def test_a_limit_of_null_is_none(foreign: Path) -> None:
    bundle = encoder(foreign, sentence='{"max_seq_length": null}', pooling=MEAN)
    assert embedding_task(bundle, ["last_hidden_state"]).max_length == 64


def test_a_threshold_that_is_not_a_number_is_refused(foreign: Path) -> None:
    with pytest.raises(BundleError, match="no_answer_threshold must be a number"):
        qa_task(bundle_of(foreign, no_answer_threshold=math.nan))


def test_labels_without_names_are_refused(foreign: Path) -> None:
    with pytest.raises(BundleError, match="add their names"):
        classification_task(classifier(foreign, id2label={"0": None, "1": ["x"]}))


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [("classify", "no_answer_threshold", 0), ("classify", "pooling", "cls"), ("qa", "pooling", "mean")],
)
def test_what_halfdepth_json_says_for_another_task_is_refused(
    foreign: Path, task: str, key: str, value: object
) -> None:
    bundle_of(foreign, id2label=LABELS)
    (foreign / "halfdepth.json").write_text(json.dumps({key: value}))
    with pytest.raises(BundleError, match=rf"halfdepth\.json: {key} means nothing for the task {task}; remove it"):
        build_task(read_directory(foreign, task), ["logits"])


def test_the_task_that_halfdepth_json_names_is_the_only_one(foreign: Path) -> None:
    (foreign / "halfdepth.json").write_text('{"task": "classify"}')
    with pytest.raises(BundleError, match=r"halfdepth\.json says that the task is classify and not qa"):
        build_task(read_directory(foreign, "qa"), ["start_logits", "end_logits"])


def test_an_embedding_is_prepared_and_pooled_as_the_files_say(foreign: Path) -> None:
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (foreign / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    pooling = '{"pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": true}'
    task = embedding_task(encoder(foreign, pooling=pooling), ["last_hidden_state"])
    assert task.preparation == Preparation({"query": "query: "}, "query")
    states = np.array([[3.0, 0.0], [1.0, 4.0]], np.float32)  # the mean has another direction
    assert task.decode(task.encode(EmbeddingInput("ada")), [(states,)]).tolist() == pytest.approx([0.6, 0.8])


def test_sizes_of_embeddings_are_those_of_the_config(foreign: Path) -> None:
    assert embedding_task(encoder(foreign), ["sentence_embedding"]).sizes == ()
    bundle = encoder(foreign, matryoshka_dimensions=[1, 2])
    assert embedding_task(bundle, ["sentence_embedding"]).sizes == (1, 2)


@pytest.mark.parametrize("sizes", [[0], [2, -1], ["2"], [1.5], "12", {"2": 1}])
def test_sizes_that_are_none_are_refused(foreign: Path, sizes: object) -> None:
    with pytest.raises(BundleError, match="matryoshka_dimensions must be a list of whole numbers; correct it"):
        embedding_task(encoder(foreign, matryoshka_dimensions=sizes), ["sentence_embedding"])
