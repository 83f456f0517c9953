"""What a user does from her own data to an answer over HTTP, by the documented commands, on a tiny encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from starlette.testclient import TestClient

from export.__main__ import main as export
from models.evaluate import main as evaluate
from models.finetune.__main__ import main as finetune
from models.predict import load_bundle_run
from models.tasks.base import answerer
from models.tasks.similarity import EmbeddingInput
from service.app import create_app
from service.settings import Settings

PROVIDERS = ["CPUExecutionProvider"]
COLOURS = {"red": "warm", "blue": "cold", "grey": "dull"}
THINGS = ("apple", "river", "tower", "garden", "lamp", "oven")
LOOP = ["--batch-size", "4", "--lr", "3e-3", "--no-freeze-embeddings", "--no-bf16", "--evaluate-every", "1000"]


def exact_products() -> onnxruntime.SessionOptions:
    """As on a CPU with VNNI; on others the service takes them where its own move an answer too far."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def rows(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def classifier(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A directory of bundles, and the labelled texts that its classifier learned: three classes."""
    root = tmp_path_factory.mktemp("classifier")
    data = rows(
        root / "data.tsv",
        "text\tlabel",
        *(f"the {thing} is {colour}\t{label}" for colour, label in COLOURS.items() for thing in THINGS),
    )
    given = ["--task", "classify", "--train", str(data), "--dev", str(data), *LOOP, "--epochs", "20"]
    teacher, student, bundles = root / "teacher", root / "student", root / "bundles"
    assert finetune([*given, "--model", str(tiny_teacher), "--out", str(teacher)]) == 0
    assert finetune([*given, "--teacher", str(teacher), "--layers", "2", "--out", str(student)]) == 0
    origin = ["--student", str(student), "--teacher", str(teacher)]
    assert export(["--task", "classify", *origin, "--dev", str(data), "--out", str(bundles / "classify")]) == 0
    return bundles, data


def test_a_classifier_of_three_labels_goes_from_a_table_to_an_answer(
    classifier: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundles, data = classifier
    with TestClient(create_app(Settings(bundles=bundles))) as client:
        response = client.post("/classify", json={"text": "the tower is grey", "top_k": 3})
    assert response.status_code == 200
    assert next(label["label"] for label in response.json()["labels"]) == "dull"
    assert sum(label["score"] for label in response.json()["labels"]) == pytest.approx(1.0)
    capsys.readouterr()
    assert evaluate(["--task", "classify", "--dev", str(data), "--bundle", str(bundles / "classify")]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 100.0


def test_its_manifest_and_card_tell_where_it_came_from(classifier: tuple[Path, Path]) -> None:
    bundle = classifier[0] / "classify"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["metrics"]["student_int8"]["accuracy"] == 100.0
    assert [record["used_for"] for record in manifest["data"]] == ["train", "dev"]
    assert {label for golden in manifest["golden"] for label in golden["labels"]} == set(COLOURS.values())
    card = (bundle / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "The labels are `cold`, `dull`, `warm`." in card
    assert "| accuracy | 100.0 | 100.0 | 100.0 |" in card


@pytest.fixture(scope="module")
def encoder(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of bundles with one for similarity."""
    root = tmp_path_factory.mktemp("encoder")
    text = rows(root / "text.txt", *(f"The {thing} is {colour}." for colour in COLOURS for thing in THINGS))
    dev = rows(root / "dev.tsv", "sentence1\tsentence2\tscore", "red lamp\tred oven\t4", "red\tgrey\t1", "a\ttower\t0")
    student, bundles = root / "student", root / "bundles"
    given = ["--task", "similarity", "--train", str(text), "--dev", str(dev), *LOOP, "--max-length", "32"]
    assert finetune([*given, "--teacher", str(tiny_teacher), "--layers", "2", "--out", str(student)]) == 0
    origin = [
        "--student",
        str(student),
        "--teacher",
        str(tiny_teacher),
        "--max-metric-drop",
        "200",
        "--min-agreement",
        "0",
    ]
    assert export(["--task", "similarity", *origin, "--dev", str(dev), "--out", str(bundles / "similarity")]) == 0
    return bundles


TEXTS = ["The lamp is red.", "red", "The old oven by the river is grey, and the tower is blue."]


@pytest.fixture(scope="module")
def served(encoder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The service's embeddings of TEXTS."""
    with TestClient(create_app(Settings(bundles=encoder))) as client:
        response = client.post("/embed", json={"inputs": TEXTS})
    assert response.status_code == 200, response.text
    return np.array(response.json()["embeddings"])


@pytest.fixture(scope="module")
def exact(encoder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Our own embeddings of TEXTS by exact products."""
    run, task = load_bundle_run(encoder / "similarity", "similarity")
    answer = answerer(task, run)
    return np.array([answer(EmbeddingInput(text)) for text in TEXTS])


def test_optimum_gets_the_same_vectors_out_of_the_similarity_bundle(
    encoder: Path, exact: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    from optimum.onnxruntime import ORTModelForFeatureExtraction  # slow to import, and for this test alone
    from transformers import AutoTokenizer

    bundle = encoder / "similarity"
    model = ORTModelForFeatureExtraction.from_pretrained(
        bundle,
        subfolder="onnx",
        file_name="model_quantized.onnx",
        use_io_binding=False,
        session_options=exact_products(),
    )
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    for text, vector in zip(TEXTS, exact, strict=True):
        states = model(**tokenizer(text, return_tensors="np")).last_hidden_state[0]
        mean = states.mean(axis=0)
        assert float(mean @ vector / np.linalg.norm(mean)) >= 0.9999


def test_sentence_transformers_gets_the_same_vectors_out_of_the_similarity_bundle(
    encoder: Path, exact: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    from sentence_transformers import SentenceTransformer  # slow to import, and for this test alone

    options = {"file_name": "onnx/model_quantized.onnx", "provider": "CPUExecutionProvider"}
    model = SentenceTransformer(
        str(encoder / "similarity"), backend="onnx", model_kwargs=options | {"session_options": exact_products()}
    )
    assert model.max_seq_length == 32
    for text, vector in zip(TEXTS, exact, strict=True):  # one at a time: dynamic int8 changes with padding
        assert float(model.encode(text) @ vector) >= 0.9999


def test_padding_does_not_move_an_embedding(encoder: Path, tmp_path: Path) -> None:
    origin = ["--student", str(encoder.parent / "student"), "--dev", str(encoder.parent / "dev.tsv"), "--no-int8"]
    assert export(["--task", "similarity", *origin, "--out", str(tmp_path / "fp32")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "fp32" / "onnx" / "model.onnx", providers=PROVIDERS)
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    ids = np.array([[5, 6, 7, 8, 9], [5, 6, 7, 0, 0]])
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    _, padded = session.run(None, {"input_ids": ids, "attention_mask": mask})
    states, alone = session.run(None, {"input_ids": ids[1:, :3], "attention_mask": mask[1:, :3]})
    np.testing.assert_allclose(padded[1], alone[0], atol=1e-5)
    mean = states[0].mean(axis=0)
    np.testing.assert_allclose(alone[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_similarity_ranks_by_the_cosine_of_those_vectors(encoder: Path, served: np.ndarray[Any, Any]) -> None:
    with TestClient(create_app(Settings(bundles=encoder))) as client:
        response = client.post("/similarity", json={"source": TEXTS[0], "targets": TEXTS})
    assert response.json()["scores"] == pytest.approx(list(served @ served[0]), abs=1e-5)
