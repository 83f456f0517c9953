"""A teacher's embeddings are kept for a run that goes on, and for no other; correlations computed by hand."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers import models as modules
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig

from models.data import DataError
from models.devset import DevOptions, measure
from models.files import Reading
from models.finetune.__main__ import main
from models.finetune.options import FinetuneOptions
from models.finetune.similarity import SimilarityDev, SimilarityRecipe, read_pairs
from models.predict import load_checkpoint
from models.tasks.base import answerer
from models.tasks.similarity import EmbeddingInput
from models.teachers import ModelError


@pytest.fixture
def recipe(tiny_teacher: Path, tmp_path: Path) -> SimilarityRecipe:
    text = tmp_path / "text.txt"
    text.write_text("It rains. It pours. The old man is snoring.\nHe went to bed.\n")
    options = FinetuneOptions(
        task="similarity", teacher=(str(tiny_teacher),), train=(text,), dev=text, out=tmp_path, bf16=False
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    return SimilarityRecipe(options, tokenizer, AutoConfig.from_pretrained(tiny_teacher))


def test_another_teacher_is_asked_anew(recipe: SimilarityRecipe, tiny_teacher: Path, tmp_path: Path) -> None:
    teacher = AutoModel.from_pretrained(tiny_teacher)
    first = np.stack([item.label for item in recipe.items(teacher)])
    assert len(list(tmp_path.glob("*.npy"))) == 1
    again = np.stack([item.label for item in recipe.items(teacher)])
    assert len(list(tmp_path.glob("*.npy"))) == 1
    np.testing.assert_array_equal(first, again)
    with torch.no_grad():
        teacher.embeddings.word_embeddings.weight.neg_()
    other = np.stack([item.label for item in recipe.items(teacher)])
    assert not np.allclose(first, other)


def test_targets_are_the_means_of_the_teachers_states(recipe: SimilarityRecipe, tiny_teacher: Path) -> None:
    teacher = AutoModel.from_pretrained(tiny_teacher).eval()
    for item in recipe.items(teacher):  # the cache was filled by batches with padding
        with torch.inference_mode():
            states = teacher(torch.from_numpy(item.window.input_ids)[None]).last_hidden_state[0]
        np.testing.assert_allclose(np.asarray(item.label, np.float32), states.mean(dim=0).numpy(), atol=1e-5)


@pytest.fixture
def sentence_teacher(tiny_teacher: Path, tmp_path: Path) -> Path:
    """It pools by the first token, through a Dense, and has a default prompt."""
    torch.manual_seed(0)
    transformer = modules.Transformer(str(tiny_teacher), max_seq_length=20)
    pooling = modules.Pooling(32, "cls")
    model = SentenceTransformer(
        modules=[transformer, pooling, modules.Dense(32, 32), modules.Normalize()],
        device="cpu",
        prompts={"query": "who "},
        default_prompt_name="query",
    )
    model.save(str(tmp_path / "teacher"))
    return tmp_path / "teacher"


@pytest.fixture
def hub_name(sentence_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same teacher in the cache of a Hub that is out of reach."""
    cache = tmp_path / "hub"
    repository = cache / "models--tiny--teacher"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(sentence_teacher, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(cache))
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)
    return "tiny/teacher"


TEXT = "The old man is snoring. It rains, and he went to bed long before the first of the guests had left the house."


