"""Says how a report came out: a figure with a sentence each, for the page and for the README."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.bench.measurements import LOADED
from loadtest.record import Row
from loadtest.report.document import Report
from loadtest.report.peers import ALONE, failures, ratios
from loadtest.report.rows import best_setting, grouped, number, present

DEFAULT_TOKENS = 128  # the length that single figures are about, or the nearest that was measured
PAPER_DISTILBERT, PAPER_BERT = 410.0, 668.0  # seconds; Sanh et al. 2019, table 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds a figure, and what it says. `is_main`: it stands in the README too."""

    value: str
    text: str
    is_main: bool = True


def findings(report: Report) -> list[Finding]:
    """List what the parts found that are there."""
    return [
        finding for part, find in FOUND.items() if part in report.records for finding in find(report.records[part].rows)
    ]


def of_grid(rows: Sequence[Row]) -> Iterator[Finding]:
    whole = present(rows, "tokens", "end_to_end_p50_ms")
    for (task, bundle), found in grouped(whole, "task", "bundle").items():
        row = min(best_setting(found), key=_distance)
        share = (number(row, "inference_p50_ms") or 0.0) / row["end_to_end_p50_ms"] * 100
        p99 = number(row, "end_to_end_p99_ms")
        tail = "" if p99 is None else f", {p99:.1f} ms at p99"
        text = f"{task}, {row['tokens']} tokens, {bundle} ({row.get('precision')}): median, end to end{tail}"
        text += f"; {share:.0f}% of it is inference"
        yield Finding(f"{row['end_to_end_p50_ms']:.2f} ms", text, task == LOADED)
    gains = list(_int8_gains(whole))
    if gains:
        low, high = min(gains), max(gains)
        value = f"{low:.2f} to {high:.2f} times" if f"{low:.2f}" != f"{high:.2f}" else f"{low:.2f} times"
        yield Finding(value, "int8 over fp32, inference alone, over all lengths and threads")


def of_throughput(rows: Sequence[Row]) -> Iterator[Finding]:
    for (task, bundle), found in grouped(present(rows, "requests_per_s", "concurrency"), "task", "bundle").items():
        row = max(found, key=lambda row: float(row["requests_per_s"]))
        text = f"{task}, {row.get('tokens')} tokens, {bundle}: the most, at {row['concurrency']} connections"
        yield Finding(f"{row['requests_per_s']:.0f} requests/s", text, task == LOADED)


def of_peers(rows: Sequence[Row]) -> Iterator[Finding]:
    fair = [ratio for ratio in ratios(rows) if ratio.is_fair]
    for concurrency in sorted({ratio.concurrency for ratio in fair}):
        found = [ratio for ratio in fair if ratio.concurrency == concurrency]
        ahead = sorted((ratio for ratio in found if ratio.times > 1), key=lambda ratio: -ratio.times)
        names = ", ".join(f"{ratio.peer} on {ratio.task} {ratio.times:.2f} times" for ratio in ahead)
        what = "p50 alone" if concurrency == ALONE else f"requests/s at {concurrency} connections"
        text = f"comparisons led on the same bundle, {what}; ahead of us: {names or 'none'}"
        yield Finding(f"{len(found) - len(ahead)} of {len(found)}", text)
    lost = failures(rows)
    if lost:
        yield Finding(
            f"{len(lost)}", f"peers that could not be measured in full: {', '.join(lost)}; the table has the reasons"
        )


def of_infinity(rows: Sequence[Row]) -> Iterator[Finding]:
    found = present(rows, "tokens", "requests_per_s", "infinity_requests_per_s")
    if found:
        level = [row for row in found if row["requests_per_s"] >= row["infinity_requests_per_s"]]
        text = "lengths at which DistilBERT-base, served by us at batch 1, is level with or ahead of what Hugging Face"
        yield Finding(
            f"{len(level)} of {len(found)}", f"{text} published for Infinity (on two physical cores of another CPU)"
        )


def of_table3(rows: Sequence[Row]) -> Iterator[Finding]:
    """Compare models on the same back end: DistilBERT with BERT-base, and the quickest of all with BERT-base."""
    found = present(rows, "seconds")
    for (backend,), models in grouped(found, "backend").items():
        bert = [row for row in models if _is_named(row, "bert-base") and not _is_named(row, "distil")]
        distilbert = [row for row in models if _is_named(row, "distilbert")]
        if bert and distilbert:
            times, paper = bert[0]["seconds"] / distilbert[0]["seconds"], PAPER_BERT / PAPER_DISTILBERT
            yield Finding(
                f"{times:.2f} times",
                f"DistilBERT over BERT-base, {backend}, STS-B at batch 1; the paper has {paper:.2f}",
            )
    bert = [row for row in found if _is_named(row, "bert-base") and not _is_named(row, "distil")]
    if bert and len(found) > len(bert):
        slowest = max(bert, key=lambda row: float(row["seconds"]))
        quickest = min(found, key=lambda row: float(row["seconds"]))
        text = f"{quickest['model']} ({quickest.get('backend')}) over {slowest['model']} ({slowest.get('backend')})"
        yield Finding(f"{slowest['seconds'] / quickest['seconds']:.0f} times", f"{text}, STS-B at batch 1")


FOUND: Mapping[str, Callable[[Sequence[Row]], Iterator[Finding]]] = {
    "grid": of_grid,
    "throughput": of_throughput,
    "peers": of_peers,
    "infinity": of_infinity,
    "table3": of_table3,
}


def _distance(row: Row) -> float:
    return abs(float(row["tokens"]) - DEFAULT_TOKENS)


def _int8_gains(rows: Sequence[Row]) -> Iterator[float]:
    names = ("task", "bundle", "threads", "tokens")
    for found in grouped(present(rows, "inference_p50_ms"), *names).values():
        times = {row.get("precision"): row["inference_p50_ms"] for row in found}
        if {"int8", "fp32"} <= times.keys():
            yield times["fp32"] / times["int8"]


def _is_named(row: Row, name: str) -> bool:
    return name in str(row.get("model", "")).lower()
