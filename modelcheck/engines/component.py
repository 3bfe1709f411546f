"""One cyclic component of the order: whether contexts can wait for each other along it.

A shortest ring is tried at once. Where runs to its places do not go together, states are told apart and the formula
of all rings (`mutual.cycles`) is asked, until it has none, or one with runs that do.
"""

from __future__ import annotations

import itertools

import z3

from modelcheck.engines.analyse import Open
from modelcheck.engines.finding import MORE_DEVICES, NO_RING, Deadlocked, Excluded, Finding
from modelcheck.engines.meeting import Meeting
from modelcheck.engines.short import ShortRings
from modelcheck.engines.shown import Shown
from modelcheck.mutual.cycles import Formula, formula, link_name
from modelcheck.mutual.positions import EXCLUSIVE, MAY_BE_FREE, SHARED
from modelcheck.mutual.questions import Question
from modelcheck.mutual.rings import Rings
from modelcheck.mutual.situation import known_holds
from modelcheck.verdict import Property, Trace

MAX_RINGS = 4
"""Rings of one component for which a run is looked for."""
MAX_TRIES = 16
"""How often states are told apart, or rings tried, for one obligation."""
MAX_STARTS, MAX_SHORT = 40, 4
"""Links of an obligation from which a shortest ring is looked for, and how many of these rings are tried."""


