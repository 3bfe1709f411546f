"""The strict order (D04): locks taken while others are held, whatever the modes and whoever else runs.

Driver Verifier's deadlock detection has this rule: a cycle is a violation even where no deadlock can come of it
(devtest/deadlock-detection).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelcheck.mutual.order import Node, components
from modelcheck.mutual.positions import MAY_BE_FREE
from modelcheck.mutual.rings import Find
from modelcheck.mutual.situation import Exact, Situation


class Nesting:
    """Which lock comes after which. What lies on a cycle is made exact first."""

    def __init__(self, situation: Situation, find: Find) -> None:
        self.situation = situation
        positions = situation.facts.positions
        self.rough: dict[int, list[str]] = {}
        for number, p in enumerate(positions):
            held = dict(p.held)
            if p.sort == "lock" and held.get(p.wanted, MAY_BE_FREE) & MAY_BE_FREE:
                self.rough[number] = [lock for lock in held if lock != p.wanted]
        first = self._components(self.rough)
        doubted = [n for n, locks in self.rough.items() if any(self._inside(first, n, lock) for lock in locks)]
        self.states = dict(zip(doubted, find([situation.waiting(positions[n]) for n in doubted]), strict=True))
        self.certain: dict[int, list[str]] = {}
        self.possible: dict[int, list[str]] = {}
        for number, locks in self.rough.items():
            states = self.states.get(number)
            if states is None:
                self.certain[number] = self.possible[number] = locks
            else:
                self.possible[number] = [lock for e in states for lock, how in e.held if how]
                self.certain[number] = [lock for e in states if e.trace is not None for lock, how in e.held if how]
        self.surely = self._components(self.certain)
        self.perhaps = self._components(self.possible)

    def broken(self, number: int) -> Exact | None:
        """A state of the position with a run, in which it takes its lock against the order."""
        for state in self.states.get(number, []):
            if state.trace is not None and any(
                how and self._inside(self.surely, number, lock) for lock, how in state.held
            ):
                return state
        return None

    def doubtful(self, number: int) -> bool:
        """Whether the position may take its lock against the order."""
        return any(self._inside(self.perhaps, number, lock) for lock in self.possible.get(number, ()))

    def _components(self, edges: Mapping[int, Iterable[str]]) -> dict[Node, int]:
        graph: dict[Node, dict[Node, None]] = {}
        for number, locks in edges.items():
            wanted: Node = (self.situation.facts.positions[number].wanted,)
            for lock in locks:
                graph.setdefault((lock,), {})[wanted] = None
                graph.setdefault(wanted, {})
        return components(graph)

    def _inside(self, found: dict[Node, int], number: int, lock: str) -> bool:
        wanted = self.situation.facts.positions[number].wanted
        return lock != wanted and found.get((lock,), -1) == found.get((wanted,), -2)
