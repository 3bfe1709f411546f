"""From a model file to a report: resolve, check, lower, analyse, certify, replay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelcheck import __version__
from modelcheck import syntax as s
from modelcheck.check import check
from modelcheck.devices import MANY, instances, number_of, plain
from modelcheck.diagnostics import Code, Diagnostic, Rejected, in_source_order, reported
from modelcheck.interpret import Environment, Failure, Machine, Player, replay_on, replay_schedule
from modelcheck.ir import CALLED_BACK, INITIALISED, Root, Sort
from modelcheck.lower import Lowered, lower
from modelcheck.lower.closed import lower_scenarios
from modelcheck.reached import unreached
from modelcheck.record import dataclass, replace
from modelcheck.report.vacuity import vacuous
from modelcheck.resolve import Program, declarations, enum_of, resolve
from modelcheck.verdict import (
    MUTUAL,
    Actor,
    Certificate,
    Choice,
    Hierarchy,
    Obligation,
    Property,
    Proved,
    Report,
    Result,
    Schedule,
    Step,
    Trace,
    Undecided,
    Verdict,
    Violated,
)

if TYPE_CHECKING:
    from modelcheck.engines.analyse import Analysis, Decision
    from modelcheck.engines.deadlock import Deadlock
    from modelcheck.evidence.certify import Checked
    from modelcheck.evidence.conditions import Pool, Query
    from modelcheck.evidence.manifest import Written
    from modelcheck.invariant import Base, BlockInvariant, FormulaInvariant, Invariant


@dataclass(frozen=True, slots=True)
class Options:
    """How to verify. `steps`: fixpoint steps for each analysis; `timeout`: seconds for each question to the solver;
    `full`: ask every certificate query by itself; `only`: the properties wanted (empty: all); `certificate`: keep the
    certificate; `strict`: also D04, the order of locks where no deadlock can come of it."""

    steps: int = 50_000_000
    timeout: float = 60.0
    full: bool = False
    only: frozenset[str] = frozenset()
    certificate: bool = False
    strict: bool = False

    @property
    def ordered(self) -> bool:
        """Whether D04 is asked for."""
        return self.strict or "D04" in self.only


NO_REPLAY = "a run was put together that does not replay, a fault of modelcheck"


class InternalError(Exception):
    """We are wrong: a counterexample that does not replay, a certificate that Z3 rejects."""


def load(path: Path) -> tuple[Program, tuple[Diagnostic, ...]]:
    """The program in a file, and warnings about it.

    Raises:
        Rejected: the model is wrong.
    """
    try:
        program = resolve(path)
    except Rejected as rejected:
        raise Rejected(reported(rejected.diagnostics)) from None
    findings = check(program)
    if any(d.code.is_error for d in findings):
        raise Rejected(reported(findings))
    return program, findings


def obligations(path: Path, strict: bool = False) -> tuple[Obligation, ...]:
    """What has to be shown about the driver in a file, in source order; D04 only if `strict`."""
    program, _ = load(path)
    lowered = lower(program)
    closed = (c.obligations[n] for c in lower_scenarios(program) for n in c.listed)
    return (*(lowered.obligations[n] for n in _listed(lowered, strict)), *closed)


def verify(
    path: Path, options: Options = Options(), loaded: tuple[Program, tuple[Diagnostic, ...]] | None = None
) -> Report:
    """Proves or refutes every obligation of the driver in a file. `loaded` is what `load` gave for it, where that has
    been asked already.

    Raises:
        Rejected: the model is wrong.
        InternalError: a counterexample does not replay.
    """
    program, findings = loaded or load(path)
    lowered = lower(program)
    from modelcheck.engines import context  # only now: a wrong model needs no solver

    context.begin()
    closed = _scenarios(program, options)
    analysis, decided = _decide(lowered, options, path, closed)
    for count in range(instances(lowered.program) + 1, MANY + 1):
        if not decided.few_devices:
            break
        more = lower(program, count)  # what depends on more devices at once may show
        other, again = _decide(more, options, path, closed)
        if again.undecided < decided.undecided:
            lowered, analysis, decided = more, other, again
    results = tuple(
        Result(lowered.obligations[n], decided.verdicts[n])
        for n in decided.listed
        if not options.only or lowered.obligations[n].code in options.only
    )
    results += tuple(r for r in closed.results if not options.only or r.obligation.code in options.only)
    vacuity = vacuous(program, lowered.obligations, results, unreached(lowered.roots, decided.confirmed))
    warnings = reported(in_source_order([*findings, *_warnings(lowered, analysis), *vacuity]))
    unmodelled = tuple(sorted(lowered.unmodelled))
    return Report(program.driver, str(path), results, warnings, unmodelled, decided.certificate, decided.order)


def _decide(lowered: Lowered, options: Options, path: Path, closed: _Closed) -> tuple[Analysis, _Decided]:
    """What becomes of the obligations of a driver, but for those of its scenarios."""
    from modelcheck.engines.analyse import Analysis, Limits

    only = options.only if not options.certificate else frozenset()
    analysis = Analysis(lowered, Limits(options.steps, int(options.timeout * 1000)), only=only)
    analysis.run()
    return analysis, _verdicts(lowered, analysis, options, path, closed)


@dataclass(frozen=True, slots=True)
class _Closed:
    """What becomes of the scenarios of a driver, and the queries their proofs rest on."""

    results: tuple[Result, ...] = ()
    queries: tuple[Query, ...] = ()


def _scenarios(program: Program, options: Options) -> _Closed:
    """What becomes of the obligations of the scenarios, each with its evidence checked.

    Raises:
        InternalError: a schedule does not replay, or the states found are not all there are.
    """
    if not program.scenarios:
        return _Closed()
    from modelcheck.engines.scenario import Broken, Kept, Open, solve
    from modelcheck.evidence.certify import certify
    from modelcheck.evidence.closed import conditions, gap
    from modelcheck.evidence.conditions import Pool

    results: list[Result] = []
    queries: list[Query] = []
    for closed in lower_scenarios(program):
        solved, pool = solve(closed), Pool(options.full)
        proves = any(isinstance(decision, Kept) for decision in solved.decisions.values())
        trouble = gap(solved) if proves else ""
        if proves:
            conditions(solved, 0, pool)
        checked = certify(pool, int(options.timeout * 1000))
        trouble = next(iter(checked.rejected.values()), "") or trouble
        if trouble:
            raise InternalError(f"the states of the scenario `{closed.name}` are not all there are: {trouble}")
        queries += pool.queries
        played = _Played(program)
        for number in closed.listed:
            obligation = closed.obligations[number]
            match solved.decisions[number]:
                case Kept() if checked.unanswered:
                    verdict: Verdict = Undecided("Z3 did not answer all queries of the certificate in time")
                case Kept(reached):
                    verdict = Proved(f"states of {closed.name}", not reached)
                case Broken(schedule):
                    verdict = played.verdict(schedule, obligation)
                case Open(reason, states):
                    verdict = Undecided(reason, f"{states} states do not break it")
            results.append(Result(obligation, verdict))
    return _Closed(tuple(results), tuple(queries))


class _Played:
    """Replays the schedules of a scenario, each once, whatever it breaks."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.known: dict[int, tuple[Schedule, tuple[Failure, ...], Violated]] = {}
        """By identity, schedules that were replayed: all that they break, and how that is told."""

    def verdict(self, schedule: Schedule, obligation: Obligation) -> Verdict:
        """Violated, if the schedule is a run; undecided where it rests on what is not counted exactly.

        Raises:
            InternalError: it is none.
        """
        doubt = _doubt(self.program, obligation, schedule)
        if doubt is not None:
            return doubt
        known = self.known.get(id(schedule))
        if known is not None and any(failure.breaks(obligation) for failure in known[1]):
            return known[2]
        uncounted = _uncounted(choice for turn in schedule.turns for choice in turn.step.choices)
        if uncounted is not None:
            return uncounted
        outcome = replay_schedule(self.program, schedule, obligation)
        if not outcome.reproduced:
            raise InternalError(f"the schedule for {obligation.id} does not replay: {outcome.reason}")
        violated = Violated(_schedule_in_words(self.program, schedule), replayed=True)
        self.known[id(schedule)] = (schedule, outcome.failures, violated)
        return violated


