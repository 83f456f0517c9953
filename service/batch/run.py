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

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AHEAD = 32  # lines for each core, so that a long one holds nobody up


@dataclass(slots=True)
class Tally:
    """What a run has done, behind the lines that were there `before`.

    `strict`: it may refuse no line. `stopped`: the signal that ended it before its end.
    """

    strict: bool = False
    before: int = 0
    answered: int = 0
    refused: int = 0
    stopped: int | None = None

    def count(self, answered: Answered) -> None:
        """Raises: BatchError for a line that was refused where none may be."""
        if answered.error and self.strict:
            line = self.before + self.answered + self.refused + 1
            raise BatchError(f"line {line}: {answered.error}")
        self.answered += answered.error is None
        self.refused += answered.error is not None


async def run(
    lines: Iterable[bytes | None],
    answer: Callable[[bytes | None], Awaitable[Answered]],
    write: Callable[[Answered], None],
    *,
    ahead: int,
    tally: Tally,
) -> None:
    """Answer lines, and write each once all before it are written; no more than `ahead` are read before they are.

    Once the tally says that it is stopped nothing more is read, and what was read is answered.
    """
    waiting: deque[asyncio.Future[Answered]] = deque()

    async def write_first() -> None:
        answered = await waiting.popleft()
        tally.count(answered)
        write(answered)

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
        for future in waiting:
            future.cancel()


async def run_until_stopped(
    engine: Engine,
    lines: Iterable[bytes | None],
    answer: Callable[[bytes | None], Awaitable[Answered]],
    write: Callable[[Answered], None],
    tally: Tally,
) -> None:
    """Run lines through an engine until SIGINT or SIGTERM, and close it. Raises: as Tally.count."""

    def stop(number: int) -> None:
        tally.stopped = number

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    threading.Thread(target=engine.check_runs, name="watch", daemon=True).start()
    try:
        await run(lines, answer, write, ahead=AHEAD * engine.queue.cores, tally=tally)
    finally:
        engine.close()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def bundles_of(engine: Engine) -> list[list[str]]:
    """Tell the bundles of an engine from all others."""
    bundles = [(model.id, model.bundle) for model in engine.models]
    return [[bundle.task, name, bundle.directory, bundle.revision, bundle.file] for name, bundle in bundles]
