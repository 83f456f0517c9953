"""`halfdepth batch` over the tiny bundles: what the service would answer, line by line."""

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from halfdepth import main
from service.batch.__main__ import PATHS
from tests.server import ROOT
from tests.service.conftest import write_bundle
from tests.service.test_secrecy import BODIES as WRONG
from tests.service.test_secrecy import CANARY

BODIES: list[tuple[str, Any]] = [
    ("/qa", {"question": "where?", "context": "she lives in Paris or Oslo", "top_k": 2}),
    ("/qa", {"question": "where?", "contexts": ["in Oslo", "in Paris"]}),
    ("/qa", {"inputs": [{"question": "where?", "context": "in Paris"}] * 2}),
    ("/classify", {"text": "in Oslo", "top_k": 3}),
    ("/similarity", {"source": "in Oslo", "targets": ["Oslo", "in Paris"]}),
    ("/embed", {"inputs": ["in Oslo", "in Paris"], "model": "similarity"}),
    ("/rerank", {"query": "where?", "documents": ["she lives", "in Oslo"], "return_documents": True}),
    ("/entities", {"text": "she lives in Oslo. In Paris too."}),
]
Run = Callable[..., int]


@pytest.fixture
def run(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Answers lines, or what is in the file already, into `out.jsonl`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HALFDEPTH_BUNDLES", str(bundles))
    monkeypatch.setenv("HALFDEPTH_THREADS", "2")

    def run(*lines: object, arguments: tuple[str, ...] = ()) -> int:
        if lines:
            texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
            Path("in.jsonl").write_bytes(b"".join(text + b"\n" for text in texts))
        return main(["batch", "in.jsonl", "out.jsonl", *arguments])

    return run


def answered() -> list[Any]:
    return [json.loads(line) for line in Path("out.jsonl").read_bytes().splitlines()]


def line(route: str, body: object, **more: object) -> dict[str, object]:
    return {"route": route, "body": body} | more


def test_every_route_of_ours_is_asked_here() -> None:
    assert {route for route, _ in BODIES} == set(PATHS)


def test_answers_have_the_service_s_bytes_but_for_timings(run: Run, client: TestClient) -> None:
    assert run(*(line(route, body) for route, body in BODIES), arguments=("--timings",)) == 0
    kept = Path("out.jsonl").read_bytes().splitlines()
    for name in ("out.jsonl", "out.jsonl.state"):
        Path(name).unlink()
    assert run() == 0
    bare = Path("out.jsonl").read_bytes().splitlines()
    for (route, body), with_timings, without in zip(BODIES, kept, bare, strict=True):
        response = client.post(route, json=body)
        assert response.status_code == 200, response.text
        assert without_times(with_timings) == without_times(response.content)
        assert b"timings_ms" not in without
        assert json.loads(without) == pruned(response.json())
        assert without == compact(pruned(json.loads(with_timings)))


def without_times(content: bytes) -> bytes:
    """The same bytes with all times set to 0."""
    parts = content.split(b'"timings_ms":{')
    return b'"timings_ms":{'.join([parts[0], *(part[part.index(b"}") :] for part in parts[1:])])


def pruned(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: pruned(value) for name, value in content.items() if name != "timings_ms"}
    return [pruned(part) for part in content] if isinstance(content, list) else content


def compact(content: Any) -> bytes:
    from pydantic_core import to_json

    return to_json(content)


def test_lines_may_be_bodies_of_one_route_and_ids_come_back(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"text": "in Oslo", "id": 7}, {"text": "in Paris"}, {"id": {"row": "x"}, "text": "she"}]
    assert run(*lines, arguments=("--route", "/classify")) == 0
    ids = [("id" in answer, answer.get("id"), answer["labels"][0]["label"]) for answer in answered()]
    assert ids == [(True, 7, "oslo"), (False, None, "paris"), (True, {"row": "x"}, "neither")]
    told = json.loads(capsys.readouterr().out)
    assert (told["lines"], told["there_already"], told["answered"], told["refused"]) == (3, 0, 3, 0)


