import json
import logging
import sys

from service.context import RequestContext, current_request
from service.logs import JsonFormatter, TextFormatter


def record(*, failed: bool = False) -> logging.LogRecord:
    info = None
    if failed:
        try:
            raise ValueError("broken")
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


def test_the_traceback_of_an_exception_is_kept() -> None:
    assert "ValueError: broken" in json.loads(JsonFormatter().format(record(failed=True)))["exception"]
    assert "ValueError: broken" in TextFormatter().format(record(failed=True))


def test_a_line_within_a_request_carries_its_id() -> None:
    token = current_request.set(RequestContext("id-1"))
    try:
        assert json.loads(JsonFormatter().format(record()))["request_id"] == "id-1"
    finally:
        current_request.reset(token)
