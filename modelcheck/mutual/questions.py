"""Questions about states: can a root be at this place, holding just this, at this level, with these values?

A question becomes an obligation like any other, on an edge of its own that leads nowhere: that the state is never
met. The sequential engines answer it, with an invariant that Z3 checks or with a run that comes there."""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck import ir
from modelcheck.ir import Cell, Edge, Graph, Instruction, Root, Sort, Term
from modelcheck.lower import Lowered
from modelcheck.lower.builder import Builder
from modelcheck.mutual.positions import SHARED, sites
from modelcheck.record import dataclass, field
from modelcheck.source import Span
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import Obligation, Property


@dataclass(frozen=True, slots=True)
class Test:
    """A cell in a state: a lock that is free (0), held shared or exclusively (the masks of `positions`), or a value."""

    cell: Cell
    value: int


BEHIND = -2


@dataclass(frozen=True, slots=True)
class Place:
    """Before the `index`-th observed instruction of an edge, with index -1 before the edge itself, or `BEHIND` it."""

    graph: Graph
    edge: int
    index: int = -1


@dataclass(frozen=True, slots=True)
class Question:
    """Whether `root` can be at one of the places with all tests true."""

    root: Root
    places: tuple[Place, ...]
    tests: tuple[Test, ...]


def prefix(code: tuple[Instruction, ...], target: Instruction) -> tuple[Instruction, ...] | None:
    """What is done before an instruction, with the conditions under which it is come to as guesses; None if it is not
    in the code."""
    done: list[Instruction] = []
    for instruction in code:
        if instruction is target:
            return tuple(done)
        if isinstance(instruction, ir.Choose):
            for branch, condition in (
                (instruction.then, instruction.condition),
                (instruction.otherwise, ir.Not(instruction.condition)),
            ):
                inner = prefix(branch, target)
                if inner is not None:
                    return (*done, ir.Guess(condition), *inner)
        done.append(instruction)
    return None


def asked(tests: Iterable[tuple[int, Test]]) -> Term:
    """All tests are true, of these registers."""
    condition: Term = ir.Const(1)
    for register, test in tests:
        condition = ir.Arith(BinaryOp.AND, condition, _one(register, test))
    return condition


def _one(register: int, test: Test) -> Term:
    if test.cell.sort is not Sort.HOLD:
        return ir.Arith(BinaryOp.EQ, ir.Reg(register), ir.Const(test.value))
    if not test.value:
        return ir.Not(ir.IsHeld(register, None))
    return ir.IsHeld(register, test.value == SHARED)


@dataclass(slots=True)
class Questions:
    """Questions asked of one driver. Their edges are in its graphs between `insert` and `remove`."""

    lowered: Lowered
    added: list[Graph] = field(default_factory=list)

    def insert(self, questions: Iterable[Question]) -> list[int]:
        """The obligations that stand for the questions."""
        made = []
        operations: dict[object, ir.Operation] = {}
        for question in questions:
            number = len(self.lowered.obligations)
            span = question.places[0].graph.edges[question.places[0].edge].span
            self.lowered.obligations.append(_obligation(question.root, span, number))
            self.lowered.questions.add(number)
            for place in question.places:
                self._edge(place, question.tests, number, operations)
            made.append(number)
        return made

    def _edge(self, place: Place, tests: tuple[Test, ...], number: int, operations: dict[object, ir.Operation]) -> None:
        edge = place.graph.edges[place.edge]
        builder = Builder(operations)
        code: tuple[Instruction, ...] = ()
        if place.index != -1:
            assert edge.operation is not None
            for cell in edge.cells:
                builder.cells.append(cell)
                builder.ranges.append((0, 0) if cell is None else (cell.low, cell.high))
                if cell is not None:
                    builder.registers.setdefault(cell, len(builder.cells) - 1)
            whole = edge.operation.code
            before = whole if place.index == BEHIND else prefix(whole, sites(edge.operation)[place.index])
            assert before is not None
            code, builder.slots = before, list(edge.obligations)
        builder.code = list(code)
        condition = asked([(builder.register(test.cell), test) for test in tests])
        slot = builder.slot(number)
        builder.emit(ir.Demand(ir.Not(condition), slot))
        operation = builder.finish()
        target = place.graph.location()
        place.graph.edges.append(
            Edge(
                edge.source,
                target,
                edge.span,
                operation,
                tuple(builder.cells),
                tuple(builder.slots),
                step=edge.step and place.index != -1,
                joined=edge.joined,
            )
        )
        self.added.append(place.graph)

    def remove(self) -> None:
        """Takes the edges out again; the obligations keep their numbers."""
        for graph in self.added:
            graph.edges.pop()
            graph.size -= 1
        self.added.clear()


def _obligation(root: Root, span: Span, number: int) -> Obligation:
    return Obligation(Property.D01, root.routine, span, "", f"question {number}: this state is not met")
