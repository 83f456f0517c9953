from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.tasks.answers import GoldenAnswer
from models.tasks.base import Features, Outputs, TaskName
from models.tasks.build import build_task
from models.tasks.bundle import load_bundle
from models.tasks.classification import GoldenLabels
from models.tasks.manifest import Golden
from models.tasks.qa import QAInput
from models.tasks.session import Cancellation, OnnxSession, graph_outputs, open_graph
from models.tasks.similarity import GoldenEmbedding
from service.engine.model import Model
from service.startup.golden import drift

ANSWER = GoldenAnswer(question="where?", context="she lives in Paris", text="Paris", start=13, end=18, score=0.5)


def model_of(path: Path, golden: Golden | None) -> Model:
    bundle = load_bundle(path)
    graph = open_graph(bundle, threads=1)
    task = build_task(bundle, graph_outputs(graph))
    session = OnnxSession(bundle, graph, task.output_names)
    manifest: Any = (
        None if golden is None else SimpleNamespace(golden=golden)
    )  # of a manifest, this is all that is read
    return Model(replace(bundle, manifest=manifest), task, session)


def recorded(path: Path, item: GoldenAnswer) -> GoldenAnswer:
    """The same with the score that the bundle gives."""
    best = model_of(path, None).answer(QAInput(item.question, item.context)).answers[0]
    return item.model_copy(update={"score": best.score})


def test_a_bundle_without_golden_answers_is_not_judged(bundles: Path) -> None:
    assert drift(model_of(bundles / "qa", None)) is None


def test_golden_answers_take_every_core(bundles: Path) -> None:
    model = model_of(bundles / "qa", (ANSWER,))
    asked: list[bool] = []

    class Watched:
        def run(self, window: Features, cancellation: Cancellation | None = None, *, wide: bool = False) -> Outputs:
            asked.append(wide)
            return model.session.run(window, cancellation, wide=wide)

    drift(replace(model, session=Watched()))
    assert asked == [True]


def test_the_recorded_answer_is_no_drift(bundles: Path) -> None:
    assert drift(model_of(bundles / "qa", (recorded(bundles / "qa", ANSWER),))) == pytest.approx(0.0, abs=1e-9)


def test_an_answer_of_another_probability_drifts_by_the_difference(bundles: Path) -> None:
    truth = recorded(bundles / "qa", ANSWER)
    off = truth.model_copy(update={"score": truth.score - 0.2})
    assert drift(model_of(bundles / "qa", (truth, off))) == pytest.approx(0.2)


def test_another_answer_drifts_by_all_of_its_probability(bundles: Path) -> None:
    truth = recorded(bundles / "qa", ANSWER)
    other = truth.model_copy(update={"start": 0, "end": 3, "text": "she", "score": 0.1})
    assert drift(model_of(bundles / "qa", (other,))) == pytest.approx(truth.score)


@pytest.mark.parametrize(
    ("task", "golden", "expected"),
    [
        ("classify", GoldenLabels(text="oslo", text_pair=None, labels={"oslo": 0.75, "paris": 0.0}), 0.25),
        ("similarity", GoldenEmbedding(text="Oslo", embedding=(0.0, 1.0, 0.0, 0.0)), 1.0),
        ("similarity", GoldenEmbedding(text="Oslo", embedding=(1.0, 0.0, 0.0, 0.0)), 0.0),
        ("similarity", GoldenEmbedding(text="Oslo", embedding=(0.6, 0.8, 0.0, 0.0)), 0.4),
    ],
)
def test_labels_and_embeddings_drift_too(bundles: Path, task: TaskName, golden: Any, expected: float) -> None:
    found = drift(model_of(bundles / task, (golden,)))
    assert np.isclose(found or 0.0, expected, atol=1e-6)
