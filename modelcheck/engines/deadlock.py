"""Deadlock, order and races in the open world: ranks where the order has no cycle, else what comes of the cycle.

What the order (`mutual.order`) leaves on no cycle is proved by ranks. Each cyclic component is asked about as a whole
(`component`), with stands told apart by questions (`states`), each with a run that comes there. A ring that remains
is put together to a schedule (`shown`, `meeting`, `schedule`), to be replayed.
"""

from __future__ import annotations

from itertools import compress

from modelcheck.devices import plain
from modelcheck.engines.analyse import Analysis, Broken, Limits, Open
from modelcheck.engines.component import MAX_TRIES, Component
from modelcheck.engines.finding import Deadlocked, Excluded, Finding, Ranked, mode_of
from modelcheck.engines.meeting import Meeting
from modelcheck.engines.schedule import Member
from modelcheck.engines.states import Confirm
from modelcheck.lower import Lowered
from modelcheck.mutual.nesting import Nesting
from modelcheck.mutual.overlap import LOAD
from modelcheck.mutual.positions import EXCLUSIVE, Access, Position
from modelcheck.mutual.questions import Question
from modelcheck.mutual.situation import Candidates, Tests, clashes, go_together, known_holds
from modelcheck.record import replace
from modelcheck.verdict import BEGUN_AGAIN, MUTUAL, RACES, SEEN_TO, Property, Trace


