"""The order of a driver's locks for people: a rank for each, the pairs that occur, the cycles nothing can come of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
            graph.setdefault((position.wanted,), {})
    for held, wanted in places:
        graph.setdefault((held,), {})[wanted,] = None
        graph.setdefault((wanted,), {})
    numbers = components(graph)
    ranks = _levels(graph, numbers)
    listed = sorted(((str(node[0]), rank) for node, rank in ranks.items()), key=lambda item: (item[1], item[0]))
    pairs = tuple(
        (held, wanted, tuple(dict.fromkeys(spans)))
        for (held, wanted), spans in sorted(places.items(), key=lambda item: (ranks[item[0][0],], item[0]))
    )
    cycles = tuple(
        Ruled(locks, "; ".join(sorted(set(reasons))))
        for component, reasons in sorted(ruled.items())
        if (locks := _locks(situation, component))
    )
    events = tuple(sorted({p.wanted for p in situation.facts.positions if p.sort == "event"}))
    return Hierarchy(tuple(listed), pairs, cycles, events)


def _locks(situation: Situation, component: int) -> tuple[str, ...]:
    nodes = situation.members.get(component, {})
    return tuple(sorted({str(node[1]) for node in nodes if node[0] in ("lock", "event")}))


def _places(situation: Situation) -> dict[tuple[str, str], list[Span]]:
    """For each pair (held, waited for) the places where it occurs, or, across a processor, where the second is waited
    for."""
    found: dict[tuple[str, str], list[Span]] = {}
    order, positions = situation.order, situation.facts.positions
    behind: dict[Node, list[Node]] = {}
    for source, targets in order.edges.items():
        for target in targets:
            behind.setdefault(target, []).append(source)
    for (source, target), numbers in order.waits.items():
        if source[0] in ("lock", "event") and target[0] in ("lock", "event"):
            for number in numbers:
                _note(found, source, target, situation, positions[number].site)
    for (cover, target), numbers in order.covers.items():
        for source in behind.get(cover, ()):
            if source[0] == "lock":
                for number in numbers:
                    _note(found, source, target, situation, positions[number].site)
    for (role, target), numbers in order.waits.items():
        if role[0] == "role":
            for source in behind.get(role, ()):
                for number in numbers:
                    _note(found, source, target, situation, positions[number].site)
    return found


def _note(
    found: dict[tuple[str, str], list[Span]], source: Node, target: Node, situation: Situation, site: Site
) -> None:
    span = situation.graphs[site.graph].edges[site.edge].span
    spans = found.setdefault((str(source[1]), str(target[1])), [])
    if span not in spans:
        spans.append(span)


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
