import json
import logging
import sys

from service.context import RequestContext, current_request
from service.logs import JsonFormatter, TextFormatter

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