class Component:
    """One component of the order: its rings, told apart as far as was needed."""

    def __init__(self, meeting: Meeting, findings: dict[int, Finding], number: int) -> None:
        self.meeting = meeting
        self.findings = findings
        self.number = number
        self.first: dict[tuple[frozenset[int], bool], list[list[int]]] = {}
        self.wished: set[frozenset[int]] = set()
        """Rings, by their links, whose questions were given: the same one goes through many positions."""
        self.longer: dict[int, Finding] = {}
        """Deadlocks of obligations through which there may be a shorter ring."""
        self._renew()

    def _renew(self) -> None:
        """Makes the rings again, with the states as far as they are told apart now."""
        self.told = self.meeting.told
        self.rings = Rings(self.meeting.situation, self.number, self.meeting.live)
        self.leaving: dict[tuple[str, str], list[int]] = {}
        for number, link in enumerate(self.rings.links):
            self.leaving.setdefault(link.source, []).append(number)
        self.formula: Formula | None = None
        self.short = ShortRings(self.rings.ring, self.leaving)
        doubtful = self.meeting.lowered.program.is_doubtful
        self.doubtful = frozenset(n for n, link in enumerate(self.rings.links) if doubtful(link.target[0]))
        """The links whose wait is perhaps none: rings without them come first."""
        self.empty: Excluded | bool = False
        """Why there is no ring at all; True: there is one, False: not asked yet."""
        self.first.clear()
        self.wished.clear()

    def _formulate(self) -> Formula:
        """The formula, which the solver has then; made when it is first asked."""
        if self.formula is not None:
            return self.formula
        made = self.formula = formula(self.rings.ring)
        self.terms: dict[int, z3.BoolRef] = {}
        self.solver = z3.SolverFor("QF_FD")
        self.solver.set("timeout", self.meeting.limits.milliseconds)
        self.solver.from_string("\n".join(made.lines))
        return made

    def wishes(self, positions: set[int], direct: bool) -> list[Question]:
        """The questions whose answers show a shortest ring through the positions, or that it is none, if they were not
        given before."""
        for ring in self._shortest(positions, direct)[:1]:
            if frozenset(ring) not in self.wished:
                self.wished.add(frozenset(ring))
                return list(self._asked(ring).values()) if self._possible(ring) else []
        return []

    def _shortest(self, positions: set[int], direct: bool) -> list[list[int]]:
        key = (frozenset(positions), direct)
        if key not in self.first:
            self.first[key] = self._short_rings(self.rings.about(positions, direct))
        return self.first[key]

    def _short_rings(self, starts: list[int]) -> list[list[int]]:
        """Shortest rings through some links, those first of which it is known that everybody in them waits."""
        found: dict[tuple[int, ...], None] = {}
        for barred in dict.fromkeys((self.doubtful, frozenset[int]())):
            rings = (self.short.whatever_held(n, barred) for n in starts[:MAX_STARTS] if n not in barred)
            found.update(dict.fromkeys(tuple(ring) for ring in sorted(filter(None, rings), key=len)[:MAX_SHORT]))
        return [list(ring) for ring in found]

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
                    found[stand] = self.meeting.situation.question(candidates, tuple(sorted(known.items())))
        return found

    def _at_once(self, positions: set[int], direct: bool) -> Deadlocked | None:
        """A deadlock along one of the shortest rings, if runs to its places go together just so."""
        for ring in self._shortest(positions, direct):
            if not self._possible(ring):
                continue
            asked = self._asked(ring)
            self.meeting.ask(list(asked.values()))
            runs = {stand: run for stand, q in asked.items() if isinstance(run := self.meeting.known[q], Trace)}
            if len(runs) == len(asked) and self._compatible(runs):
                finding = Shown(self.meeting, self.rings, runs).show(ring)
                if isinstance(finding, Deadlocked):
                    self._blame(ring, finding)
                    return finding
        return None

    def _possible(self, ring: list[int]) -> bool:
        """Whether the stands of a ring go together, as far as is known without runs."""
        links = [self.rings.links[number] for number in ring]
        stands = dict.fromkeys(n for link in links for n in (link.stand, link.ground) if n >= 0)
        held: dict[str, int] = {}
        values: dict[str, int] = {}
        for candidates, tests in (self.rings.states[n] for n in stands):
            for lock, mask in known_holds(candidates, tests):
                if not mask & MAY_BE_FREE:
                    if lock in held and EXCLUSIVE in (mask, held[lock]):
                        return False
                    held[lock] = mask
            for name, value in self.meeting.situation.steady(candidates, tests).items() if tests else ():
                if values.setdefault(name, value) != value:
                    return False
        return self._overlapping([self.rings.states[n][0].root for n in stands])

    def _overlapping(self, roots: list[int]) -> bool:
        """Whether contexts of these roots can be there at once."""
        overlap = self.meeting.situation.overlap
        kinds: dict[object, list[int]] = {}
        for root in roots:
            kinds.setdefault(overlap.meeting(root), []).append(root)
        ones = [members[0] for members in kinds.values()]
        return all(overlap.meet(one, other) for one, other in itertools.combinations(ones, 2)) and all(
            len(members) < 2 or overlap.meet(members[0], members[1]) for members in kinds.values()
        )

    def _compatible(self, runs: dict[int, Trace]) -> bool:
        """Whether contexts that ran like that can be at their places at once."""
        overlap, states = self.meeting.situation.overlap, self.rings.states
        there = [states[stand][0] for stand in runs]
        return (
            self._overlapping([one.root for one in there])
            and all(overlap.started(one.root, one.sites, other.root) for one in there for other in there)
            and self.meeting.end_together((states[stand], run) for stand, run in runs.items())
        )

    def decide(self, obligation: int, positions: set[int], direct: bool) -> Finding:
        """What comes of an obligation; the deadlock of a longer ring where no run along a shorter one is found."""
        found = self._decide(positions, direct)
        return found if isinstance(found, Deadlocked) else self.longer.get(obligation, found)

    def _decide(self, positions: set[int], direct: bool) -> Finding:
        found = self._at_once(positions, direct)
        if found is not None:
            return found
        banned: list[frozenset[object]] = []
        reason = "no run was found that leads to the deadlock"
        for _ in range(MAX_TRIES):
            if self.told != self.meeting.told:
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
            known = {n: self.meeting.known[self.meeting.situation.question(*self.rings.states[n])] for n in stands}
            runs = {n: run for n, run in known.items() if isinstance(run, Trace)}
            finding = Shown(self.meeting, self.rings, runs).show(answer)
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
        before = self.meeting.told
        for number in ring:
            link = self.rings.links[number]
            holder = link.stand if link.ground < 0 else link.ground
            if link.source[1] in ("x", "s"):
                self.meeting.split(*self.rings.states[holder], f"hold {link.source[0]}")
        if self.meeting.told != before:
            return True
        links = [self.rings.links[number] for number in ring]
        stands = dict.fromkeys(n for link in links for n in (link.stand, link.ground) if n >= 0)
        if self.meeting.clear([self.rings.states[n] for n in stands]):
            self.told = -1
            return True
        return False

    def _blame(self, ring: list[int], finding: Deadlocked) -> None:
        """Every acquisition of the ring waits for ever, if all are waits for certain. Where a shorter ring goes through
        one, that is tried first."""
        if not self.doubtful.isdisjoint(ring):
            return
        for link in ring:
            number = self.rings.position_of[self.rings.links[link].stand]
            position = self.meeting.facts.positions[number]
            for obligation in position.obligations:
                if self.meeting.lowered.obligations[obligation].code is Property.D01:
                    own = self._shortest({number}, False)
                    known = self.findings if not own or len(own[0]) >= len(ring) else self.longer
                    known.setdefault(obligation, finding)

    def _ask(self, links: list[int], banned: list[frozenset[object]]) -> Excluded | Open | list[int]:
        """A ring with one of these links in it; excluded, with the reasons, where there is none."""
        if not links:
            return Excluded(self.number, (NO_RING,))
        if not isinstance(self.empty, Excluded):
            ring = self._short(links, banned)
            if ring is not None:
                self.empty = True
                return ring
        made = self._formulate()
        solver = self.solver
        if self.empty is False:
            solver.push()
            whole = self._any(list(range(len(self.rings.links))), made)
            solver.pop()
            self.empty = whole if isinstance(whole, Excluded) else True
        if isinstance(self.empty, Excluded):
            return self.empty
        solver.push()
        if banned:
            numbers = {self._key(n): n for n in range(len(self.rings.links))}
            for keys in banned:
                if keys <= numbers.keys():
                    solver.add(z3.Not(z3.And([self._chosen(numbers[k]) for k in keys])))
        try:
            return self._certain(links, made) or self._any(links, made)
        finally:
            solver.pop()

    def _short(self, links: list[int], banned: list[frozenset[object]]) -> list[int] | None:
        """A shortest ring through one of the links whose stands go together, first of those in which everybody waits
        for certain."""
        for barred in dict.fromkeys((self.doubtful, frozenset[int]())):
            ring = self.short.through(links[:MAX_STARTS], barred)
            if ring is not None and frozenset(map(self._key, ring)) not in banned:
                return ring
        return None

    def _certain(self, links: list[int], made: Formula) -> list[int] | None:
        """A ring in which everybody waits for certain, where others are possible too."""
        if not self.doubtful:
            return None
        self.solver.push()
        try:
            for number in sorted(self.doubtful):
                self.solver.add(z3.Not(self._chosen(number)))
            answer = self._any(links, made)
        finally:
            self.solver.pop()
        return answer if isinstance(answer, list) else None

    def _chosen(self, number: int) -> z3.BoolRef:
        """That a link is chosen, as a term."""
        known = self.terms.get(number)
        if known is None:
            known = self.terms[number] = z3.Bool(link_name(number))
        return known

    def _any(self, links: list[int], made: Formula) -> Excluded | Open | list[int]:
        self.solver.add(z3.Or([self._chosen(n) for n in links]))
        answer = self.solver.check(*map(z3.Bool, made.reasons))
        if answer == z3.sat:
            return self._ring_in(self.solver.model(), links)
        if answer == z3.unsat and made.loose:
            answer = self.solver.check(*map(z3.Bool, made.firm))
            if answer == z3.sat:
                return Open(MORE_DEVICES)
        if answer == z3.unsat:
            words = tuple(sorted(self._words(made.reasons[str(c)]) for c in self.solver.unsat_core()))
            return Excluded(self.number, words or (NO_RING,))
        return Open(f"Z3 gave no answer on the cycle ({self.solver.reason_unknown()})")

    def _ring_in(self, model: z3.ModelRef, wanted: list[int]) -> list[int]:
        """The ring of a model that has one of the wanted links in it. Of the many links only those on the way are
        looked at."""
        links = self.rings.links

        def chosen(number: int) -> bool:
            return bool(z3.is_true(model.eval(self._chosen(number))))

        ring = [next(n for n in sorted(wanted) if chosen(n))]
        while links[ring[-1]].target != links[ring[0]].source:
            ring.append(next(n for n in reversed(self.leaving[links[ring[-1]].target]) if chosen(n)))
        return ring

    def _words(self, reason: str) -> str:
        kind, *numbers = reason.split(" ")
        roots = self.meeting.roots
        if kind == "apart":
            return f"{roots[int(numbers[0])].routine} and {roots[int(numbers[1])].routine} never overlap"
        if kind == "kept_off":
            return f"{roots[int(numbers[0])].routine} and {roots[int(numbers[1])].routine} are never on one device"
        if kind == "single":
            return f"{roots[int(numbers[0])].routine} runs once at a time"
        return reason
