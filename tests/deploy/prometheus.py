"""Debian's Prometheus over services of ours, and what it answers to a panel's queries."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtest.process import free_port
from tests.server import wait_until_ready

SCRAPE_S = 1
Series = dict[str, list[tuple[float, float]]]
"""Times and values, by the labels of the series as JSON."""


@dataclass(frozen=True)
class Prometheus:
    """Answers at `url`."""

    url: str

    def range(self, query: str, begin: float, end: float, step: float = SCRAPE_S) -> Series:
        parameters: dict[str, str | float] = {"query": query, "start": begin, "end": end, "step": step}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=parameters, timeout=60)
        body: dict[str, Any] = answer.json()  # JSON
        assert body["status"] == "success", (query, body)
        return {
            json.dumps(series["metric"], sort_keys=True): [(float(at), float(value)) for at, value in series["values"]]
            for series in body["data"]["result"]
        }


@contextmanager
def prometheus(folder: Path, targets: Sequence[str], job: str) -> Iterator[Prometheus]:
    """Scrape the targets (host:port) every second until the block ends. `folder` takes its data and its log."""
    scrapes = {"job_name": job, "static_configs": [{"targets": list(targets)}]}
    configuration = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": [scrapes]}
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    files = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("w") as log:
        command = ["prometheus", *files, f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_ready(f"http://{address}/-/ready", process, folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()
