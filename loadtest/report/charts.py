"""Draws each part of the report: rows of a measurement to panels."""

from collections.abc import Callable, Mapping, Sequence

from loadtest.record import Row
from loadtest.report.peers import Ratio, ratios
from loadtest.report.rows import best_setting, grouped, number, present
from loadtest.report.svg import WIDTH, Panel, Scale, log_bounds, short

LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 56.0, 32.0
HEIGHT = 236.0
LABEL = 14.0  # the height of a value with its distance
APART = 24.0  # between two values under an axis
STYLES = ("s1", "s2", "s4", "s5", "s3")
STAGES = (("s2", "tokenization"), ("s1", "inference"), ("s3", "HTTP, queue, decoding"))


def latency(rows: Sequence[Row]) -> list[Panel]:
    """Stack the stages of a request by its length: one panel for each bundle, on its best setting of int8 and threads.

    The tick above a bar is the 99th percentile, end to end.
    """
    panels = []
    for (task, bundle), bundle_rows in grouped(present(rows, "tokens", "end_to_end_p50_ms"), "task", "bundle").items():
        setting = best_setting(bundle_rows)
        panel = Panel(f"{task}: {bundle}", HEIGHT)
        panel.text(0, 28, f"{setting[0]['precision']}, {_threads(setting[0])}; median ms, a tick at p99")
        panel.legend(STAGES, y=44)
        stacks = [_stack(row) for row in setting]
        tails = [number(row, "end_to_end_p99_ms") for row in setting]
        # A tail far out is cut off, so that the bars can be read.
        top = max(sum(stack) for stack in stacks) * 1.12
        up = _left_axis(panel, Scale(0, max(top, min(max(filter(None, tails), default=0), top * 1.25)), 0, 0))
        step = (WIDTH - LEFT - RIGHT) / len(setting)
        for index, (row, stack, tail) in enumerate(zip(setting, stacks, tails, strict=True)):
            x, base = LEFT + step * index + step * 0.16, 0.0
            for (style, stage), value in zip(STAGES, stack, strict=True):
                panel.box(x, up(base + value), step * 0.68, up(base) - up(base + value), style, f"{stage}: {value:.3f}")
                base += value
            place = up(base) - 4
            if tail is not None and tail <= up.high:
                panel.line(x, up(tail), x + step * 0.68, up(tail), "mark")
                if up(base) - up(tail) < LABEL:  # the value would be struck through
                    place = min(place, up(tail) - 4)
            panel.text(x + step * 0.34, place, short(base), "value small", "middle")
            mark = "*" if row.get("truncated") else ""
            panel.text(x + step * 0.34, HEIGHT - BOTTOM + 14, short(float(row["tokens"])) + mark, anchor="middle")
        below = "tokens; * cut to the model's limit" if any(row.get("truncated") for row in setting) else "tokens"
        panel.text(WIDTH - RIGHT, HEIGHT - 4, below, anchor="end")
        panel.said = f"Median of {short(sum(stacks[0]))} to {short(sum(stacks[-1]))} ms."
        panels.append(panel)
    return panels


def settings(rows: Sequence[Row]) -> list[Panel]:
    """Draw the median by length, a line for each precision and number of threads, one panel for each bundle."""
    panels = []
    for (task, bundle), bundle_rows in grouped(present(rows, "tokens", "end_to_end_p50_ms"), "task", "bundle").items():
        lines = grouped(bundle_rows, "precision", "threads")
        if len(lines) < 2:
            continue
        series = {
            f"{precision}, {_threads(found[0])}": [(float(row["tokens"]), row["end_to_end_p50_ms"]) for row in found]
            for (precision, _), found in lines.items()
        }
        title = f"{task}: {bundle}"
        panels.append(_lines(title, series, "median ms, by tokens", is_log_x=True))
    return panels


