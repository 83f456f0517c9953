"""A fourth task, served: its kernel with a TaskSpec, and a row with its request and response types, are all it takes.

(The third home, a recipe, is for training alone.)
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field
from starlette.testclient import TestClient
from tokenizers import Tokenizer

from models.tasks.base import GoldenRecord, Outputs, TaskSpec
from models.tasks.build import SPECS
from models.tasks.directory.model import ModelDirectory, max_positions
from models.tasks.directory.tokenizer import load_tokenizer
from models.tasks.text.windows import TextEncoding, encode_text
from service.app import create_app
from service.docs.examples import Example
from service.replies import EngineCall, result_json
from service.responses import ModelField, ResponseModel, TimingsField, UsageField
from service.routes import ROUTES, TaskRoute
from service.schemas import TaskRequest, Text
from service.settings import Settings
from tests.service.conftest import CONFIGS, tiny_classify_graph, write_bundle

# Home 1: the kernel and what is known of the task beside it.


@dataclass(frozen=True, slots=True)
class MoodInput:
    """A text whose mood is asked."""

    text: str

    @property
    def characters(self) -> int:
        return len(self.text)


@dataclass(frozen=True, slots=True)
class MoodResult:
    """`mood` is the largest logit."""

    mood: float


class Mood:
    """The task over one tokenizer."""

    output_names = ("logits",)
    max_windows: int | None = None

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def encode(self, item: MoodInput) -> TextEncoding:
        return encode_text(self.tokenizer, item.text, max_length=self.max_length, on_overflow="error")

    def decode(self, _: TextEncoding, outputs: Sequence[Outputs]) -> MoodResult:
        return MoodResult(max(float(np.max(logits)) for (logits,) in outputs))


class GoldenMood(GoldenRecord):
    """A text and its mood."""

    text: str
    mood: float


def build(directory: ModelDirectory, _graph_outputs: Sequence[str], _max_windows: int | None) -> Mood:
    return Mood(load_tokenizer(directory.path), max_positions(directory.config))


SPEC = TaskSpec(
    name="mood",
    architectures=("ForMood",),
    signatures=({"logits": 2},),
    figure="accuracy",
    graph_outputs=("logits",),
    token_outputs=frozenset(),
    warm_up=MoodInput("Nobody."),
    golden_inputs=(MoodInput("in Oslo"),),
    record_type=GoldenMood,
    record=lambda item, result: GoldenMood(text=item.text, mood=result.mood),
    replay=lambda recorded: MoodInput(recorded.text),
    drift=lambda recorded, result: abs(recorded.mood - result.mood),
    max_drift=0.05,
    build=build,
)


# Home 2: a row in the table of routes.


class MoodRequest(TaskRequest):
    """One text."""

    text: Text = Field(description="the text, not blank")


class MoodResponse(ResponseModel):
    """The mood of one text."""

    mood: float = Field(description="the higher, the better")
    usage: UsageField
    timings_ms: TimingsField
    model: ModelField


def tell_mood(body: MoodRequest) -> EngineCall:
    """Tell the mood of a text."""
    return EngineCall({"": MoodInput(body.text)}, None, result_json)


ROW = TaskRoute(
    path="/mood",
    task="mood",
    body=MoodRequest,
    response=MoodResponse,
    handler=tell_mood,
    examples={"one text": Example({"text": "in Oslo"}, {"mood": 400.0})},
)


@pytest.fixture
def client(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setitem(SPECS, "mood", SPEC)
    monkeypatch.setitem(CONFIGS, "mood", {"architectures": ["BertForMood"]})
    write_bundle(tmp_path / "mood", "mood", tiny_classify_graph())
    with TestClient(
        create_app(Settings(**settings.model_dump() | {"bundles": tmp_path}), routes=[*ROUTES, ROW])
    ) as client:
        yield client


def test_the_task_is_answered_with_what_it_cost(client: TestClient) -> None:
    response = client.post("/mood", json={"text": "oslo"})
    content = response.json()
    assert content["mood"] == pytest.approx(400 / 3)  # the mean over [CLS] oslo [SEP]
    assert content["usage"] == {"tokens_in": 3, "tokens_used": 3, "windows": 1, "truncated": False, "unknown_tokens": 0}
    assert content["model"] == {"name": "mood", "revision": content["model"]["revision"], "precision": "fp32"}
    assert response.headers["server-timing"].startswith("queue;dur=")


def test_the_task_is_refused_as_every_other(client: TestClient) -> None:
    wrong = client.post("/mood", json={"text": " "})
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "text: must not be blank")
    long = client.post("/mood", json={"text": "a " * 30})
    assert (long.status_code, long.json()["code"]) == (422, "input_too_long")
    assert client.get("/mood").status_code == 405
    assert client.post("/qa", json={"question": "where?", "context": "in"}).json()["code"] == "model_not_loaded"


def test_the_task_is_counted_and_listed_under_its_name(client: TestClient) -> None:
    client.post("/mood", json={"text": "oslo"})
    assert 'halfdepth_requests_total{model="mood",status="200",task="mood"} 1.0' in client.get("/metrics").text
    assert [bundle["task"] for bundle in client.get("/info").json()["bundles"]] == ["mood"]


def test_the_task_is_documented_as_every_other(client: TestClient) -> None:
    document: dict[str, Any] = client.get("/openapi.json").json()
    operation, other = document["paths"]["/mood"]["post"], document["paths"]["/classify"]["post"]
    assert (operation["x-task"], operation["description"]) == ("mood", "Tell the mood of a text.")
    assert set(operation["responses"]) == set(other["responses"])
    assert operation["parameters"] == other["parameters"]
    [example] = operation["requestBody"]["content"]["application/json"]["examples"].values()
    assert example["value"] == {"text": "in Oslo"}
    assert "#/components/schemas/MoodResponse" in json.dumps(operation["responses"]["200"])
