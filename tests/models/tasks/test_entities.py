"""Entities as transformers' own pipeline finds them, and BILOU's, which it does not know."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.predict import torch_run
from models.tasks.base import InputTooLongError, Outputs, UnsupportedInputError, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.directory.model import read_directory
from models.tasks.entities import (
    SPEC,
    Aggregation,
    EntitiesInput,
    EntitiesResult,
    Entity,
    EntityRecognition,
    SpelledEntity,
    drift,
    record,
    without_overlaps,
)
from tests.conftest import PARAGRAPHS
from tests.models.tasks.test_task_of_graph import model as foreign_model

KINDS = ("bert", "roberta")
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
PLAIN = ("NOUN", "VERB", "O")
LABELS = {"BIO": BIO, "no prefixes": PLAIN}
POSITIONS = 40
LONG = " ".join(context for contexts in PARAGRAPHS.values() for context in contexts)
TEXTS = (
    "Anna Lindqvist built it in Gothenburg.",
    "Tomás, Inês and Zoë  met in the CAFÉ\nnext door; ﬁrst 東京, then 🙂 Oslo — 1,949 times!",
    LONG,
)
Pipe = Callable[..., list[dict[str, Any]]]  # as transformers has it


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_qa: dict[str, Path]) -> dict[tuple[str, str], Path]:
    """Random models of two kinds, with labels of two kinds."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

    paths = {}
    for kind in KINDS:
        for name, labels in LABELS.items():
            paths[kind, name] = path = tmp_path_factory.mktemp("checkpoints") / kind
            config = AutoConfig.from_pretrained(
                tiny_qa[kind], id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
            )
            config.max_position_embeddings = POSITIONS + (2 if kind == "roberta" else 0)
            with torch.random.fork_rng():
                torch.manual_seed(3)
                model = AutoModelForTokenClassification.from_config(config)
                # Labels shall differ from token to token.
                model.base_model.embeddings.word_embeddings.weight.data.mul_(10)
                torch.nn.init.normal_(model.classifier.weight)
                model.save_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(tiny_qa[kind])
            tokenizer.model_max_length = POSITIONS
            tokenizer.save_pretrained(path)
    return paths


def pipeline_of(path: Path) -> Pipe:
    from transformers import AutoModelForTokenClassification, AutoTokenizer, TokenClassificationPipeline

    pipe = TokenClassificationPipeline(
        model=AutoModelForTokenClassification.from_pretrained(path),
        tokenizer=AutoTokenizer.from_pretrained(path),
        device="cpu",
    )

    def ask(text: str, **parameters: Any) -> list[dict[str, Any]]:  # the pipeline's own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of words that byte-level tokenizers do not mark
            found: list[dict[str, Any]] = pipe(text, **parameters)
        # A first entity that is a space alone, so empty, it tells twice when it merges windows.
        return found[1:] if found[:1] == found[1:2] else found

    return ask


def kernel_of(path: Path) -> Callable[[EntitiesInput], EntitiesResult]:
    from transformers import AutoModelForTokenClassification

    task = build_task(read_directory(path, SPEC.name), SPEC.graph_outputs)
    answer: Callable[[EntitiesInput], EntitiesResult] = answerer(
        task, torch_run(AutoModelForTokenClassification.from_pretrained(path), task.output_names)
    )
    return answer


def same(entities: Sequence[Entity], expected: Sequence[dict[str, Any]]) -> None:
    for entity, piped in zip(entities, expected, strict=True):
        assert isinstance(entity, SpelledEntity)
        assert entity.label == piped.get("entity_group", piped.get("entity"))
        assert (entity.word, entity.start, entity.end) == (piped["word"], piped["start"], piped["end"])
        assert entity.index == piped.get("index")
        assert entity.score == pytest.approx(float(piped["score"]), abs=1e-4)


