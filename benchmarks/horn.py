"""The peer for one context: Spacer (Z3's Horn solver) on the clauses that `modelcheck export --to smt2` writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from modelcheck import system
from modelcheck.export.horn import horn
from modelcheck.invariant import Lives
from modelcheck.ir import Root
from modelcheck.system import System

MEMORY = 8 * 1024**3
"""Bytes of address space for the child."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`verdict`: safe, unsafe or unknown (time or memory ran out); `seconds` of solving alone."""

    verdict: str
    seconds: float


def solve(root: Root, obligations: Iterable[int], lives: Lives, seconds: int, blocks: bool = True) -> Answer:
    """Asks Spacer whether any obligation can be broken: with large blocks, or one relation for each location."""
    system.MAX_EDGES = 10**6  # how large a root may be is no question here
    text = horn([System(root, frozenset(obligations), lives)], blocks)
    request = json.dumps({"text": text, "seconds": seconds})
    command = [sys.executable, "-m", "benchmarks.horn"]
    started = time.perf_counter()
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=seconds + 5, check=False)
    except subprocess.TimeoutExpired:
        return Answer("unknown", seconds)
    if done.returncode != 0:
        return Answer("unknown", time.perf_counter() - started)
    answer = json.loads(done.stdout)
    return Answer(answer["verdict"], answer["seconds"])


def main() -> int:
    """The child: reads a request, writes the answer."""
    import resource

    import z3

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    request = json.load(sys.stdin)
    solver = z3.SolverFor("HORN")
    solver.set("timeout", request["seconds"] * 1000)
    solver.from_string(request["text"])
    started = time.perf_counter()
    try:
        answer = solver.check()
    except z3.Z3Exception:
        answer = z3.unknown
    verdict = "safe" if answer == z3.sat else "unsafe" if answer == z3.unsat else "unknown"
    json.dump({"verdict": verdict, "seconds": time.perf_counter() - started}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
