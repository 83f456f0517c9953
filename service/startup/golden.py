"""Checks at load that a bundle still gives, on this CPU, what it gave when it was exported.

int8 products saturate on CPUs without VNNI (onnxruntime#6004): the same file then answers otherwise, in silence.
"""

from models.tasks.bundle import golden_drift
from service.engine.model import Model


def drift(model: Model) -> float | None:
    """Measure how far a model is from its golden answers, on every core; None if its bundle records none."""
    return golden_drift(model.bundle, model.answer)
