"""A fourth task, trained, measured and exported: its kernel with a TaskSpec, and a recipe, are all it takes.

(The third home, a row in the table of routes, is for serving alone.)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from export.__main__ import main as export
from models.data import Batch, Item
from models.devset import DevOptions, DevSet
from models.evaluate import main as evaluate
from models.files import Reading, read_tsv
from models.finetune.__main__ import main as finetune
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.finetune.recipes import RECIPES
from models.losses import label_loss
from models.tasks.base import AnyTask, GoldenRecord, Metrics, Outputs, TaskSpec, without_limits
from models.tasks.build import SPECS
from models.tasks.bundle import load_bundle
from models.tasks.directory.model import ModelDirectory, max_positions
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.text.windows import TextEncoding, encode_text

# Home 1: the kernel and what is known of the task beside it.


@dataclass(frozen=True, slots=True)
class ToneInput:
    """A text whose tone is asked."""

    text: str


class Tone:
    """The task over one tokenizer: how friendly a text is, from 0 to 1."""

    output_names = ("logits",)
    max_windows: int | None = None

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = without_limits(tokenizer), max_length

    def encode(self, item: ToneInput) -> TextEncoding:
        return encode_text(self.tokenizer, item.text, max_length=self.max_length, on_overflow="truncate")

    def decode(self, _: TextEncoding, outputs: Sequence[Outputs]) -> float:
        [(logits,)] = outputs
        return float(1 / (1 + np.exp(logits[0] - logits[1])))


class GoldenTone(GoldenRecord):
    """A text and its tone."""

    text: str
    tone: float


def build(directory: ModelDirectory, _: Sequence[str], _max_windows: int | None) -> Tone:
    return Tone(load_tokenizer(directory.path), max_positions(directory.config))


SPEC = TaskSpec(
    name="tone",
    architectures=("ForTone",),
    signatures=({"logits": 2},),
    figure="hits",
    graph_outputs=("logits",),
    token_outputs=frozenset(),
    warm_up=ToneInput("Nobody."),
    golden_inputs=(ToneInput("The lamp is red."), ToneInput("An old oven.")),
    record_type=GoldenTone,
    record=lambda item, tone: GoldenTone(text=item.text, tone=round(tone, 6)),
    replay=lambda recorded: ToneInput(recorded.text),
    drift=lambda recorded, tone: abs(recorded.tone - tone),
    max_drift=0.05,
    build=build,
)


# Home 2: the recipe.


class ToneDev(DevSet):
    """TSV with labels 0 and 1; `hits`: how many texts come out on their side of the middle."""

    def __init__(self, path: Path) -> None:
        examples = read_tsv(path, "label")
        self.inputs = [ToneInput(example.text) for example in examples]
        self.golds = [example.label == "1" for example in examples]

    def score(self, results: Sequence[float], _: AnyTask | None = None) -> Metrics:
        hits = [(tone > 0.5) == gold for tone, gold in zip(results, self.golds, strict=True)]
        return {"n": float(len(hits)), "hits": 100 * float(np.mean(hits))}


class ToneRecipe(Recipe[Tone]):
    """Labels of whole texts."""

    spec = SPEC
    model_class = AutoModelForSequenceClassification
    student_class = DistilBertForSequenceClassification
    optimum_task = "text-classification"
    card = CardText(
        pipeline_tag="text-classification",
        tags="onnx",
        summary="The tone of texts.",
        counted="{n:.0f} texts",
        figures={"hits": "texts on their side"},
        limits=("It reads English.",),
        load='read("{directory}/{subfolder}/{file}")',
    )

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        self.reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        self.examples = [example for path in options.train for example in read_tsv(path, "label", self.reading)]
        self.task = Tone(tokenizer.backend_tokenizer, max_positions(config.to_dict()))

    def items(self, _: PreTrainedModel | None) -> list[Item]:
        windows = [self.task.encode(ToneInput(example.text)).windows[0] for example in self.examples]
        labels = [np.array(int(example.label)) for example in self.examples]
        return [Item(window, label) for window, label in zip(windows, labels, strict=True)]

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        return label_loss(output.logits, batch.labels)

    def logits(self, output: Output, _: Batch) -> Tensor:
        logits: Tensor = output.logits[:, None]
        return logits

    def distributions(self) -> tuple[int, int]:
        return 1, 2

    @staticmethod
    def dev_set(path: Path, _: DevOptions) -> ToneDev:
        return ToneDev(path)

    @staticmethod
    def ask(post: Post, item: ToneInput) -> float:
        return float(post("/tone", {"text": item.text})["tone"])

    @staticmethod
    def card_limits(task: Tone) -> list[str]:
        return [f"Of {task.max_length} tokens, the first."]


def test_the_task_is_trained_distilled_measured_and_exported(
    tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SPECS, "tone", SPEC)
    monkeypatch.setitem(RECIPES, "tone", ToneRecipe)
    data = tmp_path / "tone.tsv"
    data.write_text("text\tlabel\nthe keeper lit the lamp\t1\nthe bakery was closed\t0\n", encoding="utf-8")
    common = ["--task", "tone", "--dev", str(data)]
    loop = ["--train", str(data), "--epochs", "30", "--lr", "3e-3", "--evaluate-every", "10", "--no-bf16"]
    teacher, student, bundle = (tmp_path / name for name in ("teacher", "student", "bundle"))
    assert finetune([*common, *loop, "--model", str(tiny_teacher), "--out", str(teacher)]) == 0
    assert finetune([*common, *loop, "--teacher", str(teacher), "--layers", "2", "--out", str(student)]) == 0
    capsys.readouterr()
    assert evaluate([*common, "--checkpoint", str(student)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((student / "training.json").read_text())["metrics"]["tone.tsv"]

    origin = ["--student", str(student), "--teacher", str(teacher), "--out", str(bundle), "--max-metric-drop", "100"]
    assert export([*common, *origin]) == 0
    assert "hits" in capsys.readouterr().out
    manifest = load_bundle(bundle).manifest
    assert manifest is not None
    assert (manifest.task, manifest.metrics.student_fp32) == ("tone", figures)
    assert manifest.metrics.teacher is not None
    assert [type(golden) for golden in manifest.golden] == [GoldenTone, GoldenTone]
    card = (bundle / "README.md").read_text()
    assert "The tone of texts." in card
    assert "- Of 512 tokens, the first." in card
    assert evaluate([*common, "--bundle", str(bundle)]) == 0
    assert json.loads(capsys.readouterr().out) == manifest.metrics.student_int8