def _doubt(program: Program, obligation: Obligation, schedule: Schedule | None = None) -> Undecided | None:
    """What is broken by a wait of which it is not known whether it is one, is not decided."""
    asked = [obligation.subject] if obligation.code in (Property.B01, Property.D04) else []
    asked += [] if schedule is None else [wait.subject for wait in schedule.waits]
    lock = next(filter(program.is_doubtful, asked), None)
    if lock is None:
        return None
    return Undecided(f"whether {lock} is really waited for is not known: the model does not say which object is meant")


def _uncounted(choices: Iterable[Choice]) -> Undecided | None:
    """What rests on a count beyond those that are told apart, or on what a call-out does, is not decided."""
    for choice in choices:
        if choice.name.startswith(("count ", "counter ")):
            return Undecided(f"it depends on how often exactly ({choice.name}), which is not counted that far")
        if choice.name.startswith(CALLED_BACK):
            name = choice.name.removeprefix(CALLED_BACK)
            return Undecided(f"it depends on what a call-out that comes back writes to `{name}`, which is not followed")
    return None


def _schedule_in_words(program: Program, schedule: Schedule) -> Schedule:
    """The schedule with values as the model writes them."""
    actors = tuple(replace(a, start=tuple(_shown(program, c) for c in a.start)) for a in schedule.actors)
    turns = tuple(replace(t, step=replace(t.step, choices=_shown_in(program, t.step))) for t in schedule.turns)
    return replace(schedule, actors=actors, turns=turns)


