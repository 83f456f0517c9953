"""Bundles of a few kilobytes, two of them for one task."""

from pathlib import Path

from tests.service.conftest import CONFIGS, write_bundle
from tests.service.startup.test_reload import write_other_graph


def write_bundles(root: Path) -> Path:
    for task in CONFIGS:
        write_bundle(root / task, task)
    write_bundle(root / "qa-small")
    write_other_graph(root / "qa-small", prefers="oslo")
    return root
