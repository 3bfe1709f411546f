"""Operations as SMT-LIB: the transition relation, from docs/language.md section 4 and nothing the fixpoint wrote.

`encode` gives text for one execution of an operation from given input terms: definitions, the terms of the registers
afterwards, whether the run goes on, which slots are broken, and a constant for each open choice. Values are bit-vectors
of one signed width, wide enough that no term overflows (`width_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck.ir import FREE, MAX_COUNT, Instruction, Operation, Term, hold, unhold
from modelcheck.record import dataclass, field
from modelcheck.resolve import apply
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import HIGH_LEVEL

INTEGERS = 0
"""As a width: unbounded integers instead of bit-vectors."""

_BITS = {
    BinaryOp.LE: "bvsle",
    BinaryOp.GE: "bvsge",
    BinaryOp.LT: "bvslt",
    BinaryOp.GT: "bvsgt",
    BinaryOp.ADD: "bvadd",
    BinaryOp.SUB: "bvsub",
    BinaryOp.MUL: "bvmul",
}
_COMPARISONS = (BinaryOp.EQ, BinaryOp.NE, BinaryOp.LE, BinaryOp.GE, BinaryOp.LT, BinaryOp.GT)
_ARITHMETIC = (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL)


def symbol(op: BinaryOp, width: int) -> str:
    """The function of a comparison or an arithmetic operator, signed."""
    return op.value if width == INTEGERS else _BITS[op]


def sort_of(width: int) -> str:
    return "Int" if width == INTEGERS else f"(_ BitVec {width})"


@dataclass(frozen=True, slots=True)
class Register:
    """What a register stands for: a name for its choices, its range, and what others may write to it."""

    name: str
    low: int
    high: int
    others: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class OpenChoice:
    """The constant that says how a choice went, where `guard` holds. `own`: the value that the context itself knows, if
    the choice is what others have written; "" if it is not."""

    guard: str
    name: str
    constant: str
    own: str = ""


@dataclass(frozen=True, slots=True)
class LockDemand:
    """Where `guard` holds, slot is broken if a lock outside the operation is held (above `level`, if that is given)."""

    slot: int
    spin_only: bool
    level: str | None
    guard: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where `guard` holds, the run comes to an instruction at which contexts meet, with these registers."""

    instruction: Instruction
    guard: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """Where `guard` holds, the lock of the register is acquired."""

    register: int
    shared: bool
    guard: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A constant."""

    name: str
    sort: str


@dataclass(frozen=True, slots=True)
class Defined:
    """A name for a term."""

    name: str
    sort: str
    term: str


@dataclass(frozen=True, slots=True)
class Asserted:
    term: str


Item: TypeAlias = Declared | Defined | Asserted


def line(item: Item) -> str:
    """The item as an SMT-LIB command."""
    match item:
        case Declared(name, sort):
            return f"(declare-const {name} {sort})"
        case Defined(name, sort, term):
            return f"(define-fun {name} () {sort} {term})"
        case Asserted(term):
            return f"(assert {term})"


@dataclass(slots=True)
class Encoded:
    """One execution. `items` define what the other fields name."""

    items: list[Item] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    alive: str = "true"
    broken: dict[int, str] = field(default_factory=dict)
    demands: list[LockDemand] = field(default_factory=list)
    choices: list[OpenChoice] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The items as SMT-LIB commands."""
        return [line(item) for item in self.items]


def width_of(operation: Operation, registers: Sequence[Register]) -> int:
    """Bits, sign included, that hold every value of every term of the operation."""
    bounds = [(r.low, r.high) for r in registers]
    largest = max((abs(b) for pair in bounds for b in pair), default=1)
    for register in registers:
        if register.others:
            largest = max(largest, abs(register.others[0]), abs(register.others[-1]))

    def interval(term: Term) -> tuple[int, int]:
        nonlocal largest
        match term:
            case ir.Const(value):
                low = high = value
            case ir.Reg(index):
                low, high = bounds[index]
            case ir.Star(low, high):
                pass
            case ir.Arith(op, left, right):
                low, high = _bounds(op, interval(left), interval(right))
            case ir.Not(operand):
                interval(operand)
                low, high = 0, 1
            case _:
                low, high = 0, 1
        largest = max(largest, abs(low), abs(high))
        return low, high

    def visit(code: Iterable[Instruction]) -> None:
        nonlocal largest
        for instruction in code:
            match instruction:
                case ir.Set(register, value, low, high):
                    interval(value)
                    largest = max(largest, abs(low), abs(high))
                    bounds[register] = (min(bounds[register][0], low), max(bounds[register][1], high))
                case ir.Pick(register, _, low, high):
                    largest = max(largest, abs(low), abs(high))
                    bounds[register] = (min(bounds[register][0], low), max(bounds[register][1], high))
                case ir.Guess(condition) | ir.Demand(condition):
                    interval(condition)
                case ir.Choose(condition, then, otherwise):
                    interval(condition)
                    visit(then)
                    visit(otherwise)
                case ir.Change(_, level):
                    interval(level)
                case _:
                    pass

    visit(operation.code)
    return largest.bit_length() + 2