def _listed(lowered: Lowered, strict: bool) -> list[int]:
    """The user's obligations, in source order."""
    numbers = [
        n
        for n, o in enumerate(lowered.obligations)
        if n not in lowered.questions and (strict or o.code is not Property.D04)
    ]
    names = {source: index for index, source in enumerate(lowered.program.sources)}

    def place(number: int) -> tuple[object, ...]:
        o = lowered.obligations[number]
        return (names.get(o.span.source, 0), o.span.start, o.code, o.routine, o.subject, o.why)

    return sorted(numbers, key=place)


@dataclass(frozen=True, slots=True)
class _Decided:
    """The obligations of the user, with a verdict for each, its evidence checked; the certificate if it is wanted; the
    order of the locks; the invariants that Z3 confirmed."""

    listed: list[int]
    verdicts: dict[int, Verdict]
    certificate: Certificate | None
    order: Hierarchy | None
    confirmed: tuple[Invariant, ...]
    few_devices: bool
    """Whether something about several contexts is open that can depend on how many devices there are."""

    @property
    def undecided(self) -> int:
        return sum(isinstance(verdict, Undecided) for verdict in self.verdicts.values())


def _verdicts(lowered: Lowered, analysis: Analysis, options: Options, path: Path, closed: _Closed) -> _Decided:
    from modelcheck.engines.analyse import Broken, Held, Open
    from modelcheck.evidence.certify import certify, script
    from modelcheck.evidence.manifest import write

    pool = _pool(lowered, analysis, analysis.formulas, options.full)
    checked = _doubted(certify(pool, int(options.timeout * 1000)), lowered, analysis)
    replays, timing = _Replays(lowered, analysis), lowered.ledger.timing
    verdicts: dict[int, Verdict] = {}
    listed = _listed(lowered, options.ordered)
    for number in listed:
        obligation = lowered.obligations[number]
        if obligation.code in MUTUAL:
            continue
        if number in lowered.facts:
            verdicts[number] = _fact(obligation, lowered.facts[number])
            continue
        match analysis.decisions.get(number):
            case Held() if number in timing and not _confirmed(checked, analysis.decisions.get(timing[number])):
                callees = ", ".join(f"`{name}`" for name in sorted(lowered.ledger.untimed))
                verdicts[number] = Undecided(f"the time that {callees} can take is not known")
            case Held(invariant_number, reached):
                verdicts[number] = _proved(checked, obligation, invariant_number, reached)
            case Broken(trace, root):
                verdicts[number] = replays.verdict(obligation, trace, root)
            case Open(reason):
                verdicts[number] = Undecided(reason)
            case None:
                verdicts[number] = Undecided("nothing starts or calls this")
    meetings = _Meetings(lowered, analysis, options, replays, checked, _proved_of(verdicts))
    asked = options.only if options.only and not options.certificate else MUTUAL
    if asked & MUTUAL:
        asked |= _WAITS  # who sets an event has to come to it; the hierarchy rests on all of them
    wanted = [n for n in listed if lowered.obligations[n].code in MUTUAL and lowered.obligations[n].code in asked]
    verdicts |= meetings.verdicts(wanted)
    order = meetings.hierarchy(verdicts)
    doubtful = {*checked.rejected, *checked.unanswered}
    confirmed = tuple(
        invariant
        for n, invariant in enumerate(analysis.invariants)
        if n not in doubtful and all(invariant.lives[root] == analysis.lives[root] for root in invariant.roots)
    )
    few = any(root.devices for root in lowered.roots) and any(isinstance(verdicts[n], Undecided) for n in wanted)
    if not options.certificate:
        return _Decided(listed, verdicts, None, order, confirmed, few)
    good = [f for n, f in enumerate(analysis.formulas) if -1 - n not in doubtful]
    pool = _pool(lowered, analysis, good, full=False)
    meetings.add_to(pool, verdicts)
    for query in closed.queries:
        pool.add(query, -1)
    text = script(pool)
    claims = [(lowered.obligations[n], _WORDS[type(verdict)]) for n, verdict in sorted(verdicts.items())]
    claims += [(result.obligation, _WORDS[type(result.verdict)]) for result in closed.results]
    manifest = write(lowered, analysis.invariants, good, claims, str(path), text, __version__, meetings.written())
    return _Decided(listed, verdicts, Certificate(text, manifest), order, confirmed, few)


