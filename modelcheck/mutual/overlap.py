"""Which roots of a driver can run at the same time, and which can take the processor from which: docs/language.md 7."""

from __future__ import annotations

from modelcheck import ir
from modelcheck.ir import Root
from modelcheck.lower import every_graph
from modelcheck.verdict import DISPATCH_LEVEL

LOAD, START, UNLOAD = 0, 2, 5


class Overlap:
    """Of the roots of one driver, by index."""

    def __init__(self, roots: list[Root]) -> None:
        self.roots = roots
        self.enabled = [enabled_by(root) for root in roots]
        by_load = set[str]().union(*(e for r, e in zip(roots, self.enabled, strict=True) if r.phase == LOAD))
        by_any = set[str]().union(*self.enabled)
        self.with_load = [root.routine in by_load for root in roots]
        self.with_unload = [root.routine in by_any for root in roots]

    def meet(self, first: int, second: int) -> bool:
        """Whether a context of one root can be there while one of the other is."""
        a, b = self.roots[first], self.roots[second]
        if first == second:
            return not a.single and a.phase not in (LOAD, UNLOAD)
        for one, other, index in ((a, b, second), (b, a, first)):
            if one.phase == LOAD and (other.phase == UNLOAD or not self.with_load[index]):
                return False
            if one.phase == UNLOAD and (other.phase == LOAD or not self.with_unload[index]):
                return False
        return True

    def meeting(self, root: int) -> tuple[object, ...]:
        """Roots with the same answer meet the same other roots, and each other."""
        r = self.roots[root]
        if r.single or r.phase in (LOAD, UNLOAD):
            return ("root", root)
        return ("any", self.with_load[root], self.with_unload[root])


def takes_over(level: int, below: Root, above: Root, at: int) -> bool:
    """Whether a context of `above`, waiting at the level `at`, can have the processor of one of `below` at `level` for
    as long as it waits: it has interrupted it, or displaced a thread and cannot be displaced."""
    if above.kind != "thread":
        return max(above.levels, default=DISPATCH_LEVEL) > level
    return below.kind == "thread" and level < DISPATCH_LEVEL <= at


def enabled_by(root: Root) -> frozenset[str]:
    """Routines that a root enables somewhere."""
    found = set()
    for graph in every_graph([root.graph]):
        for edge in graph.edges:
            if edge.operation is not None:
                found.update(_enabled(edge.operation.code))
    return frozenset(found)


def _enabled(code: tuple[ir.Instruction, ...]) -> set[str]:
    found: set[str] = set()
    for instruction in code:
        match instruction:
            case ir.Enable(routine, True):
                found.add(routine)
            case ir.Choose(_, then, otherwise):
                found |= _enabled(then) | _enabled(otherwise)
            case _:
                pass
    return found
