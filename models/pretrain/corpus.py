"""Reads plain text as windows of tokens, from a memory-mapped cache, in batches of like lengths."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, load_dataset
from datasets import List as ListOf
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.data import DataError, length_buckets
from models.files import check_plain, read_lines
from models.provenance import TrainingData, describe
from models.tasks.errors import first_line

VERSION = 2  # of the windows: another number here makes the cache anew
SHORTEST = 5  # tokens of a window, special ones included; shorter ones are left out
LINES_AT_ONCE = 1000
WINDOWS_AT_ONCE = 100_000  # read at a time where the whole corpus is counted
TEXT_COLUMN = "text"


class Corpus:
    """Reads windows of token ids from a memory-mapped file; only their lengths are in memory, 4 bytes a window."""

    def __init__(self, windows: Dataset, sources: Sequence[TrainingData]) -> None:
        self.windows, self.sources = windows.with_format("arrow"), sources
        self.lengths = np.concatenate([lengths for _, lengths in self._read_all()])
        self.tokens = int(self.lengths.sum())

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, indices: NDArray[np.int64], *, pad_token_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the windows side by side. Shapes: token ids and attention mask, each (windows, longest of them)."""
        flat, lengths = _columns(self.windows[indices])
        attention_mask = np.arange(lengths.max()) < lengths[:, None]
        input_ids = np.full(attention_mask.shape, pad_token_id, dtype=np.int64)
        input_ids[attention_mask] = flat
        return input_ids, attention_mask.astype(np.int64)

    def counts(self, vocab_size: int) -> NDArray[np.int64]:
        """Count how often each token stands in the corpus. Shape: (vocab_size,)."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for flat, _ in self._read_all():
            counts += np.bincount(flat, minlength=vocab_size)
        return counts

    def _read_all(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        for start in range(0, len(self.windows), WINDOWS_AT_ONCE):
            yield _columns(self.windows[start : start + WINDOWS_AT_ONCE])


def _columns(table: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:  # Any: pyarrow has no types
    """Return the token ids of all windows of a table one after the other, and their lengths."""
    column = table["input_ids"].combine_chunks()
    return column.flatten().to_numpy(), column.value_lengths().to_numpy()


class Batches:
    """Makes batches of windows of like lengths, numbered through all epochs; the order depends only on the seed."""

    def __init__(self, corpus: Corpus, batch_size: int, *, seed: int) -> None:
        self.corpus, self.batch_size, self.seed = corpus, batch_size, seed
        self.per_epoch = -(-len(corpus) // batch_size)
        self._epoch, self._buckets = -1, list[NDArray[np.int64]]()

    def indices(self, number: int) -> NDArray[np.int64]:
        epoch, within = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            lengths = self.corpus.lengths
            self._buckets = length_buckets(lengths, self.batch_size, seed=self.seed, epoch=epoch)
            self._epoch = epoch
        return self._buckets[within]


def read_corpus(sources: Sequence[str], tokenizer: Tokenizer, *, max_length: int, cache: Path | None = None) -> Corpus:
    """Read text files, a paragraph on each line, or datasets by name: "OWNER/NAME" or "OWNER/NAME:CONFIG".

    A dataset needs a column `text`. A paragraph that is too long continues in the next window. `cache`: by default that
    of `datasets`.

    Raises: DataError.
    """
    digest = hashlib.sha256(f"{VERSION} {max_length} {tokenizer.to_str()}".encode())
    described: list[TrainingData] = []
    paragraphs: list[Iterable[str]] = []
    for source in sources:
        data, lines = _open(source)
        described.append(data)
        paragraphs.append(lines)
        digest.update(f"{data.name} {data.sha256}".encode())
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    try:
        windows = Dataset.from_generator(
            lambda: _windows(paragraphs, tokenizer),
            features=Features({"input_ids": ListOf(Value("int32"))}),
            cache_dir=None if cache is None else str(cache),
            fingerprint=digest.hexdigest()[:32],
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, DataError):
            raise error.__cause__ from None
        raise DataError(f"the windows of the corpus cannot be written: {error.__cause__}") from error
    except ValueError as error:  # what `datasets` says where the generator gave nothing
        raise DataError(f"{', '.join(sources)} hold no text") from error
    return Corpus(windows, described)


def _windows(paragraphs: Sequence[Iterable[str]], tokenizer: Tokenizer) -> Iterator[dict[str, list[int]]]:
    for lines in paragraphs:
        line_iterator = iter(lines)
        while chunk := list(islice(line_iterator, LINES_AT_ONCE)):
            for encoding in tokenizer.encode_batch_fast(chunk):
                for window in (encoding, *encoding.overflowing):
                    if len(window.ids) >= SHORTEST:
                        yield {"input_ids": window.ids}


def _open(source: str) -> tuple[TrainingData, Iterable[str]]:
    path = Path(source)
    if path.is_file():
        check_plain(path)
        return describe(path), _Lines(path)
    name, _, config = source.partition(":")
    if path.suffix or source.count("/") > 1 or path.is_dir():
        raise DataError(f"{source} is not a text file; a dataset is named OWNER/NAME or OWNER/NAME:CONFIG")
    try:
        dataset = load_dataset(name, config or None, split="train")
    except (DatasetNotFoundError, OSError, ValueError) as error:
        raise DataError(
            f"{source} is neither a text file nor a dataset that can be loaded: {first_line(error)}"
        ) from error
    if TEXT_COLUMN not in dataset.column_names:
        raise DataError(f"the dataset {source} has no column {TEXT_COLUMN}; it has {', '.join(dataset.column_names)}")
    # The Hub's data has no one file to take a checksum of; what `datasets` calls its fingerprint says as much.
    digest = hashlib.sha256(f"{name} {config} {dataset._fingerprint}".encode()).hexdigest()
    return TrainingData(name=source, sha256=digest, bytes=dataset.size_in_bytes or 0), dataset[TEXT_COLUMN]


class _Lines:
    """Yields the lines of a text file that are not blank. Raises: DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[str]:
        for line in read_lines(self.path):
            if text := line.strip():
                yield text
