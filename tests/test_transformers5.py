"""`halfdepth export` beside transformers 5, in an environment of its own, and its bundles in the ordinary one."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.tasks.base import TaskName
from models.tasks.bundle import Bundle, load_bundle
from tests.server import ROOT, serve

pytestmark = pytest.mark.system

CONSTRAINTS = Path(__file__).with_name("transformers5.txt")
INSTALL_S, RUN_S = 600, 300
AUTO = {
    "qa": "AutoModelForQuestionAnswering",
    "classify": "AutoModelForSequenceClassification",
    "similarity": "AutoModel",
}
KINDS: dict[TaskName, str] = {"qa": "distilbert", "classify": "roberta", "similarity": "bert"}
# One process for all tasks, because libraries take longest to load.
SAVE = """
import json, sys, torch, transformers
for auto, source, out in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    getattr(transformers, auto).from_pretrained(source).save_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    if auto == "AutoModel":  # saved as of the class TokenizersBackend, which older versions do not have
        names = {f"{part}_token": f"[{part.upper()}]" for part in ("unk", "cls", "sep", "pad", "mask")}
        backend, tokens = tokenizer.backend_tokenizer, ["[RED]", "[GREY]"]
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, extra_special_tokens=tokens, model_max_length=64, **names
        )
    tokenizer.save_pretrained(out)
"""
EXPORT = """
import json, sys
from export.__main__ import run
for arguments in json.loads(sys.argv[1]):
    run("export", arguments)
"""
ASKED: dict[str, dict[str, object]] = {
    "/qa": {"question": "Who built the lighthouse?", "context": "The lighthouse was built by Anna Lindqvist."},
    "/classify": {"text": "the red lamp"},
    "/similarity": {"source": "a lamp", "targets": ["lamps", "an oven"]},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the extra `export`, transformers 5 and no optimum."""
    directory = tmp_path_factory.mktemp("transformers5")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    path = directory / "bin" / "python"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["export"]]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(path)]
    install = [*pip, "install", "--quiet", "--no-compile", "-c", str(CONSTRAINTS), *requirements]
    subprocess.run(install, check=True, timeout=INSTALL_S)
    subprocess.run([*pip, "check"], check=True)
    return path


@pytest.fixture(scope="module")
def checkpoints(
    python: Path, tiny_qa: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[TaskName, Path]:
    """One of each task, each of another kind of encoder, as transformers 5 saves them."""
    root = tmp_path_factory.mktemp("saved")
    run(python, SAVE, [[AUTO[task], str(tiny_qa[kind]), str(root / task)] for task, kind in KINDS.items()])
    return {task: root / task for task in KINDS}


@pytest.fixture(scope="module")
def bundles(
    python: Path, checkpoints: dict[TaskName, Path], squad_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[TaskName, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    data: dict[TaskName, Path] = {task: root.with_name(f"{task}.tsv") for task in KINDS} | {"qa": squad_file}
    data["classify"].write_text("text\tlabel\nthe red lamp\tLABEL_0\nan old oven\tLABEL_1\n")
    data["similarity"].write_text("sentence1\tsentence2\tscore\na lamp\tlamps\t4\nred\tgrey\t1\nan oven\ta sea\t0\n")
    flags = ["--keep-fp32", "--max-metric-drop", "200"]  # a random model's figures are a matter of chance
    paths = {task: ["--student", checkpoints[task], "--dev", data[task], "--out", root / task] for task in KINDS}
    run(python, EXPORT, [["--task", task, *map(str, paths[task]), *flags] for task in KINDS])
    return {task: load_bundle(root / task) for task in KINDS}


def run(python: Path, script: str, items: list[list[str]]) -> None:
    """Run a script over the items with this tree's packages; what it writes stands in the failure."""
    command = [str(python), "-c", script, json.dumps(items)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


@pytest.mark.parametrize("task", KINDS)
def test_the_graph_says_what_the_checkpoint_says_in_the_ordinary_environment(
    bundles: dict[TaskName, Bundle], checkpoints: dict[TaskName, Path], task: TaskName
) -> None:
    from models.finetune.recipes import RECIPES
    from models.predict import torch_run
    from models.tasks.build import SPECS, build_task
    from models.tasks.session import onnx_run, open_graph

    manifest = bundles[task].manifest
    assert manifest is not None
    assert manifest.tools["transformers"].startswith("5.")
    assert "optimum-onnx" not in manifest.tools
    assert manifest.graph is not None
    assert "tokens_first" in manifest.graph.rewrites  # which needs all that come before it
    graph = open_graph(bundles[task].path / "onnx" / "model.onnx", threads=1, exact_products=True)
    names = [name for name in SPECS[task].graph_outputs if name != "sentence_embedding"]
    kernel = build_task(bundles[task], names)
    model = RECIPES[task].model_class.from_pretrained(checkpoints[task], local_files_only=True).eval()
    for item in SPECS[task].golden_inputs:
        for window in kernel.encode(item).windows:
            pairs = zip(onnx_run(graph, names)(window), torch_run(model, names)(window), strict=True)
            for output, expected in pairs:
                np.testing.assert_allclose(output, expected, atol=1e-4)


def test_the_ordinary_service_serves_the_bundles(bundles: dict[TaskName, Bundle], tmp_path: Path) -> None:
    for task, bundle in bundles.items():
        shutil.copytree(bundle.path, tmp_path / task)
    with serve(tmp_path) as (_, url), httpx.Client(base_url=url, trust_env=False) as client:
        for route, body in ASKED.items():
            response = client.post(route, json=body)
            assert response.status_code == 200, (route, response.text)
