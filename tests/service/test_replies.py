import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models.tasks.base import Usage
from models.tasks.bundle import load_bundle
from models.tasks.similarity import EmbeddingInput
from service.engine.request import Outcome
from service.replies import (
    Answered,
    EngineCall,
    combined_json,
    embed,
    milliseconds,
    places,
    server_timing,
    totals_with,
    vectors_json,
)
from service.telemetry.stages import Stages

STAGES = Stages(queue=1_000, tokenization=2_000, inference=4_000, inference_wall=5_000, postprocess=1_000, total=9_000)
USAGE = Usage(3, 3, 1, truncated=False)
VECTORS = {"a": [1.0, 0.0], "b": [0.0, 1.0]}


def test_milliseconds_keep_microseconds() -> None:
    assert milliseconds(Stages(1_234_567, 0, 0, 0, 0, 2_000_000))["queue"] == 1.235


def test_server_timing_names_each_stage_with_its_duration() -> None:
    assert server_timing(milliseconds(STAGES)) == (
        "queue;dur=0.001, tokenization;dur=0.002, inference;dur=0.004, "
        "inference_wall;dur=0.005, postprocess;dur=0.001, total;dur=0.009"
    )


def combined(call: EngineCall) -> list[list[float]]:
    """What becomes of the embeddings of the call's items."""
    assert call.combine
    texts = [item.text for item in call.items.values() if isinstance(item, EmbeddingInput)]
    outcomes = [Outcome(np.array(VECTORS[text], np.float32), USAGE, STAGES) for text in texts]
    vectors: list[list[float]] = json.loads(call.combine(outcomes))
    return vectors


@pytest.mark.parametrize(
    ("once", "items"),
    [
        (True, {"inputs[0]": "a", "inputs[1]": "b"}),
        (False, {"inputs[0]": "a", "inputs[1]": "b", "inputs[2]": "a"}),
    ],
)
def test_a_text_that_stands_twice_is_embedded_once_where_it_may_be(once: bool, items: dict[str, str]) -> None:
    call = embed(
        places("inputs", ["a", "b", "a"]),
        partial(EmbeddingInput, on_overflow="error"),
        vectors_json,
        combined_json,
        once=once,
    )
    assert call.items == {place: EmbeddingInput(text, "error") for place, text in items.items()}
    assert combined(call) == [VECTORS["a"], VECTORS["b"], VECTORS["a"]]


def test_json_that_was_combined_on_a_worker_is_written_as_it_is(bundles: Path) -> None:
    answered = Answered(b"[1]", USAGE, milliseconds(STAGES), load_bundle(bundles / "qa"))
    assert combined_json(answered) == b"[1]"
    content = json.loads(totals_with("scores")(answered))
    assert (content["scores"], content["usage"]["tokens_in"], content["model"]["name"]) == ([1], 3, "qa")
