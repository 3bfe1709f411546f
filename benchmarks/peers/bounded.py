"""Bounded model checking with Z3 on transition systems: is there a run of n steps to what must not be, n = 0, 1, 2, ..?

It finds what is wrong; it proves only where no run is longer than some n: a routine without loops.

Biere, Cimatti, Clarke, Zhu: Symbolic Model Checking without BDDs, TACAS 1999.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import z3

from benchmarks.measure import Answer
from benchmarks.peers import child
from benchmarks.peers.transitions import Frames, check, check_with, main

NAME = "Z3, bounded"


def ask(files: list[Path], seconds: float) -> Answer:
    """Whether any obligation of any root can be broken."""
    return child.ask("bounded", seconds, files)


def search(frames: Frames, deadline: float) -> Iterator[bool | None]:
    """
    Raises:
        Late: see there.
    """
    solver = z3.SimpleSolver()
    solver.add(frames.init(0))
    for depth in count():
        # init(0) & trans(0) & .. & trans(depth - 1) & bad(depth); what is bad stays bad, earlier frames need no look
        if check_with(solver, deadline, frames.bad(depth)):
            yield False
        if depth & (depth - 1) == 0 and not check(solver, deadline):
            yield True  # no run is that long
        solver.add(frames.trans(depth))
        yield None


if __name__ == "__main__":
    main(search)