def throughput(rows: Sequence[Row]) -> list[Panel]:
    """Draw latency against requests a second, a point for each number of connections, one panel for each task."""
    panels = []
    for (task, bundle), found in grouped(present(rows, "requests_per_s", "p50_ms", "p99_ms"), "task", "bundle").items():
        series = {
            name: [(row["requests_per_s"], row[column]) for row in found]
            for name, column in (("p50, ms", "p50_ms"), ("p99, ms", "p99_ms"))
        }
        labels = [short(float(row["concurrency"])) for row in found]
        title = f"{task}: {bundle}, {found[0].get('tokens', '?')} tokens"
        panels.append(_lines(title, series, "requests/s (beside the points: connections)", labels=labels))
    return panels


def peers(rows: Sequence[Row]) -> list[Panel]:
    """Draw how many times as fast as we are each peer is, one panel for each task and number of connections."""
    panels = []
    for (task, concurrency), found in _by_case(ratios(rows)).items():
        metric = found[0].metric
        row_height = 30.0
        panel = Panel(f"{task}, {concurrency} at a time: {metric}", 62 + row_height * len(found))
        panel.text(0, 30, "times as fast as ours; red: ahead; grey: other model")
        low, high = log_bounds([1.0, *(ratio.times for ratio in found)])
        along = Scale(low, high, 2, WIDTH - 42, is_log=True)
        panel.line(along(1), 38, along(1), panel.height - 18, "axis")
        panel.text(along(1), panel.height - 5, "1", anchor="middle")
        for index, ratio in enumerate(sorted(found, key=lambda ratio: ratio.times)):
            y = 50 + row_height * index
            style = "bad" if ratio.times > 1 else "s1" if ratio.is_fair else "s3"
            start, end = sorted((along(1), along(ratio.times)))
            panel.text(0, y, f"{ratio.peer} · {ratio.model}", "value")
            panel.box(start, y + 4, max(end - start, 1.5), 9, style, f"{ratio.value:.4g} against our {ratio.ours:.4g}")
            panel.text(end + 4, y + 12, f"{ratio.times:.2f}", "value small")
        ahead = [ratio.peer for ratio in found if ratio.times > 1]
        panel.said = f"Ahead of us: {', '.join(ahead) or 'none'}."
        panels.append(panel)
    return panels


def infinity(rows: Sequence[Row]) -> list[Panel]:
    """Draw requests a second at batch 1 by length, ours beside Hugging Face Infinity's."""
    names = ("requests_per_s", "infinity_requests_per_s")
    found = present(rows, "tokens", *names)
    if not found:
        return []
    panel = Panel("DistilBERT-base, batch 1: requests/s", HEIGHT)
    panel.legend((("s1", "ours, this machine"), ("s3", "Infinity, as published")), y=31)
    up = _left_axis(panel, Scale(0, max(row[name] for row in found for name in names) * 1.12, 0, 0))
    step = (WIDTH - LEFT - RIGHT) / len(found)
    for index, row in enumerate(found):
        x = LEFT + step * index + step * 0.08
        for name, style in zip(names, ("s1", "s3"), strict=True):
            panel.box(x, up(row[name]), step * 0.4, up(0) - up(row[name]), style, f"{row[name]:.1f}")
            x += step * 0.42
        panel.text(
            x - step * 0.42, up(max(row[name] for name in names)) - 4, short(row[names[0]]), "value small", "middle"
        )
        panel.text(x - step * 0.42, HEIGHT - BOTTOM + 14, short(float(row["tokens"])), anchor="middle")
    panel.text(WIDTH - RIGHT, HEIGHT - 4, "tokens; above the bars: ours", anchor="end")
    return [panel]


