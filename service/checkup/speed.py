"""Times a small random encoder here: what int8 gains over fp32, and how many threads pay."""

from dataclasses import dataclass
from typing import Any, Literal

from models.tasks.base import Features, Outputs, Run
from models.tasks.bundle import DISABLED_OPTIMIZERS
from models.tasks.session import Cancellation, onnx_run, open_graph
from service.checkup.encoder import Encoder, Precision
from service.checkup.finding import Finding
from service.startup.tuning import MAX_WIDER_SHARE, milliseconds

LENGTHS = (16, 128, 384)  # tokens
WIDE_TOKENS = 128  # of the inference that may run on several threads
BUSY = "Run this again on a quiet machine: these timings are worthless."
MIN_GAIN = 1.1  # below it int8 is not worth its rounding


@dataclass(frozen=True, slots=True)
class EncoderSession:
    """Runs the random encoder; it has one number of threads, whatever `wide` says."""

    forward: Run

    def run(self, window: Features, cancellation: Cancellation | None = None, *, wide: bool = False) -> Outputs:  # noqa: ARG002
        return self.forward(window)


def open_encoder(precision: Precision, threads: int) -> EncoderSession:
    """Make the random encoder and open it as the service opens a bundle of this precision."""
    model, output = Encoder(precision).model()
    graph = open_graph(model, threads=threads, disabled_optimizers=DISABLED_OPTIMIZERS[precision])
    return EncoderSession(onnx_run(graph, [output]))


def int8_gain(*, is_busy: bool) -> Finding:
    """Compare int8 with fp32 on one thread. `is_busy`: the machine is, so that no timing asks for anything."""
    fp32, int8 = open_encoder("fp32", 1), open_encoder("int8", 1)
    rows = [(milliseconds(fp32, tokens, wide=False), milliseconds(int8, tokens, wide=False)) for tokens in LENGTHS]
    gains = {tokens: fp32_ms / int8_ms for tokens, (fp32_ms, int8_ms) in zip(LENGTHS, rows, strict=True)}
    phrases = [f"{gain:.1f} times at {tokens}" for tokens, gain in gains.items()]
    text = f"{', '.join(phrases[:-1])} and {phrases[-1]} tokens (3 layers of 384, random weights, one thread)"
    values: dict[str, Any] = {"tokens": list(LENGTHS), "gain": [round(gain, 2) for gain in gains.values()]}
    values |= {"fp32_ms": [round(row[0], 3) for row in rows], "int8_ms": [round(row[1], 3) for row in rows]}
    if is_busy:
        return Finding("int8", "note", text, BUSY, values)
    if gains[WIDE_TOKENS] >= MIN_GAIN:
        return Finding("int8", "ok", text, values=values)
    advice = 'Serve fp32 here: export with --keep-fp32, and name "onnx/model.onnx" as file in halfdepth.json.'
    return Finding("int8", "act", text, advice, values)


def threads_that_pay(cores: int, setting: int | Literal["auto"], *, is_busy: bool) -> Finding:
    """Double the threads of an inference that runs alone, up to the cores, for as long as that pays."""
    times = {1: milliseconds(open_encoder("int8", 1), WIDE_TOKENS, wide=False)}
    best = 1
    while best < cores and best == max(times):
        threads = min(2 * best, cores)
        times[threads] = milliseconds(open_encoder("int8", threads), WIDE_TOKENS, wide=False)
        if times[threads] <= MAX_WIDER_SHARE * times[best]:
            best = threads
    times_text = ", ".join(f"{time:.1f} ms on {threads}" for threads, time in times.items())
    text = f"{best} for an inference of {WIDE_TOKENS} tokens that runs alone: it takes {times_text}"
    values = {"threads": list(times), "ms": [round(time, 3) for time in times.values()], "best": best}
    if is_busy:
        return Finding("threads", "note", text, BUSY, values)
    if setting == "auto":
        advice = "Nothing needs doing: the service measures this at its start with your bundles, and goes on learning."
    else:
        advice = f"Unset HALFDEPTH_THREADS={setting} to let the service choose, unless you mean to keep cores free."
    return Finding("threads", "ok" if setting == "auto" else "note", text, advice, values)
