"""Where contexts wait, and what they hold there: read off the states of a fixpoint.

A *position* is one acquisition (or wait, or call-out that may come back) of one root with what may be held there and
the IRQL. A root also *holds* locks at levels: the ground of what can interrupt or displace it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from modelcheck import ir
from modelcheck.invariant import Base, Table, every_table
from modelcheck.ir import FREE, Cell, Edge, Instruction, Operation, Root, Sort, instructions, unhold
from modelcheck.layout import Layout
from modelcheck.lower import every_graph
from modelcheck.record import dataclass, field, replace

MAY_BE_FREE, SHARED, EXCLUSIVE = 1, 2, 4
"""How a lock may be held: bits of a mask."""
WAITING = 8
"""In place of a hold: a writer that waits for the lock, where that stops new readers."""

Held: TypeAlias = tuple[tuple[str, int], ...]
"""Locks that may be held, sorted, each with its mask."""

Starter: TypeAlias = tuple[str, str]
"""A routine, with the DPC, timer or work item that starts it, "" if it is started otherwise."""


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
    ever at; `signals[root]`: events it may set, and where; `enables[root]`: routines that it may enable, and by what,
    with what may be held there."""

    positions: list[Position] = field(default_factory=list)
    holding: list[dict[int, dict[str, int]]] = field(default_factory=list)
    ending: list[dict[str, int]] = field(default_factory=list)
    lowest: list[int] = field(default_factory=list)
    signals: list[dict[str, list[Site]]] = field(default_factory=list)
    enables: list[dict[Starter, list[Held]]] = field(default_factory=list)
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


@lru_cache(1024)
def sites(operation: Operation) -> tuple[Instruction, ...]:
    """What is observed in an operation; the index of a site counts these."""
    return tuple(i for i in instructions(operation.code) if observed(i))


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
        for cell in layout.holds:
            if cell in layout.keys:
                self.keys |= layout.key_mask(cell)
            else:
                self.mask |= layout.held_mask(cell)
                self.whole |= layout.set_mask(cell)
        rising = sorted((layout.sets[cell][0], cell.name, cell) for cell in layout.holds if cell in layout.sets)
        self.offsets = [offset for offset, _, _ in rising]
        self.cells = [cell for _, _, cell in rising]
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
            number = bisect_right(self.offsets, bits.bit_length() - 1) - 1  # the highest lock
            cell = self.cells[number]
            bits &= (1 << self.offsets[number]) - 1
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


def facts(base: Base, roots: list[Root], propose: Propose) -> tuple[Facts, dict[Case, tuple[Arrival, ...]]]:
    """What the invariants say of all roots, by their index in `roots`; and the proposals it was read with."""
    reader = _Reader(base, roots, propose)
    return reader.run(), reader.known


