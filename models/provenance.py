"""How a model came to be: the record that training leaves beside its weights."""

import json
import shlex
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from models.data import DataError, DataSource, describe
from models.tasks.base import Metrics
from models.tasks.directory import read_json

PROVENANCE = "training.json"


def training_data(arguments: Namespace) -> list[DataSource]:
    """The files of a run, and those that trained what it begins with, as far as records tell; each once.

    Raises: DataError, BundleError.
    """
    used = [describe(path) for path in (*arguments.train, *arguments.unlabelled)]
    used += _trained(filter(None, (*arguments.teacher, arguments.student, arguments.model)))
    return list({data["sha256"]: data for data in used}.values())


def write_provenance(
    command: str,
    arguments: Namespace,
    sources: Sequence[str],
    data: Sequence[DataSource],
    metrics: Mapping[str, Metrics],
    seconds: float,
    **more: object,
) -> None:
    """`command` is a module's name, `sources` are the models it began from, `metrics` are by the name of their data."""
    provenance = {
        "command": shlex.join(["python", "-m", command, *arguments.argv]),
        "seed": arguments.seed,
        "source": ", ".join(Path(source).name if Path(source).exists() else source for source in sources),
        "data": data,
        "seconds": round(seconds),
        "metrics": metrics,
    }
    (arguments.out / PROVENANCE).write_text(json.dumps(provenance | more, indent=2) + "\n")


def _trained(origins: Iterable[str]) -> list[DataSource]:
    data: list[DataSource] = []
    for record in (Path(origin) / PROVENANCE for origin in origins):
        if not record.is_file():
            continue
        try:
            data += [
                {"name": each["name"], "sha256": each["sha256"], "bytes": each["bytes"]}
                for each in read_json(record)["data"]
            ]
        except (KeyError, TypeError) as error:
            raise DataError(f"{record} does not list the data of a training; correct the file or remove it") from error
    return data
