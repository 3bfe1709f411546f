"""Which variables to follow, guessed from where the fixpoint lost track of the locks or the IRQL.

That happens where paths join that differ in what is held or in the level. A variable that was tested where these paths
parted, or written on one of them, and that is looked at again afterwards, may still tell them apart: a flag under which
a lock is acquired and later released. So may a variable that the obligation itself looks at. A guess costs nothing but
time: what is followed too much changes no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from modelcheck.engines.fixpoint import Activation, Fixpoint, reverse_postorder
from modelcheck.ir import Cell, Edge, Graph, Sort
from modelcheck.layout import Layout, used_cells
from modelcheck.record import dataclass

MAX_VALUES = 16
"""Variables with more values are never guessed."""
MAX_BITS = 12
"""Guessed variables of one graph whose values matter at once may take so many bits; beyond, nothing is guessed
there."""


@dataclass(frozen=True, slots=True)
class _Manner:
    """How freely to guess. `polluted`: also where the locks were already unclear before the paths parted, as in a loop;
    `written`: also what is only written in between; `values`: the most values a variable may have."""

    polluted: bool
    written: bool
    values: int


FIRST = (_Manner(False, True, 4),)
"""Before anything is known: what costs little."""
LATER = (_Manner(False, True, MAX_VALUES), _Manner(True, False, 2), _Manner(True, False, MAX_VALUES))
"""Where there are alarms: the next manner where the one before finds nothing new."""


Geometry: TypeAlias = "dict[Graph, _Joins]"
"""The joins of graphs that were looked at before: they do not depend on how an analysis goes."""


def suspects(
    fixpoint: Fixpoint, obligations: Iterable[int], known: Geometry, manners: tuple[_Manner, ...] = LATER
) -> frozenset[Cell]:
    """Local variables not yet followed that may tell apart what a fixpoint has joined, or that these obligations look
    at."""
    entered: dict[Graph, list[Activation]] = {}
    for activation in fixpoint.activations.values():
        entered.setdefault(activation.graph, []).append(activation)
    alarms = [alarm for number in obligations for alarm in fixpoint.alarms[number]]
    looked_at = {c for edge in dict.fromkeys(alarm.plan.edge for alarm in alarms) for c in used_cells(edge)}
    for graph in entered:
        if graph not in known:
            known[graph] = _Joins(graph)
    for manner in manners:
        found: set[Cell] = set()
        for graph, activations in entered.items():
            found |= known[graph].suspects(fixpoint, activations, manner, looked_at)
        new = found - fixpoint.tracked
        if new:
            return frozenset(new)
    return frozenset()


def counted_by(fixpoint: Fixpoint, obligation: int) -> frozenset[Cell]:
    """The shared variable that is not yet followed and that alone decides whether a value stays in its range: a count
    that is tested before it goes up. Empty if there is none, or several."""
    looked_at = {c for alarm in fixpoint.alarms[obligation] for c in used_cells(alarm.plan.edge)}
    shared = [c for c in looked_at if c.sort is Sort.SHARED and c.high - c.low < MAX_VALUES]
    return frozenset(shared) - fixpoint.tracked if len(shared) == 1 else frozenset()


class _Joins:
    """The joins of one graph, and where their paths part."""

    def __init__(self, graph: Graph) -> None:
        self.small = frozenset(c for c in graph.locals if c.sort is Sort.LOCAL and c.high - c.low < MAX_VALUES)
        if not self.small:
            return
        self.into: list[list[Edge]] = [[] for _ in range(graph.size)]
        self.out: list[list[Edge]] = [[] for _ in range(graph.size)]
        for edge in graph.edges:
            self.into[edge.target].append(edge)
            self.out[edge.source].append(edge)
        self.joins = [location for location in range(graph.size) if len(self.into[location]) > 1]
        self.parting = _dominators(graph, self.into)
        self.layout = Layout(graph, (), self.small)

    def suspects(
        self, fixpoint: Fixpoint, activations: list[Activation], manner: _Manner, looked_at: set[Cell]
    ) -> set[Cell]:
        if not self.small:
            return set()
        found = looked_at & self.small
        for join in self.joins:
            above = self.parting[join]
            if above == join:
                continue
            changed = set(self._written(join, above, fixpoint)) if manner.polluted else set[Cell]()
            if any(_mixed(a, join, above, changed) for a in activations):
                live = self.layout.live[join]
                written = self._written(join, above, fixpoint) if manner.written else ()
                cells = [*_tested(self.out[above]), *written]
                found.update(c for c in cells if c in self.small and self.layout.key_mask(c) & live)
        found = {c for c in found if c.high - c.low < manner.values}
        followed = found | fixpoint.tracked & self.small
        bits = sum(self.layout.key_mask(cell) for cell in followed)
        return found if all((live & bits).bit_count() <= MAX_BITS for live in self.layout.live) else set()

    def _written(self, join: int, above: int, fixpoint: Fixpoint) -> Iterable[Cell]:
        """Cells written between where paths part and where they join."""
        pending, seen = [join], {join, above}
        while pending:
            for edge in self.into[pending.pop()]:
                if edge.operation is not None:
                    for register in edge.operation.writes:
                        cell = edge.cells[register]
                        if cell is not None:
                            yield cell
                elif edge.callee in fixpoint.layouts:
                    yield from fixpoint.layouts[edge.callee].holds
                for _, cell in edge.copies_out:
                    yield cell
                if edge.source not in seen:
                    seen.add(edge.source)
                    pending.append(edge.source)


def _mixed(activation: Activation, join: int, above: int, changed: set[Cell]) -> bool:
    """Whether one entry of a graph loses track at the join; `changed` cells count even if they were unclear above."""
    here, before = activation.table[join], activation.table[above]
    if len(here) > len(before) or (len(here) > 1 and any(c.sort is Sort.IRQL for c in changed)):
        return True
    now = then = 0
    for sets in here.values():
        now |= sets
    for sets in before.values():
        then |= sets
    more = now & ~then
    layout = activation.layout
    cells = changed if changed else layout.holds if more else ()
    for cell in cells:
        if cell.sort is Sort.HOLD and cell in layout.sets:
            mask = layout.set_mask(cell)
            if (changed or more & mask) and (now & mask).bit_count() > 1:
                return True
    return False


def _tested(branches: list[Edge]) -> Iterable[Cell]:
    """Cells looked at where paths part."""
    for edge in branches:
        if edge.operation is not None:
            for register in edge.operation.reads:
                cell = edge.cells[register]
                if cell is not None:
                    yield cell


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
