"""Peers beside the service: measured, refused with a reason, and ended with all that they started."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from loadtest.peers.__main__ import NAMES, main, run, texts_of
from loadtest.peers.environments import MARK, install, last_line
from loadtest.peers.forms import PLAIN, is_same
from loadtest.peers.registry import PEERS, SERVERS, Peer
from loadtest.peers.running import Start, running
from loadtest.peers.tree import PROC
from loadtest.process import LoadTestError
from loadtest.record import read_record
from models.tasks.bundle import load_bundle
from tests.server import ROOT

BRIEFLY = ["--rounds", "1", "--seconds", "0.2", "--idle-seconds", "0.5", "--concurrency", "1", "2"]
FIELDS = {
    *("peer", "task", "model", "settings", "concurrency", "requests_per_s", "p50_ms", "p99_ms", "memory_mb"),
    *("start_s", "idle_cpu_s", "five_rps_cpu_s", "reason", "client_limit_rps"),
}


def fake(root: Path, mode: str, *, name: str = "fake", **variables: str) -> Peer:
    """Make a peer whose environment is this one's interpreter."""
    peer = Peer(
        name,
        "tests.loadtest.peers.fake_server",
        ("nothing==1",),
        {"qa": PLAIN["qa"]},
        ("our bundle",),
        "none",
        variables={"PEER_MODE": mode} | variables,
    )
    python = root / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (root / name / MARK).write_text("nothing==1\n")
    return peer


def processes_with(sign: str) -> list[int]:
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                found += [int(entry.name)] * (sign.encode() in (entry / "cmdline").read_bytes())
            except OSError:
                continue
    return found


def test_a_peer_is_measured_beside_the_service_and_what_cannot_be_is_a_row_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "environments", tmp_path / "peers.json"
    answer = "Ada Lovelace"
    peers = [
        fake(root, "answers", name="good", PEER_ANSWER=answer),
        fake(root, "answers", name="wrong", PEER_ANSWER="Charles Babbage"),
        fake(root, "ends", name="broken"),
        replace(PEERS[0], name="absent", models=("our bundle",)),
        replace(fake(root, "answers", name="stock"), models=("stock int8",)),
    ]
    arguments = ["--bundles", str(ROOT / "bundles"), "--environments", str(root), "--out", str(out), *BRIEFLY]
    run("peers", arguments, peers)
    rows = read_record(out).rows
    assert all(set(row) >= FIELDS for row in rows)
    measured = {(row["peer"], row["concurrency"]): row for row in rows if row["reason"] is None}
    assert set(measured) == {(name, count) for name in ("good", "halfdepth") for count in (1, 2)}
    for row in measured.values():
        assert row["client_limit_rps"] > row["requests_per_s"] > 0
        assert row["memory_mb"] > 1
        assert len(row["p50_ms_rounds"]) >= 1
        assert row["p99_ms"] >= row["p50_ms"] > 0
    reasons = {row["peer"]: row["reason"] for row in rows if row["reason"] is not None}
    assert "answers otherwise than the service" in reasons["wrong"]
    assert reasons["broken"] == "it ended at its start: ImportError: no such library"
    assert "not installed" in reasons["absent"]
    assert "the model is not there yet" in reasons["stock"]
    told = capsys.readouterr().out
    assert "ImportError: no such library" in told
    assert str(out) in told


def test_a_peer_that_hangs_at_its_start_is_ended_after_a_bound_with_all_that_it_started(tmp_path: Path) -> None:
    sign = uuid4().hex
    peer = fake(tmp_path, "hangs", PEER_SIGN=sign)
    start = Start(tmp_path / "fake" / "bin" / "python", "qa", tmp_path, b"", 2.0)
    with pytest.raises(LoadTestError, match="no answer within its time for a start"), running(peer, start):
        pass
    assert processes_with(sign) == []


def test_what_left_its_parent_is_found_and_ended_with_the_rest() -> None:
    sign = uuid4().hex
    script = f'{sys.executable} -c "import time; time.sleep(600)" {sign} & exit 3'
    supervisor = [sys.executable, "-P", "-m", "loadtest.peers.supervisor", "sh", "-c", script]
    assert subprocess.run(supervisor, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False).returncode == 3
    assert processes_with(sign) == []


def test_an_installation_that_fails_is_remembered_with_pips_own_words(tmp_path: Path) -> None:
    peer = replace(PEERS[0], name="broken", requirements=("--no-index", "no-such-library==1"))
    reason = install(peer, tmp_path, 60)
    assert reason is not None
    assert "no-such-library" in reason
    arguments = ["--bundles", str(ROOT / "bundles"), "--environments", str(tmp_path), "--out", str(tmp_path / "out")]
    run("peers", [*arguments, *BRIEFLY], [replace(peer, models=("our bundle",))])
    [row] = [row for row in read_record(tmp_path / "out").rows if row["peer"] == "broken"]
    assert row["reason"].startswith("does not install: ")


def test_every_entry_of_the_registry_is_whole() -> None:
    assert len(set(NAMES)) == len(PEERS)
    modules = {path.stem for path in (ROOT / "loadtest" / "peers" / "servers").glob("over_*.py")}
    assert {peer.module for peer in PEERS} == {f"{SERVERS}.{module}" for module in modules}
    for peer in PEERS:
        assert peer.settings
        assert peer.models
        assert set(peer.forms) <= {"qa", "classify", "similarity"}
        torch = [line for line in peer.requirements if line.startswith("torch")]
        assert torch in ([], ["torch==2.13.0"])


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_server_says_where_its_settings_come_from(peer: Peer) -> None:
    text = (ROOT / f"{peer.module.replace('.', '/')}.py").read_text()
    assert "Source: " in text or peer.name == "plain-fastapi"


@pytest.mark.parametrize(
    ("answer", "other", "same"),
    [("a", "a", True), ("a", "b", False), ([1.0, 0.0], [2.0, 0.1], True), ([1.0, 0.0], [1.0, 0.2], False)],
)
def test_answers_are_compared(answer: str | list[float], other: str | list[float], same: bool) -> None:
    assert is_same(answer, other) == same
    assert not is_same([1.0], [1.0, 2.0])


def test_an_answer_of_another_form_is_told() -> None:
    with pytest.raises(ValueError, match="another form"):
        PLAIN["qa"].answer(json.dumps({"detail": "no"}).encode())


def test_the_line_of_a_log_that_tells_an_error_is_preferred(tmp_path: Path) -> None:
    logs: Mapping[str, str] = {"a\nValueError: b\nbye\n": "ValueError: b", "a\nbye\n\n": "bye", "": "it said nothing"}
    for text, line in logs.items():
        (tmp_path / "log").write_text(text)
        assert last_line(tmp_path / "log") == line


def test_the_texts_have_the_stated_length() -> None:
    assert set(texts_of(load_bundle(ROOT / "bundles" / "qa"))) == {"question", "context"}
    assert set(texts_of(load_bundle(ROOT / "bundles" / "classify"))) == {"text"}


def test_a_peer_that_is_not_listed_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nobody"]) == 2
    assert "litserve" in capsys.readouterr().err
