"""Trains and measures sentence embeddings: a teacher's embeddings of many sentences, computed once."""

import hashlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModel, DistilBertModel, PretrainedConfig, PreTrainedModel

from models.data import Batch, DataError, Item, collate
from models.devset import DevOptions, DevSet
from models.files import Reading, TextExample, cut, read_tsv
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.losses import embedding_loss, masked_mean, score_loss
from models.predict import forward, read_weights
from models.sentences import read_sentences
from models.tasks.base import AnyTask, Features, Metrics
from models.tasks.directory.model import max_positions
from models.tasks.directory.overrides import read_overrides
from models.tasks.directory.sentences import MODULES, SENTENCE_FILES, Head, read_head, read_preparation
from models.tasks.similarity import (
    SPEC,
    STATES,
    EmbeddingInput,
    SentenceEmbedding,
    pooler,
    write_sentence_files,
)
from models.teachers import directory_of

CACHE = "embeddings-{}.npy"
LIKE = 5.0  # the score of two texts that mean the same
EMBED_BATCH = 64  # windows that the teacher embeds at once
NO_LABEL = np.zeros(0, np.float32)
SCORE = "score"  # the column of the scores

CARD = CardText(
    pipeline_tag="sentence-similarity",
    tags="onnx, sentence-transformers, feature-extraction",
    summary="Sentence embeddings of unit length, to be compared by their cosine.",
    counted="{n:.0f} pairs",
    figures={"spearman": "Spearman correlation", "pearson": "Pearson correlation"},
    limits=(
        "The cosine tells how alike two sentences are in what they are about, not whether both are true or follow "
        "from\n  each other: a sentence and its denial are close.",
        "Texts are read up to the limit in `sentence_bert_config.json`; the distillation saw single sentences.",
    ),
    load="""\
from sentence_transformers import SentenceTransformer

options = {{"file_name": "{subfolder}/{file}"}}
model = SentenceTransformer("{directory}", backend="onnx", model_kwargs=options)
embeddings = model.encode(["A first sentence.", "A second one."])""",
)

# Where no file says how the graph pools, so that sentence-transformers would take the mean.
LOAD_POOLED = """\
from optimum.onnxruntime import ORTModelForCustomTasks
from transformers import AutoTokenizer

model = ORTModelForCustomTasks.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
sentences = ["A first sentence.", "A second one."]
embeddings = model(**tokenizer(sentences, padding=True, return_tensors="np"))["sentence_embedding"]"""


class SimilarityDev(DevSet):
    """TSV with pairs and scores, by Pearson's and Spearman's correlation of the cosines with the scores."""

    def __init__(self, path: Path, options: DevOptions) -> None:
        examples = read_tsv(path, SCORE, options.reading, fault_of=score_fault)
        self.skipped = options.reading.skipped.get(path, 0)
        if any(example.text_pair is None for example in examples):
            raise DataError(f"{path} has no second text to compare; its columns must be sentence1, sentence2, score")
        self.golds = [float(example.label) for example in examples]
        if len(set(self.golds)) < 2:
            raise DataError(f"{path}: scores that are all the same correlate with nothing; correct them")
        self.inputs = [EmbeddingInput(text) for item in examples for text in (item.text, item.text_pair or "")]

    def score(self, results: Sequence[NDArray[np.float32]], _: AnyTask | None = None) -> Metrics:
        vectors = np.stack(results).astype(np.float64)
        cosines = (vectors[::2] * vectors[1::2]).sum(axis=1)
        return {
            "n": float(len(self.golds)),
            "pearson": 100 * float(pearsonr(cosines, self.golds).statistic),
            "spearman": 100 * float(spearmanr(cosines, self.golds).statistic),
        }


def score_fault(example: TextExample) -> str | None:
    """Say what is wrong with the score of a row, if anything is."""
    try:
        return None if math.isfinite(float(example.label)) else f"the score {example.label} is not finite"
    except ValueError:
        return f"the score {cut(example.label)} is not a number"


