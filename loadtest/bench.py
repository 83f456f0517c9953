"""What HTTP costs: `/qa` at concurrency 1 against tokenize, run and decode in this process, pair by pair."""

import argparse
import json
import os
import socket
import statistics
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import onnxruntime
from tokenizers import Tokenizer

from models.tasks.build import qa_task
from models.tasks.bundle import Bundle, BundleError, load_bundle
from models.tasks.qa import QAInput

WARM_UP = 20  # pairs of calls that are not counted
QUESTION = "Who wrote the first program?"
PASSAGE = (
    "Ada Lovelace wrote the first program in 1843, for a machine that was never built. Charles Babbage had designed it "
    "to compute with cogs and cards, and she saw that it could work on more than numbers. "
)


def input_of(tokens: int, tokenizer: Tokenizer) -> QAInput:
    """A question over a passage that take `tokens` tokens together, special tokens counted."""
    passage = PASSAGE * (tokens // 20 + 1)
    whole = tokenizer.encode(QUESTION, passage)
    closing = len(whole.ids) - 1 - max(i for i, sequence in enumerate(whole.sequence_ids) if sequence == 1)
    end = whole.offsets[tokens - closing - 1][1]
    return QAInput(QUESTION, passage[:end])


def in_process(bundle: Bundle, threads: int) -> Callable[[QAInput], None]:
    """Tokenize, run and decode, on a session with the service's options."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        str(bundle.model_path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=set(bundle.disabled_optimizers),
    )
    names = [item.name for item in session.get_inputs()]
    task = qa_task(bundle)

    def answer(item: QAInput) -> None:
        encoding = task.encode(item)
        outputs = [session.run(list(task.output_names), window.feed(names)) for window in encoding.windows]
        task.decode(encoding, [(start[0], end[0]) for start, end in outputs])

    return answer


@contextmanager
def over_http(url: str) -> Iterator[Callable[[QAInput], None]]:
    """One kept-alive connection, read by hand: `http.client` would add up to 0.3 ms of its own (docs/log.md).

    Raises: OSError without a service there; the callable raises RuntimeError if an answer is not 200.
    """
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "localhost", address.port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def receive() -> bytes:
            received = connection.recv(65536)
            if not received:
                raise RuntimeError(f"{url} closed the connection")
            return received

        def answer(item: QAInput) -> None:
            body = json.dumps({"question": item.question, "context": item.context}).encode()
            head = (
                f"POST /qa HTTP/1.1\r\nhost: {address.netloc}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            received = receive()
            while b"\r\n\r\n" not in received:
                received += receive()
            before, _, content = received.partition(b"\r\n\r\n")
            status, *fields = before.decode("latin-1").lower().split("\r\n")
            length = next(int(field.partition(":")[2]) for field in fields if field.startswith("content-length:"))
            while len(content) < length:
                content += receive()
            if status.split()[1] != "200":
                raise RuntimeError(f"{url}/qa answered {status}: {content.decode()}")

        yield answer


def milliseconds(call: Callable[[QAInput], None], item: QAInput) -> float:
    begun = perf_counter()
    call(item)
    return (perf_counter() - begun) * 1e3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000", help="a running service (default: %(default)s)")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/qa"), help="what it serves (default: %(default)s)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 32, 64, 128, 256, 384], help="input lengths")
    parser.add_argument("--pairs", type=int, default=300, help="of calls, for each length (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        bundle = load_bundle(arguments.bundle)
        with urllib.request.urlopen(f"{arguments.url}/info") as response:
            threads = json.load(response)["threads"]
    except BundleError as error:
        sys.stderr.write(f"python -m loadtest.bench: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"python -m loadtest.bench: {arguments.url}: {error}; start the service with `make serve`\n")
        return 2
    local = in_process(bundle, threads)
    tokenizer = qa_task(bundle).tokenizer
    sys.stdout.write(f"{threads} threads, {arguments.pairs} pairs, milliseconds\n")
    sys.stdout.write("tokens  in process p50 / p99   over HTTP p50 / p99   cost at p50\n")
    with over_http(arguments.url) as remote:
        for tokens in arguments.tokens:
            item = input_of(tokens, tokenizer)
            pairs = [(milliseconds(local, item), milliseconds(remote, item)) for _ in range(arguments.pairs + WARM_UP)]
            sys.stdout.write(f"{tokens:6}  {_row(pairs[WARM_UP:])}\n")
    return 0


def _row(pairs: Sequence[tuple[float, float]]) -> str:
    own, http = (sorted(column) for column in zip(*pairs, strict=True))
    own_p50, http_p50, p99 = statistics.median(own), statistics.median(http), int(0.99 * len(own))
    cost = http_p50 - own_p50
    return f"{own_p50:12.3f} / {own[p99]:.3f}  {http_p50:12.3f} / {http[p99]:.3f}  {cost:10.3f}"


if __name__ == "__main__":
    sys.exit(main())
