"""k-induction with Z3 on transition systems, k = 0, 1, 2, ..

Base: no run of k steps comes to what must not be. Step: k steps in which all is well, through states that all differ,
are never followed by one in which it is not. Without the differing states it would not be complete.

Sheeran, Singh, Stalmarck: Checking Safety Properties Using Induction and a SAT-Solver, FMCAD 2000.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import z3

from benchmarks.measure import Answer
from benchmarks.peers import child
from benchmarks.peers.transitions import Frames, check_with, main

NAME = "Z3, k-induction"


def ask(files: list[Path], seconds: float) -> Answer:
    """Whether any obligation of any root can be broken."""
    return child.ask("induction", seconds, files)


def search(frames: Frames, deadline: float) -> Iterator[bool | None]:
    """
    Raises:
        Late: see there.
    """
    base, step = z3.SimpleSolver(), z3.SimpleSolver()
    base.add(frames.init(0))
    for k in count():
        # init(0) & trans(0) & .. & trans(k - 1) & bad(k)
        if check_with(base, deadline, frames.bad(k)):
            yield False
        # !bad(0) & trans(0) & .. & !bad(k - 1) & trans(k - 1) & all states differ & bad(k)
        if not check_with(step, deadline, frames.bad(k)):
            yield True
        base.add(frames.trans(k))
        step.add(z3.Not(frames.bad(k)), frames.trans(k))
        for earlier in range(k + 1):
            pairs = zip(frames.state(earlier), frames.state(k + 1), strict=True)
            step.add(z3.Or(*(a != b for a, b in pairs)))
        yield None


if __name__ == "__main__":
    main(search)
