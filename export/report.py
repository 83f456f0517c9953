"""Reports at the end of an export: sizes, the metric of each model, latency by length."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from export.bench.timing import Latencies
from models.finetune.recipes import RECIPES
from models.tasks.build import SPECS
from models.tasks.bundle import INT8_MODEL, Bundle
from models.tasks.manifest import Manifest


def report(bundle: Bundle, latencies: Latencies) -> str:
    """Write plain text, a line for each fact. The bundle must have a manifest."""
    manifest = bundle.manifest
    assert manifest is not None
    lines = [f"{bundle.path}: {bundle.name} {bundle.revision}", f"{'':16}{SPECS[manifest.task].figure:>10}{'MB':>10}"]
    lines += [f"{name:16}{value:10.2f}{size / 1e6:10.1f}" for name, value, size in figures_by_model(manifest)]
    total = sum(file.bytes for file in manifest.files)
    lines.append(f"{'bundle':16}{'':10}{total / 1e6:10.1f}")
    lines += other_figures(manifest)
    checks = manifest.checks
    if checks.agreement is not None:
        lines.append(f"int8 keeps {checks.agreement:.2f}% of float's answers to {checks.agreement_inputs} inputs")
    if checks.neighbour_overlap is not None:
        share = f"{100 * checks.neighbour_overlap:.1f}%"
        lines.append(f"int8 keeps {share} of float's ten nearest neighbours among {checks.neighbour_inputs} texts")
    lines.append("")
    lines.append("rewrites: " + (", ".join(manifest.graph.rewrites if manifest.graph else ()) or "none"))
    lines.append(f"{'tokens':>8}{'before, ms':>12}{'after, ms':>12}{'faster':>9}")
    lines += [
        f"{tokens:8}{original_ms:12.3f}{rewritten_ms:12.3f}{original_ms / rewritten_ms:8.2f}x"
        for tokens, (original_ms, rewritten_ms) in latencies.items()
    ]
    return "\n".join(lines) + "\n"


def figures_by_model(manifest: Manifest) -> list[tuple[str, float, int]]:
    """Returns: name, the task's figure on dev and bytes of each model that was measured."""
    metrics, figure = manifest.metrics, SPECS[manifest.task].figure
    int8 = next((file.bytes for file in manifest.files if file.path == INT8_MODEL), 0)
    models = (
        ("teacher", metrics.teacher, manifest.teacher.bytes if manifest.teacher else 0),
        ("student, fp32", metrics.student_fp32, manifest.student.bytes),
        ("student, int8", metrics.student_int8, int8),
    )
    return [(name, figures[figure], size) for name, figures, size in models if figures]


def other_figures(manifest: Manifest) -> list[str]:
    """Write a table of the further figures that a card of the task tells, a column for each measured model."""
    metrics, spec = manifest.metrics, SPECS[manifest.task]
    models = {"teacher": metrics.teacher, "fp32": metrics.student_fp32, "int8": metrics.student_int8}
    measured = {name: figures for name, figures in models.items() if figures}
    rows = []
    for key, label in RECIPES[manifest.task].card.figures.items():
        values = [figures.get(key) for figures in measured.values()]
        if key != spec.figure and any(value is not None for value in values):
            rows.append("".join(" " * 10 if value is None else f"{value:10.2f}" for value in values) + f"  {label}")
    return [f"{''.join(f'{name:>10}' for name in measured)}  further figures", *rows] if rows else []


def chart(bundle: Bundle, latencies: Latencies, path: Path) -> None:
    """Write a PNG. The bundle must have a manifest. Raises: OSError."""
    assert bundle.manifest is not None
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(f"{bundle.name} {bundle.revision}")
    speed, quality = figure.subplots(1, 2)
    if latencies:
        for label, times in zip(("before rewrites", "after"), zip(*latencies.values(), strict=True), strict=True):
            speed.plot(list(latencies), times, "o-", label=label)
        speed.legend()
    speed.set(title="one thread, batch 1", xlabel="tokens", ylabel="milliseconds", xscale="log", yscale="log")
    for axis, ticks in ((speed.xaxis, list(latencies)), (speed.yaxis, None)):
        if ticks is not None:
            axis.set_ticks(ticks)
        axis.set_major_formatter(ScalarFormatter())
    speed.xaxis.set_minor_locator(NullLocator())
    rows = figures_by_model(bundle.manifest)
    bars = quality.barh([f"{name}\n{size / 1e6:.1f} MB" for name, _, size in rows], [value for _, value, _ in rows])
    quality.bar_label(bars, fmt="%.2f", padding=3)
    quality.invert_yaxis()
    quality.set(title=f"{SPECS[bundle.manifest.task].figure} on {bundle.manifest.metrics.data}", xlim=(0, 110))
    figure.savefig(path, format="png", dpi=120)
