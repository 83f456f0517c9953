"""What Locust's users send and count, before a fake service. Locust runs in processes of its own: it patches the
standard library when it is imported.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.__main__ import main
from loadtest.process import free_port
from loadtest.record import read_record
from tests.loadtest.users.fake_service import FakeService, serving
from tests.server import ROOT

READ_STAGES = """
from loadtest.users.asker import stages
assert dict(stages("queue;dur=0.041, tokenization;dur=0.345, cached")) == {"queue": 0.041, "tokenization": 0.345}
assert dict(stages("")) == {}
"""


def load(fake: FakeService, out: Path, *arguments: str) -> tuple[int, dict[tuple[str, str, str], dict[str, Any]]]:
    """The exit status, and the rows by kind, part and replica."""
    status = main(["--url", fake.url, "--out", str(out), *arguments])
    rows = read_record(out / "load.json").rows
    return status, {(row["kind"], row["part"], row.get("replica", "")): dict(row) for row in rows}


def test_a_server_timing_header_is_read() -> None:
    child = subprocess.run([sys.executable, "-c", READ_STAGES], capture_output=True, text=True, check=False, cwd=ROOT)
    assert child.returncode == 0, child.stderr


def test_refusals_are_counted_by_their_code_and_fail_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(FakeService(status=503)) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "1", "--users", "2")
    assert status == 1
    failure = rows["failure", "503", ""]
    assert (failure["text"], failure["failures"]) == ("refused: 503 queue_full", rows["request", "", ""]["requests"])
    shown = capsys.readouterr().out
    assert "refused: 503 queue_full" in shown
    assert "requests failed" in shown


def test_an_open_loop_shows_the_queue_of_a_server_that_stalls(tmp_path: Path) -> None:
    """It stalls for 1.5 of 3 s: half of what is due waits for 0.75 s on average, though few users would have asked."""
    with serving(FakeService(stall=(0.5, 2.0))) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "3", "--rate", "40", "--slo", "p95<100ms")
    assert status == 1
    request = rows["request", "", ""]
    assert request["requests"] == len(fake.bodies) == 120
    assert request["failures"] == 0
    assert request["p90_ms"] > 500
    assert request["max_ms"] > 1300
    assert rows["client", "", ""]["requests"] == 120


def test_what_is_never_answered_counts_as_failed_for_the_whole_wait(tmp_path: Path) -> None:
    with serving(FakeService(stall=(0.5, 60.0))) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "1", "--rate", "20", "--timeout", "1")
    assert status == 1
    assert rows["request", "", ""]["requests"] == 20
    assert rows["failure", "none", ""]["failures"] == pytest.approx(10, abs=4)
    assert rows["request", "", ""]["p90_ms"] > 900


def test_two_workers_share_the_load_and_the_payloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": f"number {number}"}) + "\n" for number in range(5)))
    own = ["--payloads", str(file), "--route", "/ask", "--workers", "2", "--rate", "30", "--shape", "spike"]
    objectives = ["--slo", "ask.inference.p99<=2.5ms", "--slo", "errors<0.1%", "requests>=30"]
    with serving(FakeService(replicas=("one:1", "two:2"))) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "3", *own, *objectives)
    assert status == 0, capsys.readouterr().out
    sent = 3 * 30 * 0.2 * 2 / 5 * 2 + 3 * 30 / 5
    assert rows["request", "", ""]["requests"] == pytest.approx(sent, abs=2)
    assert {str(body["text"]) for body in fake.bodies} == {f"number {number}" for number in range(5)}
    spike = rows["phase", "spike: 100%", ""]
    assert spike["requests"] == pytest.approx(18, abs=2)
    assert spike["rate_per_s"] == pytest.approx(30, rel=0.1)
    assert {replica for kind, _, replica in rows if kind == "replica"} == {"one:1", "two:2"}
    assert rows["replica stage", "inference", "one:1"]["p50_ms"] == 2.5
    assert "/ask: 2 replicas took " in capsys.readouterr().out


def test_a_closed_loop_follows_a_shape(tmp_path: Path) -> None:
    with serving(FakeService()) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "3", "--users", "10", "--shape", "step")
    assert status == 0
    steps = [rows["phase", f"step {number}: {number / 5:.0%}", ""]["requests"] for number in range(1, 6)]
    assert steps[0] < steps[-1]
    assert sum(steps) == rows["request", "", ""]["requests"]
    assert (tmp_path / "report.html").is_file()


def test_workers_of_other_machines_send_for_a_master(tmp_path: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-m", "loadtest", "--worker", "127.0.0.1", "--master-port", port]
    worker = subprocess.Popen([*command, "--out", str(tmp_path / "worker")], cwd=ROOT, stderr=subprocess.DEVNULL)
    with serving(FakeService()) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "1", "--users", "2", "--master", "--master-port", port)
    assert status == 0
    assert worker.wait(30) == 0
    assert rows["request", "", ""]["requests"] == len(fake.bodies) > 0


def test_more_workers_than_users_end_as_well(tmp_path: Path) -> None:
    with serving(FakeService()) as fake:
        status, rows = load(fake, tmp_path, "--seconds", "2", "--users", "2", "--workers", "3", "--shape", "step")
    assert status == 0
    assert rows["request", "", ""]["requests"] == len(fake.bodies) > 0
    assert {kind for kind, part, _ in rows if kind == "phase"} == {"phase"}


def test_locust_can_be_started_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "users" / "locustfile.py"), "--headless"]
    with serving(FakeService(status=503)) as fake:
        child = subprocess.run(
            [*command, "-t", "1s", "--host", fake.url, "--csv", str(tmp_path / "locust")], check=False, cwd=ROOT
        )
    assert child.returncode == 1
    assert "refused: 503 queue_full" in (tmp_path / "locust_failures.csv").read_text()
