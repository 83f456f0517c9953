"""Costs between the measured lengths, of more cores than were measured, and those that the service estimates."""

from typing import Any

import pytest

from loadtest.capacity.costs import CostTable, estimated, table_of
from loadtest.capacity.mix import Kind, MixError
from loadtest.record import Row
from loadtest.routes import Route


def row(tokens: int, busy: float, **columns: Any) -> Row:  # whatever a row holds
    measured = {"windows": 1, "lone_ms": busy * 0.8, "busy_ms": busy, "overhead_ms": 0.2, "ratios": [0.9, 1.1]}
    return {"route": "/qa", "tokens": tokens, "items": 1, "cores": 1} | measured | columns


TABLE = CostTable([row(100, 10.0), row(200, 22.0), row(400, 46.0, ratios=[1.0])])


def test_a_length_between_two_measured_ones_costs_in_proportion() -> None:
    cost = TABLE.cost(Kind("/qa", 150), 1)
    assert (cost.busy_ms, cost.lone_ms, cost.overhead_ms) == pytest.approx((16.0, 12.8, 0.2))
    assert list(cost.ratios) == [0.9, 1.1]
    assert TABLE.cost(Kind("/qa", 200), 1).busy_ms == 22.0


def test_beyond_the_ends_the_line_goes_on_and_never_below_nothing() -> None:
    assert TABLE.cost(Kind("/qa", 500), 1).busy_ms == pytest.approx(58.0)
    assert TABLE.cost(Kind("/qa", 1), 1).busy_ms == 0.0


def test_more_cores_than_were_measured_cost_what_the_most_did() -> None:
    table = CostTable([*TABLE.rows, row(100, 12.0, cores=2), row(200, 24.0, cores=2)])
    assert table.cores() == [1, 2]
    assert table.cost(Kind("/qa", 100), 16).busy_ms == 12.0


def test_a_line_by_tokens_is_told_with_how_far_it_misses() -> None:
    [(key, (fixed, slope, miss))] = TABLE.lines().items()
    assert key == ("/qa", 1)
    assert fixed + slope * 400 == pytest.approx(46.0, rel=0.05)
    assert 0 <= miss < 0.2


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Kind("/classify", 16), "there are no costs of /classify;"),
        (Kind("/qa", 100, 5), "there are no costs of /qa with 5 items"),
    ],
)
def test_what_was_not_measured_is_told(kind: Kind, told: str) -> None:
    with pytest.raises(MixError, match=told):
        TABLE.cost(kind, 1)


def test_one_length_alone_says_nothing_of_others() -> None:
    table = CostTable([row(100, 10.0)])
    assert table.cost(Kind("/qa", 100), 1).busy_ms == 10.0
    with pytest.raises(MixError, match="known at 100 tokens alone, and not at 64"):
        table.cost(Kind("/qa", 64), 1)


@pytest.mark.parametrize("rows", [[], [{}], [row(100, 10.0, lone_ms=None)], [row(100, 10.0, cores="two")]])
def test_a_file_that_holds_no_costs_is_told(rows: list[Row]) -> None:
    with pytest.raises(MixError, match=r"the costs has no|no rows"):
        table_of(rows)


def test_the_services_own_estimate_is_a_line_with_its_http_and_no_spread() -> None:
    cost = {"fixed_ms": 0.3, "ms_per_token": 0.05}
    info = {"bundles": [{"task": "qa", "default": True, "cost": cost}, {"task": "qa", "default": False, "cost": {}}]}
    routes = [Route("/qa", "qa", {"question": "?", "context": "."})]
    table = estimated(info, routes, [Kind("/qa", 100), Kind("/qa", 800)])
    found = table.cost(Kind("/qa", 100), 1)
    assert found.busy_ms == pytest.approx(0.4 + 0.3 + 5.0)
    assert list(found.ratios) == [1.0]
    assert table.cost(Kind("/qa", 800), 1).windows == 3
    with pytest.raises(MixError, match=r"the service has no /classify"):
        estimated(info, routes, [Kind("/classify", 8)])
