import asyncio
import logging

import pytest

from service.telemetry import journal
from service.telemetry.context import RequestContext
from service.telemetry.journal import Journal
from service.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics([], queue_ms=lambda: 0, in_flight=lambda: 0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


@pytest.mark.anyio
async def test_entries_are_written_together_soon_after(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "DELAY_S", 1e-3)
    caplog.set_level(logging.INFO, "service.access")
    book = Journal(metrics)
    async with asyncio.timeout(10):
        for _ in range(3):
            book.add({"method": "POST"}, RequestContext(task="qa"), 200)
        assert not lines(caplog)
        while not lines(caplog):
            await asyncio.sleep(1e-3)
        assert lines(caplog) == ["request"] * 3
        book.add({"method": "POST"}, RequestContext(task="qa"), 200)  # the next one has a time of its own
        while len(lines(caplog)) < 4:
            await asyncio.sleep(1e-3)
    assert 'halfdepth_requests_total{model="",status="200",task="qa"} 4.0' in metrics.exposition("")[0].decode()


@pytest.mark.anyio
async def test_whoever_cannot_wait_has_them_at_once(
    metrics: Metrics, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "DELAY_S", 3600)
    caplog.set_level(logging.INFO, "service.access")
    book = Journal(metrics)
    book.add({"method": "POST"}, RequestContext(task="qa"), 200)
    book.write()
    assert lines(caplog) == ["request"]
    book.write()
    assert lines(caplog) == ["request"]
