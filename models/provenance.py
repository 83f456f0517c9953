"""Writes and reads training.json, the record of how a model came to be, which lies beside its weights."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, ValidationError

from models.data import DataError
from models.files import write_whole
from models.tasks.base import Metrics
from models.tasks.bundle import sha256_of
from models.tasks.directory.files import read_json

PROVENANCE = "training.json"


class TrainingData(BaseModel):
    """A file, or a dataset, that a run was trained on."""

    name: str
    sha256: str
    bytes: int
    licence: str | None = None  # for people to add
    skipped: int = 0  # rows that --skip-bad left out; no key where there are none


class Teacher(BaseModel):
    """A model whose outputs another one learned. `source`: what its own training began from, where that is known."""

    name: str
    architecture: str
    layers: int
    hidden_size: int
    source: str | None = None


class TrainedOn(BaseModel):
    """The part of a record that says what data trained the model."""

    data: tuple[TrainingData, ...]


class Training(BaseModel):
    """A record of fine-tuning or of general distillation; further keys of some records are passed over."""

    command: str
    seed: int
    source: str
    data: tuple[TrainingData, ...]
    seconds: int | FiniteFloat
    teachers: tuple[Teacher, ...] = ()  # of this training, or else of the model that it began from
    metrics: dict[str, Any] = {}  # by the name of their data; whatever whoever wrote the file left there


def describe(path: Path, skipped: int = 0) -> TrainingData:
    """Describe a file by its name, checksum, size and the rows that were left out. Raises: OSError."""
    file = TrainingData(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)
    return file.model_copy(update={"skipped": skipped}) if skipped else file


def training_data(files: Iterable[Path], origins: Iterable[str], skipped: Mapping[Path, int]) -> list[TrainingData]:
    """List the files of a run, and those that trained the models it begins with, as far as records list them.

    Each file is listed once, as this run has read it. `skipped`: rows of the files that were left out.

    Raises: DataError, BundleError.
    """
    once: dict[str, TrainingData] = {}
    for data in [describe(path, skipped.get(path, 0)) for path in files] + _trained(origins):
        once.setdefault(data.sha256, data)
    return list(once.values())


def write_provenance(
    out: Path,
    *,
    command: str,
    seed: int,
    sources: Sequence[str],
    data: Sequence[TrainingData],
    metrics: Mapping[str, Metrics],
    seconds: float,
    teachers: Sequence[Teacher] = (),
    **extras: object,
) -> None:
    """Write the record of a finished run into `out`.

    `sources` are the models it began from, `metrics` are by the name of their data, `teachers` are left out if there
    are none, `extras` are further keys.
    """
    training = Training(
        command=command,
        seed=seed,
        source=", ".join(Path(source).name if Path(source).exists() else source for source in sources),
        data=tuple(data),
        seconds=round(seconds),
        metrics=dict(metrics),
    )
    if teachers:
        training = training.model_copy(update={"teachers": tuple(teachers)})
    content = training.model_dump(exclude_unset=True) | extras
    write_whole(out / PROVENANCE, json.dumps(content, indent=2) + "\n")


def read_training(directory: Path) -> Training | None:
    """Read the record of a finished model. Returns: None if it came without. Raises: DataError, BundleError."""
    path = directory / PROVENANCE
    if not path.exists():
        return None
    try:
        return Training.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {location}: {first['msg']}; correct the file or remove it") from error


def origin_of(directory: str) -> str | None:
    """Returns: what the training of a model began from; None where no record tells. Raises: DataError, BundleError."""
    training = read_training(Path(directory))
    return training.source if training else None


def teachers_of(directory: str) -> tuple[Teacher, ...]:
    """Returns: whose outputs a model has learned, as its record tells. Raises: DataError, BundleError."""
    training = read_training(Path(directory))
    return training.teachers if training else ()


def _trained(origins: Iterable[str]) -> list[TrainingData]:
    data: list[TrainingData] = []
    for record in (Path(origin) / PROVENANCE for origin in origins):
        if not record.is_file():
            continue
        try:
            files = TrainedOn.model_validate(read_json(record)).data
        except ValidationError as error:
            raise DataError(f"{record} does not list the data of a training; correct the file or remove it") from error
        data += [TrainingData(**file.model_dump(exclude={"licence"}, exclude_defaults=True)) for file in files]
    return data
