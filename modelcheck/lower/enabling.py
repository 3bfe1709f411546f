"""What a routine enables, and what it still does when that may run already: docs/language.md 6 and 7."""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck import ir
from modelcheck.ir import RUN, Edge, Graph, Root, Sort, every_graph, instructions


def enabled(edge: Edge) -> set[str]:
    """The routines that an edge enables."""
    code = () if edge.operation is None else edge.operation.code
    return {i.routine for i in instructions(code) if isinstance(i, ir.Enable) and i.on}


def enabled_by(root: Root) -> frozenset[str]:
    """Routines that a root enables somewhere."""
    return frozenset(name for graph in every_graph([root.graph]) for edge in graph.edges for name in enabled(edge))


def in_turn(enables: Iterable[tuple[str, frozenset[str]]], routines: Iterable[str]) -> set[str]:
    """Routines, and those that they enable, and so on. `enables`: for each root its routine and what it enables."""
    enables = list(enables)
    found = set(routines)
    pending = list(found)
    while pending:
        name = pending.pop()
        for routine, others in enables:
            if routine == name:
                pending += sorted(others - found)
                found |= others
    return found


def after_enabling(root: Root, routine: str) -> dict[Graph, set[int]]:
    """The edges of a root, by number, that can come after a routine was enabled; the edge that does it is one."""
    graphs = every_graph([root.graph])
    after: dict[Graph, set[int]] = {graph: set() for graph in graphs}
    found: dict[Graph, set[int]] = {graph: set() for graph in graphs}
    changed = True
    while changed:
        changed = False
        for graph in graphs:
            for number, edge in enumerate(graph.edges):
                begun = edge.source in after[graph]
                does = routine in enabled(edge)
                if edge.callee is not None:
                    entered = after[edge.callee]
                    if begun and edge.callee.entry not in entered:
                        entered.add(edge.callee.entry)
                        changed = True
                    does = edge.callee.exit in entered
                if begun or (does and edge.callee is None):
                    found[graph].add(number)
                if (begun or does) and edge.target not in after[graph]:
                    after[graph].add(edge.target)
                    changed = True
    return found


def note_early(roots: list[Root]) -> None:
    """Notes for each root which locks may not be initialised yet when it starts: who has enabled it in an earlier phase
    does that only afterwards."""
    enables = [(root.routine, enabled_by(root)) for root in roots]
    for root, (_, routines) in zip(roots, enables, strict=True):
        if root.phase >= RUN:
            continue
        for routine in sorted(routines):
            late = _written_after(root, routine)
            begun = in_turn(enables, {routine}) if late else set()
            for other in roots:
                if other.routine in begun and other.phase > root.phase:
                    other.early.update(late)


def _written_after(root: Root, routine: str) -> dict[str, tuple[int, ...]]:
    """The lives of locks that a root changes after it has enabled a routine, as they were declared."""
    found: dict[str, tuple[int, ...]] = {}
    for graph, numbers in after_enabling(root, routine).items():
        for edge in (graph.edges[number] for number in numbers):
            for register in () if edge.operation is None else edge.operation.writes:
                cell = edge.cells[register]
                if cell is not None and cell.sort is Sort.LIFE:
                    found[cell.name] = tuple(cell.start)
    return found
