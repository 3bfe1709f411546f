"""Decides the obligations of a scenario: what is broken somewhere in its states, and what is not."""

from __future__ import annotations

from typing import TypeAlias

from modelcheck.engines.closed.schedules import deadlock, fault, race
from modelcheck.engines.closed.search import Explored, Search, explore
from modelcheck.engines.closed.stuck import Deadlock, deadlocks
from modelcheck.lower import every_graph
from modelcheck.lower.closed import Closed, lower_scenarios
from modelcheck.record import dataclass
from modelcheck.resolve import Program
from modelcheck.verdict import Obligation, Property, Schedule

BUDGET = 200_000
"""States of one scenario."""


@dataclass(frozen=True, slots=True)
class Kept:
    """No state breaks it. `reached` False when nothing comes to where it stands."""

    reached: bool


@dataclass(frozen=True, slots=True)
class Broken:
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Open:
    """Not decided, and why; `states` were looked at."""

    reason: str
    states: int


Decision: TypeAlias = Kept | Broken | Open


@dataclass(slots=True)
class Solved:
    """A scenario with its states and the decision about each of its obligations."""

    closed: Closed
    search: Search
    decisions: dict[int, Decision]


def decide(program: Program, budget: int = BUDGET, reduce: bool = True) -> list[tuple[Obligation, Decision]]:
    """The decisions about all scenarios of a program, in the order of the source."""
    found: list[tuple[Obligation, Decision]] = []
    for closed in lower_scenarios(program):
        solved = solve(closed, budget, reduce)
        found += [(closed.obligations[n], solved.decisions[n]) for n in closed.listed]
    return found


def solve(closed: Closed, budget: int = BUDGET, reduce: bool = True) -> Solved:
    """Explores a scenario and decides all its obligations."""
    search = explore(closed, budget, reduce)
    stuck = deadlocks(search)
    reached = _reached(closed, search.found)
    shown: dict[Deadlock, Broken] = {}
    decisions = {n: _decision(search, n, stuck, shown, n in reached) for n in closed.listed}
    return Solved(closed, search, decisions)


def _decision(
    search: Search, number: int, stuck: dict[int, Deadlock], shown: dict[Deadlock, Broken], reached: bool
) -> Decision:
    closed, found = search.closed, search.found
    if closed.obligations[number].code is Property.R03:
        cell = next(c for c, n in closed.races.items() if n == number)
        index = search.layout.data.index(cell)
        if index in found.races:
            return Broken(race(search, *found.races[index]))
    if number in found.broken:
        return Broken(fault(search, number))
    if number in stuck:
        if stuck[number] not in shown:
            shown[stuck[number]] = Broken(deadlock(search, stuck[number]))
        return shown[stuck[number]]
    if found.complete:
        return Open(found.complete, len(found.successors))
    return Kept(reached)


def _reached(closed: Closed, explored: Explored) -> set[int]:
    """The obligations at edges that some run comes to."""
    found = set(closed.races.values())
    for graph in every_graph([context.graph for context in closed.contexts]):
        for edge in graph.edges:
            if id(edge) in explored.met:
                found.update(edge.obligations)
    for context in closed.contexts:
        if id(context.end) in explored.met:
            found.update(check.obligation for check in context.checks)
    return found
