"""Who has ended at a place of a root: it has waited for his runs, and nobody who is there can begin them again.

A wait for the end of runs acquires exclusively what each of them holds (docs/language.md 7). Behind it none of them
goes on; a new one begins only if somebody enables it, who must not be there any more: because his role is apart, he has
ended himself, or he holds a lock that has been closed. A timer has to be disabled besides, at a time when nobody could
set it again. What closes (a remove lock, run-down protection) is held by nobody from then on.

All of this is read off the graphs, on every path to a place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelcheck import ir
from modelcheck.devices import device_of
from modelcheck.ir import INITIALISED, Cell, Edge, Graph, Root, Sort, every_graph
from modelcheck.lower.builder import constants
from modelcheck.lower.enabling import called_out
from modelcheck.mutual.overlap import Overlap
from modelcheck.mutual.positions import MAY_BE_FREE, Facts, Held, Site, lock_of
from modelcheck.record import dataclass, field, replace
from modelcheck.resolve import Program


@dataclass(frozen=True, slots=True)
class Gone:
    """What is certain at a place of a root: the routines that nobody starts any more, the roots, by index, for whose
    runs it has waited, those that have ended, and the locks that it has closed. Not certain: for whose runs it has
    perhaps waited, where a kernel routine may or may not do so."""

    disabled: frozenset[str] = frozenset()
    waited: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    closed: frozenset[str] = frozenset()
    perhaps: frozenset[int] = frozenset()

    def __and__(self, other: Gone) -> Gone:
        return Gone(
            self.disabled & other.disabled,
            self.waited & other.waited,
            self.ended & other.ended,
            self.closed & other.closed,
            self.perhaps | other.perhaps,
        )

    def begun_again(self) -> Gone:
        """What is left when somebody may have begun again."""
        return Gone(closed=self.closed, perhaps=self.perhaps)


NOTHING = Gone()

THE_ONE = "*"
"""In place of a device: the only one of a driver that declares none."""


class Ended:
    """Of the roots of one driver, by index."""

    def __init__(self, program: Program, roots: list[Root], facts: Facts, overlap: Overlap) -> None:
        self.roots = roots
        self.overlap = overlap
        self.graphs = every_graph([root.graph for root in roots])
        self.running: dict[str, set[int]] = {}
        """For each lock the roots whose runs hold it."""
        for index, root in enumerate(roots):
            for lock in root.running:
                self.running.setdefault(lock, set()).add(index)
        kinds = {name for name, kind in program.lock_kinds.items() if kind.closes}
        self.closing = {name for name, lock in program.locks.items() if lock.kind in kinds}
        self.doubtful = frozenset(filter(program.is_doubtful, self.running))
        self.enabling: dict[str, dict[int, list[Held]]] = {}
        """For each routine the roots that enable it, with what they may hold there."""
        for index, enables in enumerate(facts.enables):
            for routine, held in enables.items():
                self.enabling.setdefault(routine, {})[index] = held
        enabled = (i for graph in self.graphs for edge in graph.edges for i in _code(edge) if isinstance(i, ir.Enable))
        self.again = {i.routine for i in enabled if i.on and i.lasts}
        """The routines that a timer runs."""
        self._found: dict[tuple[int, str], dict[Graph, dict[int, Gone]]] = {}
        self._initialising: dict[str, set[int]] | None = None

    def at(self, root: int, sites: Iterable[Site], device: str = "") -> Gone:
        """What is certain at all of these places of a root; on a device that the root is given, if one is named: what
        begins for another one does not matter there."""
        states = self._states(root, device)
        found: Gone | None = None
        for site in sites:
            graph = self.graphs[site.graph]
            here = states.get(graph, {}).get(graph.edges[site.edge].source, NOTHING)
            found = here if found is None else found & here
        return found or NOTHING

    def _states(self, root: int, device: str) -> dict[Graph, dict[int, Gone]]:
        found = self._found.get((root, device))
        if found is None:
            graphs = every_graph([self.roots[root].graph])
            waits = any(self._awaited(edge) for graph in graphs for edge in graph.edges)
            found = self._found[root, device] = _Paths(self, root, device, graphs).run() if waits else {}
        return found

    def _awaited(self, edge: Edge) -> bool:
        """Whether an edge may acquire what runs hold, or what closes, or end what is enabled."""
        taken = any(lock in self.running or lock in self.closing for lock in _taken(edge, _code(edge)))
        return taken or any(isinstance(i, ir.Enable) and not i.on and not i.lasts for i in _code(edge))

    def playing(self, routine: str) -> set[int]:
        """The roots that start with a routine."""
        return {index for index, root in enumerate(self.roots) if root.routine == routine}

    def initialising(self, lock: str) -> set[int]:
        """The roots that initialise a lock."""
        if self._initialising is None:
            self._initialising = {}
            for index, root in enumerate(self.roots):
                for graph in every_graph([root.graph]):
                    for cell in (cell for edge in graph.edges for cell in _initialised(edge)):
                        self._initialising.setdefault(cell.name.removeprefix("life "), set()).add(index)
        return self._initialising.get(lock, set())


@dataclass(slots=True)
class _Paths:
    """What is certain on all paths of one root. A call is one with all others of the same routine."""

    ended: Ended
    root: int
    device: str
    graphs: list[Graph]
    states: dict[Graph, dict[int, Gone]] = field(default_factory=dict)

    def run(self) -> dict[Graph, dict[int, Gone]]:
        self.states = {graph: {} for graph in self.graphs}
        start = self.ended.roots[self.root].graph
        self.states[start][start.entry] = NOTHING
        changed = True
        while changed:
            changed = False
            for graph in self.graphs:
                for edge in graph.edges:
                    here = self.states[graph].get(edge.source)
                    if here is None:
                        continue
                    if edge.callee is None:
                        changed |= self._join(graph, edge.target, self._behind(edge, here))
                        continue
                    changed |= self._join(edge.callee, edge.callee.entry, here)
                    behind = self.states[edge.callee].get(edge.callee.exit)
                    if behind is not None:
                        changed |= self._join(graph, edge.target, behind)
        return self.states

    def _join(self, graph: Graph, location: int, state: Gone) -> bool:
        known = self.states[graph].get(location)
        joined = state if known is None else known & state
        self.states[graph][location] = joined
        return joined != known

    def _behind(self, edge: Edge, state: Gone) -> Gone:
        if called_out(edge):
            state = state.begun_again()
        return self._through(edge, () if edge.operation is None else edge.operation.code, state)

    def _through(self, edge: Edge, code: Sequence[ir.Instruction], state: Gone) -> Gone:
        for instruction in code:
            match instruction:
                case ir.Choose(_, then, otherwise):
                    state = self._through(edge, then, state) & self._through(edge, otherwise, state)
                case ir.Enable(_, True):
                    state = state.begun_again()
                case ir.Enable(routine, False, lasts):
                    if not lasts:
                        state = replace(state, perhaps=state.perhaps | self.ended.playing(routine))
                    if self._nobody_begins(routine, state):
                        state = replace(state, disabled=state.disabled | {routine})
                case ir.Take():
                    for lock in _taken(edge, (instruction,)):
                        state = self._waited(lock, state)
                case _:
                    pass
        return state

    def _waited(self, lock: str, state: Gone) -> Gone:
        if lock in self.ended.closing and not any(map(self._is_there, sorted(self.ended.initialising(lock)))):
            state = replace(state, closed=state.closed | {lock})
        runs = self.ended.running.get(lock, set())
        ended = [index for index in sorted(runs) if self._is_over(self.ended.roots[index].routine, state)]
        if lock in self.ended.doubtful:
            return replace(state, perhaps=state.perhaps | runs)
        return replace(state, waited=state.waited | runs, ended=state.ended.union(ended))

    def _is_over(self, routine: str, state: Gone) -> bool:
        """Whether a routine whose runs have ended begins no more."""
        by_itself = routine in self.ended.again or routine not in self.ended.enabling
        return self._nobody_begins(routine, state) and (routine in state.disabled or not by_itself)

    def _nobody_begins(self, routine: str, state: Gone) -> bool:
        """Whether nobody is there who could enable a routine."""
        return all(
            index in state.ended or not self._is_there(index) or all(self._is_stopped(h, state) for h in held)
            for index, held in self.ended.enabling.get(routine, {}).items()
        )

    def _is_there(self, other: int) -> bool:
        """Whether a context of another root can be there, on the device in question if there is one."""
        overlap, devices = self.ended.overlap, {device for _, device in self.ended.roots[other].devices}
        if not overlap.meet(self.root, other) or (self.device and devices and self.device not in devices):
            return False
        if self.device == THE_ONE:
            return not overlap.kept_apart(self.root, other)
        return not self.device or overlap.kept_off(self.root, other) != self.device

    def _is_stopped(self, held: Held, state: Gone) -> bool:
        """Whether one who holds this has to be gone, because a lock of his is closed."""
        return any(
            lock in state.closed and not mask & MAY_BE_FREE and device_of(lock) in ("", self.device)
            for lock, mask in held
        )


def _code(edge: Edge) -> Iterable[ir.Instruction]:
    return ir.instructions(() if edge.operation is None else edge.operation.code)


def _taken(edge: Edge, code: Iterable[ir.Instruction]) -> list[str]:
    """The locks that are acquired exclusively, however long that takes."""
    cells = [edge.cells[i.register] for i in code if isinstance(i, ir.Take) and not i.shared and i.result is None]
    return [lock_of(cell) for cell in cells if cell is not None]


def _initialised(edge: Edge) -> list[Cell]:
    """The lives of the locks that an edge may initialise."""
    found: list[Cell] = []
    for register in () if edge.operation is None else edge.operation.writes:
        cell = edge.cells[register]
        if cell is not None and cell.sort is Sort.LIFE and edge.operation is not None:
            values = set[int]()
            constants(edge.operation.code, register, cell, values)
            found += [cell] if INITIALISED in values else []
    return found


__all__ = ["Ended", "Gone"]
