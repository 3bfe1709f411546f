"""How a graph's state is packed into two numbers: a *key* of exact values and a *set* of values for each other cell.

The key holds the cells that are followed exactly and jointly: the IRQL, levels saved in variables, and the variables an
alarm asked for. Each remaining cell has one bit for each value it may have, so that joining two states of the same key
is one `|` for all locks together. Variables nobody asked for are in neither: they can have any value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from modelcheck.ir import Cell, Edge, Graph, Operation, Sort
from modelcheck.lower import every_graph, frames

_EXACT = {Sort.IRQL, Sort.LEVEL, Sort.LOCKREF, Sort.TAINT, Sort.CLOCK}
_SETS = {Sort.HOLD, Sort.LIFE, Sort.FIELD, Sort.GHOST, Sort.CONTEXT}
MAX_SET = 256


class Layout:
    """Where each cell of a graph's frame is kept. Offsets are in bits. `loose`: saved levels only where they are
    tracked."""

    def __init__(self, graph: Graph, frame: Iterable[Cell], tracked: frozenset[Cell], loose: bool = False) -> None:
        self.graph = graph
        self.keys: dict[Cell, tuple[int, int]] = {}
        self.sets: dict[Cell, tuple[int, int]] = {}
        cells = [*sorted(frame, key=lambda c: c.name), *graph.locals]
        key_bits = set_bits = 0
        for cell in cells:
            size = cell.high - cell.low + 1
            if cell in tracked or (cell.sort in _EXACT and not (loose and cell.sort is Sort.LEVEL)):
                width = max(1, (size - 1).bit_length())
                self.keys[cell] = (key_bits, width)
                key_bits += width
            elif cell.sort is Sort.HOLD or (cell.sort in _SETS and size <= MAX_SET):
                self.sets[cell] = (set_bits, size)
                set_bits += size
        self.holds = [c for c in cells if c.sort is Sort.HOLD]
        self.held = [(c, self.held_mask(c) if c in self.sets else self.key_mask(c), c in self.sets) for c in self.holds]
        """Each lock with the bits of every way to hold it, and whether these are set bits."""
        self.live = _liveness(graph, self)
        self.taint = next((1 << self.keys[c][0] for c in self.keys if c.sort is Sort.TAINT), 0)

    def key_mask(self, cell: Cell) -> int:
        offset, width = self.keys[cell]
        return ((1 << width) - 1) << offset

    def set_mask(self, cell: Cell) -> int:
        offset, size = self.sets[cell]
        return ((1 << size) - 1) << offset

    def held_mask(self, cell: Cell) -> int:
        """The set bits of every way to hold a lock. As a key, a lock that is free has no bit at all."""
        return self.set_mask(cell) & ~(1 << self.sets[cell][0])

    def key_value(self, key: int, cell: Cell) -> int:
        offset, width = self.keys[cell]
        return (key >> offset & (1 << width) - 1) + cell.low

    def key_bits(self, cell: Cell, value: int) -> int:
        return value - cell.low << self.keys[cell][0]

    def set_values(self, sets: int, cell: Cell) -> tuple[int, ...]:
        offset, size = self.sets[cell]
        return _members(sets >> offset & (1 << size) - 1, cell.low)

    def carried(self, sets: int, cell: Cell, other: Layout) -> int:
        """The set bits of a cell as another layout has them."""
        offset, size = self.sets[cell]
        return (sets >> offset & (1 << size) - 1) << other.sets[cell][0]

    def set_bits(self, cell: Cell, values: Iterable[int]) -> int:
        offset, size = self.sets[cell]
        bits = 0
        for value in values:
            if 0 <= value - cell.low < size:
                bits |= 1 << value - cell.low
        return bits << offset


@cache
def _members(bits: int, low: int) -> tuple[int, ...]:
    return tuple(low + i for i in range(bits.bit_length()) if bits >> i & 1)


def layouts(roots: list[Graph], tracked: frozenset[Cell], loose: bool = False) -> dict[Graph, Layout]:
    """A layout for every graph reachable from the roots. A graph in which it matters whether *any* lock is held sees
    all of them, and the IRQL."""
    touched = frames(roots)
    demanding = _demanding(touched)
    holds = _holds_together(roots, touched)
    made = {
        graph: Layout(graph, cells | holds[graph] if graph in demanding else cells, tracked, loose)
        for graph, cells in touched.items()
    }
    _forget_shared(made)
    return made


def _holds_together(roots: list[Graph], touched: dict[Graph, frozenset[Cell]]) -> dict[Graph, frozenset[Cell]]:
    """For each graph the locks of all roots it has to do with, directly or through graphs they share, and the IRQL."""
    groups: list[tuple[set[Graph], set[Cell]]] = []
    for root in roots:
        graphs, cells = set(every_graph([root])), {c for c in touched[root] if c.sort in (Sort.HOLD, Sort.IRQL)}
        apart = []
        for group in groups:
            if group[0].isdisjoint(graphs):
                apart.append(group)
            else:
                graphs |= group[0]
                cells |= group[1]
        groups = [*apart, (graphs, cells)]
    return {graph: frozenset(cells) for graphs, cells in groups for graph in graphs}


def _demanding(touched: dict[Graph, frozenset[Cell]]) -> set[Graph]:
    found = {g for g in touched for e in g.edges if e.operation is not None and _asks(e.operation)}
    changed = True
    while changed:
        more = {g for g in touched if g not in found and any(e.callee in found for e in g.edges)}
        found |= more
        changed = bool(more)
    return found


def _asks(operation: Operation) -> bool:
    return operation.demands_free or operation.meets_others


def used_cells(edge: Edge) -> Iterable[Cell]:
    """Local cells whose value before the edge can matter."""
    if edge.operation is not None:
        for register in edge.operation.reads:
            cell = edge.cells[register]
            if cell is not None:
                yield cell
    for cell, _ in edge.copies_in:
        yield cell
    for check in edge.checks:
        yield check.cell


def killed_cells(edge: Edge) -> Iterable[Cell]:
    if edge.operation is not None:
        for register in edge.operation.kills:
            cell = edge.cells[register]
            if cell is not None:
                yield cell
    for _, cell in edge.copies_out:
        yield cell


def _forget_shared(made: Mapping[Graph, Layout]) -> None:
    """Where the value of a followed shared variable cannot matter any more, it is not followed: behind the last look at
    it under its guard, until the guard is acquired again, if others may write any value in between."""
    shared = dict.fromkeys(c for layout in made.values() for c in layout.keys if c.sort is Sort.SHARED)
    if not shared:
        return
    needed: dict[Cell, set[tuple[Graph, int]]] = {cell: set() for cell in shared}
    lost: dict[Edge, frozenset[Cell]] = {}
    into: dict[Graph, list[list[Edge]]] = {graph: [[] for _ in range(graph.size)] for graph in made}
    callers: dict[Graph, list[tuple[Graph, Edge]]] = {graph: [] for graph in made}
    for graph in made:
        for edge in graph.edges:
            into[graph][edge.target].append(edge)
            if edge.callee is not None:
                callers[edge.callee].append((graph, edge))
            fresh = frozenset(_refreshed(edge))
            lost[edge] = fresh.union(killed_cells(edge))
            for cell in shared.keys() & set(used_cells(edge)) - fresh:
                needed[cell].add((graph, edge.source))
    for cell, live in needed.items():
        _spread(cell, live, made, lost, into, callers)
        for graph, layout in made.items():
            if cell in layout.keys:
                mask = ~layout.key_mask(cell)
                layout.live = [
                    bits if (graph, location) in live else bits & mask for location, bits in enumerate(layout.live)
                ]


def _spread(
    cell: Cell,
    live: set[tuple[Graph, int]],
    made: Mapping[Graph, Layout],
    lost: Mapping[Edge, frozenset[Cell]],
    into: Mapping[Graph, list[list[Edge]]],
    callers: Mapping[Graph, list[tuple[Graph, Edge]]],
) -> None:
    """Adds to the places where a shared variable matters those from which its value comes to them, across calls: in
    whatever callers come to a callee, out of it to all of them."""
    pending = list(live)

    def mark(graph: Graph, location: int) -> None:
        if (graph, location) not in live:
            live.add((graph, location))
            pending.append((graph, location))

    while pending:
        graph, location = pending.pop()
        if location == graph.entry:
            for caller, edge in callers[graph]:
                mark(caller, edge.source)
        for edge in into[graph][location]:
            if cell in lost[edge]:
                continue
            if edge.callee is not None and cell in made[edge.callee].keys:
                mark(edge.callee, edge.callee.exit)
            else:
                mark(graph, edge.source)


def _refreshed(edge: Edge) -> Iterable[Cell]:
    """The cells that can have any value after the edge or before it looks at them, whatever they had before."""
    if edge.operation is not None:
        for register in edge.operation.refreshes:
            cell = edge.cells[register]
            if cell is not None and len(cell.others) == cell.high - cell.low + 1:
                yield cell


def _liveness(graph: Graph, layout: Layout) -> list[int]:
    """For each location the key bits whose value can still matter; global cells always can, as far as one graph can
    tell."""
    own = {cell: layout.key_mask(cell) for cell in layout.keys if not cell.is_global}
    everywhere = sum(layout.key_mask(cell) for cell in layout.keys if cell.is_global)
    live = [everywhere] * graph.size
    for cell in graph.outputs:
        live[graph.exit] |= own.get(cell, 0)
    if not own:
        return live
    effects: list[tuple[int, int, int, int]] = []
    into: list[list[int]] = [[] for _ in range(graph.size)]
    for edge in graph.edges:
        gen = kill = 0
        for cell in used_cells(edge):
            gen |= own.get(cell, 0)
        for cell in killed_cells(edge):
            kill |= own.get(cell, 0)
        into[edge.target].append(len(effects))
        effects.append((edge.source, edge.target, gen, ~kill))
    pending = list(range(graph.size))
    queued = [True] * graph.size
    while pending:
        location = pending.pop()
        queued[location] = False
        after = live[location]
        for index in into[location]:
            source, _, gen, keep = effects[index]
            before = live[source] | gen | after & keep
            if before != live[source]:
                live[source] = before
                if not queued[source]:
                    queued[source] = True
                    pending.append(source)
    return live
