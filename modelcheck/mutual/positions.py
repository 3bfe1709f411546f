"""Where contexts wait, and what they hold there: read off the states of a fixpoint.

A *position* is one acquisition (or wait, or call-out that may come back) of one root with what may be held there and
the IRQL. A root also *holds* locks at levels: the ground of what can interrupt or displace it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from modelcheck import ir
from modelcheck.invariant import Invariant, Table
from modelcheck.ir import FREE, Cell, Edge, Instruction, Operation, Root, Sort, unhold
from modelcheck.layout import Layout
from modelcheck.lower import every_graph

MAY_BE_FREE, SHARED, EXCLUSIVE = 1, 2, 4
"""How a lock may be held: bits of a mask."""
WAITING = 8
"""In place of a hold: a writer that waits for the lock, where that stops new readers."""

Held: TypeAlias = tuple[tuple[str, int], ...]
"""Locks that may be held, sorted, each with its mask."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place where a context meets others: the `index`-th observed instruction of an edge of a graph, by number
    (`every_graph` of all roots); with index -1, before the edge."""

    graph: int
    edge: int
    index: int


@dataclass(frozen=True, slots=True)
class Position:
    """A root waiting at a site.

    `wanted` names the lock, the event or the role; `obligations` are those of the site that several contexts can
    break, by number. `spins`: the context keeps its processor whatever its level.
    """

    root: int
    site: Site
    sort: str
    wanted: str
    shared: bool
    spins: bool
    irql: int
    held: Held
    obligations: tuple[int, ...]
    itself: int = -1
    """The obligation B01 of the site, -1 where there is none."""


@dataclass(slots=True)
class Facts:
    """All positions of a driver. `holding[root]`: for each IRQL the locks a root may hold there, with their masks
    (never MAY_BE_FREE); `ending[root]`: what it may still hold at its end; `lowest[root]`: the lowest level it is
    ever at; `signals[root]`: events it may set, and where."""

    positions: list[Position] = field(default_factory=list)
    holding: list[dict[int, dict[str, int]]] = field(default_factory=list)
    ending: list[dict[str, int]] = field(default_factory=list)
    lowest: list[int] = field(default_factory=list)
    signals: list[dict[str, list[Site]]] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    tainted: list[bool] = field(default_factory=list)
    """Roots that call what no model knows."""


@dataclass(frozen=True, slots=True)
class Access:
    """A root about to touch data without a guard."""

    root: int
    site: Site
    data: str
    write: bool
    atomic: bool
    irql: int
    held: Held


def waits(instruction: Instruction) -> bool:
    """Whether a context may have to wait at the instruction."""
    match instruction:
        case ir.Take(result=None, slot=slot):
            return slot is not None
        case ir.Await() | ir.Reenter():
            return True
        case _:
            return False


def observed(instruction: Instruction) -> bool:
    return waits(instruction) or isinstance(instruction, ir.Access | ir.Signal | ir.Enable)


def instructions(code: Iterable[Instruction]) -> Iterator[Instruction]:
    """All instructions of a code, those inside choices too, in the order they are written."""
    for instruction in code:
        yield instruction
        if isinstance(instruction, ir.Choose):
            yield from instructions(instruction.then)
            yield from instructions(instruction.otherwise)


def sites(operation: Operation) -> list[Instruction]:
    """What is observed in an operation; the index of a site counts these."""
    return [i for i in instructions(operation.code) if observed(i)]


Constraint: TypeAlias = tuple[int, ...] | None
"""The values a register may have; None: any."""

Arrival: TypeAlias = tuple[int, tuple[Constraint, ...]]
"""A way in which an observed instruction is come to: its index, and the registers then."""


@dataclass(frozen=True, slots=True)
class Case:
    """An operation from one state. `others[r]`: what others may write to register r; `followed[r]`: its value is
    kept."""

    operation: Operation
    ranges: tuple[tuple[int, int], ...]
    inputs: tuple[Constraint, ...]
    others: tuple[Sequence[int], ...]
    followed: tuple[bool, ...]
    matter: tuple[int, ...]
    """The registers whose values at an arrival are looked at: locks and the IRQL."""


Propose: TypeAlias = Callable[[Case], tuple[Arrival, ...]]
"""All ways in which what is observed in a case is come to; evidence has them checked."""


class Holds:
    """What the states of one layout say about held locks."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.keyed = [c for c in layout.holds if c in layout.keys]
        self.keys = self.mask = self.whole = 0
        self.of: dict[int, Cell] = {}
        for cell in layout.holds:
            if cell in layout.keys:
                self.keys |= layout.key_mask(cell)
            else:
                held = layout.held_mask(cell)
                self.mask |= held
                self.whole |= layout.set_mask(cell)
                while held:
                    low = held & -held
                    self.of[low] = cell
                    held &= held - 1
        self.irql = next((c for c in layout.keys if c.sort is Sort.IRQL), None)
        self.memo: dict[tuple[int, int], dict[Cell, int]] = {}

    def masks(self, key: int, sets: int) -> dict[Cell, int]:
        """The locks that may be held in a state."""
        bits = sets & self.mask
        part = (key & self.keys, sets & self.whole)
        if part in self.memo:
            return self.memo[part]
        found: dict[Cell, int] = {}
        while bits:
            cell = self.of[bits & -bits]
            bits &= ~self.layout.set_mask(cell)
            found[cell] = mask_of(self.layout.set_values(sets, cell))
        for cell in self.keyed:
            value = self.layout.key_value(key, cell)
            if value != FREE:
                found[cell] = mask_of((value,))
        self.memo[part] = found
        return found

    def level(self, key: int) -> int:
        return 0 if self.irql is None else self.layout.key_value(key, self.irql)


