"""Runs of several contexts put together, with those who set the events that are waited for on the way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from modelcheck.engines.analyse import Analysis, Limits, Open
from modelcheck.engines.finding import MORE_DEVICES, Deadlocked
from modelcheck.engines.schedule import Member, schedule
from modelcheck.engines.states import Confirm, States
from modelcheck.lower import Lowered
from modelcheck.mutual.overlap import LOAD
from modelcheck.mutual.positions import Position
from modelcheck.mutual.questions import Place, Question
from modelcheck.record import replace
from modelcheck.source import Span
from modelcheck.verdict import Trace


class Meeting(States):
    """Makes schedules of runs."""

    def __init__(self, lowered: Lowered, analysis: Analysis, limits: Limits, confirm: Confirm) -> None:
        super().__init__(lowered, analysis, limits, confirm)
        self._waiting: dict[Span, list[str]] | None = None

    def together(
        self, members: list[Member], waits: Sequence[tuple[int, str, str, tuple[int, ...]]], first: int = -1
    ) -> Deadlocked | Open:
        """The members' runs as one, with those who set the events that are waited for on the way."""
        members = list(members)
        for _, reason, event, _ in waits:
            if reason == "event" and any(self._may_set(member, event) for member in members):
                return Open(f"{event} may be set by then")
        for number, member in enumerate(list(members)):
            last = len(member.trace.steps) - 1
            for at, step in enumerate(member.trace.steps):
                for event in self._awaited(step.span):
                    if at == last and member.kind == "waits" and member.subject == event:
                        continue
                    setter = self._setter(event, members)
                    if setter is None:
                        return Open(f"no run was found in which {event} is set before it is waited for")
                    members[number] = replace(members[number], gates=(*members[number].gates, (at, len(members))))
                    members.append(setter)
        numbers = [self.roots.index(member.root) for member in members]
        if any(self.situation.overlap.kept_off(*pair) for pair in itertools.combinations(numbers, 2)):
            return Open(MORE_DEVICES)
        loads = loading(members)
        if loads >= 0:
            passed = {step.span for step in members[loads].trace.steps}
            for number, member in zip(numbers, members, strict=True):
                if member.root.phase != LOAD and not self.situation.overlap.enabling(numbers[loads], number) & passed:
                    return Open(f"who starts {member.root.routine} while the driver loads is not put together with it")
        before = loads if first < 0 else first
        made = schedule(self.lowered, members, waits, before, self.situation.writers_first)
        if made is None:
            return Open("no order of the steps was found that leads to it")
        return Deadlocked(*made)

    def _may_set(self, member: Member, event: str) -> bool:
        """Whether the run of a member passes a place where the event is set."""
        graphs = self.situation.graphs
        places = {
            graphs[site.graph].edges[site.edge].span
            for signals in self.facts.signals
            for site in signals.get(event, ())
        }
        return any(step.span in places for step in member.trace.steps[:-1])

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

    def _setter(self, event: str, members: list[Member]) -> Member | None:
        """A run of somebody who can be there beside the members and sets an event without waiting for one."""
        if event in self.lowered.ledger.handed:
            return None
        overlap, there = self.situation.overlap, {self.roots.index(member.root) for member in members}
        for root, places in enumerate(self.facts.signals):
            if not all(overlap.meet(root, other) for other in there):
                continue
            if event in places and self.really_sets(root, event):
                run = self.known[self._setting(root, event)]
                if isinstance(run, Trace) and not any(self._awaited(step.span) for step in run.steps):
                    return Member(self.roots[root], run, "held", "", "")
        return None

    def really_sets(self, root: int, event: str) -> bool:
        """Whether a run of the root is known that sets the event."""
        question = self._setting(root, event)
        self.ask([question] if question not in self.known else [])
        return isinstance(self.known[question], Trace)

    def rests_on(self, root: int, event: str) -> str:
        """A variable that nobody writes any more, which the run of a root that sets an event looks at: with another
        value it may not come to it. "" if there is none."""
        run = self.known[self._setting(root, event)]
        if not isinstance(run, Trace):
            return ""
        fixed = {cell.name for cell in self.situation.stable(self.roots[root])}
        starts = self.roots[root].starts
        seen = [choice.name.removeprefix("var ") for choice in run.choices if choice.name in fixed]
        return next((name for name in seen if len(starts[name]) > 1), "")

    def _setting(self, root: int, event: str) -> Question:
        graphs = self.situation.graphs
        places = tuple(Place(graphs[s.graph], s.edge, s.index) for s in self.facts.signals[root][event])
        return Question(self.roots[root], places, ())

    def all_need(self, position: Position, kept: dict[str, int], unset: Sequence[str] = ()) -> bool:
        """Whether everybody who sets what a position waits for must first acquire a lock that is kept, or wait for an
        event that is not set; and nobody has set it when the driver was loaded."""
        event = position.wanted
        if any(event in self.facts.signals[root] for root in self.situation.loaders(position)):
            return False
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


def loading(members: Sequence[Member]) -> int:
    """The member that loads the driver: it is at its place before the others begin; -1 if there is none."""
    return next((n for n, member in enumerate(members) if member.root.phase == LOAD), -1)
