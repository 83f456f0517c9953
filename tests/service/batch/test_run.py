import asyncio
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from service.batch.lines import Answered, lines_of
from service.batch.pieces import pieces
from service.batch.run import Tally, run

pytestmark = pytest.mark.anyio


async def test_no_more_lines_are_read_than_are_worked_on() -> None:
    read = written = most = 0

    def lines() -> Iterator[bytes]:
        nonlocal read, most
        for _ in range(1_000):
            read += 1
            most = max(most, read - written)
            yield b""

    async def answer(_: bytes | None) -> Answered:
        await asyncio.sleep(0)
        return Answered(b"{}")

    def write(_: Answered) -> None:
        nonlocal written
        written += 1

    tally = Tally()
    await run(lines(), answer, write, ahead=7, tally=tally)
    assert (tally.answered, written, most) == (1_000, 1_000, 7)


async def test_lines_are_written_in_order_whichever_is_answered_first() -> None:
    async def answer(line: bytes | None) -> Answered:
        assert line is not None
        for _ in range(9 - int(line)):
            await asyncio.sleep(0)
        return Answered(line)

    written: list[bytes] = []
    lines = [b"%d" % n for n in range(9)]
    await run(lines, answer, lambda answered: written.append(answered.content), ahead=5, tally=Tally())
    assert written == [b"%d" % n for n in range(9)]


def test_pieces_begin_where_their_lines_do(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(10)) + b"the last")
    with path.open("rb") as file:
        for skip in (0, 3, 10, 11):
            read = []
            for piece in pieces(path, skip=skip, lines=4):
                file.seek(piece["offset"])
                read += list(islice(file, piece["lines"]))
            file.seek(0)
            assert read == file.readlines()[skip:]


async def test_a_line_over_the_limit_is_passed_over_without_being_held() -> None:
    file = io.BytesIO(b"12345\n" + b"x" * 6 + b"\n" + b"y" * 10_000 + b"\n12345")
    assert list(lines_of(file, 5)) == [b"12345\n", None, None, b"12345"]
    file.seek(0)
    assert list(lines_of(file, 5, skip=2)) == [None, b"12345"]
