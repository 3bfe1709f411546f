"""Deadlock, order and races in the open world: ranks where the order has no cycle, else what comes of the cycle.

What the order (`mutual.order`) leaves on no cycle is proved by ranks. Each cyclic component is asked about as a whole
(`mutual.cycles`): first with what the fixpoint knows of each stand, then with stands made exact by questions, each with a run
that comes there. A ring that remains is put together to a schedule (`schedule`), to be replayed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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
from modelcheck.mutual.positions import EXCLUSIVE, SHARED, Access, Position, facts
from modelcheck.mutual.questions import Place, Question, Questions
from modelcheck.mutual.rings import Rings
from modelcheck.mutual.situation import (
    Candidates,
    Situation,
    Splits,
    Tests,
    apart,
    clash,
    go_together,
    known_holds,
)
from modelcheck.source import Span
from modelcheck.verdict import MUTUAL, Choice, Property, Schedule, Trace

MAX_RINGS = 4
"""Rings of one component for which a run is looked for."""
MAX_TRIES = 16
"""How often states are told apart, or rings tried, for one obligation."""
MAX_TOLD = 400
"""How often states are told apart for one driver."""
MAX_STARTS, MAX_SHORT = 40, 4
"""Links of an obligation from which a shortest ring is looked for, and how many of these rings are tried."""
NEVER, PERHAPS = "never", "perhaps"

NO_RING = "no ring goes through here"

Confirm: TypeAlias = Callable[[Analysis], frozenset[int]]
"""The questions whose answer "never" is not confirmed by evidence."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Proved by the order alone. `reached` False where nothing comes there."""

    reached: bool


