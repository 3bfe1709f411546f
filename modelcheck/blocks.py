"""A transition system between cut points: everything that can happen from one cut point to the next as one formula.

Cut points are the entry and the heads of loops; between them there are no cycles. Paths that join share their
variables, so the formula grows with the number of edges, not of paths, and the solver sees how flags, locks and levels
hang together on each path. An edge that is taken *implies* what it does and that its source was reached; it is not
defined by it: of two edges that could both be taken either may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from modelcheck import encode
from modelcheck.invariant import start_values
from modelcheck.ir import Sort
from modelcheck.record import dataclass, field
from modelcheck.system import FlatEdge, System

Sets: TypeAlias = tuple[Sequence[int], ...]
"""For each variable of the system the values it may have: a list, or a range."""


@dataclass(slots=True)
class Block:
    """All paths from a cut point. `bad`: (obligation, term) where one may be broken; `arrivals`: (cut point, term under
    which it is reached, values there)."""

    lines: list[str] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)
    arrivals: list[tuple[int, str, list[str]]] = field(default_factory=list)


def cut_points(system: System) -> list[int]:
    """The entry and every head of a loop, among the locations that matter."""
    outgoing: dict[int, list[int]] = {}
    for flat in system.edges:
        if flat.source in system.useful and flat.target in system.useful:
            outgoing.setdefault(flat.source, []).append(flat.target)
    found, state = {system.entry}, {system.entry: 1}
    stack = [(system.entry, iter(outgoing.get(system.entry, ())))]
    while stack:
        location, following = stack[-1]
        target = next(following, None)
        if target is None:
            state[location] = 2
            stack.pop()
        elif target not in state:
            state[target] = 1
            stack.append((target, iter(outgoing.get(target, ()))))
        elif state[target] == 1:
            found.add(target)
    return sorted(found)


def block(system: System, cut: int, sets: Sets, cuts: Sequence[int]) -> Block:
    """The paths from `cut`, entered with these values, to other cut points and to steps that may break an
    obligation."""
    made = Block()
    names = [f"b{n}" for n in range(len(system.variables))]
    for name, values in zip(names, sets, strict=True):
        made.lines.append(f"(declare-const {name} {encode.sort_of(system.width)})")
        made.lines.append(f"(assert {encode.member(name, values, system.width)})")
    order, into = _region(system, cut, frozenset(cuts))
    reached: dict[int, tuple[str, list[str]]] = {cut: ("true", names)}
    edges: dict[int, list[tuple[str, list[str]]]] = {}
    for location in order:
        if location != cut:
            reached[location] = _join(system, location, edges[location], into[location], made)
        here, values_here = reached[location]
        for number, flat in _leaving(system, location):
            step = system.step(flat, values_here, f"e{number}_")
            made.lines += [encode.line(item) for item in step.items]
            made.bad += [(obligation, encode.conjunction((here, term))) for obligation, term in step.broken.items()]
            if flat.target not in system.useful:
                continue
            taken = f"t{number}"
            made.lines.append(f"(declare-const {taken} Bool)")
            made.lines.append(f"(assert (=> {taken} {encode.conjunction((here, step.alive))}))")
            if flat.target in cuts:
                made.arrivals.append((flat.target, taken, step.outputs))
            else:
                edges.setdefault(flat.target, []).append((taken, step.outputs))
    return made


def _leaving(system: System, location: int) -> list[tuple[int, FlatEdge]]:
    return [(n, flat) for n, flat in enumerate(system.edges) if flat.source == location]


def _region(system: System, cut: int, cuts: frozenset[int]) -> tuple[list[int], dict[int, int]]:
    """The locations between `cut` and the next cut points, sources before targets, and how many edges lead into
    each."""
    outgoing: dict[int, list[int]] = {}
    for flat in system.edges:
        if flat.target in system.useful and flat.target not in cuts:
            outgoing.setdefault(flat.source, []).append(flat.target)
    order: list[int] = []
    into: dict[int, int] = {}
    seen = {cut}
    stack = [(cut, iter(outgoing.get(cut, ())))]
    while stack:
        location, following = stack[-1]
        target = next(following, None)
        if target is None:
            order.append(location)
            stack.pop()
            continue
        into[target] = into.get(target, 0) + 1
        if target not in seen:
            seen.add(target)
            stack.append((target, iter(outgoing.get(target, ()))))
    order.reverse()
    return order, into


def _join(
    system: System, location: int, incoming: list[tuple[str, list[str]]], expected: int, made: Block
) -> tuple[str, list[str]]:
    """Where a location is reached, and its values there: those of the one edge into it, or variables that all edges
    set."""
    assert len(incoming) == expected, "a location is entered before its sources are known"
    if len(incoming) == 1:
        return incoming[0]
    reached = f"r{location}"
    made.lines.append(f"(declare-const {reached} Bool)")
    made.lines.append(f"(assert (=> {reached} {encode.disjunction([taken for taken, _ in incoming])}))")
    values: list[str] = []
    for number, choices in enumerate(zip(*(outputs for _, outputs in incoming), strict=True)):
        if len(set(choices)) == 1:
            values.append(choices[0])
            continue
        name = f"s{location}_{number}"
        values.append(name)
        made.lines.append(f"(declare-const {name} {encode.sort_of(system.width)})")
        for (taken, _), term in zip(incoming, choices, strict=True):
            made.lines.append(f"(assert (=> {taken} (= {name} {term})))")
    return reached, values


def start_sets(system: System, level: int) -> Sets:
    """The values at the entry when the root starts at this level."""
    return tuple(
        (level,)
        if cell.sort is Sort.IRQL
        else start_values(system.root, cell, system.lives)
        if cell.is_global
        else range(cell.low, cell.high + 1)
        for cell, _ in system.variables
    )


def within(system: System, names: Sequence[str], sets: Sets) -> str:
    """The values are in the sets."""
    parts = [encode.member(name, values, system.width) for name, values in zip(names, sets, strict=True)]
    return encode.conjunction(parts)


def condition(system: System, cut: int, invariant: Mapping[int, Sets], cuts: Sequence[int]) -> tuple[list[str], str]:
    """Lines and the term that must not be satisfiable: from the cut point an obligation is broken, or another cut point
    is reached outside its sets."""
    made = block(system, cut, invariant[cut], cuts)
    wrong = [term for _, term in made.bad]
    for target, taken, values in made.arrivals:
        inside = within(system, values, invariant[target]) if target in invariant else "false"
        wrong.append(encode.conjunction((taken, encode.negation(inside))))
    return made.lines, encode.disjunction(wrong)
