"""The way of a root's transition system: its locations in order, where loops begin, what is live."""

from __future__ import annotations

from modelcheck.ir import Sort
from modelcheck.system import FlatEdge, System


class Flow:
    """A system as a graph. `order`: its locations from the entry on, in reverse postorder; `cuts`: the entry and the
    heads of loops; `live[location]`: the variables, by number, whose value there can matter."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.out: list[list[FlatEdge]] = [[] for _ in range(system.size)]
        for edge in system.edges:
            self.out[edge.source].append(edge)
        self.order = self._reverse_postorder()
        rank = {location: number for number, location in enumerate(self.order)}
        heads = {e.target for e in system.edges if e.source in rank and rank[e.target] <= rank[e.source]}
        self.cuts = [location for location in self.order if location == system.entry or location in heads]
        self.live = self._liveness()

    def _reverse_postorder(self) -> list[int]:
        entry = self.system.entry
        order: list[int] = []
        seen = {entry}
        stack = [(entry, iter(self.out[entry]))]
        while stack:
            location, edges = stack[-1]
            for edge in edges:
                if edge.target not in seen:
                    seen.add(edge.target)
                    stack.append((edge.target, iter(self.out[edge.target])))
                    break
            else:
                stack.pop()
                order.append(location)
        return order[::-1]

    def _liveness(self) -> list[frozenset[int]]:
        system = self.system
        live: list[frozenset[int]] = [frozenset()] * system.size
        effects = [self._effect(edge) for edge in system.edges]
        into: list[list[int]] = [[] for _ in range(system.size)]
        for number, edge in enumerate(system.edges):
            into[edge.target].append(number)
        pending = list(range(system.size))
        while pending:
            location = pending.pop()
            for number in into[location]:
                used, killed = effects[number]
                source = system.edges[number].source
                more = live[source] | used | (live[location] - killed)
                if more != live[source]:
                    live[source] = more
                    pending.append(source)
        return live

    def _effect(self, flat: FlatEdge) -> tuple[frozenset[int], frozenset[int]]:
        """The variables an edge looks at, and those it certainly writes without."""
        system = self.system
        index = system.index
        if flat.is_copy:
            used = {index[s] for s, t in flat.copies if s in index and t in index}
            return frozenset(used), frozenset(index[t] for _, t in flat.copies if t in index)
        operation = flat.edge.operation
        assert operation is not None
        used = {index[p] for n in operation.reads if (p := flat.places[n]) is not None and p in index}
        used |= {index[check.cell, 0] for check in flat.edge.checks if (check.cell, 0) in index}
        if operation.demands_free:
            used |= {number for number, place in enumerate(system.variables) if place[0].sort is Sort.HOLD}
        killed = {index[p] for n in operation.kills if (p := flat.places[n]) is not None and p in index}
        return frozenset(used), frozenset(killed)

    def region(self, cut: int) -> list[int]:
        """The locations reached from a cut point before the next, in topological order."""
        cuts, seen = set(self.cuts), {cut}
        pending = [cut]
        while pending:
            for edge in self.out[pending.pop()]:
                if edge.target not in cuts and edge.target not in seen:
                    seen.add(edge.target)
                    pending.append(edge.target)
        return [cut, *(location for location in self.order if location in seen and location != cut)]