@dataclass(frozen=True, slots=True)
class Excluded:
    """Proved: the order has a cycle here, and nothing can come of it, for the reasons in words."""

    component: int
    by: tuple[str, ...]


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
        self.splits: Splits = {}
        self.known: dict[Question, Trace | str] = {}
        """What came of a question: a run that comes there, NEVER, or PERHAPS."""
        self.by_obligation: dict[int, list[int]] = {}
        for number, position in enumerate(self.facts.positions):
            for obligation in position.obligations:
                self.by_obligation.setdefault(obligation, []).append(number)
        self._components: dict[int, _Component] = {}
        self.told = 0
        """How often states were told apart."""
        self._pending: set[int] = set()
        self._waiting: dict[Span, list[str]] | None = None
        self._nesting: _Strict | None = None

    def run(self, strict: bool) -> None:
        """Decides everything; D04 only if it is asked for (`strict`)."""
        self._prepare()
        for number, obligation in enumerate(self.lowered.obligations):
            wanted = obligation.code in MUTUAL and number not in self.lowered.questions
            if wanted and (strict or obligation.code is not Property.D04):
                finding = self._decide(number, obligation.code)
                if finding is not None:
                    self.findings[number] = finding
        self._settle()

    def _prepare(self) -> None:
        """Asks at once what most obligations on a cycle come to ask."""
        wanted: list[Question] = []
        for number, positions in self.by_obligation.items():
            code = self.lowered.obligations[number].code
            direct = code is Property.D02
            if code in (Property.D01, Property.D02):
                components = sorted(self.situation.above_itself(positions)) if direct else self._cyclic(positions)
                for component in components[:1]:
                    wanted += self._component(component).wishes(set(positions), direct)
        self._ask(wanted)

    def _component(self, number: int) -> _Component:
        known = self._components.get(number)
        if known is None:
            known = self._components[number] = _Component(self, number)
        return known

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
        run = self.run_to(self.situation.waiting(position))
        if run is not None:
            members = [
                Member(leak.root, leak.trace, "ended", position.wanted, ""),
                Member(self.roots[position.root], run, "waits", position.wanted, mode_of(position)),
            ]
            apart_ = not self.situation.overlap.meet(self.roots.index(leak.root), position.root)
            found = self.together(members, [(1, "ended", position.wanted, (0,))], first=0 if apart_ else -1)
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
            run = self.run_to(self.situation.waiting(position))
            if run is not None:
                member = Member(self.roots[position.root], run, "waits", event, "")
                return self.together([member], [(0, "event", event, ())])
        return Open(f"nobody sets {event}, and no run was found that waits for it")

    def _really_sets(self, root: int, event: str) -> bool:
        """Whether a run of the root is known that sets the event."""
        question = self._setting(root, event)
        self._ask([question] if question not in self.known else [])
        return isinstance(self.known[question], Trace)

    def _setting(self, root: int, event: str) -> Question:
        graphs = self.situation.graphs
        places = tuple(Place(graphs[s.graph], s.edge, s.index) for s in self.facts.signals[root][event])
        return Question(self.roots[root], places, ())

    def _all_blocked(self, positions: list[int], event: str, able: list[int]) -> Finding | None:
        """Everybody who sets the event needs a lock that is held while it is waited for."""
        for number in positions:
            position = self.facts.positions[number]
            candidates = self.situation.waiting(position)
            for lock, _ in position.held:
                for way in self.situation.ways(candidates, f"hold {lock}"):
                    if not way or not self.all_need(position, {lock: way}):
                        continue
                    run = self.run_to(candidates, ((f"hold {lock}", way),))
                    if run is not None:
                        found = self._blocked(position, run, event, able, {lock: way})
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
        self, position: Position, run: Trace, event: str, able: list[int], kept: dict[str, int]
    ) -> Finding | None:
        waiter = Member(self.roots[position.root], run, "waits", event, "")
        for other in self.facts.positions:
            if other.root in able and other.wanted in kept and (not other.shared or kept[other.wanted] == EXCLUSIVE):
                free = tuple(sorted((f"hold {lock}", 0) for lock, _ in other.held if lock in kept))
                way = self.run_to(self.situation.waiting(other), free)
                if way is not None:
                    setter = Member(self.roots[other.root], way, "waits", other.wanted, mode_of(other))
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
        doubt = False
        for a, b in pairs:
            finding = self._meet_at(a, b, data)
            if isinstance(finding, Deadlocked):
                return finding
            doubt = doubt or finding is not None
        if doubt:
            return Open("no run was found in which two contexts come to it at once")
        return Excluded(-1, ("no two contexts can stand before it at once",))

    def _meet_at(self, a: Access, b: Access, data: str) -> Finding | None:
        """Two contexts before two accesses; None if they are certainly never there at once."""
        first, second = self.situation.touching(a), self.situation.touching(b)
        tried: set[object] = set()
        for _ in range(MAX_TRIES):
            pairs = [
                ((first, x), (second, y))
                for x in self.live(first)
                for y in self.live(second)
                if go_together(self.situation, (first, x), (second, y)) and (x, y) not in tried
            ]
            if not pairs:
                return Open("they do not come together") if tried else None
            pair = pairs[0]
            if self._clear(list(pair)):
                continue
            tried.add((pair[0][1], pair[1][1]))
            runs = [self.known[self.situation.question(*state)] for state in pair]
            if all(isinstance(run, Trace) for run in runs):
                members = [
                    Member(self.roots[access.root], run, "stands", data, "")
                    for access, run in zip((a, b), runs, strict=True)
                    if isinstance(run, Trace)
                ]
                found = self.together(members, [])
                if isinstance(found, Deadlocked):
                    return found
        return Open("they do not come together")

    # ---- rings ----

    def _rings(self, number: int, components: list[int], positions: list[int], direct: bool) -> Finding:
        excluded: list[Excluded] = []
        for component in components:
            finding = self._component(component).decide(number, set(positions), direct)
            if not isinstance(finding, Excluded):
                return finding
            excluded.append(finding)
        by = tuple(dict.fromkeys(word for finding in excluded for word in finding.by))
        return Excluded(excluded[0].component, by)

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
                run = self.known[self._setting(root, event)]
                if isinstance(run, Trace) and not any(self._awaited(step.span) for step in run.steps):
                    return Member(self.roots[root], run, "held", "", "")
        return None

    # ---- exact states ----

    def live(self, candidates: Candidates) -> list[Tests]:
        """The states of candidates, as far as they are told apart, without those that are never met."""
        return [
            tests
            for tests in apart(self.situation, candidates, self.splits)
            if self.known.get(self.situation.question(candidates, tests)) != NEVER
        ]

    def split(self, candidates: Candidates, tests: Tests, subject: str) -> bool:
        """Tells states apart by one more subject, and asks which of them are ever met; False if they are already."""
        if self.told >= MAX_TOLD or subject in dict(tests) or tests not in self.live(candidates):
            return False
        ways = self.situation.ways(candidates, subject)
        if len(ways) < 2:
            return False
        self.splits.setdefault(candidates, []).append((tests, subject))
        self.told += 1
        parts = [tuple(sorted((*tests, (subject, way)))) for way in ways]
        self._ask([self.situation.question(candidates, part) for part in parts])
        return True

    def run_to(self, candidates: Candidates, tests: Tests = ()) -> Trace | None:
        """A run that comes to one of the states, if one is known."""
        if not candidates.sites:
            return None
        question = self.situation.question(candidates, tests)
        self._ask([question])
        run = self.known[question]
        return run if isinstance(run, Trace) else None

    def _clear(self, states: list[tuple[Candidates, Tests]]) -> bool:
        """Asks for runs to states that are to be met together. True if something new came out of it: that one is never
        met, or that they had to be told apart further, as their runs do not go together."""
        before = self.told
        questions = [self.situation.question(*state) for state in states]
        new = [question for question in questions if question not in self.known]
        self._ask(new)
        if any(self.known[question] == NEVER for question in new):
            return True
        runs = [self.known[question] for question in questions]
        for (one, run), (other, way) in itertools.combinations(zip(states, runs, strict=True), 2):
            if isinstance(run, Trace) and isinstance(way, Trace):
                for subject in self._at_odds(one, run, other, way):
                    self.split(*one, subject)
                    self.split(*other, subject)
        return self.told > before

    def _at_odds(
        self, one: tuple[Candidates, Tests], run: Trace, other: tuple[Candidates, Tests], way: Trace
    ) -> list[str]:
        """What keeps two runs from ending at once: a lock both hold, a variable that has one value."""
        mine = {lock: mode for lock, mode, _ in run.steps[-1].held}
        found = [
            f"hold {lock}" for lock, mode, _ in way.steps[-1].held if lock in mine and "exclusive" in (mode, mine[lock])
        ]
        both = set(self.situation.variables(*one)) & set(self.situation.variables(*other))
        seen, there = _last_values(run), _last_values(way)
        return found + [name for name in sorted(both) if seen.get(name) != there.get(name)]

    def _ask(self, questions: list[Question]) -> None:
        questions = [q for q in dict.fromkeys(questions) if q not in self.known]
        if not questions:
            return
        probes = Questions(self.lowered)
        numbers = probes.insert(questions)
        try:
            answers, decisions = self._answer(questions, numbers)
            doubted = self.confirm(answers)
        finally:
            probes.remove()
        for question, number in zip(questions, numbers, strict=True):
            match decisions[number]:
                case Broken(trace):
                    self.known[question] = trace
                case Held() if number not in doubted:
                    self.known[question] = NEVER
                case _:
                    self.known[question] = PERHAPS
        never = [self.known[question] == NEVER for question in questions]
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


