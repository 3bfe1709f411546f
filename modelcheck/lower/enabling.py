"""What a routine enables, and what it still does when that may run already: docs/language.md 6 and 7."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from functools import reduce
from operator import or_
from typing import TypeGuard

from modelcheck import ir
from modelcheck.devices import device_of
from modelcheck.ir import RUN, Cell, Edge, Graph, Root, Sort, every_graph, instructions
from modelcheck.lower.builder import Builder, constants
from modelcheck.lower.scope import Ledger
from modelcheck.record import replace
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import Property


def enabled(edge: Edge, on: bool = True) -> set[str]:
    """The routines that an edge enables, or disables."""
    code = () if edge.operation is None else edge.operation.code
    return {i.routine for i in instructions(code) if isinstance(i, ir.Enable) and i.on is on}


def _edges(root: Root) -> Iterator[Edge]:
    return (edge for graph in every_graph([root.graph]) for edge in graph.edges)


def called_out(edge: Edge) -> set[str]:
    """The roles that an edge calls out to."""
    code = () if edge.operation is None else edge.operation.code
    return {i.role for i in instructions(code) if isinstance(i, ir.Reenter)}


def enabled_by(root: Root) -> frozenset[str]:
    """Routines that a root enables somewhere."""
    return frozenset(name for edge in _edges(root) for name in enabled(edge))


def in_turn(enables: Iterable[tuple[str, frozenset[str]]], routines: Iterable[str]) -> set[str]:
    """Routines, and those that they enable, and so on. `enables`: for each root its routine and what it enables."""
    enables = list(enables)
    found = set(routines)
    pending = list(found)
    while pending:
        name = pending.pop()
        for routine, others in enables:
            if routine == name:
                pending += sorted(others - found)
                found |= others
    return found


def after_enabling(root: Root, routine: str) -> dict[Graph, set[int]]:
    """The edges of a root, by number, that can come after a routine was enabled; the edge that does it is one."""
    states = _Lives(root, routine).states
    return {
        graph: {n for n, edge in enumerate(graph.edges) if edge.source in begun or routine in enabled(edge)}
        for graph, (_, begun) in states.items()
    }


MOST_PLACES = 200
"""Places at which it is asked how locks are while one routine may begin that one root has enabled."""


def note_early(roots: list[Root], ledger: Ledger, operations: dict[object, ir.Operation]) -> None:
    """Notes for each root how locks can be when it starts before the earlier phases have ended: as they are for those
    who enable it, from then on until they disable it or wait for the end of its runs. Whether they really are is a
    question, on an edge of its own that leads nowhere."""
    enables = [(root.routine, enabled_by(root)) for root in roots]
    registered = frozenset[str]().union(*(routines for _, routines in enables))
    for root, (_, routines) in zip(roots, enables, strict=True):
        if root.phase < RUN:
            _note_call_outs(root, roots, registered, ledger, operations)
        for routine in sorted(routines) if root.phase < RUN else ():
            begun = in_turn(enables, {routine})
            later = [other for other in roots if other.routine in begun and other.phase > root.phase]
            if not later:
                continue
            alone = begun == {routine} and not any(routine in others for name, others in enables if name in begun)
            runs = frozenset[str]().union(*(other.running for other in later)) if alone else frozenset()
            found = _Lives(root, routine, runs, _left_to_others(root, later, roots)).while_enabled()
            exact = alone and sum(map(len, found.values())) <= MOST_PLACES
            for (cell, value), places in found.items():
                numbers: tuple[int, ...] = ()
                if exact and value != ir.INITIALISED:
                    begun_cell = root.environment.cells[f"begun {routine}"]
                    numbers = (_ask(root, routine, begun_cell, cell, value, places, ledger, operations),)
                _note(later, cell, value, numbers)


def _left_to_others(root: Root, later: Iterable[Root], roots: Iterable[Root]) -> list[Cell]:
    """The lives of locks that `later` roots know and that others change before they are meant to run, in the phase of
    `root` or behind it. As the root does not change them they may be none of its cells so far."""
    known = {cell.name: cell for other in later for edge in _edges(other) for cell in edge.cells if _is_life(cell)}
    others = [other for other in roots if root.phase <= other.phase < RUN and other is not root]
    before = [other for other in others if other.phase > root.phase or other.role not in root.follows]
    changed = {cell.name for other in before for edge in _edges(other) for cell in _written(edge)}
    own = {device for _, device in root.devices}
    cells = root.environment.cells
    return [
        cells.setdefault(name, replace(known[name]))
        for name in sorted(known.keys() & changed)
        if not (device := device_of(name.removeprefix("life "))) or device in own
    ]


def _note_call_outs(
    root: Root,
    roots: Collection[Root],
    registered: Container[str],
    ledger: Ledger,
    operations: dict[object, ir.Operation],
) -> None:
    """The same for the call-outs of a root, which can come back to all of a role: they find the locks as they are
    there. `registered`: the routines that somebody enables, before which nobody calls them."""
    called: dict[str, list[Root]] = {}
    for other in roots:
        if other.phase > root.phase and other.routine not in registered:
            called.setdefault(other.comes_back, []).append(other)
    if not any(called_out(edge) & called.keys() for edge in _edges(root)):
        return
    later = [other for called_back in called.values() for other in called_back]
    lives = _Lives(root, others=_left_to_others(root, later, roots))
    for (role, cell, value), places in lives.called_out(called).items():
        numbers: tuple[int, ...] = ()
        if value != ir.INITIALISED and len(places) <= MOST_PLACES:
            numbers = (_ask(root, f"a call-out to {role}", None, cell, value, places, ledger, operations),)
        _note(called[role], cell, value, numbers)


def _note(roots: Iterable[Root], cell: Cell, value: int, numbers: tuple[int, ...]) -> None:
    """Notes that roots can start while a lock has that life, if one of these questions is answered so; none: they
    can."""
    for root in roots:
        early = root.early.setdefault(cell.name, {})
        known = early.get(value, numbers)  # where it was not asked once, it is possible
        early[value] = tuple(dict.fromkeys((*known, *numbers))) if known and numbers else ()


def _ask(
    root: Root,
    who: str,
    begun: Cell | None,
    cell: Cell,
    value: int,
    places: Iterable[tuple[Graph, int]],
    ledger: Ledger,
    operations: dict[object, ir.Operation],
) -> int:
    """The number of the question whether somebody may begin while a lock has that life, at these places of a root.
    `begun`: what is set there if the root has enabled him."""
    why = f"{who} does not begin while {cell.name} = {value}"
    number = ledger.number(Property.B05, f"start {root.routine}", root.graph.span, cell.name, why)
    for graph, location in places:
        builder = Builder(operations)
        so: ir.Term = ir.Arith(BinaryOp.EQ, ir.Reg(builder.register(cell)), ir.Const(value))
        if begun is not None:
            so = ir.Arith(BinaryOp.AND, so, ir.Reg(builder.register(begun)))
        builder.emit(ir.Demand(ir.Not(so), builder.slot(number)))
        operation = builder.finish()
        cells, slots = tuple(builder.cells), tuple(builder.slots)
        graph.edges.append(Edge(location, graph.location(), graph.span, operation, cells, slots, step=False))
    return number


_AS_FOUND = 3
"""Of the four bits for each life cell: it is as the root has found it. The others are for its values."""


class _Lives:
    """How a root can have left locks at each of its locations, before it has enabled a routine and while that may
    begin to run: until it is disabled, or the root acquires one of the locks `stops`, which every run of the routine
    holds. `others`: lives that it may not change itself."""

    def __init__(
        self, root: Root, routine: str = "", stops: frozenset[str] = frozenset(), others: Iterable[Cell] = ()
    ) -> None:
        self.root = root
        self.routine = routine
        self.stops = stops
        self.graphs = every_graph([root.graph])
        written = (cell for graph in self.graphs for edge in graph.edges for cell in _written(edge))
        self.cells = {cell: 4 * n for n, cell in enumerate(dict.fromkeys((*written, *others)))}
        self.states: dict[Graph, tuple[dict[int, int], dict[int, int]]] = {g: ({}, {}) for g in self.graphs}
        """For each graph, by location: what can be before, and while the routine may begin."""
        self.effects = {graph: [self._effect(edge) for edge in graph.edges] for graph in self.graphs}
        self.turns = {graph: self._turns(graph) for graph in self.graphs}
        self._solve()

    def _turns(self, graph: Graph) -> set[bool]:
        """Whether a graph or its callees make that the routine may begin, or may no longer."""
        edges = [edge for inner in every_graph([graph]) for edge in inner.edges]
        enables = any(self._begun(edge, False) for edge in edges)
        stops = any(not self._begun(edge, True) for edge in edges)
        return {*([True] if enables else []), *([False] if stops else [])}

    def _effect(self, edge: Edge) -> tuple[int, int]:
        """What of a state remains behind an edge, and what is added."""
        kept, added = -1, 0
        for cell, (values, certain) in _written(edge).items():
            at = self.cells[cell]
            if certain:
                kept &= ~(15 << at)
            added |= sum(1 << at + value for value in values)
        return kept, added

    def _solve(self) -> None:
        self.states[self.root.graph][0][self.root.graph.entry] = sum(1 << at + _AS_FOUND for at in self.cells.values())
        changed = True
        while changed:
            changed = False
            for graph in self.graphs:
                for edge, (kept, added) in zip(graph.edges, self.effects[graph], strict=True):
                    for begun, states in enumerate(self.states[graph]):
                        here = states.get(edge.source)
                        if here is None:
                            continue
                        if edge.callee is not None:
                            inner = self.states[edge.callee]
                            changed |= _join(inner[begun], edge.callee.entry, here)
                            for end, after in enumerate(self.states[graph]):
                                ended = inner[end].get(edge.callee.exit)
                                if ended is not None and (end == begun or end in self.turns[edge.callee]):
                                    changed |= _join(after, edge.target, ended)
                        else:
                            after = self.states[graph][self._begun(edge, bool(begun))]
                            changed |= _join(after, edge.target, here & kept | added)

    def _begun(self, edge: Edge, begun: bool) -> bool:
        """Whether the routine may begin to run behind an edge."""
        if self.routine in enabled(edge):
            return True
        return begun and self.routine not in enabled(edge, on=False) and not _waits(edge, self.stops)

    def while_enabled(self) -> dict[tuple[Cell, int], list[tuple[Graph, int]]]:
        """The lives that locks can have while the routine may begin, each with the places at which that begins to be
        so."""
        ever = reduce(or_, (state for _, begun in self.states.values() for state in begun.values()), 0)
        found: dict[tuple[Cell, int], dict[tuple[Graph, int], None]] = {
            (cell, value): {} for cell, at in self.cells.items() for value in self._values(cell, ever >> at)
        }
        for graph, (_, begun) in self.states.items():
            for edge in graph.edges:
                state = begun.get(edge.target, 0)
                for cell in (self.cells if self.routine in enabled(edge) else _written(edge)) if state else ():
                    for value in self._values(cell, state >> self.cells[cell]):
                        found[cell, value][graph, edge.target] = None
        return {so: list(places) for so, places in found.items()}

    def called_out(self, roles: Collection[str]) -> dict[tuple[str, Cell, int], list[tuple[Graph, int]]]:
        """For each of these roles the lives that locks can have where the root calls out to it, with these places."""
        found: dict[tuple[str, Cell, int], dict[tuple[Graph, int], None]] = {}
        for graph, states in self.states.items():
            for edge in graph.edges:
                for role in sorted(called_out(edge) & set(roles)):
                    state = states[0].get(edge.source, 0) | states[1].get(edge.source, 0)
                    for cell, at in self.cells.items():
                        for value in sorted(self._values(cell, state >> at)):
                            found.setdefault((role, cell, value), {})[graph, edge.source] = None
        return {so: list(places) for so, places in found.items()}

    def _values(self, cell: Cell, bits: int) -> set[int]:
        """As the root finds it a lock is as declared or, from the second phase on, perhaps initialised."""
        values = {value for value in range(_AS_FOUND) if bits >> value & 1}
        if bits >> _AS_FOUND & 1:
            values |= {*cell.start, *([ir.INITIALISED] if self.root.phase else [])}
        return values


def _join(states: dict[int, int], location: int, state: int) -> bool:
    """Adds to what can be at a location; whether that was news."""
    before = states.get(location)
    states[location] = state if before is None else before | state
    return before != states[location]


def _waits(edge: Edge, locks: frozenset[str]) -> bool:
    """Whether an edge acquires one of these locks exclusively."""
    code = () if edge.operation is None else edge.operation.code
    taken = [i.register for i in code if isinstance(i, ir.Take) and not i.shared and i.result is None]
    return any(cell.name.removeprefix("hold ") in locks for r in taken if (cell := edge.cells[r]) is not None)


def _is_life(cell: Cell | None) -> TypeGuard[Cell]:
    return cell is not None and cell.sort is Sort.LIFE


def _written(edge: Edge) -> dict[Cell, tuple[set[int], bool]]:
    """The life cells that an edge writes, with the values, and whether it does for certain."""
    found: dict[Cell, tuple[set[int], bool]] = {}
    if edge.operation is not None:
        code = edge.operation.code
        for register in edge.operation.writes:
            cell = edge.cells[register]
            if _is_life(cell):
                values = set[int]()
                constants(code, register, cell, values)
                found[cell] = (values, any(isinstance(i, ir.Set) and i.register == register for i in code))
    return found
