"""Every command of the README and the pages behind it, run on tiny inputs: what they show is what a reader gets."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.process import service
from loadtest.report.readme import BLOCK
from tests.server import ROOT

README = (ROOT / "README.md").read_text()
SERVING = (ROOT / "docs" / "serving.md").read_text()
# In the order in which their commands run here: the load comes last.
PAGES = "".join((README, (ROOT / "docs" / "training.md").read_text(), SERVING))
RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^```bash\n(curl .*?)^```\n\n```json\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
FIRST = "make serve "  # tests/test_fresh_clone.py runs it in a clone; `make test` is what runs all of this
CONTAINERS = "docker "  # tests/test_image.py builds and runs the image, tests/deploy/test_nginx.py balances the load
# tests/service/startup/test_hub.py and tests/service/test_routes_entities.py do the same with models of their own.
HUB = ("HALFDEPTH_MODELS=", "optimum-cli export onnx --task token-classification")
DEVICE = "npm ci "  # tests/deploy/test_on_device.py installs and serves the page
WORK = [block for block in BLOCKS if re.search(r"^(halfdepth|recipes/|make train|python -m) ?", block, re.MULTILINE)]

# The tables under `data`.
CLASSIFY = ("trec_train", "sst2_train", "sst2_phrases_train", "sst2_dev", "imdb_train", "uci_sentences")
SIMILARITY = ("stsb_train", "stsb_dev", "sts12_16_rest")

# What stands in for `make`: the environment is there, and a service that has loaded its bundles has run each of them.
MAKE = """
make() {
    case $1 in
        serve) "$PYTHON" -c "from service.app import create_app; from service.settings import Settings
create_app(Settings())" ;;
        loadtest) HALFDEPTH_BUNDLES="$ROOT/bundles" "$PYTHON" -m loadtest --seconds 2 ;;
        train) ;;
        *) return 2 ;;
    esac
}
"""

# The command `halfdepth`, with what tiny inputs need: models that have learned nothing lose any number of points, and a
# reranker's only logit is then so near to 0 that int8 differs as much as it is large.
HALFDEPTH = f"""#!/bin/sh
case "$*" in
    export*rerank*) exec {sys.executable} {ROOT / "halfdepth.py"} "$@" --max-metric-drop 200 --no-rewrite ;;
esac
case $1 in
    export) exec {sys.executable} {ROOT / "halfdepth.py"} "$@" --max-metric-drop 200 --min-agreement 0 ;;
    ablate) exec {sys.executable} {ROOT / "halfdepth.py"} "$@" --seeds 0 ;;
    *) exec {sys.executable} {ROOT / "halfdepth.py"} "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service(tmp_path_factory.mktemp("service") / "log", BUNDLES=str(ROOT / "bundles")) as running:
        yield running.url


@pytest.fixture
def data(squad_file: Path, tmp_path: Path) -> Path:
    """A directory like the one that the pages call `data`."""
    labelled = [f"{'red' if number % 2 else 'blue'} tower {number}\t{number % 2}" for number in range(60)]
    tables = {
        "classify": ("text\tlabel", labelled, CLASSIFY),
        "similarity": ("sentence1\tsentence2\tscore", ["a\tb\t1", "a\ta\t5", "c\td\t0"], SIMILARITY),
    }
    for folder, (header, rows, names) in tables.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.tsv").write_text("".join(f"{line}\n" for line in (header, *rows)))
    for folder in ("qa", "text"):
        (tmp_path / folder).mkdir()
    for name in re.findall(r"\$DATA/qa/(\w+)\.json", "".join((PAGES, *(path.read_text() for path in RECIPES)))):
        shutil.copy(squad_file, tmp_path / "qa" / f"{name}.json")
    for name in ("qa_contexts", "wikitext2_test", "wikitext2_valid", "imdb_unsup"):
        (tmp_path / "text" / f"{name}.txt").write_text("The lamp is red.\nThe old tower is blue.\n")
    return tmp_path


def test_every_command_is_run_by_some_test() -> None:
    [first] = [block for block in BLOCKS if block.startswith(FIRST)]
    [containers] = [block for block in BLOCKS if block.startswith(CONTAINERS)]
    hub = [block for block in BLOCKS if block.startswith((*HUB, DEVICE))]
    assert set(BLOCKS) == {first, containers, *hub, *WORK, *(command for command, _ in SHOWN)}
    for target in re.findall(r"^(?:\w+=\S+ )?make ([\w-]+)", "".join(BLOCKS), re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_every_recipe_is_among_the_commands() -> None:
    assert set(re.findall(r"^recipes/(\S+)", "".join(WORK), re.MULTILINE)) == {path.name for path in RECIPES}


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "shown"), SHOWN, ids=[re.findall(r"8000/(\w+)", command)[0] for command, _ in SHOWN]
)
def test_a_request_is_answered_as_shown(command: str, shown: str, url: str) -> None:
    done = subprocess.run(["bash", "-euc", on(url, command)], capture_output=True, text=True, check=True)
    reply, expected = json.loads(done.stdout), json.loads(shown)
    assert reply.pop("timings_ms").keys() == expected.pop("timings_ms").keys()
    assert reply == rounded(expected)


