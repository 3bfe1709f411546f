"""Which variables to follow, guessed from where the fixpoint lost track of the locks or the IRQL.

That happens where paths join that differ in what is held or in the level. A variable that was tested where these paths
parted, or written on one of them, and that is looked at again afterwards, may still tell them apart: a flag under which
a lock is acquired and later released. A guess costs nothing but time: what is followed too much changes no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck.engines.fixpoint import Activation, Fixpoint, reverse_postorder
from modelcheck.ir import Cell, Edge, Graph, Sort
from modelcheck.layout import Layout

MAX_VALUES = 16
"""Variables with more values are never guessed."""
MAX_BITS = 6
"""Guessed variables of one graph whose values matter at once may take so many bits; beyond, nothing is guessed there."""


def suspects(fixpoint: Fixpoint) -> frozenset[Cell]:
    """Local variables that may tell apart what a fixpoint has joined."""
    entered: dict[Graph, list[Activation]] = {}
    for activation in fixpoint.activations.values():
        entered.setdefault(activation.graph, []).append(activation)
    found: set[Cell] = set()
    for graph, activations in entered.items():
        found |= _in_graph(graph, activations)
    return frozenset(found)


def _in_graph(graph: Graph, activations: list[Activation]) -> frozenset[Cell]:
    small = frozenset(c for c in graph.locals if c.sort is Sort.LOCAL and c.high - c.low < MAX_VALUES)
    if not small:
        return small
    into: list[list[Edge]] = [[] for _ in range(graph.size)]
    out: list[list[Edge]] = [[] for _ in range(graph.size)]
    for edge in graph.edges:
        into[edge.target].append(edge)
        out[edge.source].append(edge)
    joins = [location for location in range(graph.size) if len(into[location]) > 1]
    parting = _dominators(graph, into) if joins else []
    layout = Layout(graph, (), small)
    found: set[Cell] = set()
    for join in joins:
        above = parting[join]
        if above != join and any(_confused(a, join, above) for a in activations):
            live = layout.live[join]
            found.update(c for c in _between(join, above, into, out) if c in small and layout.key_mask(c) & live)
    bits = sum(layout.key_mask(cell) for cell in found)
    if any((live & bits).bit_count() > MAX_BITS for live in layout.live):
        return frozenset()
    return frozenset(found)


def _confused(activation: Activation, join: int, above: int) -> bool:
    """At the join there are more levels, or more ways for a lock to be held, than where the paths parted."""
    here, before = activation.table[join], activation.table[above]
    if len(here) > len(before):
        return True
    now = then = 0
    for sets in here.values():
        now |= sets
    for sets in before.values():
        then |= sets
    more = now & ~then
    if not more:
        return False
    for cell in activation.layout.holds:
        if cell in activation.layout.sets:
            mask = activation.layout.set_mask(cell)
            if more & mask and (now & mask).bit_count() > 1:
                return True
    return False


def _between(join: int, above: int, into: list[list[Edge]], out: list[list[Edge]]) -> Iterable[Cell]:
    """Cells tested where paths part, and those written before they join."""
    for edge in out[above]:
        if edge.operation is not None:
            for register in edge.operation.reads:
                cell = edge.cells[register]
                if cell is not None:
                    yield cell
    pending, seen = [join], {join, above}
    while pending:
        for edge in into[pending.pop()]:
            if edge.operation is not None:
                for register in edge.operation.writes:
                    cell = edge.cells[register]
                    if cell is not None:
                        yield cell
            for _, cell in edge.copies_out:
                yield cell
            if edge.source not in seen:
                seen.add(edge.source)
                pending.append(edge.source)


def _dominators(graph: Graph, into: list[list[Edge]]) -> list[int]:
    """For each location the last one that every path from the entry to it passes before (itself for the entry and where
    nothing leads). Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm."""
    rank = reverse_postorder(graph)
    order = sorted((r, location) for location, r in enumerate(rank) if r < graph.size)
    above = list(range(graph.size))
    known = [False] * graph.size
    known[graph.entry] = True
    changed = True
    while changed:
        changed = False
        for _, location in order:
            if location == graph.entry:
                continue
            best = -1
            for edge in into[location]:
                if known[edge.source]:
                    best = edge.source if best < 0 else _meet(best, edge.source, above, rank)
            if best >= 0 and (not known[location] or above[location] != best):
                above[location] = best
                known[location] = changed = True
    return above


def _meet(first: int, second: int, above: list[int], rank: list[int]) -> int:
    while first != second:
        while rank[first] > rank[second]:
            first = above[first]
        while rank[second] > rank[first]:
            second = above[second]
    return first
