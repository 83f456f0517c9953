"""Says which lines and branches of service and models/tasks ran, each by itself, and fails below its bound.

`make coverage` gives it the JSON report of coverage.py, whose own bound is over lines and branches of all together.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

PARTS = ("service", "models/tasks")
ENOUGH = 0.95


def main(argv: Sequence[str] | None = None) -> int:
    """Returns: 0 if each part has enough of its lines and enough of its branches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="as `coverage json` writes it")
    files = json.loads(parser.parse_args(argv).report.read_text(encoding="utf-8"))["files"]
    enough = True
    for part in PARTS:
        summaries = [file["summary"] for name, file in files.items() if name.startswith(f"{part}/")]
        counts = []
        for kind, number in (("lines", "num_statements"), ("branches", "num_branches")):
            covered = sum(summary[f"covered_{kind}"] for summary in summaries)
            total = sum(summary[number] for summary in summaries)
            share = covered / total if total else 0.0
            enough = enough and share >= ENOUGH
            counts.append(f"{covered:,} of {total:,} {kind} ({share:.1%})")
        sys.stdout.write(f"{part}: {', '.join(counts)}\n")
    return int(not enough)


if __name__ == "__main__":
    sys.exit(main())
