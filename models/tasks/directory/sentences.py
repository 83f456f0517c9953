"""Reads sentence-transformers' files: what is done to a text, and how states become one vector."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from models.tasks.directory.files import BundleError, read_json, read_optional_json
from models.tasks.directory.overrides import OVERRIDES, Overrides

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
POOLING_FOLDER, NORMALIZE_FOLDER = "1_Pooling", "2_Normalize"
TRANSFORMER_CONFIG = "sentence_bert_config.json"
# The library reads the first of these that holds anything.
OLDER_KINDS = ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TRANSFORMER_CONFIGS = (TRANSFORMER_CONFIG, *(f"sentence_{kind}_config.json" for kind in OLDER_KINDS))
# Patterns of all that is read here, modules' folders included.
SENTENCE_FILES = (
    MODULES,
    SETTINGS,
    *TRANSFORMER_CONFIGS,
    *(f"*/{name}" for name in ("config.json", "model.safetensors", "pytorch_model.bin")),
)

Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
MODES: dict[str, Mode] = {  # by their older names, in the order in which the library concatenates
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MEAN = "pooling_mode_mean_tokens"
KINDS = ("Dense", "Normalize", "Dropout")  # of what may follow the pooling
# Settings beside those that are honoured, with the values that ask for nothing. Null, false and empty ask for nothing.
NEUTRAL_TRANSFORMER: dict[str, Sequence[Any]] = {  # values as their authors wrote them
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "modality_config": ({"text": {"method": "forward", "method_output_name": "last_hidden_state"}},),
    "unpad_inputs": (True,),
}
NEUTRAL_DENSE: dict[str, Sequence[Any]] = {
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding",),
}
Activation = Literal["Identity", "Tanh", "ReLU", "Sigmoid", "GELU"]  # PyTorch's classes
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
DEFAULT_ACTIVATION = "torch.nn.Tanh"
BUILT_IN_PROMPTS = ("query", "document")  # the library knows them in every model, empty unless the model's own


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to a text before it is tokenized. `max_length`: in tokens, None where no file says."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    lower_case: bool = False
    max_length: int | None = None

    def prepare(self, text: str, prompt_name: str | None = None) -> str:
        """Put the prompt of this name, or else the default one, before the text. Raises: KeyError."""
        name = self.default_prompt_name if prompt_name is None else prompt_name
        prepared = (text if name is None else self.prompts[name] + text).strip()
        return prepared.lower() if self.lower_case else prepared


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer over the vector, whose weights lie in `folder`, and what follows it."""

    folder: Path
    activation: Activation


@dataclass(frozen=True, slots=True)
class Normalize:
    """Brings the vector to unit length."""


@dataclass(frozen=True, slots=True)
class Head:
    """How states become one vector: one for each mode, side by side, through these layers."""

    modes: tuple[Mode, ...] = ("mean",)
    layers: tuple[Dense | Normalize, ...] = (Normalize(),)


def read_preparation(path: Path) -> Preparation:
    """Read what is done to texts for the model in the directory `path`. Raises: BundleError."""
    settings, transformer_file = read_optional_json(path / SETTINGS), _transformer_file(path)
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise BundleError(f"{path / SETTINGS}: prompts must be texts by their names; correct them")
    if default in BUILT_IN_PROMPTS and default not in prompts:
        default = None
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise BundleError(f"{path / SETTINGS}: default_prompt_name {default!r} is not among the prompts; correct it")
    if (kind := settings.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise BundleError(f"{path / SETTINGS}: a model of type {kind} gives no sentence embeddings; use another model")
    transformer = read_optional_json(transformer_file)
    limit, lower_case = transformer.get("max_seq_length"), transformer.get("do_lower_case") or False
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 3):
        raise BundleError(f"{transformer_file}: max_seq_length must be a number of tokens; correct it")
    if not isinstance(lower_case, bool):
        raise BundleError(f"{transformer_file}: do_lower_case must be true or false; correct it")
    _refuse_unknown(transformer_file, transformer, {"max_seq_length", "do_lower_case"}, NEUTRAL_TRANSFORMER)
    return Preparation(prompts, default, lower_case, limit)


