"""The recipes, without the hours that they train: each command fits today's flags, and finds what it reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.options import ExportOptions
from models.finetune.abstaining.calibrate import CalibrateOptions
from models.finetune.options import FinetuneOptions
from models.pretrain.options import PretrainOptions
from models.tasks.options import Options, read_options
from tests.conftest import write_squad

ROOT = Path(__file__).parents[1]
BUNDLES = {"qa": ("qa", "qa-small"), "classify": ("classify",), "similarity": ("similarity",), "rerank": ("rerank",)}
HELD_OUT = {"rerank": {"squad2_dev.json"}}  # of the student that a reranker goes on from
FOLDERS = {".json": "qa", ".tsv": "classify", ".txt": "text"}
OPTIONS: dict[str, type[Options]] = {
    "finetune": FinetuneOptions,
    "export": ExportOptions,
    "pretrain": PretrainOptions,
    "models.finetune.abstaining.calibrate": CalibrateOptions,
}
# What stands for `halfdepth` and `python -m`: it writes down how it was called, and leaves what a run leaves.
STAND_IN = """\
#!{python}
import json, os, sys
from pathlib import Path
if Path(sys.argv[0]).name == "python" and sys.argv[1] == "-":
    os.execv("{python}", ["{python}", *sys.argv[1:]])
argv = sys.argv[2:] if sys.argv[1] == "-m" else sys.argv[1:]
for flag, value in zip(argv, argv[1:]):
    if os.path.isabs(value) and flag not in ("--out", "--cache-teacher"):
        os.stat(value)
with open("{calls}", "a") as file:
    file.write(json.dumps(argv) + "\\n")
if "--out" in argv:
    out = Path(argv[argv.index("--out") + 1])
    out.mkdir(parents=True)
    (out / "training.json").write_text("{{}}")
"""


def data_names(bundle: str) -> set[str]:
    manifest = json.loads((ROOT / "bundles" / bundle / "manifest.json").read_text())
    return {record["name"] for record in manifest["data"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of all names that the bundles say they are made of."""
    root = tmp_path_factory.mktemp("data")
    names = set().union(*(data_names(bundle) for bundles in BUNDLES.values() for bundle in bundles))
    for name in names | {"imdb_unsup.txt"}:
        folder = "similarity" if name.startswith("sts") else FOLDERS[Path(name).suffix]
        path = root / folder / name.replace("_part", "")
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".json":
            write_squad(path)
        else:
            path.write_text("text\tlabel\ngood\t1\nbad\t0\n")
    return root


def commands(recipe: str, data: Path, directory: Path) -> list[list[str]]:
    """Run a recipe, where stand-ins are found before the real programs. Returns: the command lines that it gives."""
    calls, programs = directory / "calls", directory / "bin"
    programs.mkdir()
    for program in ("halfdepth", "python"):
        (programs / program).write_text(STAND_IN.format(python=sys.executable, calls=calls))
        (programs / program).chmod(0o755)
    paths = {"PATH": f"{programs}:{os.environ['PATH']}", "WORK": str(directory / "work")}
    command = [ROOT / "recipes" / f"{recipe}.sh", data, directory / "out"]
    subprocess.run(command, env=os.environ | paths, check=True)
    return [json.loads(line) for line in calls.read_text().splitlines()]


@pytest.mark.parametrize("recipe", [*BUNDLES, "general"])
def test_each_command_fits_and_what_it_reads_is_there(recipe: str, data: Path, tmp_path: Path) -> None:
    asked = commands(recipe, data, tmp_path)
    for command, *arguments in asked:
        read_options(OPTIONS[command], command, arguments)
    exported = [Path(arguments[arguments.index("--out") + 1]) for command, *arguments in asked if command == "export"]
    assert len(exported) == len(BUNDLES.get(recipe, ())) + (2 if recipe == "rerank" else 0)


@pytest.mark.parametrize("recipe", BUNDLES)
def test_a_recipe_reads_what_its_bundles_name(recipe: str, data: Path, tmp_path: Path) -> None:
    words = {Path(word) for line in commands(recipe, data, tmp_path) for word in line}
    files = {word.name for word in words if word.suffix in FOLDERS}
    assert files == set().union(*(data_names(bundle) for bundle in BUNDLES[recipe])) | HELD_OUT.get(recipe, set())
