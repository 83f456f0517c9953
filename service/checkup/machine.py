"""Checks the machine: what its processor can do, the cores granted, throttling, and how busy it is."""

import os
import platform
from typing import Literal

from service.checkup.finding import Finding, System, fields_of
from service.startup.cgroups import cpu_share

BUSY_PRESSURE = 10.0  # percent of the last 10 seconds in which something waited for a core
BUSY_LOAD = 0.5  # of the machine's cores, where the kernel tells no pressure
MAX_THROTTLED = 0.01  # of a quota's periods
MIN_PERIODS = 100  # ten seconds of them, by default
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")  # sums of products of bytes that are exact
FLAGS = ("avx2", "avx512f", *INT8_FLAGS, "amx_tile", "avx512_bf16", "amx_bf16")
X86_KINDS = {"VNNI": {"avx512_vnni", "avx_vnni"}, "AMX": {"amx_int8"}, "AVX-512": {"avx512f"}}
ARM_KINDS = {"dot products of bytes": {"asimddp"}, "matrix products of bytes": {"i8mm"}}


def processor(system: System) -> Finding:
    """Tell what the processor has for products of bytes."""
    fields = fields_of(system.proc / "cpuinfo")
    name = fields.get("model name", platform.machine())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    found = [flag for flag in FLAGS if flag in flags]
    values = {"processor": name, "features": found}
    kinds = ARM_KINDS if "asimd" in flags else X86_KINDS
    listed = ", ".join(f"{kind} {'yes' if flags & names else 'no'}" for kind, names in kinds.items())
    text = f"{name}: {listed}"
    if not flags:
        advice = "Read the timings below instead: the kernel does not tell what this processor can do."
        return Finding("processor", "note", f"{name}: features unknown", advice, values)
    if not flags & set(INT8_FLAGS):
        advice = (
            "Choose a machine with VNNI if you can: without it int8 gains less, and its products may saturate, which "
            "the golden answers of each bundle show."
        )
        return Finding("processor", "note", text, advice, values)
    return Finding("processor", "ok", text, values=values)


def cores(system: System, threads: int | Literal["auto"]) -> Finding:
    """Compare the cores that are granted with what the service would take. `threads`: HALFDEPTH_THREADS."""
    affinity, quota = len(os.sched_getaffinity(0)), system.cgroups.cores()
    share = cpu_share(system.cgroups)
    values = {"affinity": affinity, "quota_cores": quota, "cores": share, "threads_setting": threads}
    text = f"{affinity} by affinity, {'no quota' if quota is None else f'a quota of {quota:g}'}: the service uses "
    text += f"{share if threads == 'auto' else threads}"
    if threads != "auto" and threads > share:
        advice = f"Set HALFDEPTH_THREADS to auto or {share}: more threads than cores wait for each other."
        return Finding("cores", "act", text, advice, values)
    if quota is not None and quota < 1:
        advice = "Grant at least one whole core: even one thread uses up this quota, and every request then waits."
        return Finding("cores", "act", text, advice, values)
    if quota is not None and quota < affinity and quota != int(quota):
        advice = f"Grant {share} or {share + 1} cores: the service takes whole ones, and part of this quota lies idle."
        return Finding("cores", "note", text, advice, values)
    return Finding("cores", "ok", text, values=values)


def throttling(system: System) -> Finding:
    """Tell how often this control group had to wait for its quota since it was made."""
    counts = system.cgroups.throttling()
    if counts is None or not counts.periods:
        return Finding("throttling", "ok", "none: no quota is counted for this process", values={"periods": 0})
    text = f"{counts.throttled} of {counts.periods} periods so far, {counts.seconds:.1f} s of waiting in all"
    values = {"periods": counts.periods, "throttled": counts.throttled, "throttled_s": counts.seconds}
    if counts.share > MAX_THROTTLED and counts.periods >= MIN_PERIODS:
        advice = "Raise the CPU limit, or set HALFDEPTH_THREADS lower: each wait adds up to 100 ms to a request."
        return Finding("throttling", "act", text, advice, values)
    return Finding("throttling", "ok", text, values=values)


def load(system: System) -> Finding:
    """Tell whether something else keeps the cores busy: `note`, since every timing that follows is then worthless."""
    machine_cores = os.cpu_count() or 1
    average, pressure = _load_average(system), _pressure(system)
    values = {"load_1min": average, "pressure_percent": pressure, "machine_cores": machine_cores}
    if average is None and pressure is None:
        advice = "Make sure that nothing else runs here: the timings below are worthless on a busy machine."
        return Finding("load", "note", "unknown: the kernel tells neither load nor pressure", advice, values)
    phrases = [f"{average:.2f} runnable on {machine_cores} cores over a minute"] if average is not None else []
    phrases += [f"something waited for a core {pressure:.0f}% of the last 10 s"] if pressure is not None else []
    is_busy = pressure > BUSY_PRESSURE if pressure is not None else (average or 0.0) > BUSY_LOAD * machine_cores
    if is_busy:
        advice = "Stop the other work and run this again: on a busy machine the timings below are worthless."
        return Finding("load", "note", "busy: " + ", ".join(phrases), advice, values)
    return Finding("load", "ok", "quiet: " + ", ".join(phrases), values=values)


def _load_average(system: System) -> float | None:
    try:
        return float((system.proc / "loadavg").read_text().split()[0])
    except OSError:
        return None


def _pressure(system: System) -> float | None:
    """Read how much of the last 10 seconds some task waited for a core, in percent; None on kernels without it."""
    try:
        line = (system.proc / "pressure" / "cpu").read_text().splitlines()[0]
    except OSError:
        return None
    return float(line.split()[1].removeprefix("avg10="))
