from dataclasses import replace
from pathlib import Path

import pytest

from models.tasks.base import Features, Outputs
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.qa import QAInput
from models.tasks.qa import build as qa_task
from models.tasks.session import Cancellation
from service.engine.engine import Engine
from service.engine.errors import ModelNotLoadedError
from service.engine.model import Model
from tests.service.conftest import FakeSession, zeros


@pytest.fixture
def bundle(bundles: Path) -> Bundle:
    return load_bundle(bundles / "qa")


def engine_of(bundle: Bundle, *models: tuple[str, str, str]) -> Engine:
    """Models by their names, revisions and directories."""
    return Engine(
        [
            Model(
                replace(bundle, name=name, revision=revision, path=bundle.path.with_name(directory)),
                qa_task(bundle),
                FakeSession(zeros),
            )
            for name, revision, directory in models
        ]
    )


def test_a_model_is_found_by_its_name_or_directory_with_and_without_a_revision(bundle: Bundle) -> None:
    engine = engine_of(bundle, ("minilm", "a1", "qa"), ("tiny", "b2", "qa-small"))
    default, small = engine.models
    assert engine.model("qa") is default
    for name in ("minilm", "minilm@a1", "qa", "qa@a1"):
        assert engine.model("qa", name) is default
    for name in ("tiny", "tiny@b2", "qa-small", "qa-small@b2"):
        assert engine.model("qa", name) is small


@pytest.mark.parametrize("name", ["tiny@a1", "minilm@", "Tiny", "", "tiny ", "classify"])
def test_a_name_that_is_not_loaded_is_refused_or_means_the_default(bundle: Bundle, name: str) -> None:
    engine = engine_of(bundle, ("minilm", "a1", "qa"), ("tiny", "b2", "qa-small"))
    with pytest.raises(ModelNotLoadedError, match=r"name one of these: minilm, tiny$"):
        engine.model("qa", name)
    assert engine.model("qa", name, or_default=True) is engine.models[0]


def test_without_any_model_there_is_no_default_either(bundle: Bundle) -> None:
    with pytest.raises(ModelNotLoadedError, match="no bundle for the task classify is loaded"):
        engine_of(bundle, ("minilm", "a1", "qa")).model("classify", "any", or_default=True)


def test_models_of_the_same_name_are_told_apart_by_revision_and_the_name_means_the_first(bundle: Bundle) -> None:
    engine = engine_of(bundle, ("minilm", "a1", "qa"), ("minilm", "b2", "next"), ("tiny", "c3", "small"))
    assert [model.id for model in engine.models] == ["minilm@a1", "minilm@b2", "tiny"]
    assert engine.model("qa", "minilm") is engine.models[0]
    assert engine.model("qa", "minilm@b2") is engine.model("qa", "next") is engine.models[1]


def test_a_name_is_a_model_s_before_it_is_a_directory_s(bundle: Bundle) -> None:
    engine = engine_of(bundle, ("minilm", "a1", "tiny"), ("tiny", "b2", "minilm"))
    assert [engine.model("qa", name).id for name in ("minilm", "tiny")] == ["minilm", "tiny"]
    assert [engine.model("qa", name).id for name in ("minilm@b2", "tiny@a1")] == ["tiny", "minilm"]


def test_other_models_replace_those_that_were_loaded(bundle: Bundle) -> None:
    engine = engine_of(bundle, ("minilm", "a1", "qa"))
    others = engine_of(bundle, ("tiny", "b2", "qa-small"), ("tiny", "c3", "qa-large")).models
    engine.replace_models([replace(model, id="") for model in others])
    assert [model.id for model in engine.models] == ["tiny@b2", "tiny@c3"]
    assert engine.model("qa") is engine.model("qa", "tiny") is engine.model("qa", "qa-small") is engine.models[0]
    assert engine.model("qa", "tiny@c3") is engine.models[1]
    with pytest.raises(ModelNotLoadedError):
        engine.model("qa", "minilm")


def test_a_check_at_the_start_runs_every_window_on_every_core_and_can_be_ended(bundle: Bundle) -> None:
    cancellation, windows = Cancellation(), []

    class Session:
        def run(self, window: Features, given: Cancellation | None = None, *, wide: bool = False) -> Outputs:
            assert given is cancellation
            assert wide
            windows.append(window)
            return zeros(window)

    model = Model(bundle, qa_task(bundle), Session())
    result = model.answer(QAInput("where?", "she lives in oslo . " * 10), cancellation)
    assert len(windows) > 1
    assert result.answers[0].text == "she"