def _pool(
    lowered: Lowered, analysis: Analysis, formulas: Sequence[FormulaInvariant | BlockInvariant], full: bool
) -> Pool:
    """All queries on which the proofs of a driver rest."""
    from modelcheck.evidence.conditions import Pool, conditions, formula_conditions, life_conditions

    pool = Pool(full)
    for number, invariant in enumerate(analysis.invariants):
        conditions(invariant, number, lowered.roots, pool)
    for number, formula in enumerate(formulas):
        formula_conditions(formula, -1 - number, lowered.roots, pool)
    life_conditions(analysis.invariants, formulas, lowered.roots, pool)
    return pool


def _proved_of(verdicts: Mapping[int, Verdict]) -> frozenset[int]:
    return frozenset(number for number, verdict in verdicts.items() if isinstance(verdict, Proved))


def _doubted(checked: Checked, lowered: Lowered, analysis: Analysis) -> Checked:
    """What Z3 said, where all rests on how earlier phases leave the locks: nothing is answered if that is not.

    Raises:
        InternalError: Z3 found an invariant about it to be none.
    """
    left = {number for root in lowered.roots for number in root.outcomes.values()}
    for number, invariant in enumerate(analysis.invariants):
        if left & invariant.obligations and number in checked.rejected:
            raise InternalError(f"Z3 rejects an invariant about how locks are left:\n{checked.rejected[number]}")
        if left & invariant.obligations and number in checked.unanswered:
            numbers = range(-len(analysis.formulas), len(analysis.invariants))
            return replace(checked, unanswered=dict.fromkeys(numbers, checked.unanswered[number]))
    return checked


def _confirmed(checked: Checked, decision: Decision | None) -> bool:
    """Whether an obligation that the report does not list was found to hold, and Z3 confirms it."""
    from modelcheck.engines.analyse import Held

    return isinstance(decision, Held) and decision.invariant not in {*checked.rejected, *checked.unanswered}


_IN_ORDER = (Proved("order", True), Proved("order", False))
"""By whether anything comes there."""
_BY_CYCLES = Proved("cycles")
_WAITS = {Property.D01, Property.D02, Property.D03}
_WORDS = {Proved: "proved", Violated: "violated", Undecided: "unknown"}


def _proved(checked: Checked, obligation: Obligation, invariant: int, reached: bool) -> Verdict:
    """Proved as far as Z3 confirms the invariant.

    Raises:
        InternalError: Z3 found the invariant to be none.
    """
    if invariant < 0 and invariant in checked.rejected:
        return Undecided("the proof proposed for it does not hold up")
    if invariant in checked.rejected:
        query = checked.rejected[invariant]
        raise InternalError(f"Z3 rejects the invariant that should prove {obligation.id}:\n{query}")
    if invariant in checked.unanswered:
        return Undecided("Z3 did not answer all queries of the certificate in time")
    return _by_invariant(invariant, reached)


@cache
def _by_invariant(number: int, reached: bool) -> Proved:
    return Proved(f"invariant {number}" if number >= 0 else f"formulas {-1 - number}", not reached)


def _fact(obligation: Obligation, holds: bool) -> Verdict:
    """What a declaration decides by itself."""
    if holds:
        return Proved("declaration")
    step = Step("", 0, obligation.span, note=obligation.why)
    return Violated(Trace("", (), (step,)), replayed=True)


