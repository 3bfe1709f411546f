"""The order in which a driver takes its locks: a graph over locks in a mode, its cycles, and ranks where it has none.

A node is a lock as it is held (shared or exclusively), or an event. An edge a -> b says that a context which holds a
may wait for what holds b: because it waits for b itself, or because the processor it stands on is taken by one that
does. In a deadlock every member waits along such an edge for the next, so a deadlock is a cycle, and where ranks rise
along all edges there is none, for any number of contexts and processors (lockdep; Kroening et al., ASE 2016).

Processors are nodes too: (cover, what is interrupted) stands for all that can take the processor from a holder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from modelcheck.ir import Root
from modelcheck.lower import every_graph
from modelcheck.mutual.overlap import LOAD, UNLOAD, Overlap, takes_over
from modelcheck.mutual.positions import EXCLUSIVE, MAY_BE_FREE, SHARED, WAITING, Facts, Position
from modelcheck.mutual.ways import come_to, is_cleared, leading_to, may_signal, sets
from modelcheck.record import dataclass, field

Node: TypeAlias = tuple[object, ...]
"""("lock", name, mode), ("event", name), ("role", name, level) or ("cover", level, kind, meeting)."""

MODES = (SHARED, EXCLUSIVE)


@dataclass(slots=True)
class Order:
    """`edges[a]` are the nodes that a leads to; `waits[a, b]` the positions (by number) whose contexts hold a and wait
    for b; `covers[c, b]` those that, having taken the processor c stands for, wait for b; `grounds[a, c]` the (root,
    level) pairs at which a is held on such a processor."""

    edges: dict[Node, dict[Node, None]] = field(default_factory=dict)
    waits: dict[tuple[Node, Node], list[int]] = field(default_factory=dict)
    covers: dict[tuple[Node, Node], list[int]] = field(default_factory=dict)
    grounds: dict[tuple[Node, Node], list[tuple[int, int]]] = field(default_factory=dict)
    components: dict[Node, int] = field(default_factory=dict)
    """The number of the strongly connected component of a node; numbers rise along the edges."""

    def edge(self, source: Node, target: Node) -> None:
        self.edges.setdefault(source, {})[target] = None
        self.edges.setdefault(target, {})

    def cyclic(self, source: Node, target: Node) -> bool:
        """Whether an edge lies on a cycle."""
        return self.components[source] == self.components[target]


def lock_nodes(name: str, mask: int) -> list[Node]:
    return [("lock", name, mode) for mode in (*MODES, WAITING) if mask & mode]


def build(
    facts: Facts, roots: list[Root], overlap: Overlap, writers_first: frozenset[str], idle: frozenset[int]
) -> Order:
    """The order of a driver. `idle`: positions that do not wait after all."""
    return _Builder(facts, roots, overlap, writers_first, idle).build()


class _Builder:
    """Makes an order from positions."""

    def __init__(
        self,
        facts: Facts,
        roots: list[Root],
        overlap: Overlap,
        writers_first: frozenset[str],
        idle: frozenset[int],
    ) -> None:
        self.idle = {id(facts.positions[number]) for number in idle}
        self.facts = facts
        self.roots = roots
        self.overlap = overlap
        self.writers_first = writers_first
        self.wanted = {
            shared: {p.wanted for p in facts.positions if p.sort == "lock" and p.shared is shared}
            for shared in (False, True)
        }
        self.order = Order()

    def build(self) -> Order:
        for number, position in enumerate(self.facts.positions):
            for target in self.targets(position):
                for lock, mask in position.held:
                    if lock == position.wanted and position.sort == "lock":
                        continue
                    for source in lock_nodes(lock, mask):
                        self.order.edge(source, target)
                        self.order.waits.setdefault((source, target), []).append(number)
                if self.stops(position):
                    source = ("lock", position.wanted, WAITING)
                    self.order.edge(source, target)
                    self.order.waits.setdefault((source, target), []).append(number)
        self._processors()
        self._reentry()
        self._signals()
        self.order.components = components(self.order.edges)
        return self.order

    def targets(self, position: Position) -> list[Node]:
        """What a context waits for: the ways in which others can hold it. One that holds it already waits for nobody
        else: B01 says whether it waits for itself."""
        if position.sort == "lock" and not dict(position.held).get(position.wanted, MAY_BE_FREE) & MAY_BE_FREE:
            return []
        if position.sort == "event":
            return [] if id(position) in self.idle else [("event", position.wanted)]
        if position.sort == "role":
            return [("role", position.wanted, position.irql)]
        found: list[Node] = [("lock", position.wanted, EXCLUSIVE)]
        if not position.shared:
            found.append(("lock", position.wanted, SHARED))
        elif position.wanted in self.writers_first and position.wanted in self.wanted[False]:
            found.append(("lock", position.wanted, WAITING))
        return found

    def stops(self, position: Position) -> bool:
        """Whether the position is that of a writer that keeps readers out while it waits."""
        return (
            position.sort == "lock"
            and not position.shared
            and position.wanted in self.writers_first
            and position.wanted in self.wanted[True]
            and bool(self.targets(position))
        )

    def level(self, root: int, level: int) -> int:
        """The lowest level above which something can interrupt what is above a context at `level`: those that interrupt
        it can lower theirs."""
        below = self.roots[root]
        while True:
            lower = [
                self.facts.lowest[n]
                for n, r in enumerate(self.roots)
                if r.kind != "thread" and takes_over(level, below, r, level) and self.overlap.meet(root, n)
            ]
            least = min(lower, default=level)
            if least >= level:
                return level
            level = least

    def _processors(self) -> None:
        """Who can be interrupted or displaced while it holds a lock, and by what waiting for what."""
        wanting: dict[int, list[int]] = {}
        for number, p in enumerate(self.facts.positions):
            wanting.setdefault(p.root, []).append(number)
        made: set[Node] = set()
        for root, levels in enumerate(self.facts.holding):
            below = self.roots[root]
            for at, locks in sorted(self._keeping(root, levels).items()):
                level = self.level(root, at)
                cover: Node = ("cover", level, below.kind == "thread", self.overlap.meeting(root))
                if cover not in made:
                    made.add(cover)
                    for other, above in enumerate(self.roots):
                        if self.overlap.meet(root, other):
                            self._above(cover, level, below, above, wanting.get(other, []))
                if cover in self.order.edges:
                    for lock, mask in locks.items():
                        for source in lock_nodes(lock, mask):
                            self.order.edge(source, cover)
                            self.order.grounds.setdefault((source, cover), []).append((root, at))

    def _keeping(self, root: int, levels: Mapping[int, Mapping[str, int]]) -> dict[int, dict[str, int]]:
        """What a root keeps others from at each level: the locks it holds, and those it waits for as a writer."""
        found = {at: dict(locks) for at, locks in levels.items()}
        for position in self.facts.positions:
            if position.root == root and self.stops(position):
                locks = found.setdefault(position.irql, {})
                locks[position.wanted] = locks.get(position.wanted, 0) | WAITING
        return found

    def _above(self, cover: Node, level: int, below: Root, above: Root, positions: Iterable[int]) -> None:
        for number in positions:
            position = self.facts.positions[number]
            if takes_over(level, below, above, position.irql):
                for target in self.targets(position):
                    self.order.edge(cover, target)
                    self.order.covers.setdefault((cover, target), []).append(number)

    def _signals(self) -> None:
        """An event comes after all that the one who sets it may wait for: of those who do, one that waits for least."""
        events = {p.wanted for p in self.facts.positions if p.sort == "event"}
        for event in sorted(events):
            root = signaller(event, self.facts, self.roots, self.overlap)
            if root is not None:
                self.order.edges.setdefault(("event", event), {})
                for number in self._stopping(root, event):
                    for target in self.targets(self.facts.positions[number]):
                        self.order.edge(("event", event), target)
                        self.order.waits.setdefault((("event", event), target), []).append(number)

    def _stopping(self, root: int, event: str) -> list[int]:
        """The positions at which a root keeps an event from being set, as long as it waits there: what comes before
        that; what comes behind it too, where nobody else can set it again once somebody has cleared it."""
        if self.overlap.meet(root, root) or not is_cleared(event, every_graph([r.graph for r in self.roots])):
            return before_setting(root, event, self.facts, self.roots)
        return [number for number, position in enumerate(self.facts.positions) if position.root == root]

    def _reentry(self) -> None:
        """A call-out may come back: what the routines of that role wait for, and those that they call out to in turn,
        is waited for with the caller's locks. They begin at the caller's level, if it is one of theirs."""
        calls: dict[int, dict[tuple[str, int], None]] = {}
        for p in self.facts.positions:
            if p.sort == "role":
                calls.setdefault(p.root, {})[p.wanted, p.irql] = None
        for call in sorted({call for made in calls.values() for call in made}):
            inside, pending, roots = {call}, [call], set[int]()
            while pending:
                role, level = pending.pop()
                for number, root in enumerate(self.roots):
                    if root.comes_back == role and level in root.levels:
                        roots.add(number)
                        pending += [following for following in calls.get(number, ()) if following not in inside]
                        inside.update(calls.get(number, ()))
            for number, position in enumerate(self.facts.positions):
                if position.root in roots and position.sort != "role":
                    for target in self.targets(position):
                        self.order.edge(("role", *call), target)
                        self.order.waits.setdefault((("role", *call), target), []).append(number)


def before_setting(root: int, event: str, facts: Facts, roots: list[Root]) -> list[int]:
    """The positions of a root (by number) at which it may set the event later."""
    graphs = every_graph([r.graph for r in roots])
    leading = leading_to(roots[root].graph, may_signal(event, True))
    return [
        number
        for number, position in enumerate(facts.positions)
        if position.root == root
        and graphs[position.site.graph].edges[position.site.edge].source in leading.get(graphs[position.site.graph], ())
    ]


def signaller(event: str, facts: Facts, roots: list[Root], overlap: Overlap) -> int | None:
    """The root that is taken to set an event: one that can be there whenever it is waited for, though there is one
    device only, and also while the driver is unloaded, of which there is any number if possible, and that waits for
    least."""
    waiting = {p.root for p in facts.positions if p.sort == "event" and p.wanted == event}
    beside = [u for u, r in enumerate(roots) if r.phase == UNLOAD and any(overlap.meet(u, other) for other in waiting)]
    able = [
        root
        for root, signals in enumerate(facts.signals)
        if event in signals
        and roots[root].phase != LOAD
        and all(overlap.meet(root, other) and not overlap.kept_apart(root, other) for other in waiting)
        and all(overlap.meet(root, other) for other in beside if other != root)
        and (roots[root].phase != UNLOAD or surely_sets(roots[root], event))
    ]

    def cost(root: int) -> tuple[bool, int, int]:
        return not overlap.meet(root, root), sum(p.root == root for p in facts.positions), root

    return min(able, key=cost, default=None)


def surely_sets(root: Root, event: str) -> bool:
    """Whether a root sets an event on each of its paths."""
    return root.graph.exit not in come_to(root.graph, sets(event)).get(root.graph, ())


def components(edges: Mapping[Node, Iterable[Node]]) -> dict[Node, int]:
    """Strongly connected components (Tarjan 1972), numbered so that numbers rise along every edge between two."""
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on_stack: set[Node] = set()
    found: list[list[Node]] = []
    for start in edges:
        if start in index:
            continue
        work = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        while work:
            node, following = work[-1]
            for target in following:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    members = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        members.append(member)
                        if member == node:
                            break
                    found.append(members)
    return {node: len(found) - 1 - n for n, members in enumerate(found) for node in members}