class _Reader:
    def __init__(self, base: Base, roots: list[Root], propose: Propose) -> None:
        self.base = base
        self.propose = propose
        self.roots = roots
        self.graphs = {graph: n for n, graph in enumerate(every_graph([root.graph for root in roots]))}
        self.holds: dict[Layout, Holds] = {}
        self.known: dict[Case, tuple[Arrival, ...]] = {}
        self.watched: dict[tuple[Layout, Edge], _Watch] = {}
        self.listed: dict[Operation, tuple[Instruction, ...]] = {}
        self.read: dict[int, _Seen] = {}

    def run(self) -> Facts:
        found = Facts()
        for number, root in enumerate(self.roots):
            seen = _Seen()
            for table in every_table(self.base[root].starts[root]):
                seen.add(self.table(table))
            found.positions += [self.placed(p, number) for p in seen.positions]
            found.accesses += [
                Access(number, a.site, a.data, a.write, a.atomic, a.irql, a.held) for a in dict.fromkeys(seen.accesses)
            ]
            found.holding.append(seen.holding)
            found.lowest.append(min(seen.levels, default=0))
            found.signals.append(seen.signals)
            found.enables.append(seen.enables)
            found.tainted.append(seen.tainted)
            found.ending.append(self.ending(root))
        return found

    def placed(self, position: Position, root: int) -> Position:
        return replace(position, root=root)

    def holds_of(self, layout: Layout) -> Holds:
        found = self.holds.get(layout)
        if found is None:
            found = self.holds[layout] = Holds(layout)
        return found

    def ending(self, root: Root) -> dict[str, int]:
        """Locks a root may hold when it has ended, beyond those it was given."""
        assert root.end is not None
        masks: dict[str, int] = {}
        for table in self.base[root].starts[root]:
            holds = self.holds_of(table.layout)
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
        layout, holds = table.layout, self.holds_of(table.layout)
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
            watch = self.watch(layout, edge) if table.states[edge.source] else None
            if watch is not None:
                self.edge(table, number, watch, seen)
        return seen

    def watch(self, layout: Layout, edge: Edge) -> _Watch | None:
        """The edge as the layout has it, None if contexts do not meet there."""
        known = self.watched.get((layout, edge))
        if known is None and edge.operation is not None:
            listed = self.listed.get(edge.operation)
            if listed is None:
                listed = self.listed[edge.operation] = sites(edge.operation)
            if listed:
                known = self.watched[layout, edge] = _Watch.of(layout, edge, listed)
        return known

    def edge(self, table: Table, number: int, watch: _Watch, seen: _Seen) -> None:
        edge, layout, holds = watch.edge, table.layout, self.holds_of(table.layout)
        numbered = self.graphs[table.graph]
        done = set()
        for key, sets in table.states[edge.source].items():
            part = (key & watch.key_mask, sets & watch.set_mask)
            found = watch.met.get(part)
            if found is None:
                found = watch.met[part] = self.met(watch, layout, *part)
            held, level = holds.masks(key, sets), holds.level(key)
            mark = (part, id(held), level)
            if mark in done:
                continue
            done.add(mark)
            for index, irql, own in found:
                masks = {c: m for c, m in held.items() if c not in edge.cells} | own
                if irql is not None or holds.irql is not None:  # elsewhere the level is that of who has called
                    seen.levels.add(level if irql is None else irql)
                    seen.hold(level if irql is None else irql, masks)
                irql = level if irql is None else irql
                listed = tuple(sorted((lock_of(c), m) for c, m in masks.items()))
                self.instruction(watch.listed[index], edge, Site(numbered, number, index), irql, listed, seen)

    def met(self, watch: _Watch, layout: Layout, key: int, sets: int) -> list[tuple[int, int | None, dict[Cell, int]]]:
        """For each arrival at what is observed, from these bits that the edge touches: its index, the IRQL if the edge
        touches it, and its locks that may be held."""
        cells = watch.edge.cells
        live = layout.live[watch.edge.source]
        case = replace(watch.case, inputs=tuple(_constraint(layout, c, key, sets, live) for c in cells))
        if () in case.inputs:
            return []
        arrivals = self.known.get(case)
        if arrivals is None:
            arrivals = self.known[case] = self.propose(case)
        found: list[tuple[int, int | None, dict[Cell, int]]] = []
        for index, values in arrivals:
            irql: int | None = None
            masks: dict[Cell, int] = {}
            for cell, value in zip(cells, values, strict=True):
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
            found.append((index, irql, masks))
        return found

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
            case ir.Enable(routine, True, _, by):
                seen.enable((routine, by), [held])
            case _:
                pass


@dataclass(slots=True)
class _Watch:
    """An edge at which contexts meet, in one layout. `case`: without inputs; `met`: what was read off it, by the bits
    that it touches."""

    edge: Edge
    listed: tuple[Instruction, ...]
    key_mask: int
    set_mask: int
    case: Case
    met: dict[tuple[int, int], list[tuple[int, int | None, dict[Cell, int]]]] = field(default_factory=dict)

    @staticmethod
    def of(layout: Layout, edge: Edge, listed: tuple[Instruction, ...]) -> _Watch:
        assert edge.operation is not None
        key_mask = set_mask = 0
        for cell in edge.cells:
            if cell is not None and cell in layout.keys:
                key_mask |= layout.key_mask(cell)
            elif cell is not None and cell in layout.sets:
                set_mask |= layout.set_mask(cell)
        case = Case(
            edge.operation,
            tuple((0, 0) if c is None else (c.low, c.high) for c in edge.cells),
            (),
            tuple(() if c is None else c.others for c in edge.cells),
            tuple(c is not None and (c in layout.keys or c in layout.sets) for c in edge.cells),
            tuple(n for n, c in enumerate(edge.cells) if c is not None and c.sort in (Sort.HOLD, Sort.IRQL)),
        )
        return _Watch(edge, listed, key_mask, set_mask, case)


@dataclass(slots=True)
class _Seen:
    """What one table shows."""

    positions: dict[Position, None] = field(default_factory=dict)
    accesses: list[Access] = field(default_factory=list)
    holding: dict[int, dict[str, int]] = field(default_factory=dict)
    levels: set[int] = field(default_factory=set)
    signals: dict[str, list[Site]] = field(default_factory=dict)
    enables: dict[Starter, list[Held]] = field(default_factory=dict)
    tainted: bool = False

    def enable(self, starter: Starter, held: Iterable[Held]) -> None:
        known = self.enables.setdefault(starter, [])
        known += [each for each in held if each not in known]

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
        for starter, held in other.enables.items():
            self.enable(starter, held)
        self.tainted |= other.tainted


def _constraint(layout: Layout, cell: Cell | None, key: int, sets: int, live: int) -> Constraint:
    if cell is None:
        return None
    if cell in layout.keys:
        return (layout.key_value(key, cell),) if layout.key_mask(cell) & live else None
    return layout.set_values(sets, cell) if cell in layout.sets else None
