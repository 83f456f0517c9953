"""Tries a sample of the mutants of models/tasks and service/engine on their tests, and says which survive.

`make mutation` runs it, in an environment of its own with mutmut; pyproject.toml names the tests.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path("mutants")  # where mutmut keeps what it makes, in the working directory
KILLED = {1: "killed", 3: "killed", 36: "timed out", 24: "timed out", -24: "timed out", 152: "timed out"}
UNTESTED = (5, 33)  # no test calls its function
ENOUGH = 0.85
MUTMUT = (sys.executable, "-m", "mutmut")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns: 0 if enough are killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=300, help="how many mutants, drawn from all; 0 takes them all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    options = parser.parse_args(argv)
    make()
    names = draw(sorted(verdicts(FOLDER)), options.sample, options.seed)
    subprocess.run([*MUTMUT, "run", "--max-children", str(options.jobs), *names], check=True)
    codes = verdicts(FOLDER)
    tried = {name: codes[name] for name in names}
    survivors = [name for name in names if tried[name] not in KILLED]
    for name in survivors:
        subprocess.run([*MUTMUT, "show", name], check=True)
    sys.stdout.write(f"seed {options.seed}: {summary(tried)}\n")
    return int(killed(tried) < ENOUGH)


def make() -> None:
    """Write every mutant into `FOLDER`, as `mutmut run` does before it tries any."""
    from mutmut.__main__ import CatchOutput, copy_also_copy_files, copy_src_dir, create_mutants

    FOLDER.mkdir(exist_ok=True)
    with CatchOutput(spinner_title="Generating mutants"):
        copy_src_dir()
        copy_also_copy_files()
        create_mutants(1)


def verdicts(folder: Path) -> dict[str, int | None]:
    """Return the exit code of the tests for each mutant, None for one that was not tried."""
    codes: dict[str, int | None] = {}
    for path in folder.rglob("*.py.meta"):
        codes |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return codes


def draw(names: Sequence[str], count: int, seed: int) -> list[str]:
    """Return so many of the names, in their order; all of them if `count` is 0 or too large."""
    if not 0 < count < len(names):
        return list(names)
    return sorted(random.Random(seed).sample(names, count))  # noqa: S311  # a draw that can be repeated


def killed(codes: Mapping[str, int | None]) -> float:
    """Return the share of the mutants that a test has noticed."""
    return sum(code in KILLED for code in codes.values()) / len(codes)


def summary(codes: Mapping[str, int | None]) -> str:
    """Count the mutants by what became of them."""
    counts = Counter(
        KILLED.get(code, "untested" if code in UNTESTED else "survived") if code is not None else "not tried"
        for code in codes.values()
    )
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return f"{len(codes)} mutants: {parts}; {killed(codes):.1%} killed"


if __name__ == "__main__":
    sys.exit(main())
