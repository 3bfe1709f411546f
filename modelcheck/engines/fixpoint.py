"""The fixpoint: which states can be at each location, over-approximated, for every routine and every way it is entered.

A work-list over packed states (`layout`), with what an operation does remembered by the bits it touches. A routine is
analysed once for each state it is entered in (an *activation*); callers use the states at its exit. Recursion needs
nothing special: an activation that is asked before it is finished gives what it has, and tells its callers when it has
more.

What it finds is a proposal. `evidence.certify` has Z3 check that the tables are an inductive invariant.
"""

from __future__ import annotations

import heapq

from modelcheck.engines.transfer import (
    MAX_KEYS,
    GaveUp,
    Outcome,
    Plan,
    Shape,
    Ways,
    enter,
    outcomes_of,
    prepare,
    returned,
)
from modelcheck.invariant import Lives, start_values
from modelcheck.ir import Cell, Graph, Root
from modelcheck.layout import Layout, layouts
from modelcheck.lower import every_graph
from modelcheck.record import dataclass, field


@dataclass(slots=True, eq=False)
class Activation:
    """A routine entered in one state. `table[location]` maps keys to sets."""

    graph: Graph
    layout: Layout
    plans: list[list[Plan]]
    entry: tuple[int, int]
    table: list[dict[int, int]]
    order: list[int]
    pending: dict[int, set[int]] = field(default_factory=dict)
    heap: list[int] = field(default_factory=list)
    callers: set[tuple[Activation, int]] = field(default_factory=set)
    waiting: bool = False
    """Somebody will run it: it is on the stack, or among those woken."""

    @property
    def exits(self) -> dict[int, int]:
        return self.table[self.graph.exit]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A state that may break an obligation: at the source of `plan`, with this key."""

    activation: Activation
    plan: Plan
    key: int


@dataclass(slots=True, eq=False)
class Prepared:
    """What does not depend on how the analysis goes: where cells are kept, edges as plans, the order of locations."""

    roots: list[Root]
    tracked: frozenset[Cell]
    layouts: dict[Graph, Layout]
    plans: dict[Graph, list[list[Plan]]] = field(default_factory=dict)
    orders: dict[Graph, list[int]] = field(default_factory=dict)


class Fixpoint:
    """The analysis of some roots with some variables followed. `shapes`: what operations were found to do, by others
    too; `prepared`: what is used again if it is of the same roots and variables; `loose`: saved levels are followed
    only where they are among these variables."""

    def __init__(
        self,
        roots: list[Root],
        tracked: frozenset[Cell],
        budget: int,
        shapes: dict[Shape, Ways] | None = None,
        prepared: Prepared | None = None,
        loose: bool = False,
    ) -> None:
        self.roots = roots
        self.loose = loose
        self.tracked = passed_along([root.graph for root in roots], tracked)
        self.budget = budget
        if loose or prepared is None or (prepared.roots, prepared.tracked) != (roots, self.tracked):
            prepared = Prepared(roots, self.tracked, layouts([root.graph for root in roots], self.tracked, loose))
        self.prepared = prepared
        self.layouts = prepared.layouts
        self._plans, self._orders = prepared.plans, prepared.orders
        self.activations: dict[tuple[Graph, int, int], Activation] = {}
        self.alarms: dict[int, list[Alarm]] = {}
        self.doubts: set[int] = set()
        """Obligations met after a call that no model knows."""
        self.starts: dict[Root, list[Activation]] = {}
        self._shapes = {} if shapes is None else shapes
        self._callees: dict[tuple[Plan, int, int], Activation] = {}
        self._seen_alarms: set[tuple[int, int, int, int]] = set()
        self._new: set[Activation] = set()
        """Made, and not yet run."""
        self._alone = False
        self._woken: list[Activation] = []
        """Run before, and with work again."""

    def sketch(self, root: Root, lives: Lives) -> None:
        """Analyses each routine of a root alone, in one of the states a root can start in, as if calls changed nothing:
        of no use but to see where things get unclear.

        Raises:
            GaveUp: over budget, or a followed variable takes too many values.
        """
        self._alone = True
        for graph in every_graph([root.graph]):
            if graph not in self._orders:  # or it was analysed already
                for key, sets in start_states(root, self.layouts[graph], lives)[:1]:
                    start = self.activation(graph, key, sets)
                    self._new.discard(start)
                    self._drive(start)

    def run(self, root: Root, lives: Lives) -> None:
        """Analyses a root started in every state it can start in.

        Raises:
            GaveUp: over budget, or a followed variable takes too many values.
        """
        layout = self.layouts[root.graph]
        self.starts[root] = []
        for key, sets in start_states(root, layout, lives):
            start = self.activation(root.graph, key, sets)
            self._new.discard(start)
            self.starts[root].append(self._drive(start))

    # ---- activations ----

    def activation(self, graph: Graph, key: int, sets: int) -> Activation:
        found = self.activations.get((graph, key, sets))
        if found is None:
            layout = self.layouts[graph]
            found = Activation(
                graph, layout, self._plans_of(graph), (key, sets), [{} for _ in range(graph.size)], self._order(graph)
            )
            self.activations[graph, key, sets] = found
            self._new.add(found)
            self._join(found, graph.entry, key & layout.live[graph.entry], sets)
        return found

    def _plans_of(self, graph: Graph) -> list[list[Plan]]:
        plans = self._plans.get(graph)
        if plans is None:
            layout = self.layouts[graph]
            plans = self._plans[graph] = [[] for _ in range(graph.size)]
            for number, edge in enumerate(graph.edges):
                plans[edge.source].append(prepare(edge, layout, self.layouts, number, self._shapes))
        return plans

    def _order(self, graph: Graph) -> list[int]:
        """Rank of each location in reverse postorder."""
        order = self._orders.get(graph)
        if order is None:
            order = self._orders[graph] = reverse_postorder(graph)
        return order

    def _drive(self, first: Activation) -> Activation:
        """Runs until nothing changes; callees before their callers go on."""
        stack = [first]
        while stack or self._woken:
            if not stack:
                stack.append(self._woken.pop())
            activation = stack[-1]
            activation.waiting = True
            if not activation.heap:
                activation.waiting = False
                stack.pop()
                continue
            stack += self._advance(activation)
        return first

    def _advance(self, activation: Activation) -> list[Activation]:
        """One location; gives the activations to run first."""
        rank = heapq.heappop(activation.heap)
        location = rank & 0xFFFFFFFF
        keys = activation.pending.pop(location, None)
        if not keys:
            return []
        self.budget -= len(keys)
        if self.budget < 0:
            raise GaveUp("the step budget is used up")
        again: list[Activation] = []
        table = activation.table[location]
        ordered = sorted(keys) if len(keys) > 1 else list(keys)
        for plan in activation.plans[location]:
            if plan.edge.callee is None:
                self._follow(activation, plan, ordered, table)
            elif self._alone:
                for key in ordered:
                    self._join(activation, plan.edge.target, key & plan.live, table[key])
            else:
                for key in ordered:
                    again += self._call(activation, plan, key, table[key])
        return again

    def _push(self, activation: Activation, location: int, key: int) -> None:
        pending = activation.pending.get(location)
        if pending is None:
            activation.pending[location] = {key}
            heapq.heappush(activation.heap, activation.order[location] << 32 | location)
        else:
            pending.add(key)
        if not activation.waiting and activation not in self._new:
            activation.waiting = True
            self._woken.append(activation)

    def _join(self, activation: Activation, location: int, key: int, sets: int) -> None:
        table = activation.table[location]
        known = table.get(key)
        if known is None:
            if len(table) >= MAX_KEYS:
                raise GaveUp("too many variables are correlated here")
            table[key] = sets
        elif sets & ~known:
            table[key] = known | sets
        else:
            return
        self._changed(activation, location, key)

    def _changed(self, activation: Activation, location: int, key: int) -> None:
        self._push(activation, location, key)
        if location == activation.graph.exit:
            for caller, at in activation.callers:
                for caller_key in caller.table[at]:
                    self._push(caller, at, caller_key)

    # ---- edges ----

    def _follow(self, activation: Activation, plan: Plan, keys: list[int], table: dict[int, int]) -> None:
        """What comes of these states of a location over one edge: the innermost loop, so it does by itself what `_join`
        does."""
        key_mask, set_mask, live, memo = plan.key_mask, plan.set_mask, plan.live, plan.memo
        taint = plan.layout.taint
        target = plan.edge.target
        following = activation.table[target]
        for key in keys:
            sets = table[key]
            part = (key & key_mask, sets & set_mask)
            outcomes = memo.get(part)
            if outcomes is None:
                outcomes = memo[part] = outcomes_of(plan, *part)
            tainted = key & taint
            if tainted or plan.checks:
                self._look(activation, plan, key, sets)
            for outcome in outcomes:
                if (outcome.failed or outcome.wanted) and not tainted:
                    self._broken(activation, plan, key, sets, outcome)
                if outcome.stops:
                    continue
                after = (key & ~key_mask | outcome.key) & live
                reached = sets & ~set_mask | outcome.sets
                known = following.get(after)
                if known is None:
                    if len(following) >= MAX_KEYS:
                        raise GaveUp("too many variables are correlated here")
                    following[after] = reached
                elif reached & ~known:
                    following[after] = known | reached
                else:
                    continue
                self._changed(activation, target, after)

    def _look(self, activation: Activation, plan: Plan, key: int, sets: int) -> None:
        """The checks at the edge; after a call that no model knows nothing is certain."""
        if plan.layout.taint & key:
            self.doubts.update(plan.edge.obligations)
            self.doubts.update(check[0] for check in plan.checks)
            return
        for (number, bad, bad_keys), check in zip(plan.checks, plan.edge.checks, strict=True):
            if sets & bad or (bad_keys and plan.layout.key_value(key, check.cell) in bad_keys):
                self._alarm(number, activation, plan, key)

    def _broken(self, activation: Activation, plan: Plan, key: int, sets: int, outcome: Outcome) -> None:
        failed = outcome.failed
        for slot, set_bits, key_bits in outcome.wanted:
            if sets & set_bits or key & key_bits:
                failed |= 1 << slot
        while failed:
            slot = (failed & -failed).bit_length() - 1
            failed &= failed - 1
            self._alarm(plan.edge.obligations[slot], activation, plan, key)

    def _alarm(self, obligation: int, activation: Activation, plan: Plan, key: int) -> None:
        mark = (obligation, id(activation), plan.number, key)
        if mark not in self._seen_alarms:
            self._seen_alarms.add(mark)
            self.alarms.setdefault(obligation, []).append(Alarm(activation, plan, key))

    def _call(self, activation: Activation, plan: Plan, key: int, sets: int) -> list[Activation]:
        callee = self.callee(plan, key, sets)
        callee.callers.add((activation, plan.edge.source))
        if callee in self._new:
            # the callee first; this key again when it has ended
            self._new.discard(callee)
            callee.waiting = True
            self._push(activation, plan.edge.source, key)
            return [callee]
        for after_key, after_sets in returned(plan, callee.layout, callee.exits, key, sets):
            self._join(activation, plan.edge.target, after_key & plan.live, after_sets)
        return []

    def callee(self, plan: Plan, key: int, sets: int) -> Activation:
        """The activation that a call in this state enters."""
        part = (plan, key & plan.key_mask, sets & plan.set_mask)
        callee = self._callees.get(part)
        if callee is None:
            assert plan.edge.callee is not None
            inner = self.layouts[plan.edge.callee]
            entry_key, entry_sets = enter(plan, inner, *part[1:])
            entry_key &= inner.live[plan.edge.callee.entry]
            callee = self._callees[part] = self.activation(plan.edge.callee, entry_key, entry_sets)
        return callee


def passed_along(roots: list[Graph], tracked: frozenset[Cell]) -> frozenset[Cell]:
    """With a parameter also what is given for it, and with what receives a result the variable it comes from."""
    cells = set(tracked)
    if not cells:
        return tracked
    edges = [edge for graph in every_graph(roots) for edge in graph.edges if edge.callee is not None]
    while True:
        more = {actual for edge in edges for actual, formal in edge.copies_in if formal in cells}
        more |= {formal for edge in edges for formal, actual in edge.copies_out if actual in cells}
        if more <= cells:
            return frozenset(cells)
        cells |= more


def start_states(root: Root, layout: Layout, lives: Lives) -> list[tuple[int, int]]:
    """Every key a root can start with, as far as it matters, and the sets that go with it."""
    keys, sets = [0], 0
    for cell in layout.keys:
        if cell.is_global:
            values = start_values(root, cell, lives)
            if len(values) * len(keys) > MAX_KEYS:
                raise GaveUp(f"`{cell.name}` can have too many values at the start")
            keys = [key | layout.key_bits(cell, v) for key in keys for v in values]
    for cell in layout.sets:
        if cell.is_global:
            sets |= layout.set_bits(cell, start_values(root, cell, lives))
    live = layout.live[layout.graph.entry]
    return [(key, sets) for key in dict.fromkeys(key & live for key in keys)]


def reverse_postorder(graph: Graph) -> list[int]:
    """The rank of each location; unreachable ones come last."""
    outgoing: list[list[int]] = [[] for _ in range(graph.size)]
    for edge in graph.edges:
        outgoing[edge.source].append(edge.target)
    ranks, seen = [graph.size] * graph.size, [False] * graph.size
    counter = graph.size
    stack: list[tuple[int, int]] = [(graph.entry, 0)]
    seen[graph.entry] = True
    while stack:
        location, index = stack.pop()
        if index < len(outgoing[location]):
            stack.append((location, index + 1))
            following = outgoing[location][index]
            if not seen[following]:
                seen[following] = True
                stack.append((following, 0))
        else:
            counter -= 1
            ranks[location] = counter
    return ranks
