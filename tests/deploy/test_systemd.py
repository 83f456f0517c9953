"""The unit file: systemd accepts it, it forbids nothing that the service does, and it leaves time to drain."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from loadtest.process import free_port, python_environment, wait_until_ready
from models.tasks.remote.address import PREFIX
from service.settings import Settings
from tests.deploy.manifests import DEPLOY, proxy_read_timeout_s
from tests.server import ROOT

UNIT = DEPLOY / "systemd" / "halfdepth.service"
MOST_EXPOSURE = 1.5  # of 10, by systemd's own reckoning
BODY = {"question": "Who repaired the lamp?", "context": "The storm put out the lamp. Maria Jensen repaired it."}


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_it_sets_only_what_the_service_reads() -> None:
    names = {value.partition("=")[0] for value in values("Environment")}
    assert {name for name in names if name.startswith(PREFIX)} <= {
        PREFIX + name.upper() for name in Settings.model_fields
    }


def test_stopping_waits_for_the_longest_request() -> None:
    [drain] = [value.partition("=")[2] for value in values("Environment") if "DRAIN_SECONDS" in value]
    needed = float(drain) + proxy_read_timeout_s() + Settings.model_fields["read_timeout_seconds"].default
    assert float(values("TimeoutStopSec")[0]) >= needed


@pytest.mark.system
def test_systemd_accepts_it_and_calls_it_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/halfdepth/bin/halfdepth", sys.executable))  # one that exists
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", judged)
    assert float(exposure) <= MOST_EXPOSURE


def calls_of(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    command = ["systemd-analyze", "syscall-filter", group]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(calls_of(line) if line.startswith("@") else {line} for line in lines))


@pytest.mark.system
def test_it_forbids_no_system_call_that_the_service_makes(tmp_path: Path) -> None:
    allowed, denied = values("SystemCallFilter")
    permitted = calls_of(allowed) - calls_of(denied.removeprefix("~"))
    port, log = free_port(), tmp_path / "calls"
    environment = python_environment(HALFDEPTH_BUNDLES=str(ROOT / "bundles"), HALFDEPTH_PORT=str(port))
    command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(log), sys.executable, "-P", "-m", "service"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process)
        answers = httpx.post(f"{url}/qa", json=BODY, timeout=60).json()["answers"]
        assert answers[0]["text"] == "Maria Jensen"
        assert httpx.get(f"{url}/metrics").is_success
    finally:
        [child] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), 15)
        assert process.wait() == 0
    lines = log.read_text().splitlines()
    made = {match[1] for line in lines if (match := re.match(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", line))}
    assert {"mmap", "accept4", "futex"} <= made
    assert made - permitted == set()
    writable_code = [line for line in lines if re.search(r"(mprotect|mmap)\(.*PROT_WRITE\|PROT_EXEC", line)]
    made_executable = [line for line in lines if re.search(r"mprotect\(.*PROT_EXEC", line)]
    assert values("MemoryDenyWriteExecute") == ["yes"]
    assert writable_code + made_executable == []
