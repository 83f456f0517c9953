"""A batch by Ray Data, over a stand-in for Ray; tests/service/test_ray.py has the real one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halfdepth import main
from service.batch.output import BatchError
from service.batch.pieces import LINES, Work
from service.settings import Settings
from tests.service.ray_standin import Cluster, RayError, installed

ADDRESS = "10.0.0.1:6379"
QUESTION = {"question": "where?", "context": "in Oslo"}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Any]]:
    with installed("service.batch.ray_data", monkeypatch) as standin:
        yield standin


@pytest.fixture(autouse=True)
def directory(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, with an input of two pieces, every tenth line of which is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HALFDEPTH_BUNDLES", str(bundles))
    bodies = [QUESTION if number % 10 else {"question": "where?"} for number in range(LINES + 10)]
    lines = [json.dumps({"route": "/qa", "id": number, "body": body}) for number, body in enumerate(bodies)]
    Path("in.jsonl").write_text("\n".join(lines))


def run(*arguments: str, out: str = "out.jsonl") -> int:
    return main(["batch", "in.jsonl", out, *arguments])


def test_a_cluster_gives_the_bytes_of_a_batch_without_one(
    ray: tuple[Cluster, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, _ = ray
    assert run(out="plain.jsonl") == run("--ray", ADDRESS) == 0
    assert Path("out.jsonl").read_bytes() == Path("plain.jsonl").read_bytes()
    plain, told = map(json.loads, capsys.readouterr().out.splitlines())
    assert told == plain | {"seconds": told["seconds"]}
    assert (told["answered"], told["refused"]) == (239, 27)
    assert (cluster.addresses, cluster.shutdowns, len(cluster.pieces)) == ([ADDRESS], 1, 2)
    assert cluster.context.execution_options.preserve_order is True


@pytest.mark.parametrize(("cores", "actors"), [(1, 1), (2, 2), (64, 2)])
def test_there_are_no_more_actors_than_cores_or_pieces(ray: tuple[Cluster, Any], cores: int, actors: int) -> None:
    ray[0].cores = cores
    assert run("--ray", ADDRESS) == 0
    assert ray[0].pools == [{"min_size": 1, "max_size": actors}]


def test_a_batch_that_is_whole_needs_no_cluster(ray: tuple[Cluster, Any]) -> None:
    assert run() == 0
    ray[0].refusal = ConnectionError("nobody is asked")
    assert run("--ray", ADDRESS) == 0


def test_a_cluster_that_cannot_be_reached_is_told_in_one_line(
    ray: tuple[Cluster, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ray[0].refusal = ConnectionError("it does not answer\nand more")
    assert run("--ray", ADDRESS) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"no Ray cluster can be used at {ADDRESS}: it does not answer")
    assert ray[0].shutdowns == 0


def test_a_cluster_that_fails_is_told_in_one_line_and_left(
    ray: tuple[Cluster, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ray[0].failure = RayError("a node is gone\nand more")
    assert run("--ray", ADDRESS) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("the Ray cluster failed: a node is gone")
    assert ray[0].shutdowns == 1


def test_a_strict_batch_on_a_cluster_ends_at_the_first_line_that_is_refused(
    ray: tuple[Cluster, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--ray", ADDRESS, "--strict") == 2
    assert "line 1: " in capsys.readouterr().err.splitlines()[-1]
    assert ray[0].shutdowns == 1


def test_a_node_with_other_bundles_is_refused(ray: tuple[Cluster, Any], bundles: Path) -> None:
    work = Work(Path("in.jsonl"), Settings(bundles=bundles), None, False, [["qa", "another"]])
    with pytest.raises(BatchError, match="other bundles than this machine"):
        ray[1].Actor(work)


def test_without_ray_one_line_says_what_brings_it_and_nothing_is_begun(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--ray", ADDRESS)
    assert ended.value.code == 2
    told = "halfdepth batch --ray needs ray; install it with pip install 'halfdepth[ray]'\n"
    assert capsys.readouterr().err == told
    assert not Path("out.jsonl").exists()
