"""Ranks the paragraphs of a question's article by the cosines of an embedder: the baseline of a reranker.

From the root of the repository: python -m docs.log.scripts.rerank_baseline bundles/similarity DEV.json, beside
halfdepth evaluate --task rerank --bundle bundles/rerank --dev DEV.json; both read long paragraphs in windows.
"""

import json
import sys
from pathlib import Path

from models.devset import DevOptions
from models.finetune.rerank import RerankDev, mean_ranks, rank
from models.predict import load_bundle_run
from models.tasks.base import answerer
from models.tasks.similarity import SPEC, EmbeddingInput, cosines


def main(bundle: Path, dev_file: Path) -> None:
    run, task = load_bundle_run(bundle, SPEC.name)
    answer, dev = answerer(task, run), RerankDev(dev_file, DevOptions())
    paragraphs = dict.fromkeys(text for candidates in dev.candidates for text in candidates)
    vectors = {text: answer(EmbeddingInput(text, "window")) for text in paragraphs}
    ranks = []
    for question, candidates in zip(dev.questions, dev.candidates, strict=True):
        scores = cosines(answer(EmbeddingInput(question.question, "window")), [vectors[text] for text in candidates])
        ranks.append(rank(scores, candidates.index(question.context)))
    sys.stdout.write(json.dumps(mean_ranks(ranks), indent=2) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
