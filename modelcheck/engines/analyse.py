"""From obligations to verdicts: fixpoint, alarms, paths, refinement, until each alarm is real or gone.

First no variable is followed. Where there are alarms, `correlation` guesses which variables could help. Of an alarm
that remains, Z3 decides whether its shortest path is possible, and if not, names the variables to follow. What no
longer alarms is proposed as proved, with the fixpoint's tables as invariant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TypeAlias

from modelcheck.blocks import Sets
from modelcheck.engines import merge, spacer
from modelcheck.engines.arrive import Cases, meetings
from modelcheck.engines.correlation import FIRST, Geometry, counted_by, suspects
from modelcheck.engines.fixpoint import Activation, Fixpoint, Prepared
from modelcheck.engines.paths import Move, Paths
from modelcheck.engines.refine import Feasible, Infeasible, Models, decide
from modelcheck.engines.transfer import GaveUp, Plan, Shape, Ways
from modelcheck.invariant import (
    Base,
    BlockInvariant,
    FormulaInvariant,
    Invariant,
    Lives,
    Table,
    lives_from,
    starts_of,
)
from modelcheck.ir import FREED, INITIALISED, RUN, UNINITIALISED, Cell, Root, Sort
from modelcheck.layout import used_cells
from modelcheck.lower import Lowered, every_graph, frames
from modelcheck.mutual.positions import Facts
from modelcheck.mutual.questions import Question
from modelcheck.mutual.situation import Situation
from modelcheck.record import dataclass, field, replace
from modelcheck.system import NotFlat, System
from modelcheck.verdict import MUTUAL, Property, Trace

MERGE_MILLISECONDS = 10_000
"""For the path-merged queries of one root and level."""
MAX_RANGE = 1_000
"""Wider variables are not for bit-vectors."""
MAX_TRACKED = 40
"""Variables that one obligation may ask for."""
MAX_ROUNDS = 60
MAX_GUESSES = 6
"""Rounds after which nothing is guessed any more."""
STEPS_PER_EDGE = 400
LEAST_STEPS = 200_000
"""Fixpoint steps for each edge, and for however few of them, where there are smaller groups to fall back on."""
LOOSE_STEPS = 1_000_000
LOOSE_ROUNDS = 3
"""Where saved levels are followed only as they are asked for."""


LIFE = {UNINITIALISED: "not initialised", INITIALISED: "initialised", FREED: "freed"}


@dataclass(frozen=True, slots=True)
class Limits:
    """`steps`: fixpoint steps for each analysis. `milliseconds`: for each question to Z3. `horn_seconds`, `horn_total`:
    for Spacer on one obligation, on all of them."""

    steps: int = 50_000_000
    milliseconds: int = 60_000
    horn_seconds: float = 20.0
    horn_total: float = 120.0


@dataclass(frozen=True, slots=True)
class Held:
    """Proposed as proved by an invariant: its number, or -1 - the number of one in formulas. `reached` False when
    nothing comes there."""

    invariant: int
    reached: bool


@dataclass(frozen=True, slots=True)
class Broken:
    trace: Trace
    root: Root


@dataclass(frozen=True, slots=True)
class Open:
    """Not decided. `hopeful`: another engine may decide it."""

    reason: str
    hopeful: bool = False


Decision: TypeAlias = Held | Broken | Open


@dataclass(slots=True)
class Analysis:
    """Decides the obligations of a lowered driver. `invariants` grow as they are needed."""

    lowered: Lowered
    limits: Limits
    invariants: list[Invariant] = field(default_factory=list)
    formulas: list[FormulaInvariant | BlockInvariant] = field(default_factory=list)
    decisions: dict[int, Decision] = field(default_factory=dict)
    lives: dict[Root, Lives] = field(default_factory=dict)
    base: Base | None = None
    """Where contexts wait is read off it. None: the fixpoint gave up."""
    read: tuple[Base, Facts, Cases, Situation] | None = None
    """What was read off the base."""
    shapes: dict[Shape, Ways] = field(default_factory=dict)
    """What operations do, for whichever fixpoint."""
    models: Models = field(default_factory=dict)
    """How paths were found to be possible."""
    only: frozenset[str] = frozenset()
    """The properties that are asked for; empty: all."""
    loosens: bool = True
    """Whether groups that are too much are tried without all saved levels."""
    _roots: dict[int, tuple[Root, ...]] = field(default_factory=dict)
    _strangers: dict[tuple[Root, ...], str] = field(default_factory=dict)
    """The callees of roots that no model knows, in words."""
    _ends: dict[Root, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    _prepared: Prepared | None = None
    _joins: Geometry = field(default_factory=dict)

    @property
    def held(self) -> frozenset[int]:
        """The obligations found to hold; evidence has still to confirm it."""
        return frozenset(number for number, decision in self.decisions.items() if isinstance(decision, Held))

    def run(self) -> None:
        self._roots = _roots_of(self.lowered)
        self._phases()
        for invariant in self.invariants:
            if any(invariant.lives[root] != self.lives[root] for root in invariant.roots):
                invariant.obligations = frozenset()  # made before it was known how locks can start
        wanted = set(range(len(self.lowered.obligations))) - set(self.lowered.facts) - self.lowered.questions
        wanted |= set(self.lowered.ledger.timing.values())
        wanted -= {n for n, o in enumerate(self.lowered.obligations) if o.code in MUTUAL}
        if self.only and not self.only & MUTUAL:  # what several contexts do rests on what each of them does
            wanted = {n for n in wanted if self.lowered.obligations[n].code in self.only}
        wanted &= set(self._roots)  # what no root comes to is not proved by that: it has no decision
        self.decide(wanted, self._sketch())
        self._find_base()
        self._last_resort()
        self._confirm_lives()
        self._confirm_early()

    def answers(
        self, questions: Sequence[Question], numbers: Sequence[int], lives: Mapping[Root, Lives] | None = None
    ) -> Analysis:
        """What comes of questions that are in the graphs, with their numbers: `Held` that a state is never met,
        `Broken` with a run that comes there. `lives`: with which lives of locks roots start, if not as found."""
        inner = Analysis(self.lowered, self.limits, shapes=self.shapes, models=self.models, loosens=False)
        inner.lives = self.lives if lives is None else {**self.lives, **lives}
        by_root: dict[Root, set[int]] = {}
        for question, number in zip(questions, numbers, strict=True):
            inner._roots[number] = (question.root,)
            by_root.setdefault(question.root, set()).add(number)
        for wanted in by_root.values():
            inner.decide(wanted)
        return inner

    def _confirm_lives(self) -> None:
        """Takes back what rests on how earlier phases leave a lock, where no run of anybody is known that does."""
        first: dict[tuple[str, int], int] = {}
        questions: dict[tuple[str, int], list[int]] = {}
        for root in self.lowered.roots:
            for left, number in root.outcomes.items():
                first[left] = min(root.phase, first.get(left, root.phase))
                questions.setdefault(left, []).append(number)
        resting: dict[int, list[tuple[str, int]]] = {}
        """For each decision, by identity, how it needs locks to be left by earlier phases."""
        pending: list[tuple[int, Broken]] = []
        for number, decision in self._broken():
            root = decision.root
            if id(decision) not in resting:
                starts = ((choice.name, choice.value) for choice in decision.trace.start)
                resting[id(decision)] = [
                    (name, value)
                    for name, value in starts
                    if first.get((name, value), RUN) < min(root.phase, RUN) and value not in root.early.get(name, ())
                ]
            if resting[id(decision)]:
                pending.append((number, decision))
        while True:  # what is taken back here may be what others rest on
            runs = {left for left, asked in questions.items() if any(_is_run(self.decisions.get(n)) for n in asked)}
            kept = []
            for number, decision in pending:
                missing = next((left for left in resting[id(decision)] if left not in runs), None)
                if missing is None:
                    kept.append((number, decision))
                    continue
                lock = f"{missing[0].removeprefix('life ')} is {LIFE[missing[1]]}"
                self.decisions[number] = Open(f"whether {lock} when {decision.root.routine} starts is not known")
            if len(kept) == len(pending):
                return
            pending = kept

    def _confirm_early(self) -> None:
        """Takes back what rests on how a lock is while an earlier phase lasts, where no run of that phase is known in
        which it is so when the root may start."""
        resting: dict[tuple[Root, str, int], list[int]] = {}
        for number, decision in self._broken():
            if decision.root.early:
                settled = self._start(decision.root)
                for choice in decision.trace.start:
                    if choice.name in decision.root.early and choice.value not in settled[choice.name]:
                        resting.setdefault((decision.root, choice.name, choice.value), []).append(number)
        for (root, name, value), numbers in resting.items():
            if not any(isinstance(self.decisions[n], Broken) for n in root.early[name].get(value, ())):
                lock = f"{name.removeprefix('life ')} is {LIFE[value]}"
                when = "in a phase before its own"
                if name in root.resumed:
                    when = "when its device was stopped and goes on"
                reason = f"whether {root.routine} can run while {lock}, {when}, is not known"
                self.decisions.update(dict.fromkeys(numbers, Open(reason)))

    def _broken(self) -> list[tuple[int, Broken]]:
        """What was found to be broken, by the number of the obligation."""
        found = [(number, decision) for number, decision in self.decisions.items() if isinstance(decision, Broken)]
        return sorted(found, key=lambda pair: pair[0])

    def _sketch(self) -> frozenset[Cell]:
        """What to follow from the beginning, guessed from how each routine goes by itself."""
        edges = sum(len(graph.edges) for graph in every_graph([root.graph for root in self.lowered.roots]))
        fixpoint = Fixpoint(self.lowered.roots, frozenset(), STEPS_PER_EDGE * edges, self.shapes)
        self._prepared = fixpoint.prepared
        try:
            for root in self.lowered.roots:
                fixpoint.sketch(root, self.lives[root])
        except GaveUp:
            return frozenset()
        return suspects(fixpoint, fixpoint.alarms, self._joins, FIRST)

    def _find_base(self) -> None:
        """For each root the invariant that follows most of what obligations asked for, besides all saved levels. If
        contexts may meet in ways that speak against an order of the locks, once more all together where one follows
        less than that."""
        kept = [invariant for invariant in self.invariants if not invariant.loose]
        current = [i for i in kept if all(i.lives[root] == self.lives[root] for root in i.roots)]
        asked = frozenset(cell for invariant in current for cell in invariant.tracked)
        base: dict[Root, Invariant] = {}
        short: list[Root] = []
        touched = frames([root.graph for root in self.lowered.roots])
        for root in self.lowered.roots:
            useful = asked & touched[root.graph].union(*(graph.locals for graph in every_graph([root.graph])))
            made = [i for i in current if root in i.starts]
            if made:
                base[root] = max(made, key=lambda i: len(useful & i.tracked))
            if not made or useful - base[root].tracked:
                short.append(root)
        if len(base) == len(self.lowered.roots):
            self.base = base
            if not short or self._is_ordered(base):
                return
        for tracked in dict.fromkeys((asked, frozenset(c for c in asked if not c.is_global), frozenset[Cell]())):
            made_now = self._whole(short, tracked)
            if made_now is not None:
                self.base = base | dict.fromkeys(short, made_now)
                return

    def _is_ordered(self, base: Base) -> bool:
        """Whether nothing that is read off the invariants speaks against an order of the locks."""
        read = meetings(base, self.lowered)
        self.read = (base, *read)
        found, _, situation = read
        return not situation.parts and not any(found.ending)

    def _whole(self, roots: list[Root], tracked: frozenset[Cell]) -> Invariant | None:
        """An invariant of these roots with these variables followed, if that is not too much."""
        edges = sum(len(graph.edges) for graph in every_graph([root.graph for root in roots]))
        steps = min(self.limits.steps, STEPS_PER_EDGE * edges) if tracked else self.limits.steps
        fixpoint = Fixpoint(roots, tracked, steps, self.shapes)
        try:
            for root in roots:
                fixpoint.run(root, self.lives[root])
        except GaveUp:
            return None
        made = _invariant(fixpoint, self.lives, frozenset())
        self.invariants.append(made)
        return made

    def _last_resort(self) -> None:
        """Path-merged queries and then Spacer, for what the tables could not decide."""
        self._merge()
        hopeful = self._hopeful()
        deadline = monotonic() + self.limits.horn_total
        for number in hopeful:
            left = deadline - monotonic()
            found: FormulaInvariant | str = f"Spacer's {self.limits.horn_total:g} s were used up by other obligations"
            if left > 1:
                found = self._formulas(number, min(left, self.limits.horn_seconds))
            if isinstance(found, FormulaInvariant):
                self.decisions[number] = Held(-1 - len(self.formulas), True)
                self.formulas.append(found)
            else:
                decision = self.decisions[number]
                assert isinstance(decision, Open)
                self.decisions[number] = Open(f"{decision.reason}; {found}")

    def _hopeful(self) -> list[int]:
        """What another engine may decide. How locks are left is none of it: all that rests on it is decided already."""
        phases = self.lowered.questions.difference(self.lowered.ledger.timing.values())
        found = (n for n, decision in self.decisions.items() if isinstance(decision, Open) and decision.hopeful)
        return sorted(number for number in found if number not in phases)

    def _merge(self) -> None:
        """Proves what it can of the open obligations by path-merged queries, all with the same roots together."""
        together: dict[tuple[Root, ...], set[int]] = {}
        for number in self._hopeful():
            together.setdefault(self._roots[number], set()).add(number)
        for roots, numbers in together.items():
            found = self._blocks(roots, frozenset(numbers))
            if found is not None:
                for number in found.obligations:
                    self.decisions[number] = Held(-1 - len(self.formulas), True)
                self.formulas.append(found)

    def _blocks(self, roots: tuple[Root, ...], obligations: frozenset[int]) -> BlockInvariant | None:
        """An invariant at cut points for as many of the obligations as it proves."""
        while obligations:
            parts: list[tuple[Root, int, dict[int, Sets]]] = []
            proved = obligations
            for root in roots:
                try:
                    system = System(root, obligations, self.lives[root], bits=True)
                except NotFlat:
                    return None
                if any(cell.sort is Sort.TAINT or cell.high - cell.low > MAX_RANGE for cell, _ in system.variables):
                    return None
                for level in root.levels:
                    answer = merge.solve(system, level, min(MERGE_MILLISECONDS, self.limits.milliseconds))
                    if isinstance(answer, str):
                        return None
                    parts.append((root, level, answer[0]))
                    proved &= answer[1]
            if proved == obligations:
                return BlockInvariant(obligations, parts, {root: self.lives[root] for root in roots})
            obligations = proved  # fewer obligations need fewer variables: once more with these alone
        return None

    def _formulas(self, obligation: int, seconds: float) -> FormulaInvariant | str:
        """An invariant in formulas that proves the obligation, or why there is none."""
        parts: list[tuple[Root, tuple[str, ...]]] = []
        for root in self._roots[obligation]:
            try:
                system = System(root, frozenset({obligation}), self.lives[root])
            except NotFlat as error:
                return str(error)
            if any(place[0].sort is Sort.TAINT for place in system.variables):
                return self._after_a_stranger(obligation)
            answer = spacer.solve(system, seconds)
            if isinstance(answer, str):
                return answer
            parts.append((root, tuple(answer)))
        return FormulaInvariant(frozenset({obligation}), parts, {root: self.lives[root] for root, _ in parts})

    def _after_a_stranger(self, obligation: int) -> str:
        """Why nothing is certain of an obligation."""
        roots = self._roots.get(obligation, ())
        callees = self._strangers.get(roots)
        if callees is None:
            callees = self._strangers[roots] = self.lowered.strangers(roots)
        return f"it comes after a call of {callees}, which no model knows"

    # ---- the life of locks ----

    def _phases(self) -> None:
        """With which lives of locks each root starts: phase by phase, what the earlier ones can leave. Once more from
        the beginning where what other devices have done since comes back to earlier phases, or where somebody turns out
        to leave a lock so that a device which goes on finds it."""
        roots = self.lowered.roots
        left = {n for root in roots for n in root.outcomes.values()}
        resumed = left & {n for r in roots for early in r.early.values() for ns in early.values() for n in ns}
        while True:
            known = dict(self.lives)
            turns = sorted({(root.phase, len(root.follows), root.follows) for root in roots})
            for phase, _, follows in turns:
                self._phase([root for root in roots if root.phase == phase and root.follows == follows], resumed)
            repeated = any(root.devices for root in roots) or not resumed <= self.held
            if known == self.lives or not repeated:
                break

    def _phase(self, members: list[Root], later: set[int]) -> None:
        """The roots of one phase that follow the same roles; `later`: questions for which the time comes, until which
        the answer is taken to be never."""
        asked = {n for root in members for early in root.early.values() for ns in early.values() for n in ns}
        self._ask(asked - later)
        while members:
            before = self._start(members[0])
            never = self.held | (later - self.decisions.keys())
            self.lives.update({root: starts_of(root, before, never) for root in members})
            for root in members:
                self._end(root)
            if self._start(members[0]) == before:
                break

    def _start(self, root: Root) -> Lives:
        """The same for all roots of a phase that follow the same roles."""
        return lives_from(root, [(other, self._ends.get(other, {})) for other in self.lowered.roots])

    def _end(self, root: Root) -> None:
        if not root.outcomes:
            return
        self._ask(set(root.outcomes.values()))
        ends: dict[str, tuple[int, ...]] = {}
        for (name, value), number in sorted(root.outcomes.items()):
            if not isinstance(self.decisions[number], Held):
                ends[name] = (*ends.get(name, ()), value)
            else:
                ends.setdefault(name, ())
        self._ends[root] = ends

    def _ask(self, numbers: set[int]) -> None:
        """Decides questions, also those that were before."""
        for number in numbers:
            self.decisions.pop(number, None)
        self.decide(numbers)

    # ---- refinement ----

    def decide(self, obligations: set[int], guessed: frozenset[Cell] = frozenset()) -> None:
        """Decides these obligations. `guessed`: variables that may be worth following.

        Those that need the same shared variables form a group and share fixpoints, which follow every variable that one
        of them needs: a local variable costs only where it lives. A group that is too much for one fixpoint is split.
        """
        agenda: dict[tuple[frozenset[Cell], int], _Group] = {
            (frozenset(), 0): _Group(dict.fromkeys(obligations, frozenset()), guessed)
        }
        lanes = 0
        while agenda:
            key = min(agenda, key=lambda k: (k[1], len(k[0]), sorted(c.name for c in k[0])))
            group = agenda.pop(key)
            try:
                self._round(group)
            except GaveUp as gave_up:
                if gave_up.wanted - group.tracked() and group.guessing:
                    group.guessed |= gave_up.wanted
                    agenda[key] = group
                    continue
                parts = group.split() if group.tracked() else self._by_roots(group)
                if not parts and self.loosens and not group.loose:
                    parts = [group.loosened()]
                if not parts:
                    for number in group.needs:
                        self.decisions[number] = Open(gave_up.reason, hopeful=True)
                for part in parts:
                    lanes += 1
                    agenda[key[0], lanes] = part
                continue
            for number, needed in group.needs.items():
                lane = agenda.setdefault((_shared(needed), key[1]), replace(group, needs={}, guessed=frozenset()))
                lane.needs[number] = needed
                lane.guessed |= group.guessed
                lane.rounds = max(lane.rounds, group.rounds)

    def _by_roots(self, group: _Group) -> list[_Group]:
        """Groups of what the same roots come to, where something is too much already when nothing is followed: what one
        root does is not the others' matter. None where it is one root's alone."""
        together: dict[tuple[Root, ...], dict[int, frozenset[Cell]]] = {}
        for number, needed in group.needs.items():
            together.setdefault(self._roots.get(number, ()), {})[number] = needed
        several = together.values() if len(together) > 1 else ()
        return [replace(group, needs=needs) for needs in several]

    def _round(self, group: _Group) -> None:
        """One fixpoint; leaves in the group what is still open.

        Raises:
            GaveUp: the fixpoint has no answer.
        """
        tracked = group.tracked()
        numbers = set(group.needs)
        met = {root for roots in {self._roots.get(number, ()) for number in numbers} for root in roots}
        roots = [root for root in self.lowered.roots if root in met]
        budget = min(self.limits.steps, group.budget(roots)) if group.loose or group.split() else self.limits.steps
        fixpoint = Fixpoint(roots, tracked, budget, self.shapes, self._prepared, group.loose)
        for root in roots:
            fixpoint.run(root, self.lives[root])
        number = len(self.invariants)
        reached = _reached(fixpoint)
        held = (Held(number, False), Held(number, True))
        proved: set[int] = set()
        alarmed: list[int] = []
        for obligation in sorted(numbers):
            if obligation in fixpoint.alarms:
                alarmed.append(obligation)
            elif obligation in fixpoint.doubts:
                self.decisions[obligation] = Open(self._after_a_stranger(obligation))
            else:
                self.decisions[obligation] = held[obligation in reached]
                proved.add(obligation)
        if proved:
            self.invariants.append(_invariant(fixpoint, self.lives, frozenset(proved)))
        group.needs = {obligation: group.needs[obligation] for obligation in alarmed}
        group.rounds += 1
        if alarmed and not group.guess(fixpoint, self._joins):
            self._alarms(fixpoint, group)

    def _alarms(self, fixpoint: Fixpoint, group: _Group) -> None:
        """Decides alarms, or finds what to follow. An alarm whose path meets a variable that has just been asked for,
        and will be followed for it too, waits for the next round."""
        paths = Paths(fixpoint)
        roots = {root.graph: root for root in fixpoint.roots}
        found: dict[frozenset[Cell], set[Cell]] = {}
        possible: dict[tuple[Activation, Plan, int], Decision] = {}
        for obligation, needed in list(group.needs.items()):
            if obligation in self.lowered.questions:
                known = _answered(fixpoint, obligation, possible)
                if known is not None:
                    self.decisions[obligation] = known
                    del group.needs[obligation]
                    continue
            if self.lowered.obligations[obligation].code is Property.C04:
                counted = counted_by(fixpoint, obligation)
                if counted:
                    group.needs[obligation] = needed | counted
                    continue
            moves, alarm = paths.shortest(fixpoint.alarms[obligation])
            new = found.get(_shared(needed))
            if new and any(cell in new for move in moves for cell in move.plan.edge.cells):
                continue
            root = roots[moves[0].plan.layout.graph]
            more = self._alarm(fixpoint, root, moves, obligation)
            if more and len(needed | more) <= MAX_TRACKED and group.rounds <= group.most_rounds:
                group.needs[obligation] = needed | more
                found.setdefault(_shared(needed | more), set()).update(more - fixpoint.tracked)
                continue
            if more:
                self.decisions[obligation] = Open("too many variables decide here together", hopeful=True)
            if isinstance(self.decisions[obligation], Broken):
                possible[alarm.activation, alarm.plan, alarm.key] = self.decisions[obligation]
            del group.needs[obligation]

    def _alarm(self, fixpoint: Fixpoint, root: Root, moves: list[Move], obligation: int) -> frozenset[Cell]:
        """Decides an alarm, or gives what to follow."""
        tracked = fixpoint.tracked
        lives, settled = self.lives[root], self._start(root) if root.early else {}
        limit = self.limits.milliseconds
        answer = decide(self.lowered, root, lives, moves, obligation, tracked, limit, settled, self.models)
        match answer:
            case Feasible(trace):
                self.decisions[obligation] = Broken(trace, root)
            case Infeasible(cells):
                new = _unknown(cells - tracked, moves)
                more = new | cells & tracked if new else _looked_at(moves, fixpoint)
                if more:
                    return more
                self.decisions[obligation] = Open("the abstraction cannot tell the paths apart", hopeful=True)
            case _:
                self.decisions[obligation] = Open(answer.reason)
        return frozenset()


def _is_run(decision: Decision | None) -> bool:
    return isinstance(decision, Broken)


def _shared(needed: frozenset[Cell]) -> frozenset[Cell]:
    """What obligations have in common that are decided together."""
    return frozenset(cell for cell in needed if cell.is_global)


@dataclass(slots=True)
class _Group:
    """Obligations that share a fixpoint. `needs`: the variables each asked for. `guessed`: more that may help, unless
    `guessing` turned out to be too much. `loose`: saved levels, too, are followed only as they are asked for."""

    needs: dict[int, frozenset[Cell]]
    guessed: frozenset[Cell] = frozenset()
    guessing: bool = True
    rounds: int = 0
    most_rounds: int = MAX_ROUNDS
    loose: bool = False

    def tracked(self) -> frozenset[Cell]:
        return self.guessed.union(*self.needs.values())

    def guess(self, fixpoint: Fixpoint, joins: Geometry) -> bool:
        """Whether there is something new to follow without asking Z3."""
        guessing = self.guessing and self.rounds <= MAX_GUESSES
        more = suspects(fixpoint, self.needs, joins) if guessing else frozenset()
        self.guessed |= more
        return bool(more)

    def split(self) -> list[_Group]:
        """Smaller groups: without guesses, then with fewer needs at once; none when there is only one need."""
        if self.guessed:
            return [replace(self, guessed=frozenset(), guessing=False)]
        different = list(dict.fromkeys(self.needs.values()))
        if len(different) < 2:
            return []
        first = set(different[: len(different) // 2])
        halves = (
            {n: needed for n, needed in self.needs.items() if needed in first},
            {n: needed for n, needed in self.needs.items() if needed not in first},
        )
        return [replace(self, needs=half, guessing=False) for half in halves]

    def loosened(self) -> _Group:
        """The same, where it is too much to follow all saved levels."""
        return replace(self, guessing=False, loose=True, most_rounds=self.rounds + LOOSE_ROUNDS)

    def budget(self, roots: list[Root]) -> int:
        """Steps for a group that can still be split, or is loose."""
        if self.loose:
            return LOOSE_STEPS
        edges = sum(len(graph.edges) for graph in every_graph([root.graph for root in roots]))
        return max(LEAST_STEPS, STEPS_PER_EDGE * edges)


def _answered(
    fixpoint: Fixpoint, question: int, possible: dict[tuple[Activation, Plan, int], Decision]
) -> Decision | None:
    """How a question was answered with another one: a run certainly comes to a state in which the cell can only be
    wrong."""
    for alarm in fixpoint.alarms[question]:
        known = possible.get((alarm.activation, alarm.plan, alarm.key))
        if known is not None:
            layout, edge = alarm.plan.layout, alarm.plan.edge
            sets = alarm.activation.table[edge.source][alarm.key]
            for check in edge.checks:
                here = check.obligation == question and check.cell in layout.sets
                if here and not check.allowed & set(layout.set_values(sets, check.cell)):
                    return known
    return None


def _unknown(cells: frozenset[Cell], moves: list[Move]) -> frozenset[Cell]:
    """Of the cells those of which nothing is known yet, if there are any: what is known of the others may be enough
    once these are followed."""
    known = {cell for move in moves for cell in (*move.plan.layout.sets, *move.plan.layout.keys)}
    return cells - known or cells


def _looked_at(moves: list[Move], fixpoint: Fixpoint) -> frozenset[Cell]:
    """Where no cell's value has to be kept to see that a path is impossible: what its last step looks at, or else all
    it looks at, and is not followed yet."""
    for part in (moves[-1:], moves):
        found = frozenset(
            cell
            for move in part
            for cell in used_cells(move.plan.edge)
            if cell not in fixpoint.tracked and cell not in move.plan.layout.keys
        )
        if found:
            return found
    return frozenset()


def _roots_of(lowered: Lowered) -> dict[int, tuple[Root, ...]]:
    """The roots from which each obligation can be met."""
    found: dict[int, tuple[Root, ...]] = {}
    for root in lowered.roots:
        numbers: dict[int, None] = {}
        for graph in every_graph([root.graph]):
            for edge in graph.edges:
                for number in edge.obligations:
                    numbers[number] = None
                for check in edge.checks:
                    numbers[check.obligation] = None
        alone = (root,)
        for number in numbers:
            found[number] = found[number] + alone if number in found else alone
    return found


def _reached(fixpoint: Fixpoint) -> set[int]:
    numbers: set[int] = set()
    for activation in fixpoint.activations.values():
        for location, plans in enumerate(activation.plans):
            for plan in plans if activation.table[location] else ():
                numbers.update(plan.edge.obligations)
                for check in plan.edge.checks:
                    numbers.add(check.obligation)
    return numbers


def _invariant(fixpoint: Fixpoint, lives: dict[Root, Lives], obligations: frozenset[int]) -> Invariant:
    """The fixpoint's tables, without anything of the engine in them."""
    tables = {a: Table(a.graph, a.layout, a.table, {}) for a in fixpoint.activations.values()}
    for activation, table in tables.items():
        for location, plans in enumerate(activation.plans):
            for plan in plans:
                if plan.edge.callee is not None:
                    for key, sets in activation.table[location].items():
                        table.calls[plan.number, key] = tables[fixpoint.callee(plan, key, sets)]
    starts = {root: [tables[a] for a in started] for root, started in fixpoint.starts.items()}
    used = {root: lives[root] for root in fixpoint.roots}
    return Invariant(
        fixpoint.roots,
        fixpoint.tracked,
        fixpoint.layouts,
        list(tables.values()),
        starts,
        used,
        obligations,
        fixpoint.loose,
    )


__all__ = ["Activation", "Analysis", "Broken", "Decision", "Held", "Limits", "Open"]