class _Strict:
    """The strict order: which locks are taken while which are held, whatever the modes."""

    def __init__(self, deadlock: Deadlock) -> None:
        self.deadlock = deadlock
        while True:
            self.nesting = Nesting(deadlock.situation, deadlock.live)
            told = deadlock.told
            for candidates, subject in self.nesting.subjects():
                for tests in deadlock.live(candidates):
                    deadlock.split(candidates, tests, subject)
            if deadlock.told == told:
                break

    def decide(self, positions: list[int]) -> Finding:
        doubtful = False
        for number in positions:
            position = self.deadlock.facts.positions[number]
            candidates = self.deadlock.situation.waiting(position)
            for lock in self.nesting.against(number):
                doubtful = True
                for tests in self.deadlock.live(candidates):
                    if dict(known_holds(candidates, tests)).get(lock):
                        run = self.deadlock.run_to(candidates, tests)
                        if run is not None:
                            root = self.deadlock.roots[position.root]
                            member = Member(root, run, "waits", position.wanted, mode_of(position))
                            return self.deadlock.together([member], [])
        return Open("whether the locks are taken in this order is not known") if doubtful else Ranked(True)


def loading(members: Sequence[Member]) -> int:
    """The member that loads the driver: it is at its place before the others begin; -1 if there is none."""
    return next((n for n, member in enumerate(members) if member.root.phase == LOAD), -1)


