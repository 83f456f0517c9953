"""Trains and measures reranking: a question with its own paragraph against others of its article."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, stack, zeros_like
from transformers import AutoModelForSequenceClassification, DistilBertForSequenceClassification, PretrainedConfig

from models.data import Batch, DataError, Item
from models.devset import DevOptions, DevSet
from models.files import Reading
from models.finetune.cores import on_all_cores
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.losses import multi_label_loss
from models.squad import QAExample, read_squad
from models.tasks.base import AnyTask, InputTooLongError, Metrics
from models.tasks.directory.model import max_positions
from models.tasks.rerank import SPEC, Relevance, Reranking, RerankInput, check_score

NEAREST = 10  # paragraphs of an article by their words, of which negatives are drawn
BLOCK = 1000  # questions that are compared with all paragraphs of an article at once
CUT = 10  # the rank below which a paragraph counts as not found

CARD = CardText(
    pipeline_tag="text-ranking",
    tags="onnx, sentence-transformers, cross-encoder, text-classification",
    summary="Reranking: a score of how well a passage answers a query.",
    counted="{n:.0f} questions, each among all paragraphs of its article",
    figures={"mrr@10": "MRR@10", "accuracy@1": "the right paragraph is the first"},
    limits=(
        "Trained on questions that one paragraph of an encyclopedia's article answers; keywords and other kinds of "
        "text\n  are ranked less well than the table says. A score is the model's own and not a frequency that was "
        "checked.",
        "A longer document is read in windows, of which the best counts.",
    ),
    load="""\
from sentence_transformers import CrossEncoder