class _Meetings:
    """Verdicts on what only several contexts together can break. `proved`: the obligations about one context that
    are."""

    def __init__(
        self,
        lowered: Lowered,
        analysis: Analysis,
        options: Options,
        replays: _Replays,
        checked: Checked,
        proved: frozenset[int],
    ) -> None:
        from modelcheck.engines.analyse import Limits
        from modelcheck.engines.deadlock import Deadlock as Engine

        self.lowered = lowered
        self.analysis = analysis
        self.replays = replays
        self.proved = proved
        self.options = options
        self.pools: list[Pool] = []
        self.found: Deadlock | None = None
        self.reason = "the fixpoint over all routines has no answer"
        wanted = any(o.code in MUTUAL and (not options.only or o.code in options.only) for o in lowered.obligations)
        if analysis.base is None or not wanted:
            return
        for number in sorted(set(self._base(analysis.base))):
            if number in checked.rejected:
                raise InternalError(f"Z3 rejects an invariant of routines that meet:\n{checked.rejected[number]}")
            if number in checked.unanswered:
                self.reason = "Z3 did not answer all queries of the certificate in time"
                return
        limits = Limits(options.steps, int(options.timeout * 1000))
        self.found = Engine(lowered, analysis, limits, self._confirm, proved)
        self.found.run(options.ordered)

    def _base(self, base: Base) -> list[int]:
        """For each root the number of its invariant."""
        numbers = {id(invariant): number for number, invariant in enumerate(self.analysis.invariants)}
        return [numbers[id(base[root])] for root in self.lowered.roots]

    def _confirm(self, answers: Analysis) -> frozenset[int]:
        """The questions whose answer "never" Z3 does not confirm.

        Raises:
            InternalError: Z3 speaks against it.
        """
        from modelcheck.evidence.certify import certify
        from modelcheck.evidence.conditions import Pool, conditions

        pool = Pool(self.options.full)
        for number, invariant in enumerate(answers.invariants):
            conditions(invariant, number, invariant.roots, pool)
        checked = certify(pool, int(self.options.timeout * 1000))
        if checked.rejected:
            raise InternalError(f"Z3 rejects an invariant about what is held:\n{next(iter(checked.rejected.values()))}")
        self.pools.append(pool)
        confirmed = {
            n for i, made in enumerate(answers.invariants) if i not in checked.unanswered for n in made.obligations
        }
        return frozenset(answers.decisions.keys() - confirmed)

    def verdicts(self, numbers: list[int]) -> dict[int, Verdict]:
        """A verdict for each of these obligations.

        Raises:
            InternalError: a proof is not one, or a schedule does not replay.
        """
        from modelcheck.evidence.certify import certify
        from modelcheck.evidence.conditions import Pool

        found = {number: self._verdict(number) for number in numbers}
        if self.found is None:
            return found
        pool = Pool(self.options.full)
        self._conditions(sorted(_proved_of(found)), pool)
        checked = certify(pool, int(self.options.timeout * 1000))
        for number, query in checked.rejected.items():
            name = self.lowered.obligations[number].id if number >= 0 else "several contexts"
            raise InternalError(f"Z3 rejects what should prove {name}:\n{query}")
        for number in checked.unanswered:
            for one in [number] if number >= 0 else sorted(_proved_of(found)):
                found[one] = Undecided("Z3 did not answer all queries of the certificate in time")
        codes = {self.lowered.obligations[number].code for number in checked.unanswered if number >= 0}
        if codes & _WAITS:
            for number in _proved_of(found):
                if self.lowered.obligations[number].code is Property.D03:
                    found[number] = Undecided("Z3 did not answer in time whether who sets it comes to it")
        return found

    def _conditions(self, claims: list[int], pool: Pool) -> None:
        from modelcheck.evidence.conditions import start_conditions
        from modelcheck.evidence.meetings import Grounds, conditions

        found = self.found
        assert found is not None
        never = {q: n for asked in found.rounds for q, n in zip(asked.questions, asked.never, strict=True)}
        grounds = Grounds(self.lowered, found.situation, found.cases, never, self.proved, found.splits)
        conditions(grounds, claims, pool)
        used = list(dict.fromkeys(found.situation.base.values()))
        used += [made for asked in found.rounds for made in asked.answers.invariants]
        start_conditions(used, self.analysis.invariants, self.lowered.roots, pool)

    def add_to(self, pool: Pool, verdicts: Mapping[int, Verdict]) -> None:
        """Adds the queries on which the proofs about several contexts rest."""
        if self.found is None:
            return
        for asked in self.pools:
            for query in asked.queries:
                pool.add(query, -1)
        claims = [n for n in _proved_of(verdicts) if self.lowered.obligations[n].code in MUTUAL]
        self._conditions(claims, pool)

    def written(self) -> Written | None:
        """What the manifest says of it."""
        from modelcheck.evidence.manifest import Written

        if self.found is None:
            return None
        base = self._base(self.found.situation.base)
        rounds = [(asked.questions, asked.never, asked.answers.invariants) for asked in self.found.rounds]
        return Written(base, list(self.found.cases.values()), rounds, self.found.splits, self.options.ordered)

    def hierarchy(self, verdicts: Mapping[int, Verdict]) -> Hierarchy | None:
        """The order of the locks, None where it is not proved to be one."""
        from modelcheck.engines.deadlock import Excluded
        from modelcheck.mutual.hierarchy import hierarchy

        ordered = (Property.D01, Property.D02)
        if self.found is None or any(
            self.lowered.obligations[number].code in ordered and not isinstance(verdicts[number], Proved)
            for number in self.found.findings
        ):
            return None
        ruled: dict[int, list[str]] = {}
        for finding in self.found.findings.values():
            if isinstance(finding, Excluded) and finding.component >= 0:
                ruled.setdefault(finding.component, []).extend(finding.by)
        return hierarchy(self.found.situation, ruled)

    def _verdict(self, number: int) -> Verdict:
        from modelcheck.engines.analyse import Open
        from modelcheck.engines.deadlock import Deadlocked, Excluded, Ranked

        if self.found is None:
            return Undecided(self.reason)
        match self.found.findings.get(number):
            case Ranked(reached):
                return _IN_ORDER[reached]
            case Excluded():
                return _BY_CYCLES
            case Deadlocked(schedule, roots):
                return self.replays.together(self.lowered.obligations[number], schedule, roots)
            case Open(reason):
                return Undecided(reason)
            case None:
                return Undecided("nothing starts or calls this")