class SimilarityRecipe(Recipe[SentenceEmbedding]):
    """The student's mean-pooled embedding of a sentence is drawn to its teacher's. No labels, and no head."""

    spec = SPEC
    model_class = AutoModel
    student_class = DistilBertModel
    optimum_task = "feature-extraction"
    has_head = False
    reads_pairs = False
    reads_whole_texts = True
    teacher_in_loop = False
    own_options = ("pairs",)
    card = CARD

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        if not options.teacher:
            raise DataError("a similarity model learns from a sentence encoder; name one by --teacher")
        if len(options.teacher) > 1:
            raise DataError("a similarity model learns the embeddings of one teacher; give --teacher only one name")
        source = directory_of(options.teacher[0], SENTENCE_FILES, telling=MODULES)
        self.head = read_head(source, read_overrides(source)) or Head(layers=())  # as sentence-transformers has it
        self.pool = pooler(self.head, read_weights)
        self.width = len(self.pool(np.ones((1, config.hidden_size), np.float32)))
        if self.width != config.hidden_size:
            raise DataError(
                f"{options.teacher[0]} gives embeddings of {self.width} numbers, and a student learns them by the mean "
                f"of its {config.hidden_size} states; use a teacher that keeps the width of its states"
            )
        self.student_width = self.width
        preparation = read_preparation(source)
        self.out: Path = options.out
        self.bf16 = options.bf16
        self.reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        sentences = (text for path in options.train for text in read_sentences(path, self.reading))
        self.pairs = [pair for path in options.pairs for pair in read_pairs(path, self.reading)]
        texts = (text for first, second, _ in self.pairs for text in (first, second))
        self.sentences = list(dict.fromkeys([*sentences, *texts]))
        limits = (options.max_length, preparation.max_length, max_positions(config.to_dict()))
        self.task = SentenceEmbedding(
            tokenizer.backend_tokenizer,
            output_name=STATES,
            preparation=preparation,
            max_length=min(limit for limit in limits if limit is not None),
        )

    def items(self, teacher: PreTrainedModel | None) -> list[Item]:
        """Raises: DataError if the files hold no sentence."""
        assert teacher is not None, "checked when the recipe was made"
        windows = [self.task.encode(EmbeddingInput(sentence)).windows[0] for sentence in self.sentences]
        if not windows:
            raise DataError("the training files hold no sentence")
        if self.learns_scores_alone:
            items = with_pairs([Item(window, NO_LABEL) for window in windows], self.sentences, self.pairs)
            return items[len(windows) :]
        read = windows
        if self.reader and self.reader.difference:
            preparation = self.task.preparation
            texts = [(preparation.prepare(sentence), None) for sentence in self.sentences]
            read = self.reader.read(texts, preparation.max_length)
        items = [Item(*pair) for pair in zip(windows, self._cached(teacher, read), strict=True)]
        return with_pairs(items, self.sentences, self.pairs) if self.pairs else items

    def check_width(self, width: int) -> None:
        """Refuse a student that cannot have its teacher's embeddings, unless pairs teach it. Raises: DataError."""
        self.student_width = width
        if not self.learns_scores_alone:
            return
        widths = f"the teacher's embeddings have a width of {self.width} and the student's of {width}"
        if not self.pairs:
            raise DataError(f"{widths}: they cannot be compared; use a student of that width, or give --pairs")
        sys.stderr.write(f"{widths}: only the scores of --pairs are learned\n")

    @property
    def learns_scores_alone(self) -> bool:
        return self.student_width != self.width

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        """Measure how far the embeddings are from the teacher's and, of pairs, their cosines from the scores."""
        vectors, count = masked_mean(output.last_hidden_state, batch.attention_mask), len(batch.labels)
        losses = []
        if not self.learns_scores_alone:
            losses.append(embedding_loss(vectors[:count], batch.labels[:, : self.width]))
        if batch.compared is not None:
            losses.append(score_loss(vectors[batch.compared], vectors[count:], batch.labels[batch.compared, -1]))
        return torch.stack(losses).sum()

    def distributions(self) -> tuple[int, int]:
        raise NotImplementedError("the teacher is not in the loop")

    def logits(self, output: Output, batch: Batch) -> Tensor:
        raise NotImplementedError("the teacher is not in the loop")

    def close(self) -> None:
        write_sentence_files(self.out, self.task, self.student_width, Head())  # what the student was trained for
        for cache in self.out.glob(CACHE.format("*")):
            cache.unlink()

    @staticmethod
    def dev_set(path: Path, options: DevOptions) -> SimilarityDev:
        return SimilarityDev(path, options)

    @staticmethod
    def read_texts(path: Path, reading: Reading) -> list[EmbeddingInput]:
        return [EmbeddingInput(sentence) for sentence in read_sentences(path, reading)]

    @staticmethod
    def ask(post: Post, item: EmbeddingInput) -> NDArray[np.float32]:
        return np.array(post("/embed", {"inputs": item.text})["embeddings"][0], dtype=np.float32)

    @classmethod
    def load_lines(cls, directory: Path) -> str:
        return cls.card.load if (directory / MODULES).exists() else LOAD_POOLED

    @staticmethod
    def write_files(directory: Path, task: SentenceEmbedding, hidden_size: int) -> None:
        write_sentence_files(directory, task, hidden_size, task.head)

    def _cached(self, teacher: PreTrainedModel, windows: Sequence[Features]) -> NDArray[np.float32]:
        """Embed by the teacher, or read what a run that was killed has left. Shape: (windows, hidden_size)."""
        digest = hashlib.sha256(f"bf16 {self.bf16} {self.head}".encode())
        for window in windows:
            digest.update(window.input_ids.tobytes() + b"|")
        for weight in teacher.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
        path = self.out / CACHE.format(digest.hexdigest()[:12])
        if not path.exists():
            unfinished = path.with_suffix(".tmp")
            embed(teacher, windows, unfinished, self.pool, bf16=self.bf16)
            os.replace(unfinished, path)
        embeddings: NDArray[np.float32] = np.load(path, mmap_mode="r")
        return embeddings


