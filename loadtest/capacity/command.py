"""Runs `halfdepth loadtest capacity`: how many replicas a load needs, and how far that is right."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from loadtest.bench.measurements import say
from loadtest.capacity.check import Trial, check
from loadtest.capacity.costs import PART, CostTable, estimated, table_of
from loadtest.capacity.measure import measure, started, target
from loadtest.capacity.mix import DEFAULT, Mix, read_mix
from loadtest.capacity.planning import HOURS_A_MONTH, Answer, CapacityError, Need, smallest
from loadtest.capacity.simulation import Balancer
from loadtest.process import sigterm_raised
from loadtest.record import Row, read_record, record
from loadtest.routes import read_all_routes
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import KEY_HELP, Client, client_key

MOST_RPS = 1_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityOptions(Options):
    """Say how many replicas of how many cores a load needs, at what utilization and with what tail.

    Costs are measured first: of each kind of request in the mix, alone and with every core busy, on a service that is
    started here, for each number of cores that this machine has; or they come from --costs or --url. A simulation of
    replicas behind a balancer then finds the fewest that keep 99 in 100 requests within --p99. --check compares the
    simulation with measured runs. Exits 1 where the check fails. Runs on Linux only.
    """

    rps: Annotated[float | None, Flag("requests a second to bear, a million at most", above=0)] = None
    p99: Annotated[float | None, Flag("bound that 99 in 100 requests keep, milliseconds", above=0)] = None
    mix: Annotated[
        Path | None, Flag("JSON: shares of routes, and of lengths on each (docs/load.md)", metavar="FILE")
    ] = None
    cores_per_replica: Annotated[tuple[int, ...], Flag("sizes of a replica to choose among, cores", above=0)] = (1, 2)
    balancer: Annotated[Balancer, Flag("how requests are dealt among replicas; deploy/nginx.conf has the default")] = (
        "least-connections"
    )
    price: Annotated[float | None, Flag("of a core for an hour, in any currency", above=0)] = None
    bundles: Annotated[Path, Flag("directory of the bundles to serve for the costs", metavar="DIR")] = Path("bundles")
    costs: Annotated[Path | None, Flag("measure nothing: costs as --out has written them", metavar="FILE")] = None
    url: Annotated[str | None, Flag("measure a running replica, which this loads to its limit")] = None
    url_cores: Annotated[int, Flag("cores of the replica at --url", above=0)] = 1
    info: Annotated[bool, Flag("do not load --url, but take the costs that it estimates itself")] = False
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    seconds: Annotated[float, Flag("duration of a measurement of costs, seconds", above=0)] = 1.5
    rounds: Annotated[int, Flag("rounds of costs, or of --check", above=0)] = 5
    check_simulation: Annotated[bool, Flag("compare the simulation with measured runs instead", name="--check")] = False
    loads: Annotated[tuple[float, ...], Flag("shares of saturation that --check measures", above=0, below=1)] = (
        0.3,
        0.5,
        0.7,
    )
    check_seconds: Annotated[float, Flag("duration of a run of --check, seconds", above=0)] = 15.0
    out: Annotated[Path, Flag("where costs, plans or the check are written", metavar="DIR")] = Path("runs/capacity")

    def check(self) -> None:
        if not self.check_simulation and None in (self.rps, self.p99, self.mix):
            raise UsageError("give --rps, --p99 and --mix, or --check")
        if self.rps is not None and self.rps > MOST_RPS:
            raise UsageError(f"--rps must be a million at most, not {self.rps:g}")
        if self.costs is not None and (self.url is not None or self.check_simulation):
            raise UsageError("--costs measures nothing, so --url and --check mean nothing with it")
        if self.info and self.url is None:
            raise UsageError("--info needs --url")
        if self.check_simulation and (
            self.url is not None or (len(self.cores_per_replica) > 1 and not self._is_default())
        ):
            raise UsageError("--check starts a service itself, of one number of --cores-per-replica")

    def _is_default(self) -> bool:
        return self.cores_per_replica == CapacityOptions.__dataclass_fields__["cores_per_replica"].default


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest capacity") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Return 1 if the check fails. Raises: MixError, CapacityError, LoadTestError, RecordError, UsageError."""
    options = read_options(CapacityOptions, prog, argv)
    mix = DEFAULT if options.mix is None else read_mix(options.mix)
    with sigterm_raised():
        if options.check_simulation:
            return checked(options, mix)
        table = costs_for(options, mix)
    plan(options, mix, table)
    return 0


