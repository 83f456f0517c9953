"""Logs the losses of a pretraining run as a table, and draws that table."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from models.files import write_whole

LOG, PLOT = "losses.csv", "losses.png"
FIXED = ("step", "tokens", "seconds", "split")
VALUES = ("total", "soft", "mlm", "cosine", "relation", "accuracy", "lr", "gradient_norm")


class LossLog:
    """Writes a row for each step that is logged (`split` train) and each evaluation (`split` dev)."""

    def __init__(self, directory: Path, *, since: int) -> None:
        """Open the log. `since`: the step that a run continues from; what a killed one logged after it is dropped."""
        self.path, self.picture = directory / LOG, directory / PLOT
        has_rows = self.path.exists() and since
        earlier_rows = [row for row in self.rows() if int(row["step"]) <= since] if has_rows else []
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, FIXED + VALUES)
        writer.writeheader()
        writer.writerows(earlier_rows)
        write_whole(self.path, table.getvalue())

    def write(self, split: str, progress: Mapping[str, float], values: Mapping[str, float]) -> None:
        row = {name: f"{value:.6g}" for name, value in values.items()}
        fixed = {"step": progress["step"], "tokens": progress["tokens"], "seconds": f"{progress['seconds']:.1f}"}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, FIXED + VALUES).writerow(fixed | {"split": split} | row)

    def rows(self) -> list[dict[str, str]]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def plot(self) -> None:
        """Draw a panel for each loss that was on: training as a line, the dev text as points."""
        rows = self.rows()
        names = [name for name in VALUES[:-2] if any(row[name] for row in rows)]
        figure = Figure(figsize=(3.2 * len(names), 3), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            for split, style in (("train", "-"), ("dev", "o")):
                points = [(int(row["tokens"]), float(row[name])) for row in rows if row["split"] == split and row[name]]
                panel.plot(*zip(*points, strict=True), style, label=split, markersize=4, linewidth=1)
            panel.set(title=name, xlabel="tokens")
        panels[0].legend()
        figure.savefig(self.picture, dpi=120)
