"""What an export says at its end: sizes, the metric at each stage, latency by length."""

from export.timing import Latencies
from models.tasks.bundle import INT8_MODEL, Bundle
from models.tasks.manifest import Manifest

HEADLINES = {"qa": "f1", "classify": "accuracy", "similarity": "spearman"}


def report(bundle: Bundle, measured: Latencies) -> str:
    """Plain text, a line for each fact. The bundle must have a manifest."""
    manifest = bundle.manifest
    assert manifest is not None
    lines = [f"{bundle.path}: {bundle.name} {bundle.revision}", f"{'':16}{HEADLINES[manifest.task]:>10}{'MB':>10}"]
    lines += [f"{name:16}{value:10.2f}{size / 1e6:10.1f}" for name, value, size in stages(manifest)]
    total = sum(file.bytes for file in manifest.files)
    lines.append(f"{'bundle':16}{'':10}{total / 1e6:10.1f}")
    lines.append("")
    lines.append("rewrites: " + (", ".join(manifest.graph.rewrites if manifest.graph else ()) or "none"))
    lines.append(f"{'tokens':>8}{'before, ms':>12}{'after, ms':>12}{'faster':>9}")
    lines += [
        f"{tokens:8}{before:12.3f}{after:12.3f}{before / after:8.2f}x" for tokens, (before, after) in measured.items()
    ]
    return "\n".join(lines) + "\n"


def stages(manifest: Manifest) -> list[tuple[str, float, int]]:
    """Name, the task's figure on dev, bytes: of those that were measured."""
    metrics, headline = manifest.metrics, HEADLINES[manifest.task]
    int8 = next((file.bytes for file in manifest.files if file.path == INT8_MODEL), 0)
    found = (
        ("teacher", metrics.teacher, manifest.teacher.bytes if manifest.teacher else 0),
        ("student, fp32", metrics.student_fp32, manifest.student.bytes),
        ("student, int8", metrics.student_int8, int8),
    )
    return [(name, figures[headline], size) for name, figures, size in found if figures]
