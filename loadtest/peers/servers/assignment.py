"""Reads from the environment what a server is to serve; the command that starts it says so."""

import os
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Describes what to serve: `model` is a directory, `scratch` one to write into, `cores` how many there are."""

    task: str
    model: Path
    port: int
    cores: int
    scratch: Path


def read_assignment() -> Assignment:
    environ = os.environ
    return Assignment(
        task=environ["PEER_TASK"],
        model=Path(environ["PEER_MODEL"]).absolute(),
        port=int(environ["PEER_PORT"]),
        cores=int(environ["PEER_CORES"]),
        scratch=Path(environ["PEER_SCRATCH"]),
    )
