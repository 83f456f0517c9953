"""Writes the table of kinds and tasks into docs/serving.md."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from models.tasks.base import TaskName
from tests.conftest import write_squad
from tests.matrix.cells import AGREES, CELLS, WAYS, Matrix, Way
from tests.matrix.kinds import HEADS, KINDS

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
BEGIN, END = "<!-- written by python -m tests.matrix -->\n", "<!-- end of the table -->\n"

Outcomes = Mapping[tuple[str, TaskName, Way], str]


def section(outcomes: Outcomes) -> str:
    """Lay out the table, with a note below it for each refusal."""
    refusals: list[str] = []

    def mark(kind: str, task: TaskName) -> str:
        numbers: dict[Way, int] = {}
        for way in WAYS:
            outcome = outcomes[kind, task, way]
            if outcome != AGREES:
                refusals.extend([outcome] if outcome not in refusals else [])
                numbers[way] = refusals.index(outcome) + 1
        if len(numbers) == len(WAYS) and len(set(numbers.values())) == 1:
            return f"refused ({numbers[WAYS[0]]})"
        return ", ".join(f"{way} refused ({number})" for way, number in numbers.items()) or AGREES

    rows = [f"| `{kind}` | " + " | ".join(mark(kind, task) for task in HEADS) + " |" for kind in KINDS]
    notes = [f"{number}. {refusal}" for number, refusal in enumerate(refusals, start=1)]
    table = [f"| `model_type` | {' | '.join(HEADS)} |", "|---|" + "---|" * len(HEADS), *rows]
    return "\n".join([BEGIN.strip(), *table, "", *notes, END.strip()]) + "\n"


def main() -> None:
    """Run every cell and replace the table in the page."""
    os.environ["TQDM_DISABLE"] = "1"
    with TemporaryDirectory() as directory:
        root = Path(directory)
        matrix = Matrix(root, write_squad(root / "squad.json"))
        outcomes = {cell: matrix.outcome(*cell) for cell in CELLS}
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + section(outcomes) + rest.partition(END)[2])


if __name__ == "__main__":
    main()
