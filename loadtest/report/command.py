"""Runs `halfdepth loadtest report`: measures what is wanted, and leaves one page and its JSON."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from loadtest.process import ROOT
from loadtest.report.document import Report, read_report
from loadtest.report.page import page
from loadtest.report.parts import PARTS, measure
from loadtest.report.readme import pictures, quoted
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options

PartName = Literal["grid", "throughput", "peers", "infinity", "table3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(Options):
    """Measure the service and its peers, and write a page that needs no network, with its JSON and pictures.

    Exits 1 if a part could not be measured; the page says why, and has the others. The machine should have nothing
    else to do meanwhile. Peers have to be installed before: `halfdepth loadtest peers --install`.
    """

    short: Annotated[bool, Flag("the short form: fewer lengths and rounds, neither peers nor the paper's tables")] = (
        False
    )
    only: Annotated[tuple[PartName, ...], Flag("parts to measure; all of the form by default")] = ()
    bundles: Annotated[Path, Flag("directory of the bundles to serve", metavar="DIR")] = Path("bundles")
    records: Annotated[
        Path | None, Flag("measure nothing: a directory of records, or an earlier report's JSON", metavar="DIR")
    ] = None
    out: Annotated[Path, Flag("where page, JSON and pictures are written", metavar="DIR")] = Path("runs/report")
    readme: Annotated[bool, Flag("write the findings into this checkout's pages that quote them, too")] = False

    def check(self) -> None:
        if self.records is not None and (self.short or self.only):
            raise UsageError("--records measures nothing, so --short and --only mean nothing with it")
        left_out = [name for name in self.only if self.short and PARTS[name].short is None]
        if left_out:
            raise UsageError(f"{left_out[0]} is not a part of the short form")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest report") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Return 1 if a part is missing. Raises: RecordError, UsageError."""
    options = read_options(ReportOptions, prog, argv)
    if options.records is not None:
        report = read_report(options.records)
    else:
        names = options.only or [name for name, part in PARTS.items() if not options.short or part.short is not None]
        report = measure(names, options.out / "records", short=options.short, bundles=options.bundles)
    write(report, options.out)
    if options.readme:
        for path in quoting_pages(ROOT):
            path.write_text(
                quoted(path.read_text(encoding="utf-8"), path, report, options.out.resolve()), encoding="utf-8"
            )
    for name, reason in report.missing.items():
        sys.stderr.write(f"{prog}: {name} is missing: {reason}\n")
    sys.stdout.write(f"{options.out / 'report.html'}\n")
    return 1 if report.missing and options.records is None else 0


def write(report: Report, out: Path) -> None:
    """Leave the page, the JSON, and the pictures for other pages."""
    report.write(out / "report.json")
    (out / "report.html").write_text(page(report), encoding="utf-8")
    for name, picture in pictures(report).items():
        (out / name).write_text(picture, encoding="utf-8")


def quoting_pages(root: Path) -> list[Path]:
    """List the pages of a checkout that may quote the report."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


if __name__ == "__main__":
    sys.exit(main())
