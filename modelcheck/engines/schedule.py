"""Runs of single contexts put together to one run of all: in which order, on which processors.

Most often it is enough to run one context after the other, each up to where it waits; only where one needs on its way
what another keeps at its end does the order matter, and only rarely must they alternate."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from modelcheck.ir import Root
from modelcheck.lower import Lowered
from modelcheck.record import dataclass
from modelcheck.verdict import DISPATCH_LEVEL, Actor, Schedule, Trace, Turn, Wait

MAX_NODES = 2_000
NODES_PER_STEP = 4
"""States of the search for an order of the steps: so many, and more where runs are long."""


@dataclass(frozen=True, slots=True)
class Member:
    """A context with the run that brings it to its place. `kind`: it `waits` there for `subject` in `mode`, just is
    there (`held`), `calls` out, has `ended`, or `stands` before an access (mode `freed`: it has freed `subject`).
    `over`: the member whose processor it has taken, by index, -1 for none (`within`: it runs in a call-out of that one,
    which came back); `gates`: (step, member) for each step before which another member has to be at its place."""

    root: Root
    trace: Trace
    kind: str
    subject: str
    mode: str
    over: int = -1
    gates: tuple[tuple[int, int], ...] = ()
    within: bool = False


def schedule(
    lowered: Lowered,
    members: Sequence[Member],
    waits: Iterable[tuple[int, str, str, tuple[int, ...]]],
    first: int = -1,
    writers_first: frozenset[str] = frozenset(),
) -> tuple[Schedule, tuple[Root, ...]] | None:
    """A run in which every member comes to its place, on as few processors as it can, with the root of each of its
    actors, which come in another order than the members; None if none was found. `waits`: (member, reason, subject,
    by). `first`: a member that must be at its place before the others begin. `writers_first`: the locks whose waiting
    writers stop readers."""
    for processors in _assignments(members):
        order = _Search(members, processors, first, writers_first).run()
        if order is not None:
            return _built(members, processors, order, list(waits))
    return None


def _high(member: Member) -> bool:
    """Whether a member keeps its processor at the end."""
    return member.root.kind != "thread" or member.trace.steps[-1].irql >= DISPATCH_LEVEL


def _assignments(members: Sequence[Member]) -> list[list[int]]:
    """Processors for the members, fewest first: threads below DISPATCH_LEVEL share one, and it with another context."""
    found = []
    for share in (True, False):
        processors = [-1] * len(members)
        count = 0
        low = -1
        for number, member in enumerate(members):
            if member.over >= 0:
                continue
            if not _high(member):
                if low < 0:
                    low, count = count, count + 1
                processors[number] = low
        for number, member in enumerate(members):
            if member.over >= 0 or not _high(member):
                continue
            covered = any(m.over == number for m in members)
            if (
                share
                and low >= 0
                and not covered
                and not any(p == low and _high(m) for p, m in zip(processors, members, strict=True))
            ):
                processors[number] = low
            else:
                processors[number], count = count, count + 1
        for number, member in enumerate(members):
            if member.over >= 0:
                processors[number] = processors[member.over]
        if processors not in found:
            found.append(processors)
    if all(m.over < 0 for m in members):
        found.append(list(range(len(members))))
    return found


class _Run:
    """The run of a member in parts that others can tell apart: after its first step a part changes neither what is held
    nor the level, so whoever can take that step can take all of it. `taken`: what each part acquires, (lock, mode);
    `held`, `levels`: what is held after it, at which IRQL; `sizes`: its steps; `gates`: for each part the members that
    have to be at their places before it."""

    def __init__(self, member: Member) -> None:
        self.taken: list[tuple[tuple[str, str], ...]] = []
        self.held: list[dict[str, str]] = []
        self.levels: list[int] = []
        self.sizes: list[int] = []
        self.gates: list[list[int]] = []
        steps = member.trace.steps
        before: dict[str, str] = {}
        for at, step in enumerate(steps):
            after = {lock: mode for lock, mode, _ in step.held}
            taken = (*((lock, mode) for lock, mode in after.items() if before.get(lock) != mode), *step.passed)
            gates = [other for gate, other in member.gates if gate == at]
            ends = at in (0, len(steps) - 1)
            if ends or taken or gates or after != before or step.irql != self.levels[-1]:
                self.taken.append(taken)
                self.held.append(after)
                self.levels.append(step.irql)
                self.sizes.append(0)
                self.gates.append(gates)
            self.sizes[-1] += 1
            before = after


class _Search:
    """Depth first, going on with the same context as long as it can."""

    def __init__(
        self, members: Sequence[Member], processors: list[int], first: int, writers_first: frozenset[str]
    ) -> None:
        self.members = members
        self.first = first
        self.writers_first = writers_first
        self.processors = processors
        self.runs = [_Run(member) for member in members]
        self.lengths = [len(run.sizes) for run in self.runs]
        self.seen: set[tuple[int, ...]] = set()
        self.nodes = 0
        self.most = MAX_NODES + NODES_PER_STEP * sum(self.lengths)

    def run(self) -> list[int] | None:
        """For each step the member that takes it; None if no order was found."""
        order = self._one_after_the_other() or self._in_turns()
        if order is None:
            return None
        parts = [iter(run.sizes) for run in self.runs]
        return [member for member in order for _ in range(next(parts[member]))]

    def _in_turns(self) -> list[int] | None:
        """Any order of the parts."""
        start = (0,) * len(self.members)
        path: list[int] = []
        stack = [(start, -1, self._following(start, -1))]
        self.seen.add(start)
        while stack:
            state, last, following = stack[-1]
            if all(at == length for at, length in zip(state, self.lengths, strict=True)):
                return path
            if not following or self.nodes > self.most:
                stack.pop()
                if path:
                    path.pop()
                continue
            member = following.pop(0)
            after = tuple(at + (n == member) for n, at in enumerate(state))
            if after in self.seen:
                continue
            self.seen.add(after)
            self.nodes += 1
            path.append(member)
            stack.append((after, member, self._following(after, member)))
            del last
        return None

    def _one_after_the_other(self) -> list[int] | None:
        """Whole runs, in an order in which nobody needs what is kept already."""
        needs: dict[int, set[int]] = {n: set() for n in range(len(self.members))}
        keepers: dict[str, list[tuple[int, str]]] = {}
        for number, run in enumerate(self.runs):
            for lock, mode in run.held[-1].items() if run.held else ():
                keepers.setdefault(lock, []).append((number, mode))
        for one, run in enumerate(self.runs):
            for lock, mode in dict.fromkeys(taken for acquired in run.taken for taken in acquired):
                for other, kept in keepers.get(lock, ()):
                    if other != one and "exclusive" in (mode, kept):
                        needs[other].add(one)
            if self.members[one].over >= 0:
                needs[one].add(self.members[one].over)
            if self.first >= 0 and one != self.first:
                needs[one].add(self.first)
            needs[one].update(other for _, other in self.members[one].gates)
        order = self._in_order(needs)
        if order is None:
            return None
        state = [0] * len(self.members)
        path: list[int] = []
        for member in order:
            for _ in range(self.lengths[member]):
                if not self._can(tuple(state), member):
                    return None
                state[member] += 1
                path.append(member)
        return path

    def _in_order(self, needs: dict[int, set[int]]) -> list[int] | None:
        """The members, each behind those it needs, and then low ones first; None if some need one another."""
        needed_by: dict[int, list[int]] = {}
        for number, others in needs.items():
            for other in others:
                needed_by.setdefault(other, []).append(number)
        missing = {number: len(others) for number, others in needs.items()}
        ready = [(_high(self.members[number]), number) for number, count in missing.items() if not count]
        heapq.heapify(ready)
        order: list[int] = []
        while ready:
            _, number = heapq.heappop(ready)
            order.append(number)
            for other in needed_by.get(number, ()):
                missing[other] -= 1
                if not missing[other]:
                    heapq.heappush(ready, (_high(self.members[other]), other))
        return order if len(order) == len(needs) else None

    def _interrupts(self, member: Member) -> bool:
        """Whether it takes the processor as soon as it starts; a thread does when it raises its level."""
        return member.over >= 0 and (member.within or member.root.kind != "thread")

    def _following(self, state: tuple[int, ...], last: int) -> list[int]:
        members = [n for n in range(len(self.members)) if self._can(state, n)]
        return sorted(members, key=lambda n: (n != last, n))

    def _can(self, state: tuple[int, ...], member: int) -> bool:
        """Whether the member may go on with its next part."""
        at = state[member]
        if at >= self.lengths[member]:
            return False
        me, mine = self.members[member], self.runs[member]
        if any(state[other] < self.lengths[other] for other in mine.gates[at]):
            return False
        if self.first >= 0 and member != self.first and state[self.first] < self.lengths[self.first]:
            return False
        if self._interrupts(me) and state[me.over] < self.lengths[me.over]:
            return False
        taken = mine.taken[at]
        for other, there in enumerate(self.members):
            done = state[other]
            if other == member or done == 0:
                continue
            gone = there.kind == "ended" and done == self.lengths[other]
            if self.processors[other] == self.processors[member] and not gone:
                level = self.runs[other].levels[done - 1]
                interrupts = me.root.kind != "thread" or me.within
                if there.over == member and self._interrupts(there):
                    return False
                if there.root.kind != "thread" and me.over != other and not interrupts:
                    return False
                if there.root.kind == "thread" and not interrupts and level >= DISPATCH_LEVEL:
                    return False
                if interrupts and at == 0 and not me.within and me.root.admitted <= level:
                    return False
            if not taken:
                continue
            held = self.runs[other].held[done - 1]
            stopped = self._stopped(there) if done == self.lengths[other] else ""
            for lock, mode in taken:
                if lock in held and "exclusive" in (mode, held[lock]):
                    return False
                if lock == stopped and mode == "shared" and not (at and lock in mine.held[at - 1]):
                    return False
        return True

    def _stopped(self, member: Member) -> str:
        """The lock that nobody can take shared any more while the member waits for it, "" if there is none."""
        writes = member.kind == "waits" and not member.mode and member.subject in self.writers_first
        return member.subject if writes else ""


def _built(
    members: Sequence[Member],
    processors: list[int],
    order: list[int],
    waits: list[tuple[int, str, str, tuple[int, ...]]],
) -> tuple[Schedule, tuple[Root, ...]]:
    """The run as a schedule, and its actors' roots: contexts and processors are numbered as they come."""
    coming = list(dict.fromkeys([*order, *range(len(members))]))
    place = {number: new for new, number in enumerate(coming)}
    names = _names([members[number] for number in coming])
    used = list(dict.fromkeys(processors[number] for number in coming))
    actors = tuple(
        Actor(
            name,
            members[number].root.routine,
            _kind(members, members[number]),
            used.index(processors[number]),
            members[number].trace.start,
            place[members[number].over] if members[number].within else -1,
        )
        for name, number in zip(names, coming, strict=True)
    )
    turns: list[Turn] = []
    state = [0] * len(members)
    for number in order:
        member = members[number]
        step = member.trace.steps[state[number]]
        state[number] += 1
        last = state[number] == len(member.trace.steps)
        event = member.kind if last and member.kind in ("waits", "stands", "calls") else ""
        named = event in ("waits", "calls") or (event == "stands" and member.mode == "freed")
        turns.append(Turn(place[number], step, event, member.subject if named else "", member.mode if named else ""))
    turns.sort(key=lambda turn: turn.event == "stands")
    listed = tuple(
        sorted(
            (Wait(place[actor], reason, subject, tuple(place[n] for n in by)) for actor, reason, subject, by in waits),
            key=lambda wait: wait.actor,
        )
    )
    made = Schedule("", len(used), actors, tuple(turns), listed)
    return made, tuple(members[number].root for number in coming)


def _kind(members: Sequence[Member], member: Member) -> str:
    """What runs a member: a call-out that comes back runs in its caller's context."""
    return _kind(members, members[member.over]) if member.within else member.root.kind


def _names(members: Sequence[Member]) -> list[str]:
    """Routine names, numbered where several contexts run one."""
    counts: dict[str, int] = {}
    for member in members:
        counts[member.root.routine] = counts.get(member.root.routine, 0) + 1
    seen: dict[str, int] = {}
    names = []
    for member in members:
        name = member.root.routine
        seen[name] = seen.get(name, 0) + 1
        names.append(f"{name} {seen[name]}" if counts[name] > 1 else name)
    return names