class Deadlock(Meeting):
    """Decides the obligations that several contexts together can break. `proved`: the obligations about one context
    that a proof may rest on."""

    def __init__(
        self, lowered: Lowered, analysis: Analysis, limits: Limits, confirm: Confirm, proved: frozenset[int]
    ) -> None:
        super().__init__(lowered, analysis, limits, confirm)
        self.proved = proved
        self.findings: dict[int, Finding] = {}
        self.by_obligation: dict[int, list[int]] = {}
        for number, position in enumerate(self.facts.positions):
            for obligation in position.obligations:
                self.by_obligation.setdefault(obligation, []).append(number)
        self._components: dict[int, Component] = {}
        self._pending: set[int] = set()
        self._nesting: _Strict | None = None
        self._ends: dict[tuple[str, str], list[int]] | None = None

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
            if code is Property.D01:
                wanted += self._behind_leaks(positions)
        self.ask(wanted)

    def _behind_leaks(self, positions: list[int]) -> list[Question]:
        """The question for a run to the first of the positions that waits for what somebody has left held."""
        for number in positions:
            position = self.facts.positions[number]
            if any(self._leak(root, position.wanted) is not None for root in self._leavers(position)):
                candidates = self.situation.waiting(position)
                return [self.situation.question(candidates, ())] if candidates.sites else []
        return []

    def _component(self, number: int) -> Component:
        known = self._components.get(number)
        if known is None:
            known = self._components[number] = Component(self, self.findings, number)
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
        if code in RACES:
            found = self._race(self.lowered.obligations[number].subject)
        elif not positions:
            if number not in self.analysis._roots:
                return None
            found = Ranked(False)
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
            roots = compress(self.lowered.roots, self.facts.tainted)
            callees = self.lowered.strangers(roots)
            return Open(f"it comes with a call of {callees}, which no model knows: it may take any lock")
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
                case _ if position.itself >= 0 and position.itself not in self.proved:
                    return Open("that it is not held here already is not proved")
                case _:
                    pass
        return None

    def _left_held(self, positions: list[int]) -> Finding | None:
        """Somebody has ended with the lock held."""
        for number in positions:
            position = self.facts.positions[number]
            for root in self._leavers(position):
                found = self._after(position, root)
                if found is not None:
                    return found
        return None

    def _leavers(self, position: Position) -> list[int]:
        """The roots that may have ended with the lock held that a position waits for."""
        if position.sort != "lock":
            return []
        return [
            root
            for root, mask in self.situation.enders.get(position.wanted, ())
            if (mask & EXCLUSIVE or (mask and not position.shared))
            and not self.situation.stuck_before(position, root, mask)
        ]

    def _ends_held(self, root: int, lock: str) -> list[int]:
        """The obligations that a root does not end with a lock held."""
        key = (self.roots[root].routine, plain(lock))
        if self._ends is None:
            self._ends = {}
            for number, obligation in enumerate(self.lowered.obligations):
                if obligation.code in (Property.B03, Property.C02):
                    self._ends.setdefault((obligation.routine, obligation.subject), []).append(number)
        return self._ends.get(key, [])

    def _leak(self, root: int, lock: str) -> Broken | None:
        """A run in which a root ends with a lock held, if one is known."""
        decisions = (self.analysis.decisions.get(number) for number in self._ends_held(root, lock))
        return next((decision for decision in decisions if isinstance(decision, Broken)), None)

    def _after(self, position: Position, root: int) -> Finding | None:
        """What comes of a routine that may end with the lock held; None if it is proved not to."""
        leak = self._leak(root, position.wanted)
        if leak is not None:
            return self._leaked(position, leak)
        numbers = self._ends_held(root, position.wanted)
        if numbers and self.proved.issuperset(numbers):
            return None
        return Open(f"{self.roots[root].routine} may end with {position.wanted} held")

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
        positions = [p for p in positions if p not in self.situation.idle]
        if event in self.lowered.ledger.handed or not positions:
            return Ranked(True)
        setting = [root for root, signals in enumerate(self.facts.signals) if event in signals]
        waiting = sorted({self.facts.positions[p].root for p in positions})
        able = [s for s in setting if any(self.situation.overlap.meet(s, w) for w in waiting)]
        loaded = any(self.roots[s].phase == LOAD and s not in waiting for s in setting)
        if not setting or (not able and not loaded):
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
        if not self.really_sets(outlook.root, event):
            return Open(f"no run of {self.roots[outlook.root].routine} is known that sets {event}")
        decided = self.rests_on(outlook.root, event)
        if decided:
            return Open(
                f"{self.roots[outlook.root].routine} sets {event} where {decided} has one value, decided before"
            )
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
                member = Member(self.roots[position.root], run, "waits", event, "event")
                return self.together([member], [(0, "event", event, ())])
        return Open(f"nobody sets {event}, and no run was found that waits for it")

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

    def _blocked(
        self, position: Position, run: Trace, event: str, able: list[int], kept: dict[str, int]
    ) -> Finding | None:
        waiter = Member(self.roots[position.root], run, "waits", event, "event")
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
        """R03: no two contexts touch the data at once, one of them writing. R04: nor use a lock and free it."""
        accesses = [a for a in self.facts.accesses if plain(a.data) == data]
        pairs = clashes(self.situation, accesses)
        if not pairs:
            return Ranked(bool(accesses))
        doubt: Open | None = None
        pairs.sort(key=lambda pair: any(map(self._mode, pair)))
        for a, b in pairs:
            finding = self._meet_at(a, b)
            if isinstance(finding, Deadlocked):
                return finding
            if isinstance(finding, Open):
                doubt = doubt or finding
        return doubt or Excluded(-1, ("no two contexts can stand before it at once",))

    def _ended_by_then(self, run: Trace, root: int) -> str:
        """Why another root may have ended when a run comes to its place: it has waited for what that one sets. "" if
        nothing of the sort is known."""
        name = self.roots[root].routine
        for step in run.steps[:-1]:
            for event in self._awaited(step.span):
                if event in self.facts.signals[root]:
                    return f"{run.root} waits for {event}, which {name} sets: it may have ended by then"
        return ""

    def _rests(self, run: Trace, root: int) -> str:
        """A variable that a run has looked at and another root writes; "" if there is none."""
        written = self.situation.written(root)
        return next((c.name.removeprefix("var ") for c in run.choices if c.name in written), "")

    def _mode(self, access: Access) -> str:
        return "freed" if self.situation.ended.is_end(access.root, access.site) else ""

    def _meet_at(self, a: Access, b: Access) -> Finding | None:
        """Two contexts before two accesses; None if they are certainly never there at once."""
        if self.situation.comes_later(a, b):
            frees, uses = (a, b) if a.write else (b, a)
            who, after = self.roots[uses.root].routine, self.roots[frees.root].routine
            return Open(f"whether {who} may still come behind {after} is not known")
        for one, other in ((a, b), (b, a)):
            if self.situation.is_seen_to(one.root, other.root):
                who, after = self.roots[other.root].routine, self.roots[one.root].routine
                return Open(f"that {who} has ended when {after} begins {SEEN_TO}")
            if self.situation.has_waited(one, other):
                who, waited = self.roots[other.root].routine, self.roots[one.root].routine
                return Open(f"{waited} waits for {who} before, of which a run {BEGUN_AGAIN}")
        first, second = self.situation.touching(a), self.situation.touching(b)
        tried: set[object] = set()
        for _ in range(MAX_TRIES):
            pairs = [
                ((first, x), (second, y))
                for x in self.live(first)
                for y in self.live(second)
                if go_together(self.situation, (first, x), (second, y), a.data) and (x, y) not in tried
            ]
            if not pairs:
                return _NOT_MET if tried else None
            pair = pairs[0]
            if self.clear(list(pair)):
                continue
            tried.add((pair[0][1], pair[1][1]))
            runs = [self._run_beside(*pair[0], b.root), self._run_beside(*pair[1], a.root)]
            if runs[0] is not None and runs[1] is not None:
                for run, root in ((runs[0], b.root), (runs[1], a.root)):
                    if why := self._ended_by_then(run, root):
                        return Open(why)
                    if self.situation.is_lock(a.data) and (name := self._rests(run, root)):
                        return Open(
                            f"one of them comes to it where `{name}` has a value that the other may have changed"
                        )
                members = [
                    Member(self.roots[access.root], _up_to_block(run), "stands", a.data, self._mode(access))
                    for access, run in ((a, runs[0]), (b, runs[1]))
                ]
                found = self.together(members, [])
                if isinstance(found, Deadlocked):
                    return found
        return _NOT_MET

    def _run_beside(self, candidates: Candidates, tests: Tests, other: int) -> Trace | None:
        """A run to a state in which the other root may have begun: while the driver loads, it has been enabled."""
        begun = f"begun {self.roots[other].routine}"
        root = self.roots[candidates.root]
        if root.phase == LOAD and begun in root.environment.cells:
            return self.run_to(candidates, tuple(sorted({**dict(tests), begun: 1}.items())))
        return self.run_to(candidates, tests)

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


