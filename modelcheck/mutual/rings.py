"""Rings of one component of the order: who can stand in them, with what, as one formula (`cycles`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

from modelcheck.mutual.cycles import EXCLUSIVE as HELD_X
from modelcheck.mutual.cycles import MAYBE, Hold, Link, Ring, Stand
from modelcheck.mutual.cycles import SHARED as HELD_S
from modelcheck.mutual.order import Node
from modelcheck.mutual.positions import EXCLUSIVE, SHARED
from modelcheck.mutual.situation import Candidates, Exact, Situation, kept_out

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
        self.ground_of: dict[int, tuple[int, int]] = {}
        self.runs: dict[int, Exact] = {}
        self.writers: dict[str, list[int]] = {}
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
        self.ring = Ring(self.stands, self.links, apart, single, self.writers)

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
        self.readers: set[str] = set()
        for source in self.nodes:
            for target in order.edges[source]:
                if target not in self.nodes:
                    continue
                for table in (order.waits, order.covers):
                    for p in table.get((source, target), ()):
                        self.positions[p] = None
                        position = self.situation.facts.positions[p]
                        if position.shared and target[-1] == SHARED:
                            self.readers.add(position.wanted)
                for root, at in order.grounds.get((source, target), ()):
                    self.grounds[root, at, source] = None
        for lock in sorted(self.readers):
            for p in self.situation.writing.get(lock, ()):
                self.positions[p] = None

    def _roughly(self) -> dict[object, list[int]]:
        found: dict[object, list[int]] = {}
        for p in self.positions:
            position = self.situation.facts.positions[p]
            holds = tuple((lock, _how(mask)) for lock, mask in position.held)
            found[p] = [self._stand(Stand(position.root, holds), p)]
        for ground in self.grounds:
            root, at, node = ground
            number = len(self.stands)
            self.stands.append(Stand(root, ((str(node[1]), MAYBE),)))
            self.ground_of[number] = (root, at)
            found[ground] = [number]
        return found

    def _stand(self, stand: Stand, position: int) -> int:
        number = len(self.stands)
        self.stands.append(stand)
        self.position_of[number] = position
        p = self.situation.facts.positions[position]
        if p.sort == "lock" and not p.shared:
            self.writers.setdefault(p.wanted, []).append(number)
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
        for ground, exact in zip(grounds, states[len(self.positions) :], strict=True):
            root, at, _ = ground
            found[ground] = []
            for state in exact:
                number = len(self.stands)
                self.stands.append(Stand(root, _holds(state.held), state.values))
                self.ground_of[number] = (root, at)
                self.runs[number] = state
                found[ground].append(number)
        return found

    def _link(self) -> None:
        order, facts = self.situation.order, self.situation.facts
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
                            self.links.append(
                                Link(stand, _end(source), _end(target), writer=kept_out(facts.positions[p], target))
                            )

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
                        for stand in self.versions[p]:
                            out = kept_out(facts.positions[p], target)
                            self.links.append(Link(stand, _end(source), _end(target), ground, out))

    def _fits(self, stand: int, source: Node) -> bool:
        """Whether an exact stand holds the lock in that mode."""
        state = self.runs.get(stand)
        if state is None or source[0] != "lock":
            return True
        return dict(state.held).get(str(source[1]), 0) == source[2]

    def about(self, positions: set[int], direct: bool) -> list[int]:
        """The links in which one of the positions waits; `direct`: for the lock of what it has taken the processor
        of."""
        found = []
        for number, link in enumerate(self.links):
            waiting = self.position_of[link.stand] in positions
            if direct:
                if waiting and link.ground >= 0 and link.source[0] == link.target[0]:
                    found.append(number)
            elif waiting or (
                link.writer and any(self.position_of[w] in positions for w in self.writers.get(link.target[0], ()))
            ):
                found.append(number)
        return found


def _how(mask: int) -> str:
    return {EXCLUSIVE: HELD_X, SHARED: HELD_S, SHARED | EXCLUSIVE: HELD_S}.get(mask, MAYBE)


def _holds(held: tuple[tuple[str, int], ...]) -> tuple[Hold, ...]:
    return tuple((lock, HELD_X if how == EXCLUSIVE else HELD_S) for lock, how in held if how)


def _end(node: Node) -> tuple[str, str]:
    """A node as the end of a link."""
    if node[0] == "lock":
        return str(node[1]), HELD_X if node[2] == EXCLUSIVE else HELD_S
    return str(node[1]), str(node[0])
