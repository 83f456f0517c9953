"""Objectives: what parses, what a broken one says, and what holds where nothing was measured."""

from typing import Any

import pytest

from loadtest.users.measured import ALL, Failure, Measured, Times
from loadtest.users.slo import check_routes, judge, read_objective
from models.tasks.errors import UsageError


def times(**fields: Any) -> Times:  # any of its fields
    figures = dict.fromkeys(("mean_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms"), 0.0)
    counts: dict[str, Any] = {"requests": 0, "failures": 0, "rate_per_s": 0.0}
    return Times(**figures | counts | fields)


MEASURED = Measured(
    [
        times(kind="total", route=ALL, requests=2000, failures=3, rate_per_s=200.0, p99_ms=41.0, max_ms=70.0),
        times(kind="request", route="/qa", requests=1000, failures=2, rate_per_s=100.0, p99_ms=40.0, p99_9_ms=60.0),
        times(kind="stage", route="/qa", part="tokenization", requests=998, p95_ms=0.25),
        times(kind="request", route="/v1/embeddings", requests=1000, failures=1, p50_ms=2.0, mean_ms=2.5),
        times(kind="request", route="/embed"),
    ],
    [
        Failure("/qa", "503", "queue_full", 2),
        Failure("/v1/embeddings", "422", "the text is blank", 1),
    ],
)


@pytest.mark.parametrize(
    ("text", "figure", "is_kept"),
    [
        ("qa.p99<30ms", 40.0, False),
        ("qa.p99 < 0.05 s", 40.0, True),
        ("/qa.p99.9<=60ms", 60.0, True),
        ("qa.tokenization.p95<1ms", 0.25, True),
        ("qa.tokenization.p95<200us", 0.25, False),
        ("v1/embeddings.mean<3ms", 2.5, True),
        ("p99<40ms", 41.0, False),
        ("max<=70ms", 70.0, True),
        ("errors<0.1%", 0.15, False),
        ("errors<=3", 3.0, True),
        ("qa.errors<0.1%", 0.2, False),
        ("v1/embeddings.errors<1%", 0.1, True),
        ("refused<3", 2.0, True),
        ("qa.refused<0.2%", 0.2, False),
        ("requests>1000", 2000.0, True),
        ("qa.requests>1000", 1000.0, False),
        ("rate>=200/s", 200.0, True),
        ("qa.rate>100.5/s", 100.0, False),
    ],
)
def test_a_figure_is_compared_with_its_bound(text: str, figure: float, is_kept: bool) -> None:
    verdict = judge(read_objective(text), MEASURED)
    assert verdict.figure == pytest.approx(figure)
    assert verdict.is_kept is is_kept
    assert str(verdict).startswith("SLO kept" if is_kept else "SLO broken")


@pytest.mark.parametrize("text", ["embed.p99<30ms", "embed.errors<1%", "embed.requests>0", "embed.rate>1/s"])
def test_an_objective_over_nothing_is_broken(text: str) -> None:
    assert not judge(read_objective(text), MEASURED).is_kept


def test_a_broken_one_says_by_how_much() -> None:
    verdict = judge(read_objective("qa.p99<30ms"), MEASURED)
    assert str(verdict) == ("SLO broken: qa.p99<30ms: measured 40ms, 10ms beyond the bound, 1.33 times the bound")
    assert "nothing was measured" in str(judge(read_objective("embed.p99<30ms"), MEASURED))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not parse"),
        ("qa.p99", "does not parse"),
        ("qa.p99=30ms", "does not parse"),
        ("qa.p99<-1ms", "does not parse"),
        ("qa.p99<30ms,errors<1", "does not parse"),
        ("qa.p98<30ms", "'p98' is not measured; there are p50"),
        ("qa.speed<30ms", "'speed' is not measured"),
        ("qa.p99<30", "p99 takes us or ms or s, not a bare number"),
        ("errors<1ms", "errors takes % or no unit, not ms"),
        ("rate>100", "rate takes /s, not a bare number"),
        ("qa.thinking.p99<30ms", "'thinking' is not a stage; there are queue"),
        ("qa.inference.errors<1%", "a stage has only times"),
    ],
)
def test_one_that_does_not_parse_is_told_with_its_text(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        read_objective(text)
    assert says in str(error.value)
    assert repr(text) in str(error.value)


def test_a_route_that_is_not_loaded_is_told_before_the_load() -> None:
    check_routes([read_objective("qa.p99<1ms"), read_objective("errors<1%")], ["/qa"])
    with pytest.raises(UsageError, match="/embd is not loaded; the routes are qa, embed"):
        check_routes([read_objective("embd.p99<1ms")], ["/qa", "/embed"])