def _bounds(op: BinaryOp, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    if op is BinaryOp.ADD:
        return left[0] + right[0], left[1] + right[1]
    if op is BinaryOp.SUB:
        return left[0] - right[1], left[1] - right[0]
    if op is BinaryOp.MUL:
        products = [a * b for a in left for b in right]
        return min(products), max(products)
    if op is BinaryOp.MOD:
        return min(left[0], 0), max(left[1], 0)
    return 0, 1


def literal(value: int, width: int) -> str:
    if width == INTEGERS:
        return str(value) if value >= 0 else f"(- {-value})"
    return f"(_ bv{value % (1 << width)} {width})"


def number_of(term: str, width: int) -> int | None:
    """What a literal stands for, None for any other term."""
    if width == INTEGERS:
        digits = term[3:-1] if term.startswith("(- ") else term
        return None if not digits.isdigit() else int(digits) if digits is term else -int(digits)
    if not term.startswith("(_ bv"):
        return None
    value = int(term[5 : term.index(" ", 5)])
    return value - (1 << width) if value >> width - 1 else value


def compared(op: BinaryOp, left: str, right: str, width: int) -> str:
    """`left op right` of two numbers: known, where both are literals."""
    first, second = number_of(left, width), number_of(right, width)
    if first is not None and second is not None:
        return "true" if apply(op, first, second) else "false"
    if op is BinaryOp.NE:
        return f"(not (= {left} {right}))"
    return f"({'=' if op is BinaryOp.EQ else symbol(op, width)} {left} {right})"


def alternative(test: str, then: str, otherwise: str) -> str:
    """`then` where the test holds, else `otherwise`."""
    if test in ("true", "false"):
        return then if test == "true" else otherwise
    return then if then == otherwise else f"(ite {test} {then} {otherwise})"


def conjunction(terms: Iterable[str]) -> str:
    parts = [t for t in terms if t != "true"]
    if "false" in parts:
        return "false"
    return "true" if not parts else parts[0] if len(parts) == 1 else f"(and {' '.join(parts)})"


def disjunction(terms: Iterable[str]) -> str:
    parts = [t for t in terms if t != "false"]
    if "true" in parts:
        return "true"
    return "false" if not parts else parts[0] if len(parts) == 1 else f"(or {' '.join(parts)})"


def negation(term: str) -> str:
    return {"true": "false", "false": "true"}.get(term, f"(not {term})")


def member(term: str, values: Sequence[int], width: int) -> str:
    """The term is one of the values: as intervals, for runs of neighbours."""
    known = number_of(term, width)
    if known is not None:
        return "true" if known in values else "false"
    runs: list[list[int]] = []
    if isinstance(values, range) and values.step == 1:
        runs = [[values.start, values.stop - 1]] if values else []
    else:
        for value in sorted(values):
            if runs and value == runs[-1][1] + 1:
                runs[-1][1] = value
            else:
                runs.append([value, value])
    tests = []
    for low, high in runs:
        if low == high:
            tests.append(f"(= {term} {literal(low, width)})")
        else:
            at_most = symbol(BinaryOp.LE, width)
            tests.append(f"(and ({at_most} {literal(low, width)} {term}) ({at_most} {term} {literal(high, width)}))")
    return disjunction(tests)


def encode(
    operation: Operation, registers: Sequence[Register], inputs: Sequence[str], prefix: str, width: int
) -> Encoded:
    """One execution of the operation; every name it introduces begins with `prefix`."""
    return _Encoder(operation, registers, inputs, prefix, width).run()


class _Encoder:
    def __init__(
        self, operation: Operation, registers: Sequence[Register], inputs: Sequence[str], prefix: str, width: int
    ) -> None:
        self.operation = operation
        self.registers = registers
        self.prefix = prefix
        self.width = width
        self.values = list(inputs)
        self.alive = "true"
        self.guard = "true"
        self.out = Encoded()
        self.count = 0
        self.ge, self.add, self.sub = (symbol(op, width) for op in (BinaryOp.GE, BinaryOp.ADD, BinaryOp.SUB))

    def run(self) -> Encoded:
        self.sequence(self.operation.code)
        self.out.outputs, self.out.alive = self.values, self.alive
        return self.out

    # ---- terms ----

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def define(self, term: str, sort: str = "") -> str:
        """A name for a term, so that no term is written twice."""
        if len(term) < 24:
            return term
        name = self.name()
        self.out.items.append(Defined(name, sort or sort_of(self.width), term))
        return name

    def test(self, term: str) -> str:
        return self.define(term, "Bool")

    def number(self, value: int) -> str:
        return literal(value, self.width)

    def compare(self, op: BinaryOp, left: str, right: str) -> str:
        return compared(op, left, right, self.width)

    def constant(self, name: str, values: Sequence[int], guard: str = "true") -> str:
        """A fresh constant among the values: an open choice."""
        constant = self.name()
        self.out.items.append(Declared(constant, sort_of(self.width)))
        self.out.items.append(Asserted(member(constant, values, self.width)))
        self.out.choices.append(OpenChoice(conjunction((self.here(), guard)), name, constant))
        return constant

    def here(self) -> str:
        return conjunction((self.guard, self.alive))

    def value(self, term: Term) -> str:
        match term:
            case ir.Const(value):
                return self.number(value)
            case ir.Reg(index):
                return self.values[index]
            case ir.Star(low, high):
                return self.constant("*", range(low, high + 1))
            case ir.Arith(op, left, right) if op in _ARITHMETIC:
                first, second = self.value(left), self.value(right)
                one, other = number_of(first, self.width), number_of(second, self.width)
                if one is not None and other is not None:
                    return self.number(apply(op, one, other) or 0)
                return self.define(f"({symbol(op, self.width)} {first} {second})")
            case ir.Arith(BinaryOp.MOD, left, right):
                first, second = self.define(self.value(left)), self.define(self.value(right))
                zero = self.number(0)
                return self.define(f"(ite (= {second} {zero}) {zero} {self.remainder(first, second)})")
            case _:
                return self.define(alternative(self.condition(term), self.number(1), self.number(0)))

    def remainder(self, left: str, right: str) -> str:
        """The remainder with the sign of `left`."""
        if self.width != INTEGERS:
            return f"(bvsrem {left} {right})"
        return f"(ite (< {left} 0) (- (mod (- {left}) {right})) (mod {left} {right}))"

    def condition(self, term: Term) -> str:
        """Whether the term is not 0."""
        match term:
            case ir.Const(value):
                return "true" if value else "false"
            case ir.Not(operand):
                return negation(self.condition(operand))
            case ir.IsHeld(register, shared):
                if shared is None:
                    return negation(self.is_free(register))
                return self.test(self.hold_with(register, lambda s, c, t: s == shared))
            case ir.Arith(BinaryOp.AND, left, right):
                first = self.condition(left)
                return first if first == "false" else self.test(conjunction((first, self.where(first, right))))
            case ir.Arith(BinaryOp.OR, left, right):
                first = self.condition(left)
                return first if first == "true" else self.test(disjunction((first, self.where(negation(first), right))))
            case ir.Arith(op, left, right) if op in _COMPARISONS:
                first = self.value(left)
                return self.test(self.compare(op, first, self.value(right)))
            case _:
                return self.test(self.compare(BinaryOp.NE, self.value(term), self.number(0)))

    def where(self, condition: str, term: Term) -> str:
        """The condition of a term that is only evaluated, and only makes choices, where another holds."""
        guard = self.guard
        self.guard = self.test(conjunction((guard, condition)))
        result = self.condition(term)
        self.guard = guard
        return result

    def is_free(self, register: int) -> str:
        return self.compare(BinaryOp.EQ, self.values[register], self.number(FREE))

    def hold_with(self, register: int, wanted: Callable[[bool, int, int], bool]) -> str:
        """The hold is one whose mode, count and tag are as wanted."""
        values = [v for v in range(1, self.registers[register].high + 1) if wanted(*unhold(v))]
        return member(self.values[register], values, self.width)

    # ---- instructions ----

    def sequence(self, code: tuple[Instruction, ...]) -> None:
        for instruction in code:
            self.one(instruction)

    def broken(self, slot: int, when: str) -> None:
        here = self.test(conjunction((self.here(), when)))
        self.out.broken[slot] = disjunction((self.out.broken.get(slot, "false"), here))

    def one(self, instruction: Instruction) -> None:
        match instruction:
            case ir.Set():
                self.set(instruction)
            case ir.Pick(register, name, low, high):
                self.values[register] = self.constant(name, range(low, high + 1))
            case ir.Interfere(register):
                self.interfere(register)
            case ir.Guess(condition):
                self.alive = self.test(conjunction((self.alive, self.condition(condition))))
            case ir.Demand(condition, slot):
                self.broken(slot, negation(self.condition(condition)))
            case ir.DemandFree(spin_only, slot, besides):
                asked = (r for r, spins, _ in self.operation.holds if (spins or not spin_only) and r not in besides)
                self.broken(slot, disjunction([negation(self.is_free(r)) for r in asked]))
                self.out.demands.append(LockDemand(slot, spin_only, None, self.test(self.here())))
            case ir.Choose(condition, then, otherwise):
                self.choose(condition, then, otherwise)
            case ir.Take():
                self.arrive(instruction)
                self.take(instruction)
            case ir.Drop():
                self.drop(instruction)
            case ir.Convert():
                self.convert(instruction)
            case ir.Change():
                self.change(instruction)
            case ir.CounterStep(register, up, limit):
                self.counter(register, up, limit)
            case ir.Await() | ir.Signal() | ir.Access() | ir.Enable() | ir.Reenter():
                self.arrive(instruction)

    def arrive(self, instruction: Instruction) -> None:
        self.out.arrivals.append(Arrival(instruction, self.test(self.here()), tuple(self.values)))

    def set(self, instruction: ir.Set) -> None:
        value = self.define(self.value(instruction.value))
        low, high = self.number(instruction.low), self.number(instruction.high)
        below, above = self.compare(BinaryOp.LT, value, low), self.compare(BinaryOp.GT, value, high)
        if instruction.slot is not None:
            self.broken(instruction.slot, disjunction((below, above)))
        value = self.define(alternative(below, low, alternative(above, high, value)))
        self.values[instruction.register] = value

    def interfere(self, index: int) -> None:
        register = self.registers[index]
        if not register.others:
            return
        own = self.values[index]
        constant = self.name()
        self.out.items.append(Declared(constant, sort_of(self.width)))
        others = member(constant, register.others, self.width)
        self.out.items.append(Asserted(f"(or (= {constant} {own}) {others})"))
        self.out.choices.append(OpenChoice(self.test(self.here()), register.name, constant, own))
        self.values[index] = constant

    def choose(self, condition: Term, then: tuple[Instruction, ...], otherwise: tuple[Instruction, ...]) -> None:
        test = self.test(self.condition(condition))
        if test in ("true", "false"):
            self.sequence(then if test == "true" else otherwise)
            return
        values, alive, guard = list(self.values), self.alive, self.guard
        self.guard = self.test(conjunction((guard, test)))
        self.sequence(then)
        then_values, then_alive = self.values, self.alive
        self.values, self.alive = values, alive
        self.guard = self.test(conjunction((guard, negation(test))))
        self.sequence(otherwise)
        self.guard = guard
        self.values = [
            a if a == b else self.define(alternative(test, a, b)) for a, b in zip(then_values, self.values, strict=True)
        ]
        if then_alive != self.alive:
            self.alive = self.define(alternative(test, then_alive, self.alive), "Bool")

    def take(self, take: ir.Take) -> None:
        now = self.values[take.register]
        free = self.is_free(take.register)
        again = "false"
        if take.allowed:
            again = self.test(
                self.hold_with(take.register, lambda shared, count, tag: (take.shared, shared) in take.allowed)
            )
        full = self.hold_with(take.register, lambda shared, count, tag: count == MAX_COUNT) if take.allowed else "false"
        first = self.number(hold(take.shared, 1, take.tag))
        more = alternative(full, now, f"({self.add} {now} {self.number(1)})") if take.allowed else now
        after = alternative(free, first, more)
        possible = self.test(disjunction((free, again)))
        if take.result is not None:
            tried = self.constant("try", (0, 1), possible)
            got = self.test(conjunction((possible, f"(= {tried} {self.number(1)})")))
            self.values[take.register] = self.define(f"(ite {got} {after} {now})")
            self.values[take.result] = self.define(f"(ite {got} {self.number(1)} {self.number(0)})")
            self.out.taken.append(Taken(take.register, take.shared, conjunction((self.here(), got))))
            return
        if take.slot is not None:
            self.broken(take.slot, negation(possible))
        self.alive = self.test(conjunction((self.alive, possible)))
        self.out.taken.append(Taken(take.register, take.shared, self.here()))
        self.values[take.register] = self.define(after)

    def drop(self, drop: ir.Drop) -> None:
        now = self.values[drop.register]
        free = self.is_free(drop.register)
        self.broken(drop.unheld, free)
        fits = self.hold_with(
            drop.register,
            lambda shared, count, tag: drop.shared in (None, shared) and (drop.tag in (None, tag) or tag == ir.ANY_TAG),
        )
        self.broken(drop.mismatch, conjunction((negation(free), negation(fits))))
        once = self.test(self.hold_with(drop.register, lambda shared, count, tag: count == 1))
        many = self.test(self.hold_with(drop.register, lambda shared, count, tag: count == MAX_COUNT))
        less = self.define(f"({self.sub} {now} {self.number(1)})")
        left = self.constant(f"count {self.registers[drop.register].name}", (MAX_COUNT - 1, MAX_COUNT), many)
        stays = f"(ite (= {left} {self.number(MAX_COUNT)}) {now} {less})"
        zero = self.number(FREE)
        after = alternative(disjunction((free, once)), zero, alternative(many, stays, less))
        self.values[drop.register] = self.define(after)

    def convert(self, convert: ir.Convert) -> None:
        now = self.values[convert.register]
        free = self.is_free(convert.register)
        other = self.test(self.hold_with(convert.register, lambda shared, count, tag: shared != convert.shared))
        self.broken(convert.unheld, free)
        self.broken(convert.mismatch, conjunction((negation(free), negation(other))))
        shift = self.number(MAX_COUNT)
        changed = f"({self.add} {now} {shift})" if convert.shared else f"({self.sub} {now} {shift})"
        done = other
        if convert.result is not None:
            tried = self.constant("try", (0, 1), other)
            done = self.test(conjunction((other, f"(= {tried} {self.number(1)})")))
            self.values[convert.result] = self.define(f"(ite {done} {self.number(1)} {self.number(0)})")
        self.values[convert.register] = self.define(alternative(done, changed, now))

    def change(self, change: ir.Change) -> None:
        now = self.values[change.register]
        level = self.define(self.value(change.level))
        falls, rises = self.compare(BinaryOp.LT, level, now), self.compare(BinaryOp.GT, level, now)
        self.broken(change.slot, falls if change.up else rises)
        valid = self.test(
            conjunction(
                (
                    self.compare(BinaryOp.LE, self.number(0), level),
                    self.compare(BinaryOp.LE, level, self.number(HIGH_LEVEL)),
                )
            )
        )
        falls = self.test(conjunction((valid, falls)))
        touched = [
            conjunction((held, self.compare(BinaryOp.LT, level, self.number(limit))))
            for r, spins, limit in self.operation.holds
            if spins and falls != "false" and (held := negation(self.is_free(r))) != "false"
        ]
        self.broken(change.drop, conjunction((falls, disjunction(touched))))
        self.out.demands.append(LockDemand(change.drop, True, level, self.test(conjunction((self.here(), falls)))))
        self.values[change.register] = self.define(alternative(valid, level, now))

    def counter(self, index: int, up: bool, limit: int) -> None:
        now, top = self.values[index], self.number(limit)
        one, zero = self.number(1), self.number(0)
        if up:
            self.values[index] = self.define(f"(ite ({self.ge} {now} {top}) {top} ({self.add} {now} {one}))")
            return
        full = f"(= {now} {top})"
        left = self.constant(f"counter {self.registers[index].name}", (limit - 1, limit), full)
        self.values[index] = self.define(f"(ite {full} {left} (ite (= {now} {zero}) {zero} ({self.sub} {now} {one})))")