@pytest.mark.parametrize("labels", list(LABELS))
@pytest.mark.parametrize("kind", KINDS)
def test_entities_are_those_of_the_pipeline(checkpoints: dict[tuple[str, str], Path], kind: str, labels: str) -> None:
    pipe, answer = pipeline_of(checkpoints[kind, labels]), kernel_of(checkpoints[kind, labels])
    strategies: tuple[Aggregation, ...] = ("simple", "first", "average", "max")
    labels_found = set[str]()
    for text in TEXTS:
        for strategy in strategies:
            cut = answer(EntitiesInput(text, "truncate", strategy, words=True))
            same(cut.entities, pipe(text, aggregation_strategy=strategy))
            everything = answer(EntitiesInput(text, "truncate", strategy, ignore_labels=(), words=True))
            same(everything.entities, pipe(text, aggregation_strategy=strategy, ignore_labels=[]))
            for stride in (0, 7, 30):
                windows = answer(EntitiesInput(text, "window", strategy, stride, words=True))
                same(windows.entities, pipe(text, aggregation_strategy=strategy, stride=stride))
        labels_found |= {entity.label for entity in everything.entities}
        tokens = answer(EntitiesInput(text, "truncate", "none", ignore_labels=("B-PER", "VERB"), words=True))
        same(tokens.entities, pipe(text, ignore_labels=["B-PER", "VERB"]))
    assert labels_found == {label.split("-")[-1] for label in LABELS[labels]}


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_counted_from_the_side_that_is_kept(
    checkpoints: dict[tuple[str, str], Path], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "left"
    path.mkdir()
    for file in checkpoints[kind, "BIO"].iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((path / "tokenizer_config.json").read_text()) | {"truncation_side": "left"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    pipe, answer = pipeline_of(path), kernel_of(path)
    same(answer(EntitiesInput(LONG, "truncate", words=True)).entities, pipe(LONG, aggregation_strategy="simple"))
    windows = answer(EntitiesInput(LONG, "window", "first", 7, words=True))
    same(windows.entities, pipe(LONG, aggregation_strategy="first", stride=7))


@pytest.fixture
def task(bert_tokenizer: Tokenizer) -> EntityRecognition:
    return EntityRecognition(bert_tokenizer, BIO, max_length=16)


def outputs(task: EntityRecognition, text: str, labels: Sequence[str]) -> list[Outputs]:
    """Logits that give each token of a text of one window its label."""
    windows = task.encode(EntitiesInput(text)).windows
    assert len(windows) == 1
    logits = np.full((len(windows[0]), len(task.labels)), -9, np.float32)
    logits[np.arange(1, len(labels) + 1), [task.labels.index(label) for label in labels]] = 9
    return [(logits,)]


def found(task: EntityRecognition, text: str, labels: Sequence[str]) -> list[tuple[str, str]]:
    result = task.decode(task.encode(EntitiesInput(text)), outputs(task, text, labels))
    assert all(text[entity.start : entity.end] == entity.text for entity in result.entities)
    return [(entity.label, entity.text) for entity in result.entities]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-PER", "I-PER", "O", "B-LOC"], [("PER", "alpha beta"), ("LOC", "delta")]),
        (["I-PER", "I-PER", "B-PER", "O"], [("PER", "alpha beta"), ("PER", "gamma")]),  # IOB1
        (["B-PER", "B-PER", "I-LOC", "I-LOC"], [("PER", "alpha"), ("PER", "beta"), ("LOC", "gamma delta")]),
    ],
)
def test_bio_in_both_forms(task: EntityRecognition, labels: list[str], expected: list[tuple[str, str]]) -> None:
    assert found(task, "alpha beta gamma delta", labels) == expected


def test_an_entity_ends_with_its_last_character_s_marks(task: EntityRecognition) -> None:
    text = "alpha\u0301 \U0001f1ec beta\ufe0f"  # marks that the tokenizer strips
    labels = ["B-PER", *["O"] * (len(task.encode(EntitiesInput(text)).windows[0]) - 4), "B-LOC"]
    assert found(task, text, labels) == [("PER", "alpha\u0301"), ("LOC", "beta\ufe0f")]
    piped = task.decode(task.encode(EntitiesInput(text, words=True)), outputs(task, text, labels))
    assert [entity.text for entity in piped.entities] == ["alpha", "beta"]  # as transformers' pipeline has them


@pytest.mark.parametrize(("last", "only"), [("L", "U"), ("E", "S")])
def test_bilou_and_bioes_end_an_entity_where_they_say(bert_tokenizer: Tokenizer, last: str, only: str) -> None:
    labels = ["O", *(f"{prefix}-{kind}" for prefix in ("B", "I", last, only) for kind in ("PER", "LOC"))]
    task = EntityRecognition(bert_tokenizer, labels)
    text = "alpha beta gamma delta"
    assert found(task, text, ["B-PER", "I-PER", f"{last}-PER", f"{only}-PER"]) == [
        ("PER", "alpha beta gamma"),
        ("PER", "delta"),
    ]
    assert found(task, text, [f"{only}-PER", f"{only}-PER", "B-LOC", f"{last}-LOC"]) == [
        ("PER", "alpha"),
        ("PER", "beta"),
        ("LOC", "gamma delta"),
    ]
    assert found(task, text, ["B-PER", f"{last}-LOC", f"{last}-PER", "I-PER"]) == [  # as no annotator writes
        ("PER", "alpha"),
        ("LOC", "beta"),
        ("PER", "gamma"),
        ("PER", "delta"),
    ]


def test_a_label_that_only_looks_like_bilou_is_a_kind_of_its_own(bert_tokenizer: Tokenizer) -> None:
    task = EntityRecognition(bert_tokenizer, ["O", "B-PER", "I-PER", "S-PER", "X-PER"])
    assert found(task, "alpha beta", ["B-PER", "S-PER"]) == [("PER", "alpha"), ("PER", "beta")]


def test_a_kind_may_have_a_hyphen(bert_tokenizer: Tokenizer) -> None:
    task = EntityRecognition(bert_tokenizer, ["O", "B-ORG-CORP", "I-ORG-CORP"])
    assert found(task, "alpha beta", ["B-ORG-CORP", "I-ORG-CORP"]) == [("ORG-CORP", "alpha beta")]


