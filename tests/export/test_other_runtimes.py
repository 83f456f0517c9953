"""A rewritten bundle in the programs of others: the same graph, the same outputs, without options of ours."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.tasks.base import Features, TaskName
from models.tasks.bundle import Bundle
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.similarity import POOLED
from tests.export.conftest import TASKS
from tests.export.served import served

JAVASCRIPT = Path(__file__).parents[1] / "transformers_js"
INSTALL_S, RUN_S = 600, 120
TEXT, PAIR = "Who built the lighthouse?", "The old lighthouse was built in 1871 by Anna Lindqvist."


def reference(bundle: Bundle, ids: list[int], types: list[int]) -> dict[str, np.ndarray]:
    """What the service makes of the same window, by the kernel's names of outputs."""
    session, task = served(bundle)
    return dict(zip(task.output_names, session.run(Features(np.array(ids), np.array(types))), strict=True))


def test_their_graphs_are_rewritten(bundles: dict[TaskName, Bundle]) -> None:
    for bundle in bundles.values():
        assert bundle.manifest is not None
        assert bundle.manifest.graph is not None
        assert "tokens_first" in bundle.manifest.graph.rewrites
        assert bundle.disabled_optimizers == frozenset()


@pytest.mark.parametrize("task", TASKS)
def test_optimum_gives_the_same(bundles: dict[TaskName, Bundle], task: TaskName) -> None:
    from optimum import onnxruntime as optimum  # slow to import, and for this test alone
    from transformers import AutoTokenizer

    classes = {
        "qa": optimum.ORTModelForQuestionAnswering,
        "classify": optimum.ORTModelForSequenceClassification,
        "similarity": optimum.ORTModelForFeatureExtraction,
    }
    bundle = bundles[task]
    model = classes[task].from_pretrained(bundle.path, subfolder="onnx", file_name="model_quantized.onnx")
    given = AutoTokenizer.from_pretrained(bundle.path)(TEXT, PAIR, return_tensors="np")
    types = given.get("token_type_ids", np.zeros_like(given["input_ids"]))
    output = model(**given)
    for name, expected in reference(bundle, given["input_ids"][0].tolist(), types[0].tolist()).items():
        if name == POOLED:
            mean = output.last_hidden_state[0].mean(axis=0)
            np.testing.assert_allclose(mean / np.linalg.norm(mean), expected, atol=1e-5)
        else:
            np.testing.assert_allclose(output[name][0], expected, atol=1e-5)


@pytest.fixture(scope="session")
def transformers_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with transformers.js in it and the script that asks it."""
    path = tmp_path_factory.mktemp("transformers_js")
    for name in ("package.json", "package-lock.json", "run.mjs"):
        (path / name).write_bytes((JAVASCRIPT / name).read_bytes())
    # Scripts of packages would download more than a registry gives; the CPU's library is in the package.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=path, check=True, timeout=INSTALL_S, env={**os.environ, "HOME": str(path)})
    return path


@pytest.mark.system
@pytest.mark.parametrize("task", TASKS)
def test_transformers_js_gives_the_same(bundles: dict[TaskName, Bundle], transformers_js: Path, task: TaskName) -> None:
    bundle = bundles[task]
    texts = [TEXT, PAIR] if task == "qa" else [TEXT]
    command = ["node", "run.mjs", task, str(bundle.path), *texts]
    printed = subprocess.run(command, cwd=transformers_js, check=True, timeout=RUN_S, stdout=subprocess.PIPE).stdout
    values = json.loads(printed)
    ids = values["input_ids"]
    own = load_tokenizer(bundle.path)
    encoding = own.encode(*texts)
    assert encoding.ids == ids
    for name, expected in reference(bundle, ids, encoding.type_ids).items():
        np.testing.assert_allclose(values[name], expected, atol=1e-4)