REFUSED: list[tuple[object, int, str, str]] = [
    (b"{", 400, "malformed_json", "the body is not JSON"),
    (b"", 400, "malformed_json", "the body is not JSON"),
    (b'{"route": "/qa", "body": {"question": NaN}}', 400, "malformed_json", "the body is not JSON"),
    (b"\xff", 400, "malformed_json", "the body is not JSON"),
    ([], 422, "invalid_request", "the line: must be an object with route and body"),
    ({"text": "in Oslo"}, 422, "invalid_request", "route: is required"),
    ({"route": "/qa"}, 422, "invalid_request", "body: is required"),
    (line("/qa", {}, model="qa"), 422, "invalid_request", "the line: has other fields than route, body, id"),
    (line("/hf/question-answering", {}), 404, "not_found", "there is no such route; name one of /qa"),
    (b'{"id": "\\ud800", "route": "/qa"}', 422, "invalid_request", "id: cannot be repeated in the answer"),
    (b'{"id": 1e999, "route": "/qa"}', 422, "invalid_request", "id: cannot be repeated in the answer"),
    (b'{"id": ' + b"[" * 500 + b"]" * 500 + b"}", 422, "invalid_request", "id: cannot be repeated in the answer"),
    (line("/qa", {"question": "where?"}), 422, "invalid_request", "context: is required"),
    (line("/qa", {"question": "in " * 30, "context": "in"}), 422, "input_too_long", ""),
    (line("/qa", BODIES[0][1] | {"model": "nobody"}), 404, "model_not_loaded", "no model of this name"),
    (line("/qa", {"question": "in", "context": "in " * 3_000}), 413, "body_too_large", "the line is over the limit"),
]


def test_a_line_that_is_refused_becomes_an_error_with_the_code_of_http(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFDEPTH_MAX_BODY_BYTES", "5000")
    good = line(*BODIES[0], id="good")
    assert run(good, *(request for request, *_ in REFUSED), good) == 0
    first, *errors, last = answered()
    assert first == last
    for error, (_, status, code, detail) in zip(errors, REFUSED, strict=True):
        assert (error["error"]["status"], error["error"]["code"]) == (status, code)
        assert error["error"]["detail"].startswith(detail)
    assert errors[12]["error"]["errors"] == [{"field": "context", "message": "is required"}]


def test_an_error_quotes_nothing_of_its_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[object] = [body for body in WRONG if b"\n" not in body]
    for route in (*PATHS, f"/{CANARY}"):
        wrong += [line(route, body) for body in (CANARY, {"text": [CANARY]}, {"inputs": {f"{CANARY} ": 1}})]
    assert run(*wrong) == 0
    errors = [answer["error"] for answer in answered()]
    assert len(errors) == len(wrong)
    assert CANARY not in json.dumps(errors)
    output = capsys.readouterr()
    assert CANARY not in output.out + output.err


def test_a_strict_batch_ends_at_the_first_line_that_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    good = line("/classify", {"text": "in Oslo"})
    assert run(good, good, line("/classify", {}), good, arguments=("--strict",)) == 2
    assert "halfdepth batch: line 3: text: is required" in capsys.readouterr().err
    assert len(answered()) == 2


def test_a_last_line_needs_no_end_and_an_empty_file_gives_an_empty_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "in Oslo"}')
    assert run(arguments=("--route", "/classify")) == 0
    assert len(answered()) == 1
    for path in ("in.jsonl", "out.jsonl"):
        Path(path).write_bytes(b"")
    Path("out.jsonl.state").unlink()
    Path("out.jsonl").unlink()
    assert run() == 0
    assert Path("out.jsonl").read_bytes() == b""


