"""The control flow of a routine, statement by statement, with the way of a counterexample through it.

Nodes are the steps of its graph: all edges of one place in the source together; what has no place of its own (the
parts of a call, the joins of branches) is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from modelcheck.draw.picture import FAINT, PALE_RED, PAPER, RED, Picture, graph, label, plain, quoted, wrap, wrap_source
from modelcheck.ir import Edge, Graph
from modelcheck.lower import Lowered
from modelcheck.record import dataclass
from modelcheck.report.run import Case
from modelcheck.report.words import clean, condition_words, statement_words
from modelcheck.source import Span

_WIDTH = 44
Key: TypeAlias = tuple[int, int] | str
"""A statement, by its place in the routine's file; `start` and `end` are none."""


def graph_of(lowered: Lowered, routine: str) -> Graph | None:
    """The graph of a routine's body, None where nothing runs a routine of that name.

    Of several, for different locks, the first.
    """
    seen: set[int] = set()
    waiting = [root.graph for root in lowered.roots]
    while waiting:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        for edge in found.edges:
            if edge.callee is not None:
                if edge.callee.routine == routine:
                    return edge.callee
                waiting.append(edge.callee)
    return None


def flow_picture(routine: Graph, case: Case | None = None) -> Picture:
    """Control flow from start to end; where `case` runs through the routine its way is red and bold."""
    title = f"The control flow of {clean(routine.routine)}"
    if case is not None:
        first = case.results[0].obligation
        title += f", with the way to {first.code} at {clean(str(first.span))}"
    made = graph(label=quoted(label(wrap(title, 64))), labelloc="t", nodesep="0.4", ranksep="0.3")
    flow = _Flow(routine)
    ways, bad = _ways(case, routine) if case else ([], set())
    visited = {key for way in ways for key in way}
    passed = {pair for way in ways for pair in pairwise(way)}
    names = {key: f"node {number}" for number, key in enumerate(flow.spans)}
    for key, name in names.items():
        made.node(name, **_look(flow, key, key in visited, key in bad, case))
    for (source, target), words in flow.edges.items():
        on_way = (source, target) in passed
        look = {"class": "edge"}
        if on_way:
            look = {"color": RED, "fontcolor": RED, "penwidth": "2.4", "class": "ring"}
        elif source not in flow.reached:
            look = {"color": FAINT, "style": "dashed", "class": "faint"}
        made.edge(names[source], names[target], label=quoted(label([f" {word}" for word in sorted(words)])), **look)
    return Picture(made.source, "dot", title)


def _look(flow: _Flow, key: Key, on_way: bool, bad: bool, case: Case | None) -> dict[str, str]:
    """How a statement is drawn: conditions with corners at the sides, the way red, dead code dashed."""
    span = flow.spans[key]
    if span is None:
        lines, shape = [str(key)], "box" if bad else "oval"
    elif key in flow.conditions:
        lines, shape = wrap_source(f"{span.line}: {condition_words(span)}", _WIDTH), "hexagon"
    else:
        lines, shape = wrap_source(f"{span.line}: {statement_words(span)}", _WIDTH), "box"
    look = {"shape": shape, "style": "filled", "fillcolor": PAPER, "class": "paper", "tooltip": quoted(plain(lines[0]))}
    if key not in flow.reached:
        lines = [*lines, "(no path comes here)"]
        look |= {"style": "filled,dashed", "color": FAINT, "fontcolor": FAINT, "class": "paper faint"}
    if on_way:
        look |= {"color": RED, "penwidth": "2.4", "class": "paper way"}
    if bad and case is not None:
        for code, why in dict.fromkeys((r.obligation.code, r.obligation.why) for r in case.results):
            lines = [*lines, *wrap(f"{code} VIOLATED" + (f", expected: {why}" if why else ""), _WIDTH)]
        look |= {"fillcolor": PALE_RED, "color": RED, "penwidth": "3", "class": "bad"}
    return {"label": quoted(label(lines)), **look}


