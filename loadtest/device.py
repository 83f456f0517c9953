"""Runs `halfdepth loadtest device`: question answering in the browser, measured in headless Chromium."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, Any
from urllib.parse import urlencode

from loadtest.pages import MODULES, Pages, Report, serve_pages
from loadtest.process import LoadTestError
from loadtest.record import record
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",  # its sandbox refuses to run as root
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LENGTHS = (16, 128, 384)
POLL_S = 0.5
STOP_S = 10
PART = "device"

Row = dict[str, Any]  # of a record


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions(Options):
    """Measure question answering in the browser: medians in headless Chromium, WebAssembly, one thread.

    Tokenization and inference are timed apart, as the DistilBERT paper's app did. The page is deploy/on-device; its
    library comes by npm ci --ignore-scripts --prefix deploy/on-device. Bundles of BERT-base and DistilBERT shape come
    by python -m docs.log.scripts.base_shapes DIR.
    """

    bundles: Annotated[
        tuple[Path, ...], Flag("bundles of qa; rows have the names of their directories", metavar="DIR")
    ] = (Path("bundles/qa"), Path("bundles/qa-small"))
    baseline: Annotated[str, Flag("the bundle that speedup_over_bert compares with, by its directory")] = "bert-base"
    tokens: Annotated[
        tuple[int, ...], Flag("lengths of question and passage together, tokens", above=15, below=385)
    ] = LENGTHS
    runs: Annotated[int, Flag("runs of each length, of which the median counts", above=0)] = 20
    timeout: Annotated[float, Flag("how long to wait for each row, seconds", above=0)] = 300.0
    out: Annotated[Path | None, Flag("file to write the record into, as JSON", metavar="FILE")] = None

    def check(self) -> None:
        names = [path.resolve().name for path in self.bundles]
        if twins := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"--bundles names several directories called {', '.join(twins)}; rename one")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.device") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print a line for each bundle and length, and write the record if asked. Raises: UsageError, LoadTestError."""
    options = read_options(DeviceOptions, prog, argv)
    bundles = {path.resolve().name: path.resolve() for path in options.bundles}
    for path in bundles.values():
        if not path.is_dir():
            raise LoadTestError(f"{path} is not a directory; name bundles by --bundles")
    program = chromium()
    sys.stdout.write(f"{'bundle':<20}{'MB':>8}{'tokens':>8}{'tokenization ms':>17}{'inference ms':>14}\n")
    rows = []
    with serve_pages(bundles) as pages, browser(program, address(pages, bundles, options)) as process:
        for row in received(pages, process, options.timeout):
            rows.append(row)
            line = f"{row['model']:<20}{row['megabytes']:>8.1f}{row['tokens']:>8}"
            sys.stdout.write(f"{line}{row['tokenization_ms']:>17.2f}{row['inference_ms']:>14.1f}\n")
            sys.stdout.flush()
    compared = with_speedups(rows, options.baseline)
    for row in compared:
        if row["speedup_over_bert"] is not None and row["model"] != options.baseline:
            sys.stdout.write(
                f"{row['model']} at {row['tokens']} tokens: {row['speedup_over_bert']:.2f} times as fast as "
                f"{options.baseline}\n"
            )
    if options.out:
        arguments = sys.argv[1:] if argv is None else argv
        taken = record(PART, compared, [*prog.split(), *arguments])
        replace(taken, versions={**taken.versions, **versions_of(program)}).write(options.out)


def address(pages: Pages, bundles: Mapping[str, Path], options: DeviceOptions) -> str:
    """Name the page that measures, with what it has to know."""
    parameters = [("bundle", f"/bundles/{name}") for name in bundles]
    parameters += [("tokens", str(tokens)) for tokens in options.tokens]
    return f"{pages.url}/measure.html?{urlencode([*parameters, ('runs', str(options.runs)), ('report', '/report')])}"


def chromium() -> str:
    """Find the program. Raises: LoadTestError."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise LoadTestError("Chromium is not installed; install it (on Debian: apt-get install chromium)")
    return program


@contextmanager
def browser(program: str, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Show a page in headless Chromium, on an empty profile, until the block ends."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # its last processes may still write there
        command = [program, *SWITCHES, f"--user-data-dir={profile}", url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def received(pages: Pages, process: "subprocess.Popen[bytes]", timeout_s: float) -> Iterator[Row]:
    """Return rows as the page reports them, until it is done.

    Raises: LoadTestError if the page has an error, the browser ends, or the next row takes longer than `timeout_s`.
    """
    while True:
        report = next_report(pages, process, timeout_s)
        if "error" in report:
            raise LoadTestError(f"the page says: {report['error']}")
        if "row" not in report:
            return
        yield report["row"]


def next_report(pages: Pages, process: "subprocess.Popen[bytes]", timeout_s: float) -> Report:
    end = monotonic() + timeout_s
    while monotonic() < end:
        try:
            return pages.reports.get(timeout=min(POLL_S, timeout_s))
        except Empty:
            if process.poll() is not None:
                raise LoadTestError(f"Chromium ended with status {process.returncode} before it was done") from None
    raise LoadTestError(f"nothing came from the page for {timeout_s:g} s; give more by --timeout")


def with_speedups(rows: Sequence[Row], baseline: str) -> list[Row]:
    """Add how many times as fast as the baseline each row's inference is at the same length; None without it."""
    slow = {row["tokens"]: row["inference_ms"] for row in rows if row["model"] == baseline}
    speedups = [slow[row["tokens"]] / row["inference_ms"] if row["tokens"] in slow else None for row in rows]
    return [
        row | {"speedup_over_bert": speedup and round(speedup, 2)} for row, speedup in zip(rows, speedups, strict=True)
    ]


def versions_of(program: str) -> dict[str, str]:
    """Tell what computed: the browser, and the libraries of the page."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = {"chromium": done.stdout.strip().partition(" ")[2] or "unknown"}
    for library in ("@huggingface/transformers", "onnxruntime-web"):
        package = json.loads((MODULES / library / "package.json").read_text(encoding="utf-8"))
        found[library] = package["version"]
    return found


if __name__ == "__main__":
    sys.exit(main())
