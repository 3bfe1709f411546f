"""Rings of one component of the order: who can stand in them, with what, as one formula (`cycles`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

from modelcheck.mutual.cycles import EXCLUSIVE as HELD_X
from modelcheck.mutual.cycles import MAYBE, Link, Ring, Stand
from modelcheck.mutual.cycles import SHARED as HELD_S
from modelcheck.mutual.cycles import WAITING as KEEPS_OUT
from modelcheck.mutual.order import Node
from modelcheck.mutual.positions import EXCLUSIVE, MAY_BE_FREE, SHARED, WAITING
from modelcheck.mutual.situation import Candidates, Situation, Tests, go_together, known_holds

Live: TypeAlias = Callable[[Candidates], list[Tests]]
"""The states of candidates, as far as they are told apart, without those that are never met."""


class Rings:
    """The ring formula of one component. `states[n]` is what stand n stands for, `position_of[n]` its position (only
    of those that wait)."""

    def __init__(self, situation: Situation, component: int, live: Live) -> None:
        self.situation = situation
        self.nodes = situation.members[component]
        self.live = live
        self.stands: list[Stand] = []
        self.states: list[tuple[Candidates, Tests]] = []
        self.links: list[Link] = []
        self.position_of: dict[int, int] = {}
        self._find()
        self._link()
        loose, loose_roots = self._loose()
        apart = self._apart()
        kept_off = self._kept_off() - apart
        self.ring = Ring(self.stands, self.links, apart, self._single(), self._barred(), loose, loose_roots, kept_off)

    def _find(self) -> None:
        """The stands that have a part in the component."""
        order, positions = self.situation.order, self.situation.facts.positions
        self.waiting: dict[int, list[int]] = {}
        self.grounds: dict[tuple[int, int, Node], list[int]] = {}
        for source in self.nodes:
            for target in order.edges[source]:
                if target not in self.nodes:
                    continue
                for table in (order.waits, order.covers):
                    for p in table.get((source, target), ()):
                        if p not in self.waiting:
                            self.waiting[p] = self._stands(self.situation.waiting(positions[p]))
                            self.position_of.update(dict.fromkeys(self.waiting[p], p))
                for root, at in order.grounds.get((source, target), ()):
                    if (root, at, source) not in self.grounds:
                        self.grounds[root, at, source] = self._stands(self.situation.standing(root, at, source))

    def _stands(self, candidates: Candidates) -> list[int]:
        if not candidates.sites:
            return []
        found = []
        for tests in self.live(candidates):
            holds = tuple((lock, _how(mask)) for lock, mask in known_holds(candidates, tests))
            values = tuple(sorted(self.situation.steady(candidates, tests).items()))
            found.append(len(self.stands))
            self.stands.append(Stand(candidates.root, holds, values))
            self.states.append((candidates, tests))
        return found

    # ---- links ----

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
                    for stand in self.waiting[p]:
                        if self._fits(stand, source):
                            self.links.append(Link(stand, _end(source), _end(target)))

    def _covered(self, source: Node, cover: Node) -> None:
        order, facts = self.situation.order, self.situation.facts
        for root, at in order.grounds.get((source, cover), ()):
            for ground in self.grounds[root, at, source]:
                if not self._fits(ground, source):
                    continue
                for target in order.edges[cover]:
                    if target not in self.nodes:
                        continue
                    for p in order.covers.get((cover, target), ()):
                        if not self.situation.overlap.meet(root, facts.positions[p].root):
                            continue
                        itself = _end(source)[0] if _end(source)[0] == _end(target)[0] else ""
                        if self._kept_below(ground, p, itself):
                            continue
                        for stand in self.waiting[p]:
                            if not itself or go_together(
                                self.situation, self.states[ground], self.states[stand], itself
                            ):
                                self.links.append(Link(stand, _end(source), _end(target), ground))

    def _kept_below(self, ground: int, position: int, shared: str) -> bool:
        """Whether what interrupts the ground would have to take on its way what the ground keeps meanwhile. `shared`:
        the lock that both are about, if they are about one."""
        above = self.situation.facts.positions[position]
        if self.situation.roots[above.root].kind == "thread":
            return False  # it may have come to its place before, and displace the ground then
        modes = {HELD_X: EXCLUSIVE, HELD_S: SHARED}
        held = [(lock, modes[how]) for lock, how in self.stands[ground].holds if how in modes]
        below, excludes = self.stands[ground].root, self.situation.sharing.excludes
        return any(
            excludes(lock, below, above.root, shared) and self.situation.kept_from(above, lock, mode)
            for lock, mode in held
        )

    def _fits(self, stand: int, source: Node) -> bool:
        """Whether a stand may hold the lock in that mode."""
        if source[0] != "lock" or source[2] == WAITING:
            return True
        return bool(dict(known_holds(*self.states[stand])).get(str(source[1]), 0) & int(str(source[2])))

    # ---- who is never there with whom ----

    def _together(self) -> set[tuple[int, int]]:
        """Roots that one context can be in at once: a call-out that comes back."""
        found = set()
        facts, roots = self.situation.facts, self.situation.roots
        for position in facts.positions:
            if position.sort == "role":
                for number, root in enumerate(roots):
                    if root.comes_back == position.wanted:
                        found |= {(position.root, number), (number, position.root)}
        return found

    def _apart(self) -> frozenset[tuple[int, int]]:
        used, together = sorted({s.root for s in self.stands}), self._together()
        return frozenset(
            pair
            for pair in itertools.combinations(used, 2)
            if not self.situation.overlap.meet(*pair) and pair not in together
        )

    def _kept_off(self) -> frozenset[tuple[int, int]]:
        """Pairs of roots that are never on one device at once."""
        used, together = sorted({s.root for s in self.stands}), self._together()
        return frozenset(
            pair
            for pair in itertools.combinations(used, 2)
            if self.situation.overlap.kept_off(*pair) and pair not in together
        )

    def _single(self) -> frozenset[int]:
        overlap = self.situation.overlap
        return frozenset(
            s.root for s in self.stands if not overlap.meet(s.root, s.root) or overlap.kept_off(s.root, s.root)
        )

    def _barred(self) -> frozenset[tuple[int, int]]:
        overlap, together = self.situation.overlap, self._together()
        used = sorted({s.root for s in self.stands})
        return frozenset(
            (stand, root)
            for stand, (candidates, _) in enumerate(self.states)
            for root in used
            if not overlap.started(candidates.root, candidates.sites, root)
            and overlap.meet(candidates.root, root)
            and (candidates.root, root) not in together
        )

    def _loose(self) -> tuple[frozenset[str], frozenset[int]]:
        """What holds only of the instances of devices that are told apart; not what is of the one device on which all
        contexts of a ring are."""
        sharing, roots = self.situation.sharing, sorted({stand.root for stand in self.stands})
        locks = [str(node[1]) if node[0] == "lock" else "" for node in self.nodes]
        same = sharing.only(locks, roots)
        names = {lock for stand in self.stands for lock, _ in stand.holds} | {link.source[0] for link in self.links}
        names |= {name for stand in self.stands for name, _ in stand.values}
        loose = {n for n in names if sharing.device(n.removeprefix("var ")) not in ("", same)}
        if not same and sharing.devices:
            loose |= names & sharing.each
        return frozenset(loose), frozenset(r for r in roots if set(sharing.taken[r]) - {same})

    def about(self, positions: set[int], direct: bool) -> list[int]:
        """The links in which one of the positions waits; `direct`: for the lock of what it has taken the processor
        of."""
        found = []
        for number, link in enumerate(self.links):
            if self.position_of[link.stand] not in positions:
                continue
            same = link.ground >= 0 and link.source[0] == link.target[0]
            if not direct or (same and KEEPS_OUT not in (link.source[1], link.target[1])):
                found.append(number)
        return found


def _how(mask: int) -> str:
    if mask & MAY_BE_FREE:
        return MAYBE
    return HELD_X if mask == EXCLUSIVE else HELD_S


def _end(node: Node) -> tuple[str, str]:
    """A node as the end of a link."""
    if node[0] == "lock":
        return str(node[1]), {EXCLUSIVE: HELD_X, SHARED: HELD_S, WAITING: KEEPS_OUT}[int(str(node[2]))]
    return " ".join(map(str, node[1:])), str(node[0])
