"""Writes a report as one HTML page that needs nothing from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from loadtest.record import Record
from loadtest.report.charts import DRAWN
from loadtest.report.document import Report
from loadtest.report.findings import Finding, findings
from loadtest.report.svg import COLORS, Panel
from loadtest.report.tables import table

STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True, slots=True)
class Section:
    """Describes a part to somebody who was not there."""

    title: str
    text: str


SECTIONS = {
    "grid": Section(
        "Latency by length",
        "One request at a time, over HTTP on the same machine. A bar is the median request, split into tokenization, "
        "inference and the rest (HTTP, the queue, decoding). Lines compare int8 with fp32, and one thread with all.",
    ),
    "throughput": Section(
        "Throughput and latency",
        "So many connections are kept busy: each sends its next request when its answer has come. The client runs on "
        "the same cores as the service. Medians of rounds.",
    ),
    "peers": Section(
        "Peers",
        "The same payloads on the same machine, in turns with ours, each peer with its documented settings for a CPU. "
        "With 'our bundle' both run the same graph, so that servers are compared; 'stock int8' and 'fp32' are what "
        "people export by default.",
    ),
    "infinity": Section(
        "Hugging Face Infinity's table",
        "DistilBERT-base with random weights, of the shape of SST-2, exported and served by us, one request at a time. "
        "Infinity's figures are those that Hugging Face published, on two physical cores of Ice Lake.",
    ),
    "table3": Section(
        "The DistilBERT paper's table 3",
        "A pass over STS-B dev at batch 1 on this CPU: architectures at full size, with random weights where none "
        "ship. The paper's seconds (Sanh et al. 2019) come from another CPU: ratios compare, seconds do not.",
    ),
    "load": Section("Load by Locust", "What Locust's users saw, by route and stage."),
}


def page(report: Report) -> str:
    """Write the page: what was found, then the pictures, then every row, then how it was measured."""
    body = "".join([*_head(report), *_charts(report), "<h2>Every row</h2>", *_tables(report), *_origin(report)])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>halfdepth: latency report</title>'
        f"<style>{STYLE.read_text(encoding='utf-8')}{COLORS}</style></head><body><main>{body}</main></body></html>\n"
    )


def drawn(record: Record) -> list[Panel]:
    """Draw all pictures of a part."""
    return [panel for draw in DRAWN.get(record.part, ()) for panel in draw(record.rows)]


def section(part: str) -> Section:
    return SECTIONS.get(part, Section(part.capitalize(), ""))


def in_order(report: Report) -> list[Record]:
    """List the records as the page shows them."""
    order = [*SECTIONS, *report.records]
    return sorted(report.records.values(), key=lambda record: order.index(record.part))


def _head(report: Report) -> Iterator[str]:
    records = in_order(report)
    yield "<h1>halfdepth: latency report</h1>"
    yield (
        "<p>halfdepth serves small BERT-like models over HTTP from a CPU, one input at a time. This page shows how "
        "long a request takes, and how many are answered in a second, beside other servers and published tables.</p>"
    )
    yield f'<p class="soft">Measured on {_machines(records)}. The commands at the end of the page measure it again.</p>'
    yield f'<ul class="cards">{"".join(map(_card, findings(report)))}</ul>'
    for part, reason in report.missing.items():
        yield f'<p class="soft">Not measured: {escape(section(part).title.lower())}, {escape(reason)}</p>'


def _card(finding: Finding) -> str:
    return f"<li><b>{escape(finding.value)}</b>{escape(finding.text)}</li>"


def _machines(records: list[Record]) -> str:
    machines = {
        f"{record.machine.cores} cores of {record.machine.processor} ({record.machine.memory_gb:g} GB), "
        f"{record.date[:10]}, commit {record.commit}": None
        for record in records
    }
    return escape("; and on ".join(machines))


def _charts(report: Report) -> Iterator[str]:
    for record in in_order(report):
        groups = [panels for draw in DRAWN.get(record.part, ()) if (panels := draw(record.rows))]
        if groups:
            about = section(record.part)
            yield f'<h2 id="{escape(record.part)}">{escape(about.title)}</h2><p>{escape(about.text)}</p>'
            for panels in groups:
                yield f'<div class="panels">{"".join(f"<div>{panel.svg()}</div>" for panel in panels)}</div>'


def _tables(report: Report) -> Iterator[str]:
    for record in in_order(report):
        summary = f"{escape(section(record.part).title)}: {len(record.rows)} rows"
        yield f"<details><summary>{summary}</summary>{table(record.part, record.rows)}</details>"


def _origin(report: Report) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    for record in in_order(report):
        machine = record.machine
        facts = {
            "command": f"<code>{escape(record.command)}</code>",
            "when": escape(f"{record.date}, commit {record.commit}"),
            "machine": escape(
                f"{machine.processor} (family/model {machine.family_model}), {machine.cores} cores, "
                f"{machine.memory_gb:g} GB, Linux {machine.kernel}; {', '.join(machine.cpu_features)}"
            ),
            "versions": escape(", ".join(f"{name} {version}" for name, version in record.versions.items())),
        }
        rows = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
        yield f"<p><b>{escape(section(record.part).title)}</b></p><dl>{rows}</dl>"
    yield '<p class="soft">A commit with + had files that differed from it.</p>'
