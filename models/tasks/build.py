"""The task that a bundle's model was made for, as its files describe it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from models.tasks.base import MAX_WINDOW_TOKENS
from models.tasks.bundle import CONFIG, Bundle, BundleError, max_positions, read_json
from models.tasks.classification import Classification
from models.tasks.qa import QuestionAnswering
from models.tasks.similarity import POOLED, SentenceEmbedding

SENTENCE_CONFIG = "sentence_bert_config.json"
POOLING_CONFIG = "1_Pooling/config.json"
MODULES = "modules.json"
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")  # the first is transformers' name, the second optimum's

AnyTask = QuestionAnswering | Classification | SentenceEmbedding


def build_task(bundle: Bundle, graph_outputs: Sequence[str], *, max_windows: int | None = None) -> AnyTask:
    """`graph_outputs`: what the bundle's graph gives. Raises: BundleError."""
    if bundle.task == "qa":
        return qa_task(bundle, max_windows=max_windows)
    if bundle.task == "classify":
        return classification_task(bundle, max_windows=max_windows)
    return embedding_task(bundle, graph_outputs, max_windows=max_windows)


def qa_task(bundle: Bundle, *, max_windows: int | None = None) -> QuestionAnswering:
    """Raises: BundleError."""
    threshold = bundle.config.get("no_answer_threshold")
    known = isinstance(threshold, int | float) and not isinstance(threshold, bool) and math.isfinite(threshold)
    if threshold is not None and not known:
        raise BundleError(f"{bundle.path / CONFIG}: no_answer_threshold must be a number; correct it or remove it")
    return QuestionAnswering(
        bundle.load_tokenizer(),
        max_length=max_positions(bundle.config),
        no_answer_threshold=threshold,
        max_windows=max_windows,
    )


def classification_task(bundle: Bundle, *, max_windows: int | None = None) -> Classification:
    """Raises: BundleError."""
    kind = bundle.config.get("problem_type")
    given = bundle.config.get("id2label")
    names = given if isinstance(given, dict) else {}
    numbers = [str(index) for index in range(len(names))]
    if not names or set(names) != set(numbers) or not all(isinstance(name, str) for name in names.values()):
        raise BundleError(f"{bundle.path / CONFIG}: id2label must name the labels 0, 1, ...; add their names")
    if kind == "regression" or (len(numbers) < 2 and kind != "multi_label_classification"):
        raise BundleError(f"{bundle.path / CONFIG}: the model predicts a number, not labels; it cannot be served")
    return Classification(
        bundle.load_tokenizer(),
        [names[number] for number in numbers],
        multi_label=kind == "multi_label_classification",
        max_length=max_positions(bundle.config),
        max_windows=max_windows,
    )


def embedding_task(
    bundle: Bundle, graph_outputs: Sequence[str], *, max_windows: int | None = None
) -> SentenceEmbedding:
    """Raises: BundleError."""
    output = next((name for name in (POOLED, *TOKEN_OUTPUTS) if name in graph_outputs), None)
    if output is None:
        wanted = ", ".join((POOLED, *TOKEN_OUTPUTS))
        raise BundleError(f"{bundle.model_path} has none of the outputs {wanted}; export the bundle again")
    if output != POOLED:
        check_mean_pooling(bundle.path)
    limit = _read_optional(bundle.path / SENTENCE_CONFIG).get("max_seq_length")
    if limit is None:
        limit = MAX_WINDOW_TOKENS
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 3:
        raise BundleError(f"{bundle.path / SENTENCE_CONFIG}: max_seq_length must be a number of tokens; correct it")
    return SentenceEmbedding(
        bundle.load_tokenizer(),
        output_name=output,
        max_length=min(limit, max_positions(bundle.config)),
        max_windows=max_windows,
    )


def check_mean_pooling(path: Path) -> None:
    """What sentence-transformers would do beyond the mean cannot be done here. Raises: BundleError."""
    pooling = _read_optional(path / POOLING_CONFIG)
    chosen = [
        key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on
    ]
    modes = {"mean", "mean_tokens"}  # the name of the mode in newer files, and in older ones
    unknown = {str(mode) for mode in [*chosen, pooling.get("pooling_mode", "mean")]} - modes
    if unknown:
        raise BundleError(f"{path / POOLING_CONFIG}: only mean pooling is served, and not {', '.join(sorted(unknown))}")
    if not (path / MODULES).exists():
        return
    try:
        kinds = {module["type"].rpartition(".")[2] for module in json.loads((path / MODULES).read_bytes())}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path / MODULES} is not a list of modules ({error!r}); restore it") from error
    if others := sorted(kinds - {"Transformer", "Pooling", "Normalize"}):
        raise BundleError(
            f"{path / MODULES} asks for {', '.join(others)}, which cannot be served; export the whole graph"
        )


def _read_optional(path: Path) -> dict[str, object]:
    return read_json(path) if path.exists() else {}
