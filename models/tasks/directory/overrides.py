"""Reads halfdepth.json: what an operator says of a model, over what its own files say or leave out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PlainValidator, ValidationError

from models.tasks.directory.files import BundleError, read_optional_json
from models.tasks.directory.thresholds import Points, Thresholds, read_points

OVERRIDES = "halfdepth.json"

Pooling = Literal["mean", "cls", "max", "lasttoken"]
"""How an embedder makes one vector of its tokens' states; the names are sentence-transformers' own."""


class Overrides(BaseModel):
    """halfdepth.json. Each key is optional, and a key that stands here decides.

    * `task`: what the model does, one of the tasks of `halfdepth export --task`.
    * `file`: the graph to serve, relative to the directory, as in `onnx/model_int8.onnx`.
    * `pooling`: how an embedder's states become one vector.
    * `no_answer_threshold`: what the null logit must exceed the best span's logit by, for "no answer" to win.
    * `no_answer_threshold_by_tokens`: the same by the length of the context, as pairs of tokens and logits.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    task: str | None = None
    file: Annotated[str, Field(min_length=1)] | None = None
    pooling: Pooling | None = None
    no_answer_threshold: FiniteFloat | None = None
    no_answer_threshold_by_tokens: Annotated[Points, PlainValidator(read_points)] | None = None

    @property
    def changes_results(self) -> bool:
        """Whether the same graph gives other results because of what is said here."""
        return self.pooling is not None or self.thresholds is not None

    @property
    def thresholds(self) -> Thresholds | None:
        """What is said here of "no answer"; None if nothing is."""
        if self.no_answer_threshold_by_tokens:
            return self.no_answer_threshold_by_tokens[0][1], self.no_answer_threshold_by_tokens
        return None if self.no_answer_threshold is None else (self.no_answer_threshold, ())


def read_overrides(path: Path) -> Overrides:
    """Read the halfdepth.json of the directory `path`; without the file nothing is overridden. Raises: BundleError."""
    file = path / OVERRIDES
    try:
        return Overrides.model_validate(read_optional_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            keys = ", ".join(Overrides.model_fields)
            raise BundleError(f"{file}: {key} is not one of its keys, which are {keys}; correct it") from error
        raise BundleError(f"{file}: {key}: {first['msg'].removeprefix('Value error, ')}; correct it") from error
