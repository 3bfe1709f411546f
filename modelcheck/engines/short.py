"""Short rings of one component: whatever their stands hold, or such that any two of them go together.

The first follow distances from a walk backwards. The second are searched depth first with a bound on the length that
rises (Korf 1985), which those distances keep short; what any two links ask for is all that the formula of rings
(`mutual.cycles`) says of one. That there is none only that formula says.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

from modelcheck.mutual.cycles import EXCLUSIVE, SHARED, Ring
from modelcheck.record import dataclass

End: TypeAlias = tuple[str, str]
"""Where a link begins or ends: a lock in a mode, an event, a role."""
MAX_LOOKED_AT = 20_000
"""Links that one search looks at."""


@dataclass(frozen=True, slots=True)
class _Claims:
    """What a link asks for: who is there, with what."""

    stands: frozenset[int]
    roots: frozenset[int]
    exclusive: frozenset[str]
    shared: frozenset[str]
    values: dict[str, int]


class ShortRings:
    """The rings of one component, shortest first. `leaving`: the links from each of its nodes."""

    def __init__(self, ring: Ring, leaving: dict[End, list[int]]) -> None:
        self.ring = ring
        self.leaving = leaving
        self.entering: dict[End, dict[End, list[int]]] = {}
        for number, link in enumerate(ring.links):
            self.entering.setdefault(link.target, {}).setdefault(link.source, []).append(number)
        self._far: dict[tuple[End, frozenset[int]], dict[End, int]] = {}
        self._claims: dict[int, _Claims | None] = {}
        self._pairs: dict[tuple[int, int], bool] = {}
        self.left = 0

    def whatever_held(self, start: int, barred: frozenset[int] = frozenset()) -> list[int] | None:
        """A shortest ring that begins with a link, over links that are not barred."""
        links = self.ring.links
        node, goal = links[start].target, links[start].source
        far = self._distances(goal, barred)
        if node not in far:
            return None
        ring = [start]
        while node != goal:
            nearer = (n for n in self.leaving[node] if far.get(links[n].target) == far[node] - 1 and n not in barred)
            ring.append(next(nearer))
            node = links[ring[-1]].target
        return ring

    def through(self, starts: Sequence[int], barred: frozenset[int] = frozenset()) -> list[int] | None:
        """A shortest ring that begins with one of some links, over links that are not barred; None if none was found
        within the limit."""
        self.left = MAX_LOOKED_AT
        links, nodes = self.ring.links, len(self.leaving)
        possible = [n for n in starts if n not in barred and self._claim(n) is not None]
        goals = {n: self._distances(links[n].source, barred) for n in possible}
        for length in range(1, nodes + 1):
            for start, far in goals.items():
                if far.get(links[start].target, nodes) < length:
                    ring = self._closed(start, far, length, barred)
                    if ring is not None or self.left <= 0:
                        return ring
        return None

    def _closed(self, start: int, far: dict[End, int], length: int, barred: frozenset[int]) -> list[int] | None:
        """A ring of at most so many links that begins with one; `far`: how far it is from each node to its end."""
        links = self.ring.links
        ring, passed = [start], {links[start].target}
        if links[start].source in passed:
            return ring
        following = [iter(self.leaving.get(links[start].target, ()))]
        while following:
            number = next(following[-1], None)
            if number is None:
                following.pop()
                passed.discard(links[ring.pop()].target)
                continue
            self.left -= 1
            if self.left <= 0:
                return None
            target = links[number].target
            if len(ring) + 1 + far.get(target, length) > length or target in passed or number in barred:
                continue
            if all(self._fit(number, other) for other in ring):
                ring.append(number)
                if target == links[start].source:
                    return ring
                passed.add(target)
                following.append(iter(self.leaving.get(target, ())))
        return None

    def _distances(self, goal: End, barred: frozenset[int]) -> dict[End, int]:
        """How many links that are not barred it is from each node to the goal."""
        found = self._far.get((goal, barred))
        if found is None:
            found = self._far[goal, barred] = {goal: 0}
            pending = [goal]
            for node in pending:
                for source, numbers in self.entering.get(node, {}).items():
                    if source not in found and not (barred and barred.issuperset(numbers)):
                        found[source] = found[node] + 1
                        pending.append(source)
        return found

    def _claim(self, number: int) -> _Claims | None:
        """What a link asks for, None if its own stands do not go together."""
        if number not in self._claims:
            link = self.ring.links[number]
            holder = link.stand if link.ground < 0 else link.ground
            parts = [self._of(stand, link.source if stand == holder else None) for stand in {link.stand, holder}]
            self._claims[number] = parts[0] if len(parts) == 1 else self._joined(*parts)
        return self._claims[number]

    def _of(self, number: int, source: End | None) -> _Claims:
        stand = self.ring.stands[number]
        held = [*stand.holds, *([source] if source is not None else [])]
        exclusive = frozenset(lock for lock, how in held if how == EXCLUSIVE)
        shared = frozenset(lock for lock, how in held if how == SHARED)
        return _Claims(frozenset((number,)), frozenset((stand.root,)), exclusive, shared, dict(stand.values))

    def _joined(self, one: _Claims, other: _Claims) -> _Claims | None:
        if not self._go_together(one, other):
            return None
        exclusive, shared = one.exclusive | other.exclusive, one.shared | other.shared
        return _Claims(
            one.stands | other.stands, one.roots | other.roots, exclusive, shared, {**one.values, **other.values}
        )

    def _fit(self, one: int, other: int) -> bool:
        key = (one, other)
        if key not in self._pairs:
            mine, theirs = self._claim(one), self._claim(other)
            self._pairs[key] = mine is not None and theirs is not None and self._go_together(mine, theirs)
        return self._pairs[key]

    def _go_together(self, one: _Claims, other: _Claims) -> bool:
        return (
            one.stands.isdisjoint(other.stands)
            and one.exclusive.isdisjoint(other.exclusive)
            and one.exclusive.isdisjoint(other.shared)
            and one.shared.isdisjoint(other.exclusive)
            and all(other.values.get(name, value) == value for name, value in one.values.items())
            and not any(self._apart(*pair) for pair in product(one.roots, other.roots))
            and self.ring.barred.isdisjoint(product(one.stands, other.roots))
            and self.ring.barred.isdisjoint(product(other.stands, one.roots))
        )

    def _apart(self, one: int, other: int) -> bool:
        """Whether contexts of two roots are never there together."""
        if one == other:
            return one in self.ring.single
        pair = (min(one, other), max(one, other))
        return pair in self.ring.apart or pair in self.ring.kept_off
