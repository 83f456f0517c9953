"""The bundles that we ship, asked through the service as a client would."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.tasks.answers import GoldenAnswer
from models.tasks.build import SPECS
from models.tasks.bundle import load_bundle
from service.app import create_app
from service.settings import Settings
from service.startup.opening import Loader

BUNDLES = Path(__file__).parents[1] / "bundles"
PASSAGE = (
    "Marta Ruiz founded the botanical garden of Vallmont in 1903 with seeds that she had brought from Chile. "
    "The greenhouse, which was destroyed by hail in 1957, was rebuilt with donations from local schools. "
    "Today the garden employs forty people and is best known for its collection of alpine flowers."
)
FILLER = (
    "The road follows the river for a while and then climbs through fields and small woods towards the hills. "
    "In the valley the mornings are cold and clear, and the farmers bring in the hay before the rain comes."
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(bundles=BUNDLES))) as client:
        yield client


def ask(client: TestClient, **fields: object) -> dict[str, Any]:  # JSON
    response = client.post("/qa", json=fields)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who founded the botanical garden?", "Marta Ruiz"),
        ("When was the garden founded?", "1903"),
        ("What destroyed the greenhouse?", "hail"),
        ("How many people does the garden employ?", "forty"),
    ],
)
def test_it_answers_what_the_passage_says(client: TestClient, question: str, answer: str) -> None:
    reply = ask(client, question=question, context=PASSAGE)
    best = reply["answers"][0]
    assert answer in best["text"]
    assert PASSAGE[best["start"] : best["end"]] == best["text"]
    assert reply["model"]["precision"] == "int8"


def test_a_text_of_20000_words_is_answered_out_of_its_last_paragraph(client: TestClient) -> None:
    filler = (FILLER + "\n\n") * (20_000 // len(FILLER.split()))
    reply = ask(client, question="Who founded the botanical garden of Vallmont?", context=filler + PASSAGE)
    assert reply["usage"]["windows"] > 50
    assert reply["answers"][0]["text"] == "Marta Ruiz"
    assert reply["answers"][0]["start"] == len(filler)


def test_it_abstains_where_it_may_and_the_passage_is_about_something_else(client: TestClient) -> None:
    reply = ask(client, question="Who founded the botanical garden?", context=FILLER, allow_no_answer=True)
    assert reply["answers"] == []
    assert reply["no_answer_score"] > 0.5


def test_it_still_gives_the_answers_that_its_manifest_records(client: TestClient) -> None:
    manifest = load_bundle(BUNDLES / "qa").manifest
    assert manifest is not None
    for golden in manifest.golden:
        assert isinstance(golden, GoldenAnswer)
        best = ask(client, question=golden.question, context=golden.context)["answers"][0]
        assert (best["text"], best["start"]) == (golden.text, golden.start)
        assert best["score"] == pytest.approx(golden.score, abs=0.1)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A warm, funny and beautifully acted film.", "positive"),
        ("Two hours of boredom, with a script that insults its audience.", "negative"),
    ],
)
def test_a_text_is_positive_or_negative(client: TestClient, text: str, label: str) -> None:
    response = client.post("/classify", json={"text": text})
    assert response.status_code == 200, response.text
    assert response.json()["labels"][0]["label"] == label


def test_the_document_that_answers_a_query_comes_first(client: TestClient) -> None:
    documents = [FILLER, *PASSAGE.split(". ")]
    for query, words in (("Who founded the garden?", "Marta Ruiz"), ("What destroyed the greenhouse?", "hail")):
        reply = client.post("/rerank", json={"query": query, "documents": documents, "top_n": 1}).json()
        assert words in documents[reply["results"][0]["index"]]
        assert reply["model"]["precision"] == "int8"


@pytest.mark.parametrize("text", ["Andre\u0301", "Zoe\u0308", "Ine\u0302s\u0301"])
def test_an_answer_ends_with_all_of_its_last_character(client: TestClient, text: str) -> None:
    context = f"The bread was baked by {text}, who lives in Oslo."
    [answer] = ask(client, question="Who baked the bread?", context=context)["answers"]
    assert answer["text"] == context[answer["start"] : answer["end"]] == text


def test_a_text_that_cannot_be_read_is_told_by_its_unknown_tokens(client: TestClient) -> None:
    first, second = "ฉันชอบแมว", "พรุ่งนี้ฝนจะตก"
    reply = client.post("/similarity", json={"source": first, "targets": [second]}).json()
    assert reply["scores"] == pytest.approx([1.0], abs=1e-6)  # the model sees the same token twice
    assert (reply["usage"]["tokens_in"], reply["usage"]["unknown_tokens"]) == (6, 2)
    assert client.post("/classify", json={"text": "🙂 fine 🙂"}).json()["usage"]["unknown_tokens"] == 2
    listed = client.post("/qa", json={"inputs": [{"question": "ใคร", "context": "in Oslo"}] * 2}).json()
    assert listed["usage"]["unknown_tokens"] == 2
    assert [result["usage"]["unknown_tokens"] for result in listed["results"]] == [1, 1]
    assert ask(client, question="Who?", context=PASSAGE)["usage"]["unknown_tokens"] == 0


@pytest.mark.parametrize("context", ["\u200b", "\ufeff", "\u0001", "\u200d\u200c"])
def test_a_context_with_nothing_to_read_has_no_answer(client: TestClient, context: str) -> None:
    assert ask(client, question="Who?", context=context)["answers"] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qa-small", {"no_answer_threshold": -9}),
        ("qa-small", {"no_answer_threshold_by_tokens": [[64, -9], [128, 9]]}),
        ("similarity", {"pooling": "cls"}),
    ],
)
def test_what_an_operator_changes_is_not_taken_for_a_fault_of_the_cpu(
    name: str, said: dict[str, object], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(BUNDLES / name, tmp_path / name))
    settings = Settings(bundles=BUNDLES, threads=1)
    as_shipped = Loader(settings).model(load_bundle(path))
    (path / "halfdepth.json").write_text(json.dumps(said))
    changed = Loader(settings).model(load_bundle(path))
    assert changed.drift == as_shipped.drift
    spec = SPECS[changed.bundle.task]
    item = spec.golden_inputs[0]
    assert spec.drift(spec.record(item, as_shipped.answer(item)), changed.answer(item)) > 0.01


@pytest.mark.parametrize("name", ["qa-small", "classify", "similarity", "rerank"])
def test_a_limit_of_windows_is_for_requests_and_not_for_golden_answers(name: str) -> None:
    bundle = load_bundle(BUNDLES / name)
    drifts = [
        Loader(Settings(bundles=BUNDLES, threads=1, max_windows=max_windows)).model(bundle).drift
        for max_windows in (1, 256)
    ]
    assert drifts[0] == drifts[1]