def read_pairs(path: Path, reading: Reading | None = None) -> list[tuple[str, str, float]]:
    """Read pairs of texts and how alike they are, between 0 and 1; files have it between 0 and 5. Raises: DataError."""
    pairs = []
    for example in read_tsv(path, SCORE, reading or Reading(), fault_of=pair_fault):
        if example.text_pair is None:
            raise DataError(f"{path} has no second text to compare; its columns must be sentence1, sentence2, score")
        pairs.append((example.text, example.text_pair, float(example.label) / LIKE))
    return pairs


def pair_fault(example: TextExample) -> str | None:
    """Say what is wrong with the score of a row that trains, if anything is."""
    if fault := score_fault(example):
        return fault
    return None if 0 <= float(example.label) <= LIKE else f"the score {example.label} is not between 0 and {LIKE:g}"


def with_pairs(items: Sequence[Item], texts: Sequence[str], pairs: Sequence[tuple[str, str, float]]) -> list[Item]:
    """Append the pairs to the items of all texts; every label ends with a score, 0 where it means nothing."""
    places = {text: place for place, text in enumerate(texts)}
    scored = [replace(item, label=np.append(item.label, np.float32(0))) for item in items]
    for first, second, score in pairs:
        item, other = items[places[first]], items[places[second]]
        scored.append(Item(item.window, np.append(item.label, np.float32(score)), second=other.window))
    return scored


@torch.inference_mode()
def embed(
    teacher: PreTrainedModel,
    windows: Sequence[Features],
    path: Path,
    pool: Callable[[NDArray[np.float32]], NDArray[np.floating]],
    *,
    bf16: bool,
) -> None:
    """Write the teacher's embeddings, in the order of the windows, as float32."""
    shape = (len(windows), teacher.config.hidden_size)
    embeddings = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    teacher.eval()
    with torch.autocast(teacher.device.type, torch.bfloat16, enabled=bf16):
        for start in tqdm(range(0, len(order), EMBED_BATCH), desc="teacher's embeddings", unit="batch"):
            indices = order[start : start + EMBED_BATCH]
            items = [Item(windows[index], np.zeros(0)) for index in indices]
            batch = collate(items, pad_token_id=teacher.config.pad_token_id or 0, device=teacher.device)
            states = forward(teacher, batch).last_hidden_state.float().cpu().numpy()
            for index, window_states in zip(indices, states, strict=True):
                embeddings[index] = pool(window_states[: len(windows[index])])
    embeddings.flush()
