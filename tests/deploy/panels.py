"""Reads the panels of the Grafana dashboard, with its variables filled in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.server import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "halfdepth.json"


@dataclass(frozen=True)
class Panel:
    """`queries` by what Grafana writes into the legend; `place`: column, row, width and height on its grid of 24."""

    title: str
    unit: str
    kind: str
    place: tuple[int, int, int, int]
    queries: Mapping[str, str]


def panels(job: str, rate_interval: str) -> list[Panel]:
    dashboard = json.loads(DASHBOARD.read_text())
    filled = {"$job": job, "$__rate_interval": rate_interval}
    found = []
    for panel in dashboard["panels"]:
        queries = {}
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            queries[target["legendFormat"]] = expression
        grid = panel["gridPos"]
        place = (grid["x"], grid["y"], grid["w"], grid["h"])
        found.append(Panel(panel["title"], panel["fieldConfig"]["defaults"]["unit"], panel["type"], place, queries))
    return found
