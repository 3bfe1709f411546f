"""Contexts of a scenario that nobody can tell apart, and states that differ only by an exchange of such contexts.

Two contexts are *alike* when their graphs are the same but for the places in the source: the same operations on the
same cells between the same locations, obligation for obligation; when they are of the same kind and level; and when on
their processors there are alike contexts. An *exchange* puts contexts into the places of alike ones, those of one
processor again on one. What can happen behind an exchange is what could happen before it, with the contexts exchanged:
so the search keeps one state of those that differ by one (Ip and Dill 1996), its normal form, and for each step the
exchange that led there. What is said of a context in a state is said of the others that it can be exchanged with, too.

NOTE(exchange-checked): the certificate does not rest on this module. `evidence/closed.py` compares the graphs itself,
and asks of each exchange that was used whether it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from modelcheck.ir import Cell, Check, Edge, Graph
from modelcheck.lower import every_graph
from modelcheck.lower.closed import Closed, Context
from modelcheck.record import dataclass

Stacks: TypeAlias = tuple[tuple[int, ...], ...]
Exchange: TypeAlias = tuple[int, ...]
"""For each context whose place it takes."""


@dataclass(frozen=True, slots=True)
class Place:
    """An edge of a context, and the routine it belongs to."""

    edge: Edge
    routine: str


@dataclass(slots=True)
class Image:
    """What of a context stands for what of the first one that is like it: edges by identity, obligations by number."""

    edges: dict[int, Place]
    numbers: dict[int, int]


class Symmetry:
    """`first`: for each context the first one that is like it; `alike`: all that are. Without `wanted` every context
    is like none but itself."""

    def __init__(self, closed: Closed, wanted: bool = True) -> None:
        contexts = closed.contexts
        self.count = len(contexts)
        self.same: Exchange = tuple(range(self.count))
        self.processor = [context.processor for context in contexts]
        images: list[dict[int, Image]] = [{} for _ in contexts]
        code = list(self.same)
        """For each context the first one with the same code."""
        for index, context in enumerate(contexts):
            for other in (o for o in range(index + 1) if code[o] == o):
                image = _image(closed, contexts[other], context) if wanted or other == index else None
                if image is not None:
                    code[index], images[index][other] = other, image
                    break
        members = [[i for i in self.same if self.processor[i] == p] for p in range(closed.processors)]
        self.members = [sorted(inside, key=lambda i: code[i]) for inside in members]
        """The contexts of each processor, those with the same code together."""
        kinds = [tuple(code[i] for i in inside) for inside in self.members]
        self.kind = [kinds.index(kind) for kind in kinds]
        """For each processor the first one with the same contexts."""
        self.code = [(code[i], self.kind[self.processor[i]]) for i in self.same]
        self.first = [self.code.index(self.code[i]) for i in self.same]
        self.alike = [tuple(o for o in self.same if self.first[o] == self.first[i]) for i in self.same]
        self.is_trivial = all(len(alike) == 1 for alike in self.alike)
        self.images = [self._image(closed, images, i) for i in self.same]

    def _image(self, closed: Closed, known: list[dict[int, Image]], index: int) -> Image:
        first = self.first[index]
        found = known[index].get(first) or _image(closed, closed.contexts[first], closed.contexts[index])
        assert found is not None, "contexts with the code of a third have the same code"
        return found

    # ---- from the first of alike contexts to the others ----

    def place(self, index: int, edge: Edge) -> Place:
        """The edge of a context that an edge of its first one stands for."""
        return self.images[index].edges[id(edge)]

    def number(self, index: int, number: int) -> int:
        """The same for an obligation."""
        return self.images[index].numbers.get(number, number)

    def processors_like(self, processor: int) -> frozenset[int]:
        """The processors with the same contexts, itself among them."""
        return frozenset(p for p, kind in enumerate(self.kind) if kind == self.kind[processor])

    # ---- exchanges ----

    def carry(self, one: int, other: int) -> Exchange:
        """An exchange that puts a context into the place of one that is like it."""
        found = list(self.same)
        here, there = self.processor[one], self.processor[other]
        if here == there:
            found[one], found[other] = other, one
            return tuple(found)
        ours, theirs = list(self.members[here]), list(self.members[there])
        at, to = ours.index(one), theirs.index(other)
        theirs[at], theirs[to] = theirs[to], theirs[at]
        for mine, its in zip(ours, theirs, strict=True):
            found[mine], found[its] = its, mine
        return tuple(found)

    def normal(self, locals_: Sequence[int], stacks: Stacks) -> Exchange:
        """The exchange that leads to the normal form: contexts with the same code on one processor by local state and
        place on its stack, like processors by what their contexts do."""
        found = list(self.same)
        ranked: dict[int, list[tuple[list[tuple[int, int, int]], int, list[int]]]] = {}
        for processor, inside in enumerate(self.members):
            if inside:
                stack = stacks[processor]
                keys = {i: (self.code[i][0], locals_[i], stack.index(i) if i in stack else -1) for i in inside}
                order = sorted(inside, key=keys.__getitem__)
                ranked.setdefault(self.kind[processor], []).append(([keys[i] for i in order], processor, order))
        for group in ranked.values():
            places = [processor for _, processor, _ in group]
            for place, (_, _, order) in zip(places, sorted(group), strict=True):
                for index, to in zip(order, self.members[place], strict=True):
                    found[index] = to
        return tuple(found)

    def stacks(self, stacks: Stacks, exchange: Exchange) -> Stacks:
        """The stacks of the processors behind an exchange."""
        found = list(stacks)
        for processor, inside in enumerate(self.members):
            if inside:
                to = self.processor[exchange[inside[0]]]
                found[to] = tuple(exchange[i] for i in stacks[processor])
        return tuple(found)


def exchanged(items: Sequence[int], exchange: Exchange) -> list[int]:
    """What belongs to each context, behind an exchange."""
    found = list(items)
    for index, to in enumerate(exchange):
        found[to] = items[index]
    return found


def composed(first: Exchange, then: Exchange) -> Exchange:
    """One exchange behind another."""
    return tuple(then[to] for to in first)


def _image(closed: Closed, first: Context, other: Context) -> Image | None:
    """What of `other` stands for what of `first`; None if they are not alike."""
    ours_are = first.kind, first.level, first.admitted, first.leaves
    if ours_are != (other.kind, other.level, other.admitted, other.leaves):
        return None
    ours, theirs = every_graph([first.graph]), every_graph([other.graph])
    if len(ours) != len(theirs):
        return None
    return _Comparison(closed, ours, theirs).image(first, other)


class _Comparison:
    """Two contexts' graphs, side by side."""

    def __init__(self, closed: Closed, ours: list[Graph], theirs: list[Graph]) -> None:
        self.obligations = closed.obligations
        self.pairs = list(zip(ours, theirs, strict=True))
        self.graph = dict(self.pairs)
        self.cell: dict[Cell, Cell] = {}
        self.found = Image({}, {})

    def image(self, first: Context, other: Context) -> Image | None:
        graphs = all(self._locals(one, two) for one, two in self.pairs)
        if not graphs or not all(self._graph(one, two) for one, two in self.pairs):
            return None
        ends = self.found.edges[id(first.end)].edge is other.end
        return self.found if ends and self._checks(first.checks, other.checks) else None

    def _locals(self, one: Graph, two: Graph) -> bool:
        for ours, theirs in zip(one.locals, two.locals, strict=False):
            self.cell[ours] = theirs
            if (ours.name, ours.sort, ours.low, ours.high) != (theirs.name, theirs.sort, theirs.low, theirs.high):
                return False
        return len(one.locals) == len(two.locals)

    def _graph(self, one: Graph, two: Graph) -> bool:
        if (one.entry, one.exit, len(one.edges)) != (two.entry, two.exit, len(two.edges)):
            return False
        return all(self._edge(ours, theirs, two.routine) for ours, theirs in zip(one.edges, two.edges, strict=True))

    def _edge(self, one: Edge, two: Edge, routine: str) -> bool:
        self.found.edges[id(one)] = Place(two, routine)
        callee = None if one.callee is None else self.graph.get(one.callee)
        return (
            (one.source, one.target, one.step, one.taken, one.joined)
            == (two.source, two.target, two.step, two.taken, two.joined)
            and one.operation is two.operation
            and callee is two.callee
            and self._cells(one.cells, two.cells)
            and self._copies(one.copies_in, two.copies_in)
            and self._copies(one.copies_out, two.copies_out)
            and len(one.obligations) == len(two.obligations)
            and all(map(self._number, one.obligations, two.obligations))
        )

    def _cells(self, ours: Sequence[Cell | None], theirs: Sequence[Cell | None]) -> bool:
        mapped = [None if cell is None else self.cell.get(cell, cell) for cell in ours]
        return len(mapped) == len(theirs) and all(map(_is, mapped, theirs))

    def _copies(self, ours: Sequence[tuple[Cell, Cell]], theirs: Sequence[tuple[Cell, Cell]]) -> bool:
        mapped = [(self.cell.get(one, one), self.cell.get(two, two)) for one, two in ours]
        return mapped == list(theirs)

    def _checks(self, ours: Sequence[Check], theirs: Sequence[Check]) -> bool:
        mapped = [(self.cell.get(c.cell, c.cell), c.allowed) for c in ours]
        numbers = [(one.obligation, two.obligation) for one, two in zip(ours, theirs, strict=False)]
        return mapped == [(c.cell, c.allowed) for c in theirs] and all(self._number(*pair) for pair in numbers)

    def _number(self, ours: int, theirs: int) -> bool:
        known = self.found.numbers.setdefault(ours, theirs) == theirs
        return known and self.obligations[ours].code is self.obligations[theirs].code


def _is(one: object, other: object) -> bool:
    return one is other
