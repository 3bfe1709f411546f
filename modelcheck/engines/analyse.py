"""From obligations to verdicts: fixpoint, alarms, paths, refinement, until each alarm is real or gone.

First no variable is followed. An alarm whose shortest path Z3 finds impossible names the variables to follow; alarms that
want the same ones share a fixpoint. What no longer alarms is proposed as proved, with the fixpoint's tables as invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from modelcheck.engines.fixpoint import Activation, Fixpoint, GaveUp
from modelcheck.engines.paths import Move, Paths
from modelcheck.engines.refine import Feasible, Infeasible, decide
from modelcheck.invariant import Invariant, Lives, Table, lives_from
from modelcheck.ir import Cell, Root
from modelcheck.layout import used_cells
from modelcheck.lower import Lowered, every_graph
from modelcheck.verdict import Trace

MAX_TRACKED = 40
MAX_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """`steps`: fixpoint steps for each analysis. `milliseconds`: for each question to Z3."""

    steps: int = 50_000_000
    milliseconds: int = 60_000


@dataclass(frozen=True, slots=True)
class Held:
    """Proposed as proved by an invariant (its number); `reached` False when nothing comes there."""

    invariant: int
    reached: bool


@dataclass(frozen=True, slots=True)
class Broken:
    trace: Trace
    root: Root


@dataclass(frozen=True, slots=True)
class Open:
    reason: str


Decision: TypeAlias = Held | Broken | Open


@dataclass(slots=True)
class Analysis:
    """Decides the obligations of a lowered driver. `invariants` grow as they are needed."""

    lowered: Lowered
    limits: Limits
    invariants: list[Invariant] = field(default_factory=list)
    decisions: dict[int, Decision] = field(default_factory=dict)
    lives: dict[Root, Lives] = field(default_factory=dict)
    _roots: dict[int, list[Root]] = field(default_factory=dict)
    _ends: dict[Root, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    def run(self) -> None:
        self._roots = _roots_of(self.lowered)
        self._phases()
        for invariant in self.invariants:
            if any(invariant.lives[root] != self.lives[root] for root in invariant.roots):
                invariant.obligations = frozenset()  # made before it was known how locks can start
        wanted = set(range(len(self.lowered.obligations))) - set(self.lowered.facts) - self.lowered.questions
        self.decide(wanted)

    # ---- the life of locks ----

    def _phases(self) -> None:
        """With which lives of locks each root starts: phase by phase, what the earlier ones can leave."""
        roots = self.lowered.roots
        for phase in range(6):
            members = [root for root in roots if root.phase == phase]
            while True:
                before = {root: self._start(root) for root in members}
                self.lives.update(before)
                for root in members:
                    self._end(root)
                if all(self._start(root) == before[root] for root in members):
                    break

    def _start(self, root: Root) -> Lives:
        return lives_from(root, [(other, self._ends.get(other, {})) for other in self.lowered.roots])

    def _end(self, root: Root) -> None:
        if not root.outcomes:
            return
        numbers = set(root.outcomes.values())
        for number in numbers:
            self.decisions.pop(number, None)
        self.decide(numbers)
        ends: dict[str, tuple[int, ...]] = {}
        for (name, value), number in sorted(root.outcomes.items()):
            if not isinstance(self.decisions[number], Held):
                ends[name] = (*ends.get(name, ()), value)
            else:
                ends.setdefault(name, ())
        self._ends[root] = ends

    # ---- refinement ----

    def decide(self, obligations: set[int]) -> None:
        """Decides these obligations."""
        agenda: dict[frozenset[Cell], set[int]] = {frozenset(): obligations}
        rounds = 0
        while agenda:
            tracked = min(agenda, key=lambda t: (len(t), sorted(c.name for c in t)))
            todo = agenda.pop(tracked)
            rounds += 1
            for number, more in self._round(tracked, todo).items():
                if len(more) > MAX_TRACKED or rounds > MAX_ROUNDS:
                    self.decisions[number] = Open("too many variables decide here together")
                else:
                    agenda.setdefault(more, set()).add(number)

    def _round(self, tracked: frozenset[Cell], todo: set[int]) -> dict[int, frozenset[Cell]]:
        """One fixpoint; gives for each obligation still open what to follow next."""
        roots = [root for root in self.lowered.roots if any(root in self._roots.get(n, ()) for n in todo)]
        fixpoint = Fixpoint(roots, tracked, self.limits.steps)
        try:
            for root in roots:
                fixpoint.run(root, self.lives[root])
        except GaveUp as gave_up:
            for number in todo:
                self.decisions[number] = Open(gave_up.reason)
            return {}
        number = len(self.invariants)
        reached = _reached(fixpoint)
        paths = Paths(fixpoint)
        proved: set[int] = set()
        again: dict[int, frozenset[Cell]] = {}
        for obligation in sorted(todo):
            if obligation in fixpoint.alarms:
                more = self._alarm(fixpoint, paths, obligation, tracked)
                if more is not None:
                    again[obligation] = more
            elif obligation in fixpoint.doubts:
                self.decisions[obligation] = Open("it comes after a call that no model knows")
            else:
                self.decisions[obligation] = Held(number, obligation in reached)
                proved.add(obligation)
        if proved:
            self.invariants.append(_invariant(fixpoint, self.lives, frozenset(proved)))
        return again

    def _alarm(
        self, fixpoint: Fixpoint, paths: Paths, obligation: int, tracked: frozenset[Cell]
    ) -> frozenset[Cell] | None:
        """Decides an alarm, or gives what to follow."""
        moves, _ = paths.shortest(fixpoint.alarms[obligation])
        root = next(r for r in fixpoint.roots if r.graph is moves[0].plan.layout.graph)
        answer = decide(
            self.lowered, root, self.lives[root], moves, obligation, tracked, self.limits.milliseconds
        )
        match answer:
            case Feasible(trace):
                self.decisions[obligation] = Broken(trace, root)
            case Infeasible(cells):
                more = cells - fixpoint.tracked or _looked_at(moves, fixpoint)
                if more:
                    return tracked | more
                self.decisions[obligation] = Open("the abstraction cannot tell the paths apart")
            case _:
                self.decisions[obligation] = Open(answer.reason)
        return None


def _looked_at(moves: list[Move], fixpoint: Fixpoint) -> frozenset[Cell]:
    """Where no cell's value has to be kept to see that a path is impossible: what its last step looks at, or else all it
    looks at, and is not followed yet."""
    for part in (moves[-1:], moves):
        found = frozenset(
            cell
            for move in part
            for cell in used_cells(move.plan.edge)
            if cell not in fixpoint.tracked and cell not in move.plan.layout.keys
        )
        if found:
            return found
    return frozenset()


def _roots_of(lowered: Lowered) -> dict[int, list[Root]]:
    """The roots from which each obligation can be met."""
    found: dict[int, list[Root]] = {}
    for root in lowered.roots:
        numbers: dict[int, None] = {}
        for graph in every_graph([root.graph]):
            for edge in graph.edges:
                numbers.update(dict.fromkeys(edge.obligations))
                numbers.update(dict.fromkeys(check.obligation for check in edge.checks))
        for number in numbers:
            found.setdefault(number, []).append(root)
    return found


def _reached(fixpoint: Fixpoint) -> set[int]:
    numbers: set[int] = set()
    for activation in fixpoint.activations.values():
        for plan in activation.reached:
            numbers.update(plan.edge.obligations)
            numbers.update(check.obligation for check in plan.edge.checks)
    return numbers


def _invariant(fixpoint: Fixpoint, lives: dict[Root, Lives], obligations: frozenset[int]) -> Invariant:
    """The fixpoint's tables, without anything of the engine in them."""
    tables = {a: Table(a.graph, a.table, {}) for a in fixpoint.activations.values()}
    for activation, table in tables.items():
        for location, plans in enumerate(activation.plans):
            for plan in plans:
                if plan.edge.callee is not None:
                    for key, sets in activation.table[location].items():
                        table.calls[plan.number, key] = tables[fixpoint.callee(plan, key, sets)]
    starts = {root: [tables[a] for a in started] for root, started in fixpoint.starts.items()}
    used = {root: lives[root] for root in fixpoint.roots}
    return Invariant(
        fixpoint.roots, fixpoint.tracked, fixpoint.layouts, list(tables.values()), starts, used, obligations
    )


__all__ = ["Activation", "Analysis", "Broken", "Decision", "Held", "Limits", "Open"]