def check_similarity(path: Path, overrides: Overrides) -> None:
    """Refuse a model whose vectors are not to be compared by their cosine. Raises: BundleError."""
    name = read_optional_json(path / SETTINGS).get("similarity_fn_name") or "cosine"
    head = read_head(path, overrides) if name == "dot" else None
    if name != "cosine" and not (head and head.layers[-1:] == (Normalize(),)):  # of unit vectors, dot is the cosine
        raise BundleError(
            f"{path / SETTINGS}: similarity_fn_name is {name!r}, but vectors are served at unit length, for their "
            "cosine; set it to cosine if that is what you want"
        )


def read_head(path: Path, overrides: Overrides, *, can_weigh: bool = True) -> Head | None:
    """Read how the model in the directory `path` pools; None if neither its files nor its overrides say.

    `can_weigh`: whether weights of layers can be read. Raises: BundleError, also for what cannot be done here.
    """
    named_modes: tuple[Mode, ...] = (overrides.pooling,) if overrides.pooling else ()
    if not (path / MODULES).exists():
        folders = {folder.name for folder in path.glob("[0-9]_*")} - {POOLING_FOLDER, NORMALIZE_FOLDER}
        if unlisted := sorted(folders):
            raise BundleError(f"{path / MODULES} is missing, which says what {unlisted[0]} is for; restore it")
        if not named_modes and not (path / POOLING_FOLDER).exists():
            return None
        return Head(named_modes or _modes(path / POOLING_FOLDER, read_preparation(path)))
    kinds = _modules(path)
    first, folder = kinds[0]
    if first != "Transformer" or folder != path:
        where = "" if folder == path else f" in {folder.name}"
        raise BundleError(
            f"{path / MODULES}: the first module is a {first}{where}; it must be a Transformer in the directory itself"
        )
    pooling = [folder for kind, folder in kinds[1:2] if kind == "Pooling"]
    layers = kinds[1 + len(pooling) :]
    if unserved_kinds := sorted({kind for kind, _ in layers} - set(KINDS)):
        raise BundleError(
            f"{path / MODULES} asks for {', '.join(unserved_kinds)}, which cannot be served; use a model of a "
            f"Transformer, a Pooling, and {' or '.join(KINDS[:2])} behind it"
        )
    if not can_weigh and any(kind == "Dense" for kind, _ in layers):
        raise BundleError(
            f"{path / MODULES} asks for Dense, which is served only if the graph holds it; export the model with "
            "halfdepth export"
        )
    modes = named_modes or tuple(mode for folder in pooling for mode in _modes(folder, read_preparation(path)))
    if not modes:
        raise BundleError(f"{path / MODULES} lists no Pooling; name the pooling in {path / OVERRIDES}")
    return Head(modes, tuple(_layer(kind, folder) for kind, folder in layers if kind != "Dropout"))


def write_head(directory: Path, head: Head, hidden_size: int) -> None:
    """Write what sentence-transformers needs to pool so, with copies of the layers' weights."""
    kinds = ["Transformer", "Pooling", *(type(layer).__name__ for layer in head.layers)]
    folders = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    write_json(directory / MODULES, modules)
    modes: dict[str, object] = {key: mode in head.modes for key, mode in MODES.items()}
    if [mode for mode in MODES.values() if mode in head.modes] != list(head.modes):  # only newer files tell an order
        modes = {"pooling_mode": head.modes}
    write_json(directory / folders[1] / "config.json", {"word_embedding_dimension": hidden_size} | modes)
    for layer, folder in zip(head.layers, folders[2:], strict=True):
        if isinstance(layer, Dense):
            shutil.copytree(layer.folder, directory / folder, dirs_exist_ok=True)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _modules(path: Path) -> list[tuple[str, Path]]:
    """List the kind and the folder of every module. Raises: BundleError."""
    try:
        modules = [
            (str(module["type"]), PurePosixPath(module.get("path", "")))
            for module in json.loads(_bytes(path / MODULES))
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path / MODULES} is not a list of modules ({error!r}); restore it") from error
    if not modules:
        raise BundleError(f"{path / MODULES} is not a list of modules: it is empty; restore it")
    for kind, folder in modules:
        if folder.is_absolute() or ".." in folder.parts:
            raise BundleError(f"{path / MODULES}: {folder} lies outside the directory; correct it")
        if not kind.startswith("sentence_transformers."):
            raise BundleError(f"{path / MODULES} asks for {kind}, which is code of the model's own; use another model")
    return [(kind.rpartition(".")[2], path / folder) for kind, folder in modules]


