"""Runs the lines of a batch, as many at a time as keep every core busy, and writes them in order."""

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from service.batch.lines import Answered
from service.batch.output import BatchError
from service.engine.engine import Engine

AHEAD = 32  # lines for each core, so that a long one holds nobody up


@dataclass(slots=True)
class Tally:
    """What a run has done. `stopped`: the signal that ended it before its end."""

    answered: int = 0
    refused: int = 0
    stopped: int | None = None


async def run(
    lines: Iterable[bytes | None],
    answer: Callable[[bytes | None], Awaitable[Answered]],
    write: Callable[[Answered], None],
    *,
    ahead: int,
    strict: bool = False,
) -> Tally:
    """Answer lines, and write each once all before it are written; no more than `ahead` are read before they are.

    On SIGINT or SIGTERM nothing more is read, and what was read is answered. Raises: BatchError, if `strict`, at the
    first line that is refused, after all before it were written.
    """
    tally = Tally()
    waiting: deque[asyncio.Future[Answered]] = deque()

    def stop(number: int) -> None:
        tally.stopped = number

    async def write_first() -> None:
        answered = await waiting.popleft()
        if answered.error and strict:
            raise BatchError(str(answered.error))
        tally.answered += answered.error is None
        tally.refused += answered.error is not None
        write(answered)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        for line in lines:
            waiting.append(asyncio.ensure_future(answer(line)))
            if len(waiting) >= ahead:
                await write_first()
            if tally.stopped:
                break
        while waiting:
            await write_first()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for future in waiting:
            future.cancel()
    return tally


async def run_engine(
    engine: Engine,
    lines: Iterable[bytes | None],
    answer: Callable[[bytes | None], Awaitable[Answered]],
    write: Callable[[Answered], None],
    *,
    strict: bool,
) -> Tally:
    """Run lines through an engine, and close it. Raises: as `run`."""
    threading.Thread(target=engine.check_runs, name="watch", daemon=True).start()
    try:
        return await run(lines, answer, write, ahead=AHEAD * engine.queue.cores, strict=strict)
    finally:
        engine.close()
