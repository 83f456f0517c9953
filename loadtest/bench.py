"""What HTTP costs: `/qa` at concurrency 1 against tokenize, run and decode in this process, pair by pair."""

import argparse
import http.client
import json
import os
import statistics
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import onnxruntime
from tokenizers import Tokenizer

from models.tasks.bundle import DISABLED_OPTIMIZERS, Bundle, BundleError, load_bundle, qa_task
from models.tasks.qa import QAInput

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
        disabled_optimizers=set(DISABLED_OPTIMIZERS[bundle.precision]),
    )
    names = [item.name for item in session.get_inputs()]
    task = qa_task(bundle)

    def answer(item: QAInput) -> None:
        encoding = task.encode(item)
        outputs = [session.run(list(task.output_names), window.feed(names)) for window in encoding.windows]
        task.decode(encoding, [(start[0], end[0]) for start, end in outputs])

    return answer


def over_http(url: str) -> Callable[[QAInput], None]:
    """One kept-alive connection. Raises: RuntimeError if an answer is not 200."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def answer(item: QAInput) -> None:
        body = json.dumps({"question": item.question, "context": item.context})
        connection.request("POST", "/qa", body, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{url}/qa answered {response.status}: {content.decode()}")

    return answer


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
    except (BundleError, OSError) as error:
        sys.stderr.write(f"{error}; start the service with `make serve`\n")
        return 2
    local, remote = in_process(bundle, threads), over_http(arguments.url)
    tokenizer = qa_task(bundle).tokenizer
    sys.stdout.write(f"{threads} threads, {arguments.pairs} pairs, milliseconds\n")
    sys.stdout.write("tokens  in process p50 / p99   over HTTP p50 / p99   cost at p50\n")
    for tokens in arguments.tokens:
        item = input_of(tokens, tokenizer)
        pairs = [(milliseconds(local, item), milliseconds(remote, item)) for _ in range(arguments.pairs + 20)][20:]
        own, http_ = (sorted(column) for column in zip(*pairs, strict=True))
        p99 = int(0.99 * len(own))
        cost = statistics.median(http_) - statistics.median(own)
        sys.stdout.write(
            f"{tokens:6}  {statistics.median(own):12.3f} / {own[p99]:.3f}  {statistics.median(http_):12.3f} / "
            f"{http_[p99]:.3f}  {cost:10.3f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