class _Replays:
    """Replays counterexamples on the interpreter. Its machine is made once: roots differ in their environment only."""

    def __init__(self, lowered: Lowered, analysis: Analysis) -> None:
        from modelcheck.engines.written import Written

        self.lowered = lowered
        self.analysis = analysis
        self.written = Written(lowered, analysis)
        self.machine: Machine | None = None
        self.player: Player | None = None
        self.by_routine: dict[str, list[Root]] = {}
        """The roots of each routine: on other devices or locks."""
        for root in lowered.roots:
            self.by_routine.setdefault(root.routine, []).append(root)
        self.environments: dict[str, Environment] = {}
        self.surroundings: dict[tuple[int, int], tuple[dict[str, Sequence[int]], dict[str, frozenset[int]]]] = {}
        self.played: dict[int, tuple[Schedule, tuple[Failure, ...], Violated]] = {}
        """By identity, deadlocks that were replayed: all that they break, and how that is told."""

    def verdict(self, obligation: Obligation, trace: Trace, root: Root) -> Verdict:
        """Violated, if the run is real; undecided where it rests on what is not known exactly.

        Raises:
            InternalError: the trace is not a run of the model, or does not break the obligation.
        """
        doubt = _doubt(self.lowered.program, obligation)
        if doubt is not None:
            return doubt
        uncounted = _uncounted(trace.choices)
        if uncounted is not None:
            return uncounted
        about_its_life = obligation.code in (Property.B05, Property.B06)
        unknown = self.written.doubt(trace, root, obligation.subject if about_its_life else "")
        if unknown:
            return Undecided(unknown)
        environment = self._environment(root)
        if self.machine is None:
            self.machine = Machine(self.lowered.program)
        whole = replace(trace, start=_whole_start(root, trace.start, environment.lives))
        outcome = replay_on(self.machine.with_environment(environment), whole, obligation)
        if not outcome.reproduced:
            raise InternalError(f"the counterexample to {obligation.id} does not replay: {outcome.reason}")
        return Violated(_in_words(self.lowered, whole), replayed=True)

    def together(self, obligation: Obligation, schedule: Schedule, roots: Sequence[Root]) -> Verdict:
        """Violated, if the run of several contexts is real; undecided where it rests on what is not exactly known, or
        is not a run of the model."""
        doubt = _doubt(self.lowered.program, obligation, schedule)
        if doubt is not None:
            return doubt
        known = self.played.get(id(schedule))
        if known is not None and obligation.code is not Property.D03 and any(f.breaks(obligation) for f in known[1]):
            return known[2]
        seen = {choice.name: choice.value for actor in schedule.actors for choice in actor.start}
        actors, environments = [], {}
        for number, (actor, root) in enumerate(zip(schedule.actors, roots, strict=True)):
            steps = tuple(turn.step for turn in schedule.turns if turn.actor == number)
            trace = Trace(actor.routine, actor.start, steps)
            uncounted = _uncounted(trace.choices)
            if uncounted is not None:
                return uncounted
            unknown = self.written.doubt(trace, root)
            if unknown:
                return Undecided(unknown)
            environment = environments[actor.routine] = self._environment(root)
            actors.append(replace(actor, start=_whole_start(root, actor.start, environment.lives, seen)))
        odd = _seen_differently(actors, environments)
        if odd:
            return Undecided(f"no run was found in which all see the same value of `{odd}`, which nobody changes")
        whole = replace(schedule, actors=tuple(actors))
        if self.player is None:
            self.player = Player(self.lowered.program)
        outcome = replay_schedule(self.lowered.program, whole, obligation, environments, self.player)
        if not outcome.reproduced and any(actor.within >= 0 for actor in whole.actors):
            return Undecided("a call-out may come back into the driver; such a run was not put together")
        if not outcome.reproduced:
            return Undecided(f"{NO_REPLAY}: {outcome.reason}")
        violated = Violated(_told(self.lowered, whole), replayed=True)
        if schedule.waits:
            self.played[id(schedule)] = (schedule, outcome.failures, violated)
        return violated

    def _environment(self, root: Root) -> Environment:
        """What a routine finds when it runs, on whatever devices or locks."""
        found = self.environments.get(root.routine)
        if found is None:
            others: dict[str, Sequence[int]] = {}
            lives: dict[str, frozenset[int]] = {}
            for same in self.by_routine[root.routine]:
                written, left = self._surroundings(same)
                others |= written
                lives |= {name: values | lives.get(name, frozenset()) for name, values in left.items()}
            found = Environment(root.starts, others, lives)
            self.environments[root.routine] = found
        return found

    def _surroundings(self, root: Root) -> tuple[dict[str, Sequence[int]], dict[str, frozenset[int]]]:
        """What others may write while a root runs, and how its locks can start: made once for all roots that see the
        same."""
        key = (id(root.environment), id(self.analysis.lives[root]))
        found = self.surroundings.get(key)
        if found is None:
            starts = self.analysis.lives[root]
            found = self.surroundings[key] = ({}, {})
            for cell in root.environment.cells.values():
                if cell.sort is Sort.LIFE:
                    found[1][cell.name.removeprefix("life ")] = frozenset(starts.get(cell.name, cell.start))
                elif cell.others:
                    found[0][cell.name.removeprefix("var ")] = cell.others
        return found


