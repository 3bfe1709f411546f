"""A shortest way to an alarm through the fixpoint's states, across calls.

Distances count executed edges. A call that is passed over counts what its callee needs at least to get from its entry
to that exit state; recursion is solved by repeating until no distance changes.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TypeAlias

from modelcheck.engines.fixpoint import Activation, Alarm, Fixpoint
from modelcheck.engines.transfer import Plan, outcomes_of, returned
from modelcheck.record import dataclass

Node: TypeAlias = tuple[int, int]
"""A location and a key."""


@dataclass(frozen=True, slots=True)
class Move:
    """One edge of a path. `frame` numbers the activation record; a call is `enter` (into `other`) or `leave` (back to
    it)."""

    plan: Plan
    frame: int
    kind: str
    other: int = -1


@dataclass(frozen=True, slots=True)
class _Back:
    """How a node was reached: from which node, over which edge, and for a call through which exit key."""

    node: Node
    plan: Plan
    exit_key: int | None


class Paths:
    """Shortest paths in one finished fixpoint."""

    def __init__(self, fixpoint: Fixpoint) -> None:
        self.fixpoint = fixpoint
        self.backs: dict[Activation, dict[Node, _Back]] = {}
        self.distances: dict[Activation, dict[Node, int]] = {}
        self._frames = count()
        self._starts = {start for starts in fixpoint.starts.values() for start in starts}

    def shortest(self, alarms: list[Alarm]) -> tuple[list[Move], Alarm]:
        """The moves from the start of a root to the nearest alarm; the alarm's own edge is the last move."""
        entries = self._entries(alarms)
        best: tuple[int, int] | None = None
        for index, alarm in enumerate(alarms):
            entry = entries.get(alarm.activation)
            inside = self._of(alarm.activation).get((alarm.plan.edge.source, alarm.key))
            if entry is not None and inside is not None and (best is None or entry[0] + inside < best[0]):
                best = (entry[0] + inside, index)
        assert best is not None, "an alarm nothing leads to"
        alarm = alarms[best[1]]
        return self._build(alarm, entries), alarm

    def _of(self, activation: Activation) -> dict[Node, int]:
        found = self.distances.get(activation)
        if found is None:
            self._solve(activation)
            found = self.distances[activation]
        return found

    def _solve(self, activation: Activation) -> None:
        """Distances in the activation and all it calls; again until callees in a cycle have settled."""
        order = self._callees(activation)
        while True:
            before = {a: dict(self.distances.get(a, {})) for a in order} if len(order) < 2_000 else {}
            for one in order:
                self.distances[one], self.backs[one] = self._dijkstra(one)
            if not self._cyclic(order) or all(self.distances[a] == before.get(a) for a in order):
                return

    def _callees(self, first: Activation) -> list[Activation]:
        """Unsolved activations reachable by calls, callees first."""
        order: list[Activation] = []
        seen = {first}
        stack: list[tuple[Activation, list[Activation]]] = [(first, self._direct(first))]
        while stack:
            activation, rest = stack[-1]
            if rest:
                following = rest.pop()
                if following not in seen and following not in self.distances:
                    seen.add(following)
                    stack.append((following, self._direct(following)))
            else:
                stack.pop()
                order.append(activation)
        return order

    def _direct(self, activation: Activation) -> list[Activation]:
        return [self.fixpoint.callee(plan, key, sets) for plan, key, sets in self._calls(activation)]

    def _calls(self, activation: Activation) -> list[tuple[Plan, int, int]]:
        return [
            (plan, key, sets)
            for location, plans in enumerate(activation.plans)
            for plan in plans
            if plan.edge.callee is not None
            for key, sets in activation.table[location].items()
        ]

    def _cyclic(self, order: list[Activation]) -> bool:
        position = {activation: index for index, activation in enumerate(order)}
        return any(position.get(callee, -1) >= index for index, a in enumerate(order) for callee in self._direct(a))

    def _dijkstra(self, activation: Activation) -> tuple[dict[Node, int], dict[Node, _Back]]:
        entry = (activation.graph.entry, activation.entry[0] & activation.layout.live[activation.graph.entry])
        distance: dict[Node, int] = {entry: 0}
        back: dict[Node, _Back] = {}
        heap: list[tuple[int, Node]] = [(0, entry)]
        while heap:
            far, node = heapq.heappop(heap)
            if far > distance[node]:
                continue
            for plan in activation.plans[node[0]]:
                for key, cost, exit_key in self._successors(activation, plan, node):
                    target = (plan.edge.target, key & activation.layout.live[plan.edge.target])
                    if target not in distance or far + cost < distance[target]:
                        distance[target] = far + cost
                        back[target] = _Back(node, plan, exit_key)
                        heapq.heappush(heap, (far + cost, target))
        return distance, back

    def _successors(self, activation: Activation, plan: Plan, node: Node) -> list[tuple[int, int, int | None]]:
        location, key = node
        sets = activation.table[location][key]
        if plan.edge.callee is None:
            part = (key & plan.key_mask, sets & plan.set_mask)
            outcomes = plan.memo.get(part) or outcomes_of(plan, *part)
            return [(key & ~plan.key_mask | o.key, 1, None) for o in outcomes if not o.stops]
        callee = self.fixpoint.callee(plan, key, sets)
        known = self.distances.get(callee, {})
        found: list[tuple[int, int, int | None]] = []
        for exit_key, (after, _) in zip(
            callee.exits, returned(plan, callee.layout, callee.exits, key, sets), strict=True
        ):
            inner = known.get((callee.graph.exit, exit_key))
            if inner is not None:
                found.append((after, inner + 1, exit_key))
        return found

    def _entries(self, alarms: list[Alarm]) -> dict[Activation, tuple[int, tuple[Activation, Node, Plan] | None]]:
        """The distance of each activation's entry from the start of a root, and the call that gives it."""
        wanted = self._ancestors(alarms)
        entries: dict[Activation, tuple[int, tuple[Activation, Node, Plan] | None]] = {}
        tie = count()
        heap: list[tuple[int, int, Activation, tuple[Activation, Node, Plan] | None]] = []
        for activation in wanted:
            if activation in self._starts:
                heapq.heappush(heap, (0, next(tie), activation, None))
        while heap:
            far, _, activation, call = heapq.heappop(heap)
            if activation in entries:
                continue
            entries[activation] = (far, call)
            known = self._of(activation)
            for plan, key, sets in self._calls(activation):
                callee = self.fixpoint.callee(plan, key, sets)
                node = (plan.edge.source, key)
                if callee in wanted and callee not in entries and node in known:
                    heapq.heappush(heap, (far + known[node] + 1, next(tie), callee, (activation, node, plan)))
        return entries

    def _ancestors(self, alarms: list[Alarm]) -> list[Activation]:
        seen = dict.fromkeys(alarm.activation for alarm in alarms)
        pending = list(seen)
        while pending:
            for caller, _ in sorted(pending.pop().callers, key=lambda c: (c[0].graph.name, c[0].entry, c[1])):
                if caller not in seen:
                    seen[caller] = None
                    pending.append(caller)
        return list(seen)

    def _build(
        self, alarm: Alarm, entries: dict[Activation, tuple[int, tuple[Activation, Node, Plan] | None]]
    ) -> list[Move]:
        chain: list[tuple[Activation, Node, Plan]] = []
        activation, node = alarm.activation, (alarm.plan.edge.source, alarm.key)
        chain.append((activation, node, alarm.plan))
        while (call := entries[activation][1]) is not None:
            chain.append(call)
            activation = call[0]
        moves: list[Move] = []
        frame = next(self._frames)
        for position, (activation, node, plan) in enumerate(reversed(chain)):
            self._inside(activation, node, frame, moves)
            if position == len(chain) - 1:
                moves.append(Move(plan, frame, "step"))
            else:
                inner = next(self._frames)
                moves.append(Move(plan, frame, "enter", inner))
                frame = inner
        return moves

    def _inside(self, activation: Activation, node: Node, frame: int, moves: list[Move]) -> None:
        """The moves from the activation's entry to the node."""
        steps: list[tuple[Node, _Back]] = []
        self._of(activation)
        backs = self.backs[activation]
        while node in backs and node != (activation.graph.entry, activation.entry[0]):
            back = backs[node]
            steps.append((node, back))
            node = back.node
        for _, back in reversed(steps):
            if back.exit_key is None:
                moves.append(Move(back.plan, frame, "step"))
                continue
            sets = activation.table[back.node[0]][back.node[1]]
            callee = self.fixpoint.callee(back.plan, back.node[1], sets)
            inner = next(self._frames)
            moves.append(Move(back.plan, frame, "enter", inner))
            self._inside(callee, (callee.graph.exit, back.exit_key), inner, moves)
            moves.append(Move(back.plan, inner, "leave", frame))