def test_of_overlapping_entities_the_longer_or_likelier_is_kept() -> None:
    def entity(start: int, end: int, score: float) -> Entity:
        return Entity("PER", "x" * (end - start), start, end, score)

    short, long, likely, other = entity(0, 4, 0.9), entity(2, 9, 0.5), entity(2, 9, 0.6), entity(9, 10, 0.1)
    assert without_overlaps([short, long, other]) == [long, other]
    assert without_overlaps([other, long, likely]) == [likely, other]
    assert without_overlaps([]) == []


def test_default_windows_overlap_and_lose_nothing(task: EntityRecognition) -> None:
    text = " ".join(["alpha", "beta", "gamma"] * 20)
    encoding = task.encode(EntitiesInput(text))
    assert [window.first for window in encoding.windows] == list(range(0, 7 * len(encoding.windows), 7))
    assert encoding.usage.windows == len(encoding.windows) > 1
    logits = [np.tile(np.array([0, 9, 0, 0, 0], np.float32), (len(window), 1)) for window in encoding.windows]
    result = task.decode(encoding, [(each,) for each in logits])
    assert [entity.text for entity in result.entities] == text.split()


def test_what_is_too_long_is_refused_where_that_is_asked(task: EntityRecognition) -> None:
    text = "alpha " * 40
    with pytest.raises(InputTooLongError, match="takes 42 tokens and the model reads 16"):
        task.encode(EntitiesInput(text, "error"))
    limited = EntityRecognition(task.tokenizer, BIO, max_length=16, max_windows=2)
    with pytest.raises(InputTooLongError, match="needs 5 windows and the limit is 2"):
        limited.encode(EntitiesInput(text))
    with pytest.raises(UnsupportedInputError, match="hold 14 tokens of the text and cannot share 14 of them"):
        task.encode(EntitiesInput("alpha", stride=14))
    with pytest.raises(InputTooLongError, match="used up by special tokens"):
        EntityRecognition(task.tokenizer, BIO, max_length=2).encode(EntitiesInput("alpha"))
    assert task.encode(EntitiesInput(text, "truncate")).usage.truncated
    narrow = EntityRecognition(task.tokenizer, BIO, max_length=3)  # a token of the text between the special ones
    assert narrow.encode(EntitiesInput("alpha beta")).usage.windows == 2


def test_unknown_tokens_of_a_text_are_counted(task: EntityRecognition) -> None:
    usage = task.encode(EntitiesInput("alpha 雪 雨")).usage
    assert (usage.tokens_in, usage.unknown_tokens) == (5, 2)


def test_a_text_without_tokens_has_no_entities(task: EntityRecognition) -> None:
    encoding = task.encode(EntitiesInput("\u200b", aggregation="first"))
    assert task.decode(encoding, [(np.zeros((2, 5), np.float32),)]) == EntitiesResult(())


def test_outputs_of_another_model_are_our_own_fault(task: EntityRecognition) -> None:
    encoding = task.encode(EntitiesInput("alpha"))
    with pytest.raises(ValueError, match="gives 4 logits for a token and its configuration 5 labels"):
        task.decode(encoding, [(np.zeros((3, 4), np.float32),)])
    with pytest.raises(ValueError, match=r"^the model's logits are not numbers$"):
        task.decode(encoding, [(np.full((3, 5), np.nan, np.float32),)])


def test_golden_answers_are_every_token_s() -> None:
    item = EntitiesInput("alpha beta", "truncate", "none", ignore_labels=())
    assert SPEC.replay(record(item, EntitiesResult(()))) == item

    def result(*tokens: tuple[str, float]) -> EntitiesResult:
        return EntitiesResult(tuple(Entity(label, "", 0, 0, score) for label, score in tokens))

    recorded = record(item, result(("O", 0.9), ("B-PER", 0.5)))
    assert drift(recorded, result(("O", 0.9), ("B-PER", 0.5))) == 0
    assert drift(recorded, result(("O", 0.8), ("B-PER", 0.5))) == pytest.approx(0.1)
    assert drift(recorded, result(("O", 0.9), ("I-PER", 0.5))) == 0  # a tie, told otherwise
    assert drift(recorded, result(("B-PER", 0.9), ("B-PER", 0.5))) == pytest.approx(0.8)
    assert drift(recorded, result(("O", 0.9))) == 1
    assert drift(record(item, result()), result()) == 0


def test_a_language_model_is_not_taken_for_one_of_tokens_labels(foreign: Path) -> None:
    shape: dict[str, list[int | str]] = {"logits": ["batch", "seq", 9]}
    assert load_bundle(foreign_model(foreign, shape, ["BertForTokenClassification"])).task == SPEC.name
    assert load_bundle(foreign_model(foreign, shape, ["NewTagger"])).task == SPEC.name
    with pytest.raises(BundleError, match="which is for no task here"):
        load_bundle(foreign_model(foreign, shape, ["BertForMaskedLM"]))
    assert SPECS[SPEC.name] is SPEC
