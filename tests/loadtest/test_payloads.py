from itertools import islice
from random import Random

import pytest

from loadtest.payloads import BODIES, MIX, bodies, text


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
