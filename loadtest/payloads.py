"""Makes the bodies of requests for load: seeded, no two texts alike, of a stated mix of lengths."""

from collections.abc import Iterator
from random import Random

from tokenizers import Tokenizer

from loadtest.routes import Route

QUESTION = "Who wrote the first program?"
PASSAGE = (
    "Ada Lovelace wrote the first program in 1843, for a machine that was never built. Charles Babbage had designed it "
    "to compute with cogs and cards, and she saw that it could work on more than numbers. "
)

MIX = {12: 4, 50: 3, 200: 2, 600: 1}
"""Words of a text, and how often out of ten. A word is about 1.3 tokens; the longest are read in several windows."""
SHORT = 12  # words of every text of a request but the last
ITEMS = 5  # of a list of texts
SENTENCES = (
    "Ada Lovelace wrote the first program in 1843, for a machine that was never built.",
    "The storm put out the lamp of the lighthouse, and Maria Jensen repaired it the next morning.",
    "Every morning at four the baker unlocks the shop behind the market and feeds the oven with beech wood.",
    "The greenhouse, which was destroyed by hail in 1957, was rebuilt with donations from local schools.",
    "In the valley the mornings are cold and clear, and the farmers bring in the hay before the rain comes.",
    "The council voted on Tuesday to repair the old bridge, although nobody could say who would pay for it.",
    "Its last keeper left the tower in the spring of 1968, and since then the light has turned by itself.",
    "The orchestra plays without a conductor, which makes the slow movements slower and the fast ones faster.",
    "A ship from Gothenburg brought the stones, eleven of which lie at the bottom of the harbour to this day.",
    "She saw that the engine could work on more than numbers, on anything that obeys rules.",
)
QUESTIONS = ("Who repaired the lamp?", "When was the greenhouse destroyed?", "Where did the stones come from?")

Body = dict[str, object]


def bodies(route: Route, seed: int) -> Iterator[Body]:
    """Make endless bodies like the route's example; the same route and seed give the same bodies."""
    random = Random(f"{route.path} {seed}")
    *_, last = route.example
    while True:
        texts = {
            field: _like(value, random, SHORT if field != last else None) for field, value in route.example.items()
        }
        yield texts | route.choice


def _like(value: object, random: Random, words: int | None) -> object:
    """Make a text, or a list of texts, like the example's `value`; a short question is replaced by a question."""
    if isinstance(value, list):
        return [text(random, words) for _ in range(ITEMS)]
    if words is not None and str(value).endswith("?"):
        return random.choice(QUESTIONS)
    return text(random, words)


def text(random: Random, words: int | None = None) -> str:
    """Join sentences in random order, cut to so many words, or to a length of the mix."""
    if words is None:
        [words] = random.choices(list(MIX), weights=list(MIX.values()))
    parts: list[str] = []
    while len(parts) < words:
        parts += random.choice(SENTENCES).split()
    return " ".join(parts[:words])


def passage_of(tokens: int, tokenizer: Tokenizer, question: str | None = None) -> str:
    """Cut a text that takes so many tokens, special tokens included, together with the question if there is one."""
    text = PASSAGE * (tokens // 20 + 1)
    encoding = tokenizer.encode(text) if question is None else tokenizer.encode(question, text)
    text_sequence = 0 if question is None else 1
    last = max(position for position, sequence in enumerate(encoding.sequence_ids) if sequence == text_sequence)
    closing_tokens = len(encoding.ids) - 1 - last
    end: int = encoding.offsets[tokens - closing_tokens - 1][1]
    return text[:end]
