"""Writes what a report found into the pages that quote it, between marks, so that they agree."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill

from loadtest.record import RecordError
from loadtest.report.document import Report
from loadtest.report.findings import Finding, findings
from loadtest.report.page import drawn, in_order, section
from loadtest.report.svg import montage

COMMAND = "halfdepth loadtest report --records docs/report/report.json --out docs/report --readme"
"""The command that writes page, pictures and quotations again."""
BLOCK = re.compile(r"<!-- from the report: (\w+) -->\n(.*?)<!-- end of the report -->\n", re.DOTALL)
COLUMNS = 2
LINE = 118  # characters, as on all pages


def pictures(report: Report) -> dict[str, str]:
    """Draw a picture of each part, under the name of its file."""
    panels = {record.part: drawn(record) for record in in_order(report)}
    return {f"{part}.svg": montage(found, COLUMNS) for part, found in panels.items() if found}


def quoted(text: str, page: Path, report: Report | None, directory: Path) -> str:
    """Fill the marked blocks of a page's text; empty them without a report. `directory`: where the report lies.

    Raises: RecordError if a block has a name that there is none of.
    """
    to_report = os.path.relpath(directory, page.parent)

    def filled(block: re.Match[str]) -> str:
        if block[1] not in BLOCKS:
            raise RecordError(f"{page} asks for {block[1]} of the report; there are {', '.join(BLOCKS)}")
        content = "" if report is None else BLOCKS[block[1]](report, to_report)
        return f"<!-- from the report: {block[1]} -->\n{content}<!-- end of the report -->\n"

    return BLOCK.sub(filled, text)


def summary_block(report: Report, to_report: str) -> str:
    """Show the first picture and the main findings."""
    main = [finding for finding in findings(report) if finding.is_main]
    return f"\n{_pictures(report, to_report, most=1)}\n{_list(report, main)}\n{_source(to_report)}\n"


def whole_block(report: Report, to_report: str) -> str:
    """Show every picture and every finding."""
    return f"\n{_list(report, findings(report))}\n{_pictures(report, to_report)}\n{_source(to_report)}\n"


BLOCKS: Mapping[str, Callable[[Report, str], str]] = {"summary": summary_block, "whole": whole_block}


def _list(report: Report, found: Sequence[Finding]) -> str:
    machines = ", ".join(
        {f"{record.machine.cores} cores of {record.machine.processor}": 0 for record in in_order(report)}
    )
    items = [f"- **{finding.value}**: {finding.text}" for finding in found]
    lines = "\n".join(fill(item, LINE, subsequent_indent="  ", break_on_hyphens=False) for item in items)
    return f"Measured on {machines}:\n\n{lines}\n"


def _pictures(report: Report, to_report: str, most: int | None = None) -> str:
    files = list(pictures(report))[:most]
    return "\n".join(f"![{section(Path(file).stem).title}]({to_report}/{file})\n" for file in files)


def _source(to_report: str) -> str:
    links = f"[report.html]({to_report}/report.html), [report.json]({to_report}/report.json)"
    return f"All rows: {links}. Written from them by\n\n```\n{COMMAND}\n```\n"
