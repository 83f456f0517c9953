"""Limits slow clients and long heads in uvicorn's HTTP protocol, and passes over offers to upgrade.

uvicorn has a timeout only for idle connections: a head or a body may arrive as slowly as the client likes, an answer
may wait for ever to be read, and no head is too long. Here a sweep looks at all connections twice a second, so that a
request costs no timer.
"""

import asyncio
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.settings import Settings

MAX_HEAD_BYTES = 65_536  # counted from a head's second piece on
PIECE_BYTES = 8_192  # that are parsed at once
CHUNKED_OVERHEAD = 8  # a body sent in chunks of one byte takes 6 bytes for each; trailers count too
KEEP_ALIVE_SECONDS = 620  # above what load balancers keep idle connections for: 60 (nginx, AWS), 600 (Google Cloud)


class Config(uvicorn.Config):
    """Configures uvicorn for this protocol."""

    def __init__(self, app: Any, settings: Settings) -> None:  # uvicorn's own type for an app is a union of protocols
        self.settings = settings
        super().__init__(
            app,
            host=settings.host,
            port=settings.port,
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the caller's address is used nowhere
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            # Only for connections whose last answer is not read: all requests were finished before.
            timeout_graceful_shutdown=max(round(settings.read_timeout_seconds), 1),
        )


class JoinedWrites:
    """Wraps a transport and holds back the head of an answer until its body comes, so that both leave as one segment.

    uvicorn writes head and body separately, uvloop sends both at once, and a waiting client is woken twice
    (docs/log/serving.md). Reading goes on once both uvicorn and we want it.
    """

    def __init__(self, transport: Any) -> None:  # uvloop's, or asyncio's
        self._transport = transport
        self._head = b""
        self._paused = self._held = False  # by uvicorn, by us

    def pause_reading(self) -> None:
        self._change_reading(paused=True, held=self._held)

    def resume_reading(self) -> None:
        self._change_reading(paused=False, held=self._held)

    def hold_reading(self, held: bool) -> None:
        self._change_reading(paused=self._paused, held=held)

    def _change_reading(self, *, paused: bool, held: bool) -> None:
        stood, stands = self._paused or self._held, paused or held
        self._paused, self._held = paused, held
        if stands != stood and not self._transport.is_closing():
            (self._transport.pause_reading if stands else self._transport.resume_reading)()

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():  # cut off while an answer was written, which uvicorn learns a turn later
            return
        if data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        elif self._head:
            self.flush(data)
        else:
            self._transport.write(data)

    def flush(self, data: bytes = b"") -> None:
        """Write the head that was held back, and `data` behind it."""
        head, self._head = self._head, b""
        if head:
            self._transport.write(head + data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Parser:
    """Wraps uvicorn's parser and reads a request that offers an upgrade as if it did not (RFC 9110, 7.8).

    httptools takes what follows such a head for another protocol, so that the body of every POST by curl's `--http2` or
    by Java's HttpClient is lost. Here another parser reads the same head, without the offer, and all that comes behind.
    """

    def __init__(self, protocol: "HttpProtocol") -> None:
        self._protocol = protocol
        self._parser = self._new_parser()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return parser

    def feed_data(self, data: bytes) -> None:
        """Raises: httptools.HttpParserError; HttpParserUpgrade for CONNECT alone."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._parser.get_method() == b"CONNECT":
                    raise
                data = self._protocol.head_without_upgrade() + data[upgrade.args[0] :]
                self._parser = self._new_parser()
            else:
                return

    def offers_upgrade(self) -> bool:
        return self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class HttpProtocol(HttpToolsProtocol):
    """Serves one connection."""

    config: Config
    parser: Any  # uvicorn declares httptools' own class

    def __init__(self, *arguments: Any, **options: Any) -> None:  # as uvicorn makes it
        super().__init__(*arguments, **options)
        self.parser = Parser(self)
        self._awaited: str | None = None
        self._subject: object = None
        self._since = 0.0
        self._unfinished: object = None  # the request that `_received` is counted for
        self._received = 0
        self._unparsed = bytearray()

    def connection_made(self, transport: Any) -> None:  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport)))

    def on_headers_complete(self) -> None:
        if not self.parser.offers_upgrade():  # such a head is read again
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.offers_upgrade():
            super().on_message_complete()

    def head_without_upgrade(self) -> bytes:
        """Write the head that has just been read, without its offer."""
        fields = [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        first = b"%s %s HTTP/%s" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        return b"\r\n".join([first, *fields, b"", b""])

    def on_response_complete(self) -> None:
        cast("JoinedWrites", self.transport).flush()  # an answer to HEAD has no body
        super().on_response_complete()
        self._parse_on()

    def data_received(self, data: bytes) -> None:
        """Parse what has come, but only as far as one request waits for the answer to the one before it.

        uvicorn parses all that a read has brought, up to 256,000 bytes, and reads on at every request that waits: a
        request that waits takes some 15 KB.
        """
        if len(data) <= PIECE_BYTES and not self._unparsed and not self.pipeline:
            self._parse(data)
        else:
            self._unparsed += data
            self._parse_on()

    def _parse_on(self) -> None:
        while self._unparsed and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._unparsed[:PIECE_BYTES])
            del self._unparsed[:PIECE_BYTES]
            self._parse(piece)
        cast("JoinedWrites", self.transport).hold_reading(bool(self._unparsed or self.pipeline))

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_unfinished() or (self.cycle is not None and self.cycle.more_body):
            self._limit_length(len(data))

    def cut_off_if_slow(self, now: float) -> bool:
        """Close the connection if we have waited too long for the same thing. `now`: `monotonic()`."""
        awaited, subject = self._what_is_awaited()
        if awaited != self._awaited or subject is not self._subject:
            self._awaited, self._subject, self._since = awaited, subject, now
        limit = KEEP_ALIVE_SECONDS if awaited == "the next request" else self.config.settings.read_timeout_seconds
        slow = awaited is not None and now - self._since >= limit
        if slow:
            self.transport.abort()
        return slow

    def _what_is_awaited(self) -> tuple[str | None, object]:
        """Return what we wait for; None while the client waits for us. The clock runs while neither value changes."""
        cycle = self.cycle
        unread = self.transport.get_write_buffer_size()
        if unread:
            return f"reading of {unread} bytes", None  # a client that reads, however slowly, restarts the clock
        if self.pipeline or (cycle is not None and not cycle.response_complete and not cycle.more_body):
            return None, None
        if self.scope is None or self._head_unfinished() or cycle.more_body:
            return (
                "a whole request",
                self.scope,
            )  # head and body share a clock, which no trickle restarts
        return "the next request", cycle

    def _head_unfinished(self) -> bool:
        return self.cycle is None or self.cycle.scope is not self.scope

    def _limit_length(self, read: int) -> None:
        """Refuse a request that is not complete and already too long. `read`: the bytes that have just arrived."""
        if self.scope is not self._unfinished or self.scope is None:
            self._unfinished, self._received = self.scope, 0
            return
        self._received += read
        if self._head_unfinished():
            if self._received > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too long.")
        elif self._received > CHUNKED_OVERHEAD * self.config.settings.max_body_bytes + MAX_HEAD_BYTES:
            self.transport.abort()