MOST_WRITERS = 4
"""Routines that are named where it is told who writes a variable."""


def _seen_differently(actors: Iterable[Actor], environments: Mapping[str, Environment]) -> str:
    """A variable that nobody changes and contexts start with different values of; "" if there is none."""
    seen: dict[str, int] = {}
    changed = {name for environment in environments.values() for name, values in environment.others.items() if values}
    for actor in actors:
        for choice in actor.start:
            name = choice.name.removeprefix("var ")
            if name != choice.name and name not in changed and seen.setdefault(name, choice.value) != choice.value:
                return name
    return ""


def _in_words(lowered: Lowered, trace: Trace) -> Trace:
    """The trace with values as the model writes them, and with the routines that write what is read meanwhile."""
    start = tuple(_shown(lowered.program, choice) for choice in trace.start)
    told: set[str] = set()
    return replace(trace, start=start, steps=tuple(_step_in_words(lowered, step, told) for step in trace.steps))


def _told(lowered: Lowered, schedule: Schedule) -> Schedule:
    """The schedule with values as the model writes them, and with the routines that write what is read meanwhile."""
    actors = tuple(
        replace(a, start=tuple(_shown(lowered.program, choice) for choice in a.start)) for a in schedule.actors
    )
    told: set[str] = set()
    turns = tuple(replace(turn, step=_step_in_words(lowered, turn.step, told)) for turn in schedule.turns)
    return replace(schedule, actors=actors, turns=turns)