def mode_of(position: Position) -> str:
    return "shared" if position.shared else ""


class _Component:
    """One component of the order: its rings, told apart as far as was needed."""

    def __init__(self, deadlock: Deadlock, number: int) -> None:
        self.deadlock = deadlock
        self.number = number
        self.first: dict[tuple[frozenset[int], bool], list[list[int]]] = {}
        self._renew()

    def _renew(self) -> None:
        """Makes the rings again, with the states as far as they are told apart now."""
        self.told = self.deadlock.told
        self.rings = Rings(self.deadlock.situation, self.number, self.deadlock.live)
        self.leaving: dict[tuple[str, str], list[int]] = {}
        for number, link in enumerate(self.rings.links):
            self.leaving.setdefault(link.source, []).append(number)
        self.reasons: dict[str, str] | None = None
        self.first.clear()

    def _formulate(self) -> dict[str, str]:
        """The reasons by which the solver's formula can be impossible; made when it is first asked."""
        if self.reasons is not None:
            return self.reasons
        made = formula(self.rings.ring)
        self.reasons = made.reasons
        self.solver = z3.SolverFor("QF_FD")
        self.solver.set("timeout", self.deadlock.limits.milliseconds)
        self.solver.from_string("\n".join(made.lines))
        return made.reasons

    def wishes(self, positions: set[int], direct: bool) -> list[Question]:
        """The questions whose answers show the shortest rings through the positions, or that they are none."""
        rings = self._shortest(positions, direct)
        return [question for ring in rings[:1] for question in self._asked(ring).values()]

    def _shortest(self, positions: set[int], direct: bool) -> list[list[int]]:
        key = (frozenset(positions), direct)
        if key not in self.first:
            links = self.rings.about(positions, direct)[:MAX_STARTS]
            found = [ring for start in links if (ring := _shortest(self.rings.links, self.leaving, start))]
            self.first[key] = sorted(found, key=len)[:MAX_SHORT]
        return self.first[key]

    def _asked(self, ring: list[int]) -> dict[int, Question]:
        """For each stand of a ring the question for a run in which it holds what it is waited for."""
        found: dict[int, Question] = {}
        for number in ring:
            link = self.rings.links[number]
            holder = link.stand if link.ground < 0 else link.ground
            for stand in (link.stand, link.ground):
                if stand >= 0:
                    candidates, tests = self.rings.states[stand]
                    known = dict(tests)
                    if stand == holder and link.source[1] in ("x", "s"):
                        known[f"hold {link.source[0]}"] = EXCLUSIVE if link.source[1] == "x" else SHARED
                    found[stand] = self.deadlock.situation.question(candidates, tuple(sorted(known.items())))
        return found

    def _at_once(self, positions: set[int], direct: bool) -> Deadlocked | None:
        """A deadlock along one of the shortest rings, if runs to its places go together just so."""
        for ring in self._shortest(positions, direct):
            asked = self._asked(ring)
            self.deadlock._ask(list(asked.values()))
            runs = {stand: run for stand, q in asked.items() if isinstance(run := self.deadlock.known[q], Trace)}
            if len(runs) == len(asked) and self._compatible(runs):
                finding = _Shown(self.deadlock, self.rings, runs).show(ring)
                if isinstance(finding, Deadlocked):
                    self._blame(ring, finding)
                    return finding
        return None

    def _compatible(self, runs: dict[int, Trace]) -> bool:
        """Whether contexts that ran like that can be at their places at once."""
        overlap, rings = self.deadlock.situation.overlap, self.rings
        for (one, run), (other, way) in itertools.combinations(runs.items(), 2):
            (first, _), (second, _) = rings.states[one], rings.states[other]
            if not overlap.meet(first.root, second.root):
                return False
            if not overlap.started(first.root, first.sites, second.root):
                return False
            if not overlap.started(second.root, second.sites, first.root):
                return False
            if self.deadlock._at_odds(rings.states[one], run, rings.states[other], way):
                return False
        return True

    def decide(self, obligation: int, positions: set[int], direct: bool) -> Finding:
        found = self._at_once(positions, direct)
        if found is not None:
            return found
        banned: list[frozenset[object]] = []
        reason = "no run was found that leads to the deadlock"
        for _ in range(MAX_TRIES):
            if self.told != self.deadlock.told:
                self._renew()
            links = self.rings.about(positions, direct)
            answer = self._ask(links, banned)
            if isinstance(answer, Excluded):
                return answer if not banned else Open(reason)
            if isinstance(answer, Open):
                return answer
            if self._told_apart(answer):
                continue
            stands = {n for k in answer for n in (self.rings.links[k].stand, self.rings.links[k].ground) if n >= 0}
            known = {n: self.deadlock.known[self.deadlock.situation.question(*self.rings.states[n])] for n in stands}
            runs = {n: run for n, run in known.items() if isinstance(run, Trace)}
            finding = _Shown(self.deadlock, self.rings, runs).show(answer)
            if isinstance(finding, Deadlocked):
                self._blame(answer, finding)
                return finding
            reason = finding.reason
            banned.append(frozenset(map(self._key, answer)))
            if len(banned) > MAX_RINGS:
                break
        return Open(reason)

    def _key(self, number: int) -> object:
        link, states = self.rings.links[number], self.rings.states
        return states[link.stand], link.source, link.target, states[link.ground] if link.ground >= 0 else None

    def _told_apart(self, ring: list[int]) -> bool:
        """Makes the stands of a ring exact: each holds what it is waited for, with a run. True if that was news."""
        before = self.deadlock.told
        for number in ring:
            link = self.rings.links[number]
            holder = link.stand if link.ground < 0 else link.ground
            if link.source[1] in ("x", "s"):
                self.deadlock.split(*self.rings.states[holder], f"hold {link.source[0]}")
        if self.deadlock.told != before:
            return True
        links = [self.rings.links[number] for number in ring]
        stands = dict.fromkeys(n for link in links for n in (link.stand, link.ground) if n >= 0)
        if self.deadlock._clear([self.rings.states[n] for n in stands]):
            self.told = -1
            return True
        return False

    def _blame(self, ring: list[int], finding: Deadlocked) -> None:
        """Every acquisition of the ring waits for ever."""
        for link in ring:
            number = self.rings.position_of[self.rings.links[link].stand]
            position = self.deadlock.facts.positions[number]
            for obligation in position.obligations:
                if self.deadlock.lowered.obligations[obligation].code is Property.D01:
                    self.deadlock.findings.setdefault(obligation, finding)

    def _ask(self, links: list[int], banned: list[frozenset[object]]) -> Excluded | Open | list[int]:
        """A ring with one of these links in it; excluded, with the reasons, where there is none."""
        if not links:
            return Excluded(self.number, (NO_RING,))
        self.reasons = self._formulate()
        solver = self.solver
        solver.push()
        if banned:
            numbers = {self._key(n): n for n in range(len(self.rings.links))}
            for keys in banned:
                if keys <= numbers.keys():
                    solver.add(z3.Not(z3.And([z3.Bool(link_name(numbers[k])) for k in keys])))
        try:
            return self._short(links, self.reasons) or self._any(links, self.reasons)
        finally:
            solver.pop()

    def _short(self, links: list[int], reasons: dict[str, str]) -> list[int] | None:
        """A shortest ring through one of the links, if it is possible."""
        found = [ring for start in links[:MAX_STARTS] if (ring := _shortest(self.rings.links, self.leaving, start))]
        for ring in sorted(found, key=len)[:MAX_SHORT]:
            literals = [*map(z3.Bool, reasons), *[z3.Bool(link_name(n)) for n in ring]]
            if self.solver.check(*literals) == z3.sat:
                return ring
        return None

    def _any(self, links: list[int], reasons: dict[str, str]) -> Excluded | Open | list[int]:
        self.solver.add(z3.Or([z3.Bool(link_name(n)) for n in links]))
        answer = self.solver.check(*map(z3.Bool, reasons))
        if answer == z3.sat:
            model = self.solver.model()
            names = range(len(self.rings.links))
            chosen = [n for n in names if z3.is_true(model.eval(z3.Bool(link_name(n))))]
            return _ring_through(self.rings.links, chosen, set(links))
        if answer == z3.unsat:
            words = tuple(sorted(self._words(reasons[str(c)]) for c in self.solver.unsat_core()))
            return Excluded(self.number, words or (NO_RING,))
        return Open(f"Z3 gave no answer on the cycle ({self.solver.reason_unknown()})")

    def _words(self, reason: str) -> str:
        kind, *numbers = reason.split(" ")
        roots = self.deadlock.roots
        if kind == "apart":
            return f"{roots[int(numbers[0])].routine} and {roots[int(numbers[1])].routine} never overlap"
        if kind == "single":
            return f"{roots[int(numbers[0])].routine} runs once at a time"
        return reason


