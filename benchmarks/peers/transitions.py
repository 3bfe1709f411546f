"""Transition systems (`modelcheck export --to vmt`) as Z3 terms, unrolled step by step.

Of a file the annotations are read: `:next` makes a variable of a constant, `:init`, `:trans` and `:invar-property` name
the formulas; constants without `:next` are inputs of a step. What a run can do from each location is known beforehand,
so an unrolling holds only the steps that can be taken after so many others, and a variable that none of them changes
keeps its name: without that, bounded model checking and k-induction take ten times as long.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import z3

from benchmarks.peers import child
from modelcheck.export.vmt import vmt
from modelcheck.system import System
from modelcheck.verdict import Obligation

_ANNOTATED = re.compile(r"^\(define-fun (\S+) .* :(init|trans|invar-property) ([^\s()]+)\)\)$", re.MULTILINE)
_PLAIN = re.compile(r"\(! (.*) :(?:next|init|trans|invar-property) [^\s()]+\)")
_DECLARED = re.compile(r"\(declare-fun (\S+) \(\) (\S+)\)")


def write(systems: Sequence[System], asked: dict[int, Obligation], folder: Path) -> list[Path]:
    """A file for each root that can break something."""
    files = []
    for number, system in enumerate(systems):
        text = vmt(system, asked)
        if ":invar-property" in text:
            files.append(folder / f"root{number}.vmt")
            files[-1].write_text(text)
    return files


@dataclass(frozen=True, slots=True)
class Step:
    """One way on. `facts` hold before it; `after` are the values then of the variables that change; `named` are the
    constants that both of them mention."""

    source: int
    target: int
    facts: z3.BoolRef
    after: dict[str, z3.ExprRef]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of an unrolling: where a run can be, as a constant for each location, and the variables' values."""

    at: dict[int, z3.BoolRef]
    values: dict[str, z3.ExprRef]


class Transitions:
    """One file's system. A run begins at `entry` with `start`; it must not come to a location of `errors`, from where
    it does not go on."""

    def __init__(self, text: str) -> None:
        self._following = {then: name for name, then in re.findall(r"\(! (\S+) :next ([^\s()]+)\)", text)}
        named = {f"{kind} {value}": name for name, kind, value in _ANNOTATED.findall(text)}
        plain = _PLAIN.sub(r"\1", text)
        properties = [name for key, name in named.items() if key.startswith("invar-property")]
        wanted = [named["init true"], named["trans true"], *properties]
        init, trans, *holds = z3.parse_smt2_string(plain + "".join(f"(assert {name})" for name in wanted))
        sorts = {"Int": z3.IntSort(), "Bool": z3.BoolSort()}
        self._constants = {name: z3.Const(name, sorts[sort]) for name, sort in _DECLARED.findall(plain)}
        self.variables = [name for name in self._following.values() if name != "location"]
        begin = self._step(init)
        self.entry, self.start = begin.source, begin.facts
        self.errors = frozenset(self._step(one.arg(0)).source for one in holds)
        steps = (self._step(one) for one in _parts(trans, z3.is_or))
        self.steps = [step for step in steps if step.source not in self.errors]

    def _step(self, formula: z3.BoolRef) -> Step:
        """A conjunction of facts about now and of values for the next state."""
        facts: list[z3.BoolRef] = []
        ends: dict[str, int] = {}
        after: dict[str, z3.ExprRef] = {}
        for fact in _parts(formula, z3.is_and):
            name = fact.arg(0).decl().name() if z3.is_eq(fact) and z3.is_const(fact.arg(0)) else ""
            if name in ("location", "location_next"):
                ends[name] = fact.arg(1).as_long()
            elif name not in self._following:
                facts.append(fact)
            elif not fact.arg(1).eq(self._constants[self._following[name]]):
                after[self._following[name]] = fact.arg(1)
        named = _names([*facts, *after.values()]) & self._constants.keys()
        return Step(ends["location"], ends.get("location_next", -1), z3.And(*facts), after, named)

    def fresh(self, time: int, names: Iterable[str]) -> dict[str, z3.ExprRef]:
        """Constants of their own for a time."""
        return {name: z3.Const(f"{name}@{time}", self._constants[name].sort()) for name in names}

    def begin(self, moment: Moment) -> z3.BoolRef:
        """start(moment)"""
        return z3.substitute(self.start, *((self._constants[name], value) for name, value in moment.values.items()))

    def taken(self, steps: Sequence[Step], time: int, before: Moment, after: Moment) -> Iterator[z3.BoolRef]:
        """That whoever is somewhere after these steps came by one of them. Each goes on from where it begins, but
        nothing says that a run goes on: what is asked for is the way back from where it has come to."""
        ways: dict[int, list[z3.BoolRef]] = {location: [] for location in after.at}
        changed = [name for name in self.variables if not before.values[name].eq(after.values[name])]
        for number, step in enumerate(steps):
            way = z3.Bool(f"step{number}@{time}")
            ways[step.target].append(way)
            here = self.fresh(time, step.named) | {n: before.values[n] for n in step.named & before.values.keys()}
            names = [(self._constants[name], value) for name, value in here.items()]
            # step -> at(source) & facts(before) & after = f(before)
            then = {name: z3.substitute(value, *names) for name, value in step.after.items()}
            same = (after.values[name] == then.get(name, before.values[name]) for name in changed)
            yield z3.Implies(way, z3.And(before.at[step.source], z3.substitute(step.facts, *names), *same))
        for location, found in ways.items():
            # at(location) -> some step to it
            yield z3.Implies(after.at[location], z3.Or(*found))


