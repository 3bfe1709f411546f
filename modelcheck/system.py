"""A root as one transition system: its calls inlined, its cells as integer variables, its steps as formulas.

This is the form for what finite tables cannot follow: numbers of a wide range. Only the variables that can matter for
the obligations in question are kept; any other cell has any value of its range wherever it is looked at, which can only
add behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from modelcheck import encode, ir
from modelcheck.encode import INTEGERS, Asserted, Declared, Item
from modelcheck.invariant import Lives, start_values
from modelcheck.ir import FREE, Cell, Edge, Graph, Root, Sort
from modelcheck.record import dataclass, field
from modelcheck.syntax import BinaryOp

MAX_EDGES = 4_000

Place: TypeAlias = tuple[Cell, int]
"""A cell, and for a local one the call it belongs to (0 for global cells)."""


class NotFlat(Exception):
    """The root calls itself, or is too large once its calls are inlined."""


@dataclass(frozen=True, slots=True)
class FlatEdge:
    """An edge of an inlined graph; `places` for its registers, or `copies` where a call begins or ends."""

    source: int
    target: int
    edge: Edge
    places: tuple[Place | None, ...] = ()
    copies: tuple[tuple[Place, Place], ...] = ()
    is_copy: bool = False


@dataclass(slots=True)
class Transition:
    """One step: `items` define what `outputs` (one term for each variable), `alive` and `broken` (by obligation)
    name."""

    items: list[Item] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    alive: str = "true"
    broken: dict[int, str] = field(default_factory=dict)

    @property
    def bad(self) -> str:
        """Some obligation is broken."""
        return encode.disjunction(self.broken.values())


class System:
    """The transition system of a root for some obligations. Deterministic: the same model gives the same system.

    Raises:
        NotFlat: see there.
    """

    def __init__(self, root: Root, obligations: frozenset[int], lives: Lives, bits: bool = False) -> None:
        self.root = root
        self.obligations = obligations
        self.lives = lives
        self.edges: list[FlatEdge] = []
        self.size = 0
        self._frames = 0
        self.entry, _ = self._inline(root.graph, ())
        self.width = self._width() if bits else INTEGERS
        self.variables = self._relevant()
        self.index = {place: number for number, place in enumerate(self.variables)}
        self.useful = self._useful()
        """Locations from which a step that may break an obligation can be reached; of the others nothing need be
        known."""

    def _useful(self) -> frozenset[int]:
        found = {flat.source for flat in self.edges if self._concerns(flat.edge) and not flat.is_copy}
        changed = True
        while changed:
            more = {flat.source for flat in self.edges if flat.target in found} - found
            found |= more
            changed = bool(more)
        return frozenset(found)

    def _width(self) -> int:
        """Bits that hold every value of every step."""
        widths = [8]
        for flat in self.edges:
            if flat.edge.operation is not None and not flat.is_copy:
                widths.append(encode.width_of(flat.edge.operation, _registers(flat)))
        return max(widths)

    # ---- inlining ----

    def _inline(self, graph: Graph, active: tuple[Graph, ...]) -> tuple[int, int]:
        """Adds a copy of the graph; its entry and exit locations."""
        if graph in active:
            raise NotFlat(f"{graph.name} calls itself")
        frame = self._frames = self._frames + 1
        base = self.size
        self.size += graph.size
        for edge in graph.edges:
            if len(self.edges) > MAX_EDGES:
                raise NotFlat("the routine is too large with all it calls")
            source, target = base + edge.source, base + edge.target
            if edge.callee is None:
                places = tuple(None if cell is None else self._place(cell, frame) for cell in edge.cells)
                self.edges.append(FlatEdge(source, target, edge, places))
                continue
            inner = self._frames + 1
            entry, end = self._inline(edge.callee, (*active, graph))
            into = tuple((self._place(a, frame), self._place(f, inner)) for a, f in edge.copies_in)
            back = tuple((self._place(f, inner), self._place(a, frame)) for f, a in edge.copies_out)
            self.edges.append(FlatEdge(source, entry, edge, copies=into, is_copy=True))
            self.edges.append(FlatEdge(end, target, edge, copies=back, is_copy=True))
        return base + graph.entry, base + graph.exit

    def _place(self, cell: Cell, frame: int) -> Place:
        return (cell, 0 if cell.is_global else frame)

    # ---- slicing ----

    def _relevant(self) -> tuple[Place, ...]:
        """The places that can decide whether a step that may break an obligation is reached, and does."""
        wanted: set[Place] = set()
        for flat in self.edges:
            if self._concerns(flat.edge):
                wanted |= self._reads(flat)
                wanted |= {(check.cell, 0) for check in flat.edge.checks}
                if flat.edge.operation is not None and flat.edge.operation.demands_free:
                    wanted |= {(c, 0) for c in self.root.environment.cells.values() if c.sort is Sort.HOLD}
            if flat.edge.operation is not None and _blocks(flat.edge.operation.code):
                wanted |= self._reads(flat)
        changed = True
        while changed:
            size = len(wanted)
            for flat in self.edges:
                if flat.is_copy:
                    wanted |= {source for source, target in flat.copies if target in wanted}
                elif any(place in wanted for place in self._writes(flat)):
                    wanted |= self._reads(flat)
            changed = len(wanted) != size
        return tuple(sorted(wanted, key=lambda place: (place[0].name, place[1])))

    def _reads(self, flat: FlatEdge) -> set[Place]:
        operation = flat.edge.operation
        if operation is None or flat.is_copy:
            return set()
        return {place for n in operation.reads if (place := flat.places[n]) is not None}

    def _writes(self, flat: FlatEdge) -> Iterable[Place]:
        operation = flat.edge.operation
        if operation is not None:
            for number in operation.writes:
                place = flat.places[number]
                if place is not None:
                    yield place

    def _concerns(self, edge: Edge) -> bool:
        return any(n in self.obligations for n in edge.obligations) or any(
            check.obligation in self.obligations for check in edge.checks
        )

    # ---- formulas ----

    def start(self, names: Sequence[str]) -> str:
        """What holds of the variables when the root starts."""
        parts = []
        for (cell, _), name in zip(self.variables, names, strict=True):
            values = start_values(self.root, cell, self.lives) if cell.is_global else range(cell.low, cell.high + 1)
            parts.append(encode.member(name, values, self.width))
        return encode.conjunction(parts)

    def step(self, flat: FlatEdge, names: Sequence[str], prefix: str) -> Transition:
        """The edge taken from variables of these names; new names begin with `prefix`."""
        made = Transition(outputs=list(names))
        if flat.is_copy:
            for number, (source, target) in enumerate(flat.copies):
                if target in self.index:
                    made.outputs[self.index[target]] = self._value(source, names, f"{prefix}c{number}", made)
            return made
        operation = flat.edge.operation
        assert operation is not None
        inputs = [
            self._value(place, names, f"{prefix}i{number}", made) if place is not None else f"{prefix}i{number}"
            for number, place in enumerate(flat.places)
        ]
        made.items += [
            Declared(f"{prefix}i{number}", encode.sort_of(self.width))
            for number, place in enumerate(flat.places)
            if place is None
        ]
        registers = [
            encode.Register("", 0, 0)
            if place is None
            else encode.Register("", place[0].low, place[0].high, place[0].others)
            for place in flat.places
        ]
        encoded = encode.encode(operation, registers, inputs, f"{prefix}t", self.width)
        made.items += encoded.items
        made.alive = encoded.alive
        for number in operation.writes:
            place = flat.places[number]
            if place is not None and place in self.index:
                made.outputs[self.index[place]] = encoded.outputs[number]
        self._broken(flat, encoded, names, prefix, made)
        return made

    def _value(self, place: Place, names: Sequence[str], fresh: str, made: Transition) -> str:
        """The variable of a place; of one that is not kept, anything in its range."""
        if place in self.index:
            return names[self.index[place]]
        cell = place[0]
        made.items.append(Declared(fresh, encode.sort_of(self.width)))
        made.items.append(Asserted(encode.member(fresh, range(cell.low, cell.high + 1), self.width)))
        return fresh

    def _broken(
        self, flat: FlatEdge, encoded: encode.Encoded, names: Sequence[str], prefix: str, made: Transition
    ) -> None:
        edge = flat.edge
        found: dict[int, list[str]] = {}
        for number, check in enumerate(edge.checks):
            if check.obligation in self.obligations:
                value = self._value((check.cell, 0), names, f"{prefix}k{number}", made)
                outside = encode.negation(encode.member(value, sorted(check.allowed), self.width))
                found.setdefault(check.obligation, []).append(outside)
        for slot, number in enumerate(edge.obligations):
            if number in self.obligations:
                terms = found.setdefault(number, [])
                terms.append(encoded.broken.get(slot, "false"))
                terms += [self._outside(d, edge, names) for d in encoded.demands if d.slot == slot]
        made.broken = {n: term for n, terms in found.items() if (term := encode.disjunction(terms)) != "false"}

    def _outside(self, demand: encode.LockDemand, edge: Edge, names: Sequence[str]) -> str:
        held = []
        for place in self.variables:
            cell = place[0]
            if cell.sort is not Sort.HOLD or cell in edge.cells or (demand.spin_only and not cell.spins):
                continue
            test = f"(not (= {names[self.index[place]]} {encode.literal(FREE, self.width)}))"
            if demand.level is not None:
                less = encode.symbol(BinaryOp.LT, self.width)
                above = f"({less} {demand.level} {encode.literal(cell.level, self.width)})"
                test = encode.conjunction((test, above))
            held.append(test)
        return encode.conjunction((demand.guard, encode.disjunction(held)))


def _registers(flat: FlatEdge) -> list[encode.Register]:
    return [
        encode.Register("", 0, 0)
        if place is None
        else encode.Register("", place[0].low, place[0].high, place[0].others)
        for place in flat.places
    ]


def _blocks(code: tuple[ir.Instruction, ...]) -> bool:
    """Whether an operation can keep the run from going on."""
    for instruction in code:
        if isinstance(instruction, ir.Guess) or (isinstance(instruction, ir.Take) and instruction.result is None):
            return True
        if isinstance(instruction, ir.Choose) and (_blocks(instruction.then) or _blocks(instruction.otherwise)):
            return True
    return False
