"""What the OpenAPI document promises, held against generated requests by schemathesis, with all of its checks.

One by one, and in sequences that the document links (stateful). `make torture` draws many more, by another seed.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import serve
from tests.service.conftest import CONFIGS, tiny_embedding_graph, write_bundle
from tests.service.contract_hooks import PROMPT, SIZE
from tests.torture import LONG, seed_of

EXAMPLES, TIME_S = ("60", 1_800) if LONG else ("20", 300)
PHASES = "examples,coverage,fuzzing,stateful"
RUN = ("-m", "schemathesis.cli", "run", "--max-examples", EXAMPLES, "--checks", "all")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that read longer texts than schemathesis writes: it cannot know what a token is."""
    root = tmp_path_factory.mktemp("roomy")
    for task in CONFIGS:
        graph = tiny_embedding_graph(start=1.0) if task == "similarity" else None  # a control character is no token
        write_bundle(root / task, task, graph, max_length=512)
    embedder = root / "similarity"
    config = json.loads((embedder / "config.json").read_text()) | {"matryoshka_dimensions": [SIZE]}
    (embedder / "config.json").write_text(json.dumps(config))
    (embedder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {PROMPT: "find: "}}))
    return root


@pytest.mark.parametrize(
    ("keys", "phases"),
    [
        ({}, PHASES if LONG else "examples,fuzzing"),  # the same routes and bodies: only 401 is missing
        ({"API_KEYS": "secret"}, PHASES),
    ],
    ids=["without keys", "with keys"],
)
def test_every_promise_is_kept(
    roomy: Path, tmp_path: Path, keys: dict[str, str], phases: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # A deadline of a few milliseconds may be missed, and that is a 504.
    hooks = Path(__file__).with_name("contract_hooks.py")
    options = f'hooks = {json.dumps(str(hooks))}\n[parameters]\n"header.X-Deadline-Ms" = "60000"\n'
    (tmp_path / "schemathesis.toml").write_text(options)
    seed = str(seed_of(1))
    with serve(roomy, tmp_path / "log", MAX_INPUTS="5", **keys) as (_, url):
        command = [sys.executable, *RUN, "--phases", phases, "--seed", seed, f"{url}/openapi.json"]
        command += ["--header", "Authorization: Bearer secret", "--report", "json", "--report-json-path", "report.json"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIME_S)
    assert run.returncode == 0, run.stdout
    assert "30 selected / 30 total" in run.stdout, run.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    statuses = [phase["status"] for phase in report["phases"].values()]
    assert set(statuses) <= {"success", "skip"}, run.stdout
    assert statuses.count("skip") == PHASES.count(",") - phases.count(","), run.stdout
    if LONG:
        with capsys.disabled():
            sys.stdout.write(f"\nschemathesis: seed {seed}, {report['test_cases']['generated']} requests\n")
