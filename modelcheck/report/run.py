"""A counterexample as it is shown: lanes of contexts, moments in time, who waits for whom at the end.

A `Trace` of one routine and a `Schedule` of several contexts become the same `Run`, so that text, picture and page tell
one story.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from modelcheck.record import dataclass
from modelcheck.report.words import (
    and_list,
    clean,
    held_words,
    is_field,
    place_words,
    remarks,
    source_words,
    start_words,
    wait_words,
)
from modelcheck.source import Span
from modelcheck.verdict import MUTUAL, Property, Report, Result, Schedule, Step, Trace, Turn, Violated, Wait


@dataclass(frozen=True, slots=True)
class Lane:
    """A context. `kind` and `processor` are "" and None for a routine looked at by itself; `start`: what was open when
    it started, in words; `irql` its level then, None where that is not said."""

    name: str
    routine: str
    kind: str
    processor: int | None
    start: tuple[str, ...]
    irql: int | None

    @property
    def title(self) -> str:
        """The name with its kind, where that is known: `Read (thread)`."""
        return f"{self.name} ({self.kind})" if self.kind else self.name


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of one lane, numbered from 1.

    `waits` is what the context has come to wait for here, "" where it goes through; `free`: nobody keeps that from it
    yet; `stands`: nothing is done yet, the statement is next, or the lock `freed` is; `ends`: the context has ended
    with it.
    """

    number: int
    lane: int
    step: Step
    text: str
    remarks: tuple[str, ...]
    waits: str = ""
    free: bool = False
    stands: bool = False
    ends: bool = False
    freed: str = ""

    @property
    def halt(self) -> str:
        """Why the context goes no further for now, in words; "" where it does."""
        if self.stands:
            return f"has freed {self.freed}" if self.freed else "comes next"
        if self.free:
            return f"comes to {self.waits}, which it could still take"
        return f"has to wait for {self.waits}" if self.waits else ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A context that can never go on: why, in words, and the calls it is in: (routine, span) from the root down."""

    wait: Wait
    words: str
    calls: tuple[tuple[str, Span], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """`bad` are the numbers of the moments that break the obligation: the last one, or the last two of a race, or where
    each context of a deadlock came to stand."""

    lanes: tuple[Lane, ...]
    moments: tuple[Moment, ...]
    blocked: tuple[Blocked, ...]
    bad: frozenset[int]
    scenario: str = ""

    @property
    def order(self) -> list[int]:
        """The lanes from left to right: those of one processor together, who begins first before others."""
        acting = dict.fromkeys([*(moment.lane for moment in self.moments), *range(len(self.lanes))])
        processors = list(dict.fromkeys(self.lanes[lane].processor for lane in acting))
        return sorted(acting, key=lambda lane: processors.index(self.lanes[lane].processor))


def run_of(evidence: Trace | Schedule, quiet_about: frozenset[str] = frozenset()) -> Run:
    """The run of a violation. `quiet_about` names locks whose fields are not told."""
    if isinstance(evidence, Trace):
        return _of_trace(evidence, quiet_about)
    return _of_schedule(evidence, quiet_about)


def _of_trace(trace: Trace, quiet_about: frozenset[str]) -> Run:
    start = tuple(t for c in trace.start if (t := start_words(c)) and not is_field(c, quiet_about))
    level = next((c.value for c in trace.start if c.name == "irql"), None)
    moments = []
    for number, step in enumerate(trace.steps, 1):
        text = source_words(step, number == 1)
        ends = _is_end(step, number > 1)
        moments.append(Moment(number, 0, step, text, tuple(remarks(step, quiet_about)), ends=ends))
    lane = Lane(clean(trace.root), trace.root, "", None, start, level)
    return Run((lane,), tuple(moments), (), frozenset({len(moments)} if moments else ()))


def _of_schedule(schedule: Schedule, quiet_about: frozenset[str]) -> Run:
    lanes = []
    for actor in schedule.actors:
        start = tuple(t for c in actor.start if (t := start_words(c)) and not is_field(c, quiet_about))
        level = next((c.value for c in actor.start if c.name == "irql"), None)
        lanes.append(Lane(clean(actor.name), actor.routine, actor.kind, actor.processor, start, level))
    moments, last = [], dict[int, Turn]()
    for number, turn in enumerate(schedule.turns, 1):
        first = turn.actor not in last
        last[turn.actor] = turn
        moments.append(
            Moment(
                number,
                turn.actor,
                turn.step,
                source_words(turn.step, first),
                tuple(remarks(turn.step, quiet_about)),
                _wanted(turn) if turn.event == "waits" else "",
                turn.event == "waits" and turn.mode != "event" and not _kept(turn, last),
                turn.event == "stands",
                _is_end(turn.step, not first),
                clean(turn.lock) if turn.mode == "freed" else "",
            )
        )
    names = [lane.name for lane in lanes]
    calls = {wait.actor: calls_of(moments, wait.actor) for wait in schedule.waits}
    blocked = tuple(Blocked(wait, wait_words(wait, names), calls[wait.actor]) for wait in schedule.waits)
    return Run(tuple(lanes), tuple(moments), blocked, _bad(schedule, moments), schedule.scenario)


def _wanted(turn: Turn) -> str:
    return clean(turn.lock) if turn.mode == "event" else held_words(turn.lock, turn.mode, 1)


def _kept(turn: Turn, last: Mapping[int, Turn]) -> bool:
    """Whether somebody may keep a context from the lock it wants: who holds it in a mode that does not go together with
    that, itself, or a writer that waits. `last` is the last turn of each context."""
    for actor, other in last.items():
        holds = any(
            lock == turn.lock and (actor == turn.actor or (mode, turn.mode) != ("shared", "shared"))
            for lock, mode, _ in other.step.held
        )
        writes = actor != turn.actor and (other.event, other.lock, other.mode) == ("waits", turn.lock, "")
        if holds or (writes and turn.mode):
            return True
    return False


def _is_end(step: Step, later: bool) -> bool:
    return later and step.depth == 0 and step.span.text == step.routine


def _bad(schedule: Schedule, moments: Sequence[Moment]) -> frozenset[int]:
    """The moments that show what went wrong."""
    if not moments:
        return frozenset()
    last: dict[int, int] = {moment.lane: moment.number for moment in moments}
    if schedule.waits:
        return frozenset(last[wait.actor] for wait in schedule.waits if wait.actor in last)
    standing = {number for lane, number in last.items() if moments[number - 1].stands}
    return frozenset(standing or {moments[-1].number})


def calls_of(moments: Sequence[Moment], lane: int) -> tuple[tuple[str, Span], ...]:
    """The calls a context is in at the end: where each routine from its root down has come to."""
    own = [moment.step for moment in moments if moment.lane == lane]
    if not own:
        return ()
    stack, depth = [own[-1]], own[-1].depth
    for step in reversed(own):
        if step.depth < depth:
            stack.append(step)
            depth = step.depth
    return tuple((step.routine, step.span) for step in reversed(stack))


@dataclass(frozen=True, slots=True)
class Hold:
    """A context of a routine holds a lock that others wait for. `place`: where it has acquired it."""

    routine: str
    lock: str
    place: Span


@dataclass(frozen=True, slots=True)
class Case:
    """Violations that one run shows. The first gives it its name, `v3` for the third run of a report. `alike`: what
    runs break that are not told, as the same `hold` is in all of them."""

    number: int
    results: tuple[Result, ...]
    evidence: Trace | Schedule
    run: Run
    alike: tuple[Result, ...] = ()
    hold: Hold | None = None

    @property
    def id(self) -> str:
        return f"v{self.number}"


FEW = 3
"""Runs with one hold in them that are all told."""


def cases(report: Report, among: Sequence[Result] | None = None) -> Iterator[Case]:
    """The violations of a report (`among`: only of these results), those of one run together; the open world first,
    then scenario by scenario, and of each what a context breaks alone before what several break together: that often
    follows from it.

    Where many runs end with others waiting for the same hold, only the shortest is told."""
    sharing: dict[Trace | Schedule, list[Result]] = {}
    worlds = _worlds(report.results)
    violated = [r for r in (report.results if among is None else among) if isinstance(r.verdict, Violated)]
    for result in sorted(violated, key=lambda r: (worlds[r.obligation.scenario], r.obligation.code in MUTUAL)):
        assert isinstance(result.verdict, Violated)
        sharing.setdefault(result.verdict.trace, []).append(result)
    for number, (hold, family) in enumerate(_families(list(sharing)), 1):
        told = min(family, key=_length)
        alike = tuple(result for evidence in family if evidence is not told for result in sharing[evidence])
        results = tuple(sharing[told])
        yield Case(number, results, told, run_of(told, quiet_about(report, results[0])), alike, hold)


def _families(runs: Sequence[Trace | Schedule]) -> list[tuple[Hold | None, list[Trace | Schedule]]]:
    """Runs that have a hold in common, the most frequent hold first to take its runs; in the order of their first."""
    holds = [_holds(run) for run in runs]
    family: list[tuple[str, Hold] | None] = [None] * len(runs)
    while True:
        left = [n for n, taken in enumerate(family) if taken is None]
        counts = Counter(hold for n in left for hold in holds[n])
        hold, count = max(counts.items(), key=lambda entry: entry[1], default=(None, 0))
        if hold is None or count <= FEW:
            break
        for n in left:
            if hold in holds[n]:
                family[n] = hold
    found: dict[object, tuple[Hold | None, list[Trace | Schedule]]] = {}
    for n, run in enumerate(runs):
        taken = family[n]
        found.setdefault(taken or n, (taken[1] if taken else None, []))[1].append(run)
    return list(found.values())


def _holds(run: Trace | Schedule) -> dict[tuple[str, Hold], None]:
    """What is held in a deadlock that others wait for, with the scenario."""
    if isinstance(run, Trace):
        return {}
    found: dict[tuple[str, Hold], None] = {}
    for wait in run.waits:
        for actor in wait.by if wait.reason in ("held", "ended") else (wait.actor,):
            place = _acquired(run, actor, wait.subject)
            if place is not None:
                found[run.scenario, Hold(run.actors[actor].routine, wait.subject, place)] = None
    return found


def _acquired(run: Schedule, actor: int, lock: str) -> Span | None:
    """Where a context has acquired a lock that it holds at the end."""
    place, held = None, False
    for turn in run.turns:
        if turn.actor == actor:
            holds = any(name == lock for name, _, _ in turn.step.held)
            place = turn.step.span if holds and not held else place if holds else None
            held = holds
    return place


def _length(evidence: Trace | Schedule) -> tuple[int, int]:
    if isinstance(evidence, Trace):
        return 1, len(evidence.steps)
    return evidence.processors, len(evidence.turns)


def alike_words(case: Case) -> str:
    """What the list of places says: `Read holds L (line 7) in more such runs, which violate D01 at 3 more places:`."""
    codes = and_list(sorted({result.obligation.code for result in case.alike}))
    places = "one more place" if len(case.alike) == 1 else f"{len(case.alike)} more places"
    hold = case.hold
    assert hold is not None
    where = f"{clean(hold.routine)} holds {clean(hold.lock)}, acquired at {place_words(hold.place)}"
    return f"{where}, in more runs like this one, which violate {codes} at {places}:"


def places_alike(case: Case) -> Iterator[tuple[str, str]]:
    """Where what is alike is violated: routines, each with its lines."""
    home = case.results[0].obligation.span.source
    lines: dict[str, list[str]] = {}
    for result in case.alike:
        span = result.obligation.span
        place = str(span.line) if span.source is home else place_words(span)
        lines.setdefault(clean(result.obligation.routine), []).append(place)
    for routine, places in lines.items():
        yield routine, ", ".join(dict.fromkeys(places))


def leading_first(report: Report, violated: Sequence[Result]) -> list[Result]:
    """The same violations, in the order of `cases`; last what is alike to something before it."""
    found = tuple(cases(report, violated))
    return [*(r for case in found for r in case.results), *(r for case in found for r in case.alike)]


def by_scenario(results: Sequence[Result]) -> list[Result]:
    """The same results: those of the open world first, then those of each scenario, in source order otherwise."""
    worlds = _worlds(results)
    return sorted(results, key=lambda result: worlds[result.obligation.scenario])


def _worlds(results: Sequence[Result]) -> dict[str, int]:
    """The scenarios in their order, the open world ("") first."""
    order = {"": 0}
    for result in results:
        order.setdefault(result.obligation.scenario, len(order))
    return order


def quiet_about(report: Report, result: Result) -> frozenset[str]:
    """Locks whose fields are not told: how others use a lock matters where the property is about that (B08)."""
    if result.obligation.code is Property.B08:
        return frozenset()
    return frozenset(r.obligation.subject for r in report.results if r.obligation.code.startswith(("B", "D")))
