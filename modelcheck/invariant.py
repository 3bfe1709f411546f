"""What an engine proposes and evidence checks: the states that can be at each location, for some roots.

Also the rule by which the life of locks goes on from phase to phase, which engine and evidence both follow.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck.devices import device_of, plain
from modelcheck.ir import RUN, Cell, Edge, Graph, Root, Sort
from modelcheck.layout import Layout
from modelcheck.record import dataclass

Lives = Mapping[str, tuple[int, ...]]
"""For each life cell (`life L`) the values it can have when a root starts."""


@dataclass(slots=True, eq=False)
class Table:
    """One graph, entered in one way. `states[location]`: key -> sets, packed by the layout. `calls`: for a call edge
    (by number in the graph) and the caller's key the table of the callee."""

    graph: Graph
    layout: Layout
    states: list[dict[int, int]]
    calls: dict[tuple[int, int], Table]


@dataclass(slots=True, eq=False)
class Invariant:
    """Tables for some roots, the variables they follow (`loose`: saved levels only if they are among them), and the
    obligations they are meant to prove."""

    roots: list[Root]
    tracked: frozenset[Cell]
    layouts: dict[Graph, Layout]
    tables: list[Table]
    starts: dict[Root, list[Table]]
    lives: dict[Root, Lives]
    obligations: frozenset[int]
    loose: bool = False


@dataclass(slots=True, eq=False)
class FormulaInvariant:
    """For each root that can come to the obligations a formula for each location of its transition system (`system`),
    over the system's variables v0, v1, ..; SMT-LIB text."""

    obligations: frozenset[int]
    parts: list[tuple[Root, tuple[str, ...]]]
    lives: dict[Root, Lives]


@dataclass(slots=True, eq=False)
class BlockInvariant:
    """For each root that can come to the obligations, and each level it can start at, a set of values for each variable
    at each cut point that is reached (`blocks`)."""

    obligations: frozenset[int]
    parts: list[tuple[Root, int, dict[int, tuple[Sequence[int], ...]]]]
    lives: dict[Root, Lives]


Base: TypeAlias = Mapping[Root, Invariant]
"""For each root the invariant that says where it meets other contexts."""


def every_table(starts: Sequence[Table]) -> list[Table]:
    """These tables, and all that calls lead to from them."""
    order = {id(table): table for table in starts}
    pending = list(starts)
    while pending:
        for callee in pending.pop().calls.values():
            if id(callee) not in order:
                order[id(callee)] = callee
                pending.append(callee)
    return list(order.values())


def start_values(root: Root, cell: Cell, lives: Lives) -> Sequence[int]:
    """What a global cell can hold when the root starts."""
    match cell.sort:
        case Sort.IRQL:
            return root.levels
        case Sort.HOLD:
            return (ir.FREE,)
        case Sort.LIFE:
            return lives.get(cell.name, cell.start)
        case Sort.SHARED:
            return root.starts.get(cell.name.removeprefix("var "), range(cell.low, cell.high + 1))
        case Sort.FIELD | Sort.GHOST | Sort.CONTEXT:
            return cell.start
        case _:
            return (0,)


def lives_from(root: Root, ends: Iterable[tuple[Root, Mapping[str, tuple[int, ...]]]]) -> Lives:
    """The lives of locks when `root` starts: as declared, then as each earlier phase leaves them; in the phase `run`,
    whose routines overlap, also as any of its own phase leaves them. `ends` gives for each root the values it can end
    with, for the cells it changes.

    Before `run` a phase that changes a lock leaves it as one of its routines does, since all of them have run; from
    `run` on a routine may or may not have run. Those of its own phase whose roles it follows have run too. Where there
    are several devices, another one can be in any phase of its own, and leave a lock that is not of a device as that
    does."""
    ends = list(ends)
    lives: dict[str, tuple[int, ...]] = {}
    environments = dict.fromkeys(r.environment for r, _ in ends)
    declared = {c.name: c.start for e in environments for c in e.cells.values() if c.sort is Sort.LIFE}
    leaves: dict[tuple[int | str, str], set[int]] = {}
    for other, end in ends:
        for name, left_so in end.items():
            leaves.setdefault((other.phase, name), set()).update(left_so)
            if other.phase == root.phase and other.role in root.follows:
                leaves.setdefault((other.role, name), set()).update(left_so)
    devices = {plain(device) for other, _ in ends for _, device in other.devices}
    for name, start in declared.items():
        values = set(start)
        for phase in range(RUN + 1 if root.phase == RUN else root.phase):
            left = leaves.get((phase, name))
            if left:
                values = left if phase < RUN else values | left
        for role in root.follows:
            left = leaves.get((role, name))
            if left:
                values = left if root.phase < RUN else values | left
        shared = plain(device_of(name.removeprefix("life "))) not in devices
        if devices and shared and root.phase in OF_A_DEVICE:
            values = values.union(*(leaves.get((phase, name), ()) for phase in OF_A_DEVICE))
        lives[name] = tuple(sorted(values))
    return lives


def starts_of(root: Root, lives: Lives, never: Container[int]) -> Lives:
    """The lives of locks when a root starts, of those when routines of its phase do. `never`: the questions whose
    answer is that a lock is not so yet, or no longer, when the root is enabled early."""
    if not root.early:
        return lives
    early = {
        name: [v for v, numbers in values.items() if not numbers or not all(number in never for number in numbers)]
        for name, values in root.early.items()
    }
    return {**lives, **{name: tuple(sorted({*lives.get(name, ()), *values})) for name, values in early.items()}}


OF_A_DEVICE = range(1, 5)
"""The phases that each device goes through: add, start, run, stop."""


def held_outside(layout: Layout, edge: Edge, key: int, sets: int) -> tuple[bool, bool, int]:
    """Of the locks an operation does not touch: whether any may be held, whether a spin lock may, and the highest level
    of a spin lock that may be held (-1 if none may)."""
    held, spin, level = False, False, -1
    for cell, mask, is_set in layout.held:
        if mask & (sets if is_set else key) and cell not in edge.cells:
            held = True
            if cell.spins:
                spin = True
                level = max(level, cell.level)
    return held, spin, level