@pytest.mark.parametrize("place", ["sentence_teacher", "hub_name"])
def test_a_teacher_teaches_its_real_embeddings(
    place: str, sentence_teacher: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = str(request.getfixturevalue(place))
    text = tmp_path / "text.txt"
    text.write_text(f"{TEXT}\nPiet de Vries.\n")
    options = FinetuneOptions(task="similarity", teacher=(name,), train=(text,), dev=text, out=tmp_path, bf16=False)
    recipe = SimilarityRecipe(options, AutoTokenizer.from_pretrained(name), AutoConfig.from_pretrained(name))
    labels = np.stack([item.label for item in recipe.items(AutoModel.from_pretrained(name))])
    library = SentenceTransformer(str(sentence_teacher), device="cpu")
    np.testing.assert_allclose(labels, library.encode(recipe.sentences), atol=1e-5)


def test_a_student_reads_texts_as_its_teacher_does(sentence_teacher: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("sentence1\tsentence2\tscore\nalpha beta\tgamma delta\t0\nalpha beta\teta theta\t5\n")
    out = tmp_path / "out"
    run = ["--task", "similarity", "--teacher", str(sentence_teacher), "--layers", "2", "--train", str(dev)]
    assert main([*run, "--dev", str(dev), "--no-bf16", "--epochs", "1", "--out", str(out)]) == 0
    student = SentenceTransformer(str(out), device="cpu")
    assert (student.default_prompt_name, student.prompts["query"], student.max_seq_length) == ("query", "who ", 20)
    student.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    graph, task = load_checkpoint(out, "similarity", AutoModel)
    vector = answerer(task, graph)(EmbeddingInput(" alpha beta "))
    np.testing.assert_allclose(vector, student.encode(" alpha beta "), atol=1e-5)


def test_a_teacher_whose_files_the_cache_lacks_is_not_guessed(hub_name: str, tmp_path: Path) -> None:
    [modules_file] = tmp_path.glob("hub/*/*/*/modules.json")
    modules_file.unlink()
    options = FinetuneOptions(task="similarity", teacher=(hub_name,), train=(Path("a"),), dev=Path("b"), out=Path("c"))
    with pytest.raises(ModelError, match=r"tiny/teacher: modules\.json is not in the cache, and the Hub is offline"):
        SimilarityRecipe(options, None, BertConfig(hidden_size=32))


def test_a_teacher_of_another_width_than_its_states_is_refused_at_once(sentence_teacher: Path, tmp_path: Path) -> None:
    (sentence_teacher / "1_Pooling" / "config.json").write_text('{"pooling_mode": ["cls", "mean"]}')
    (sentence_teacher / "modules.json").write_text(
        json.dumps(json.loads((sentence_teacher / "modules.json").read_text())[:2])
    )
    options = FinetuneOptions(
        task="similarity", teacher=(str(sentence_teacher),), train=(Path("a"),), dev=Path("b"), out=tmp_path
    )
    with pytest.raises(DataError, match=r"gives embeddings of 64 numbers, and a student learns .* of its 32 states"):
        SimilarityRecipe(options, None, BertConfig(hidden_size=32))


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_cosines_are_correlated_with_the_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "a\tb\t5", "a\tc\t1", "a\td\t0")
    dev = SimilarityDev(path, DevOptions())
    assert dev.inputs[:2] == [EmbeddingInput("a"), EmbeddingInput("b")]
    angles = {"a": 0.0, "b": 0.1, "c": 1.5, "d": 1.0}
    metrics = measure(lambda item: np.array([math.cos(angles[item.text]), math.sin(angles[item.text])]), dev)
    assert metrics["n"] == 3.0
    assert metrics["spearman"] == pytest.approx(50.0)
    cosines, golds = np.cos([0.1, 1.5, 1.0]), np.array([5.0, 1.0, 0.0])
    assert metrics["pearson"] == pytest.approx(100 * np.corrcoef(cosines, golds)[0, 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("sentence1\tsentence2\tscore", "a\tb\thigh"), "line 2: the score 'high' is not a number"),
        (
            ("sentence1\tsentence2\tscore", "a\tb\t1", "a\tc\t4,5", "a\td\tx"),
            "2 rows cannot be used: line 3: the score '4,5'",
        ),
        (("sentence1\tsentence2\tscore", "a\tb\tnan", "a\tc\t1"), "line 2: the score nan is not finite"),
        (("sentence1\tsentence2\tscore", "a\tb\t1", "a\tc\t1"), "scores that are all the same correlate with nothing"),
        (("text\tscore", "a\t1"), "no second text to compare"),
    ],
)
def test_pairs_that_cannot_be_scored_are_refused(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SimilarityDev(write(tmp_path / "dev.tsv", *rows), DevOptions())


def test_rows_whose_score_is_no_number_are_left_out_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "a\tb\t1", "a\tc\thigh", "a\td\t2", "a\te\tinf")
    options = DevOptions(reading=Reading(skip_bad=True))
    assert SimilarityDev(path, options).golds == [1.0, 2.0]
    assert options.reading.skipped == {path: 2}


def test_pairs_draw_cosines_to_their_scores(tiny_teacher: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\tscore\nalpha beta\tgamma delta\t0\nalpha beta\teta theta\t5\n")
    run = ["--task", "similarity", "--teacher", str(tiny_teacher), "--layers", "2", "--train", str(pairs)]
    run += ["--dev", str(pairs), "--pairs", str(pairs), "--no-bf16", "--no-freeze-embeddings", "--lr", "1e-2"]
    assert main([*run, "--epochs", "30", "--evaluate-every", "1000", "--out", str(tmp_path / "out")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["spearman"] == pytest.approx(100)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [data["name"] for data in record["data"]] == ["pairs.tsv"]


@pytest.mark.parametrize("row", ["alpha\tbeta\t7", "alpha\tbeta\tmuch"])
def test_a_pair_without_a_score_that_means_something_is_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(f"sentence1\tsentence2\tscore\n{row}\n")
    with pytest.raises(DataError, match=r"the score (7 is not between 0 and 5|'much' is not a number)"):
        read_pairs(path)
