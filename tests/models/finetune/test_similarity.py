"""What a teacher said is kept for a run that goes on, and for no other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig

from models.finetune.options import parse_arguments
from models.finetune.similarity import SimilarityRecipe
from models.tasks.directory import BundleError


@pytest.fixture
def recipe(tiny_teacher: Path, tmp_path: Path) -> SimilarityRecipe:
    text = tmp_path / "text.txt"
    text.write_text("It rains. It pours. The old man is snoring.\nHe went to bed.\n")
    files = ["--train", str(text), "--dev", str(text), "--out", str(tmp_path)]
    arguments = parse_arguments(["--task", "similarity", "--teacher", str(tiny_teacher), *files, "--no-bf16"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    return SimilarityRecipe(arguments, tokenizer, AutoConfig.from_pretrained(tiny_teacher))


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


def test_a_teacher_that_pools_otherwise_is_refused(recipe: SimilarityRecipe, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    arguments = ["--task", "similarity", "--teacher", str(tmp_path), "--train", "a", "--dev", "b", "--out", "c"]
    with pytest.raises(BundleError, match="only mean pooling is served"):
        SimilarityRecipe(parse_arguments(arguments), recipe.task.tokenizer, BertConfig())
