"""A command that was killed with SIGKILL, at any moment, ends as an unbroken one when it is given again.

`make torture` kills each of them twenty times; the seed is printed, and TORTURE_SEED gives it again.
"""

import hashlib
import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from export.__main__ import main as export
from models.finetune import teacher_cache
from models.finetune.__main__ import main as finetune
from models.pretrain.__main__ import main as pretrain
from service.batch.__main__ import main as batch
from tests.conftest import PARAGRAPHS
from tests.kills.process import SAID, Ended, Moment, Work, perform
from tests.service.conftest import write_bundle
from tests.torture import LONG, seed_of

KILLS = 20 if LONG else 2
OPTIONS = ("--batch-size", "2", "--lr", "3e-3", "--no-bf16", "--max-length", "64", "--checkpoint-every", "3")
LINES = 3_000


@dataclass(frozen=True, slots=True)
class Inputs:
    """What commands begin with."""

    encoder: Path
    reader: Path
    squad: Path
    text: Path
    requests: Path
    bundles: Path


@pytest.fixture(scope="session")
def inputs(
    tiny_teacher: Path, tiny_qa: dict[str, Path], squad_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    text, requests, bundles = root / "text.txt", root / "requests.jsonl", root / "bundles"
    text.write_text("\n".join(line for lines in PARAGRAPHS.values() for line in lines))
    for task in ("qa", "classify"):
        write_bundle(bundles / task, task)
    bodies: list[dict[str, Any]] = [
        {"route": "/qa", "body": {"question": "where?", "context": "she lives in Paris or Oslo"}},
        {"route": "/classify", "body": {"text": "in Oslo"}},
        {"route": "/classify", "body": {}},
    ]
    lines = [json.dumps({"id": number} | bodies[number % len(bodies)]) for number in range(LINES)]
    requests.write_text("\n".join(lines))
    return Inputs(tiny_teacher, tiny_qa["bert"], squad_file, text, requests, bundles)


def distillation(inputs: Inputs, *options: str, before: Callable[[], None] | None = None) -> Work:
    data = ("--task", "qa", "--train", str(inputs.squad), "--dev", str(inputs.squad), "--doc-stride", "8")
    origin = ("--teacher", str(inputs.reader), "--layers", "1", "--ema", "0.5")
    loop = (*OPTIONS, "--epochs", "3", "--evaluate-every", "5")
    return Work(finetune, (*data, *origin, *loop, "--out", "student", *options), before=before)


def kept_distillation(inputs: Inputs) -> Work:
    return distillation(inputs, "--cache-teacher", "kept", before=keep_often)


def keep_often() -> None:
    """A dozen questions are many batches, and each of them is kept."""
    teacher_cache.TOKENS["cpu"], teacher_cache.KEEP_EVERY = 64, 1


def pretraining(inputs: Inputs) -> Work:
    data = ("--teacher", str(inputs.encoder), "--train", str(inputs.text), "--dev", str(inputs.text))
    loop = (*OPTIONS, "--batch-size", "1", "--epochs", "4", "--log-every", "1", "--evaluate-every", "2")
    head = ("--train-mlm-head", "--head-epochs", "2")
    return Work(pretrain, (*data, "--cache", "cache", *loop, *head, "--out", "student"), ranks=2)


def exporting(inputs: Inputs) -> Work:
    common = ("--task", "qa", "--student", str(inputs.reader), "--dev", str(inputs.squad))
    return Work(export, (*common, "--max-metric-drop", "100", "--min-agreement", "0", "--out", "bundle"))


def answering(inputs: Inputs) -> Work:
    return Work(batch, (str(inputs.requests), "out.jsonl", "--bundles", str(inputs.bundles)))


COMMANDS: dict[str, Callable[[Inputs], Work]] = {
    "a distillation": distillation,
    "a distillation with kept teacher outputs": kept_distillation,
    "a pretraining in two processes": pretraining,
    "an export": exporting,
    "a batch": answering,
}
SHORT = ("a distillation", "a batch")


@pytest.mark.parametrize("name", COMMANDS if LONG else SHORT)
def test_a_killed_command_ends_as_an_unbroken_one(
    name: str, inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFDEPTH_THREADS", "1")
    work = COMMANDS[name](inputs)
    _, expected = unbroken(work, tmp_path / "first")  # which imports as well
    whole, again = unbroken(work, tmp_path / "second")
    assert differences(again, expected) == []

    seed = seed_of(1)
    random, count = Random(seed), 0
    for number in range(KILLS):
        if number % 2:
            moment = Moment(seconds=random.uniform(0, whole.seconds))
        else:
            moment = Moment(operation=random.randint(1, whole.operations))
        told = f"seed {seed}, kill {number}: {moment}"
        directory = made(tmp_path / f"killed-{number}")
        killed = perform(work, directory, until=moment)
        over = contents(directory) == expected
        ended = perform(work, directory)
        allowed = {0, 2} if over else {0}  # a training says that it has ended already
        assert ended.status in allowed, f"{told}\n{said(directory)}"
        assert differences(contents(directory), expected) == [], told
        count += killed.status == -signal.SIGKILL
        shutil.rmtree(directory.parent)
    if LONG:
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: seed {seed}, {count} of {KILLS} killed before the end; all end alike\n")


def unbroken(work: Work, place: Path) -> tuple[Ended, dict[str, str]]:
    """Returns: how the work ends, and what it leaves."""
    directory = made(place)
    ended = perform(work, directory)
    assert ended.status == 0, said(directory)
    return ended, contents(directory)


def made(place: Path) -> Path:
    """A directory for a command. Beside it is room for what it says."""
    directory = place / "here"
    directory.mkdir(parents=True)
    return directory


def said(directory: Path) -> str:
    return (directory.parent / SAID).read_text()[-3_000:]


def contents(directory: Path) -> dict[str, str]:
    """A checksum of every file but those of a cache of `datasets`, without what no two runs share."""
    files = [path for path in sorted(directory.rglob("*")) if "cache" not in path.relative_to(directory).parts]
    return {str(path.relative_to(directory)): checksum(path) for path in files}


def checksum(path: Path) -> str:
    if path.is_dir():
        return "a directory"
    content = path.read_bytes()
    if path.name in ("training.json", "log.jsonl"):
        return re.sub(r'"seconds": [\d.]+', "", content.decode())
    if path.name == "losses.csv":
        return "\n".join(",".join(line.split(",")[:2] + line.split(",")[3:]) for line in content.decode().splitlines())
    return hashlib.sha256(content).hexdigest()


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
