"""Inputs of stated lengths, always the same."""

from tokenizers import Tokenizer

QUESTION = "Who wrote the first program?"
PASSAGE = (
    "Ada Lovelace wrote the first program in 1843, for a machine that was never built. Charles Babbage had designed it "
    "to compute with cogs and cards, and she saw that it could work on more than numbers. "
)


def passage_of(tokens: int, tokenizer: Tokenizer, question: str | None = None) -> str:
    """A text that takes so many tokens, special tokens counted, together with the question if there is one."""
    text = PASSAGE * (tokens // 20 + 1)
    whole = tokenizer.encode(text) if question is None else tokenizer.encode(question, text)
    own = 0 if question is None else 1
    closing = len(whole.ids) - 1 - max(at for at, sequence in enumerate(whole.sequence_ids) if sequence == own)
    end: int = whole.offsets[tokens - closing - 1][1]
    return text[:end]
