"""Answers every request with the same bytes: what the client reaches here is its own limit."""

import selectors
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def main(port: int) -> None:
    """Serve until the process is ended. A request of the bench arrives in one piece, so each piece gets an answer."""
    with selectors.DefaultSelector() as selector, socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ, connection)
                    continue
                try:
                    if key.data.recv(1 << 16):
                        key.data.sendall(ANSWER)
                        continue
                except OSError:  # the client has gone
                    pass
                selector.unregister(key.data)
                key.data.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
