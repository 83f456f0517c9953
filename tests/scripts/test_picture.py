"""The picture of the playground, taken by its command."""

import struct
from pathlib import Path

import pytest

from scripts.picture import HEIGHT, WIDTH, main
from tests.server import ROOT


def size(path: Path) -> tuple[int, ...]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    return struct.unpack(">II", content[16:24])


def test_the_picture_in_docs_has_the_size_of_its_command() -> None:
    assert size(ROOT / "docs" / "playground.png") == (WIDTH, HEIGHT)


@pytest.mark.system
def test_the_command_takes_a_picture(tmp_path: Path) -> None:
    main([str(tmp_path / "picture.png")])
    assert size(tmp_path / "picture.png") == (WIDTH, HEIGHT)
