"""Writes log lines to stderr as JSON or text, never a text of a request or of an exception."""

import json
import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Literal, TextIO

from service.telemetry.context import current_request, trace

ENCODER = json.JSONEncoder(default=str)
MAX_CHAIN = 10  # of exceptions that led to each other; a chain may be a ring


class JsonFormatter(logging.Formatter):
    """One JSON object a line; a record's `data` (set through `extra`) joins its fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname, "logger": record.name} | _fields(record)
        if record.exc_info:
            line["exception"] = _traceback(record.exc_info[1])
        return ENCODER.encode(line)


class TextFormatter(logging.Formatter):
    """The same fields as `key=value`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        message = fields.pop("message")
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}"
        line += "".join(f" {name}={value}" for name, value in fields.items())
        return line + (f"\n{_traceback(record.exc_info[1])}" if record.exc_info else "")


class LineHandler(logging.StreamHandler[TextIO]):
    """One line for each record, on stderr. Lines that are held together leave in one write: each write wakes whoever
    reads them, who then takes a core. A stream that takes no more, as that of a full disk, costs its lines alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self.held = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)  # the standard library's way: a line of its own tells, and nobody's request fails
        if not self.held:
            self.flush()

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            with suppress(OSError, ValueError):  # nobody reads them, and there is nowhere else to tell it
                self.stream.write("".join(lines))
                self.stream.flush()
        finally:
            self.release()


@contextmanager
def together() -> Iterator[None]:
    """What is logged within leaves in one write."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, LineHandler)]
    for handler in handlers:
        handler.held = True
    try:
        yield
    finally:
        for handler in handlers:
            handler.held = False
            handler.flush()


def configure_logging(form: Literal["json", "text"]) -> None:
    """Send every logger of the process to stderr, uvicorn's too."""
    # What no line of ours tells need not be found out for each of them (the standard library's own advice).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = LineHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _traceback(error: BaseException | None) -> str:
    """Frames and types, of the cause too, but not what the exceptions say: that may quote a request."""
    parts: list[str] = []
    while error is not None and len(parts) < MAX_CHAIN:
        parts.insert(0, f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{record.msecs:03.0f}Z"


@lru_cache(maxsize=1)
def _second(since_1970: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_1970))


def _fields(record: logging.LogRecord) -> dict[str, Any]:  # whatever a logger's caller found worth telling
    request = current_request.get(None)
    known = {"request_id": request.id} | trace(request.traceparent) if request else {}
    return {"message": record.getMessage()} | known | getattr(record, "data", {})
