import os
from pathlib import Path
from typing import Literal

import pytest

from service.checkup import machine
from service.checkup.finding import NOTHING, System
from tests.service.checkup.trees import system


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


@pytest.mark.parametrize(
    ("cpuinfo", "status", "words"),
    [
        ("flags : avx2 avx512f avx512_vnni amx_int8 amx_tile", "ok", "VNNI yes, AMX yes, AVX-512 yes"),
        ("flags : avx2 avx_vnni", "ok", "VNNI yes, AMX no, AVX-512 no"),
        ("flags : avx2 avx512f", "note", "VNNI no, AMX no, AVX-512 yes"),
        ("Features : fp asimd asimddp", "ok", "dot products of bytes yes, matrix products of bytes no"),
        ("Features : fp asimd", "note", "dot products of bytes no"),
        ("processor : 0", "note", "features unknown"),
        (None, "note", "features unknown"),
    ],
)
def test_a_processor_is_told_by_what_it_has_for_products_of_bytes(
    tmp_path: Path, cpuinfo: str | None, status: str, words: str
) -> None:
    finding = machine.processor(system(tmp_path, {"cpuinfo": cpuinfo}))
    assert finding.status == status
    assert words in finding.text
    assert (finding.advice == NOTHING) == (status == "ok")


def test_every_feature_that_counts_is_listed_by_the_kernel_s_name(tmp_path: Path) -> None:
    finding = machine.processor(system(tmp_path, {"cpuinfo": "model name : Y\nflags : sse avx2 amx_int8 amx_tile\n"}))
    assert finding.values == {"processor": "Y", "features": ["avx2", "amx_int8", "amx_tile"]}


@pytest.mark.parametrize(
    ("cpu_max", "threads", "status", "words"),
    [
        ("max 100000", "auto", "ok", "8 by affinity, no quota: the service uses 8"),
        ("200000 100000", "auto", "ok", "a quota of 2: the service uses 2"),
        ("200000 100000", 1, "ok", "the service uses 1"),
        ("200000 100000", 4, "act", "the service uses 4"),
        ("250000 100000", "auto", "note", "a quota of 2.5: the service uses 2"),
        ("50000 100000", "auto", "act", "a quota of 0.5: the service uses 1"),
        ("850000 100000", "auto", "ok", "the service uses 8"),
    ],
)
def test_cores_are_what_affinity_quota_and_setting_leave(
    tmp_path: Path, cpu_max: str, threads: int | Literal["auto"], status: str, words: str
) -> None:
    finding = machine.cores(system(tmp_path, cgroup={"cpu.max": cpu_max}), threads)
    assert finding.status == status
    assert words in finding.text
    assert (finding.advice == NOTHING) == (status == "ok")


def test_a_quota_of_version_1_counts(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}
    finding = machine.cores(system(tmp_path, {"self/cgroup": "3:cpu:/docker/1\n"}, files), "auto")
    assert finding.values["cores"] == 3


@pytest.mark.parametrize(
    ("stat", "status", "words"),
    [
        ("nr_periods 1000\nnr_throttled 500\nthrottled_usec 12000000", "act", "500 of 1000 periods so far, 12.0 s"),
        ("nr_periods 1000\nnr_throttled 5\nthrottled_usec 100000", "ok", "5 of 1000 periods"),
        ("nr_periods 10\nnr_throttled 9\nthrottled_usec 100000", "ok", "9 of 10 periods"),  # too few to tell
        ("nr_periods 0\nnr_throttled 0\nthrottled_usec 0", "ok", "none"),
        ("usage_usec 5", "ok", "none"),
    ],
)
def test_throttling_asks_for_a_wider_limit(tmp_path: Path, stat: str, status: str, words: str) -> None:
    finding = machine.throttling(system(tmp_path, cgroup={"cpu.stat": stat}))
    assert finding.status == status
    assert words in finding.text
    assert ("Raise the CPU limit" in finding.advice) == (status == "act")


@pytest.mark.parametrize(
    ("loadavg", "pressure", "status"),
    [
        ("0.1 0 0 1/9 1", 0.0, "ok"),
        ("0.1 0 0 1/9 1", 44.0, "note"),
        ("7.9 0 0 1/9 1", 0.0, "ok"),  # the last minute's load is over
        ("7.9 0 0 1/9 1", None, "note"),
        ("3.9 0 0 1/9 1", None, "ok"),
        (None, 20.0, "note"),
        (None, None, "note"),
    ],
)
def test_a_busy_machine_makes_timings_worthless(
    tmp_path: Path, loadavg: str | None, pressure: float | None, status: str
) -> None:
    line = None if pressure is None else f"some avg10={pressure:.2f} avg60=1.00 avg300=2.00 total=1\nfull avg10=0.00\n"
    finding = machine.load(system(tmp_path, {"loadavg": loadavg, "pressure/cpu": line}))
    assert finding.status == status
    assert ("worthless" in finding.advice) == (status == "note")


def test_nothing_of_it_needs_proc_or_cgroups(tmp_path: Path) -> None:
    empty = System(tmp_path / "proc", system(tmp_path / "other").cgroups)
    findings = [machine.processor(empty), machine.cores(empty, "auto"), machine.throttling(empty), machine.load(empty)]
    assert [finding.status for finding in findings] == ["note", "ok", "ok", "note"]
