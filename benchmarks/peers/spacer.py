"""Spacer, Z3's solver for Horn clauses, on one system of clauses for all roots (`modelcheck export --to smt2`).

With *large blocks* there is a relation at the entry and at each head of a loop, with `--points` one for each location.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import z3

from benchmarks.measure import Answer
from benchmarks.peers import child
from modelcheck.export.horn import horn
from modelcheck.system import System

BLOCKS = "Spacer, large blocks"
POINTS = "Spacer, one predicate a point"


def ask(systems: Sequence[System], blocks: bool, seconds: float, folder: Path) -> Answer:
    """Whether any obligation can be broken. Reading the clauses is not counted."""
    file = folder / ("blocks.smt2" if blocks else "points.smt2")
    file.write_text(horn(systems, blocks))
    return child.ask("spacer", seconds, [file])


def main() -> None:
    seconds, file = float(sys.argv[1]), Path(sys.argv[2])
    solver = z3.SolverFor("HORN")
    solver.set("timeout", int(seconds * 1000))
    solver.from_string(file.read_text())
    started = time.perf_counter()
    why = ""
    try:
        found = solver.check()
    except z3.Z3Exception as error:
        found, why = z3.unknown, str(error)
    took = time.perf_counter() - started
    verdict = "safe" if found == z3.sat else "unsafe" if found == z3.unsat else "unknown"
    child.answer(verdict, took, why or (solver.reason_unknown() if verdict == "unknown" else ""))


if __name__ == "__main__":
    main()
