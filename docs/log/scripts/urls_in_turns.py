"""Compares servers that run already: the same question to each in turns, at some numbers of connections.

From the root of the repository: python -m docs.log.scripts.urls_in_turns off=http://127.0.0.1:8000 on=http://127.0.0.1:8001
"""

import argparse
import statistics
from pathlib import Path

from loadtest.bench.against_plain import WARM_UP_S, Comparison
from loadtest.bench.measurements import LOADED, checked, percentile, say
from loadtest.connection import closed_loop
from models.tasks.bundle import load_bundle


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.log.scripts.urls_in_turns")
    parser.add_argument("servers", nargs="+", metavar="NAME=URL", help="the first is what the others are compared with")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    servers = dict(server.split("=", 1) for server in options.servers)
    bundle = load_bundle(Path("bundles") / LOADED)
    request = Comparison(bundle, bundle.path.parent, options.seconds, options.rounds, starts=0).request()
    say("concurrency  server  requests/s  times  p50 ms  times  p99 ms  times")
    for concurrency in options.concurrency:
        rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in servers}
        for number in range(options.rounds):
            for name in list(servers) if number % 2 else reversed(servers):
                closed_loop(servers[name], [request], concurrency, WARM_UP_S)
                answers = closed_loop(servers[name], [request], concurrency, options.seconds)
                times = [checked(answer).milliseconds for answer in answers]
                figures = (len(times) / options.seconds, statistics.median(times), percentile(times, 99))
                rounds[name].append(figures)
        baselines = next(iter(rounds.values()))
        for name, measured in rounds.items():
            cells = []
            for index, digits in enumerate((0, 2, 1)):
                median = statistics.median(figures[index] for figures in measured)
                ratios = [own[index] / base[index] for own, base in zip(measured, baselines, strict=True)]
                cells.append(f"{median:10.{digits}f}  {statistics.median(ratios):5.2f}")
            say(f"{concurrency:11}  {name:<6}  {'  '.join(cells)}")


if __name__ == "__main__":
    main()
