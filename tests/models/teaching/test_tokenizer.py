"""What other libraries load of a student reads with the inputs that it takes, and within its positions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimum.onnxruntime import ORTModelForQuestionAnswering
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertModel, DistilBertModel, pipeline

from export.__main__ import main as export_main
from models.finetune.__main__ import main
from models.student import make_student
from models.teaching.tokenizer import leave_out_inputs, save_tokenizer

INPUTS = ["input_ids", "attention_mask"]


def settings(directory: Path) -> dict[str, Any]:  # as JSON has it
    read: dict[str, Any] = json.loads((directory / "tokenizer_config.json").read_text())
    return read


def test_a_student_reads_no_token_types_and_no_more_than_its_positions(tiny_teacher: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    teacher = BertModel.from_pretrained(tiny_teacher)
    student = make_student(teacher, DistilBertModel, (0, 1))
    student.config.type_vocab_size = 2  # as some conversions leave it there: forward takes none all the same
    save_tokenizer(tokenizer, student, tmp_path / "student")
    assert settings(tmp_path / "student")["model_input_names"] == INPUTS
    assert settings(tmp_path / "student")["model_max_length"] == 512
    save_tokenizer(tokenizer, teacher, tmp_path / "teacher")
    assert settings(tmp_path / "teacher")["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
    again = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert list(again("One.", "Two.")) == INPUTS


def test_token_types_that_a_foreign_tokenizer_leaves_out_stay_out(tiny_teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher, model_input_names=INPUTS)
    leave_out_inputs(tokenizer, BertModel.from_pretrained(tiny_teacher))
    assert tokenizer.model_input_names == INPUTS


@pytest.fixture
def student(tiny_teacher: Path, squad_file: Path, tmp_path: Path) -> Path:
    data = ["--task", "qa", "--train", str(squad_file), "--dev", str(squad_file), "--max-length", "64", "--no-bf16"]
    assert main([*data, "--model", str(tiny_teacher), "--out", str(tmp_path / "teacher")]) == 0
    made = ["--teacher", str(tmp_path / "teacher"), "--layers", "2", "--out", str(tmp_path / "student")]
    assert main([*data, *made]) == 0
    return tmp_path / "student"


# transformers' pipeline gives tensors of PyTorch to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_question_answering_student_and_its_bundle_are_loaded_by_transformers_and_optimum(
    student: Path, squad_file: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    given = ["--task", "qa", "--student", str(student), "--dev", str(squad_file), "--out", str(bundle)]
    assert export_main([*given, "--no-int8", "--no-rewrite"]) == 0
    asked = {"question": "Who built the lighthouse?", "context": "Anna Lindqvist built the old lighthouse."}
    answers = []
    for directory, model in (
        (student, AutoModelForQuestionAnswering.from_pretrained(student)),
        (bundle, ORTModelForQuestionAnswering.from_pretrained(bundle, subfolder="onnx", file_name="model.onnx")),
    ):
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ask: Any = pipeline("question-answering", model=model, tokenizer=tokenizer)  # optimum's models have no type
        answers.append(ask(**asked))
        assert list(tokenizer(**{"text": "One.", "text_pair": "Two."})) == INPUTS
        for name in ("config.json", "tokenizer_config.json"):
            assert str(tmp_path) not in (directory / name).read_text()
            assert "name_or_path" not in (directory / name).read_text()
    assert answers[0]["answer"] == answers[1]["answer"]
    assert answers[0]["score"] == pytest.approx(answers[1]["score"], abs=1e-4)


def test_a_similarity_student_is_loaded_by_sentence_transformers(tiny_teacher: Path, tmp_path: Path) -> None:
    text, dev = tmp_path / "text.txt", tmp_path / "dev.tsv"
    text.write_text("It rains. It pours. The old man is snoring.\n")
    dev.write_text("sentence1\tsentence2\tscore\nIt rains.\tIt pours.\t4\nIt rains.\tHe went to bed.\t0\n")
    given = ["--task", "similarity", "--teacher", str(tiny_teacher), "--layers", "2", "--train", str(text)]
    assert main([*given, "--dev", str(dev), "--out", str(tmp_path / "out"), "--no-bf16"]) == 0
    vector = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode("It rains.")
    assert np.isfinite(vector).all()
    assert vector.shape == (32,)