model = CrossEncoder("{directory}", backend="onnx", model_kwargs={{"file_name": "{subfolder}/{file}"}})
scores = model.predict([("Who built the lighthouse?", "The lighthouse was built by Anna Lindqvist.")])""",
)


class RerankDev(DevSet):
    """SQuAD JSON with whole articles: the rank of a question's own paragraph among all of its article.

    `mrr@10` is the mean of 1/rank, 0 from rank 11 on; `accuracy@1` the share of questions whose own is the first.
    """

    def __init__(self, path: Path, options: DevOptions) -> None:
        examples = read_squad(path, options.reading)
        self.skipped = options.reading.skipped.get(path, 0)
        articles = paragraphs_of(examples)
        self.questions = [
            example for example in examples if not example.is_impossible and len(articles[example.title]) > 1
        ]
        if not self.questions:
            raise DataError(f"{path} has no answerable question of an article with several paragraphs; add such ones")
        self.candidates = [articles[example.title] for example in self.questions]
        self.inputs = [
            RerankInput(example.question, paragraph)
            for example, paragraphs in zip(self.questions, self.candidates, strict=True)
            for paragraph in paragraphs
        ]

    def score(self, results: Sequence[Relevance], _: AnyTask | None = None) -> Metrics:
        logits, ranks = iter(results), []
        for example, paragraphs in zip(self.questions, self.candidates, strict=True):
            ranks.append(rank([next(logits).logit for _ in paragraphs], paragraphs.index(example.context)))
        return mean_ranks(ranks)


def rank(scores: Sequence[float], place: int) -> int:
    """Count, from 1 on, where a candidate stands by its score; of equal ones the first is the better."""
    return 1 + sum(
        score > scores[place] or (score == scores[place] and index < place) for index, score in enumerate(scores)
    )


def mean_ranks(ranks: Sequence[int]) -> Metrics:
    return {
        "n": float(len(ranks)),
        "mrr@10": 100 * float(np.mean([1 / rank if rank <= CUT else 0.0 for rank in ranks])),
        "accuracy@1": 100 * float(np.mean([rank == 1 for rank in ranks])),
    }


def paragraphs_of(examples: Sequence[QAExample]) -> dict[str, list[str]]:
    """Collect the distinct paragraphs of every article, in their order."""
    articles: dict[str, dict[str, None]] = defaultdict(dict)
    for example in examples:
        articles[example.title][example.context] = None
    return {title: list(paragraphs) for title, paragraphs in articles.items()}


class RerankRecipe(Recipe[Reranking]):
    """A question is relevant to its own paragraph, and not to those of its article that are most like it in words."""

    spec = SPEC
    model_class = AutoModelForSequenceClassification
    student_class = DistilBertForSequenceClassification
    optimum_task = "text-classification"
    own_options = ("negatives",)
    card = CARD

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        if options.teacher:
            check_score(self.teacher(options, config))
        self.reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        self.pairs: list[tuple[RerankInput, float]] = []
        for path in options.train:
            self.pairs += labelled_pairs(read_squad(path, self.reading), options.negatives, options.seed)
        max_length = min(options.max_length, max_positions(config.to_dict()))
        self.task = Reranking(tokenizer.backend_tokenizer, max_length=max_length)

    def items(self, _: object = None) -> list[Item]:
        """Raises: DataError if there is nothing to train on."""
        items = on_all_cores(self._encode, self.pairs)
        if not items:
            raise DataError("the training files hold no answerable question of an article with several paragraphs")
        return items

    def _encode(self, pairs: Sequence[tuple[RerankInput, float]]) -> list[Item]:
        """Leave out what takes several windows: which of them is relevant is not known."""
        items = []
        for pair, label in pairs:
            try:
                items.append(Item(self.task.encode(pair).windows[0], np.array([label])))
            except InputTooLongError:
                continue
        return items

    def configure(self, config: PretrainedConfig) -> None:
        config.id2label, config.label2id = {0: "LABEL_0"}, {"LABEL_0": 0}  # as sentence-transformers has it
        config.problem_type = None

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        return multi_label_loss(output.logits, batch.labels)

    def logits(self, output: Output, _: Batch) -> Tensor:
        """Make one distribution over relevant and not."""
        return stack([output.logits, zeros_like(output.logits)], dim=-1)

    def distributions(self) -> tuple[int, int]:
        return 1, 2

    @staticmethod
    def dev_set(path: Path, options: DevOptions) -> RerankDev:
        return RerankDev(path, options)

    @staticmethod
    def ask(post: Post, item: RerankInput) -> Relevance:
        fields = {"query": item.query, "documents": [item.document], "on_overflow": item.on_overflow}
        logit = post("/rerank", {**fields, "raw_scores": True})["results"][0]["score"]
        return Relevance(logit, logit)


def labelled_pairs(examples: Sequence[QAExample], negatives: int, seed: int) -> Iterator[tuple[RerankInput, float]]:
    """Pair every answerable question with its own paragraph, 1, and with some others of its article, 0.

    These are drawn from the nearest by their words; a paragraph that holds an answer's text is left out, since it may
    answer the question too.
    """
    draw, articles = random.Random(seed), paragraphs_of(examples)
    questions: dict[str, list[QAExample]] = defaultdict(list)
    for example in examples:
        if not example.is_impossible:
            questions[example.title].append(example)
    for title, asked in questions.items():
        paragraphs = articles[title]
        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")  # noqa: S106 - a pattern of words
        matrix = vectorizer.fit_transform(paragraphs).T
        for start in range(0, len(asked), BLOCK):
            block = asked[start : start + BLOCK]
            similarities = (vectorizer.transform([example.question for example in block]) @ matrix).toarray()
            order = np.argsort(-similarities, axis=1, kind="stable")[:, : 2 * NEAREST]
            for example, indices in zip(block, order, strict=True):
                nearest = [
                    paragraphs[index]
                    for index in indices
                    if paragraphs[index] != example.context
                    and not any(answer.lower() in paragraphs[index].lower() for answer in example.answers)
                ][:NEAREST]
                if nearest:
                    yield RerankInput(example.question, example.context, "error"), 1.0
                for paragraph in draw.sample(nearest, min(negatives, len(nearest))):
                    yield RerankInput(example.question, paragraph, "error"), 0.0
