"""The roots of a driver as transition systems, for obligations that one context alone can break."""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.export.refusal import NotExportable
from modelcheck.invariant import Lives
from modelcheck.ir import Root, Sort
from modelcheck.lower import Lowered, every_graph
from modelcheck.system import NotFlat, System
from modelcheck.verdict import MUTUAL, Property


def single(lowered: Lowered) -> dict[int, tuple[Root, ...]]:
    """The obligations that one context alone can break, by number, each with the roots that come to it."""
    found: dict[int, list[Root]] = {}
    for root in lowered.roots:
        numbers: set[int] = set()
        for graph in every_graph([root.graph]):
            for edge in graph.edges:
                numbers.update(edge.obligations)
                numbers.update(check.obligation for check in edge.checks)
        for number in numbers:
            if number < lowered.own and number not in lowered.questions and number not in lowered.facts:
                code = lowered.obligations[number].code
                if code not in MUTUAL and code is not Property.T01:
                    found.setdefault(number, []).append(root)
    return {number: tuple(found[number]) for number in sorted(found)}


def lives(lowered: Lowered) -> dict[Root, Lives]:
    """How the life of each lock can stand when a root starts."""
    analysis = Analysis(lowered, Limits())
    analysis.run()
    return analysis.lives


def system(lowered: Lowered, root: Root, numbers: Iterable[int], starts: Lives) -> System:
    """
    Raises:
        NotExportable: the root calls what no model knows, or itself, or is too large.
    """
    for graph in every_graph([root.graph]):
        for edge in graph.edges:
            if edge.operation is not None:
                written = (edge.cells[register] for register in edge.operation.writes)
                if any(cell is not None and cell.sort is Sort.TAINT for cell in written):
                    unknown = ", ".join(f"`{name}`" for name in sorted(lowered.unmodelled))
                    raise NotExportable(f"no model knows {unknown or 'a routine that is called'}")
    try:
        return System(root, frozenset(numbers), starts)
    except NotFlat as error:
        raise NotExportable(f"`{root.routine}`: {error}") from None