@pytest.mark.parametrize("left", [0, 1, 150, 400, -1], ids=lambda left: f"{left} bytes")
def test_the_same_command_goes_on_and_mends_a_half_line(
    run: Run, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    assert run(*(line("/classify", {"text": f"in Oslo {'in ' * n}"}, id=n) for n in range(9))) == 0
    whole = Path("out.jsonl").read_bytes()
    Path("out.jsonl").write_bytes(whole[:left] if left >= 0 else whole)
    capsys.readouterr()
    assert run() == 0
    assert Path("out.jsonl").read_bytes() == whole
    told = json.loads(capsys.readouterr().out)
    assert told["there_already"] == (whole[:left] if left >= 0 else whole).count(b"\n")
    assert told["answered"] == 9 - told["there_already"]


def test_what_was_begun_with_something_else_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = line("/classify", {"text": "in Oslo"})
    assert run(good) == 0
    changes: tuple[tuple[Callable[[], int], str], ...] = (
        (lambda: run(good, good), "another input"),
        (lambda: run(good, arguments=("--timings",)), "another choice of --timings"),
        (lambda: run(good, arguments=("--route", "/qa")), "another route"),
    )
    for change, told in changes:
        assert change() == 2
        assert told in capsys.readouterr().err
    write_bundle(tmp_path / "others" / "classify", "classify")
    assert run(good, arguments=("--bundles", "others")) == 2
    assert "another set of bundles" in capsys.readouterr().err
    monkeypatch.setenv("HALFDEPTH_MAX_WINDOWS", "2")
    assert run(good) == 2
    assert "another set of limits" in capsys.readouterr().err
    Path("out.jsonl.state").write_text("[")
    assert run(good) == 2
    assert "cannot be read" in capsys.readouterr().err
    Path("out.jsonl.state").unlink()
    assert run(good) == 2
    assert "out.jsonl exists, and no unfinished batch wrote it" in capsys.readouterr().err
    assert len(answered()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["in.jsonl"], "the following arguments are required: OUT"),
        (["in.jsonl", "in.jsonl"], "IN and OUT are the same file"),
        (["nowhere.jsonl", "out.jsonl"], "nowhere.jsonl does not exist"),
        (["in.jsonl", "out.jsonl", "--route", "/nowhere"], "--route"),
        (["folder", "out.jsonl"], "folder is a directory, not a file"),
        (["in.jsonl", "nowhere/out.jsonl"], "nowhere does not exist"),
    ],
)
def test_bad_arguments_end_in_one_line(
    run: Run, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del run
    Path("in.jsonl").write_text("{}\n")
    Path("folder").mkdir()
    assert main(["batch", *arguments]) == 2
    [*_, last] = capsys.readouterr().err.splitlines()
    assert last.startswith("halfdepth batch: ")
    assert told in last


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.communicate()


def test_a_run_that_was_ended_twice_goes_on_to_the_same_bytes(run: Run, children: list[subprocess.Popen[str]]) -> None:
    lines = [line("/qa", {"question": "where?", "context": "in Oslo " * 1_000}, id=n) for n in range(200)]
    command = [sys.executable, str(ROOT / "halfdepth.py"), "batch", "in.jsonl"]
    assert run(*lines) == 0
    out, before, whole = Path("killed.jsonl"), b"", Path("out.jsonl").read_bytes()
    for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        child = subprocess.Popen([*command, "killed.jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        while not (out.exists() and out.stat().st_size > len(before)):
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.01)
        child.send_signal(number)
        assert child.wait(timeout=60) == status
        assert len(before) < len(out.read_bytes()) < len(whole)
        before = out.read_bytes()
    done = subprocess.run([*command, "killed.jsonl"], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["there_already"] == before.count(b"\n")
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (gzip.compress(b"{}"), "is compressed by gzip; unpack it"),
        ('{"route": "/qa"}'.encode("utf-16"), "is not UTF-8 at byte 0 (line 1), but UTF-16; save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_text_is_refused_whole(
    run: Run, capsys: pytest.CaptureFixture[str], content: bytes, advice: str
) -> None:
    Path("in.jsonl").write_bytes(content)
    assert run() == 2
    assert capsys.readouterr().err == f"halfdepth batch: in.jsonl {advice}\n"
    assert not Path("out.jsonl").exists()
