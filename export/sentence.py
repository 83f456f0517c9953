"""The files by which sentence-transformers loads a similarity bundle as it is."""

import json
from pathlib import Path

from models.tasks.build import MODULES, POOLING_CONFIG, SENTENCE_CONFIG


def write_sentence_configs(directory: Path, max_length: int, hidden_size: int) -> None:
    """`max_length`: tokens that the model reads of a text."""
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    contents: dict[str, object] = {
        MODULES: modules,
        SENTENCE_CONFIG: {"max_seq_length": max_length, "do_lower_case": False},
        POOLING_CONFIG: pooling,
    }
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
