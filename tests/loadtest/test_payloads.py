from itertools import islice
from random import Random

import pytest

from loadtest.payloads import BODIES, MIX, QUESTION, bodies, passage_of, text
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from models.tasks.similarity import EmbeddingInput
from models.tasks.similarity import build as embedding_task
from tests.server import ROOT


@pytest.mark.parametrize("route", BODIES)
def test_the_same_seed_gives_the_same_bodies_and_another_seed_others(route: str) -> None:
    first, again, other = (list(islice(bodies(route, seed), 20)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


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
