import pytest

from loadtest.texts import QUESTION, passage_of
from models.tasks.build import embedding_task, qa_task
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput
from tests.server import ROOT


@pytest.mark.parametrize("tokens", [16, 33, 384])
def test_a_passage_takes_the_tokens_that_were_asked_for(tokens: int) -> None:
    qa = qa_task(load_bundle(ROOT / "bundles/qa"))
    passage = passage_of(tokens, qa.tokenizer, QUESTION)
    assert qa.encode(QAInput(QUESTION, passage)).usage.tokens_in == tokens
    similarity = embedding_task(load_bundle(ROOT / "bundles/similarity"), ["sentence_embedding"])
    text = passage_of(tokens, similarity.tokenizer)
    assert similarity.encode(EmbeddingInput(text)).usage.tokens_in == tokens
