"""A bundle's directory as somebody else would ship it."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Without a manifest, for question answering. The graph is never run here, so its bytes are any."""
    path = tmp_path / "tiny"
    (path / "onnx").mkdir(parents=True)
    (path / "onnx" / "model.onnx").write_bytes(b"fp32 graph")
    config = {"architectures": ["BertForQuestionAnswering"], "model_type": "bert", "max_position_embeddings": 64}
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "ada": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path
