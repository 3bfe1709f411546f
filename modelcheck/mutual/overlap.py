"""Which roots of a driver can run at the same time, and which can take the processor from which: docs/language.md 7."""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck.devices import device_of, plain
from modelcheck.ir import START, Cell, Root
from modelcheck.lower import every_graph
from modelcheck.lower.enabling import after_enabling, enabled, enabled_by, goes_on, in_turn, stopping
from modelcheck.mutual.positions import Site
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL

LOAD, ADD, UNLOAD = 0, 1, 5


class Overlap:
    """Of the roots of one driver, by index."""

    def __init__(self, roots: list[Root]) -> None:
        self.roots = roots
        self.enabled = [enabled_by(root) for root in roots]
        by_load = self._in_turn(
            set[str]().union(*(e for r, e in zip(roots, self.enabled, strict=True) if r.phase == LOAD))
        )
        by_add = self._in_turn(
            set[str]().union(*(e for r, e in zip(roots, self.enabled, strict=True) if r.phase in (LOAD, ADD)))
        )
        by_any = set[str]().union(*self.enabled)
        self.devices = [tuple(device for _, device in root.devices) for root in roots]
        """For each root the devices it is given."""
        self.with_load = [root.routine in by_load for root in roots]
        self.with_add = [root.routine in by_add for root in roots]
        self.with_unload = [root.routine in by_any for root in roots]
        self._places: dict[tuple[int, str], set[tuple[int, int]]] = {}
        self._begun_by: dict[int, frozenset[str]] = {}
        self._resumed_by: dict[int, list[int]] = {}
        self._partners = _partners(roots)

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

    def kept_off(self, first: int, second: int, sites: tuple[Iterable[Site], Iterable[Site]] | None = None) -> str:
        """A device on which contexts of two roots are never at once, the first that one of them is given: nobody is on
        it while it is added, but for those whom adding one enables; and their roles may say so. `sites`: where the two
        are; whom one of them alone enables is there after that only. "" if there is no such device."""
        for one, other, at in ((first, second, 0), (second, first, 1)):
            device = self.common(one, other)
            if device and self._is_kept_off(one, other, None if sites is None else sites[at]):
                return device
        return ""

    def common(self, one: int, other: int) -> str:
        """The first device that a root is given, if another root is given it too; else ""."""
        given = self.devices[one]
        return given[0] if given and given[0] in self.devices[other] else ""

    def kept_apart(self, first: int, second: int, sites: tuple[Iterable[Site], Iterable[Site]] | None = None) -> bool:
        """The same of a driver that has one device and does not declare it."""
        ways = ((first, second, 0), (second, first, 1))
        return any(self._is_kept_off(one, other, None if sites is None else sites[at]) for one, other, at in ways)

    def _is_kept_off(self, one: int, other: int, sites: Iterable[Site] | None) -> bool:
        """Whether a root, at the sites, keeps another one off the device that both are given."""
        a = self.roots[one]
        if (a.phase == ADD and not self.with_add[other]) or other in self._partners[one]:
            return True
        return sites is not None and a.phase in (ADD, START) and not self._has_begun(one, sites, other)

    def awaits(self, first: int, second: int) -> bool:
        """Whether it is for the driver to see to that the second root has ended when the first begins."""
        awaited = self.roots[first].awaits
        return self.roots[second].role in awaited or "any" in awaited

    def follows(self, first: int, second: int) -> bool:
        """Whether a context of the second root may begin when one of the first has ended."""
        a, b = self.roots[first], self.roots[second]
        if first == second and a.phase in (LOAD, UNLOAD):
            return False
        if a.phase == UNLOAD and b.phase != UNLOAD:
            return self.with_unload[second]
        return a.phase == LOAD or b.phase != LOAD or self.with_load[first]

    def before_all(self, root: int, cell: Cell) -> bool:
        """Whether what a root writes to a variable is written before anybody else can look at it: it loads a driver
        that has enabled nobody, or adds the device whose variable it is, or the only device."""
        r = self.roots[root]
        if self.enabled[root]:
            return False
        if r.phase == LOAD:
            return not any(self.with_load)
        if r.phase != ADD or not any(other.devices for other in self.roots):
            return r.phase == ADD
        owner = device_of(cell.name.removeprefix("var "))
        return [plain(device) for _, device in r.devices].count(plain(owner)) == 1 and r.devices[0][1] == owner

    def started(self, root: int, sites: Iterable[Site], other: int) -> bool:
        """Whether, when a context of `root` is at one of the sites, the other root may have been started: while a
        driver loads, only what it has enabled by then."""
        return self.roots[root].phase != LOAD or root == other or self._has_begun(root, sites, other)

    def _has_begun(self, root: int, sites: Iterable[Site], other: int) -> bool:
        """Whether the other root may have been started, on one device, when a context of `root`, of an early phase, is
        at one of the sites."""
        if self.roots[root].phase != LOAD and self.roots[other].routine not in self.begun_by(root):
            return True
        name = self.roots[other].routine
        begins = [r.routine for r in self.roots if name in self._in_turn({r.routine})]
        places = set[tuple[int, int]]().union(*(self._after_enabling(root, first) for first in begins))
        return any((site.graph, site.edge) in places for site in sites)

    def begun_by(self, root: int) -> frozenset[str]:
        """The routines that do not begin before a root, which runs once, has enabled them."""
        known = self._begun_by.get(root)
        if known is None:
            by_any = set[str]().union(*self.enabled)
            routine = self.roots[root].routine
            free = {r.routine for r in self.roots if r.routine not in by_any and r.routine != routine}
            once = self.roots[root].single or self.roots[root].phase == ADD
            begun = self._in_turn({routine}) - self._in_turn(free) - {routine}
            known = self._begun_by[root] = frozenset(begun if once else ())
        return known

    def resumed_by(self, root: int) -> list[int]:
        """The roots behind which a device goes on with a root, of the phase `start`, again."""
        known = self._resumed_by.get(root)
        if known is None:
            stops = [n for n, stop in enumerate(self.roots) if self.roots[root] in goes_on(stop, self.roots)]
            known = self._resumed_by[root] = stops
        return known

    def stopping(self, stop: int) -> list[int]:
        """The roots that stop a device before one does, and that one."""
        return [self.roots.index(root) for root in stopping(self.roots[stop], self.roots)]

    def enabling(self, root: int, other: int) -> set[Span]:
        """The statements of a root that enable the other one themselves."""
        name = self.roots[other].routine
        edges = (edge for graph in every_graph([self.roots[root].graph]) for edge in graph.edges)
        return {edge.span for edge in edges if name in enabled(edge)}

    def _in_turn(self, routines: Iterable[str]) -> set[str]:
        """Routines, and those that they enable, and so on."""
        return in_turn(zip((root.routine for root in self.roots), self.enabled, strict=True), routines)

    def _after_enabling(self, root: int, routine: str) -> set[tuple[int, int]]:
        """Graph and edge numbers of a root that can come after a routine was enabled; the edge that does it is one."""
        known = self._places.get((root, routine))
        if known is None:
            numbers = {graph: n for n, graph in enumerate(every_graph([r.graph for r in self.roots]))}
            after = after_enabling(self.roots[root], routine)
            known = self._places[root, routine] = {(numbers[g], edge) for g, edges in after.items() for edge in edges}
        return known

    def meeting(self, root: int) -> tuple[object, ...]:
        """Roots with the same answer meet the same other roots, and each other."""
        r = self.roots[root]
        if r.single or r.phase in (LOAD, UNLOAD):
            return ("root", root)
        return ("any", self.with_load[root], self.with_unload[root], self._partners[root])


def _partners(roots: list[Root]) -> list[frozenset[int]]:
    """For each root those that their roles never let be there at once with it, on one device."""
    by_role: dict[str, set[int]] = {}
    by_word: dict[str, set[int]] = {}
    for index, root in enumerate(roots):
        by_role.setdefault(root.role, set()).add(index)
        if root.among:
            by_word.setdefault(root.among, set()).add(index)
    found = [by_word.get(root.among, set()) - {index} for index, root in enumerate(roots)]
    for index, root in enumerate(roots):
        for other in (o for role in sorted(root.apart) for o in sorted(by_role.get(role, ()))):
            found[index].add(other)
            found[other].add(index)
    return [frozenset(partners) for partners in found]


def takes_over(level: int, below: Root, above: Root, at: int) -> bool:
    """Whether a context of `above`, waiting at the level `at`, can have the processor of one of `below` at `level` for
    as long as it waits: it has interrupted it, or displaced a thread and cannot be displaced."""
    if above.kind != "thread":
        return above.admitted > level
    return below.kind == "thread" and level < DISPATCH_LEVEL <= at