def _step_in_words(lowered: Lowered, step: Step, told: set[str]) -> Step:
    """A step as the model writes it; who writes which value is said where it is first read, and then `told`."""
    choices = _shown_in(lowered.program, step)
    notes = [step.note]
    for choice in choices:
        writer = _writer(lowered, choice)
        if writer not in told:
            notes.append(writer)
            told.add(writer)
    return replace(step, choices=choices, note="; ".join(note for note in notes if note))


def _shown(program: Program, choice: Choice) -> Choice:
    declared = program.variables.get(choice.name.removeprefix("var "))
    return choice if declared is None else _of_type(program, declared.type, choice)


def _shown_in(program: Program, step: Step) -> tuple[Choice, ...]:
    """The choices of a step; that of a local variable's value where it is declared is of its type."""
    return tuple(
        _of_type(program, kind, choice) if (kind := _local_type(program, step, choice)) else _shown(program, choice)
        for choice in step.choices
    )


def _local_type(program: Program, step: Step, choice: Choice) -> s.Type | None:
    """The type of the variable that a step declares, if the choice is about its value: `bool b;`, `bool b = *;`; or of
    the result that a routine has not given."""
    routine = program.routines.get(step.routine)
    if routine is None or choice.name.partition(" ")[0] not in ("uninit", "*"):
        return None
    declared = next((d for d in declarations(routine.body) if d.span == step.span), None)
    if declared is None:
        return routine.result if choice.name == "uninit result" else None
    about = choice.name == "*" if isinstance(declared.value, s.Unknown) else choice.name == f"uninit {declared.name}"
    return declared.type if about else None


def _of_type(program: Program, kind: s.Type, choice: Choice) -> Choice:
    if isinstance(kind, s.BoolType):
        return replace(choice, shown="true" if choice.value else "false")
    names = enum_of(program, kind)
    return replace(choice, shown=names[choice.value]) if 0 <= choice.value < len(names) else choice


def _writer(lowered: Lowered, choice: Choice) -> str:
    """Who can have written the value of a shared variable."""
    name = choice.name.removeprefix("var ")
    routines = lowered.writers.get((plain(name), choice.value))
    if not routines:
        return ""
    more = len(routines) - MOST_WRITERS
    named = ", ".join(routines[:MOST_WRITERS] if more > 1 else routines)
    return f"{name} is written by {named}" + (f" and {more} more" if more > 1 else "")


def _whole_start(
    root: Root,
    start: tuple[Choice, ...],
    lives: Mapping[str, Collection[int]],
    seen: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Choice, ...]:
    """The start of a trace with a value for everything that is open there, also where the path does not look at it:
    what others have `seen` at their start, if it can be."""
    known = {choice.name: choice.value for choice in start}
    for name, values in root.starts.items():
        if plain(name) == name or len(values) > 1:
            other = seen.get(f"var {name}")
            known.setdefault(f"var {name}", other if other is not None and other in values else values[0])
    for name, values_of in lives.items():
        known.setdefault(f"life {name}", INITIALISED if INITIALISED in values_of else min(values_of))
    known.setdefault("irql", root.levels[0])
    devices = {f"param {name}": device for name, device in root.devices}
    for name, device in devices.items():
        known.setdefault(name, number_of(device))
    return tuple(Choice(name, known[name], devices.get(name, "")) for name in sorted(known))


def _warnings(lowered: Lowered, analysis: Analysis) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for routine in lowered.unfit:
        message = f"no lock fits the parameters of `{routine.name}`, so it is not checked"
        found.append(Diagnostic(Code.NEVER_CALLED, message, routine.span))
    if lowered.ledger.assumed:
        names = ", ".join(sorted(lowered.ledger.assumed))
        first = min(lowered.ledger.assumed.values(), key=lambda span: span.start)
        found.append(
            Diagnostic(Code.ASSUMED_COST, f"no cost is known of these, it was taken to be nothing: {names}", first)
        )
    for name, span in lowered.unmodelled.items():
        message = f"no model knows `{name}`; what comes after a call of it is not decided"
        found.append(Diagnostic(Code.UNMODELLED, message, span, help=f"declare it: `extern {name}(...);`"))
    return found


__all__ = ["InternalError", "Options", "load", "obligations", "verify"]
