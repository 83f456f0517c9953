"""Work on many inputs gives what one process would."""

from collections.abc import Sequence

import pytest

from models.finetune import cores
from models.finetune.cores import on_all_cores


def test_the_order_is_that_of_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "FEW", 10)
    monkeypatch.setattr(cores, "PIECE", 7)
    offset = 3  # a closure reaches the processes
    assert on_all_cores(lambda piece: [number + offset for number in piece], range(100)) == list(range(3, 103))


def test_an_error_of_a_piece_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "FEW", 10)

    def refuse(piece: Sequence[int]) -> list[int]:
        raise ValueError(f"not {piece[0]}")

    with pytest.raises(ValueError, match="not 0"):
        on_all_cores(refuse, range(20))
