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
MAX_CHAIN = 10  # exceptions that caused one another; such a chain may be circular


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; the fields of its `data` (set through `extra`) are fields of the line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname, "logger": record.name} | _fields(record)
        if record.exc_info:
            line["exception"] = _traceback(record.exc_info[1])
        return ENCODER.encode(line)


class TextFormatter(logging.Formatter):
    """Writes the same fields as `key=value`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        message = fields.pop("message")
        line = f"{_time(record)} {record.levelname:<7} {record.name}: {message}"
        line += "".join(f" {name}={value}" for name, value in fields.items())
        return line + (f"\n{_traceback(record.exc_info[1])}" if record.exc_info else "")


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records to stderr, one line for each.

    Lines that are held back are written together: every write wakes the process that reads them, which then takes a
    core. If the stream accepts no more, as on a full disk, lines are lost and nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self.held = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)  # as the standard library does: it reports the failure, and no request fails
        if not self.held:
            self.flush()

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines = self._lines, []
            with suppress(OSError, ValueError):  # there is no other place to report this
                self.stream.write("".join(lines))
                self.stream.flush()
        finally:
            self.release()


@contextmanager
def together() -> Iterator[None]:
    """Write everything that is logged within the block at once, at its end."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)]
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
    # Our lines do not hold these, so they need not be looked up (the standard library's advice).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = LineHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _traceback(error: BaseException | None) -> str:
    """List frames and types, also of the causes, but no messages: these may quote a request."""
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


def _fields(record: logging.LogRecord) -> dict[str, Any]:  # `data` may hold anything
    request = current_request.get(None)
    ids = {"request_id": request.id} | trace(request.traceparent) if request else {}
    return {"message": record.getMessage()} | ids | getattr(record, "data", {})
