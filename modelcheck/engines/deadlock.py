"""Deadlock, order and races in the open world: ranks where the order has no cycle, else what comes of the cycle.

What the order (`mutual.order`) leaves on no cycle is proved by ranks. Each cyclic component is asked about as a whole
(`mutual.cycles`): first with what the fixpoint knows of each stand, then with stands made exact by questions, each with a run
that comes there. A ring that remains is put together to a schedule (`schedule`), to be replayed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import z3

from modelcheck.engines.analyse import Analysis, Broken, Decision, Held, Limits, Open
from modelcheck.engines.arrive import arrivals
from modelcheck.engines.schedule import Member, schedule
from modelcheck.ir import Root
from modelcheck.lower import Lowered
from modelcheck.mutual.cycles import Link, formula, link_name
from modelcheck.mutual.nesting import Nesting
from modelcheck.mutual.overlap import LOAD
from modelcheck.mutual.positions import EXCLUSIVE, SHARED, Position, facts, lock_of
from modelcheck.mutual.questions import Place, Question, Questions
from modelcheck.mutual.rings import Rings
from modelcheck.mutual.situation import Candidates, Exact, Situation, clash, go_together
from modelcheck.source import Span
from modelcheck.verdict import MUTUAL, Property, Schedule

MAX_RINGS = 12
"""Rings of one component for which a run is looked for."""

NO_RING = "no ring goes through here"

Confirm: TypeAlias = Callable[[Analysis], frozenset[int]]
"""The questions whose answer "never" is not confirmed by evidence."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Proved by the order alone. `reached` False where nothing comes there."""

    reached: bool


