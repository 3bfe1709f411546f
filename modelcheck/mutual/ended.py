"""Who has ended at a place of a root: it has waited for his runs, and nobody who is there can begin them again.

A wait for the end of runs acquires exclusively what each of them holds (docs/language.md 7). Behind it none of them
goes on; a new one begins only if somebody enables it, who must not be there any more: because his role is apart, he has
ended himself, or he holds a lock that has been closed. A timer has to be disabled besides, at a time when nobody could
set it again. What closes (a remove lock, run-down protection) is held by nobody from then on, until it is initialised.

All of this is read off the graphs, on every path to a place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from operator import and_

from modelcheck import ir
from modelcheck.devices import device_of, plain
from modelcheck.ir import FREED, INITIALISED, STOP, Edge, Graph, Root, Sort, every_graph
from modelcheck.lower.enabling import acquired, called_out, is_no_run, written_lives
from modelcheck.lower.routine import all_locks
from modelcheck.mutual.overlap import Overlap
from modelcheck.mutual.positions import MAY_BE_FREE, Facts, Held, Site, Starter
from modelcheck.record import dataclass, replace
from modelcheck.resolve import Program


@dataclass(frozen=True, slots=True)
class Gone:
    """What is certain at a place of a root: what starts no routine any more, the roots, by index, for whose runs it has
    waited, those that have ended as far as something starts them, and the locks that it has closed. Not certain: for
    whose runs it has perhaps waited, on some paths or where a kernel routine may or may not do so, and what it has
    perhaps closed."""

    disabled: frozenset[Starter] = frozenset()
    waited: frozenset[int] = frozenset()
    ended: frozenset[tuple[int, str]] = frozenset()
    closed: frozenset[str] = frozenset()
    perhaps: frozenset[int] = frozenset()
    perhaps_closed: frozenset[str] = frozenset()

    def __and__(self, other: Gone) -> Gone:
        return Gone(
            self.disabled & other.disabled,
            self.waited & other.waited,
            self.ended & other.ended,
            self.closed & other.closed,
            self.perhaps | other.perhaps | self.waited ^ other.waited,
            self.perhaps_closed | other.perhaps_closed | self.closed ^ other.closed,
        )

    def begun_again(self) -> Gone:
        """What is left when somebody may have begun again."""
        return Gone(closed=self.closed, perhaps=self.perhaps, perhaps_closed=self.perhaps_closed)

    def opened(self, lock: str) -> Gone:
        """What is left when a lock is initialised again: what rests on its being closed does not hold any more."""
        return replace(self.begun_again(), closed=self.closed - {lock}) if lock in self.closed else self


NOTHING = Gone()

THE_ONE = "*"
"""In place of a device: the only one of a driver that declares none."""

States = dict[Graph, dict[int, Gone]]


class Ended:
    """Of the roots of one driver, by index."""

    def __init__(
        self, program: Program, roots: list[Root], graphs: list[Graph], facts: Facts, overlap: Overlap
    ) -> None:
        self.program = program
        self.roots = roots
        self.graphs = graphs
        self.overlap = overlap
        self.running: dict[str, set[int]] = {}
        """For each lock the roots whose runs hold it."""
        for index, root in enumerate(roots):
            for lock in root.running:
                self.running.setdefault(lock, set()).add(index)
        kinds = {name for name, kind in program.lock_kinds.items() if kind.closes}
        self.closing = {name for name in all_locks(program) if program.locks[name.partition("[")[0]].kind in kinds}
        self.doubtful = frozenset(filter(program.is_doubtful, self.running))
        self.enabling: dict[Starter, dict[int, list[Held]]] = {}
        """For each thing that starts a routine the roots that enable it, with what they may hold there."""
        for index, enables in enumerate(facts.enables):
            for starter, held in enables.items():
                self.enabling.setdefault(starter, {})[index] = held
        self._started_by: dict[str, list[str]] = {}
        for routine, by in self.enabling:
            self._started_by.setdefault(routine, []).append(by)
        self._found: dict[tuple[int, str, str], States] = {}
        self._waiting: dict[int, bool] = {}
        self._at: dict[tuple[int, Site, str, str], Gone] = {}

    @cached_property
    def again(self) -> set[Starter]:
        """What starts a routine more than once: timers."""
        enables = (i for graph in self.graphs for edge in graph.edges for i in ir.instructions(edge.code))
        return {(i.routine, i.by) for i in enables if isinstance(i, ir.Enable) and i.on and i.lasts}

    @cached_property
    def initialising(self) -> dict[str, set[int]]:
        """For each lock the roots that initialise it."""
        found: dict[str, set[int]] = {}
        for index, root in enumerate(self.roots):
            for graph in every_graph([root.graph]):
                for name in (name for edge in graph.edges for name in _lives(edge, INITIALISED)):
                    found.setdefault(name, set()).add(index)
        return found

    def at(self, root: int, sites: Iterable[Site], device: str = "", shared: str = "") -> Gone:
        """What is certain at all of these places of a root; on a device that the root is given, if one is named: what
        begins for another one does not matter there. Where it has ended, when it has freed the lock `shared`."""
        found = [self._at_site(root, site, device, shared) for site in sites]
        return reduce(and_, found) if found else NOTHING

    def _at_site(self, root: int, site: Site, device: str, shared: str) -> Gone:
        freed = shared if self.is_end(root, site) else ""
        states = self._states(root, device, freed)
        if not states:
            return NOTHING
        known = self._at.get((root, site, device, freed))
        if known is None:
            graph = self.graphs[site.graph]
            edge = graph.edges[site.edge]
            here = states.get(graph, {}).get(edge.source, NOTHING)
            known = self._at[root, site, device, freed] = _Paths(self, root, device).within(edge, here)
        return known

    def at_end(self, root: int, device: str = "") -> Gone:
        """The same where a root has ended."""
        graph = self.roots[root].graph
        return self._states(root, device, "").get(graph, {}).get(graph.exit, NOTHING)

    def is_end(self, root: int, site: Site) -> bool:
        """Whether a root has ended at one of its places: what it still does there is to have freed a lock."""
        graph, end = self.graphs[site.graph], self.roots[root].end
        return graph is self.roots[root].graph and end is not None and graph.edges[site.edge].source == end.source

    def have_ended(self, gone: Gone, root: int) -> bool:
        """Whether all runs of a root have ended, by whatever they are started."""
        return all((root, by) in gone.ended for by in self.started_by(root))

    def started_by(self, root: int) -> list[str]:
        """What starts a root: DPCs, timers and work items by name; "" stands for the system and for all else."""
        return self._started_by.get(self.roots[root].routine, [""])

    def is_run_of(self, lock: str, by: str) -> bool:
        """Whether a lock is held by all runs of a routine that this starts; `D.run` by those of D, `R.run`, of a
        routine, by those that no declared object starts."""
        name = lock.removesuffix(".run")
        return name == lock or by == (name if name in self.program.deferred else "")

    def _states(self, root: int, device: str, freed: str) -> States:
        found = self._found.get((root, device, freed))
        if found is None:
            paths = _Paths(self, root, device)
            graphs = every_graph([self.roots[root].graph])
            if not self.waits(root):
                found = {}
            elif not freed:
                found = paths.run(graphs, [(self.roots[root].graph, self.roots[root].graph.entry, NOTHING)])
            else:
                before = self._states(root, device, "")
                frees = [(g, e) for g in graphs for e in g.edges if freed in _lives(e, FREED)]
                starts = [(g, e.target, paths.behind(e, before[g].get(e.source, NOTHING))) for g, e in frees]
                found = paths.run(graphs, starts)
            self._found[root, device, freed] = found
        return found

    @cached_property
    def stopped(self) -> frozenset[int]:
        """The roots for whose end somebody has perhaps waited who stops a device. Whether he runs for each device, and
        after all who could begin again what he has ended, nothing says."""
        found = set[int]()
        for index, root in enumerate(self.roots):
            if root.phase == STOP:
                gone = self.at_end(index)
                found |= gone.waited | gone.perhaps
        return frozenset(found)

    def waits(self, root: int) -> bool:
        """Whether a root may wait for the end of anybody, close anything or disable what then does not run."""
        known = self._waiting.get(root)
        if known is None:
            graphs = every_graph([self.roots[root].graph])
            known = self._waiting[root] = any(self._awaited(edge) for graph in graphs for edge in graph.edges)
        return known

    def _awaited(self, edge: Edge) -> bool:
        """Whether an edge may acquire what runs hold, or what closes, or end what is enabled."""
        taken = any(lock in self.running or lock in self.closing for lock in acquired(edge, ir.instructions(edge.code)))
        return taken or any(isinstance(i, ir.Enable) and not i.on and not i.lasts for i in ir.instructions(edge.code))

    def playing(self, routine: str) -> set[int]:
        """The roots that start with a routine."""
        return {index for index, root in enumerate(self.roots) if root.routine == routine}

    def may_open(self, root: int, lock: str) -> bool:
        """Whether somebody who can be there beside a root initialises a lock; the root itself is followed."""
        return any(self._is_beside(root, other, lock) for other in self.initialising.get(lock, ()))

    def _is_beside(self, root: int, other: int, lock: str) -> bool:
        """Whether contexts of two roots can be there at once that are both about a lock."""
        if not self.overlap.meet(root, other):
            return False
        if not self.program.devices:
            return not self.overlap.kept_apart(root, other)
        return not device_of(lock) or self.overlap.kept_off(root, other) != device_of(lock)


class _Paths:
    """What is certain on all paths of one root. A call is one with all others of the same routine."""

    def __init__(self, ended: Ended, root: int, device: str) -> None:
        self.ended = ended
        self.root = root
        self.device = device
        self.states: States = {}

    def run(self, graphs: list[Graph], starts: Iterable[tuple[Graph, int, Gone]]) -> States:
        """What is certain at each location behind the starts."""
        self.states = {graph: {} for graph in graphs}
        for graph, location, state in starts:
            self._join(graph, location, state)
        changed = True
        while changed:
            changed = False
            for graph in graphs:
                for edge in graph.edges:
                    here = self.states[graph].get(edge.source)
                    if edge.callee is None:
                        changed |= here is not None and self._join(graph, edge.target, self.behind(edge, here))
                        continue
                    changed |= here is not None and self._join(edge.callee, edge.callee.entry, here)
                    left = self.states[edge.callee].get(edge.callee.exit)
                    changed |= left is not None and self._join(graph, edge.target, left)
        return self.states

    def _join(self, graph: Graph, location: int, state: Gone) -> bool:
        known = self.states[graph].get(location)
        joined = state if known is None else known & state
        self.states[graph][location] = joined
        return joined != known

    def behind(self, edge: Edge, state: Gone) -> Gone:
        return self._through(edge, edge.code, self._before(edge, state))

    def within(self, edge: Edge, state: Gone) -> Gone:
        """What is certain before each instruction of an edge."""
        state = found = self._before(edge, state)
        for instruction in edge.code:
            state = self._through(edge, (instruction,), state)
            found = replace(found & state, perhaps=found.perhaps, perhaps_closed=found.perhaps_closed)
        return found

    def _before(self, edge: Edge, state: Gone) -> Gone:
        return state.begun_again() if called_out(edge) else state

    def _through(self, edge: Edge, code: Sequence[ir.Instruction], state: Gone) -> Gone:
        for instruction in code:
            match instruction:
                case ir.Choose(_, then, _) if is_no_run(instruction, self.ended.roots[self.root], edge):
                    state = self._through(edge, then, state)
                case ir.Choose(_, then, otherwise):
                    state = self._through(edge, then, state) & self._through(edge, otherwise, state)
                case ir.Enable(on=True):
                    state = state.begun_again()
                case ir.Enable(routine, False, lasts, by):
                    if not lasts:
                        state = replace(state, perhaps=state.perhaps | self.ended.playing(routine))
                    if by != ir.ONE_OF_SEVERAL and self._nobody_begins((routine, by), state):
                        state = replace(state, disabled=state.disabled | {(routine, by)})
                case ir.Take():
                    for lock in acquired(edge, (instruction,)):
                        state = self._waited(lock, state)
                case ir.Set(register, ir.Const(value)) if value == INITIALISED:
                    cell = edge.cells[register]
                    if cell is not None and cell.sort is Sort.LIFE:
                        state = state.opened(cell.name.removeprefix("life "))
                case _:
                    pass
        return state

    def _waited(self, lock: str, state: Gone) -> Gone:
        if lock in self.ended.closing and not self.ended.may_open(self.root, lock):
            state = replace(state, closed=state.closed | {lock})
        runs = self.ended.running.get(lock, set())
        if lock in self.ended.doubtful:
            return replace(state, perhaps=state.perhaps | runs)
        ended = {
            (index, by)
            for index in runs
            for by in self.ended.started_by(index)
            if self.ended.is_run_of(lock, by) and self._is_over((self.ended.roots[index].routine, by), state)
        }
        return replace(state, waited=state.waited | runs, ended=state.ended | ended)

    def _is_over(self, starter: Starter, state: Gone) -> bool:
        """Whether what starts a routine, whose runs have ended, begins none any more."""
        by_itself = starter in self.ended.again or starter not in self.ended.enabling
        return self._nobody_begins(starter, state) and (starter in state.disabled or not by_itself)

    def _nobody_begins(self, starter: Starter, state: Gone) -> bool:
        """Whether nobody is there who could enable what starts a routine."""
        alone = all(len(self.ended.roots[index].devices) == 1 for index in self.ended.playing(starter[0]))
        return all(
            self.ended.have_ended(state, index)
            or not self._is_there(index, alone)
            or all(self._is_stopped(held, state) for held in enabling)
            for index, enabling in self.ended.enabling.get(starter, {}).items()
        )

    def _is_there(self, other: int, alone: bool) -> bool:
        """Whether a context of another root can be there, on the device in question if there is one. `alone`: what it
        enables is given one device, which is that of who enables it, if both are of one sort."""
        overlap, devices = self.ended.overlap, [device for _, device in self.ended.roots[other].devices]
        if not overlap.meet(self.root, other):
            return False
        if self.device == THE_ONE:
            return not overlap.kept_apart(self.root, other)
        if not self.device:
            return True
        if alone and len(devices) == 1 and plain(devices[0]) == plain(self.device) and devices[0] != self.device:
            return False
        return overlap.kept_off(self.root, other) != self.device

    def _is_stopped(self, held: Held, state: Gone) -> bool:
        """Whether one who holds this has to be gone, because a lock of his is closed."""
        return any(
            lock in state.closed and not mask & MAY_BE_FREE and device_of(lock) in ("", self.device)
            for lock, mask in held
        )


def _lives(edge: Edge, value: int) -> list[str]:
    """The locks to whose lives an edge may give that value."""
    return [cell.name.removeprefix("life ") for cell, (values, _) in written_lives(edge).items() if value in values]


__all__ = ["THE_ONE", "Ended", "Gone"]
