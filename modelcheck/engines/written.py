"""Which values of shared variables others really write: a run that rests on one is shown only if another writes it.

Of a variable with a guard only what it is left with when the guard is released counts, and of several variables with
the same guard only what they are left with together: who acquires it sees nothing in between (docs/language.md 4). What
earlier phases have written and nobody changes meanwhile is seen together too, and with it how they have left locks."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

from modelcheck import ir
from modelcheck.engines.analyse import LIFE, Analysis, Broken
from modelcheck.ir import FREED, INITIALISED, UNINITIALISED, Cell, Edge, Graph, Root, every_graph, instructions
from modelcheck.lower import Lowered
from modelcheck.lower.builder import really_written
from modelcheck.lower.enabling import enabled_by, in_turn
from modelcheck.mutual.overlap import LOAD, UNLOAD
from modelcheck.mutual.questions import BEHIND, Place, Question, Questions, Test
from modelcheck.record import dataclass
from modelcheck.resolve import qualified
from modelcheck.syntax import VarDecl
from modelcheck.verdict import Choice, Trace

MOST_PLACES = 200
"""Places at which one root is asked whether it leaves a variable so."""
MOST_ASKED = 60
"""Questions that are asked about one combination of values."""

_PLAUSIBLE = (INITIALISED, UNINITIALISED, FREED)
"""The lives that a lock may have had before, the one first that needs least."""

Values: TypeAlias = tuple[tuple[str, int], ...]
"""What somebody sees at once: shared variables with their values (`var x`), locks with their lives (`life L`)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What somebody sees at once; `without`: the roots that do not write it for them; `ended`: it is as those leave it
    who have ended by then; `by`: those who can have left locks so, if not all."""

    values: Values
    without: frozenset[Root]
    ended: bool = False
    by: frozenset[Root] = frozenset()

    @property
    def lives(self) -> Values:
        return tuple((name, value) for name, value in self.values if name.startswith("life "))

    @property
    def variables(self) -> Values:
        return tuple((name, value) for name, value in self.values if name.startswith("var "))

    def unknown(self, root: Root) -> str:
        """What is not known of it, if a root is who sees it."""
        names = ", ".join(name.removeprefix("var ") for name, _ in self.variables)
        locks = " and ".join(f"{name.removeprefix('life ')} is {LIFE[value]}" for name, value in self.lives)
        if locks and names:
            return f"whether `{names}` is ever so while {locks} is not known"
        if locks:
            return f"whether {locks} when {root.routine} starts is not known"
        return f"it depends on which values others write to `{names}`, which is not known exactly"


class Written:
    """What is known of one driver: for each combination of values whether some run leaves them so."""

    def __init__(self, lowered: Lowered, analysis: Analysis) -> None:
        self.lowered = lowered
        self.analysis = analysis
        self.rests: dict[Seen, list[frozenset[Seen]]] = {}
        """Of what was asked about: for each run that leaves it so what that rests on itself."""
        self.open: dict[Seen, list[tuple[Question, bool]]] = {}
        """What can still be asked about it; with whether that root is to do it all by itself."""
        self.shown: set[Seen] = set()
        self.writes: dict[Root, frozenset[str]] = {}

    @cached_property
    def _late(self) -> set[str]:
        """The routines that may still run while the driver is unloaded."""
        enables = [(root.routine, enabled_by(root)) for root in self.lowered.roots]
        return in_turn(enables, frozenset[str]().union(*(routines for _, routines in enables)))

    def doubt(self, trace: Trace, root: Root, lock: str = "") -> str:
        """Why it is not known that what a run of a root sees of shared variables is ever so, and at once the life of a
        lock, if that is what it is about; "" if it is."""
        for seen in self._rests_on(trace, root, [f"life {lock}"] if lock else []):
            if not self._is_shown(seen):
                return seen.unknown(root)
        return ""

    def _rests_on(self, trace: Trace, root: Root, names: Iterable[str]) -> list[Seen]:
        """What a run of a root has seen of what others have written; of how they have left locks only those of
        `names`."""
        lives = self._lives(trace, root, names)
        if not lives and not any(self._shared(trace.choices)):
            return []
        late = root.phase == UNLOAD or root.routine in self._late
        gone = frozenset(r for r in self.lowered.roots if r.phase == UNLOAD and not late)
        itself = frozenset({root}) if root.single or root.phase in (LOAD, UNLOAD) else frozenset()
        first: dict[str, Choice] = {}
        for step in trace.steps:
            for choice in self._shared(step.choices):
                first.setdefault(choice.name, choice)
        start = [c for c in self._shared(trace.start) if c.name not in first or first[c.name].own]
        lasting = tuple(sorted((c.name, c.value) for c in start if not self._is_written_beside(root, c.name)))
        found: list[Seen] = []
        resumed = any(name in root.resumed and value in root.early[name] for name, value in lives)
        by = self._left_by(root, lives) if resumed else frozenset[Root]()
        if resumed or not self._are_declared(lasting) or self._is_written_before(root, (*lives, *lasting)):
            found.append(Seen((*lives, *lasting), gone, True, by))
        for values in self._at_once([c for c in start if self._is_written_beside(root, c.name)]):
            if resumed or not self._are_declared(values) or (lives and self._is_written_before(root, values)):
                found.append(Seen((*lives, *values), gone, False, by))
        for step in trace.steps:
            found += [Seen((*lives, *values), gone | itself, False, by) for values in self._at_once(step.choices)]
        return list(dict.fromkeys(found))

    def _lives(self, trace: Trace, root: Root, names: Iterable[str]) -> Values:
        """How a run of a root has found locks: of those of `names`, but where an earlier phase is still at work."""
        chosen = {choice.name: choice.value for choice in trace.start}
        lives = self.analysis.lives[root]
        found = []
        for name in sorted(name for name in names if name.startswith("life ")):
            known = lives.get(name, ())
            value = chosen.get(name, known[0] if len(known) == 1 else None)
            early = value in root.early.get(name, ()) and name not in root.resumed
            if value is not None and not early:
                found.append((name, value))
        return tuple(found)

    def _left_by(self, root: Root, lives: Values) -> frozenset[Root]:
        """The roots that have left locks so when the device of a root goes on."""
        asked = {number for name, value in lives for number in root.early.get(name, {}).get(value, ())}
        return frozenset(other for other in self.lowered.roots if not asked.isdisjoint(other.outcomes.values()))

    def _is_written_beside(self, root: Root, name: str) -> bool:
        cell = root.environment.cells.get(name)
        return cell is not None and bool(cell.others)

    def _is_written_before(self, root: Root, values: Values) -> bool:
        """Whether a routine of an earlier phase than that of a root writes one of these."""
        names = {name for name, _ in values}
        return any(other.phase < root.phase and names & self._writes(other) for other in self.lowered.roots)

    def _writes(self, root: Root) -> frozenset[str]:
        """The variables and lives of locks that a root writes, by name."""
        found = self.writes.get(root)
        if found is None:
            edges = [edge for graph in every_graph([root.graph]) for edge in graph.edges if edge.operation is not None]
            cells = (edge.cells[register] for edge in edges for register in really_written(edge))
            found = self.writes[root] = frozenset(cell.name for cell in cells if cell is not None)
        return found

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
                self.open[here] = self._questions(here)
            if here in self.shown:
                continue
            if self.open[here]:
                self._ask(here, *self.open[here].pop(0))
            following = {other for rests in self.rests.get(here, ()) for other in rests} - reached
            reached |= following
            pending += sorted(following, key=lambda other: other.values)
            if self.open[here]:
                pending.append(here)
        return seen in self.shown

    def _ask(self, seen: Seen, question: Question, fresh: bool) -> None:
        """One more root: whether a run of it leaves it so, and what that rests on; `fresh`: if variables are as
        declared when it starts, and locks are not so by then."""
        root, lives = question.root, self.analysis.lives[question.root]
        starts = root.starts
        if fresh:
            root.starts = {name: self._at_first(name, values) for name, values in starts.items()}
            others = {name: [v for v in _PLAUSIBLE if v in lives.get(name, ()) and v != so] for name, so in seen.lives}
            lives = {**lives, **{name: (values[0],) for name, values in others.items() if values}}
        probes = Questions(self.lowered)
        numbers = probes.insert([question])
        try:
            decision = self.analysis.answers([question], numbers, {root: lives}).decisions[numbers[0]]
        finally:
            probes.remove()
            root.starts = starts
        runs = self.rests.setdefault(seen, [])
        if isinstance(decision, Broken):
            names = [name for name, _ in seen.lives]
            untold = self._untold(root, seen) if question.places[0].index != BEHIND else ()
            rests = self._rests_on(decision.trace, root, names)
            runs.append(frozenset(rests if self._are_declared(untold) else [*rests, Seen(untold, seen.without, True)]))
            self._spread()

    def _spread(self) -> None:
        """What rests on what is shown is shown."""
        found = True
        while found:
            more = {seen for seen, runs in self.rests.items() if any(rests <= self.shown for rests in runs)}
            found = not more <= self.shown
            self.shown |= more

    def _at_first(self, name: str, values: Sequence[int]) -> Sequence[int]:
        """Of the values of a variable the one that it is declared with, if there is one."""
        declared = self._declared(name)
        value = self.lowered.program.constant_of(declared.type, declared.value) if declared.value is not None else None
        return values if value is None else (value,)

    def _are_declared(self, values: Values) -> bool:
        """Whether variables have the values they are declared with."""
        program = self.lowered.program
        for name, value in values:
            declared = self._declared(name)
            if declared.value is not None and program.constant_of(declared.type, declared.value) != value:
                return False
        return True

    def _questions(self, seen: Seen) -> list[tuple[Question, bool]]:
        """What to ask the roots that can leave it so: at their end first whether they do so by themselves."""
        found = []
        for root in self.lowered.roots:
            left = None if root in seen.without else self._leaving(root, seen)
            if left is not None:
                at_end = left[0][0].index != BEHIND
                found += [(Question(root, *left), fresh) for fresh in ((True, False) if at_end else (False,))]
        return sorted(found, key=lambda asked: not asked[1])

    def _leaving(self, root: Root, seen: Seen) -> tuple[tuple[Place, ...], tuple[Test, ...]] | None:
        """Where a root may have left it so; with what is asked there. Locks are seen as it leaves them when it has
        ended; who does not change them may have written the variables at any time."""
        writes = self._writes(root)
        if seen.by and root not in seen.by and not writes.isdisjoint(name for name, _ in seen.lives):
            return None
        if not writes.isdisjoint(name for name, _ in (seen.values if seen.ended else seen.lives)):
            names = {name for name, _ in self._untold(root, seen)}
            later = (other for other in self.lowered.roots if other is not root and other.phase >= root.phase)
            return None if any(names & self._writes(other) for other in later) else self._at_end(root, seen.values)
        if not seen.ended and not writes.isdisjoint(name for name, _ in seen.variables):
            return self._behind(root, seen.variables)
        return None

    def _untold(self, root: Root, seen: Seen) -> Values:
        """The variables that a root knows nothing of: they are as those have left them who have ended before."""
        return tuple((name, value) for name, value in seen.variables if name not in root.environment.cells)

    def _at_end(self, root: Root, values: Values) -> tuple[tuple[Place, ...], tuple[Test, ...]]:
        """Where a root has ended and the driver goes on, with all that it knows."""
        cells = root.environment.cells
        tests = tuple(Test(cells[name], value) for name, value in values if name in cells)
        last = next(n for n, edge in enumerate(root.graph.edges) if edge.target == root.graph.exit)
        return (Place(root.graph, last),), tests

    def _behind(self, root: Root, values: Values) -> tuple[tuple[Place, ...], tuple[Test, ...]] | None:
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
