"""The edges of one graph, and what they are made with.

Locations that are only joined by "go on" are one location (`Places`), so that a graph has no edges without meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Edge, Graph, Sort
from modelcheck.lower.builder import Builder
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.repeated import Patterns
from modelcheck.lower.scope import (
    Binding,
    Handle,
    Ledger,
    Lock,
    Object,
    State,
    Variable,
    is_kirql,
)
from modelcheck.record import dataclass, field
from modelcheck.resolve import Program, type_range
from modelcheck.source import Span

Key: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class Unit:
    """What the lowering of a whole program shares: one for each environment, with common operations and ledger."""

    program: Program
    state: State
    ledger: Ledger
    operations: dict[object, ir.Operation]
    patterns: Patterns = field(default_factory=Patterns)
    graphs: dict[Key, Graph] = field(default_factory=dict)
    order: list[Graph] = field(default_factory=list)
    is_graph: dict[str, bool] = field(default_factory=dict)
    """Which names, when called, are graphs of their own."""

    def graph(self, routine: s.Routine, names: dict[str, Binding], quiet: bool = False) -> Graph:
        """The graph of a routine for what its lock, handle and object parameters are bound to, and for calls in
        `atomic` (`quiet`); made once."""
        key: Key = (routine.name, quiet, *(_binding_key(names.get(name_of(p))) for p in routine.params))
        graph = self.graphs.get(key)
        if graph is None:
            graph = self.graphs[key] = Graph(routine.name, routine.name, routine.span)
            self.order.append(graph)
            from modelcheck.lower.routine import RoutineLowerer  # which is made of these

            RoutineLowerer(self, graph, routine, names, quiet).lower()
        return graph


def name_of(param: s.Param) -> str:
    return "..." if isinstance(param, s.RestParam) else param.name


def _binding_key(binding: Binding | None) -> object:
    match binding:
        case Lock(name) | Object(name):
            return name
        case Handle(_, candidates):
            return candidates
        case Variable(Cell() as cell) if cell.is_global:
            return cell.name
        case _:
            return None


class Places:
    """Locations, with those that mean the same place merged."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.same: dict[int, int] = {}

    def new(self) -> int:
        return self.graph.location()

    def find(self, place: int) -> int:
        while place in self.same:
            place = self.same[place]
        return place

    def merge(self, place: int, into: int) -> None:
        """`place`, which nothing leaves yet, is `into`."""
        place, into = self.find(place), self.find(into)
        if place != into:
            self.same[place] = into

    def settle(self) -> None:
        """Numbers the locations anew, without gaps, entry 0 and exit last."""
        graph = self.graph
        entry, last = self.find(graph.entry), self.find(graph.exit)
        used = {entry, last}
        for edge in graph.edges:
            edge.source, edge.target = self.find(edge.source), self.find(edge.target)
            used.update((edge.source, edge.target))
        numbers = {place: number for number, place in enumerate(sorted(used))}
        for edge in graph.edges:
            edge.source, edge.target = numbers[edge.source], numbers[edge.target]
        graph.entry, graph.exit, graph.size = numbers[entry], numbers[last], len(numbers)


class Steps:
    """Builds the edges of one graph."""

    def __init__(self, unit: Unit, graph: Graph) -> None:
        self.unit = unit
        self.program = unit.program
        self.graph = graph
        self.places = Places(graph)
        self.olds: dict[int, Variable] = {}

    def evaluator(self, results: dict[int, Variable] | None = None) -> KernelCalls:
        unit = self.unit
        evaluator = KernelCalls(self.program, unit.state, unit.ledger, Builder(unit.operations), unit.patterns)
        evaluator.results = {**self.olds, **(results or {})}
        return evaluator

    def after(self, evaluator: KernelCalls) -> None:
        """What must hold after every step; routines with `paged` or `always` add it."""

    def edge(
        self,
        at: int,
        span: Span,
        build: Callable[[KernelCalls], None],
        results: dict[int, Variable] | None = None,
        step: bool = True,
        taken: bool | None = None,
        target: int | None = None,
    ) -> int:
        """One step from `at`; gives where it leads."""
        evaluator = self.evaluator(results)
        build(evaluator)
        self.after(evaluator)
        builder = evaluator.builder
        target = self.places.new() if target is None else target
        operation = builder.finish()
        cells, slots = tuple(builder.cells), tuple(builder.slots)
        made = Edge(at, target, span, operation, cells, slots, step=step, taken=taken)
        self.graph.edges.append(made)
        return target

    def local(self, name: str, kind: s.Type) -> Variable:
        low, high = type_range(self.program, kind)
        sort = Sort.LEVEL if is_kirql(kind) else Sort.LOCAL
        cell = Cell(name, sort, low, high, is_global=False)
        self.graph.locals.append(cell)
        return Variable(cell, kind)

    def handle(self, name: str, kind: s.HandleKind, candidates: tuple[str, ...]) -> Handle:
        fields: dict[str, Variable] = {}
        for declared in kind.fields:
            if isinstance(declared, s.LockField):
                cell = Cell(f"{name}.{declared.name}", Sort.LOCKREF, 0, len(candidates), is_global=False)
                self.graph.locals.append(cell)
                fields[declared.name] = Variable(cell, s.NamedType("lock", declared.span))
            else:
                fields[declared.name] = self.local(f"{name}.{declared.name}", declared.type)
        return Handle(fields, candidates)


__all__ = ["Places", "Steps", "Unit", "name_of"]