def _modes(folder: Path, preparation: Preparation) -> tuple[Mode, ...]:
    """Read the modes of a Pooling. Raises: BundleError."""
    file = folder / "config.json"
    pooling = read_json(file)
    _check_prompts(file, pooling, preparation)
    named = pooling.get("pooling_mode")
    names = [named] if isinstance(named, str) else named
    if names is None:
        names = [mode for key, mode in MODES.items() if pooling.get(key)]
        if names and MEAN not in pooling:
            raise BundleError(
                f"{file}: without {MEAN}, versions of the library pool differently; add it, true or false"
            )
        if not names and MEAN in pooling:
            raise BundleError(f"{file} switches every pooling off; set one of its keys to true")
        names = names or ["mean"]
    known = {mode.lower(): mode for mode in MODES.values()}
    unknown = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on and key not in MODES]
    if isinstance(names, list):
        unknown += [str(name) for name in names if str(name).lower() not in known]
    if unknown or not isinstance(names, list) or not names:
        raise BundleError(
            f"{file}: the pooling {', '.join(unknown) or named} is not known; it may be {', '.join(known)}"
        )
    return tuple(known[name.lower()] for name in names)


def check_prompts(path: Path, preparation: Preparation) -> None:
    """Refuse prompts that a graph pools, where the files of the directory `path` leave them out. Raises: BundleError.

    For graphs that pool by themselves: of others, `read_head` refuses them.
    """
    for file in sorted(path.glob(f"*{POOLING_FOLDER[1:]}/config.json")):
        _check_prompts(file, read_json(file), preparation)


def _check_prompts(file: Path, pooling: Mapping[str, Any], preparation: Preparation) -> None:  # pooling: as written
    if not pooling.get("include_prompt", True) and any(preparation.prompts.values()):
        raise BundleError(f"{file} leaves prompts out of the pooling (include_prompt), which cannot be done here")


def _layer(kind: str, folder: Path) -> Dense | Normalize:
    if kind == "Normalize":
        return Normalize()
    file = folder / "config.json"
    dense = read_json(file)
    module, _, name = str(dense.get("activation_function", DEFAULT_ACTIVATION)).rpartition(".")
    activation = next((known for known in ACTIVATIONS if known == name and module.startswith("torch.nn")), None)
    if activation is None:
        raise BundleError(f"{file}: the activation_function may be {', '.join(ACTIVATIONS)}, and not {name}")
    _refuse_unknown(file, dense, {"in_features", "out_features", "bias", "activation_function"}, NEUTRAL_DENSE)
    return Dense(folder, activation)


def _transformer_file(path: Path) -> Path:
    """Find the file that holds the settings of the first module, of which there are several names."""
    files = [path / name for name in TRANSFORMER_CONFIGS]
    return next((file for file in files if file.exists() and read_json(file)), files[0])


def _refuse_unknown(
    file: Path, content: Mapping[str, Any], honoured: set[str], neutral: Mapping[str, Sequence[Any]]
) -> None:  # content: whatever its authors wrote
    for key, value in content.items():
        if key not in honoured and value not in (None, False, "", [], {}) and value not in neutral.get(key, ()):
            raise BundleError(f"{file}: {key} is not supported; remove it if the model does without")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
