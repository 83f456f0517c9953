"""Every kind of encoder for every task, exported in every way: as in PyTorch, or refused in one line."""

from pathlib import Path

import pytest

from models.tasks.base import TaskName
from tests.matrix.__main__ import PAGE, section
from tests.matrix.cells import CELLS, Matrix, Way


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory, squad_file: Path) -> Matrix:
    return Matrix(tmp_path_factory.mktemp("matrix"), squad_file)


@pytest.mark.parametrize(("kind", "task", "way"), CELLS, ids=["-".join(cell) for cell in CELLS])
def test_a_cell_agrees_with_pytorch_or_is_refused_in_one_line(
    matrix: Matrix, kind: str, task: TaskName, way: Way
) -> None:
    outcome = matrix.outcome(kind, task, way)
    assert "\n" not in outcome


def test_the_documentation_shows_the_table(matrix: Matrix) -> None:
    outcomes = {cell: matrix.outcome(*cell) for cell in CELLS}
    assert section(outcomes) in PAGE.read_text(), "out of date; run python -m tests.matrix"