def mask_of(values: Iterable[int]) -> int:
    """The mask of hold values."""
    mask = 0
    for value in values:
        mask |= MAY_BE_FREE if value == FREE else SHARED if unhold(value)[0] else EXCLUSIVE
    return mask


def lock_of(cell: Cell) -> str:
    return cell.name.removeprefix("hold ")


def facts(invariant: Invariant, roots: list[Root], propose: Propose) -> tuple[Facts, dict[Case, tuple[Arrival, ...]]]:
    """What the invariant says of all roots, by their index in `roots`; and the proposals it was read with."""
    reader = _Reader(invariant, roots, propose)
    return reader.run(), reader.known


class _Reader:
    def __init__(self, invariant: Invariant, roots: list[Root], propose: Propose) -> None:
        self.invariant = invariant
        self.propose = propose
        self.roots = roots
        self.graphs = {graph: n for n, graph in enumerate(every_graph([root.graph for root in roots]))}
        self.holds = {graph: Holds(layout) for graph, layout in invariant.layouts.items()}
        self.known: dict[Case, tuple[Arrival, ...]] = {}
        self.watched: dict[Edge, bool] = {}
        self.read: dict[int, _Seen] = {}

    def run(self) -> Facts:
        found = Facts()
        for number, root in enumerate(self.roots):
            seen = _Seen()
            tables = self.reached(self.invariant.starts.get(root, []))
            for table in tables:
                seen.add(self.table(table))
            found.positions += [self.placed(p, number) for p in seen.positions]
            found.accesses += [
                Access(number, a.site, a.data, a.write, a.atomic, a.irql, a.held) for a in dict.fromkeys(seen.accesses)
            ]
            found.holding.append(seen.holding)
            found.lowest.append(min(seen.levels, default=0))
            found.signals.append(seen.signals)
            found.tainted.append(seen.tainted)
            found.ending.append(self.ending(root))
        return found

    def placed(self, position: Position, root: int) -> Position:
        return replace(position, root=root)

    def reached(self, starts: list[Table]) -> list[Table]:
        order = {id(t): t for t in starts}
        pending = list(starts)
        while pending:
            for callee in pending.pop().calls.values():
                if id(callee) not in order:
                    order[id(callee)] = callee
                    pending.append(callee)
        return list(order.values())

    def ending(self, root: Root) -> dict[str, int]:
        """Locks a root may hold when it has ended, beyond those it was given."""
        assert root.end is not None
        masks: dict[str, int] = {}
        for table in self.invariant.starts.get(root, []):
            holds = self.holds[root.graph]
            for key, sets in table.states[root.end.source].items():
                for cell, mask in holds.masks(key, sets).items():
                    if cell not in root.given:
                        masks[lock_of(cell)] = masks.get(lock_of(cell), 0) | mask & ~MAY_BE_FREE
        return {lock: mask for lock, mask in masks.items() if mask}

    def table(self, table: Table) -> _Seen:
        known = self.read.get(id(table))
        if known is not None:
            return known
        seen = self.read[id(table)] = _Seen()
        layout, holds = self.invariant.layouts[table.graph], self.holds[table.graph]
        bits: dict[int, int] = {}
        for states in table.states if holds.irql is not None else ():  # elsewhere nothing is acquired or raised
            for key, sets in states.items():
                level = holds.level(key)
                bits[level] = bits.get(level, 0) | sets
                if holds.keyed:
                    seen.hold(level, holds.masks(key, sets))
        seen.tainted = any(layout.taint & key for states in table.states for key in states) if layout.taint else False
        seen.levels.update(bits)
        for level, sets in bits.items():
            seen.hold(level, holds.masks(0, sets))
        for number, edge in enumerate(table.graph.edges):
            if edge.operation is not None and self.watches(edge):
                for key, sets in table.states[edge.source].items():
                    self.edge(table, layout, number, edge, key, sets, seen)
        return seen

    def watches(self, edge: Edge) -> bool:
        found = self.watched.get(edge)
        if found is None:
            assert edge.operation is not None
            found = self.watched[edge] = bool(sites(edge.operation))
        return found

    def edge(self, table: Table, layout: Layout, number: int, edge: Edge, key: int, sets: int, seen: _Seen) -> None:
        operation = edge.operation
        assert operation is not None
        case = Case(
            operation,
            tuple((0, 0) if c is None else (c.low, c.high) for c in edge.cells),
            tuple(_constraint(layout, c, key, sets) for c in edge.cells),
            tuple(() if c is None else c.others for c in edge.cells),
            tuple(c is not None and (c in layout.keys or c in layout.sets) for c in edge.cells),
            tuple(n for n, c in enumerate(edge.cells) if c is not None and c.sort in (Sort.HOLD, Sort.IRQL)),
        )
        if () in case.inputs:
            return
        found = self.known.get(case)
        if found is None:
            found = self.known[case] = self.propose(case)
        outside = {c: m for c, m in self.holds[table.graph].masks(key, sets).items() if c not in edge.cells}
        level = self.holds[table.graph].level(key)
        listed = sites(operation)
        for index, values in found:
            masks, irql = dict(outside), level
            for cell, value in zip(edge.cells, values, strict=True):
                if cell is None:
                    continue
                if cell.sort is Sort.HOLD:
                    assert value is not None
                    mask = mask_of(value)
                    if mask != MAY_BE_FREE:
                        masks[cell] = mask
                elif cell.sort is Sort.IRQL:
                    assert value is not None
                    assert len(value) == 1
                    irql = value[0]
            held = tuple(sorted((lock_of(c), m) for c, m in masks.items()))
            seen.levels.add(irql)
            seen.hold(irql, masks)
            site = Site(self.graphs[table.graph], number, index)
            self.instruction(listed[index], edge, site, irql, held, seen)

    def instruction(
        self,
        instruction: Instruction,
        edge: Edge,
        site: Site,
        irql: int,
        held: Held,
        seen: _Seen,
    ) -> None:
        def cell(register: int) -> Cell:
            found = edge.cells[register]
            assert found is not None
            return found

        match instruction:
            case ir.Take(register, shared, slot=slot, waits=waits):
                lock = cell(register)
                numbers = tuple(edge.obligations[s] for s in waits)
                itself = -1 if slot is None else edge.obligations[slot]
                name = lock_of(lock)
                position = Position(0, site, "lock", name, shared, lock.spins, irql, held, numbers, itself)
                seen.positions[position] = None
            case ir.Await(register, slot):
                name = cell(register).name.removeprefix("event ")
                numbers = (edge.obligations[slot],)
                seen.positions[Position(0, site, "event", name, False, False, irql, held, numbers)] = None
            case ir.Reenter(role, slot):
                numbers = (edge.obligations[slot],)
                seen.positions[Position(0, site, "role", role, False, False, irql, held, numbers)] = None
            case ir.Access(register, write, atomic):
                name = cell(register).name.removeprefix("data ")
                seen.accesses.append(Access(0, site, name, write, atomic, irql, held))
            case ir.Signal(register, True):
                places = seen.signals.setdefault(cell(register).name.removeprefix("event "), [])
                if site not in places:
                    places.append(site)
            case _:
                pass


