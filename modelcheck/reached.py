"""What no path comes to: read off invariants that are certified.

A location without a state in an invariant is never reached; where several invariants are about a root, one without is
enough. A statement is reached if any of its steps is, in any root, for any binding of its routine's lock parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from modelcheck.invariant import Invariant, every_table
from modelcheck.ir import Graph, Root
from modelcheck.record import dataclass
from modelcheck.source import Span


@dataclass(frozen=True, slots=True)
class Stretch:
    """Statements of a routine one after another, from the first to the last as written, that no path comes to."""

    routine: str
    statements: tuple[Span, ...]

    def has(self, span: Span) -> bool:
        first, last = self.statements[0], max(self.statements, key=lambda s: s.end)
        return span.source is first.source and first.start <= span.start and span.end <= last.end


@dataclass(frozen=True, slots=True)
class Unreached:
    """`endless`: roots whose routine never comes to its end, whatever it is started with."""

    stretches: tuple[Stretch, ...] = ()
    endless: tuple[Root, ...] = ()


def unreached(roots: Sequence[Root], invariants: Sequence[Invariant]) -> Unreached:
    """What no path of any root comes to. Of a routine that is itself never come to, only where it is a root: else its
    calls are such places."""
    found: dict[Graph, set[int]] = {}
    endless: list[Root] = []
    ending: set[str] = set()
    for root in roots:
        about = [_locations(invariant, root) for invariant in invariants if root in invariant.starts]
        if not about:
            return Unreached()  # nothing is known of it: it may come anywhere
        for graph in set().union(*about) - {root.graph}:
            common = set.intersection(*(locations.get(graph, set()) for locations in about))
            found.setdefault(graph, set()).update(common)
        if root.end is not None and any(root.end.source not in locations[root.graph] for locations in about):
            endless.append(root)
        else:
            ending.add(root.routine)
    endless = list({r.routine: r for r in reversed(endless) if r.routine not in ending}.values())[::-1]
    started = {root.routine for root in roots}
    return Unreached(tuple(_stretches(found, started)), tuple(endless))


def _locations(invariant: Invariant, root: Root) -> dict[Graph, set[int]]:
    """The locations at which a run of the root can be."""
    found: dict[Graph, set[int]] = {}
    for table in every_table(invariant.starts[root]):
        found.setdefault(table.graph, set()).update(n for n, states in enumerate(table.states) if states)
    return found


def _stretches(reached: Mapping[Graph, set[int]], started: Iterable[str]) -> Iterator[Stretch]:
    by_routine: dict[str, dict[Span, bool]] = {}
    for graph, locations in reached.items():
        known = by_routine.setdefault(graph.routine, {})
        for edge in graph.edges:
            if edge.step and edge.span != graph.span and not any(_inside(edge.span, idle) for idle in graph.idle):
                known[edge.span] = known.get(edge.span, False) or edge.source in locations
    for routine, known in by_routine.items():
        if routine in started or any(known.values()):
            in_order = sorted(known.items(), key=lambda item: (item[0].start, item[0].end))
            for live, group in groupby(in_order, key=lambda item: item[1]):
                if not live:
                    yield Stretch(routine, tuple(span for span, _ in group))


def _inside(span: Span, other: Span) -> bool:
    return other.start <= span.start and span.end <= other.end