_NOT_MET = Open("no run was found in which two contexts come to it at once")


def _up_to_block(run: Trace) -> Trace:
    """A run to a place in an `atomic` block, only up to where the block begins: there others find it."""
    last = next(n for n in range(len(run.steps), 0, -1) if n == 1 or not run.steps[n - 1].joined)
    return replace(run, steps=run.steps[:last])


class _Strict:
    """The strict order: which locks are taken while which are held, whatever the modes."""

    def __init__(self, deadlock: Deadlock) -> None:
        self.deadlock = deadlock
        while True:
            self.nesting = Nesting(deadlock.situation, deadlock.live, deadlock.lowered.program.is_doubtful)
            asked = len(deadlock.rounds)
            for candidates, subject in self.nesting.subjects():
                for tests in deadlock.live(candidates):
                    deadlock.split(candidates, tests, subject)
                deadlock.ask([deadlock.situation.question(candidates, tests) for tests in deadlock.live(candidates)])
            if len(deadlock.rounds) == asked:
                break

    def decide(self, positions: list[int]) -> Finding:
        doubtful = False
        for number in positions:
            for lock in self.nesting.against(number):
                doubtful = True
                run = self._run(number, lock)
                if run is not None and self._comes_back(number, lock):
                    position = self.deadlock.facts.positions[number]
                    member = Member(
                        self.deadlock.roots[position.root], run, "waits", position.wanted, mode_of(position)
                    )
                    return self.deadlock.together([member], [])
        return Open("whether the locks are taken in this order is not known") if doubtful else Ranked(True)

    def _run(self, number: int, lock: str) -> Trace | None:
        """A run that comes to a position with a lock held; None where it is not known whether that is a wait."""
        if not self.nesting.is_certain(number, lock):
            return None
        candidates = self.deadlock.situation.waiting(self.deadlock.facts.positions[number])
        holding = (t for t in self.deadlock.live(candidates) if dict(known_holds(candidates, t)).get(lock))
        return next((run for tests in holding if (run := self.deadlock.run_to(candidates, tests)) is not None), None)

    def _comes_back(self, number: int, lock: str) -> bool:
        """Whether runs take the lock after the one of a position, each of them one more lock on the way."""
        wanted = self.deadlock.facts.positions
        reached, pending = {wanted[number].wanted}, [wanted[number].wanted]
        while pending and lock not in reached:
            held = pending.pop()
            for other in self.nesting.possible:
                following = wanted[other].wanted
                if following not in reached and held in self.nesting.against(other) and self._run(other, held):
                    reached.add(following)
                    pending.append(following)
        return lock in reached


__all__ = ["Confirm", "Deadlock", "Deadlocked", "Excluded", "Finding", "Ranked"]
