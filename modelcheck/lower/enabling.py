"""What a routine enables, and what it still does when that may run already: docs/language.md 6 and 7."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from functools import reduce
from operator import or_
from typing import TypeGuard

from modelcheck import ir
from modelcheck.devices import device_of
from modelcheck.ir import RUN, START, STOP, Cell, Edge, Graph, Root, Sort, every_graph, instructions
from modelcheck.lower.builder import Builder, constants
from modelcheck.lower.scope import Ledger
from modelcheck.record import replace
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import Property


def enabled(edge: Edge) -> set[str]:
    """The routines that an edge enables."""
    return {i.routine for i in instructions(edge.code) if isinstance(i, ir.Enable) and i.on}


def _edges(root: Root) -> Iterator[Edge]:
    return (edge for graph in every_graph([root.graph]) for edge in graph.edges)


def called_out(edge: Edge) -> set[str]:
    """The roles that an edge calls out to."""
    return {i.role for i in instructions(edge.code) if isinstance(i, ir.Reenter)}


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
        graph: {
            n
            for n, edge in enumerate(graph.edges)
            if edge.source in found[_RUNNING] or edge.source in found[_BEGINNING] or routine in enabled(edge)
        }
        for graph, found in states.items()
    }


MOST_PLACES = 200
"""Places at which it is asked how locks are while one routine may begin that one root has enabled."""


def note_early(roots: list[Root], ledger: Ledger, operations: dict[object, ir.Operation]) -> None:
    """Notes for each root how locks can be when it starts before the earlier phases have ended: as they are for those
    who enable it, from then on until they disable it or wait for the end of its runs. Whether they really are is a
    question, on an edge of its own that leads nowhere."""
    early = _Early(roots, ledger, operations)
    for root in roots:
        if root.phase < RUN:
            early.call_outs(root)
            early.enabling(root)


class _Early:
    """Who can start early, in one driver."""

    def __init__(self, roots: list[Root], ledger: Ledger, operations: dict[object, ir.Operation]) -> None:
        self.roots = roots
        self.ledger = ledger
        self.operations = operations
        self.enables = [(root.routine, enabled_by(root)) for root in roots]
        self.one_interrupt = len({root.routine for root in roots if root.kind == "isr"}) <= 1
        """Whether to disconnect an interrupt, whichever, is to disconnect all of them."""
        self.known: dict[Root, dict[str, Cell]] = {}
        """The lives of locks that a root knows, by name, as far as that was asked."""
        self.changed: dict[Root, set[str]] = {}
        """Those that it changes."""

    def enabling(self, root: Root) -> None:
        """Notes how locks are for those whom a root enables."""
        for routine in sorted(enabled_by(root)):
            begun = in_turn(self.enables, {routine})
            later = [other for other in self.roots if other.routine in begun and other.phase > root.phase]
            if not later:
                continue
            alone = begun == {routine} and not any(routine in others for name, others in self.enables if name in begun)
            runs = frozenset[str]().union(*(other.running for other in later)) if alone else frozenset()
            cells = self._cells(root, later)
            found: dict[tuple[Cell, int], list[tuple[Graph, int]]] = {}
            starting = sorted({i.by for edge in _edges(root) for i in _starting(edge, routine)})
            for by in starting:  # each starts runs of its own
                stops = frozenset(lock for lock in runs if lock == f"{by or routine}.run" or not lock.endswith(".run"))
                alive = _Lives(root, routine, stops, cells, by, alone and self.one_interrupt).while_enabled()
                for so, places in alive.items():
                    found[so] = list(dict.fromkeys((*found.get(so, ()), *places)))
            # who begins himself again is exactly there from his beginning on, if nobody ends that
            lasting = begun == {routine} and not any(_ends(edge, routine, later) for edge in _edges(root))
            exact = (alone or lasting) and sum(map(len, found.values())) <= MOST_PLACES
            for (cell, value), places in found.items():
                numbers: tuple[int, ...] = ()
                if exact and value != ir.INITIALISED:
                    numbers = (
                        self._ask(root, routine, cell, value, places, root.environment.cells[f"begun {routine}"]),
                    )
                _note(later, cell, value, numbers)

    def call_outs(self, root: Root) -> None:
        """Notes how locks are where a root calls out, for all of the role to which it may come back; but for those whom
        somebody enables, before which nobody calls them."""
        roles = {role for edge in _edges(root) for role in called_out(edge)}
        enabled = frozenset[str]().union(*(routines for _, routines in self.enables)) if roles else frozenset()
        called: dict[str, list[Root]] = {}
        for other in self.roots if roles else ():
            if other.phase > root.phase and other.comes_back in roles and other.routine not in enabled:
                called.setdefault(other.comes_back, []).append(other)
        later = [other for called_back in called.values() for other in called_back]
        lives = _Lives(root, cells=self._cells(root, later)) if later else None
        for (role, cell, value), places in lives.called_out(called).items() if lives else ():
            numbers: tuple[int, ...] = ()
            if value != ir.INITIALISED and len(places) <= MOST_PLACES:
                numbers = (self._ask(root, f"a call-out to {role}", cell, value, places),)
            _note(called[role], cell, value, numbers)

    def _cells(self, root: Root, later: Iterable[Root]) -> list[Cell]:
        """The lives of locks that `later` roots know, and that the root changes, or others in its phase or behind it
        before those are meant to run. As the root does not change the latter they may be none of its cells so far."""
        known: dict[str, Cell] = {}
        for other in later:
            known |= self._known(other)
        own = self._changed(root)
        changed = set(own)
        for other in self.roots:
            if root.phase < other.phase < RUN or (other.phase == root.phase and other.role not in root.follows):
                changed |= self._changed(other)
        devices = {"", *(device for _, device in root.devices)}
        return [
            root.environment.cells.setdefault(name, replace(known[name]))
            for name in sorted(known.keys() & changed)
            if name in own or device_of(name.removeprefix("life ")) in devices
        ]

    def _known(self, root: Root) -> dict[str, Cell]:
        if root not in self.known:
            self.known[root] = {cell.name: cell for edge in _edges(root) for cell in edge.cells if _is_life(cell)}
        return self.known[root]

    def _changed(self, root: Root) -> set[str]:
        if root not in self.changed:
            self.changed[root] = {cell.name for edge in _edges(root) for cell in written_lives(edge)}
        return self.changed[root]

    def _ask(
        self,
        root: Root,
        who: str,
        cell: Cell,
        value: int,
        places: Iterable[tuple[Graph, int]],
        begun: Cell | None = None,
    ) -> int:
        """The number of the question whether somebody may begin while a lock has that life, at these places of a root.
        `begun`: what is set there if the root has enabled him."""
        why = f"{who} does not begin while {cell.name} = {value}"
        number = self.ledger.number(Property.B05, f"start {root.routine}", root.graph.span, cell.name, why)
        for graph, location in places:
            builder = Builder(self.operations)
            so: ir.Term = ir.Arith(BinaryOp.EQ, ir.Reg(builder.register(cell)), ir.Const(value))
            if begun is not None:
                so = ir.Arith(BinaryOp.AND, so, ir.Reg(builder.register(begun)))
            builder.emit(ir.Demand(ir.Not(so), builder.slot(number)))
            operation = builder.finish()
            cells, slots = tuple(builder.cells), tuple(builder.slots)
            graph.edges.append(Edge(location, graph.location(), graph.span, operation, cells, slots, step=False))
        return number


def _note(roots: Iterable[Root], cell: Cell, value: int, numbers: tuple[int, ...]) -> None:
    """Notes that roots can start while a lock has that life, if one of these questions is answered so; none: they
    can."""
    for root in roots:
        early = root.early.setdefault(cell.name, {})
        known = early.get(value, numbers)  # where it was not asked once, it is possible
        early[value] = tuple(dict.fromkeys((*known, *numbers))) if known and numbers else ()


def goes_on(stop: Root, roots: Iterable[Root]) -> list[Root]:
    """The roots with which a device goes on that a root has stopped, those first that others of them follow."""
    if not stop.resumes:
        return []
    stopped = {device for _, device in stop.devices}
    found = [
        root
        for root in roots
        if root.phase == START
        and root.among == stop.among
        and stop.resumes in (root.role, *root.follows)
        and (not stopped or not root.devices or any(device in stopped for _, device in root.devices))
    ]
    return sorted(found, key=lambda root: len(root.follows))


def stopping(stop: Root, roots: Iterable[Root]) -> list[Root]:
    """The roots that stop a device before another one does, and that one."""
    before = (r for r in roots if r.phase == stop.phase and r.role in stop.follows and r.among == stop.among)
    return [*before, stop]


def note_resumed(roots: list[Root], freeable: Container[str]) -> None:
    """Notes for each root how it may find locks since its device goes on: as they were left by those who stopped it,
    or by those before them. Those with which it goes on, up to those who change a lock, may find it freed; or
    initialised, if it can be freed (`freeable`, by the names of life cells) and nobody who stops frees it: one who does
    may know by a flag when not to. Freed it may be found by all who come behind, if none of those changes it. That it
    is left so are the questions with which life somebody leaves it."""
    stops = [(stop, goes_on(stop, roots)) for stop in roots if stop.resumes]
    resumed = {id(root) for _, beginning in stops for root in beginning}
    alone = [root for root in roots if root.again and id(root) not in resumed]
    before = [root for root in roots if START <= root.phase <= RUN]
    for stop, beginning in [*stops, *((None, [root]) for root in alone)]:
        stopped = [] if stop is None else stopping(stop, roots)
        for name in sorted({name for root in (*stopped, *before) for name, _ in root.outcomes}):
            leaving = [root for root in stopped if (name, ir.FREED) in root.outcomes]
            changing = [len(root.follows) for root in beginning if (name, ir.FREED) in root.outcomes]
            first = [root for root in beginning if len(root.follows) <= min(changing, default=len(roots))]
            for value in (ir.FREED, ir.INITIALISED) if name in freeable and not leaving else (ir.FREED,):
                left_so = (root.outcomes.get((name, value)) for root in leaving or before)
                numbers = tuple(number for number in left_so if number is not None)
                if leaving or changing:
                    _note_resumed(first, name, value, numbers)
                if leaving and not changing and value == ir.FREED:
                    _note_resumed([root for root in roots if root.phase in (RUN, STOP)], name, value, numbers)


def _note_resumed(roots: list[Root], name: str, value: int, numbers: tuple[int, ...]) -> None:
    for root in roots if numbers else ():
        if name in root.environment.cells:
            _note([root], root.environment.cells[name], value, numbers)
            root.resumed |= {name}


_AS_FOUND = 3
"""Of the four bits for each life cell: it is as the root has found it. The others are for its values."""


_IDLE, _RUNNING, _BEGINNING = range(3)
"""A routine does not run, may be running, may begin to run."""


class _Lives:
    """How a root can have left locks at each of its locations, before it has enabled a routine and while that may run:
    until the root has acquired one of the locks `stops`, which every run of the routine holds. What a timer runs has to
    be disabled before that. `by`: only as far as that starts it (a timer, say; None: anything). `ends`: where it is
    disabled it does not run either, as a service routine. `cells`: the lives that are followed."""

    def __init__(
        self,
        root: Root,
        routine: str = "",
        stops: frozenset[str] = frozenset(),
        cells: Iterable[Cell] = (),
        by: str | None = None,
        ends: bool = False,
    ) -> None:
        self.root = root
        self.routine = routine
        self.stops = stops
        self.by = by
        self.ends = ends
        self.graphs = every_graph([root.graph])
        self.cells = {cell: 4 * n for n, cell in enumerate(cells)}
        self.again = any(i.lasts for edge in _edges(root) for i in self._turned(edge, True))
        self.states: dict[Graph, tuple[dict[int, int], ...]] = {g: ({}, {}, {}) for g in self.graphs}
        """For each graph, by location: what can be while the routine does not run, runs, may begin."""
        self.effects = {graph: [self._effect(edge) for edge in graph.edges] for graph in self.graphs}
        self.turns = {graph: self._turns(graph) for graph in self.graphs}
        self._solve()

    def _turns(self, graph: Graph) -> set[int]:
        """What becomes of the routine by what a graph or its callees do."""
        edges = [edge for inner in every_graph([graph]) for edge in inner.edges]
        return {after for edge in edges for begun in range(3) if (after := self._behind(edge, begun)) != begun}

    def _effect(self, edge: Edge) -> tuple[int, int]:
        """What of a state remains behind an edge, and what is added."""
        kept, added = -1, 0
        for cell, (values, certain) in written_lives(edge).items() if self.cells else ():
            if cell in self.cells:
                at = self.cells[cell]
                kept &= ~(15 << at) if certain else -1
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
                            after = self.states[graph][self._behind(edge, begun)]
                            changed |= _join(after, edge.target, here & kept | added)

    def _behind(self, edge: Edge, begun: int) -> int:
        """Whether the routine may run, or begin to, behind an edge."""
        if self._turned(edge, True):
            return _BEGINNING
        disabled = self._turned(edge, False)
        if self.ends and any(not i.lasts for i in disabled):
            return _IDLE
        code = certain(self.root, edge) if self.stops else ()
        if begun == _BEGINNING and self.by is not None and disabled:
            begun = _RUNNING
            code = code[max((n for n, i in enumerate(code) if i in disabled), default=len(code)) :]
        if not self.stops.isdisjoint(acquired(edge, code)) and (begun == _RUNNING or not self.again):
            return _IDLE
        return begun

    def _turned(self, edge: Edge, on: bool) -> list[ir.Enable]:
        return [i for i in _starting(edge, self.routine, on) if self.by in (None, i.by)]

    def while_enabled(self) -> dict[tuple[Cell, int], list[tuple[Graph, int]]]:
        """The lives that locks can have while the routine may begin, each with the places at which that begins to be
        so."""
        while_ = {graph: _either(states[_RUNNING], states[_BEGINNING]) for graph, states in self.states.items()}
        ever = reduce(or_, (state for begun in while_.values() for state in begun.values()), 0)
        found: dict[tuple[Cell, int], dict[tuple[Graph, int], None]] = {
            (cell, value): {} for cell, at in self.cells.items() for value in self._values(cell, ever >> at)
        }
        for graph, begun in while_.items():
            for edge in graph.edges:
                state = begun.get(edge.target, 0)
                changed = self.cells if self._turned(edge, True) else self.cells.keys() & written_lives(edge).keys()
                for cell in changed if state else ():
                    for value in self._values(cell, state >> self.cells[cell]):
                        found[cell, value][graph, edge.target] = None
        return {so: list(places) for so, places in found.items()}

    def called_out(self, roles: Collection[str]) -> dict[tuple[str, Cell, int], list[tuple[Graph, int]]]:
        """For each of these roles the lives that locks can have where the root calls out to it, with these places."""
        found: dict[tuple[str, Cell, int], dict[tuple[Graph, int], None]] = {}
        for graph, states in self.states.items():
            for edge in graph.edges:
                for role in sorted(called_out(edge) & set(roles)):
                    state = reduce(or_, (here.get(edge.source, 0) for here in states))
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


def _either(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {location: one.get(location, 0) | other.get(location, 0) for location in one.keys() | other.keys()}


def _starting(edge: Edge, routine: str, on: bool = True) -> list[ir.Enable]:
    """Where an edge lets a routine begin, or no longer."""
    return [i for i in instructions(edge.code) if isinstance(i, ir.Enable) and i.on is on and i.routine == routine]


def _ends(edge: Edge, routine: str, runs: Iterable[Root]) -> bool:
    """Whether an edge may disable a routine, or wait for the end of its runs."""
    if _starting(edge, routine, on=False):
        return True
    held = frozenset[str]().union(*(run.running for run in runs))
    return not held.isdisjoint(acquired(edge, instructions(edge.code)))


def _join(states: dict[int, int], location: int, state: int) -> bool:
    """Adds to what can be at a location; whether that was news."""
    before = states.get(location)
    states[location] = state if before is None else before | state
    return before != states[location]


def certain(root: Root, edge: Edge) -> tuple[ir.Instruction, ...]:
    """What a root does on an edge in any case."""
    return tuple(step for i in edge.code for step in (i.then if is_no_run(i, root, edge) else (i,)))


def is_no_run(instruction: ir.Instruction, root: Root, edge: Edge) -> TypeGuard[ir.Choose]:
    """Whether an instruction asks if `R.run` is not held, where a root is no run of R: it never holds that, unless it
    takes it to be beside those who hold it."""
    if not (isinstance(instruction, ir.Choose) and isinstance(instruction.condition, ir.Not)):
        return False
    held = instruction.condition.operand
    cell = edge.cells[held.register] if isinstance(held, ir.IsHeld) else None
    if cell is None or not cell.name.endswith(".run") or cell.name.removeprefix("hold ") in root.running:
        return False
    takes = ((other, i) for other in _edges(root) for i in instructions(other.code) if isinstance(i, ir.Take))
    return not any(i.shared and other.cells[i.register] == cell for other, i in takes)


def acquired(edge: Edge, code: Iterable[ir.Instruction]) -> list[str]:
    """The locks that instructions of an edge acquire exclusively, however long that takes."""
    cells = [edge.cells[i.register] for i in code if isinstance(i, ir.Take) and not i.shared and i.result is None]
    return [cell.name.removeprefix("hold ") for cell in cells if cell is not None]


def _is_life(cell: Cell | None) -> TypeGuard[Cell]:
    return cell is not None and cell.sort is Sort.LIFE


def written_lives(edge: Edge) -> dict[Cell, tuple[set[int], bool]]:
    """The life cells that an edge writes, with the values, and whether it does for certain."""
    found: dict[Cell, tuple[set[int], bool]] = {}
    for register in () if edge.operation is None else edge.operation.writes:
        cell = edge.cells[register]
        if _is_life(cell):
            values = set[int]()
            constants(edge.code, register, cell, values)
            found[cell] = (values, any(isinstance(i, ir.Set) and i.register == register for i in edge.code))
    return found