def costs_for(options: CapacityOptions, mix: Mix) -> CostTable:
    """Read or measure the costs of each kind in the mix."""
    if options.costs is not None:
        return table_of(read_record(options.costs).rows)
    kinds, key, rows = list(mix), client_key(options.api_key), list[Row]()
    if options.url is not None:
        client = Client.of(options.url, options.api_key)
        if options.info:
            return estimated(client.get("/info"), read_all_routes(client, None), kinds)
        rows += measure(target(client, options.url_cores, kinds), mix, options.rounds, options.seconds).rows
    else:
        for cores in options.cores_per_replica:
            with started(options.bundles, cores, kinds, key) as subject:
                rows += measure(subject, mix, options.rounds, options.seconds).rows
    record(PART, rows).write(options.out / "costs.json")
    return CostTable(rows)


def plan(options: CapacityOptions, mix: Mix, table: CostTable) -> None:
    """Print the smallest plan for each size of a replica. Raises: CapacityError if no size does it."""
    assert options.rps is not None
    assert options.p99 is not None
    need = Need(options.rps, options.p99, options.balancer)
    for (route, cores), (fixed, slope, miss) in table.lines().items():
        say(f"{route}, {cores} cores: {fixed:.2f} ms + {slope:.4f} ms a token of one core, within {miss:.0%}")
    say(f"\n{need.rps:g} requests/s, p99 within {need.p99_ms:g} ms, {need.balancer}")
    say(
        f"{'cores each':>10} {'replicas':>9} {'cores':>7} {'used':>6} {'p50 ms':>8} {'p99 ms':>8}  {'p99 by route, ms'}"
    )
    rows, reasons = list[Row](), list[CapacityError]()
    for cores in options.cores_per_replica:
        costs = {kind: table.cost(kind, cores) for kind in mix}
        try:
            answer = smallest(need, cores, costs, mix)
        except CapacityError as error:
            say(f"{cores:10} {error}")
            reasons.append(error)
            continue
        rows.append(row_of(answer, mix, options.price))
        say(line_of(rows[-1]))
        if cores not in table.cores():
            say(f"{'':10} costs were not measured on {cores} cores: each core is taken to do what one of fewer did")
    if not rows:
        raise reasons[0]
    record("capacity", rows).write(options.out / "capacity.json")


def row_of(answer: Answer, mix: Mix, price: float | None) -> Row:
    routes = {kind.route: 0 for kind in mix}
    outcome, row = answer.outcome, answer.plan
    prices: Mapping[str, float] = {}
    if price is not None:
        hour = answer.price_per_hour(price)
        prices = {
            "price_per_hour": hour,
            "price_per_month": hour * HOURS_A_MONTH,
            "price_per_million_requests": hour / (row.rate * 3600) * 1e6,
        }
    return {
        "rate": row.rate,
        "balancer": row.balancer,
        "cores": row.cores,
        "replicas": row.replicas,
        "total_cores": row.cores * row.replicas,
        "utilization": answer.utilization,
        "p50_ms": outcome.percentile(50),
        "p99_ms": outcome.percentile(99),
        **{f"{route} p99_ms": outcome.percentile(99, route) for route in routes},
        **prices,
    }


def line_of(row: Row) -> str:
    routes = [f"{name.split()[0]} {row[name]:.1f}" for name in row if name.endswith(" p99_ms")]
    line = (
        f"{row['cores']:10} {row['replicas']:9} {row['total_cores']:7} {row['utilization']:6.0%} "
        f"{row['p50_ms']:8.2f} {row['p99_ms']:8.2f}  {', '.join(routes)}"
    )
    if "price_per_hour" in row:
        prices = f"{row['price_per_hour']:,.2f} an hour, {row['price_per_month']:,.0f} a month"
        line += f"\n{'':10} {prices}, {row['price_per_million_requests']:.4f} for a million requests"
    return line


def checked(options: CapacityOptions, mix: Mix) -> int:
    """Print the simulation beside what was measured. Returns: 1 if they differ by more than the bounds."""
    trial = Trial(options.loads, options.rounds, options.check_seconds, options.seconds)
    cores = options.cores_per_replica[0]
    with started(options.bundles, cores, list(mix), client_key(options.api_key)) as subject:
        rows = check(subject, mix, trial)
    record("capacity_check", rows).write(options.out / "check.json")
    say(f"{cores} cores, medians of {trial.rounds} runs of {trial.seconds:g} s, arrivals at random; milliseconds")
    tail_head = f"{'simulated':>10} {'off':>6}"
    say(f"{'load':>5} {'requests/s':>11} {'p50':>8} {tail_head} {'p99':>8} {tail_head}")
    for row in rows:
        tails = [
            f"{row[f'measured_{name}_ms']:8.2f} {row[f'simulated_{name}_ms']:10.2f} {row[f'{name}_off']:+6.0%}"
            for name in ("p50", "p99")
        ]
        bounds = "" if row["agrees"] else "  out of bounds"
        say(f"{row['load']:5.0%} {row['rate']:11.1f} {' '.join(tails)}{bounds}")
    return 0 if all(row["agrees"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
