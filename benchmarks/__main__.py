"""Measures modelcheck beside its peers: generates models, runs every tool on them, checks what they say, reports.

Verdicts come first: who answers wrongly or gives up is shown as that, never as fast. Each time is the median of its
runs; tools on the same model run in turn. It ends with the figures that fall short of `targets.toml`, and with status 1
if a verdict of modelcheck was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Bench
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 90 s")
    parser.add_argument("--only", choices=PARTS, action="append", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="after which a peer gives up (default: 240)")
    parser.add_argument("--largest", type=int, default=300_000, metavar="STATEMENTS", help="no larger drivers")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON of all runs; beside it .md, time.svg, memory.svg"
    )
    options = parser.parse_args()
    started = time.perf_counter()
    limit = options.limit or (1 if options.quick else 240)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(
            Path(name), options.quick, limit, options.largest, lambda told: print(report.line(told), flush=True)
        )
        for part in options.only or PARTS:
            PARTS[part].run(bench)
    print(f"{time.perf_counter() - started:.0f} s")
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report.whole(bench), indent=1) + "\n")
        options.output.with_suffix(".md").write_text(report.markdown(bench))
        for file in draw(bench.medians, options.output.parent):
            print(file)
    print("\n".join(report.short(bench)) or "nothing falls short")
    wrong = [run for run in bench.medians if run.state == "WRONG" and run.tool.startswith("modelcheck")]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
