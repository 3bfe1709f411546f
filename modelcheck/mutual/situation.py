"""What is known of a driver whose contexts meet: the certified facts, the order they make, and exact states."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from modelcheck.invariant import Base, every_table
from modelcheck.ir import START, STOP, Cell, Edge, Graph, Root, Sort
from modelcheck.lower import Lowered, every_graph
from modelcheck.lower.builder import really_written
from modelcheck.mutual.ended import THE_ONE, Ended
from modelcheck.mutual.order import Node, Order, before_setting, build, signaller, surely_sets
from modelcheck.mutual.overlap import LOAD, UNLOAD, Overlap
from modelcheck.mutual.positions import (
    EXCLUSIVE,
    MAY_BE_FREE,
    SHARED,
    WAITING,
    Access,
    Facts,
    Held,
    Holds,
    Position,
    Site,
    lock_of,
)
from modelcheck.mutual.questions import Place, Question, Test
from modelcheck.mutual.sharing import Sharing
from modelcheck.mutual.ways import awaits, come_to, is_cleared, may_signal, stopped_by
from modelcheck.mutual.ways import sets as sets_event
from modelcheck.record import dataclass
from modelcheck.resolve import qualified
from modelcheck.verdict import DISPATCH_LEVEL


@dataclass(frozen=True, slots=True)
class Outlook:
    """Who sets an event (-1: the one who waits has), and the obligations that have to be proved for him to come to
    it."""

    root: int
    needs: frozenset[int]


class Situation:
    """The facts of one driver, with what follows from them."""

    def __init__(self, base: Base, lowered: Lowered, facts: Facts) -> None:
        roots = lowered.roots
        self.base = base
        self.roots = roots
        self.guards = {name: tuple(map(qualified, v.guards)) for name, v in lowered.program.variables.items()}
        self.locks = frozenset(lowered.program.locks)
        self.facts = facts
        self.overlap = Overlap(roots)
        self.sharing = Sharing(lowered.program, roots)
        self.writers_first = frozenset(
            lock_of(c) for r in roots for c in r.environment.cells.values() if c.writers_first
        )
        self.graphs: list[Graph] = every_graph([r.graph for r in roots])
        self.ended = Ended(lowered.program, roots, self.graphs, facts, self.overlap)
        self.idle = frozenset(n for n, p in enumerate(facts.positions) if p.sort == "event" and self.set_before(p))
        """Positions that wait for an event which is set: they do not wait."""
        self.enders: dict[str, list[tuple[int, int]]] = {}
        """For each lock the roots that may end with it held, with how."""
        for number, ending in enumerate(facts.ending):
            for lock, mask in ending.items():
                self.enders.setdefault(lock, []).append((number, mask))
        self.order: Order = build(facts, roots, self.overlap, self.writers_first, self.idle)
        self.members: dict[int, dict[Node, None]] = {}
        for node, number in self.order.components.items():
            self.members.setdefault(number, {})[node] = None
        self.parts = self._parts()
        self._stable: dict[Root, list[Cell]] | None = None
        self._written: dict[int, frozenset[str]] = {}
        self._read: dict[Root, list[Cell]] = {}
        self._questions: dict[tuple[Candidates, Tests], Question] = {}
        self._variables: dict[tuple[Candidates, Tests], list[str]] = {}
        self._above: dict[int, set[int]] | None = None
        self._standing: dict[tuple[int, int, Node], Candidates] = {}
        self._without: dict[tuple[int, str, int], dict[Graph, set[int]]] = {}
        self._locks: dict[int, frozenset[str]] = {}

    def _parts(self) -> dict[int, set[int]]:
        """For each position the cyclic components it has a part in."""
        found: dict[int, set[int]] = {}
        for table in (self.order.waits, self.order.covers):
            for (source, target), positions in table.items():
                if self.order.cyclic(source, target):
                    component = self.order.components[source]
                    for number in positions:
                        found.setdefault(number, set()).add(component)
        return found

    def above_itself(self, positions: list[int]) -> set[int]:
        """The components in which one of the positions may wait for a lock of what it has taken the processor of."""
        if self._above is None:
            self._above = {}
            for (cover, target), above in self.order.covers.items():
                if target[-1] != WAITING and cover in self.order.edges.get(target, {}):
                    for number in above:
                        if self.facts.positions[number].wanted == target[1]:
                            self._above.setdefault(number, set()).add(self.order.components[cover])
        return {component for number in positions for component in self._above.get(number, ())}

    # ---- ways ----

    def without(self, root: int, lock: str, how: int) -> dict[Graph, set[int]]:
        """The locations a root can come to while somebody else keeps a lock in that mode."""
        if lock not in self._named(root):
            lock, how = "", EXCLUSIVE  # it does not stop anybody
        known = self._without.get((root, lock, how))
        if known is None:
            known = self._without[root, lock, how] = come_to(self.roots[root].graph, stopped_by(lock, how))
        return known

    def _named(self, root: int) -> frozenset[str]:
        """The locks that the operations of a root are about."""
        known = self._locks.get(root)
        if known is None:
            edges = (edge for graph in every_graph([self.roots[root].graph]) for edge in graph.edges)
            cells = {cell for edge in edges for cell in edge.cells}
            known = self._locks[root] = frozenset(lock_of(c) for c in cells if c is not None and c.sort is Sort.HOLD)
        return known

    def kept_from(self, position: Position, lock: str, how: int) -> bool:
        """Whether the position cannot be come to from the start while somebody else keeps a lock in that mode."""
        graph = self.graphs[position.site.graph]
        reached = self.without(position.root, lock, how).get(graph, set())
        return graph.edges[position.site.edge].source not in reached

    def stuck_before(self, position: Position, root: int, mask: int) -> bool:
        """Whether one who begins after the root has ended with the wanted lock held waits for it at an earlier
        place; or nobody begins then."""
        if not self.overlap.follows(root, position.root):
            return True
        if self.overlap.meet(root, position.root):
            return False
        how = SHARED if mask & SHARED else EXCLUSIVE
        return self.kept_from(position, position.wanted, how)

    def sets_without(self, root: int, event: str, lock: str, how: int) -> bool:
        """Whether a root may set an event while somebody else keeps a lock in that mode."""
        return self._sets_on(root, event, self.without(root, lock, how))

    def sets_before(self, root: int, event: str, awaited: str) -> bool:
        """Whether a root may set an event without having waited for another one."""
        return self._sets_on(root, event, come_to(self.roots[root].graph, awaits(awaited)))

    def _sets_on(self, root: int, event: str, reached: dict[Graph, set[int]]) -> bool:
        does = may_signal(event, True)
        return any(
            does(edge) for graph, locations in reached.items() for edge in graph.edges if edge.source in locations
        )

    def set_before(self, position: Position) -> bool:
        """Whether whoever comes to the position has set what it waits for himself, or the driver was loaded by somebody
        who has, and nobody clears it."""
        event = position.wanted
        if is_cleared(event, self.graphs):
            return False
        if any(surely_sets(self.roots[loader], event) for loader in self.loaders(position)):
            return True
        graph = self.graphs[position.site.graph]
        reached = come_to(self.roots[position.root].graph, sets_event(event)).get(graph, set())
        return graph.edges[position.site.edge].source not in reached

    def loaders(self, position: Position) -> list[int]:
        """The roots that have run when somebody comes to a position: they load the driver."""
        return [
            root
            for root, loader in enumerate(self.roots)
            if loader.phase == LOAD and root != position.root and not self.overlap.meet(root, position.root)
        ]

    def outlook(self, positions: list[int]) -> Outlook | str:
        """Who sets what is waited for at some positions, and what has to be proved of him; or why nobody is known."""
        facts, event = self.facts, self.facts.positions[positions[0]].wanted
        waiting = [facts.positions[n] for n in positions if n not in self.idle]
        if not waiting:
            return Outlook(-1, frozenset())
        if any(self.roots[p.root].phase == LOAD for p in waiting):
            return f"what can set {event} while a driver loads is not looked at"
        root = signaller(event, facts, self.roots, self.overlap)
        if root is None:
            loaders = [r for p in waiting for r in self.loaders(p) if event in facts.signals[r]]
            if loaders:
                return f"whether {event} still is as {self.roots[loaders[0]].routine} has set it is not looked at"
            return f"no routine that can run while {event} is waited for sets it"
        if self.overlap.meet(root, root):
            mine = before_setting(root, event, facts, self.roots)
            return Outlook(root, frozenset(o for n in mine for o in facts.positions[n].obligations))
        if any(self.roots[p.root].kind != "thread" or p.irql >= DISPATCH_LEVEL for p in waiting):
            return f"the only {self.roots[root].routine} may be kept from setting {event} by who waits for it"
        return Outlook(root, frozenset(o for p in facts.positions for o in p.obligations))

    # ---- who is there at once ----

    def never_at_once(self, first: int, second: int, sites: tuple[Sequence[Site], Sequence[Site]], shared: str) -> bool:
        """Whether contexts of two roots at these sites are kept off the device of what both are about (`shared`: data
        or a lock). A lock that is initialised and freed is that of one device, also where none is declared."""
        left = self._is_left_running(first, second, shared) or self._is_left_running(second, first, shared)
        where = None if left else sites
        kept_off = self.overlap.kept_off(first, second, where)
        if self.sharing.keeps_off(kept_off, first, second, shared):
            return True
        return self._is_of_the_one(shared) and self.overlap.kept_apart(first, second, where)

    def _is_left_running(self, start: int, other: int, shared: str) -> bool:
        """Whether the other root, which only a root that starts a device enables, may still be there when the device is
        started again: nobody stops it, or not all who do, or come before those, have waited for the end of its runs."""
        if self.roots[start].phase != START or self.roots[other].routine not in self.overlap.begun_by(start):
            return False
        stops = self.overlap.resumed_by(start)
        if self.roots[start].again and not stops:
            return True
        return not all(any(self._has_ended(n, other, shared) for n in self.overlap.stopping(stop)) for stop in stops)

    def _has_ended(self, root: int, other: int, shared: str) -> bool:
        """Whether all runs of another root have ended when a root has."""
        return any(
            self.ended.have_ended(self.ended.at_end(root, device), other)
            for device in self._devices(root, other, shared)
        )

    def _devices(self, root: int, other: int, shared: str) -> list[str]:
        """What to ask for whose end a root waits: as for anybody, and where both are on one device."""
        device = self.overlap.common(root, other)
        if device and self.sharing.keeps_off(device, root, other, shared):
            return ["", device]
        return ["", THE_ONE] if self._is_of_the_one(shared) else [""]

    def is_lock(self, name: str) -> bool:
        """Whether what two contexts are about is a lock, or one of a family."""
        return name.partition("[")[0] in self.locks

    def comes_later(self, one: Access, other: Access) -> bool:
        """Whether two accesses are of roots that stop one device, never at once, and the one may come behind the other
        and find what that has freed, as no role says who is first."""
        first, second = self.roots[one.root], self.roots[other.root]
        if not self.is_lock(one.data) or first is second or {first.phase, second.phase} != {STOP}:
            return False
        ordered = first.role in second.follows or second.role in first.follows
        frees = (one.write and not first.last) or (other.write and not second.last)
        return frees and not ordered and self.overlap.kept_apart(one.root, other.root)

    def _is_of_the_one(self, shared: str) -> bool:
        return not self.sharing.devices and self.is_lock(shared)

    def is_over(
        self, root: int, sites: Sequence[Site], other: int, held: Iterable[tuple[str, int]], shared: str
    ) -> bool:
        """Whether, while a context of a root is at one of the sites, none of the other root is there with these locks:
        its runs have been waited for, or a lock has been closed. `shared`: the data or lock that both are about."""
        if not self.ended.waits(root):
            return False
        gone = [self.ended.at(root, sites, device, shared) for device in self._devices(root, other, shared)]
        if any(self.ended.have_ended(each, other) for each in gone):
            return True
        kept = [lock for lock, mask in held if not mask & MAY_BE_FREE]
        closed = [lock for lock in kept if any(lock in each.closed for each in gone)]
        return any(self.sharing.excludes(lock, root, other, shared) for lock in closed)

    def is_seen_to(self, one: int, other: int) -> bool:
        """Whether it is for the driver to see to that the second root has ended when the first begins: the role of that
        says so, or it unloads the driver, and who stops a device has waited."""
        unloads = self.roots[one].phase == UNLOAD
        return self.overlap.awaits(one, other) or (unloads and other in self.ended.stopped)

    def has_waited(self, one: Access, other: Access) -> bool:
        """Whether a root that comes to an access has perhaps waited for the end of all runs of that of another one, or
        closed a lock that is held there."""
        gone = self.ended.at(one.root, (one.site,), "", one.data)
        kept = {lock for lock, mask in other.held if not mask & MAY_BE_FREE}
        return other.root in gone.waited | gone.perhaps or not gone.perhaps_closed.isdisjoint(kept)

    # ---- exact states ----

    def waiting(self, position: Position) -> Candidates:
        """The states a position may be in."""
        return Candidates(position.root, (position.site,), position.irql, position.held)

    def touching(self, access: Access) -> Candidates:
        return Candidates(access.root, (access.site,), access.irql, access.held)

    def standing(self, number: int, at: int, node: Node) -> Candidates:
        """The states in which a root holds a lock in a mode (or waits for it as a writer) at a level, wherever."""
        known = self._standing.get((number, at, node))
        if known is None:
            known = self._standing[number, at, node] = self._find_standing(number, at, node)
        return known

    def _find_standing(self, number: int, at: int, node: Node) -> Candidates:
        if node[2] == WAITING:
            positions = self.facts.positions
            waiting = [p for p in positions if p.root == number and p.irql == at and p.wanted == node[1]]
            writers = [p for p in waiting if p.sort == "lock" and not p.shared]
            held = _together([dict(p.held) for p in writers])
            return Candidates(number, tuple(p.site for p in writers), at, held)
        sites, held = self._holding(number, at, node)
        narrowed = tuple((lock, int(str(node[2])) if lock == node[1] else mask) for lock, mask in held)
        return Candidates(number, sites, at, narrowed)

    def ways(self, candidates: Candidates, subject: str) -> Sequence[int]:
        """The values a state may be split by: how a lock is held (0, SHARED, EXCLUSIVE), or what a variable is."""
        if subject.startswith("hold "):
            mask = dict(candidates.held).get(subject.removeprefix("hold "), MAY_BE_FREE)
            return tuple(m for m in (0, SHARED, EXCLUSIVE) if mask & (m or MAY_BE_FREE))
        cell = self.roots[candidates.root].environment.cells[subject]
        return range(cell.low, cell.high + 1)

    def question(self, candidates: Candidates, tests: Tests) -> Question:
        """Whether the root can be at one of the sites, at the level, with the tests true. A lock with one mask only is
        tested too."""
        question = self._questions.get((candidates, tests))
        if question is None:
            question = self._questions[candidates, tests] = self._question(candidates, tests)
        return question

    def _question(self, candidates: Candidates, tests: Tests) -> Question:
        root = self.roots[candidates.root]
        cells = root.environment.cells
        places = tuple(Place(self.graphs[s.graph], s.edge, s.index) for s in candidates.sites)
        asked = [Test(cells["irql"], candidates.irql)] if "irql" in cells else []
        known = dict(tests)
        for lock, mask in candidates.held:
            if mask in (SHARED, EXCLUSIVE):
                known.setdefault(f"hold {lock}", mask)
        asked += [Test(cells[subject], value) for subject, value in sorted(known.items())]
        return Question(root, places, tuple(asked))

    def steady(self, candidates: Candidates, tests: Tests) -> dict[str, int]:
        """The values among the tests that cannot change while a context is there: of variables that nothing writes
        any more, and of those whose guard it surely holds."""
        held = {lock for lock, how in known_holds(candidates, tests) if how in (SHARED, EXCLUSIVE)}
        root = self.roots[candidates.root]
        stable = {cell.name for cell in self.stable(root)}
        return {
            subject: value
            for subject, value in tests
            if subject.startswith("var ")
            and (subject in stable or held & set(self.guards[subject.removeprefix("var ")]))
        }

    def variables(self, candidates: Candidates, tests: Tests) -> list[str]:
        """The variables that cannot change while a context is there."""
        found = self._variables.get((candidates, tests))
        if found is None:
            held = {lock for lock, how in known_holds(candidates, tests) if how in (SHARED, EXCLUSIVE)}
            root = self.roots[candidates.root]
            guarded = [c for c in self._guarded(root) if held & set(self.guards[c.name.removeprefix("var ")])]
            found = [cell.name for cell in (*self.stable(root), *guarded)]
            self._variables[candidates, tests] = found
        return found

    def _guarded(self, root: Root) -> list[Cell]:
        """Shared variables the root reads that have a guard: while it is held they do not change."""
        stable = self.stable(root)
        return [c for c in self._reads(root) if c not in stable and self.guards[c.name.removeprefix("var ")]]

    def _reads(self, root: Root) -> list[Cell]:
        found = self._read.get(root)
        if found is None:
            found = self._read[root] = _shared(root, lambda e: e.operation.reads if e.operation else ())
        return found

    def written(self, root: int) -> frozenset[str]:
        """The cells of the shared variables that a root writes, by name."""
        known = self._written.get(root)
        if known is None:
            cells = _shared(self.roots[root], really_written)
            known = self._written[root] = frozenset(cell.name for cell in cells)
        return known

    def stable(self, root: Root) -> list[Cell]:
        """Shared variables that the root reads and nothing writes once there is somebody to read them."""
        if self._stable is None:
            written = {
                cell.name
                for number, r in enumerate(self.roots)
                for cell in _shared(r, really_written)
                if not self.overlap.before_all(number, cell)
            }
            self._stable = {r: [c for c in self._reads(r) if c.name not in written] for r in self.roots}
        return self._stable[root]

    def _holding(self, number: int, at: int, node: Node) -> tuple[tuple[Site, ...], Held]:
        """Where in a root a lock may be held in a mode at a level, and what else may be held there."""
        root = self.roots[number]
        numbers = {graph: n for n, graph in enumerate(self.graphs)}
        lock, mode = str(node[1]), int(str(node[2]))
        found: list[tuple[Site, dict[str, int]]] = []
        for table in every_table(self.base[root].starts[root]):
            holds = Holds(table.layout)
            leaving: dict[int, int] = {}
            for number, edge in enumerate(table.graph.edges):
                leaving.setdefault(edge.source, number)
            for location, states in enumerate(table.states):
                for key, sets in states.items():
                    if holds.level(key) != at or location not in leaving:
                        continue
                    here = {lock_of(c): m for c, m in holds.masks(key, sets).items()}
                    if here.get(lock, 0) & mode:
                        found.append((Site(numbers[table.graph], leaving[location], -1), here))
        for position in self.facts.positions:
            if position.root == number and position.irql == at and dict(position.held).get(lock, 0) & mode:
                found.append((position.site, dict(position.held)))
        return tuple(dict.fromkeys(site for site, _ in found)), _together([here for _, here in found])


def _shared(root: Root, registers: Callable[[Edge], Iterable[int]]) -> list[Cell]:
    """The shared variables among registers of a root's edges."""
    found: dict[Cell, None] = {}
    for graph in every_graph([root.graph]):
        for edge in graph.edges:
            if edge.operation is not None:
                for register in sorted(registers(edge)):
                    cell = edge.cells[register]
                    if cell is not None and cell.sort is Sort.SHARED:
                        found[cell] = None
    return list(found)


