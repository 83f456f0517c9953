"""Checks at load that a bundle still gives, on this CPU, what it gave when it was exported.

int8 products saturate on CPUs without VNNI (onnxruntime#6004): the same file then answers otherwise, in silence.
"""

from models.tasks.build import SPECS
from service.engine.model import Model


def drift(model: Model) -> float | None:
    """The furthest that any golden answer is from the recorded one, by its task's measure; None if none is recorded."""
    manifest = model.bundle.manifest
    if manifest is None or not manifest.golden:
        return None
    spec = SPECS[model.bundle.task]
    return max(spec.drift(recorded, model.answer(spec.replay(recorded))) for recorded in manifest.golden)
