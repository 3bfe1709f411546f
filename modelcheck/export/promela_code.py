"""Operations as Promela statements: terms, effects, what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck.export.refusal import NotExportable
from modelcheck.export.scenario import Shape
from modelcheck.ir import FREE, MAX_COUNT, Cell, Edge, Instruction, Sort, Term, hold, unhold
from modelcheck.record import dataclass, field
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import HIGH_LEVEL

Lines: TypeAlias = list[str]

MAX_SPREAD = 4096
"""An open value is split into at most so many."""


def one_of(value: str, values: Iterable[int]) -> str:
    """A test that the value is one of these, as few comparisons as there are runs of them."""
    runs: list[list[int]] = []
    for number in sorted(values):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    tests = [f"{value} == {a}" if a == b else f"({value} >= {a} && {value} <= {b})" for a, b in runs]
    return " || ".join(tests) if tests else "false"


def branch(ways: Sequence[tuple[str, Lines]]) -> Lines:
    """An `if` with a guard and statements for each way."""
    lines = ["if"]
    for guard, body in ways:
        first, *rest = body or ["skip"]
        guard = guard or ("true" if first == "if" else "")  # an `else` would belong to the outer `if` as well
        lines.append(f":: {guard} -> {first}" if guard else f":: {first}")
        lines += [f"   {line}" for line in rest]
    return [*lines, "fi;"]


@dataclass(slots=True)
class Variables:
    """Where a context keeps its cells. `scratch` and `stars` count the temporaries it needs."""

    place: Callable[[Cell], str]
    scratch: dict[int, str] = field(default_factory=dict)
    stars: int = 0


class Code:
    """The statements of one edge of a context.

    `refused(cell, shared)`: a test that others keep the context from getting a lock; `holds`: the locks it may hold,
    with the names of their variables; `gone`: what is done where an assumption does not hold.
    """

    def __init__(
        self,
        shape: Shape,
        edge: Edge,
        variables: Variables,
        refused: Callable[[Cell, bool], str],
        holds: Sequence[tuple[Cell, str]],
        gone: Callable[[], Lines],
    ) -> None:
        self.shape = shape
        self.edge = edge
        self.variables = variables
        self.refused = refused
        self.holds = holds
        self.gone = gone
        self.needed = shape.needed(edge, shape.relevant)
        self.written: set[int] = set()
        self.stars = 0

    # ---- terms ----

    def register(self, index: int) -> str:
        cell = self.edge.cells[index]
        if cell is None:
            return self.variables.scratch.setdefault(index, f"t{index}")
        if cell.sort is Sort.LIFE:
            return str(ir.INITIALISED)
        return self.variables.place(cell)

    def matters(self, index: int) -> bool:
        cell = self.edge.cells[index]
        return index in self.needed if cell is None else cell in self.shape.relevant

    def opened(self, term: Term, lines: Lines) -> str:
        """The term, its open values chosen by statements before it."""
        chosen: list[str] = []

        def pick(low: int, high: int) -> str:
            name = f"star{len(chosen)}"
            chosen.append(name)
            self.stars = max(self.stars, len(chosen))
            self.variables.stars = max(self.variables.stars, self.stars)
            lines.extend(select(name, low, high))
            return name

        return self.term(term, pick)

    def term(self, term: Term, star: Callable[[int, int], str]) -> str:
        match term:
            case ir.Const(value):
                return str(value) if value >= 0 else f"({value})"
            case ir.Reg(index):
                return self.register(index)
            case ir.Star(low, high):
                return star(low, high)
            case ir.Not(operand):
                return f"(!{self.term(operand, star)})"
            case ir.IsHeld(index, None):
                return f"({self.register(index)} != {FREE})"
            case ir.IsHeld(index, shared):
                return f"({self.hold_with(index, lambda s, c, t: s == shared)})"
            case ir.Arith(BinaryOp.MOD, left, right):
                first, second = self.term(left, star), self.term(right, star)
                return f"({second} == 0 -> 0 : {first} % {second})"
            case ir.Arith(op, left, right):
                return f"({self.term(left, star)} {op.value} {self.term(right, star)})"

    def hold_with(self, index: int, wanted: Callable[[bool, int, int], bool]) -> str:
        """A test that the hold is one whose mode, count and tag are as wanted."""
        cell = self.edge.cells[index]
        assert cell is not None
        return one_of(self.register(index), (v for v in range(1, cell.high + 1) if wanted(*unhold(v))))

    # ---- instructions ----

    def check(self, slot: int | None, holds: str) -> Lines:
        if slot is None or not self.shape.is_asked(self.edge, slot):
            return []
        return [f"CHECK({self.edge.obligations[slot]}, {holds});"]

    def assign(self, register: int, value: str) -> Lines:
        if not self.matters(register):
            return []
        if self.edge.cells[register] is None:
            self.written.add(register)
        return [f"{self.register(register)} = {value};"]

    def sequence(self, code: Iterable[Instruction]) -> Lines:
        """Statements of instructions at which nobody waits."""
        return [line for instruction in code for line in self.one(instruction)]

    def one(self, instruction: Instruction) -> Lines:
        match instruction:
            case ir.Set():
                return self.set(instruction)
            case ir.Pick(register, _, low, high):
                return select(self.register(register), low, high) if self.matters(register) else []
            case ir.Guess(condition):
                lines: Lines = []
                holds = self.opened(condition, lines)
                return [*lines, *branch([(holds, []), ("else", self.gone())])]
            case ir.Demand(condition, slot):
                lines = []
                return lines + self.check(slot, self.opened(condition, lines)) if self._asked(slot) else []
            case ir.DemandFree(spin_only, slot, besides):
                return self.check(slot, self.nothing_held(spin_only, frozenset(self.edge.cells[r] for r in besides)))
            case ir.Choose(condition, then, otherwise):
                ways = self.sequence(then), self.sequence(otherwise)
                if not any(ways):
                    return []
                lines = []
                test = self.opened(condition, lines)
                return [*lines, *branch([(test, ways[0]), ("else", ways[1])])]
            case ir.Take():
                return self.take(instruction)
            case ir.Drop():
                return self.drop(instruction)
            case ir.Convert():
                return self.convert(instruction)
            case ir.Change():
                return self.change(instruction)
            case ir.CounterStep(register, up, limit):
                return self.counter(register, up, limit) if self.matters(register) else []
            case ir.Signal(register, on):
                return self.assign(register, "1" if on else "0")
            case ir.Await() | ir.Access() | ir.Enable() | ir.Reenter() | ir.Interfere():
                return []

    def _asked(self, slot: int | None) -> bool:
        return self.shape.is_asked(self.edge, slot)

    def set(self, instruction: ir.Set) -> Lines:
        register, low, high = instruction.register, instruction.low, instruction.high
        if not self.matters(register) and not self._asked(instruction.slot):
            return []
        lines: Lines = []
        value = self.opened(instruction.value, lines)
        if self._within(instruction.value, low, high):
            return lines + self.assign(register, value)
        lines += self.check(instruction.slot, f"{value} >= {low} && {value} <= {high}")
        nearest = f"({value} < {low} -> {low} : ({value} > {high} -> {high} : {value}))"
        return lines + self.assign(register, nearest)

    def _within(self, term: Term, low: int, high: int) -> bool:
        match term:
            case ir.Const(value):
                return low <= value <= high
            case ir.Reg(index):
                cell = self.edge.cells[index]
                return cell is not None and low <= cell.low and cell.high <= high
            case ir.Star(least, most):
                return low <= least and most <= high
            case ir.Arith(BinaryOp.ADD | BinaryOp.SUB | BinaryOp.MUL | BinaryOp.MOD):
                return False
            case _:
                return low <= 0 and high >= 1

    def nothing_held(self, spin_only: bool, besides: frozenset[Cell | None]) -> str:
        asked = (name for cell, name in self.holds if (cell.spins or not spin_only) and cell not in besides)
        tests = [f"{name} == {FREE}" for name in asked]
        return " && ".join(tests) or "true"

    def possible(self, take: ir.Take) -> str:
        """Whether a lock can be got: others do not stop it, or it is held in a way that counts up."""
        cell = self.edge.cells[take.register]
        assert cell is not None
        own, refused = self.register(take.register), self.refused(cell, take.shared)
        free = f"{own} == {FREE} && !({refused})" if refused else f"{own} == {FREE}"
        if not take.allowed:
            return free
        return f"({free}) || {self.again(take)}"

    def again(self, take: ir.Take) -> str:
        return self.hold_with(take.register, lambda shared, count, tag: (take.shared, shared) in take.allowed)

    def taken(self, take: ir.Take) -> Lines:
        """The effect of an acquisition that is possible."""
        own, first = self.register(take.register), hold(take.shared, 1, take.tag)
        if not take.allowed:
            return [f"{own} = {first};"]
        full = self.hold_with(take.register, lambda shared, count, tag: count == MAX_COUNT)
        return [f"{own} = ({own} == {FREE} -> {first} : (({full}) -> {own} : {own} + 1));"]

    def take(self, take: ir.Take) -> Lines:
        """A try; it fails only where it is not possible."""
        assert take.result is not None
        got = [*self.taken(take), *self.assign(take.result, "1")]
        failed = self.assign(take.result, "0")
        return branch([(self.possible(take), got), ("else", failed)])

    def drop(self, drop: ir.Drop) -> Lines:
        own = self.register(drop.register)
        fits = self.hold_with(
            drop.register,
            lambda shared, count, tag: drop.shared in (None, shared) and (drop.tag in (None, tag) or tag == ir.ANY_TAG),
        )
        once = self.hold_with(drop.register, lambda shared, count, tag: count == 1)
        many = self.hold_with(drop.register, lambda shared, count, tag: count == MAX_COUNT)
        lines = self.check(drop.unheld, f"{own} != {FREE}")
        lines += self.check(drop.mismatch, f"{own} == {FREE} || {fits}")
        recursive = self._recursive(drop.register)
        if not recursive:
            return [*lines, f"{own} = {FREE};"]
        ways = [
            (f"{own} == {FREE} || {once}", [f"{own} = {FREE};"]),
            (many, branch([("", [f"{own} = {own} - 1;"]), ("", [])])),
            ("else", [f"{own} = {own} - 1;"]),
        ]
        return lines + branch(ways)

    def _recursive(self, register: int) -> bool:
        """Whether any context counts acquisitions of the lock up."""
        cell = self.edge.cells[register]
        return cell in self.shape.counted

    def convert(self, convert: ir.Convert) -> Lines:
        own = self.register(convert.register)
        cell = self.edge.cells[convert.register]
        assert cell is not None
        other = self.hold_with(convert.register, lambda shared, count, tag: shared != convert.shared)
        lines = self.check(convert.unheld, f"{own} != {FREE}")
        lines += self.check(convert.mismatch, f"{own} == {FREE} || {other}")
        done = [f"{own} = {own} {'+' if convert.shared else '-'} {MAX_COUNT};"]
        if convert.result is None:
            return lines + branch([(other, done), ("else", [])])
        refused = self.refused(cell, convert.shared)
        can = f"({other}) && !({refused})" if refused else other
        failed = self.assign(convert.result, "0")
        return lines + branch([(can, [*done, *self.assign(convert.result, "1")]), ("else", failed)])

    def change(self, change: ir.Change) -> Lines:
        now = self.register(change.register)
        lines: Lines = []
        level = self.opened(change.level, lines)
        lines += self.check(change.slot, f"{level} {'>=' if change.up else '<='} {now}")
        spinning = [
            f"{name} == {FREE} || {cell.level} <= {level}" for cell, name in self.holds if cell.spins and cell.level
        ]
        if spinning:
            kept = " && ".join(f"({test})" for test in spinning)
            lines += self.check(change.drop, f"{level} >= {now} || {kept}")
        if isinstance(change.level, ir.Const) and 0 <= change.level.value <= HIGH_LEVEL:
            return [*lines, f"{now} = {level};"]
        return [*lines, f"{now} = ({level} >= 0 && {level} <= {HIGH_LEVEL} -> {level} : {now});"]

    def counter(self, register: int, up: bool, limit: int) -> Lines:
        now = self.register(register)
        if up:
            return [f"{now} = ({now} >= {limit} -> {limit} : {now} + 1);"]
        less = [f"{now} = {now} - 1;"]
        return branch([(f"{now} == {limit}", branch([("", less), ("", [])])), (f"{now} == 0", []), ("else", less)])

    def forget(self) -> Lines:
        """Temporaries back to 0, so that states that differ in nothing else are the same."""
        names = [*(self.register(index) for index in sorted(self.written)), *(f"star{n}" for n in range(self.stars))]
        return [f"{name} = 0;" for name in names]


def select(name: str, low: int, high: int) -> Lines:
    """Any value of low..high.

    Raises:
        NotExportable: these are too many.
    """
    if high - low >= MAX_SPREAD:
        raise NotExportable(f"something open can take {high - low + 1} values")
    if high - low < 8:
        return branch([("", [f"{name} = {value};"]) for value in range(low, high + 1)])
    return [f"select ({name} : {low} .. {high});"]


__all__ = ["Code", "Lines", "Variables", "branch", "one_of", "select"]
