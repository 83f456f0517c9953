"""Runs `halfdepth doctor`: says whether this machine and its bundles are fit, and what to do."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ValidationError

from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options
from service.checkup import bundles, machine, speed
from service.checkup.finding import NOTHING, Finding, System, bytes_of, fields_of
from service.engine.model import Model
from service.settings import Settings, SettingsError, explain
from service.startup.cgroups import cpu_share

NEEDS_DOING = 1  # exit status
MARKS = {"ok": "ok  ", "note": "note", "act": "ACT "}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions(Options):
    """Check this machine and its bundles, and say what to do about each finding.

    It reads the settings of the service from the environment, loads each bundle as the service does, and times a small
    random encoder, so that it works before there is a bundle. The exit status is 0 if all is well (marks "ok" and
    "note"), 1 if something needs doing ("ACT"), 2 on a wrong setting or argument.
    """

    bundles: Annotated[
        Path | None, Flag("directory of bundles, or one bundle, instead of that of HALFDEPTH_BUNDLES", metavar="DIR")
    ] = None
    json: Annotated[
        bool, Flag("print JSON: status, and of each finding its subject, status, text, advice and values")
    ] = False


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m service.doctor") -> int:
    """Return the exit status: 0 if all is well, 1 if something needs doing, 2 on a wrong setting or argument."""
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None, system: System | None = None) -> int:
    """Print each finding once it is there, or all of them as JSON. Raises: UsageError, SettingsError."""
    options = read_options(DoctorOptions, prog, argv)
    settings = read_settings(options)
    findings = []
    for finding in examine(settings, system or System()):
        findings.append(finding)
        if not options.json:
            sys.stdout.write(as_text(finding))
            sys.stdout.flush()
    to_do = [finding.subject for finding in findings if finding.status == "act"]
    if options.json:
        report = {"status": "act" if to_do else "ok", "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"To do: {', '.join(to_do)}.\n" if to_do else "All is well.\n")
    return NEEDS_DOING if to_do else 0


def examine(settings: Settings, system: System) -> Iterator[Finding]:
    """Make every check, the machine's first. The load is read before this process adds to it."""
    load = machine.load(system)
    is_busy = load.status != "ok"
    available = bytes_of(fields_of(system.proc / "meminfo"), "MemAvailable")
    yield machine.processor(system)
    yield machine.cores(system, settings.threads)
    yield machine.throttling(system)
    yield load
    share = cpu_share(system.cgroups)
    threads = share if settings.threads == "auto" else settings.threads
    models: list[Model] = []
    groups, findings = bundles.find(settings)
    yield from findings
    yield from bundles.check(groups, settings, threads, models)
    yield bundles.memory(system, available, models)
    models.clear()
    yield speed.int8_gain(is_busy=is_busy)
    yield speed.threads_that_pay(share, settings.threads, is_busy=is_busy)


def as_text(finding: Finding) -> str:
    """Write a finding as a line, and below it what to do, if there is anything to say."""
    text = f"{MARKS[finding.status]}  {finding.subject}: {finding.text}\n"
    return text if finding.advice == NOTHING else f"{text}      {finding.advice}\n"


def read_settings(options: DoctorOptions) -> Settings:
    """Read the environment as the service does, and over it the directory. Raises: SettingsError."""
    try:
        return Settings() if options.bundles is None else Settings(bundles=options.bundles, models=())
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


if __name__ == "__main__":
    sys.exit(main())
