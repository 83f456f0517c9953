"""A receiver of OTLP over HTTP, which keeps the spans that come; as a program it counts them."""

import argparse
import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent: `spans`, and the attributes of their resources."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.spans: list[Any] = []  # of the protocol's generated types
        self.resources: list[dict[str, str]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.server.status == 200 and self.path == "/v1/traces":
            for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                pairs = {pair.key: pair.value.string_value for pair in batch.resource.attributes}
                self.server.resources.append(pairs)
                for scope in batch.scope_spans:
                    self.server.spans += scope.spans
        self.send_response(self.server.status if self.path == "/v1/traces" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.service.telemetry.receiver", description=__doc__)
    parser.add_argument("--port", type=int, default=4318, help="TCP port (default: 4318)")
    with Receiver(parser.parse_args().port) as server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write(f"{len(server.spans)} spans\n")


if __name__ == "__main__":
    main()
