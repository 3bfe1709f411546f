"""Who can never go on, and why: deadlocks of a scenario (docs/language.md section 7).

Whether a context can ever take a step again is a question to the whole graph of states: it is answered backwards, over
its strongly connected components.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from modelcheck import ir
from modelcheck.engines.closed.local import ENDED, RUNNING, WAITING, Need, shared_mode
from modelcheck.engines.closed.search import COMMON, FIRST, STACKS, Search, State, components
from modelcheck.engines.closed.symmetry import Exchange
from modelcheck.lower import every_graph
from modelcheck.record import dataclass
from modelcheck.verdict import DISPATCH_LEVEL, Property, Wait

Followers: TypeAlias = tuple[tuple[State, Exchange], ...]


@dataclass(frozen=True, slots=True)
class Deadlock:
    """A state from where the contexts of `waits` can never go on, once the contexts are exchanged in it."""

    state: State
    waits: tuple[Wait, ...]
    exchange: Exchange


@dataclass(slots=True)
class Futures:
    """What can still happen from each state that was expanded. `able`: a bit for each context that can ever take a
    step, and behind these one for each common value that can be other than 0 (events that can be set). `last`: states
    that can be come back to, whatever happens: who takes steps there does so for ever."""

    able: dict[State, int]
    last: set[State]


def deadlocks(search: Search) -> dict[int, Deadlock]:
    """For each obligation that a deadlock breaks the first state that shows it."""
    found: dict[int, Deadlock] = {}
    future = futures(search)
    for state in search.found.order:
        if state not in future.able or not search.is_real(state):
            continue
        stuck = [
            i
            for i, engine in enumerate(search.engines)
            if engine.mode[state[FIRST + i]] in (RUNNING, WAITING)
            and not future.able[state] >> i & 1
            and not engine.is_outside(state[FIRST + i])
        ]
        if stuck:
            never = future.able[state] >> search.count
            _Reasons(search, state, stuck, never, state in future.last).blame(found)
    return found


def futures(search: Search) -> Futures:
    """Backwards over the graph of states; what was not expanded may do anything.

    The states are those that are kept, so what can happen behind a step is told of the contexts as they were before the
    exchange there. Where states lead to each other by way of exchanges, what one context can do all can that it is
    exchanged with, which takes several rounds to find. Where each way leads back to a state but for an exchange, there
    is a way back to the state itself: an exchange, often enough, changes nothing.
    """
    explored = search.found
    successors = explored.successors
    found = Futures({}, set())
    able = found.able
    values = [sum(1 << i for i, value in enumerate(common) if value) for common in search.commons]

    def following(state: State) -> list[State]:
        return [target for target, _ in successors[state][0]] if state in successors else []

    same = search.symmetry.same
    for component in components(explored.order, following):
        inside = set(component)
        bits, leaves, turned = 0, False, list[tuple[State, State, Exchange]]()
        for state in component:
            able[state] = successors[state][1] | values[state[COMMON]] << search.count if state in successors else -1
            for target, exchange in successors[state][0] if state in successors else ():
                if target not in inside:
                    able[state] |= _before(able[target], exchange, same)
                    leaves = True
                elif exchange != same:
                    turned.append((state, target, exchange))
            bits |= able[state]
        if turned:
            _spread(component, successors, able)
        else:
            able.update(dict.fromkeys(component, bits))
        if not leaves:
            found.last |= inside
    found.able = {state: bits for state, bits in able.items() if state in successors}
    return found


def _before(bits: int, exchange: Exchange, same: Exchange) -> int:
    """What can still happen, told of the contexts as they were before the exchange."""
    if bits < 0 or exchange == same:
        return bits
    found = bits >> len(exchange) << len(exchange)
    for index, to in enumerate(exchange):
        found |= (bits >> to & 1) << index
    return found


def _spread(component: list[State], successors: Mapping[State, tuple[Followers, int]], able: dict[State, int]) -> None:
    """Lets each state of a component know what can happen in the others."""
    changed = True
    while changed:
        changed = False
        for state in component:
            bits = able[state]
            for target, exchange in successors[state][0] if state in successors else ():
                bits |= _before(able[target], exchange, ())
            changed |= bits != able[state]
            able[state] = bits


class _Reasons:
    """Why the contexts that are stuck in a state are. Those that only will be stuck when others are, but wait for
    something that still moves, are left out: a later state shows them.

    `settable`: which events can still be set; `last`: whoever can take a step here takes steps for ever.
    """

    def __init__(self, search: Search, state: State, stuck: list[int], settable: int, last: bool) -> None:
        self.search = search
        self.state = state
        self.stuck = stuck
        self.settable = settable
        self.last = last
        runnable = set(search.runnable(state))
        self.blockers = {i: self._on_processor(i) for i in stuck if i not in runnable}
        self.needs = {i: need for i in stuck if (need := self._need(i)) is not None}
        self.causes = {i: self._cause(i, need) for i, need in self.needs.items()}
        self._keep_lasting()
        kept = set(self.stuck)
        self.edges = {
            i: {*self.blockers.get(i, ()), *(self.causes[i][1] if i in self.causes else ())} & kept for i in kept
        }

    def _keep_lasting(self) -> None:
        """Leaves the greatest set of contexts each of which waits for ever if the others of it do."""
        kept = set(self.stuck)
        while loose := {i for i in kept if not self._lasts(i, kept)}:
            kept -= loose
        self.stuck = [i for i in self.stuck if i in kept]

    def _lasts(self, index: int, others: set[int]) -> bool:
        by = self.blockers.get(index, ())
        return (
            any(i in others for i in by)
            or (self.last and bool(by))
            or (index in self.causes and self._cause_lasts(index, others))
        )

    def _cause_lasts(self, index: int, others: set[int]) -> bool:
        """Whether the lock or the event that a context waits for keeps it for ever."""
        reason, by = self.causes[index]
        if reason == "event":
            return not self.settable >> self.needs[index].cell & 1
        return (
            reason in ("self", "ended")
            or any(i in others for i in by)
            or (self.last and bool(by) and index not in self.blockers)
        )

    def _need(self, index: int) -> Need | None:
        """What the context waits for and cannot get now."""
        search, state = self.search, self.state
        need = search.engines[index].needs[state[FIRST + index]]
        if need is None:
            return None
        if need.is_event:
            return None if search.commons[state[COMMON]][need.cell] else need
        return None if not need.forbidden and search.available(state, index, need) else need

    def _on_processor(self, index: int) -> tuple[int, ...]:
        """Who has the processor that the context would need."""
        search, state = self.search, self.state
        stack = search.stacks[state[STACKS]][search.processor[index]]
        if stack:
            return (stack[-1],) if stack[-1] != index else ()
        threads = [i for i in search.members[search.processor[index]] if search.is_thread[i]]
        high = search.occupant(state, threads)
        return (high,) if high not in (-1, index) else ()

    def _cause(self, index: int, need: Need) -> tuple[str, tuple[int, ...]]:
        """The reason of a `Wait`, and the contexts that would have to go on."""
        if need.is_event:
            return "event", tuple(i for i in self.stuck if i != index and may_set(self.search, i, need.cell))
        if need.forbidden:
            return "self", (index,)
        holders, writers = self._others(index, need)
        ended = tuple(i for i in holders if self._mode(i) == ENDED)
        if ended:
            return "ended", ended
        return ("held", tuple(holders)) if holders else ("writer", tuple(writers))

    def _mode(self, index: int) -> int:
        return self.search.engines[index].mode[self.state[FIRST + index]]

    def _others(self, index: int, need: Need) -> tuple[list[int], list[int]]:
        """Who holds the lock so that the context cannot have it, and which writers wait for it."""
        search, at = self.search, self.search.hold_at[need.cell]
        holders, writers = [], []
        for other, engine in enumerate(search.engines):
            local = self.state[FIRST + other]
            mode = shared_mode(engine.held[local][at])
            theirs = engine.needs[local]
            if other != index and mode and not (need.shared and mode == 1):
                holders.append(other)
            elif other != index and engine.mode[local] == WAITING and theirs is not None and theirs.cell == need.cell:
                writers.append(other)
        return holders, writers

    def _reaches(self, start: int, goal: int) -> bool:
        seen, pending = {start}, [start]
        while pending:
            current = pending.pop()
            if current == goal:
                return True
            for target in self.edges.get(current, ()):
                if target not in seen:
                    seen.add(target)
                    pending.append(target)
        return False

    # ---- what is broken ----

    def blame(self, found: dict[int, Deadlock]) -> None:
        """Adds the obligations that the deadlock breaks, unless they are known to be."""
        kept = set(self.stuck)
        broken = [(i, n) for i in self.stuck if i in self.needs for n in self._broken(i, kept)]
        symmetry = self.search.symmetry
        new = [(i, n) for i, n in broken if any(symmetry.number(o, n) not in found for o in symmetry.alike[i])]
        if not new:
            return
        waits = tuple(self._wait(index, kept) for index in self.stuck)
        here = Deadlock(self.state, waits, symmetry.same)
        for index, number in new:
            found.setdefault(symmetry.number(index, number), here)
        for index, number in new:
            for other in symmetry.alike[index]:
                own = symmetry.number(other, number)
                if own not in found:
                    found[own] = Deadlock(self.state, waits, symmetry.carry(index, other))

    def _broken(self, index: int, kept: set[int]) -> Iterator[int]:
        """What is broken where a context waits, by the numbers of the first one that is like it: unless it only waits
        behind others that are stuck without it."""
        need, (reason, by) = self.needs[index], self.causes[index]
        obligations = self.search.closed.obligations
        if not self._cause_lasts(index, kept):
            return
        if need.is_event:
            assert need.slot is not None
            yield need.edge.obligations[need.slot]
            return
        moving = self.last and not any(i in kept for i in by)
        if reason not in ("self", "ended") and not moving and not any(self._reaches(i, index) for i in by if i in kept):
            return
        below = reason == "held" and any(self._lies_below(other, index) for other in by)
        for slot in need.waits:
            number = need.edge.obligations[slot]
            code = obligations[number].code
            if code is Property.D01 or (code is Property.D02 and below):
                yield number

    def _lies_below(self, other: int, index: int) -> bool:
        """Whether a context has interrupted the holder, or displaced it."""
        search, state = self.search, self.state
        if search.processor[other] != search.processor[index] or other not in self.stuck or other == index:
            return False
        if search.is_thread[index]:
            level = search.engines[index].level[state[FIRST + index]]
            return search.is_thread[other] and level >= DISPATCH_LEVEL
        stack = search.stacks[state[STACKS]][search.processor[index]]
        return search.is_thread[other] or stack.index(other) < stack.index(index)

    def _wait(self, index: int, kept: set[int]) -> Wait:
        search = self.search
        if index in self.causes and self._cause_lasts(index, kept):
            need, (reason, by) = self.needs[index], self.causes[index]
            cell = search.layout.common[need.cell] if need.is_event else search.layout.own[need.cell]
            return Wait(index, reason, cell.name.partition(" ")[2], tuple(i for i in by if i in kept) or by)
        by = self.blockers[index]
        return Wait(index, "displaced" if search.is_thread[by[0]] else "interrupted", "", by)


def may_set(search: Search, index: int, event: int) -> bool:
    """Whether the context has a statement that sets the event."""
    cell = search.layout.common[event]
    graphs = every_graph([search.closed.contexts[index].graph])
    return any(_sets(e.operation.code, e.cells, cell) for g in graphs for e in g.edges if e.operation is not None)


def _sets(code: tuple[ir.Instruction, ...], cells: tuple[ir.Cell | None, ...], event: ir.Cell) -> bool:
    for instruction in code:
        match instruction:
            case ir.Signal(register, True) if cells[register] is event:
                return True
            case ir.Choose(_, then, otherwise) if _sets(then, cells, event) or _sets(otherwise, cells, event):
                return True
    return False
