"""Rings of one component of the order: who can stand in them, with what, as one formula (`cycles`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

from modelcheck.mutual.cycles import EXCLUSIVE as HELD_X
from modelcheck.mutual.cycles import MAYBE, Hold, Link, Ring, Stand
from modelcheck.mutual.cycles import SHARED as HELD_S
from modelcheck.mutual.cycles import WAITING as KEEPS_OUT
from modelcheck.mutual.order import Node
from modelcheck.mutual.positions import EXCLUSIVE, SHARED, WAITING, Site
from modelcheck.mutual.situation import Candidates, Exact, Situation

Find: TypeAlias = Callable[[list[Candidates]], list[list[Exact]]]
"""The states of each that can really be."""


class Rings:
    """The ring formula of one component, with stands as the fixpoint or (`exact`) the questions know them."""

    def __init__(self, situation: Situation, component: int, find: Find | None = None) -> None:
        self.situation = situation
        self.nodes = situation.members[component]
        self.stands: list[Stand] = []
        self.links: list[Link] = []
        self.position_of: dict[int, int] = {}
        self.sites: dict[int, tuple[Site, ...]] = {}
        """Where a stand is."""
        self.runs: dict[int, Exact] = {}
        self._wanted()
        self.versions = self._roughly() if find is None else self._exactly(find)
        self._link()
        used = sorted({s.root for s in self.stands})
        together = self._together()
        apart = frozenset(
            (a, b)
            for a, b in itertools.combinations(used, 2)
            if not situation.overlap.meet(a, b) and (a, b) not in together
        )
        single = frozenset(a for a in used if not situation.overlap.meet(a, a))
        barred = frozenset(
            (stand, root)
            for stand, sites in self.sites.items()
            for root in used
            if situation.overlap.meet(self.stands[stand].root, root)
            and not situation.overlap.started(self.stands[stand].root, sites, root)
            and (self.stands[stand].root, root) not in together
        )
        self.ring = Ring(self.stands, self.links, apart, single, barred)

    def _together(self) -> set[tuple[int, int]]:
        """Roots that one context can be in at once: a call-out that comes back."""
        found = set()
        facts, roots = self.situation.facts, self.situation.roots
        for position in facts.positions:
            if position.sort == "role":
                for number, root in enumerate(roots):
                    if root.role == position.wanted:
                        found |= {(position.root, number), (number, position.root)}
        return found

    def _wanted(self) -> None:
        """The positions and grounds that have a part in the component."""
        order = self.situation.order
        self.positions: dict[int, None] = {}
        self.grounds: dict[tuple[int, int, Node], None] = {}
        for source in self.nodes:
            for target in order.edges[source]:
                if target not in self.nodes:
                    continue
                for table in (order.waits, order.covers):
                    for p in table.get((source, target), ()):
                        self.positions[p] = None
                for root, at in order.grounds.get((source, target), ()):
                    self.grounds[root, at, source] = None

    def _roughly(self) -> dict[object, list[int]]:
        found: dict[object, list[int]] = {}
        for p in self.positions:
            position = self.situation.facts.positions[p]
            holds = tuple((lock, _how(mask)) for lock, mask in position.held)
            found[p] = [self._stand(Stand(position.root, holds), p)]
        for ground in self.grounds:
            root, _, node = ground
            number = len(self.stands)
            self.stands.append(Stand(root, ((str(node[1]), MAYBE),)))
            self.sites[number] = self.situation.standing(*ground).sites
            found[ground] = [number]
        return found

    def _stand(self, stand: Stand, position: int) -> int:
        number = len(self.stands)
        self.stands.append(stand)
        self.position_of[number] = position
        self.sites[number] = (self.situation.facts.positions[position].site,)
        return number

    def _exactly(self, find: Find) -> dict[object, list[int]]:
        situation = self.situation
        wanted = [situation.waiting(situation.facts.positions[p]) for p in self.positions]
        grounds = list(self.grounds)
        wanted += [situation.standing(*ground) for ground in grounds]
        states = find(wanted)
        found: dict[object, list[int]] = {}
        for p, exact in zip(self.positions, states, strict=False):
            position = situation.facts.positions[p]
            found[p] = []
            for state in exact:
                number = self._stand(Stand(position.root, _holds(state.held), state.values), p)
                self.runs[number] = state
                found[p].append(number)
        for ground, candidates, exact in zip(
            grounds, wanted[len(self.positions) :], states[len(self.positions) :], strict=True
        ):
            found[ground] = []
            for state in exact:
                number = len(self.stands)
                self.stands.append(Stand(ground[0], _holds(state.held), state.values))
                self.sites[number] = candidates.sites
                self.runs[number] = state
                found[ground].append(number)
        return found

    def _link(self) -> None:
        order = self.situation.order
        for source in sorted(self.nodes, key=repr):
            if source[0] == "cover":
                continue
            for target in order.edges[source]:
                if target not in self.nodes:
                    continue
                if target[0] == "cover":
                    self._covered(source, target)
                    continue
                for p in order.waits.get((source, target), ()):
                    for stand in self.versions[p]:
                        if self._fits(stand, source):
                            self.links.append(Link(stand, _end(source), _end(target)))

    def _covered(self, source: Node, cover: Node) -> None:
        order, facts = self.situation.order, self.situation.facts
        for root, at in order.grounds.get((source, cover), ()):
            for ground in self.versions[root, at, source]:
                for target in order.edges[cover]:
                    if target not in self.nodes:
                        continue
                    for p in order.covers.get((cover, target), ()):
                        if not self.situation.overlap.meet(root, facts.positions[p].root):
                            continue
                        if self._kept_below(ground, root, p):
                            continue
                        for stand in self.versions[p]:
                            self.links.append(Link(stand, _end(source), _end(target), ground))

    def _kept_below(self, ground: int, root: int, position: int) -> bool:
        """Whether what interrupts the ground would have to take on its way what the ground keeps meanwhile."""
        above = self.situation.facts.positions[position]
        if self.situation.roots[above.root].kind == "thread":
            return False  # it may have come to its place before, and displace the ground then
        modes = {HELD_X: EXCLUSIVE, HELD_S: SHARED}
        held = [(lock, modes[how]) for lock, how in self.stands[ground].holds if how in modes]
        return any(self.situation.kept_from(above, lock, mode) for lock, mode in held)

    def _fits(self, stand: int, source: Node) -> bool:
        """Whether an exact stand holds the lock in that mode."""
        state = self.runs.get(stand)
        if state is None or source[0] != "lock" or source[2] == WAITING:
            return True
        return dict(state.held).get(str(source[1]), 0) == source[2]

    def about(self, positions: set[int], direct: bool) -> list[int]:
        """The links in which one of the positions waits; `direct`: for the lock of what it has taken the processor
        of."""
        found = []
        for number, link in enumerate(self.links):
            waiting = self.position_of[link.stand] in positions
            if direct:
                same = link.ground >= 0 and link.source[0] == link.target[0]
                if waiting and same and KEEPS_OUT not in (link.source[1], link.target[1]):
                    found.append(number)
            elif waiting:
                found.append(number)
        return found


def _how(mask: int) -> str:
    return {EXCLUSIVE: HELD_X, SHARED: HELD_S, SHARED | EXCLUSIVE: HELD_S}.get(mask, MAYBE)


def _holds(held: tuple[tuple[str, int], ...]) -> tuple[Hold, ...]:
    return tuple((lock, HELD_X if how == EXCLUSIVE else HELD_S) for lock, how in held if how)


def _end(node: Node) -> tuple[str, str]:
    """A node as the end of a link."""
    if node[0] == "lock":
        return str(node[1]), {EXCLUSIVE: HELD_X, SHARED: HELD_S, WAITING: KEEPS_OUT}[int(str(node[2]))]
    return str(node[1]), str(node[0])
