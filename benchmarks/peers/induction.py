"""k-induction with Z3 on transition systems, k = 0, 1, 2, ..

Base: no run of k steps comes to what must not be. Step: k steps in which all is well, through states that all differ,
are never followed by one in which it is not. Without the differing states it would not be complete; they are demanded
only of states that were equal in some run found. The step is unrolled from its end, so that all its steps lead there.

Sheeran, Singh, Stalmarck: Checking Safety Properties Using Induction and a SAT-Solver, FMCAD 2000.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import z3

from benchmarks.measure import Answer
from benchmarks.peers import child
from benchmarks.peers.transitions import Forward, Moment, Transitions, check, main, places, run

NAME = "Z3, k-induction"


def ask(files: list[Path], seconds: float) -> Answer:
    """Whether any obligation of any root can be broken."""
    return child.ask("induction", seconds, files)


class Backward:
    """Runs from anywhere to an error, longer by one step before them with each `go`."""

    def __init__(self, system: Transitions) -> None:
        self.system = system
        self.solver = z3.SimpleSolver()
        self.moments = [Moment(places(system.errors, 0), system.fresh(0, system.variables))]
        self.solver.add(z3.Or(*self.moments[0].at.values()))

    @property
    def anywhere(self) -> list[z3.BoolRef]:
        """That there is such a run."""
        return list(self.moments[-1].at.values())

    def go(self) -> None:
        then, time = self.moments[-1], len(self.moments)
        steps = [step for step in self.system.steps if step.target in then.at]
        values = then.values | self.system.fresh(time, {name for step in steps for name in step.after})
        now = Moment(places((step.source for step in steps), time), values)
        self.solver.add(*self.system.taken(steps, time, now, then))
        self.moments.append(now)

    def differ(self, model: z3.ModelRef) -> bool:
        """Adds that two states must differ which the run of this model comes to twice; whether there were any."""
        seen: dict[tuple[object, ...], Moment] = {}
        found = False
        for moment in self.moments:
            state = [str(model.eval(value, model_completion=True)) for value in moment.values.values()]
            for location, there in moment.at.items():
                if z3.is_true(model.eval(there)):
                    other = seen.setdefault((location, *state), moment)
                    if other is not moment:
                        differ = z3.Or(*(value != other.values[name] for name, value in moment.values.items()))
                        self.solver.add(z3.Implies(z3.And(there, other.at[location]), differ))
                        found = True
        return found


def search(system: Transitions, deadline: float) -> Iterator[bool | None]:
    """
    Raises:
        Late: see there.
    """
    base, step = Forward(system), Backward(system)
    while True:
        # start & taken(1) & .. & taken(k) & bad(k)
        if check(base.solver, deadline, base.bad):
            yield False
        # taken(1) & .. & taken(k) & bad(k), what must not be is at k alone, all states differ
        while (model := run(step.solver, deadline, step.anywhere)) is not None:
            if not step.differ(model):
                break
        else:
            yield True
        base.go()
        step.go()
        yield None


if __name__ == "__main__":
    main(search)
