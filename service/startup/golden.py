"""Checks at load that a bundle still gives, on this CPU, what it gave when it was exported.

int8 products saturate on CPUs without VNNI (onnxruntime#6004): the same file then answers otherwise, in silence.
"""

from dataclasses import replace

from models.tasks.build import build_task
from models.tasks.bundle import as_exported, golden_drift
from service.engine.model import Model


def drift(model: Model) -> float | None:
    """Measure how far a model is from its golden answers, on every core; None if its bundle records none."""
    if model.bundle.overrides.thresholds:  # which change the scores, and are no fault of the CPU
        model = replace(model, task=build_task(as_exported(model.bundle), model.task.output_names))
    return golden_drift(model.bundle, model.answer)
