"""The strict order (D04): locks taken while others are held, whatever the modes and whoever else runs.

Driver Verifier's deadlock detection has this rule: a cycle is a violation even where no deadlock can come of it
(devtest/deadlock-detection).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from modelcheck.mutual.order import Node, components
from modelcheck.mutual.positions import MAY_BE_FREE
from modelcheck.mutual.rings import Live
from modelcheck.mutual.situation import Candidates, Situation, known_holds


class Nesting:
    """Which lock comes after which, as far as the states are told apart. `doubtful`: of which locks it is not known
    whether they are waited for."""

    def __init__(self, situation: Situation, live: Live, doubtful: Callable[[str], bool] = lambda _: False) -> None:
        self.situation = situation
        self.possible: dict[int, list[str]] = {}
        for number, p in enumerate(situation.facts.positions):
            held = dict(p.held)
            if p.sort == "lock" and held.get(p.wanted, MAY_BE_FREE) & MAY_BE_FREE:
                candidates = situation.waiting(p)
                states = [dict(known_holds(candidates, tests)) for tests in live(candidates)]
                self.possible[number] = sorted({lock for state in states for lock in state if lock != p.wanted})
        self.components = _components(situation, self.possible)
        wanted = {number: situation.facts.positions[number].wanted for number in self.possible}
        certain = {n: () if doubtful(wanted[n]) else locks for n, locks in self.possible.items()}
        self.certain = self.components if certain == self.possible else _components(situation, certain)

    def is_certain(self, number: int, lock: str) -> bool:
        """Whether a lock comes after the one taken at a position without what is perhaps no wait."""
        wanted = self.situation.facts.positions[number].wanted
        return self.certain.get((lock,), -1) == self.certain.get((wanted,), -2)

    def against(self, number: int) -> list[str]:
        """Locks that may be held at a position and come after the one taken there."""
        return [lock for lock in self.possible.get(number, ()) if self._inside(number, lock)]

    def _inside(self, number: int, lock: str) -> bool:
        wanted = self.situation.facts.positions[number].wanted
        return self.components.get((lock,), -1) == self.components.get((wanted,), -2)

    def subjects(self) -> list[tuple[Candidates, str]]:
        """What there is to ask: is a lock held at a position that comes after the one taken there?"""
        return [
            (self.situation.waiting(self.situation.facts.positions[number]), f"hold {lock}")
            for number in self.possible
            for lock in self.against(number)
        ]


def _components(situation: Situation, edges: Mapping[int, Iterable[str]]) -> dict[Node, int]:
    graph: dict[Node, dict[Node, None]] = {}
    for number, locks in edges.items():
        wanted: Node = (situation.facts.positions[number].wanted,)
        for lock in locks:
            graph.setdefault((lock,), {})[wanted] = None
            graph.setdefault(wanted, {})
    return components(graph)
