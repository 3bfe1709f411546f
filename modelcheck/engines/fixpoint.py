"""The fixpoint: which states can be at each location, over-approximated, for every routine and every way it is entered.

A work-list over packed states (`layout`), with what an operation does remembered by the bits it touches. A routine is
analysed once for each state it is entered in (an *activation*); callers use the states at its exit. Recursion needs
nothing special: an activation that is asked before it is finished gives what it has, and tells its callers when it has
more.

What it finds is a proposal. `evidence.certify` has Z3 check that the tables are an inductive invariant.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from modelcheck.engines.execute import Content, Pending, State, TooWide, run
from modelcheck.invariant import Lives, start_values
from modelcheck.ir import Cell, Edge, Graph, Operation, Root
from modelcheck.layout import Layout, layouts
from modelcheck.lower import every_graph

MAX_KEYS = 3_000
"""Different keys at one location; beyond, the variables followed are too many."""


class GaveUp(Exception):
    """The fixpoint stopped without an answer; `cell` is the variable that was too much, if it was one."""

    def __init__(self, reason: str, cell: Cell | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cell = cell


@dataclass(slots=True)
class Outcome:
    """One way an edge can go for certain touched bits: the touched bits afterwards, what failed, what remains to be
    looked at."""

    key: int
    sets: int
    failed: int
    wanted: tuple[tuple[int, int, int], ...]
    """(slot, set bits and key bits none of which may be set)"""
    stops: bool = False


@dataclass(slots=True, eq=False)
class Plan:
    """An edge prepared for one layout."""

    edge: Edge
    layout: Layout
    key_mask: int = 0
    set_mask: int = 0
    memo: dict[tuple[int, int], tuple[Outcome, ...]] = field(default_factory=dict)
    calls: dict[tuple[int, int], Activation] = field(default_factory=dict)
    checks: tuple[tuple[int, int, frozenset[int]], ...] = ()
    """(obligation, bad set bits, keys' values that are bad for a cell that is followed)"""
    number: int = 0
    others: tuple[Sequence[int], ...] = ()
    """For each register what others may write to it."""
    followed: tuple[bool, ...] = ()
    """For each register whether its value is kept."""
    runs: dict[Run, list[State]] = field(default_factory=dict)
    """What operations did, shared by all edges: many edges are the same operation on other cells."""


Run: TypeAlias = tuple[Operation, tuple[Content, ...], tuple[Sequence[int], ...], tuple[bool, ...]]


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
    reached: set[Plan] = field(default_factory=set)
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


class Fixpoint:
    """The analysis of some roots with some variables followed."""

    def __init__(self, roots: list[Root], tracked: frozenset[Cell], budget: int) -> None:
        self.roots = roots
        self.tracked = passed_along([root.graph for root in roots], tracked)
        self.budget = budget
        self.layouts = layouts([root.graph for root in roots], self.tracked)
        self.activations: dict[tuple[Graph, int, int], Activation] = {}
        self.alarms: dict[int, list[Alarm]] = {}
        self.doubts: set[int] = set()
        """Obligations met after a call that no model knows."""
        self.starts: dict[Root, list[Activation]] = {}
        self._plans: dict[Graph, list[list[Plan]]] = {}
        self._orders: dict[Graph, list[int]] = {}
        self._runs: dict[Run, list[State]] = {}
        self._seen_alarms: set[tuple[int, int, int, int]] = set()
        self._new: set[Activation] = set()
        """Made, and not yet run."""
        self._woken: list[Activation] = []
        """Run before, and with work again."""

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
                plans[edge.source].append(prepare(edge, layout, self.layouts, number, self._runs))
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
        ordered = sorted(keys) if len(keys) > 1 else keys
        for plan in activation.plans[location]:
            activation.reached.add(plan)
            if plan.edge.callee is not None:
                for key in ordered:
                    again += self._call(activation, plan, key, table[key])
            else:
                for key in ordered:
                    self._follow(activation, plan, key, table[key])
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
        self._push(activation, location, key)
        if location == activation.graph.exit:
            for caller, at in activation.callers:
                for caller_key in caller.table[at]:
                    self._push(caller, at, caller_key)

    # ---- edges ----

    def _follow(self, activation: Activation, plan: Plan, key: int, sets: int) -> None:
        part = (key & plan.key_mask, sets & plan.set_mask)
        outcomes = plan.memo.get(part)
        if outcomes is None:
            outcomes = plan.memo[part] = outcomes_of(plan, *part)
        edge, layout = plan.edge, plan.layout
        tainted = layout.taint and key & layout.taint
        if tainted:
            self.doubts.update(edge.obligations)
            self.doubts.update(check[0] for check in plan.checks)
        elif plan.checks:
            for (number, bad, bad_keys), check in zip(plan.checks, edge.checks, strict=True):
                if sets & bad or (bad_keys and layout.key_value(key, check.cell) in bad_keys):
                    self._alarm(number, activation, plan, key)
        live = layout.live[edge.target]
        key_rest, set_rest = key & ~plan.key_mask, sets & ~plan.set_mask
        for outcome in outcomes:
            if not tainted and (outcome.failed or outcome.wanted):
                failed = outcome.failed
                for slot, set_bits, key_bits in outcome.wanted:
                    if sets & set_bits or key & key_bits:
                        failed |= 1 << slot
                while failed:
                    slot = (failed & -failed).bit_length() - 1
                    failed &= failed - 1
                    self._alarm(edge.obligations[slot], activation, plan, key)
            if not outcome.stops:
                self._join(activation, edge.target, (key_rest | outcome.key) & live, set_rest | outcome.sets)

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
        for after_key, after_sets in returned(plan, callee, key, sets):
            self._join(activation, plan.edge.target, after_key & plan.layout.live[plan.edge.target], after_sets)
        return []

    def callee(self, plan: Plan, key: int, sets: int) -> Activation:
        """The activation that a call in this state enters."""
        part = (key & plan.key_mask, sets & plan.set_mask)
        callee = plan.calls.get(part)
        if callee is None:
            assert plan.edge.callee is not None
            entered = enter(plan, self.layouts[plan.edge.callee], *part)
            callee = plan.calls[part] = self.activation(plan.edge.callee, *entered)
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


def prepare(
    edge: Edge, layout: Layout, all_layouts: dict[Graph, Layout], number: int, runs: dict[Run, list[State]]
) -> Plan:
    """Which bits an edge touches."""
    plan = Plan(edge, layout, number=number, runs=runs)
    plan.others = tuple(() if cell is None else cell.others for cell in edge.cells)
    plan.followed = tuple(cell is not None and (cell in layout.keys or cell in layout.sets) for cell in edge.cells)
    if edge.callee is None:
        cells: Iterable[Cell | None] = edge.cells
    else:
        inner = all_layouts[edge.callee]
        shared = [c for c in (*inner.keys, *inner.sets) if c.is_global]
        cells = [*shared, *(c for c, _ in edge.copies_in), *(c for _, c in edge.copies_out)]
    for cell in cells:
        if cell is None:
            continue
        if cell in layout.keys:
            plan.key_mask |= layout.key_mask(cell)
        elif cell in layout.sets:
            plan.set_mask |= layout.set_mask(cell)
    checks: list[tuple[int, int, frozenset[int]]] = []
    for check in edge.checks:
        wrong = frozenset(v for v in range(check.cell.low, check.cell.high + 1) if v not in check.allowed)
        in_sets = check.cell in layout.sets
        bits = layout.set_bits(check.cell, wrong) if in_sets else 0
        checks.append((check.obligation, bits, frozenset() if in_sets else wrong))
    plan.checks = tuple(checks)
    return plan


def outcomes_of(plan: Plan, key: int, sets: int) -> tuple[Outcome, ...]:
    """What the operation makes of the touched bits."""
    edge, layout = plan.edge, plan.layout
    operation = edge.operation
    assert operation is not None
    inputs: list[Content] = []
    for cell in edge.cells:
        if cell is None:
            inputs.append(None)
        elif cell in layout.keys:
            inputs.append(layout.key_value(key, cell))
        elif cell in layout.sets:
            values = layout.set_values(sets, cell)
            inputs.append(values[0] if len(values) == 1 else Pending(values))
        else:
            inputs.append(None)
    known = (operation, tuple(inputs), plan.others, plan.followed)
    states = plan.runs.get(known)
    if states is None:
        try:
            states = plan.runs[known] = run(operation, inputs, plan.others, plan.followed)
        except TooWide as wide:
            cell = edge.cells[wide.register]
            raise GaveUp(f"`{cell}` takes too many values", cell) from None
    return _collect(plan, states)


def _collect(plan: Plan, states: list[State]) -> tuple[Outcome, ...]:
    """States with the same key become one."""
    edge, layout = plan.edge, plan.layout
    found: dict[tuple[int, bool, tuple[tuple[int, int, int], ...]], Outcome] = {}
    for state in states:
        wanted = tuple((slot, *_lock_masks(layout, edge, spin_only, level)) for slot, spin_only, level in state.wanted)
        if state.stopped:
            mark = (0, True, wanted)
            outcome = found.setdefault(mark, Outcome(0, 0, 0, wanted, stops=True))
            outcome.failed |= state.failed
            continue
        for bits in _keys(plan, state.values):
            mark = (bits, False, wanted)
            outcome = found.setdefault(mark, Outcome(bits, 0, 0, wanted))
            outcome.failed |= state.failed
            for cell, content in zip(edge.cells, state.values, strict=True):
                if cell is not None and cell in layout.sets:
                    outcome.sets |= layout.set_bits(cell, _values(content, cell))
    return tuple(found.values())


def _values(content: Content, cell: Cell) -> Iterable[int]:
    if isinstance(content, Pending):
        return content.values
    return range(cell.low, cell.high + 1) if content is None else (content,)


def _keys(plan: Plan, values: list[Content]) -> list[int]:
    """The key bits of a state; several where a followed value can be any of a few."""
    keys = [0]
    for cell, content in zip(plan.edge.cells, values, strict=True):
        if cell is not None and cell in plan.layout.keys:
            choices = [plan.layout.key_bits(cell, v) for v in _values(content, cell)]
            keys = [key | choice for key in keys for choice in choices]
            if len(keys) > MAX_KEYS:
                raise GaveUp("too many variables are correlated here", cell)
    return keys


def _lock_masks(layout: Layout, edge: Edge, spin_only: bool, level: int) -> tuple[int, int]:
    """Set and key bits of "held" of every lock the operation does not itself touch and that is above `level` (-1: of
    any)."""
    set_bits = key_bits = 0
    for cell in layout.holds:
        if cell not in edge.cells and (cell.spins or not spin_only) and cell.level > level:
            if cell in layout.sets:
                set_bits |= layout.held_mask(cell)
            else:
                key_bits |= layout.key_mask(cell)
    return set_bits, key_bits


def enter(plan: Plan, inner: Layout, key: int, sets: int) -> tuple[int, int]:
    """The callee's entry state for the caller's touched bits."""
    outer = plan.layout
    entry_key = entry_sets = 0
    sources = {formal: actual for actual, formal in plan.edge.copies_in}
    for cell in inner.keys:
        source = cell if cell.is_global else sources.get(cell)
        if source is None:
            continue
        if source in outer.keys:
            entry_key |= inner.key_bits(cell, outer.key_value(key, source))
    for cell in inner.sets:
        if cell.is_global:
            entry_sets |= inner.set_bits(cell, outer.set_values(sets, cell))
    return entry_key, entry_sets


def returned(plan: Plan, callee: Activation, key: int, sets: int) -> list[tuple[int, int]]:
    """The caller's states after the call, for each exit state of the callee."""
    outer, inner, edge = plan.layout, callee.layout, plan.edge
    written = {actual for _, actual in edge.copies_out}
    key_out = set_out = 0
    for cell in (*(c for c in inner.keys if c.is_global), *(c for c in written if c in outer.keys)):
        key_out |= outer.key_mask(cell)
    for cell in inner.sets:
        if cell.is_global:
            set_out |= outer.set_mask(cell)
    results: list[tuple[int, int]] = []
    for exit_key, exit_sets in callee.exits.items():
        new_key, new_sets = key & ~key_out, sets & ~set_out
        for cell in inner.keys:
            if cell.is_global:
                new_key |= outer.key_bits(cell, inner.key_value(exit_key, cell))
        for formal, actual in edge.copies_out:
            if actual in outer.keys and formal in inner.keys:
                new_key |= outer.key_bits(actual, inner.key_value(exit_key, formal))
        for cell in inner.sets:
            if cell.is_global:
                new_sets |= outer.set_bits(cell, inner.set_values(exit_sets, cell))
        results.append((new_key, new_sets))
    return results


def start_states(root: Root, layout: Layout, lives: Lives) -> list[tuple[int, int]]:
    """Every key a root can start with, and the sets that go with it."""
    keys, sets = [0], 0
    for cell in layout.keys:
        if cell.is_global:
            values = start_values(root, cell, lives)
            if len(values) * len(keys) > MAX_KEYS:
                raise GaveUp(f"`{cell.name}` can have too many values at the start", cell)
            keys = [key | layout.key_bits(cell, v) for key in keys for v in values]
    for cell in layout.sets:
        if cell.is_global:
            sets |= layout.set_bits(cell, start_values(root, cell, lives))
    return [(key, sets) for key in keys]


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