@dataclass(frozen=True, slots=True)
class _Way:
    """From one statement to another, which begins at `location`; `taken`: how the condition went."""

    source: Key
    target: Key
    location: int
    taken: bool | None


def _edges(ways: Sequence[_Way]) -> dict[tuple[Key, Key], set[str]]:
    """The ways between statements with their words. From a statement to itself only where it begins again: not from one
    part of it to the next."""
    begins = {(way.target, way.location) for way in ways if way.source != way.target}
    found: dict[tuple[Key, Key], set[str]] = {}
    for way in ways:
        if way.source != way.target or (way.target, way.location) in begins:
            words = found.setdefault((way.source, way.target), set())
            words |= set() if way.taken is None else {"true" if way.taken else "false"}
    return found


class _Flow:
    """Statements, and which may follow which, with the words on the way (`true`, `false`)."""

    def __init__(self, routine: Graph) -> None:
        self.graph = routine
        self.outgoing: defaultdict[int, list[Edge]] = defaultdict(list)
        for edge in routine.edges:
            self.outgoing[edge.source].append(edge)
        self.spans: dict[Key, Span | None] = {"start": None}
        self.conditions: set[Key] = set()
        ways = list(self._ways("start", routine.entry, None))
        for edge in routine.edges:
            if self._is_statement(edge):
                key = _key(edge.span)
                self.spans.setdefault(key, edge.span)
                if edge.taken is not None:
                    self.conditions.add(key)
                ways += self._ways(key, edge.target, edge.taken)
        self.edges = _edges(ways)
        self.reached = self._reached()
        self.spans.setdefault("end", None)

    def _is_statement(self, edge: Edge) -> bool:
        return edge.step and edge.span != self.graph.span

    def _ways(self, source: Key, location: int, taken: bool | None) -> Iterator[_Way]:
        """The ways on from a location behind `source`."""
        waiting, seen = [location], {location}
        while waiting:
            at = waiting.pop()
            if at == self.graph.exit:
                yield _Way(source, "end", at, taken)
            for edge in self.outgoing[at]:
                if self._is_statement(edge):
                    self.spans.setdefault(_key(edge.span), edge.span)
                    yield _Way(source, _key(edge.span), at, taken)
                elif edge.target not in seen:
                    seen.add(edge.target)
                    waiting.append(edge.target)

    def _reached(self) -> set[Key]:
        reached: set[Key] = {"start", "end"}
        waiting: list[Key] = ["start"]
        while waiting:
            at = waiting.pop()
            for source, target in self.edges:
                if source == at and target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return reached


def _key(span: Span) -> Key:
    return span.start, span.end


def _ways(case: Case, routine: Graph) -> tuple[list[list[Key]], set[Key]]:
    """The ways of the run's contexts through the routine, each the last of its depth; and the statements that fail."""
    ways: dict[tuple[int, int], list[Key]] = {}
    bad: set[Key] = set()
    for moment in case.run.moments:
        step = moment.step
        within = step.routine == routine.routine and step.span.text != routine.routine
        for (lane, depth), way in ways.items():
            left = step.depth < depth or (step.depth == depth and not within)
            if lane == moment.lane and left and way[-1] != "end":
                way.append("end")
                bad |= {"end"} if moment.number in case.run.bad and step.depth == depth else set()
        if within:
            here = (moment.lane, step.depth)
            if ways.get(here, ["end"])[-1] == "end":
                ways[here] = ["start"]
            ways[here].append(_key(step.span))
            bad |= {_key(step.span)} if moment.number in case.run.bad else set()
    return list(ways.values()), bad


def case_of(cases: Sequence[Case], routine: str) -> Case | None:
    """The first violation in the routine, else the first whose run goes through it."""
    within = [case for case in cases if any(r.obligation.routine == routine for r in case.results)]
    through = [case for case in cases if any(m.step.routine == routine for m in case.run.moments)]
    return next(iter([*within, *through]), None)
