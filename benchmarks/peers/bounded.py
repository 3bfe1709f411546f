"""Bounded model checking with Z3 on transition systems: is there a run of n steps to what must not be, n = 0, 1, 2, ..?

It finds what is wrong; it proves only where no run is longer than some n: a routine without loops.

Biere, Cimatti, Clarke, Zhu: Symbolic Model Checking without BDDs, TACAS 1999.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from benchmarks.measure import Answer
from benchmarks.peers import child
from benchmarks.peers.transitions import Forward, Transitions, check, main

NAME = "Z3, bounded"


def ask(files: list[Path], seconds: float) -> Answer:
    """Whether any obligation of any root can be broken."""
    return child.ask("bounded", seconds, files)


def search(system: Transitions, deadline: float) -> Iterator[bool | None]:
    """
    Raises:
        Late: see there.
    """
    runs = Forward(system)
    for depth in count():
        # start & taken(1) & .. & taken(depth) & bad(depth)
        if check(runs.solver, deadline, runs.bad):
            yield False
        if not runs.anywhere or (depth & (depth - 1) == 0 and not check(runs.solver, deadline, runs.anywhere)):
            yield True  # no run is that long
        runs.go()
        yield None


if __name__ == "__main__":
    main(search)
