"""Reads the tokenizer of a model's directory."""

from pathlib import Path

from tokenizers import Tokenizer

from models.tasks.directory.files import TOKENIZER, BundleError


def load_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of the directory `path`. Raises: BundleError."""
    file = path / TOKENIZER
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise BundleError(f"{file} is not a readable tokenizer ({error}); restore the file") from error
