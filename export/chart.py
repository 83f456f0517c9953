"""The report of an export as a picture: latency by length, and the metric and size of each stage."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from export.report import HEADLINES, stages
from export.timing import Latencies
from models.tasks.bundle import Bundle


def chart(bundle: Bundle, measured: Latencies, path: Path) -> None:
    """Write a PNG. The bundle must have a manifest. Raises: OSError."""
    assert bundle.manifest is not None
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(f"{bundle.name} {bundle.revision}")
    speed, quality = figure.subplots(1, 2)
    if measured:
        for label, times in zip(("before rewrites", "after"), zip(*measured.values(), strict=True), strict=True):
            speed.plot(list(measured), times, "o-", label=label)
        speed.legend()
    speed.set(title="one thread, batch 1", xlabel="tokens", ylabel="milliseconds", xscale="log", yscale="log")
    for axis, ticks in ((speed.xaxis, list(measured)), (speed.yaxis, None)):
        if ticks is not None:
            axis.set_ticks(ticks)
        axis.set_major_formatter(ScalarFormatter())
    speed.xaxis.set_minor_locator(NullLocator())
    rows = stages(bundle.manifest)
    headline = HEADLINES[bundle.manifest.task]
    bars = quality.barh([f"{name}\n{size / 1e6:.1f} MB" for name, _, size in rows], [value for _, value, _ in rows])
    quality.bar_label(bars, fmt="%.2f", padding=3)
    quality.invert_yaxis()
    quality.set(title=f"{headline} on {bundle.manifest.metrics.data}", xlim=(0, 110))
    figure.savefig(path, format="png", dpi=120)
