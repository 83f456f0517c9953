import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from service.telemetry.context import RequestContext, current_request
from service.telemetry.logs import JsonFormatter, LineHandler, TextFormatter, together

TEXT = "canary"


def record(*, failed: bool = False) -> logging.LogRecord:
    info = None
    if failed:
        try:
            raise ValueError(TEXT) from KeyError(TEXT)
        except ValueError:
            info = sys.exc_info()
    made = logging.LogRecord("service", logging.INFO, __file__, 1, "loaded %s", ("qa",), info)
    made.created, made.msecs = 0.0, 7.0
    made.data = {"windows": 3}
    return made


class Writes(io.StringIO):
    """Notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = list[str]()

    def write(self, text: str) -> int:
        self.noted.append(text)
        return len(text)


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture
def handler() -> Iterator[LineHandler]:
    """The root logger's, among others."""
    made, root = LineHandler(), logging.getLogger()
    made.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(made)
    yield made
    root.removeHandler(made)


def test_a_line_leaves_at_once_and_several_together_in_one_write(handler: LineHandler) -> None:
    writes = Writes()
    handler.setStream(writes)
    logger = logging.getLogger("service.test")
    logger.warning("first")
    assert writes.noted == ["first\n"]
    with together():
        logger.warning("second")
        logger.warning("third")
        assert writes.noted == ["first\n"]
    assert writes.noted == ["first\n", "second\nthird\n"]
    logger.warning("fourth")
    assert writes.noted[2:] == ["fourth\n"]


def test_what_is_held_is_written_whatever_happens_meanwhile(handler: LineHandler) -> None:
    writes = Writes()
    handler.setStream(writes)

    def fail() -> None:
        with together():
            logging.getLogger("service.test").warning("held")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert writes.noted == ["held\n"]


def test_a_record_that_cannot_be_told_costs_no_other(handler: LineHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    writes = Writes()
    handler.setStream(writes)
    with together():
        handler.handle(logging.LogRecord("service", logging.INFO, __file__, 1, "%d", ("no number",), None))
        logging.getLogger("service.test").warning("told")
    assert writes.noted == ["told\n"]


def test_a_stream_that_takes_no_more_stops_nobody(handler: LineHandler) -> None:
    handler.setStream(Full())
    logging.getLogger("service.test").warning("lost")
    writes = Writes()
    handler.stream = writes
    logging.getLogger("service.test").warning("told")
    assert writes.noted == ["told\n"]


def test_each_line_has_its_own_second() -> None:
    made = record()
    made.created = 86_401.5
    assert TextFormatter().format(made).startswith("1970-01-02T00:00:01.007Z")
    assert TextFormatter().format(record()).startswith("1970-01-01T00:00:00.007Z")


def test_a_json_line_holds_the_fields_of_the_record() -> None:
    assert json.loads(JsonFormatter().format(record())) == {
        "time": "1970-01-01T00:00:00.007Z",
        "level": "INFO",
        "logger": "service",
        "message": "loaded qa",
        "windows": 3,
    }


def test_a_text_line_holds_them_too() -> None:
    assert TextFormatter().format(record()) == "1970-01-01T00:00:00.007Z INFO    service: loaded qa windows=3"


def test_frames_and_types_of_an_exception_are_told_but_not_what_it_says() -> None:
    for line in (JsonFormatter().format(record(failed=True)), TextFormatter().format(record(failed=True))):
        assert TEXT not in line
        assert "test_logs.py" in line
        assert "ValueError" in line
        assert "KeyError" in line


def test_a_ring_of_exceptions_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    made = record()
    made.exc_info = (ValueError, first, None)
    assert "KeyError" in JsonFormatter().format(made)


def test_a_line_within_a_request_carries_its_id_and_its_trace() -> None:
    trace_id, parent_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    token = current_request.set(RequestContext("id-1", traceparent=f"00-{trace_id}-{parent_id}-01"))
    try:
        line = json.loads(JsonFormatter().format(record()))
    finally:
        current_request.reset(token)
    assert (line["request_id"], line["trace_id"], line["parent_id"]) == ("id-1", trace_id, parent_id)
