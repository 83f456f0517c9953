"""Checks at load that a bundle still gives, on this CPU, what it gave when it was exported.

int8 products saturate on CPUs without VNNI (onnxruntime#6004): the same file then answers otherwise, in silence.
"""

from copy import copy
from dataclasses import replace

from models.tasks.bundle import golden_drift
from service.engine.model import Model


def drift(model: Model) -> float | None:
    """Measure how far a model is from its golden answers, on every core; None if its bundle records none.

    They were recorded without the limit of windows that requests have here.
    """
    task = copy(model.task)
    task.max_windows = None
    return golden_drift(model.bundle, replace(model, task=task).answer)