def table3(rows: Sequence[Row]) -> list[Panel]:
    """Draw the seconds of a pass over STS-B dev, one bar for each model, beside the paper's where it has them."""
    found = present(rows, "seconds")
    if not found:
        return []
    panel = Panel("A pass over STS-B dev, batch 1: seconds", 60 + 34.0 * len(found))
    panel.legend((("s1", "here"), ("s3", "the paper's machine")), y=31)
    seconds = [number(row, name) for row in found for name in ("seconds", "paper_seconds")]
    along = Scale(0, max(filter(None, seconds)) * 1.01, 0, WIDTH - 46)
    for index, row in enumerate(found):
        y = 56 + 34.0 * index
        panel.text(0, y, f"{row.get('model')} · {row.get('backend')}", "value")
        for name, style, offset in (("seconds", "s1", 4), ("paper_seconds", "s3", 13)):
            value = number(row, name)
            if value is not None:
                panel.box(0, y + offset, max(along(value), 1), 8, style, f"{value:.1f} s")
                panel.text(along(value) + 4, y + offset + 8, short(value), "value small")
    return [panel]


DRAWN: Mapping[str, Sequence[Callable[[Sequence[Row]], list[Panel]]]] = {
    "grid": (latency, settings),
    "throughput": (throughput,),
    "peers": (peers,),
    "infinity": (infinity,),
    "table3": (table3,),
}


def _stack(row: Row) -> list[float]:
    """Split the median of a request: tokenization, inference, and what is beside them."""
    total = float(row["end_to_end_p50_ms"])
    tokenization = number(row, "tokenization_p50_ms") or 0.0
    inference = number(row, "inference_p50_ms") or 0.0
    return [tokenization, inference, max(total - tokenization - inference, 0.0)]


def _threads(row: Row) -> str:
    return "1 thread" if row.get("threads") == 1 else f"{row.get('threads')} threads"


def _left_axis(panel: Panel, scale: Scale, bottom: float = HEIGHT - BOTTOM) -> Scale:
    """Draw rules with their values at the left. Returns: the scale, on its place in the picture."""
    up = Scale(scale.low, scale.high, bottom, TOP, scale.is_log)
    for tick in up.ticks():
        panel.line(LEFT, up(tick), WIDTH - RIGHT, up(tick), "rule")
        panel.text(LEFT - 5, up(tick) + 4, short(tick), anchor="end")
    return up


def _lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    below: str,
    *,
    is_log_x: bool = False,
    labels: Sequence[str] = (),
) -> Panel:
    """Draw lines through points; the values up are logarithmic. `labels` stand beside the points of the first line."""
    panel = Panel(title, HEIGHT)
    panel.legend([(style, name) for style, name in zip(STYLES, series, strict=False)], y=31)
    points = [point for line in series.values() for point in line]
    up = _left_axis(panel, Scale(*log_bounds([y for _, y in points]), 0, 0, is_log=True))
    xs = [x for x, _ in points]
    low, high = log_bounds(xs) if is_log_x else (0.0, max(xs) * 1.1)
    along = Scale(low, high, LEFT, WIDTH - RIGHT, is_log_x)
    free = 0.0
    for tick in sorted(set(xs)) if is_log_x else along.ticks():
        if along(tick) >= free:
            panel.text(along(tick), HEIGHT - BOTTOM + 14, short(tick), anchor="middle")
            free = along(tick) + APART
    panel.text(WIDTH - RIGHT, HEIGHT - 4, below, anchor="end")
    for number_of_line, (style, (name, line)) in enumerate(zip(STYLES, series.items(), strict=False)):
        places = [(along(x), up(y)) for x, y in line]
        panel.path(places, style)
        for index, ((x, y), (px, py)) in enumerate(zip(line, places, strict=True)):
            panel.dot(px, py, style, f"{name}: {short(x)}, {y:.3g}")
            if number_of_line == 0 and index < len(labels):
                panel.text(px + 5, py + 12, labels[index], "small")
    panel.said = "; ".join(f"{name} {short(line[0][1])} to {short(line[-1][1])}" for name, line in series.items())
    return panel


def _by_case(found: Sequence[Ratio]) -> dict[tuple[str, int], list[Ratio]]:
    cases: dict[tuple[str, int], list[Ratio]] = {}
    for ratio in found:
        cases.setdefault((ratio.task, ratio.concurrency), []).append(ratio)
    return cases