Tests: TypeAlias = tuple[tuple[str, int], ...]
"""What tells some states of a context from others: `hold L` with 0, SHARED or EXCLUSIVE, `var x` with a value;
sorted."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The states a context may be in at one of the sites, at a level, with what it may hold there."""

    root: int
    sites: tuple[Site, ...]
    irql: int
    held: Held


Splits: TypeAlias = dict[Candidates, list[tuple[Tests, str]]]
"""For some candidates which states were told apart by which subject, in order."""


def apart(situation: Situation, candidates: Candidates, splits: Splits) -> list[Tests]:
    """The states of candidates as far as they were told apart; together they are all there are."""
    live: list[Tests] = [()]
    for tests, subject in splits.get(candidates, ()):
        if tests in live:
            live.remove(tests)
            live += [tuple(sorted((*tests, (subject, way)))) for way in situation.ways(candidates, subject)]
    return live


def known_holds(candidates: Candidates, tests: Tests) -> list[tuple[str, int]]:
    """For each lock that may be held the mask that the tests leave."""
    known = dict(tests)
    found = []
    for lock, mask in candidates.held:
        how = known.get(f"hold {lock}")
        if how != 0:
            found.append((lock, mask if how is None else how))
    return found


def _together(states: list[dict[str, int]]) -> Held:
    """What may be held in one of some states."""
    masks: dict[str, int] = {}
    for here in states:
        for lock, mask in here.items():
            masks[lock] = masks.get(lock, 0) | mask
    for lock in masks:
        if any(lock not in here for here in states):
            masks[lock] |= MAY_BE_FREE
    return tuple(sorted(masks.items()))