def _shortest(links: list[Link], leaving: dict[tuple[str, str], list[int]], start: int) -> list[int] | None:
    """The shortest way from what a link waits for back to it (breadth first)."""
    goal = links[start].source
    back: dict[tuple[str, str], int] = {links[start].target: -1}
    pending = [links[start].target]
    while pending and goal not in back:
        following: list[tuple[str, str]] = []
        for node in pending:
            for number in leaving.get(node, ()):
                target = links[number].target
                if target not in back:
                    back[target] = number
                    following.append(target)
        pending = following
    if goal not in back:
        return None
    ring = []
    node = goal
    while back[node] >= 0:
        ring.append(back[node])
        node = links[back[node]].source
    return [start, *reversed(ring)]


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


def _last_values(run: Trace) -> dict[str, int]:
    """What the run saw last of each shared variable."""
    return {c.name: c.value for c in (*run.start, *(c for step in run.steps for c in step.choices))}


class _Shown:
    """A ring as a schedule."""

    def __init__(self, deadlock: Deadlock, rings: Rings, runs: dict[int, Trace]) -> None:
        self.deadlock = deadlock
        self.runs = runs
        self.links = rings.links
        self.stands = rings.stands
        self.states = rings.states
        self.position_of = rings.position_of
        self.members: list[Member] = []
        self.index: dict[int, int] = {}

    def show(self, ring: list[int]) -> Deadlocked | Open:
        """A schedule that leads to the ring."""
        facts = self.deadlock.facts
        for number in ring:
            link = self.links[number]
            position = facts.positions[self.position_of[link.stand]]
            kind = "calls" if position.sort == "role" else "waits"
            ways = [(link.stand, kind, position.wanted, mode_of(position))]
            if link.ground >= 0:
                writer = link.source[1] == "w"
                ways.insert(0, (link.ground, "waits" if writer else "held", link.source[0] if writer else "", ""))
            for stand, kind, subject, mode in ways:
                if stand not in self.runs:
                    return Open(f"whether {link.source[0]} is held there is not known")
                self._add(stand, kind, subject, mode)
        for number in ring:
            link = self.links[number]
            at = self.index[link.stand]
            if link.ground >= 0:
                self.members[at] = replace(self.members[at], over=self.index[link.ground])
            if link.source[1] == "role":
                caller = next(self.index[self.links[n].stand] for n in ring if self.links[n].target == link.source)
                level = self.members[caller].trace.steps[-1].irql
                run = _begun_at(self.members[at].trace, level)
                self.members[at] = replace(self.members[at], trace=run, over=caller, within=True)
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
                    for lock, mode, _ in self.runs[stand].steps[-1].held:
                        kept[lock] = max(kept.get(lock, 0), SHARED if mode == "shared" else EXCLUSIVE)
        positions = [self.deadlock.facts.positions[self.position_of[self.links[number].stand]] for number in ring]
        unset = [position.wanted for position in positions if position.sort == "event"]
        for position in positions:
            if position.sort == "event" and not self.deadlock.all_need(position, kept, unset):
                return position.wanted
        return ""

    def _add(self, stand: int, kind: str, subject: str, mode: str) -> None:
        run = self.runs[stand]
        if stand not in self.index:
            self.index[stand] = len(self.members)
            self.members.append(Member(self.deadlock.roots[self.stands[stand].root], run, kind, subject, mode))

    def _waits(self, ring: list[int]) -> list[tuple[int, str, str, tuple[int, ...]]]:
        """Who waits for whom."""
        holder = {self.links[n].source: self.links[n] for n in ring}
        waits: list[tuple[int, str, str, tuple[int, ...]]] = []
        for number in ring:
            link = self.links[number]
            position = self.deadlock.facts.positions[self.position_of[link.stand]]
            following = holder[link.target]
            by = self.index[following.stand if following.ground < 0 else following.ground]
            reason = {"event": "event", "role": "called"}.get(position.sort, "held")
            if link.target[1] == "w":
                reason = "writer"
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
                self.members.append(holder)
            at = self.index[writer]
            last = len(self.members[at].trace.steps) - 1
            self.members[at] = replace(self.members[at], gates=((last, holders[0]),))
        return ""

    def _holder(self, lock: str) -> Member | None:
        """Somebody who holds a lock beside the members."""
        situation = self.deadlock.situation
        taken = {name for member in self.members for name, _, _ in member.trace.steps[-1].held}
        for root, levels in enumerate(self.deadlock.facts.holding):
            if any(not situation.overlap.meet(root, self.deadlock.roots.index(m.root)) for m in self.members):
                continue
            for at, locks in sorted(levels.items()):
                for mode in (SHARED, EXCLUSIVE):
                    if locks.get(lock, 0) & mode:
                        candidates = situation.standing(root, at, ("lock", lock, mode))
                        free = [(f"hold {name}", 0) for name, _ in candidates.held if name in taken and name != lock]
                        run = self.deadlock.run_to(candidates, tuple(sorted([*free, (f"hold {lock}", mode)])))
                        if run is not None:
                            return Member(self.deadlock.roots[root], run, "held", "", "")
        return None


def _begun_at(run: Trace, level: int) -> Trace:
    """The run begun at another level: what is at the level of the start now is at the new one."""
    before = next((c.value for c in run.start if c.name == "irql"), level)
    start = (*(c for c in run.start if c.name != "irql"), Choice("irql", level))
    steps = list(run.steps)
    for number, step in enumerate(steps):
        if step.irql != before:
            break
        steps[number] = replace(step, irql=level)
    return replace(run, start=tuple(sorted(start, key=lambda c: c.name)), steps=tuple(steps))


def _holds(member: Member, lock: str) -> bool:
    return any(name == lock for name, _, _ in member.trace.steps[-1].held)


__all__ = ["Confirm", "Deadlock", "Deadlocked", "Excluded", "Finding", "Ranked", "Round"]
