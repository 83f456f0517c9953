"""Answers are those of transformers' pipeline over the same graph, where its settings can be matched."""

import shutil
from pathlib import Path
from random import Random

import pytest
from transformers import AutoModelForQuestionAnswering

from docs.log.scripts.pipeline_spans import SETTINGS, Sides, compare
from export.graph.convert import convert
from models.squad import QAExample
from models.tasks.bundle import FP32_MODEL, load_bundle
from tests.conftest import PARAGRAPHS, QUESTIONS

TEXTS = [text for texts in PARAGRAPHS.values() for text in texts]


@pytest.fixture(scope="module")
def sides(tiny_qa: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Sides:
    path = tmp_path_factory.mktemp("bundle") / "qa"
    shutil.copytree(tiny_qa["distilbert"], path)
    convert(AutoModelForQuestionAnswering.from_pretrained(path).eval(), "qa", path / FP32_MODEL)
    (path / "model.safetensors").unlink()
    return Sides(load_bundle(path, "qa"))


@pytest.fixture(scope="module")
def examples() -> list[QAExample]:
    """Questions over texts of one to four paragraphs, some of them short of a window of 128 tokens, some not."""
    random = Random(0)
    contexts = [" ".join(random.choices(TEXTS, k=random.randint(1, 8))) for _ in range(40)]
    return [QAExample(str(n), "", random.choice(QUESTIONS)[2], text, (), ()) for n, text in enumerate(contexts)]


# The pipeline gives tensors of PyTorch to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_spans_are_the_pipelines_and_each_that_is_not_has_its_reason(
    sides: Sides, examples: list[QAExample], name: str
) -> None:
    setting = SETTINGS[name]
    counts = compare(sides, examples, setting)
    assert counts["unexplained"] == 0
    if setting.max_seq_len is None and not setting.align_to_words:
        assert counts == {"equal": len(examples)}
    else:
        assert counts["equal"] > len(examples) / 2