Stand: TypeAlias = tuple[int, Sequence[Site], Sequence[tuple[str, int]]]
"""A context of a root, by index, at one of some sites, with the locks that it may hold."""


def _never_there(situation: Situation, one: Stand, other: Stand, shared: str) -> bool:
    """Whether two contexts never stand there at once: by a lock that one of them holds exclusively, by their roles, or
    as one of them has ended. `shared`: the data or lock that both are about."""
    (first, at, held), (second, there, others) = one, other
    mine = dict(held)
    for lock, mask in others:
        both = mask | mine.get(lock, MAY_BE_FREE)
        exclusive = not both & MAY_BE_FREE and EXCLUSIVE in (mask, mine[lock])
        if exclusive and situation.sharing.excludes(lock, first, second, shared):
            return True
    if situation.never_at_once(first, second, (at, there), shared):
        return True
    over = situation.is_over
    return over(first, at, second, others, shared) or over(second, there, first, held, shared)


def go_together(
    situation: Situation, one: tuple[Candidates, Tests], other: tuple[Candidates, Tests], shared: str
) -> bool:
    """Whether two contexts can be in these states at once, by what they surely hold and what cannot change. `shared`:
    the data or lock that both are about."""
    first, second = one[0].root, other[0].root
    mine, others = ((state[0].root, state[0].sites, known_holds(*state)) for state in (one, other))
    if _never_there(situation, mine, others, shared):
        return False
    values = situation.steady(*one)
    return all(
        values.get(name, value) == value
        or not situation.sharing.excludes(name.removeprefix("var "), first, second, shared)
        for name, value in situation.steady(*other).items()
    )


def clashes(situation: Situation, accesses: Sequence[Access]) -> list[tuple[Access, Access]]:
    """The pairs of accesses that can come at once, as far as the fixpoint knows."""
    writes = [number for number, access in enumerate(accesses) if access.write]
    found = []
    for number, access in enumerate(accesses):
        others = range(number, len(accesses)) if access.write else writes[bisect_left(writes, number) :]
        found += [(access, accesses[n]) for n in others if clash(situation, access, accesses[n])]
    return found


def clash(situation: Situation, a: Access, b: Access) -> bool:
    """Whether two accesses, one of them a write, can come at once, as far as the fixpoint knows."""
    overlap = situation.overlap
    if a.data != b.data or (a.atomic and b.atomic) or not overlap.meet(a.root, b.root):
        return False
    if not overlap.started(a.root, (a.site,), b.root) or not overlap.started(b.root, (b.site,), a.root):
        return False
    if situation.comes_later(a, b):
        return True
    return not _never_there(situation, (a.root, (a.site,), a.held), (b.root, (b.site,), b.held), a.data)
