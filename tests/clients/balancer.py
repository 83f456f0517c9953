"""A balancer of TCP connections: it knows nothing of requests, so that pooled connections stay with their replica."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loadtest.process import is_ready

POLL_S = 0.1


class Balancer:
    """Hands new connections to the replicas that are ready, in turn, and keeps those that stand."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self.ready: set[int] = set()
        self._turns = itertools.cycle(ports)

    async def watch(self) -> None:
        while True:
            for port in self.ports:
                is_up = await asyncio.to_thread(is_ready, f"http://127.0.0.1:{port}")
                (self.ready.add if is_up else self.ready.discard)(port)
            await asyncio.sleep(POLL_S)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = next(port for port in itertools.islice(self._turns, len(self.ports)) if port in self.ready)
        behind, ahead = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, ahead), pipe(behind, writer), return_exceptions=True)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextmanager
def balanced(ports: Sequence[int]) -> Iterator[str]:
    """Run a balancer over these replicas of this machine until the block ends. Returns: its URL."""
    loop, balancer, started = asyncio.new_event_loop(), Balancer(ports), threading.Event()
    address: list[int] = []

    async def serve() -> None:
        server = await asyncio.start_server(balancer.connect, "127.0.0.1", 0)
        address.append(server.sockets[0].getsockname()[1])
        watching = asyncio.create_task(balancer.watch())
        while balancer.ready != set(ports):
            await asyncio.sleep(POLL_S)
        started.set()
        await stopped.wait()
        watching.cancel()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(60), "the replicas were never ready"
        yield f"http://127.0.0.1:{address[0]}"
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()