def places(locations: Iterable[int], time: int) -> dict[int, z3.BoolRef]:
    return {location: z3.Bool(f"at{location}@{time}") for location in sorted(set(locations))}


class Forward:
    """Runs from the start, longer by one step with each `go`; `solver` knows of all of them."""

    def __init__(self, system: Transitions) -> None:
        self.system = system
        self.solver = z3.SolverFor("QF_LIA")
        self.time = 0
        self.now = Moment(places([system.entry], 0), system.fresh(0, system.variables))
        self.solver.add(system.begin(self.now))

    @property
    def bad(self) -> list[z3.BoolRef]:
        """That it is an error where the run has come to."""
        return [there for location, there in self.now.at.items() if location in self.system.errors]

    @property
    def anywhere(self) -> list[z3.BoolRef]:
        """That there is a run of that length which can go on."""
        return [there for location, there in self.now.at.items() if location not in self.system.errors]

    def go(self) -> None:
        steps = [step for step in self.system.steps if step.source in self.now.at]
        self.time += 1
        values = self.now.values | self.system.fresh(self.time, {name for step in steps for name in step.after})
        then = Moment(places((step.target for step in steps), self.time), values)
        self.solver.add(*self.system.taken(steps, self.time, self.now, then))
        self.now = then


def _parts(term: z3.ExprRef, kind: Callable[[z3.ExprRef], bool]) -> list[z3.ExprRef]:
    """What a conjunction or disjunction is made of."""
    return [part for child in term.children() for part in _parts(child, kind)] if kind(term) else [term]


def _names(terms: list[z3.ExprRef]) -> frozenset[str]:
    """The names in terms."""
    found: set[str] = set()
    seen: set[int] = set()
    while terms:
        term = terms.pop()
        if term.get_id() not in seen:
            seen.add(term.get_id())
            children = term.children()
            terms += children
            if not children:
                found.add(term.decl().name())
    return frozenset(found)


class Late(Exception):
    """The time is used up."""


Search: TypeAlias = Callable[[Transitions, float], Iterator[bool | None]]
"""How a system is decided until a deadline: after each depth None, or at last whether it is safe."""


def main(search: Search) -> None:
    """The child: the systems of all files are deepened in turn, until one is unsafe or all are safe."""
    seconds, files = float(sys.argv[1]), sys.argv[2:]
    systems = [Transitions(Path(file).read_text()) for file in files]
    started = monotonic()
    going = [search(system, started + seconds) for system in systems]
    verdict, depth = "safe", 0
    try:
        while going and verdict == "safe":
            found = [(one, next(one)) for one in going]
            verdict = "unsafe" if any(safe is False for _, safe in found) else "safe"
            going = [one for one, safe in found if safe is None]
            depth += 1
    except Late:
        verdict = "unknown"
    child.answer(verdict, monotonic() - started, f"depth {depth}, {len(files) - len(going)} of {len(files)} roots done")


def run(solver: z3.Solver, deadline: float, some: Sequence[z3.BoolRef]) -> z3.ModelRef | None:
    """How one of these can be, with all that was added, None if it cannot.

    Raises:
        Late: it is not known in time.
    """
    if not some:
        return None
    left = deadline - monotonic()
    if left <= 0:
        raise Late
    solver.set("timeout", max(1, int(left * 1000)))
    solver.push()
    solver.add(z3.Or(*some))
    found = solver.check()
    model = solver.model() if found == z3.sat else None
    solver.pop()
    if found == z3.unknown:
        raise Late
    return model


def check(solver: z3.Solver, deadline: float, some: Sequence[z3.BoolRef]) -> bool:
    """Whether one of these can be.

    Raises:
        Late: see there.
    """
    return run(solver, deadline, some) is not None