@dataclass(slots=True)
class _Seen:
    """What one table shows."""

    positions: dict[Position, None] = field(default_factory=dict)
    accesses: list[Access] = field(default_factory=list)
    holding: dict[int, dict[str, int]] = field(default_factory=dict)
    levels: set[int] = field(default_factory=set)
    signals: dict[str, list[Site]] = field(default_factory=dict)
    tainted: bool = False

    def hold(self, level: int, masks: dict[Cell, int]) -> None:
        for cell, mask in masks.items():
            if mask & ~MAY_BE_FREE:
                at = self.holding.setdefault(level, {})
                at[lock_of(cell)] = at.get(lock_of(cell), 0) | mask & ~MAY_BE_FREE

    def add(self, other: _Seen) -> None:
        self.positions.update(other.positions)
        self.accesses += other.accesses
        for level, locks in other.holding.items():
            at = self.holding.setdefault(level, {})
            for lock, mask in locks.items():
                at[lock] = at.get(lock, 0) | mask
        self.levels |= other.levels
        for event, places in other.signals.items():
            known = self.signals.setdefault(event, [])
            known += [place for place in places if place not in known]
        self.tainted |= other.tainted


def _constraint(layout: Layout, cell: Cell | None, key: int, sets: int) -> Constraint:
    if cell is None:
        return None
    if cell in layout.keys:
        return (layout.key_value(key, cell),)
    return layout.set_values(sets, cell) if cell in layout.sets else None