@dataclass(frozen=True, slots=True)
class Excluded:
    """Proved: the order has a cycle here, and nothing can come of it, for the reasons in words. `exact`: by states that
    were asked about."""

    component: int
    by: tuple[str, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Deadlocked:
    schedule: Schedule
    roots: tuple[Root, ...]


Finding: TypeAlias = Ranked | Excluded | Deadlocked | Open


@dataclass(slots=True)
class Round:
    """Questions asked together: their numbers, and what answered them."""

    questions: list[Question]
    numbers: list[int]
    answers: Analysis
    never: list[bool]


class Deadlock:
    """Decides the obligations that several contexts together can break."""

    def __init__(self, lowered: Lowered, analysis: Analysis, limits: Limits, confirm: Confirm) -> None:
        assert analysis.base is not None
        self.lowered = lowered
        self.analysis = analysis
        self.limits = limits
        self.confirm = confirm
        found, self.cases = facts(analysis.base, lowered.roots, arrivals)
        self.situation = Situation(analysis.base, lowered, found)
        self.facts = found
        self.roots = lowered.roots
        self.findings: dict[int, Finding] = {}
        self.rounds: list[Round] = []
        self.known: dict[Question, Exact | None] = {}
        self.by_obligation: dict[int, list[int]] = {}
        for number, position in enumerate(self.facts.positions):
            for obligation in position.obligations:
                self.by_obligation.setdefault(obligation, []).append(number)
        self._components: dict[int, _Component] = {}
        self._pending: set[int] = set()
        self._waiting: dict[Span, list[str]] | None = None
        self._nesting: _Strict | None = None

    def run(self, strict: bool) -> None:
        """Decides everything; D04 only if it is asked for (`strict`)."""
        for number, obligation in enumerate(self.lowered.obligations):
            wanted = obligation.code in MUTUAL and number not in self.lowered.questions
            if wanted and (strict or obligation.code is not Property.D04):
                finding = self._decide(number, obligation.code)
                if finding is not None:
                    self.findings[number] = finding
        self._settle()

    def _settle(self) -> None:
        """Takes back what rests on something that was not proved after all."""
        again = True
        while again:
            again = False
            for number, finding in sorted(self.findings.items()):
                if self.lowered.obligations[number].code is not Property.D03 or not isinstance(
                    finding, Ranked | Excluded
                ):
                    continue
                positions = self.by_obligation.get(number)
                outlook = self.situation.outlook(positions) if positions else ""
                for need in sorted(() if isinstance(outlook, str) else outlook.needs):
                    if not isinstance(self._needed(need), Ranked | Excluded):
                        other = self.lowered.obligations[need]
                        self.findings[number] = Open(f"who sets it may not come to it: {other.id}")
                        again = True
                        break

    # ---- one obligation ----

    def _decide(self, number: int, code: Property) -> Finding | None:
        if number in self.findings:
            return self.findings[number]
        found: Finding
        positions = self.by_obligation.get(number, [])
        if code is Property.R03:
            found = self._race(self.lowered.obligations[number].subject)
        elif not positions:
            return Ranked(False) if number in self.analysis._roots else None
        else:
            match code:
                case Property.D01:
                    found = self._waits(number, positions)
                case Property.D02:
                    found = self._processor(number, positions)
                case Property.D03:
                    found = self._event(number, positions)
                case _:
                    found = self._strict(positions)
        if isinstance(found, Ranked | Excluded) and any(self.facts.tainted):
            return Open("it comes with a call that no model knows, which may take any lock")
        return found

    def _waits(self, number: int, positions: list[int]) -> Finding:
        """D01: nobody waits here for ever."""
        itself = self._itself(positions)
        if itself is not None:
            return itself
        left = self._left_held(positions)
        if left is not None:
            return left
        components = self._cyclic(positions)
        if not components:
            return Ranked(True)
        return self._rings(number, components, positions, direct=False)

    def _itself(self, positions: list[int]) -> Finding | None:
        """The context holds what it waits for."""
        for number in positions:
            position = self.facts.positions[number]
            decision = self.analysis.decisions.get(position.itself)
            match decision:
                case Broken(trace, root):
                    member = Member(root, trace, "waits", position.wanted, mode_of(position))
                    return self.together([member], [(0, "self", position.wanted, (0,))])
                case Open(reason):
                    return Open(f"whether it is held here already is not known: {reason}")
                case _:
                    pass
        return None

    def _left_held(self, positions: list[int]) -> Finding | None:
        """Somebody has ended with the lock held."""
        for number in positions:
            position = self.facts.positions[number]
            for root, ending in enumerate(self.facts.ending):
                mask = ending.get(position.wanted, 0) if position.sort == "lock" else 0
                stops = mask & EXCLUSIVE or (mask and not position.shared)
                if stops and not self.situation.stuck_before(position, root, mask):
                    found = self._after(position, root)
                    if found is not None:
                        return found
        return None

    def _after(self, position: Position, root: int) -> Finding | None:
        """What comes of a routine that may end with the lock held; None if it is proved not to."""
        routine, lock = self.roots[root].routine, position.wanted
        decisions = [
            self.analysis.decisions.get(number)
            for number, obligation in enumerate(self.lowered.obligations)
            if obligation.code in (Property.B03, Property.C02)
            and obligation.routine == routine
            and obligation.subject == lock
        ]
        for decision in decisions:
            if isinstance(decision, Broken):
                return self._leaked(position, decision)
        if decisions and all(isinstance(decision, Held) for decision in decisions):
            return None
        return Open(f"{routine} may end with {lock} held")

    def _leaked(self, position: Position, leak: Broken) -> Finding:
        states = self.exact([self.situation.waiting(position)])
        for exact in states[0]:
            if exact.trace is None:
                continue
            members = [
                Member(leak.root, leak.trace, "ended", position.wanted, ""),
                Member(self.roots[position.root], exact.trace, "waits", position.wanted, mode_of(position)),
            ]
            apart = not self.situation.overlap.meet(self.roots.index(leak.root), position.root)
            found = self.together(members, [(1, "ended", position.wanted, (0,))], first=0 if apart else -1)
            if isinstance(found, Deadlocked):
                return found
        return Open(f"no run was found that waits for {position.wanted} after {leak.root.routine} ended with it")

    def _processor(self, number: int, positions: list[int]) -> Finding:
        """D02: the holder is not what this context keeps from running."""
        components = self.situation.above_itself(positions)
        return self._rings(number, sorted(components), positions, direct=True) if components else Ranked(True)

    def _cyclic(self, positions: list[int]) -> list[int]:
        """The cyclic components that the positions have a part in."""
        return sorted({c for p in positions for c in self.situation.parts.get(p, ())})

    # ---- events ----

    def _event(self, number: int, positions: list[int]) -> Finding:
        """D03: somebody who can still run sets what is waited for."""
        event = self.facts.positions[positions[0]].wanted
        if event in self.lowered.ledger.handed:
            return Ranked(True)
        setting = [root for root, signals in enumerate(self.facts.signals) if event in signals]
        waiting = sorted({self.facts.positions[p].root for p in positions})
        able = [s for s in setting if any(self.situation.overlap.meet(s, w) for w in waiting)]
        if not setting:
            return self._never_set(positions, event)
        blocked = self._all_blocked(positions, event, able)
        if blocked is not None:
            return blocked
        outlook = self.situation.outlook(positions)
        if isinstance(outlook, str):
            return Open(outlook)
        if outlook.root < 0:
            return Ranked(True)
        components = self._cyclic(positions)
        found = self._rings(number, components, positions, direct=False) if components else None
        if isinstance(found, Deadlocked | Open):
            return found
        if not self._really_sets(outlook.root, event):
            return Open(f"no run of {self.roots[outlook.root].routine} is known that sets {event}")
        for need in sorted(outlook.needs):
            if need != number and not isinstance(self._needed(need), Ranked | Excluded):
                other = self.lowered.obligations[need]
                return Open(f"{self.roots[outlook.root].routine}, which sets {event}, may not come to it: {other.id}")
        return found or Ranked(True)

    def _needed(self, number: int) -> Finding | None:
        """What is found about another obligation; one that is being decided, or is about the strict order, does not
        matter."""
        code = self.lowered.obligations[number].code
        if code is Property.D04 or number in self._pending:
            return Ranked(True)
        if number not in self.findings:
            self._pending.add(number)
            finding = self._decide(number, code)
            self._pending.discard(number)
            if finding is None or self._pending:
                return finding
            self.findings[number] = finding
        return self.findings[number]

    def _never_set(self, positions: list[int], event: str) -> Finding:
        for number in positions:
            position = self.facts.positions[number]
            for exact in self.exact([self.situation.waiting(position)])[0]:
                if exact.trace is not None:
                    root = self.roots[position.root]
                    member = Member(root, exact.trace, "waits", event, "")
                    return self.together([member], [(0, "event", event, ())])
        return Open(f"nobody sets {event}, and no run was found that waits for it")

    def _really_sets(self, root: int, event: str) -> bool:
        """Whether a run of the root is known that sets the event."""
        question = self._setting(root, event)
        self._ask([question] if question not in self.known else [])
        found = self.known[question]
        return found is not None and found.trace is not None

    def _setting(self, root: int, event: str) -> Question:
        graphs = self.situation.graphs
        places = tuple(Place(graphs[s.graph], s.edge, s.index) for s in self.facts.signals[root][event])
        return Question(self.roots[root], places, ())

    def _all_blocked(self, positions: list[int], event: str, able: list[int]) -> Finding | None:
        """Everybody who sets the event needs a lock that is held while it is waited for."""
        for number in positions:
            position = self.facts.positions[number]
            if not position.held:
                continue
            for exact in self.exact([self.situation.waiting(position)])[0]:
                kept = {lock: how for lock, how in exact.held if how}
                if exact.trace is None or not kept:
                    continue
                if self.all_need(position, kept):
                    found = self._blocked(position, exact, event, able, kept)
                    if found is not None:
                        return found
        return None

    def all_need(self, position: Position, kept: dict[str, int], unset: Sequence[str] = ()) -> bool:
        """Whether everybody who sets what a position waits for must first acquire a lock that is kept, or wait for an
        event that is not set."""
        event = position.wanted
        able = [
            root
            for root, signals in enumerate(self.facts.signals)
            if event in signals and self.situation.overlap.meet(root, position.root)
        ]
        return event not in self.lowered.ledger.handed and all(
            any(not self.situation.sets_without(s, event, lock, how) for lock, how in kept.items())
            or any(not self.situation.sets_before(s, event, other) for other in unset)
            for s in able
        )

    def _blocked(
        self, position: Position, exact: Exact, event: str, able: list[int], kept: dict[str, int]
    ) -> Finding | None:
        assert exact.trace is not None
        root = self.roots[position.root]
        waiter = Member(root, exact.trace, "waits", event, "")
        for other in self.facts.positions:
            if other.root in able and other.wanted in kept and (not other.shared or kept[other.wanted] == EXCLUSIVE):
                for state in self.exact([self.situation.waiting(other)])[0]:
                    if state.trace is None or any(how and lock in kept for lock, how in state.held):
                        continue
                    setter = Member(self.roots[other.root], state.trace, "waits", other.wanted, mode_of(other))
                    waits = [(0, "event", event, (1,)), (1, "held", other.wanted, (0,))]
                    found = self.together([waiter, setter], waits)
                    if isinstance(found, Deadlocked):
                        return found
        return self.together([waiter], [(0, "event", event, ())])

    # ---- the strict order ----

    def _strict(self, positions: list[int]) -> Finding:
        """D04: the order in which locks are taken has no cycle, whatever comes of it."""
        if self._nesting is None:
            self._nesting = _Strict(self)
        return self._nesting.decide(positions)

    # ---- races ----

    def _race(self, data: str) -> Finding:
        """R03: no two contexts touch the data at once, one of them writing."""
        accesses = [a for a in self.facts.accesses if a.data == data]
        overlap = self.situation.overlap
        pairs = [(a, b) for n, a in enumerate(accesses) for b in accesses[n:] if clash(a, b, overlap)]
        if not pairs:
            return Ranked(bool(accesses))
        involved = list(dict.fromkeys(access for pair in pairs for access in pair))
        states = dict(zip(involved, self.exact([self.situation.touching(a) for a in involved]), strict=True))
        doubt = False
        for a, b in pairs:
            for one, other in itertools.product(states[a], states[b]):
                if not go_together(one, other):
                    continue
                if one.trace is not None and other.trace is not None:
                    roots = (self.roots[a.root], self.roots[b.root])
                    members = [
                        Member(root, trace, "stands", data, "")
                        for root, trace in zip(roots, (one.trace, other.trace), strict=True)
                    ]
                    found = self.together(members, [])
                    if isinstance(found, Deadlocked):
                        return found
                doubt = True
        if doubt:
            return Open("no run was found in which two contexts come to it at once")
        return Excluded(-1, ("no two contexts can stand before it at once",), True)

    # ---- rings ----

    def _rings(self, number: int, components: list[int], positions: list[int], direct: bool) -> Finding:
        excluded: list[Excluded] = []
        for component in components:
            known = self._components.get(component)
            if known is None:
                known = self._components[component] = _Component(self, component)
            finding = known.decide(number, set(positions), direct)
            if not isinstance(finding, Excluded):
                return finding
            excluded.append(finding)
        by = tuple(dict.fromkeys(word for finding in excluded for word in finding.by))
        return Excluded(excluded[0].component, by, any(finding.exact for finding in excluded))

    # ---- schedules ----

    def together(
        self, members: list[Member], waits: Sequence[tuple[int, str, str, tuple[int, ...]]], first: int = -1
    ) -> Deadlocked | Open:
        """The members' runs as one, with those who set the events that are waited for on the way."""
        members = list(members)
        for number, member in enumerate(list(members)):
            last = len(member.trace.steps) - 1
            for at, step in enumerate(member.trace.steps):
                for event in self._awaited(step.span):
                    if at == last and member.kind == "waits" and member.subject == event:
                        continue
                    setter = self._setter(event)
                    if setter is None:
                        return Open(f"no run was found in which {event} is set before it is waited for")
                    members[number] = replace(members[number], gates=(*members[number].gates, (at, len(members))))
                    members.append(setter)
        made = schedule(self.lowered, members, waits, loading(members) if first < 0 else first)
        if made is None:
            return Open("no order of the steps was found that leads to it")
        return Deadlocked(made, tuple(member.root for member in members))

    def _awaited(self, span: Span) -> list[str]:
        """Events that the statement at a place may wait for."""
        if self._waiting is None:
            self._waiting = {}
            for position in self.facts.positions:
                if position.sort == "event":
                    place = self.situation.graphs[position.site.graph].edges[position.site.edge].span
                    found = self._waiting.setdefault(place, [])
                    if position.wanted not in found:
                        found.append(position.wanted)
        return self._waiting.get(span, [])

    def _setter(self, event: str) -> Member | None:
        """A run of somebody who sets an event without waiting for one."""
        if event in self.lowered.ledger.handed:
            return None
        for root, places in enumerate(self.facts.signals):
            if event in places and self._really_sets(root, event):
                found = self.known[self._setting(root, event)]
                assert found is not None
                assert found.trace is not None
                if not any(self._awaited(step.span) for step in found.trace.steps):
                    return Member(self.roots[root], found.trace, "held", "", "")
        return None

    # ---- exact states ----

    def exact(self, wanted: list[Candidates]) -> list[list[Exact]]:
        """The states of each that can really be, each with a run."""
        asked = [self.situation.questions(candidates) for candidates in wanted]
        self._ask([question for questions in asked for _, question in questions if question not in self.known])
        return [[e for _, q in questions if (e := self.known[q]) is not None] for questions in asked]

    def _ask(self, questions: list[Question]) -> None:
        questions = list(dict.fromkeys(questions))
        if not questions:
            return
        probes = Questions(self.lowered)
        numbers = probes.insert(questions)
        try:
            answers, decisions = self._answer(questions, numbers)
            doubted = self.confirm(answers)
        finally:
            probes.remove()
        never = []
        for question, number in zip(questions, numbers, strict=True):
            held = tuple((lock_of(t.cell), t.value) for t in question.tests if t.cell.name.startswith("hold "))
            values = tuple(
                (t.cell.name.removeprefix("var "), t.value) for t in question.tests if t.cell.name.startswith("var ")
            )
            match decisions[number]:
                case Broken(trace):
                    self.known[question] = Exact(held, values, trace)
                case Held() if number not in doubted:
                    self.known[question] = None
                case _:
                    self.known[question] = Exact(held, values, None)
            never.append(self.known[question] is None)
        self.rounds.append(Round(questions, numbers, answers, never))

    def _answer(self, questions: list[Question], numbers: list[int]) -> tuple[Analysis, dict[int, Decision]]:
        """What the sequential engines say: `Held` that a state is never met, `Broken` with a run that comes there."""
        inner = Analysis(self.lowered, self.limits)
        inner.lives = self.analysis.lives
        by_root: dict[Root, set[int]] = {}
        for question, number in zip(questions, numbers, strict=True):
            inner._roots[number] = [question.root]
            by_root.setdefault(question.root, set()).add(number)
        for wanted in by_root.values():
            inner.decide(wanted)
        return inner, inner.decisions


def loading(members: Sequence[Member]) -> int:
    """The member that loads the driver: it is at its place before the others begin; -1 if there is none."""
    return next((n for n, member in enumerate(members) if member.root.phase == LOAD), -1)


def mode_of(position: Position) -> str:
    return "shared" if position.shared else ""


class _Strict:
    """The strict order: which locks are taken while which are held, whatever the modes."""

    def __init__(self, deadlock: Deadlock) -> None:
        self.deadlock = deadlock
        self.nesting = Nesting(deadlock.situation, deadlock.exact)

    def decide(self, positions: list[int]) -> Finding:
        for number in positions:
            state = self.nesting.broken(number)
            if state is not None:
                position = self.deadlock.facts.positions[number]
                root = self.deadlock.roots[position.root]
                assert state.trace is not None
                member = Member(root, state.trace, "waits", position.wanted, mode_of(position))
                return self.deadlock.together([member], [])
        if any(map(self.nesting.doubtful, positions)):
            return Open("whether the locks are taken in this order is not known")
        return Ranked(True)


class _Component:
    """One component of the order: its rings, as far as the fixpoint knows, and, when needed, exactly."""

    def __init__(self, deadlock: Deadlock, number: int) -> None:
        self.deadlock = deadlock
        self.number = number
        self.rough = Rings(deadlock.situation, number)
        self.exact: Rings | None = None
        self.solvers: dict[bool, tuple[z3.Solver, dict[str, str]]] = {}

    def decide(self, obligation: int, positions: set[int], direct: bool) -> Finding:
        links = self.rough.about(positions, direct)
        if not links:
            return Excluded(self.number, (NO_RING,), False)
        excluded = self._ask(self.rough, links, False)
        if isinstance(excluded, Excluded):
            return excluded
        if self.exact is None:
            self.exact = Rings(self.deadlock.situation, self.number, self.deadlock.exact)
        banned: list[list[int]] = []
        reason = "no run was found that leads to the deadlock"
        for _ in range(MAX_RINGS):
            links = self.exact.about(positions, direct)
            answer = self._ask(self.exact, links, True, banned)
            if isinstance(answer, Excluded):
                return answer if not banned else Open(reason)
            if isinstance(answer, Open):
                return answer
            ring = _ring_through(self.exact.links, answer, set(links))
            finding = _Shown(self.deadlock, self.exact).show(ring)
            if isinstance(finding, Deadlocked):
                self._blame(ring, finding)
                return finding
            reason = finding.reason
            banned.append(ring)
        return Open(reason)

    def _blame(self, ring: list[int], finding: Deadlocked) -> None:
        """Every acquisition of the ring waits for ever."""
        assert self.exact is not None
        for link in ring:
            number = self.exact.position_of[self.exact.ring.links[link].stand]
            position = self.deadlock.facts.positions[number]
            for obligation in position.obligations:
                if self.deadlock.lowered.obligations[obligation].code is Property.D01:
                    self.deadlock.findings.setdefault(obligation, finding)

    def _ask(
        self, rough: Rings, links: list[int], exact: bool, banned: Iterable[list[int]] = ()
    ) -> Excluded | Open | list[int]:
        """A choice of links with one of these in it; excluded, with the reasons, where there is none."""
        if not links:
            return Excluded(self.number, (NO_RING,), exact)
        known = self.solvers.get(exact)
        if known is None:
            made = formula(rough.ring)
            solver = z3.SolverFor("QF_FD")
            solver.set("timeout", self.deadlock.limits.milliseconds)
            solver.from_string("\n".join(made.lines))
            known = self.solvers[exact] = (solver, made.reasons)
        solver, reasons = known
        solver.push()
        solver.add(z3.Or([z3.Bool(link_name(n)) for n in links]))
        for ring in banned:
            solver.add(z3.Not(z3.And([z3.Bool(link_name(n)) for n in ring])))
        answer = solver.check(*[z3.Bool(name) for name in reasons])
        result: Excluded | Open | list[int]
        if answer == z3.sat:
            model = solver.model()
            result = [n for n in range(len(rough.ring.links)) if z3.is_true(model.eval(z3.Bool(link_name(n))))]
        elif answer == z3.unsat:
            words = tuple(sorted(self._words(reasons[str(c)]) for c in solver.unsat_core()))
            result = Excluded(self.number, words or (NO_RING,), exact)
        else:
            result = Open(f"Z3 gave no answer on the cycle ({solver.reason_unknown()})")
        solver.pop()
        return result

    def _words(self, reason: str) -> str:
        kind, *numbers = reason.split(" ")
        roots = self.deadlock.roots
        if kind == "apart":
            return f"{roots[int(numbers[0])].routine} and {roots[int(numbers[1])].routine} never overlap"
        if kind == "single":
            return f"{roots[int(numbers[0])].routine} runs once at a time"
        return reason


def _ring_through(links: list[Link], chosen: list[int], wanted: set[int]) -> list[int]:
    """The ring among the chosen links that has one of the wanted in it."""
    leaving = {links[n].source: n for n in chosen}
    start = next(n for n in chosen if n in wanted)
    ring = [start]
    node = links[start].target
    while node != links[start].source:
        following = leaving[node]
        ring.append(following)
        node = links[following].target
    return ring


class _Shown:
    """A ring as a schedule."""

    def __init__(self, deadlock: Deadlock, rings: Rings) -> None:
        self.deadlock = deadlock
        self.links = rings.links
        self.stands = rings.stands
        self.position_of = rings.position_of
        self.runs = rings.runs
        self.members: list[Member] = []
        self.index: dict[int, int] = {}

    def show(self, ring: list[int]) -> Deadlocked | Open:
        """A schedule that leads to the ring."""
        facts = self.deadlock.facts
        for number in ring:
            link = self.links[number]
            position = facts.positions[self.position_of[link.stand]]
            if position.sort == "role" or link.source[1] == "role":
                held = ", ".join(lock for lock, _ in position.held) or link.source[0]
                return Open(f"a call-out may come back into the driver; such a run with {held} is not put together")
            ways = [(link.stand, "waits", position.wanted, mode_of(position))]
            if link.ground >= 0:
                writer = link.source[1] == "w"
                ways.insert(0, (link.ground, "waits" if writer else "held", link.source[0] if writer else "", ""))
            for stand, kind, subject, mode in ways:
                if self.runs[stand].trace is None:
                    return Open(f"whether {link.source[0]} is held there is not known")
                self._add(stand, kind, subject, mode)
        for number in ring:
            link = self.links[number]
            if link.ground >= 0:
                at = self.index[link.stand]
                self.members[at] = replace(self.members[at], over=self.index[link.ground])
        waits = self._waits(ring)
        reason = self._arrivals(ring)
        if reason:
            return Open(reason)
        unset = self._may_be_set(ring)
        if unset:
            return Open(f"somebody else may set {unset}")
        return self.deadlock.together(self.members, waits)

    def _may_be_set(self, ring: list[int]) -> str:
        """An event of the ring that somebody may set without a lock held in it, "" if there is none."""
        kept: dict[str, int] = {}
        for number in ring:
            for stand in (self.links[number].stand, self.links[number].ground):
                if stand >= 0:
                    for lock, how in self.runs[stand].held:
                        kept[lock] = max(kept.get(lock, 0), how)
        positions = [self.deadlock.facts.positions[self.position_of[self.links[number].stand]] for number in ring]
        unset = [position.wanted for position in positions if position.sort == "event"]
        for position in positions:
            if position.sort == "event" and not self.deadlock.all_need(position, kept, unset):
                return position.wanted
        return ""

    def _add(self, stand: int, kind: str, subject: str, mode: str) -> None:
        if stand not in self.index:
            self.index[stand] = len(self.members)
            self._join(self.stands[stand].root, self.runs[stand], kind, subject, mode)

    def _join(self, root: int, state: Exact, kind: str, subject: str, mode: str) -> None:
        assert state.trace is not None
        self.members.append(Member(self.deadlock.roots[root], state.trace, kind, subject, mode))

    def _waits(self, ring: list[int]) -> list[tuple[int, str, str, tuple[int, ...]]]:
        """Who waits for whom."""
        holder = {self.links[n].source: self.links[n] for n in ring}
        waits: list[tuple[int, str, str, tuple[int, ...]]] = []
        for number in ring:
            link = self.links[number]
            position = self.deadlock.facts.positions[self.position_of[link.stand]]
            following = holder[link.target]
            by = self.index[following.stand if following.ground < 0 else following.ground]
            reason = "event" if position.sort == "event" else "writer" if link.target[1] == "w" else "held"
            waits.append((self.index[link.stand], reason, position.wanted, (by,)))
            if link.ground >= 0:
                kinds = {self.deadlock.roots[self.stands[stand].root].kind for stand in (link.ground, link.stand)}
                displaced = "displaced" if kinds == {"thread"} else "interrupted"
                waits.append((self.index[link.ground], displaced, "", (self.index[link.stand],)))
        return waits

    def _arrivals(self, ring: list[int]) -> str:
        """Sees to it that every writer that keeps readers out comes to wait: that somebody holds the lock then. Why
        nobody can, "" otherwise."""
        for number in ring:
            link = self.links[number]
            if link.source[1] != "w":
                continue
            writer = link.stand if link.ground < 0 else link.ground
            lock = link.source[0]
            holders = [at for at, member in enumerate(self.members) if _holds(member, lock)]
            if not holders:
                holder = self._holder(lock)
                if holder is None:
                    return f"nobody was found who holds {lock} while a writer comes to wait for it"
                holders = [len(self.members)]
                self._join(*holder, "held", "", "")
            at = self.index[writer]
            last = len(self.members[at].trace.steps) - 1
            self.members[at] = replace(self.members[at], gates=((last, holders[0]),))
        return ""

    def _holder(self, lock: str) -> tuple[int, Exact] | None:
        """A root that holds a lock beside the members, and the state in which it does."""
        situation = self.deadlock.situation
        taken: dict[str, str] = {}
        for member in self.members:
            taken |= {name: mode for name, mode, _ in member.trace.steps[-1].held}
        for root, levels in enumerate(self.deadlock.facts.holding):
            if any(not situation.overlap.meet(root, self.deadlock.roots.index(m.root)) for m in self.members):
                continue
            for at, locks in sorted(levels.items()):
                for mode in (SHARED, EXCLUSIVE):
                    if locks.get(lock, 0) & mode:
                        for state in self.deadlock.exact([situation.standing(root, at, ("lock", lock, mode))])[0]:
                            clear = all(not how or name not in taken for name, how in state.held)
                            if state.trace is not None and clear:
                                return root, state
        return None


def _holds(member: Member, lock: str) -> bool:
    return any(name == lock for name, _, _ in member.trace.steps[-1].held)


__all__ = ["Confirm", "Deadlock", "Deadlocked", "Excluded", "Finding", "Ranked", "Round"]