BRIEFLY = "--threads 1 --only cost load --seconds 0.5 --rounds 1 --tokens 16 --concurrency 2"


@pytest.mark.system
def test_the_long_lines_lead_to_bundles_that_are_served(
    url: str, data: Path, tiny_teacher: Path, tiny_qa: dict[str, Path], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "bin").mkdir(parents=True)
    (work / "bin" / "halfdepth").write_text(HALFDEPTH)
    (work / "bin" / "halfdepth").chmod(0o755)
    (work / "recipes").symlink_to(ROOT / "recipes")
    for name in ("train", "dev"):
        (work / f"{name}.conll").write_text("Anna B-PER\nbuilt O\n\nthe O\nlamp B-MISC\nis O\nred O\n\n" * 8)
    script = on(url, "".join(WORK))
    for written, tiny in (
        ("recipes/qa.sh data ", f"recipes/qa.sh {data} "),
        ("DATA=data\n", f"DATA={data}\n"),
        ("sentence-transformers/all-MiniLM-L6-v2", str(tiny_teacher)),
        ("deepset/minilm-uncased-squad2", str(tiny_qa["bert"])),
        ("--model bert-base-cased", f"--model {tiny_teacher}"),
        ("--teacher runs/ner-teacher --layers 6", "--teacher runs/ner-teacher --layers 2"),
        ("answers.jsonl --bundles bundles", f"answers.jsonl --bundles {ROOT / 'bundles'}"),
        ("calibrate --bundle bundles/qa", f"calibrate --bundle {ROOT / 'bundles' / 'qa'}"),
        ("halfdepth bench --bundles bundles", f"halfdepth bench --bundles {ROOT / 'bundles'} {BRIEFLY}"),
        ("--connections 1000", "--connections 20 --seconds 1"),
        ("--seconds 10", "--seconds 2"),
        ("source .venv-dev/bin/activate", f'PATH="{work / "bin"}:{Path(sys.executable).parent}:$PATH"'),
    ):
        assert written in script
        script = script.replace(written, tiny)
    command = [
        "bash",
        "-euo",
        "pipefail",
        "-c",
        f"export MODEL={tiny_teacher} TEACHER={tiny_teacher} LAYERS=4 SMALL_LAYERS=2\n"
        f"ROOT={ROOT}\nPYTHON={sys.executable}\n{MAKE}\n{script}",
    ]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert {path.name for path in (work / "runs" / "bundles").iterdir()} == {
        "qa",
        "qa-small",
        "classify",
        "similarity",
        "rerank",
    }
    assert {path.name for path in (work / "my-bundles").iterdir()} == {"qa", "classify", "entities"}
    assert (work / "runs" / "loadtest" / "report.html").is_file()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
@pytest.mark.parametrize("arguments", [[], ["--help"], ["data", "out", "more"]], ids=["none", "help", "three"])
def test_a_recipe_without_its_data_says_how_it_is_used(recipe: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [recipe, *arguments], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"usage: recipes/{recipe.name} DATA [OUT]")


def test_the_table_of_latencies_is_out_of_one_measurement_of_the_log() -> None:
    [table] = re.findall(r"^```text\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
    log = (ROOT / "docs" / "log" / "serving.md").read_text()
    measurements = re.findall(r"^```\n(.*?)^```", log, re.MULTILINE | re.DOTALL)
    assert any(set(table.splitlines()) <= set(measured.splitlines()) for measured in measurements)


def test_the_readme_is_short() -> None:
    [tree] = re.findall(r"^## Folders\n\n```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    written_by_hand = BLOCK.sub("", README)  # the latency report writes the rest
    assert len(written_by_hand.splitlines()) <= 180
    assert len(tree.splitlines()) <= 33


def test_the_tree_of_the_readme_names_every_folder_that_holds_modules_and_no_other() -> None:
    [tree] = re.findall(r"^## Folders\n\n```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    named, top = set(), ""
    for indent, folder in re.findall(r"^( *)(\w+)/ ", tree, re.MULTILINE):
        top = top if indent else folder
        named.add(f"{top}/{folder}" if indent else folder)
    assert [folder for folder in sorted(named) if not (ROOT / folder).is_dir()] == []
    packages = ("models", "export", "service", "loadtest")
    holding = {path.parent.relative_to(ROOT) for package in packages for path in (ROOT / package).glob("*/*.py")}
    assert {str(folder) for folder in holding} - named == set()


def on(url: str, script: str) -> str:
    """The same against the server that the test has."""
    return script.replace("http://localhost:8000", url).replace("localhost:8000", url)


def rounded(value: Any) -> Any:  # any JSON; int8 differs a little from one kind of CPU to another
    if isinstance(value, float):
        return pytest.approx(value, abs=0.02)
    if isinstance(value, dict):
        return {name: rounded(field) for name, field in value.items()}
    return [rounded(element) for element in value] if isinstance(value, list) else value
