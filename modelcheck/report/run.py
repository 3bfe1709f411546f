"""A counterexample as it is shown: lanes of contexts, moments in time, who waits for whom at the end.

A `Trace` of one routine and a `Schedule` of several contexts become the same `Run`, so that text, picture and page tell
one story.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modelcheck.record import dataclass
from modelcheck.report.words import clean, held_words, is_field, remarks, source_words, start_words, wait_words
from modelcheck.source import Span
from modelcheck.verdict import Property, Report, Result, Schedule, Step, Trace, Turn, Violated, Wait


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
    yet; `stands`: nothing is done yet, the statement is next; `ends`: the context has ended with it.
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

    @property
    def halt(self) -> str:
        """Why the context goes no further for now, in words; "" where it does."""
        if self.stands:
            return "comes next"
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
    start = tuple(t for c in trace.start if not is_field(c, quiet_about) and (t := start_words(c)))
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
        start = tuple(t for c in actor.start if not is_field(c, quiet_about) and (t := start_words(c)))
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
class Case:
    """Violations that one run shows. The first gives it its name, `v3` for the third run of a report."""

    number: int
    results: tuple[Result, ...]
    evidence: Trace | Schedule
    run: Run

    @property
    def id(self) -> str:
        return f"v{self.number}"


def cases(report: Report) -> Iterator[Case]:
    """The violations of a report, those of one run together; the open world first, then scenario by scenario."""
    sharing: dict[Trace | Schedule, list[Result]] = {}
    for result in by_scenario(report.results):
        if isinstance(result.verdict, Violated):
            sharing.setdefault(result.verdict.trace, []).append(result)
    for number, (evidence, results) in enumerate(sharing.items(), 1):
        yield Case(number, tuple(results), evidence, run_of(evidence, quiet_about(report, results[0])))


def by_scenario(results: Sequence[Result]) -> list[Result]:
    """The same results: those of the open world first, then those of each scenario, in source order otherwise."""
    order: dict[str, int] = {"": 0}
    for result in results:
        order.setdefault(result.obligation.scenario, len(order))
    return sorted(results, key=lambda result: order[result.obligation.scenario])


def quiet_about(report: Report, result: Result) -> frozenset[str]:
    """Locks whose fields are not told: how others use a lock matters where the property is about that (B08)."""
    if result.obligation.code is Property.B08:
        return frozenset()
    return frozenset(r.obligation.subject for r in report.results if r.obligation.code.startswith(("B", "D")))
