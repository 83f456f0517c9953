"""Draws the Grafana dashboard: `python -m tests.deploy.dashboard docs/dashboard.png` (2 minutes).

Two replicas with the default bundles under a changing load, Debian's Prometheus over them, and each panel's queries
drawn by matplotlib in the panel's place, since Debian has no Grafana.
"""

import argparse
import itertools
import json
import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx

from tests.deploy.panels import Panel, panels
from tests.deploy.prometheus import Prometheus, Series, prometheus
from tests.server import ROOT, serve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JOB = "halfdepth"
RATE_INTERVAL = "10s"
SENTENCE = "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist, an engineer from Gothenburg. "
REQUESTS = (
    ("/qa", {"question": "Who built the lighthouse?", "context": SENTENCE}),
    ("/qa", {"question": "Who built the lighthouse?", "context": SENTENCE * 8, "model": "qa-small"}),
    ("/classify", {"text": "A film that is as warm as it is wise."}),
    ("/similarity", {"source": "A man plays.", "targets": ["Someone plays an instrument.", "Stocks fell."]}),
    ("/rerank", {"query": "Who built it?", "documents": ["The keeper left in 1968.", SENTENCE]}),
    ("/classify", {"text": ""}),  # refused: 422
)
UNITS = {"reqps": "requests/s", "s": "s", "ms": "ms", "percentunit": "share", "bytes": "MB", "ops": "1/s"}
ROW_INCHES, WIDTH_INCHES, DPI = 0.42, 20, 64
COLUMNS = 24  # of Grafana's grid
LEGEND_ROW = 0.11  # of a panel's height, so that no line runs behind the legend
LEFT, RIGHT, ABOVE, BELOW = 0.9, 0.2, 0.9, 0.7  # margins within a panel, in columns and rows


@dataclass(frozen=True)
class Watched:
    """A Prometheus that has watched two replicas from `begin` to `end` (seconds since 1970)."""

    prometheus: Prometheus
    begin: float
    end: float

    def series(self, panel: Panel) -> dict[str, Series]:
        """What the panel shows, by its legends."""
        return {legend: self.prometheus.range(query, self.begin, self.end) for legend, query in panel.queries.items()}


@contextmanager
def watched(seconds: float) -> Iterator[Watched]:
    """Load two replicas, of one core and of two, with four clients in the middle third and one otherwise."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        urls = [stack.enter_context(serve(ROOT / "bundles", THREADS=threads))[1] for threads in ("1", "2")]
        targets = [url.removeprefix("http://") for url in urls]
        scraper = stack.enter_context(prometheus(Path(folder), targets, JOB))
        begin = time.time()
        third = seconds / 3
        spans = [(begin, begin + seconds)] + 3 * [(begin + third, begin + 2 * third)]
        clients = [threading.Thread(target=ask, args=(urls, *span)) for span in spans]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        yield Watched(scraper, begin, time.time())


def ask(urls: list[str], begin: float, end: float) -> None:
    """Ask the replicas in turn, every kind of request; one in 20 has a deadline that nobody can meet."""
    time.sleep(max(begin - time.time(), 0))
    replicas = itertools.cycle(urls)
    with httpx.Client(timeout=60) as client:
        for number, (route, body) in enumerate(itertools.cycle(REQUESTS)):
            if time.time() >= end:
                return
            headers = {"X-Deadline-Ms": "0.01"} if number % 20 == 19 else {}
            client.post(next(replicas) + route, json=body, headers=headers)


def draw(watch: Watched, path: Path) -> None:
    import matplotlib  # slow to import, and for this command alone

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = panels(JOB, RATE_INTERVAL)
    rows = max(row + height for _, row, _, height in (panel.place for panel in shown))
    figure = pyplot.figure(figsize=(WIDTH_INCHES, rows * ROW_INCHES))
    for panel in shown:
        x, y, width, height = panel.place
        left, bottom = (x + LEFT) / COLUMNS, 1 - (y + height - BELOW) / rows
        axes = figure.add_axes((left, bottom, (width - LEFT - RIGHT) / COLUMNS, (height - BELOW - ABOVE) / rows))
        axes.set_title(panel.title, fontsize=10, loc="left")
        series = watch.series(panel)
        if panel.kind == "timeseries":
            lines(axes, panel, series, watch.begin)
        else:
            axes.axis("off")
            text = numbers(panel, series) if panel.kind == "stat" else table(series)
            size = 26 if panel.kind == "stat" else 9
            axes.text(0.5, 0.5, text, fontsize=size, ha="center", va="center", family="monospace")
    figure.savefig(path, dpi=DPI)


def lines(axes: "Axes", panel: Panel, series: dict[str, Series], begin: float) -> None:
    """One line for each series, named by the panel's legend."""
    scale = 1e-6 if panel.unit == "bytes" else 1
    for legend, found in series.items():
        for labels, points in found.items():
            x, y = [at - begin for at, _ in points], [value * scale for _, value in points]
            axes.plot(x, y, linewidth=1, label=named(legend, labels))
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + LEGEND_ROW * math.ceil(len(axes.lines) / 2)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel(UNITS.get(panel.unit, ""), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.margins(x=0.01)
    axes.legend(fontsize=8, ncols=2, loc="upper left")


def named(legend: str, labels: str) -> str:
    """Fill a legend such as `{{task}} p50` in."""
    values = json.loads(labels)
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values.get(match[1], ""), legend)


def numbers(panel: Panel, series: dict[str, Series]) -> str:
    [found] = series.values()
    [points] = found.values()
    value = points[-1][1]
    if panel.unit == "percentunit":
        return f"{value:.1%}"
    if panel.unit == "s":
        return f"{value * 1e3:.1f} ms"
    return f"{value:.3g}/s" if panel.unit == "reqps" else f"{value:.3g}"


def table(series: dict[str, Series]) -> str:
    [found] = series.values()
    rows = [[*json.loads(labels).values(), f"{points[-1][1]:.0f}"] for labels, points in found.items()]
    rows.insert(0, [*json.loads(next(iter(found))), "replicas"])
    return "\n".join("  ".join(f"{cell:<22}" for cell in row) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.dashboard", description="draw the dashboard")
    parser.add_argument("path", type=Path, metavar="PNG")
    parser.add_argument("--seconds", type=float, default=90, help="length of the load (default: %(default)s)")
    options = parser.parse_args()
    with watched(options.seconds) as watch:
        draw(watch, options.path)
    sys.stdout.write(f"{options.path}\n")


if __name__ == "__main__":
    main()
