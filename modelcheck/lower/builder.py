"""Builds one operation: registers for cells, instructions in order, obligations in slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelcheck import ir
from modelcheck.ir import Cell, Instruction, Sort, Term
from modelcheck.record import dataclass
from modelcheck.syntax import BinaryOp

Range = tuple[int, int]


@dataclass(slots=True, eq=False)
class Whole:
    """Code that is often all of a step, and its operation once that is known. `size`: its registers."""

    code: tuple[Instruction, ...]
    size: int
    operation: ir.Operation | None = None


class Builder:
    """Collects the instructions of one step. `scratch` registers stand for no cell: they live within the step."""

    def __init__(self, operations: dict[object, ir.Operation]) -> None:
        self.operations = operations
        self.cells: list[Cell | None] = []
        self.registers: dict[Cell, int] = {}
        self.ranges: list[Range] = []
        self.code: list[Instruction] = []
        self.slots: list[int] = []
        self.changes_irql = False
        self.whole: Whole | None = None
        """What the step began with, and perhaps is."""

    def register(self, cell: Cell) -> int:
        index = self.registers.get(cell)
        if index is None:
            index = self.registers[cell] = len(self.cells)
            self.cells.append(cell)
            self.ranges.append((cell.low, cell.high))
        return index

    def scratch(self, low: int, high: int) -> int:
        self.cells.append(None)
        self.ranges.append((low, high))
        return len(self.cells) - 1

    def adopt(self, cell: Cell | None) -> None:
        """The next register, as an operation has it that is there already."""
        if cell is None:
            self.scratch(0, 0)
        else:
            self.register(cell)

    def slot(self, obligation: int) -> int:
        self.slots.append(obligation)
        return len(self.slots) - 1

    def emit(self, instruction: Instruction) -> None:
        self.code.append(instruction)

    def branch(self) -> list[Instruction]:
        """Start collecting a branch; give the list that was collected so far to `resume`."""
        saved, self.code = self.code, []
        return saved

    def resume(self, saved: list[Instruction]) -> tuple[Instruction, ...]:
        collected, self.code = tuple(self.code), saved
        return collected

    def range(self, term: Term) -> Range:
        """An interval that holds every value of the term."""
        match term:
            case ir.Const(value):
                return value, value
            case ir.Reg(index):
                return self.ranges[index]
            case ir.Star(low, high):
                return low, high
            case ir.Arith(op, left, right):
                return _interval(op, self.range(left), self.range(right))
            case _:
                return 0, 1

    def assign(self, register: int, value: Term, low: int, high: int, obligation: int | None) -> None:
        self.emit(ir.Set(register, value, low, high, None if obligation is None else self.slot(obligation)))

    def finish(self, extra: Sequence[Instruction] = ()) -> ir.Operation:
        """The operation, the same object for the same code."""
        whole = self.whole
        if whole is None or len(self.code) != len(whole.code) or len(self.cells) != whole.size or extra:
            return self._operation((*self.code, *extra))
        if whole.operation is None:
            whole.operation = self._operation(whole.code)
        return whole.operation

    def _operation(self, code: tuple[Instruction, ...]) -> ir.Operation:
        holds = tuple(
            (index, cell.spins, cell.level)
            for index, cell in enumerate(self.cells)
            if cell is not None and cell.sort is Sort.HOLD
        )
        scratch = frozenset(index for index, cell in enumerate(self.cells) if cell is None)
        same = (code, len(self.cells), holds, scratch)
        known = self.operations.get(same)
        if known is not None:
            return known
        effects = _Effects()
        effects.sequence(code)
        operation = self.operations[same] = ir.Operation(
            code,
            len(self.cells),
            holds,
            frozenset(effects.reads),
            frozenset(effects.writes),
            frozenset(effects.kills),
            frozenset(effects.refreshes),
            effects.demands_free,
            effects.meets_others,
            scratch,
        )
        return operation


def _interval(op: BinaryOp, left: Range, right: Range) -> Range:
    match op:
        case BinaryOp.ADD:
            return left[0] + right[0], left[1] + right[1]
        case BinaryOp.SUB:
            return left[0] - right[1], left[1] - right[0]
        case BinaryOp.MUL:
            products = [a * b for a in left for b in right]
            return min(products), max(products)
        case BinaryOp.MOD:
            rest = max(abs(right[0]), abs(right[1]), 1) - 1
            return max(-rest, min(left[0], 0)), min(rest, max(left[1], 0))
        case _:
            return 0, 1


def registers_of(term: Term) -> set[int]:
    """The registers a term reads."""
    match term:
        case ir.Reg(index) | ir.IsHeld(index):
            return {index}
        case ir.Not(operand):
            return registers_of(operand)
        case ir.Arith(_, left, right):
            return registers_of(left) | registers_of(right)
        case _:
            return set()


def really_written(edge: ir.Edge) -> set[int]:
    """Registers an edge writes itself, apart from what others may write meanwhile."""
    assert edge.operation is not None
    found: set[int] = set()
    pending = list(edge.operation.code)
    while pending:
        instruction = pending.pop()
        match instruction:
            case ir.Set(register) | ir.Pick(register) | ir.CounterStep(register):
                found.add(register)
            case ir.Choose(_, then, otherwise):
                pending += [*then, *otherwise]
            case _:
                pass
    return found


def constants(code: Iterable[ir.Instruction], register: int, cell: ir.Cell, values: set[int]) -> None:
    """Adds to `values` what code can write to a register that stands for a cell: constants, or its whole range."""
    for instruction in code:
        match instruction:
            case ir.Set(target, ir.Const(value)) if target == register:
                values.add(value)
            case ir.Set(target) | ir.Pick(target) if target == register:
                values.update(range(cell.low, cell.high + 1))
            case ir.Choose(_, then, otherwise):
                constants(then, register, cell, values)
                constants(otherwise, register, cell, values)
            case _:
                pass


class _Effects:
    """Which registers an operation reads before it writes them, can write, and writes for certain; and to which others
    may write before it does anything with them."""

    def __init__(self) -> None:
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.kills: set[int] = set()
        self.refreshes: set[int] = set()
        self.demands_free = False
        self.meets_others = False

    def read(self, registers: Iterable[int]) -> None:
        self.reads.update(r for r in registers if r not in self.kills)

    def write(self, register: int, certain: bool) -> None:
        """A write that may not happen lets the value before it through."""
        if not certain:
            self.read((register,))
        self.writes.add(register)
        if certain and register not in self.reads:
            self.kills.add(register)

    def sequence(self, code: tuple[Instruction, ...], certain: bool = True) -> None:
        for instruction in code:
            self.one(instruction, certain)

    def one(self, instruction: Instruction, certain: bool) -> None:
        match instruction:
            case ir.Set(register, value):
                self.read(registers_of(value))
                self.write(register, certain)
            case ir.Pick(register):
                self.write(register, certain)
            case ir.Guess(condition) | ir.Demand(condition):
                self.read(registers_of(condition))
            case ir.DemandFree():
                self.demands_free = True
            case ir.Choose(condition, then, otherwise):
                self.read(registers_of(condition))
                self.sequence(then, False)
                self.sequence(otherwise, False)
            case ir.Interfere(register) | ir.CounterStep(register):
                if certain and isinstance(instruction, ir.Interfere) and register not in self.reads | self.kills:
                    self.refreshes.add(register)
                self.read({register})
                self.write(register, False)
            case ir.Take(register, result=result) | ir.Convert(register, result=result):
                self.read({register})
                self.write(register, False)
                if result is not None:
                    self.write(result, certain)
                self.meets_others = True  # what is held from here on, and at which level
            case ir.Drop(register):
                self.read({register})
                self.write(register, False)
            case ir.Change(register, level):
                self.read(registers_of(level) | {register})
                self.write(register, False)
                self.demands_free = True
            case ir.Await() | ir.Access() | ir.Reenter():
                self.meets_others = True
            case ir.Signal() | ir.Enable():
                pass
