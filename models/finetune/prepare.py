"""Reads and checks what a run begins with, so that nothing of it is found wrong after the first step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from models.checkpoint import claim
from models.data import DataError
from models.devset import DevOptions, DevSet
from models.finetune.cores import on_all_cores
from models.finetune.options import MAX_LENGTH, OF_LOSSES, FinetuneOptions
from models.finetune.recipe import Recipe
from models.finetune.recipes import RECIPES
from models.student import SUPPORTED, StudentError, parse_layers
from models.tasks.base import AnyTask, InputTooLongError
from models.tasks.directory.model import max_positions
from models.tasks.options import refuse_idle
from models.teachers import ModelError, check_is_whole, check_kind, check_tokenizer, load_config, load_tokenizer
from models.teaching.readers import Reader, readers_of
from models.teaching.vocabulary import one_separator

LOG = "log.jsonl"
STUDENT_KIND = "distilbert"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")  # any of them: a directory has a tokenizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with. `sources`: the model to train or the teachers; `config` is of the first of them."""

    sources: Sequence[str]
    tokenizer: Any  # one of transformers' fast ones, which have no common type
    config: PretrainedConfig
    readers: Sequence[Reader]
    recipe: Recipe[Any]
    dev: DevSet

    def become(self) -> PretrainedConfig:
        """Return the configuration of the first source as it will be once this run has trained it."""
        self.recipe.configure(self.config)
        return self.config


def prepare(options: FinetuneOptions, before: Prepared | None = None) -> Prepared:
    """Read and check everything but weights.

    `before`: a run that is yet to make the only teacher; the model that it begins with stands for the teacher.

    Raises: BundleError, CheckpointError, DataError, ModelError, StudentError, UsageError.
    """
    check_flags(options)
    sources = [options.model] if options.model else list(options.teacher)
    if before:
        sources = list(before.sources)
    origins = [*sources, *filter(None, (options.student, options.student_from))]
    claim(options.out, origins, log=LOG)
    configs = {name: load_config(name) for name in origins}
    if before:
        configs[sources[0]] = before.become()
    for name, config in configs.items():
        check_kind(name, config)
        check_is_whole(name, config.to_dict())
    check_student(options, sources[0], configs)

    recipe_class, config = RECIPES[options.task], configs[sources[0]]
    origin = tokenizer_origin(options, sources[0])
    tokenizer = before.tokenizer if before and origin == sources[0] else load_tokenizer(origin)
    if options.one_separator:
        one_separator(tokenizer)
    reading = options.student or options.student_from or sources[0]  # the model that this tokenizer is for
    check_tokenizer(tokenizer, configs[reading], reading)
    known = {origin: tokenizer} | ({sources[0]: before.tokenizer} if before else {})
    readers = readers_of(
        [(name, configs[name]) for name in (sources if options.teacher else ())],
        tokenizer,
        origin,
        known,
        pairs=recipe_class.reads_pairs,
        whole_texts=recipe_class.reads_whole_texts,
    )
    limits = {reading: configs[reading]} | {reader.name: reader.config for reader in readers if not reader.difference}
    recipe = recipe_class(replace(options, max_length=max_length(options, limits)), tokenizer, config)
    recipe.reader = readers[0] if readers else None
    recipe.check_width(configs[reading].hidden_size)
    dev_options = DevOptions(
        on_overflow=options.on_overflow,
        multi_label=options.multi_label and not options.teacher,
        language=options.language,
        config=config.to_dict() if options.teacher else {},
        reading=recipe.reading,
    )
    dev = recipe.dev_set(options.dev, dev_options)
    check_dev(dev, recipe.task, options.dev)
    return Prepared(sources, tokenizer, config, readers, recipe, dev)


def check_flags(options: FinetuneOptions) -> None:
    """Refuse flags that the task does not read. Raises: UsageError."""
    recipe = RECIPES[options.task]
    of_others = {name for other in RECIPES.values() for name in other.own_options} - set(recipe.own_options)
    if not recipe.teacher_in_loop:
        of_others |= set(OF_LOSSES)
    refuse_idle(options, of_others, f"for the task {options.task}")


def check_student(options: FinetuneOptions, teacher: str, configs: Mapping[str, PretrainedConfig]) -> None:
    """Refuse a student of another kind, and an encoder that none can be cut from. Raises: StudentError."""
    if options.model:
        return
    if options.student:
        kind = configs[options.student].model_type
        if kind != STUDENT_KIND:
            raise StudentError(
                f"{options.student} is of kind {kind!r} and a student of kind {STUDENT_KIND!r}; "
                "cut one from it by --student-from, or fine-tune it as a --model"
            )
        return
    origin = options.student_from or teacher
    if configs[origin].model_type not in SUPPORTED:
        raise StudentError(
            f"no student can be cut from {origin}, which is of kind {configs[origin].model_type!r}; name a student by "
            f"--student, or by --student-from an encoder of one of these kinds: {', '.join(SUPPORTED)}"
        )
    parse_layers(options.layers, configs[origin].num_hidden_layers)


def tokenizer_origin(options: FinetuneOptions, teacher: str) -> str:
    """Name whose tokenizer the student reads with: its own where it has one, else its first teacher's."""
    if options.student_from:
        return options.student_from
    if options.student and (
        not Path(options.student).is_dir() or any((Path(options.student) / file).exists() for file in TOKENIZER_FILES)
    ):
        return options.student
    return teacher


def max_length(options: FinetuneOptions, configs: Mapping[str, PretrainedConfig]) -> int:
    """Return the most tokens of a window that each of these models reads. Raises: ModelError."""
    limits = {name: max_positions(config.to_dict()) for name, config in configs.items()}
    name = min(limits, key=lambda name: limits[name])
    if options.max_length > limits[name] and options.max_length != MAX_LENGTH:
        raise ModelError(f"--max-length {options.max_length} is more than the {limits[name]} tokens that {name} reads")
    return min(options.max_length, limits[name])


def check_dev(dev: DevSet, task: AnyTask, path: Path) -> None:
    """Compare the set with what the model can say and read. Raises: DataError."""
    dev.check(task)
    try:
        on_all_cores(lambda inputs: [len(task.encode(item).windows) for item in inputs], dev.inputs)
    except InputTooLongError as error:
        raise DataError(f"{path}: {error}") from error
