"""deploy/nginx.conf over replicas of a test."""

from collections.abc import Sequence
from pathlib import Path

from tests.server import ROOT

SHIPPED = (":8001", ":8002")


def write_nginx(folder: Path, port: int, replicas: Sequence[int], log: Path) -> None:
    """`replicas`: their two ports."""
    addresses = (ROOT / "deploy" / "replicas.conf").read_text()
    for shipped, ours in zip(SHIPPED, replicas, strict=True):
        assert shipped in addresses
        addresses = addresses.replace(shipped, f":{ours}")
    (folder / "replicas.conf").write_text(addresses)
    configuration = (ROOT / "deploy" / "nginx.conf").read_text()
    for shipped, tested in (("listen 8080", f"listen 127.0.0.1:{port}"), ("/dev/stdout", str(log))):
        assert shipped in configuration
        configuration = configuration.replace(shipped, tested)
    (folder / "nginx.conf").write_text(configuration)
