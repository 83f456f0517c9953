"""How many tokens a model reads at once, compared with what transformers' own models can read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from models.tasks.directory.files import BundleError
from models.tasks.directory.model import max_positions, max_tokens, read_directory

POSITIONS = 24
SIZES = {
    "vocab_size": 40,
    "hidden_size": 8,
    "embedding_size": 8,
    "intermediate_size": 8,
    "hidden_dim": 8,
    "dim": 8,
    "num_hidden_layers": 1,
    "n_layers": 1,
    "num_attention_heads": 2,
    "n_heads": 2,
}
WITH_TABLE = ("albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")
WITHOUT_TABLE = ("deberta", "deberta-v2", "xlnet")


def config_of(kind: str, **keys: Any) -> Any:  # any of transformers' classes
    names = {"n_layer": 1, "n_head": 2, "d_model": 8, "d_inner": 8} if kind == "xlnet" else SIZES
    return AutoConfig.for_model(kind, **names, **keys)


def reads(config: Any, tokens: int) -> bool:
    model = AutoModel.from_config(config).eval()
    try:
        model(input_ids=torch.full((1, tokens), 7))
    except (IndexError, RuntimeError):
        return False
    return True


def write(path: Path, config: dict[str, Any], settings: dict[str, Any] | None = None) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def limit_of(path: Path) -> int:
    return max_tokens(read_directory(path, "any"))


@pytest.mark.parametrize("kind", WITH_TABLE)
def test_a_table_of_positions_is_used_to_its_last_row(tmp_path: Path, kind: str) -> None:
    config = config_of(kind, max_position_embeddings=POSITIONS)
    config.save_pretrained(tmp_path)
    limit = limit_of(tmp_path)
    assert reads(config, limit)
    assert not reads(config, limit + 1)


@pytest.mark.parametrize("kind", WITH_TABLE)
def test_no_tokenizers_setting_reaches_beyond_the_table(tmp_path: Path, kind: str) -> None:
    config = {"model_type": kind, "max_position_embeddings": 514}
    positions = limit_of(write(tmp_path, config))
    assert limit_of(write(tmp_path, config, {"model_max_length": 1024})) == positions
    assert limit_of(write(tmp_path, config, {"model_max_length": 128})) == 128


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # DeBERTa is imported
@pytest.mark.parametrize("kind", WITHOUT_TABLE)
def test_without_a_table_the_tokenizers_setting_decides(tmp_path: Path, kind: str) -> None:
    keys = {} if kind == "xlnet" else {"position_biased_input": False, "relative_attention": True}
    config = config_of(kind, **keys)
    config.save_pretrained(tmp_path)
    assert limit_of(write(tmp_path, config.to_dict())) == 512
    assert limit_of(write(tmp_path, config.to_dict(), {"model_max_length": 700})) == 700
    assert reads(config, 700)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # DeBERTa is imported
def test_deberta_may_have_a_table_too(tmp_path: Path) -> None:
    config = config_of("deberta-v2", max_position_embeddings=POSITIONS, position_biased_input=True)
    assert limit_of(write(tmp_path, config.to_dict(), {"model_max_length": 700})) == POSITIONS
    assert not reads(config, 700)


@pytest.mark.parametrize("kind", [*WITH_TABLE, "modernbert", "deberta-v2"])
def test_positions_that_config_json_leaves_out_are_transformers_default(kind: str) -> None:
    stated = {key: value for key, value in AutoConfig.for_model(kind).to_dict().items() if value is not None}
    assert max_positions({"model_type": kind}) == max_positions(stated)


@pytest.mark.parametrize(
    "settings", [{"model_max_length": 96}, {"max_len": 96}, {"model_max_length": 96.0}, {"model_max_length": 1}]
)
@pytest.mark.parametrize("positions", [64, 128])
def test_what_the_tokenizer_is_limited_to_is_read_as_transformers_reads_it(
    tiny_teacher: Path, tmp_path: Path, settings: dict[str, Any], positions: int
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny_teacher / "tokenizer.json").read_bytes())
    write(tmp_path, {"model_type": "bert", "max_position_embeddings": positions}, settings)
    assert limit_of(tmp_path) == min(positions, AutoTokenizer.from_pretrained(tmp_path).model_max_length)


@pytest.mark.parametrize("settings", [{}, {"model_max_length": None}, {"model_max_length": 1e30, "max_len": 3}])
def test_a_tokenizer_without_a_limit_leaves_it_to_the_positions(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = {"model_type": "bert", "max_position_embeddings": 8192}
    assert limit_of(write(tmp_path, config)) == 8192
    assert limit_of(write(tmp_path, config, settings)) == 8192


@pytest.mark.parametrize("limit", [0, -1, 12.5, True, "512", [512]])
def test_a_limit_that_is_no_number_of_tokens_is_refused(tmp_path: Path, limit: object) -> None:
    write(tmp_path, {"model_type": "bert"}, {"model_max_length": limit})
    with pytest.raises(BundleError, match=r"tokenizer_config\.json: model_max_length must be a number of tokens"):
        limit_of(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert", "max_position_embeddings": "many"}, "must be a whole number"),
        ({"model_type": "roberta", "pad_token_id": "1"}, "must be a whole number"),
        ({"model_type": "roberta", "max_position_embeddings": 2, "pad_token_id": 1}, "too few for any input"),
    ],
)
def test_positions_that_cannot_be_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=f"max_position_embeddings.*{message}|{message}"):
        max_positions(config)
