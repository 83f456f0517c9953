from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from loadtest.payloads import ITEMS, MIX, QUESTION, QUESTIONS, SHORT, bodies, passage_of, text
from loadtest.routes import Route
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from models.tasks.similarity import EmbeddingInput
from models.tasks.similarity import build as embedding_task
from tests.server import ROOT

ROUTES = [
    Route("/ask", "ask", {"question": "Who?", "context": "Nobody."}),
    Route("/read", "read", {"text": "Who?"}),
    Route("/compare", "compare", {"source": "One.", "targets": ["Two.", "Three."]}),
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_the_same_seed_gives_the_same_bodies_and_another_seed_others(route: Route) -> None:
    first, again, other = (list(islice(bodies(route, seed), 20)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_body_is_like_its_route_s_example() -> None:
    ask, read, compare = ([next(bodies(route, seed)) for seed in range(20)] for route in ROUTES)
    assert all(list(body) == ["question", "context"] and body["question"] in QUESTIONS for body in ask)
    assert {len(str(body["context"]).split()) for body in ask} == {len(str(body["text"]).split()) for body in read}
    assert {len(str(body["text"]).split()) for body in read} == set(MIX)
    for body in compare:
        assert len(str(body["source"]).split()) == SHORT
        assert isinstance(body["targets"], list)
        assert len(body["targets"]) == ITEMS


def test_a_body_names_the_model_that_is_asked() -> None:
    for route in ROUTES:
        plain, named = next(bodies(route, 0)), next(bodies(replace(route, model="small"), 0))
        assert named == plain | {"model": "small"}


def test_lengths_follow_the_mix() -> None:
    random = Random(0)
    lengths = [len(text(random).split()) for _ in range(2000)]
    for words, share in MIX.items():
        assert lengths.count(words) / len(lengths) == pytest.approx(share / sum(MIX.values()), abs=0.05)


@pytest.mark.parametrize("tokens", [16, 33, 384])
def test_a_passage_takes_the_tokens_that_were_asked_for(tokens: int) -> None:
    qa = qa_task(load_bundle(ROOT / "bundles/qa"))
    passage = passage_of(tokens, qa.tokenizer, QUESTION)
    assert qa.encode(QAInput(QUESTION, passage)).usage.tokens_in == tokens
    similarity = embedding_task(load_bundle(ROOT / "bundles/similarity"), ["sentence_embedding"])
    text = passage_of(tokens, similarity.tokenizer)
    assert similarity.encode(EmbeddingInput(text)).usage.tokens_in == tokens
