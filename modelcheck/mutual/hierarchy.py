"""The order of a driver's locks for people: a rank for each, the pairs that occur, the cycles nothing can come of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from modelcheck.devices import plain
from modelcheck.mutual.order import Node, components
from modelcheck.mutual.positions import Site
from modelcheck.mutual.situation import Situation
from modelcheck.source import Span
from modelcheck.verdict import Hierarchy, Ruled


def hierarchy(situation: Situation, ruled: Mapping[int, Iterable[str]]) -> Hierarchy:
    """The lock hierarchy of a driver whose order has no cycle but those of the components in `ruled`, each with the
    reasons why nothing can come of it. Locks that no order binds are ranked too, where they are waited for."""
    places = _places(situation)
    graph: dict[Node, dict[Node, None]] = {}
    for position in situation.facts.positions:
        if position.sort in ("lock", "event"):
            graph.setdefault((plain(position.wanted),), {})
    for held, wanted in places:
        graph.setdefault((held,), {})[wanted,] = None
        graph.setdefault((wanted,), {})
    numbers = components(graph)
    ranks = _levels(graph, numbers)
    listed = sorted(((str(node[0]), rank) for node, rank in ranks.items()), key=lambda item: (item[1], item[0]))
    pairs = tuple(
        (held, wanted, tuple(spans))
        for (held, wanted), spans in sorted(places.items(), key=lambda item: (ranks[item[0][0],], item[0]))
    )
    cycles = tuple(
        Ruled(locks, "; ".join(sorted(set(reasons))))
        for component, reasons in sorted(ruled.items())
        if (locks := _locks(situation, component))
    )
    covered = {name for ruled_out in cycles for name in ruled_out.locks}
    cycles += tuple(Ruled(names, _MODES) for names in _rings(numbers) if not covered.issuperset(names))
    events = tuple(sorted({plain(p.wanted) for p in situation.facts.positions if p.sort == "event"}))
    return Hierarchy(tuple(listed), pairs, cycles, events)


_MODES = "the modes in which they are taken go together"
"""Why a ring of names is none of waits: shared with shared, as the order itself tells them apart."""


def _rings(numbers: Mapping[Node, int]) -> list[tuple[str, ...]]:
    """The names of each component that has several."""
    together: dict[int, list[str]] = {}
    for node, number in numbers.items():
        together.setdefault(number, []).append(str(node[0]))
    return sorted(tuple(sorted(names)) for names in together.values() if len(names) > 1)


def _locks(situation: Situation, component: int) -> tuple[str, ...]:
    nodes = situation.members.get(component, {})
    return tuple(sorted({plain(str(node[1])) for node in nodes if node[0] in ("lock", "event")}))


def _places(situation: Situation) -> dict[tuple[str, str], dict[Span, None]]:
    """For each pair (held, waited for) the places where it occurs, or, across processors and call-outs, where the
    second is waited for."""
    found: dict[tuple[str, str], dict[Span, None]] = {}
    order = situation.order
    before: dict[Node, list[Node]] = {}
    for source, targets in order.edges.items():
        for target in targets:
            before.setdefault(target, []).append(source)
    for (source, target), numbers in chain(order.waits.items(), order.covers.items()):
        if target[0] in _SHOWN:
            for held in _shown_before(source, before):
                if held[1] == target[1] and not order.cyclic(held, target):
                    continue  # a reader behind a writer that waits for the same lock: no order of two locks
                for number in numbers:
                    _note(found, held, target, situation, situation.facts.positions[number].site)
    return found


_SHOWN = frozenset({"lock", "event"})


def _shown_before(node: Node, before: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """The node itself, if it is a lock or an event; else those that lead to it over processors and call-outs only."""
    found, pending = dict.fromkeys([node]), [node]
    while pending:
        following = pending.pop()
        if following[0] not in _SHOWN:
            fresh = [source for source in before.get(following, ()) if source not in found]
            found.update(dict.fromkeys(fresh))
            pending += fresh
    return [source for source in found if source[0] in _SHOWN]


def _note(
    found: dict[tuple[str, str], dict[Span, None]], source: Node, target: Node, situation: Situation, site: Site
) -> None:
    span = situation.graphs[site.graph].edges[site.edge].span
    held, wanted = plain(str(source[1])), plain(str(target[1]))
    if held != wanted or source[1] == target[1]:  # else a lock of two devices: no order of two locks
        found.setdefault((held, wanted), {})[span] = None


def _levels(graph: Mapping[Node, Iterable[Node]], numbers: Mapping[Node, int]) -> dict[Node, int]:
    """How many steps up from a lock that comes after none: equal ranks where nothing orders two locks."""
    height: dict[int, int] = {}
    for node in sorted(graph, key=lambda n: numbers[n]):
        mine = height.setdefault(numbers[node], 0)
        for target in graph[node]:
            if numbers[target] != numbers[node]:
                height[numbers[target]] = max(height.get(numbers[target], 0), mine + 1)
    return {node: height[numbers[node]] for node in graph}


__all__ = ["hierarchy"]
