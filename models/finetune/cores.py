"""Spreads work on many inputs, such as tokenization, over all cores."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")

FEW = 2000  # inputs, below which processes cost more than they gain
PIECE = 500  # inputs that a process takes at once

_work: Callable[[Sequence[Any]], list[Any]]  # of a process of the pool, which is forked: nothing of it is copied


def on_all_cores(work: Callable[[Sequence[InputT]], list[OutputT]], inputs: Sequence[InputT]) -> list[OutputT]:
    """Do `work` on all inputs, in their order, piece by piece. It must not touch a GPU."""
    cores = len(os.sched_getaffinity(0))
    if len(inputs) < FEW or cores == 1:
        return work(inputs)
    pieces = [inputs[at : at + PIECE] for at in range(0, len(inputs), PIECE)]
    with multiprocessing.get_context("fork").Pool(cores, initializer=_remember, initargs=(work,)) as pool:
        return list(chain.from_iterable(pool.imap(_call, pieces)))


def _remember(work: Callable[[Sequence[Any]], list[Any]]) -> None:
    global _work
    _work = work


def _call(piece: Sequence[Any]) -> list[Any]:
    return _work(piece)
