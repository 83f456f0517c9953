"""Loads the models that training begins with, or says in one line why one does not suit it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel

from models.tasks.base import TaskName
from models.tasks.directory.files import CONFIG, TOKENIZER, read_json
from models.tasks.errors import InputError, first_line

KINDS = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""What `model_type` may be of a model that is trained, teaches or is exported. DeBERTa-v3 is "deberta-v2" too."""

ADAPTER = "adapter_config.json"  # of peft
VOCABULARIES = (TOKENIZER, "vocab.txt", "vocab.json", "*.model")  # the last is SentencePiece's
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


class ModelError(InputError):
    """A model that training begins with cannot be loaded, or does not suit the run."""


def check_name(name: str) -> None:
    """Check that a model is a directory or has the form of a name on the Hub. Raises: ModelError."""
    if Path(name).is_file():
        raise ModelError(f"{name} is a file; name the directory that holds the model's {CONFIG} and weights")
    if not Path(name).is_dir() and len(Path(name).parts) > 2:
        raise ModelError(f"{name} is neither a directory nor a name on the Hugging Face Hub")


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn whatever the libraries raise of a model's files into a ModelError; only for calls of `from_pretrained`."""
    try:
        yield
    except Exception as error:  # torch, safetensors, tokenizers and transformers each raise their own
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error


def directory_of(name: str, patterns: Sequence[str], *, telling: str) -> Path:
    """Find the directory of a model, where files that match the patterns lie; from the Hub they are fetched.

    Without `telling` in a cache that cannot be completed (HF_HUB_OFFLINE), nothing can be told. Raises: ModelError.
    """
    check_name(name)
    if Path(name).is_dir():
        return Path(name)
    with loading(name):
        path = Path(snapshot_download(name, allow_patterns=list(patterns)))
    if constants.HF_HUB_OFFLINE and not (path / telling).exists():
        raise ModelError(f"{name}: {telling} is not in the cache, and the Hub is offline; give the model's directory")
    return path


def load_config(name: str) -> PretrainedConfig:
    """Read the configuration of a model. Raises: BundleError, ModelError."""
    check_name(name)
    if Path(name).is_dir():
        if not Path(name, CONFIG).exists():
            raise ModelError(f"{name} has no {CONFIG}; name the directory that holds it beside the model's weights")
        content = read_json(Path(name, CONFIG))
    else:
        with loading(name):
            content, _ = PretrainedConfig.get_config_dict(name)
    if "model_type" not in content:  # transformers would list all that it knows
        raise ModelError(f"{name}: {CONFIG} has no model_type; set it to one of {', '.join(KINDS)}")
    with loading(name):
        config: PretrainedConfig = AutoConfig.from_pretrained(name)
    if wrong := [key for key in SIZES if not isinstance(getattr(config, key, 0), int)]:  # which it takes as they are
        raise ModelError(f"{name}: {CONFIG} must have a whole number as {' and '.join(wrong)}; correct it")
    return config


def load_tokenizer(name: str) -> Any:  # one of transformers' fast ones, which have no common type
    """Read the tokenizer of a model. Raises: ModelError."""
    check_name(name)
    check_has_tokenizer(name)
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True)
    if not tokenizer.is_fast:
        raise ModelError(f"{name} has no fast tokenizer; save its tokenizer.json beside the weights")
    return tokenizer


def check_has_tokenizer(name: str) -> None:
    """Refuse a directory without a vocabulary, of which transformers would only say that None is no path.

    Raises: ModelError.
    """
    if Path(name).is_dir() and not any(path for pattern in VOCABULARIES for path in Path(name).glob(pattern)):
        raise ModelError(f"{name} has no tokenizer ({TOKENIZER}); save that of the model beside its weights")


def check_tokenizer(tokenizer: Any, config: PretrainedConfig, name: str) -> None:
    """Refuse a tokenizer with more tokens than the model `name` has embeddings for. Raises: ModelError."""
    # tokenizer: one of transformers' fast ones, which have no common type
    if len(tokenizer) > config.vocab_size:
        raise ModelError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and its model {config.vocab_size}; they do not fit"
        )


def check_kind(name: str, config: PretrainedConfig) -> None:
    """Refuse a model of another kind than those that are trained and teach. Raises: ModelError."""
    if config.model_type not in KINDS:
        raise ModelError(f"{name} is of kind {config.model_type!r}; the kinds are {', '.join(KINDS)}")


def check_is_whole(name: str, config: Mapping[str, object]) -> None:
    """Refuse a model of which transformers would load a part without a word. `config`: of config.json.

    Raises: ModelError.
    """
    code = config.get("auto_map")
    if isinstance(code, Mapping) and any(key.startswith("AutoModel") for key in code):
        raise ModelError(
            f"{name} brings code of its own (auto_map in {CONFIG}), and only transformers' own classes are loaded; use "
            "another model"
        )
    if (directory_of(name, (ADAPTER,), telling=CONFIG) / ADAPTER).exists():
        raise ModelError(
            f"{name} has an adapter ({ADAPTER}), which is not loaded; merge it into the weights with peft's "
            "merge_and_unload, and save the model without it"
        )


def load_model(name: str, model_class: Any, *, head_for: TaskName | None = None, **options: Any) -> PreTrainedModel:
    """Load a model whose encoder is whole; transformers would make up what its file lacks.

    `model_class`: one of transformers' classes, with `options` of its own. `head_for`: the task whose head must have
    been trained; without it a head that is missing, or of another shape, is a new one.

    Raises: ModelError.
    """
    with loading(name):
        model: PreTrainedModel
        model, info = model_class.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    for key in info["mismatched_keys"]:
        if head_for or _of_encoder(model, key):
            raise ModelError(f"{name}: {key} has another shape than config.json gives it; correct its config.json")
    missing_keys = sorted(info["missing_keys"])
    if of_encoder := [key for key in missing_keys if _of_encoder(model, key)]:
        raise ModelError(f"{name} lacks weights of its encoder: {', '.join(of_encoder[:3])}")
    if head_for and missing_keys:
        raise ModelError(
            f"{name} has no trained head for the task {head_for} ({', '.join(missing_keys[:2])}); fine-tune it first, "
            "as a --model"
        )
    return model


def _of_encoder(model: PreTrainedModel, key: str) -> bool:
    """Tell the weights of an encoder from those of its head, which BERT's pooler belongs to."""
    inside = model.base_model is model or key.startswith(f"{model.base_model_prefix}.")
    return inside and "pooler" not in key.split(".")
