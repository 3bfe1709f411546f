"""Measures modelcheck beside its peers: generates models, runs every tool on them, checks what they say, reports.

Verdicts come first: who answers wrongly or gives up is shown as that, never as fast. Each time is the median of its
runs; tools on the same model run in turn. It ends with the figures that fall short of `targets.toml`, and with status 1
if any tool said something wrong of any model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.measure import SECONDS, Bench
from benchmarks.parts import contexts, drivers, examples, peers, processes, tree
from benchmarks.plots import draw

PARTS = {
    "processes": processes,
    "drivers": drivers,
    "peers": peers,
    "contexts": contexts,
    "examples": examples,
    "tree": tree,
}


README = Path(__file__).parent / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 90 s")
    parser.add_argument("--only", choices=PARTS, action="append", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="SECONDS",
        help=f"after which a peer gives up, if no target asks for more (default: {SECONDS})",
    )
    parser.add_argument("--largest", type=int, default=300_000, metavar="STATEMENTS", help="no larger drivers")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON of all runs, after each part; beside it .md and plots"
    )
    parser.add_argument(
        "--fill", type=Path, nargs="+", metavar="FILE", help="measure nothing: what FILEs say into README.md's tables"
    )
    options = parser.parse_args()
    if options.fill is not None:
        tables = report.markdown(report.merged([json.loads(file.read_text()) for file in options.fill]))
        README.write_text(report.fill(README.read_text(), tables))
        return 0
    started = time.perf_counter()
    limit = options.limit or (1 if options.quick else SECONDS)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(
            Path(name), options.quick, limit, options.largest, lambda told: print(report.line(told), flush=True)
        )
        for part in options.only or PARTS:
            PARTS[part].run(bench)
            bench.parts.append(part)
            if options.output is not None:
                write(bench, options.output)
    print(f"{time.perf_counter() - started:.0f} s")
    short = report.short(bench)
    if not options.quick and not options.only:
        short += report.unmeasured(bench)
    print("\n".join(short) or "nothing falls short")
    wrong = report.disagreements(bench)
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def write(bench: Bench, output: Path) -> None:
    """What was measured so far."""
    found = report.whole(bench)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")
    output.with_suffix(".md").write_text(f"# Benchmarks\n\n{report.markdown(found)}")
    draw(bench.medians, output.parent)


if __name__ == "__main__":
    sys.exit(main())
