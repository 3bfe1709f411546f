"""Which values of shared variables others really write: a run that rests on one is shown only if another writes it.

Of a variable with a guard only what it is left with when the guard is released counts, and of several variables with
the same guard only what they are left with together: who acquires it sees nothing in between (docs/language.md 4)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

from modelcheck import ir
from modelcheck.engines.analyse import Analysis, Broken
from modelcheck.ir import Cell, Edge, Graph, Root, every_graph, instructions
from modelcheck.lower import Lowered
from modelcheck.lower.builder import really_written
from modelcheck.lower.enabling import enabled_by, in_turn
from modelcheck.mutual.overlap import LOAD, UNLOAD
from modelcheck.mutual.questions import BEHIND, Place, Question, Questions, Test
from modelcheck.resolve import qualified
from modelcheck.syntax import VarDecl
from modelcheck.verdict import Choice, Trace

MOST_PLACES = 200
"""Places at which one root is asked whether it leaves a variable so."""
MOST_ASKED = 60
"""Questions that are asked about one combination of values."""

Values: TypeAlias = tuple[tuple[str, int], ...]
"""Shared variables with the values that somebody sees of them at once."""
Seen: TypeAlias = tuple[Values, frozenset[Root]]
"""With the roots that do not write them for whom sees it."""


class Written:
    """What is known of one driver: for each combination of values whether some run leaves them so."""

    def __init__(self, lowered: Lowered, analysis: Analysis) -> None:
        self.lowered = lowered
        self.analysis = analysis
        self.rests: dict[Seen, list[frozenset[Seen]]] = {}
        """Of what was asked about: for each run that leaves it so what that rests on itself."""
        self.open: dict[Seen, list[Question]] = {}
        """What can still be asked about it."""
        self.shown: set[Seen] = set()

    @cached_property
    def _late(self) -> set[str]:
        """The routines that may still run while the driver is unloaded."""
        enables = [(root.routine, enabled_by(root)) for root in self.lowered.roots]
        return in_turn(enables, frozenset[str]().union(*(routines for _, routines in enables)))

    def guessed(self, trace: Trace, root: Root) -> str:
        """A shared variable whose value in a run of a root nobody is known to write; "" if there is none."""
        for seen in self._rests_on(trace, root):
            if not self._is_shown(seen):
                return ", ".join(dict.fromkeys(name.removeprefix("var ") for name, _ in seen[0]))
        return ""

    def _rests_on(self, trace: Trace, root: Root) -> list[Seen]:
        """What a run of a root has seen of what others have written."""
        if not any(self._shared(trace.choices)):
            return []
        late = root.phase == UNLOAD or root.routine in self._late
        gone = frozenset(r for r in self.lowered.roots if r.phase == UNLOAD and not late)
        itself = frozenset({root}) if root.single or root.phase in (LOAD, UNLOAD) else frozenset()
        start = [values for values in self._at_once(trace.start) if not self._are_declared(values)]
        found: list[Seen] = [(values, gone) for values in start]
        found += [(values, gone | itself) for step in trace.steps for values in self._at_once(step.choices)]
        return list(dict.fromkeys(found))

    def _shared(self, choices: Iterable[Choice]) -> Iterator[Choice]:
        """The choices of what others have written."""
        variables = self.lowered.program.variables
        return (c for c in choices if c.name.startswith("var ") and c.name.removeprefix("var ") in variables)

    def _declared(self, name: str) -> VarDecl:
        return self.lowered.program.variables[name.removeprefix("var ")]

    def _guard(self, name: str) -> str:
        """The guard of a variable; "" if it has none."""
        return next((qualified(guard) for guard in self._declared(name).guards), "")

    def _at_once(self, choices: Sequence[Choice]) -> list[Values]:
        """What is seen in one step of what others have written: variables with the same guard together, every other one
        by itself."""
        groups: dict[str, list[Choice]] = {}
        for choice in self._shared(choices):
            guard = self._guard(choice.name)
            groups.setdefault(f"guard {guard}" if guard else choice.name, []).append(choice)
        seen = [group for group in groups.values() if not all(choice.own for choice in group)]
        return [tuple(sorted({choice.name: choice.value for choice in group}.items())) for group in seen]

    def _is_shown(self, seen: Seen) -> bool:
        """Whether some run leaves the variables so, and rests itself only on what some run leaves."""
        pending = [seen]
        reached = set(pending)
        for _ in range(MOST_ASKED):
            if not pending or seen in self.shown:
                break
            here = pending.pop(0)
            if here not in self.open:
                self.open[here] = self._questions(*here)
            if here in self.shown:
                continue
            if self.open[here]:
                self._ask(here, self.open[here].pop(0))
            following = {other for rests in self.rests.get(here, ()) for other in rests} - reached
            reached |= following
            pending += sorted(following, key=lambda other: other[0])
            if self.open[here]:
                pending.append(here)
        return seen in self.shown

    def _ask(self, seen: Seen, question: Question) -> None:
        """One more root: whether a run of it leaves the variables so, and what that rests on."""
        probes = Questions(self.lowered)
        numbers = probes.insert([question])
        try:
            decision = self.analysis.answers([question], numbers).decisions[numbers[0]]
        finally:
            probes.remove()
        runs = self.rests.setdefault(seen, [])
        if isinstance(decision, Broken):
            runs.append(frozenset(self._rests_on(decision.trace, question.root)))
            self._spread()

    def _spread(self) -> None:
        """What rests on what is shown is shown."""
        found = True
        while found:
            more = {seen for seen, runs in self.rests.items() if any(rests <= self.shown for rests in runs)}
            found = not more <= self.shown
            self.shown |= more

    def _are_declared(self, values: Values) -> bool:
        program = self.lowered.program
        for name, value in values:
            declared = self._declared(name)
            if declared.value is not None and program.constant_of(declared.type, declared.value) != value:
                return False
        return True

    def _questions(self, values: Values, without: frozenset[Root]) -> list[Question]:
        """What to ask the roots that can leave the variables so."""
        return [
            Question(root, places, tests)
            for root in self.lowered.roots
            if root not in without and (found := self._writing(root, values)) is not None
            for places, tests in [found]
        ]

    def _writing(self, root: Root, values: Values) -> tuple[tuple[Place, ...], tuple[Test, ...]] | None:
        """Behind which edges of a root the variables can have these values because it has just written one of them,
        and are left so; with what is asked there."""
        cells = [root.environment.cells.get(name) for name, _ in values]
        tests = tuple(Test(c, value) for c, (_, value) in zip(cells, values, strict=True) if c is not None)
        if len(tests) < len(values):
            return None
        wanted = {test.cell: test.value for test in tests}
        guard = self._guard(values[0][0])
        flow = _Flow(root)
        places = tuple(
            Place(graph, number, BEHIND)
            for graph in flow.graphs
            for number, edge in enumerate(graph.edges)
            if _writes(edge, wanted)
            and flow.stay(graph, edge, wanted, _is_step)
            and (not guard or flow.stay(graph, edge, wanted, lambda other: _releases(other, f"hold {guard}")))
        )
        return (places, tests) if 0 < len(places) <= MOST_PLACES else None


def _writes(edge: Edge, wanted: dict[Cell, int]) -> bool:
    """Whether an edge can write one of these values."""
    for instruction in instructions(edge.code):
        match instruction:
            case ir.Set(register, ir.Const(value)):
                cell = edge.cells[register]
                if cell is not None and wanted.get(cell) == value:
                    return True
            case ir.Set(register) | ir.Pick(register):
                if edge.cells[register] in wanted:
                    return True
    return False


class _Flow:
    """Where the edges of a root lead."""

    def __init__(self, root: Root) -> None:
        self.graphs = every_graph([root.graph])
        self.leaving: dict[tuple[Graph, int], list[Edge]] = {}
        self.behind: dict[Graph, list[tuple[Graph, int]]] = {}
        """For each graph the locations to which its calls return."""
        for graph in self.graphs:
            for edge in graph.edges:
                self.leaving.setdefault((graph, edge.source), []).append(edge)
                if edge.callee is not None:
                    self.behind.setdefault(edge.callee, []).append((graph, edge.target))

    def stay(self, graph: Graph, edge: Edge, cells: Container[Cell | None], ends: Callable[[Edge], bool]) -> bool:
        """Whether nothing writes these cells behind an edge, on whatever path, before an edge that `ends` it."""
        seen: set[tuple[Graph, int]] = set()
        pending = [(graph, edge.target)]
        while pending:
            here, location = pending.pop()
            if (here, location) in seen:
                continue
            seen.add((here, location))
            if location == here.exit:
                pending += self.behind.get(here, ())
            for following in self.leaving.get((here, location), ()):
                if ends(following):
                    continue
                if following.callee is not None:
                    pending.append((following.callee, following.callee.entry))
                elif following.operation is None:
                    pending.append((here, following.target))
                elif any(following.cells[register] in cells for register in really_written(following)):
                    return False
                else:
                    pending.append((here, following.target))
        return True


def _is_step(edge: Edge) -> bool:
    """Whether others can come between what was before and an edge."""
    return (edge.step or edge.callee is not None) and not edge.joined


def _releases(edge: Edge, lock: str) -> bool:
    dropped = [i.register for i in instructions(edge.code) if isinstance(i, ir.Drop)]
    return any((cell := edge.cells[register]) is not None and cell.name == lock for register in dropped)


__all__ = ["Written"]
