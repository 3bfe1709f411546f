"""Expressions and simple statements as instructions of the step that is being built.

Order matters here: docs/language.md section 4 says in which order a statement makes its open choices, and a trace is
replayed by that order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.devices import device_of, number_of
from modelcheck.ir import Cell, Sort, Term
from modelcheck.lower.builder import Builder
from modelcheck.lower.scope import (
    Frame,
    Handle,
    Ledger,
    Lock,
    Object,
    Opaque,
    State,
    Value,
    Variable,
    is_kirql,
    object_name,
    time_limit,
)
from modelcheck.resolve import Program, apply, qualified, type_range
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL, NO_LEVEL, Property
from modelcheck.walk import calls_in, references, substatements

TRUE, FALSE = ir.Const(1), ir.Const(0)
BOOL = s.BoolType(Span.__new__(Span))


def negate(term: Term) -> Term:
    match term:
        case ir.Const(value):
            return ir.Const(int(not value))
        case ir.Not(inner) if isinstance(inner, ir.Not | ir.IsHeld):
            return inner
        case _:
            return ir.Not(term)


MAX_CALLED_BACK = 8
"""So many values that a call-out may have written are told apart, of more it may be any."""


def both(left: Term, right: Term) -> Term:
    return arithmetic(s.BinaryOp.AND, left, right)


def either(terms: Sequence[Term]) -> Term:
    """One of the terms holds: by halves, so that the term is no deeper than the number of them has digits."""
    if len(terms) < 2:
        return terms[0] if terms else FALSE
    half = len(terms) // 2
    return arithmetic(s.BinaryOp.OR, either(terms[:half]), either(terms[half:]))


def arithmetic(op: s.BinaryOp, left: Term, right: Term) -> Term:
    """The term, worked out where both sides are constants."""
    if isinstance(left, ir.Const) and isinstance(right, ir.Const):
        return ir.Const(apply(op, left.value, right.value) or 0)
    if op is s.BinaryOp.AND:
        for side, other in ((left, right), (right, left)):
            if isinstance(side, ir.Const):
                return _truth(other) if side.value else FALSE
    if op is s.BinaryOp.OR:
        for side, other in ((left, right), (right, left)):
            if isinstance(side, ir.Const):
                return TRUE if side.value else _truth(other)
    return ir.Arith(op, left, right)


def _truth(term: Term) -> Term:
    return term if isinstance(term, ir.Not | ir.IsHeld) else negate(negate(term))


class Evaluator(ABC):
    """Turns expressions and simple statements into instructions of `builder`, which `step` replaces."""

    def __init__(self, program: Program, state: State, ledger: Ledger, builder: Builder) -> None:
        self.program = program
        self.state = state
        self.ledger = ledger
        self.builder = builder
        self.timed = state.timed
        self.reached: list[Term] = []
        """Under which conditions the operand that is being evaluated is evaluated at all (`&&`, `||`)."""
        self.results: dict[int, Variable] = {}
        """Values of routine calls inside the expression, by the identity of the call node."""

    # ---- obligations ----

    def obligation(self, code: Property, frame: Frame, span: Span, subject: str, why: str) -> int:
        return self.ledger.number(code, frame.routine, frame.place(span), subject, why)

    def demand(self, condition: Term, code: Property, frame: Frame, span: Span, subject: str, why: str) -> None:
        slot = self.builder.slot(self.obligation(code, frame, span, subject, why))
        self.builder.emit(ir.Demand(condition, slot))

    # ---- names ----

    def variable(self, ref: s.Ref, frame: Frame) -> Variable | None:
        """The variable a reference stands for, None if it stands for something else."""
        binding = frame.names.get(ref.name)
        match binding, ref.selectors:
            case Variable(), ():
                return binding
            case Handle(fields), (s.Member(name),):
                return fields.get(name)
            case Opaque(), (s.Member(name),) if name in self.program.context_variables:
                return self._context(name)
            case Lock(lock), (s.Member(name),):
                return self._field(lock, name)
            case Object(name), (s.Member("lock"), s.Member(field)):
                return self._field(f"{name}.lock", field)
            case None, _ if self.program.hides(ref):
                return None
            case None, ():
                if ref.name in self.program.variables:
                    declared = self.program.variables[ref.name]
                    return Variable(self.state.shared(declared), declared.type)
                if ref.name in self.program.context_variables:
                    return self._context(ref.name)
                return None
            case None, _:
                return self._qualified_variable(ref)
            case Object(device), (s.Member(name),) if f"{device}.{name}" in self.program.variables:
                declared = self.program.variables[f"{device}.{name}"]
                return Variable(self.state.shared(declared), declared.type)
            case _:
                return None

    def _qualified_variable(self, ref: s.Ref) -> Variable | None:
        name = qualified(ref)
        if name in self.program.variables:
            declared = self.program.variables[name]
            return Variable(self.state.shared(declared), declared.type)
        if ref.name in self.program.locks and len(ref.selectors) == 1 and isinstance(ref.selectors[0], s.Member):
            return self._field(ref.name, ref.selectors[0].name)
        if name in self.program.locks and len(ref.selectors) == 2 and isinstance(ref.selectors[1], s.Member):
            return self._field(name, ref.selectors[1].name)
        return None

    def _context(self, name: str) -> Variable:
        declared = self.program.context_variables[name]
        return Variable(self.state.context(declared), declared.type)

    def _field(self, lock: str, name: str) -> Variable | None:
        for field in self.state.kind(lock).fields:
            if field.name == name:
                return Variable(self.state.field(lock, field), field.type)
        return None

    def locks(self, ref: s.Ref, frame: Frame) -> list[tuple[Term, str]]:
        """The locks a reference can stand for, each with the condition under which it does."""
        binding = frame.names.get(ref.name)
        match binding, ref.selectors:
            case Lock(name), ():
                return [(TRUE, name)]
            case Lock(name), (s.Index(index),):
                return self._members(name, index, frame)
            case Handle(fields, candidates), (s.Member(field),):
                target = self.term_of(fields[field])
                return [(arithmetic(s.BinaryOp.EQ, target, ir.Const(i + 1)), c) for i, c in enumerate(candidates)]
            case Object(name), (s.Member(member),):
                return [(TRUE, f"{name}.{member}")] if f"{name}.{member}" in self.program.locks else []
            case Object(name), (s.Member(member), s.Index(index)):
                return self._members(f"{name}.{member}", index, frame)
            case _:
                name = qualified(ref)
                if name not in self.program.locks:
                    name = ref.name
                for selector in ref.selectors:
                    if isinstance(selector, s.Index):
                        return self._members(name, selector.value, frame)
                return [(TRUE, name)] if name in self.program.locks else []

    def _members(self, family: str, index: s.Expr, frame: Frame) -> list[tuple[Term, str]]:
        size = self.program.locks[family].size or 1
        term = self.term(index, frame)
        low, high = self.builder.range(term)
        if low < 0 or high >= size:
            inside = both(arithmetic(s.BinaryOp.GE, term, ir.Const(0)), arithmetic(s.BinaryOp.LT, term, ir.Const(size)))
            self.demand(inside, Property.C04, frame, index.span, family, f"the index of {family} is below {size}")
        if isinstance(term, ir.Const):
            return [(TRUE, f"{family}[{term.value}]")] if 0 <= term.value < size else []
        register = self.builder.scratch(*self.builder.range(term))
        self.builder.emit(ir.Set(register, term, *self.builder.ranges[register], None))
        return [(ir.Arith(s.BinaryOp.EQ, ir.Reg(register), ir.Const(i)), f"{family}[{i}]") for i in range(size)]

    def is_lock(self, expr: s.Expr, frame: Frame) -> bool:
        ref = expr.ref if isinstance(expr, s.Address) else expr
        if not isinstance(ref, s.Ref):
            return False
        match frame.names.get(ref.name), ref.selectors:
            case Lock(), ((s.Index(),) | ()):
                return True
            case Object(name), (s.Member(member),) | (s.Member(member), s.Index()):
                return f"{name}.{member}" in self.program.locks
            case Handle(), (s.Member(field),):
                handle = frame.names[ref.name]
                assert isinstance(handle, Handle)
                return field in handle.fields and is_lock_reference(handle.fields[field])
            case None, _:
                known = self.program.locks
                return not self.program.hides(ref) and (qualified(ref) in known or ref.name in known)
            case _:
                return False

    def each_lock(
        self, ref: s.Ref, frame: Frame, emit: Callable[[str], None], otherwise: Callable[[], None] | None = None
    ) -> None:
        """Emits for every lock the reference can stand for, each behind its condition; `otherwise` where it is none."""
        self._choose(self.locks(ref, frame), emit, otherwise)

    def _choose(
        self,
        alternatives: list[tuple[Term, str]],
        emit: Callable[[str], None],
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        for condition, name in alternatives:
            match condition:
                case ir.Arith(s.BinaryOp.EQ, term, ir.Const()):
                    self._among(term, *self.builder.range(term), _by_value(alternatives), emit, otherwise)
                    return
                case ir.Const(1):
                    emit(name)
                    return
                case _:
                    pass
        if otherwise is not None:
            otherwise()

    def _among(
        self,
        term: Term,
        low: int,
        high: int,
        names: dict[int, str],
        emit: Callable[[str], None],
        otherwise: Callable[[], None] | None,
    ) -> None:
        """Emits for the lock of each value of a term within low..high: by halves, so that it is nested no deeper than
        the number of locks has digits."""
        values = [value for value in names if low <= value <= high]
        if not values:
            if otherwise is not None:
                otherwise()
            return
        if low == high:
            emit(names[low])
            return
        middle = values[len(values) // 2]
        if low < middle:
            condition, parts = ir.Arith(s.BinaryOp.LT, term, ir.Const(middle)), ((low, middle - 1), (middle, high))
        else:
            condition, parts = ir.Arith(s.BinaryOp.EQ, term, ir.Const(low)), ((low, low), (low + 1, high))
        branches = []
        for least, most in parts:
            saved = self.builder.branch()
            self._among(term, least, most, names, emit, otherwise)
            branches.append(self.builder.resume(saved))
        self.builder.emit(ir.Choose(condition, *branches))

    # ---- expressions ----

    def term_of(self, variable: Variable) -> Term:
        place = variable.place
        if isinstance(place, Cell) and place.sort is Sort.SHARED and place.low == place.high:
            return ir.Const(place.low)
        return ir.Reg(self.builder.register(place) if isinstance(place, Cell) else place)

    def type_of(self, expr: s.Expr, frame: Frame) -> s.Type | None:
        match expr:
            case s.Ref():
                variable = self.variable(expr, frame)
                if variable is not None:
                    return variable.type
                binding = frame.names.get(expr.name)
                return binding.type if isinstance(binding, Value) else None
            case s.Call(name):
                if id(expr) in self.results:
                    return self.results[id(expr)].type
                extern = self.program.externs.get(name)
                return extern[0].result if extern else None
            case _:
                return None

    def term(self, expr: s.Expr, frame: Frame, wanted: s.Type | None = None) -> Term:
        """The value of an expression. `wanted` types `*`, enum constants and results nobody declared."""
        match expr:
            case s.Number(value):
                return ir.Const(value)
            case s.Truth(value):
                return ir.Const(int(value))
            case s.Unknown():
                return ir.Star(*self._range(wanted))
            case s.Irql():
                return ir.Reg(self.builder.register(self.state.irql))
            case s.Ref():
                return self._ref(expr, frame, wanted)
            case s.Unary(s.UnaryOp.NOT, operand):
                return negate(self.term(operand, frame))
            case s.Unary(_, operand):
                return arithmetic(s.BinaryOp.SUB, FALSE, self.term(operand, frame, wanted))
            case s.Binary(op, left, right):
                return self._binary(op, left, right, frame, wanted)
            case s.Held(lock, mode):
                shared = None if mode is None else mode is s.Mode.SHARED
                return self._any_held(self.locks(lock, frame), shared)
            case s.TryAcquire(lock, mode, tag):
                return self._try(lock, frame, expr, mode is s.Mode.SHARED, tag)
            case s.TryConvert(lock):
                return self._try_convert(lock, frame, expr)
            case s.Call():
                return self._call(expr, frame, wanted)
            case s.Address(ref):
                return self.term(ref, frame, wanted)
            case s.Old(operand):
                known = self.results.get(id(expr))
                return self.term(operand, frame, wanted) if known is None else self.term_of(known)
            case s.NoLocks(spin_only):
                raise AssertionError(f"no_locks({spin_only}) stands outside require")

    def _range(self, wanted: s.Type | None) -> tuple[int, int]:
        if wanted is None:
            return 0, 1
        if is_kirql(wanted):
            return 0, NO_LEVEL - 1
        return type_range(self.program, wanted)

    def _ref(self, ref: s.Ref, frame: Frame, wanted: s.Type | None) -> Term:
        variable = self.variable(ref, frame)
        if variable is not None:
            declared = self._guards(ref, frame)
            if declared is not None:
                self.guarded(declared.guards, declared.name, False, frame, ref.span)
            return self.term_of(variable)
        binding = frame.names.get(ref.name)
        match binding, ref.selectors:
            case Value(term), ():
                return term
            case Object(name), (s.Member("level"),) if name in self.program.interrupts:
                return ir.Const(self.program.constant(self.program.interrupts[name].level) or 0)
            case _:
                pass
        if ref.name == "none" and not ref.selectors:
            return FALSE
        device = binding.name if isinstance(binding, Object) else ref.name
        if device in self.program.devices and not ref.selectors:
            return ir.Const(number_of(device))  # compared with another one
        value = self.program.constant(ref) if wanted is None else self.program.constant_of(wanted, ref)
        return ir.Const(value or 0)

    def _same_lock(self, left: s.Expr, right: s.Expr, frame: Frame) -> Term:
        """Whether two references, one of them the lock field of a handle, stand for one lock, or both for none."""
        sides: list[list[tuple[Term, str]]] = []
        none: Term = TRUE
        for side in (left, right):
            ref = side.ref if isinstance(side, s.Address) else side
            assert isinstance(ref, s.Ref)
            sides.append(self.locks(ref, frame))
            variable = self.variable(ref, frame)
            none = both(none, FALSE if variable is None else negate(_truth(self.term_of(variable))))
        equal = none
        for first, name in sides[0]:
            for second, other in sides[1]:
                if name == other:
                    equal = arithmetic(s.BinaryOp.OR, equal, both(first, second))
        return equal

    def _binary(self, op: s.BinaryOp, left: s.Expr, right: s.Expr, frame: Frame, wanted: s.Type | None) -> Term:
        if op in (s.BinaryOp.EQ, s.BinaryOp.NE) and self.is_lock(left, frame) and self.is_lock(right, frame):
            equal = self._same_lock(left, right, frame)
            return equal if op is s.BinaryOp.EQ else negate(equal)
        if op in (s.BinaryOp.EQ, s.BinaryOp.NE, s.BinaryOp.LE, s.BinaryOp.GE, s.BinaryOp.LT, s.BinaryOp.GT):
            wanted = self.type_of(left, frame) or self.type_of(right, frame)
        elif op in (s.BinaryOp.AND, s.BinaryOp.OR):
            wanted = None
        first = self.term(left, frame, wanted)
        if op not in (s.BinaryOp.AND, s.BinaryOp.OR) or not self._has_guarded(right, frame):
            return arithmetic(op, first, self.term(right, frame, wanted))
        register = self.builder.scratch(0, 1)
        self.builder.emit(ir.Set(register, _truth(first), 0, 1, None))
        reached = ir.Reg(register) if op is s.BinaryOp.AND else negate(ir.Reg(register))
        self.reached.append(reached)
        second = self.term(right, frame, wanted)
        self.reached.pop()
        return arithmetic(op, ir.Reg(register), second)

    def _has_guarded(self, expr: s.Expr, frame: Frame) -> bool:
        return any(self._guards(ref, frame) for ref in references(expr))

    def _guards(self, ref: s.Ref, frame: Frame) -> s.VarDecl | None:
        """The declaration of a shared variable that has a guard."""
        variable = self.variable(ref, frame)
        if variable is None or not isinstance(variable.place, Cell) or variable.place.sort is not Sort.SHARED:
            return None
        declared = self.program.variables[variable.place.name.removeprefix("var ")]
        return declared if declared.guards else None

    def _any_held(self, alternatives: list[tuple[Term, str]], shared: bool | None) -> Term:
        return either(
            [both(c, ir.IsHeld(self.builder.register(self.state.hold(name)), shared)) for c, name in alternatives]
        )

    def _try(self, ref: s.Ref, frame: Frame, expr: s.Expr, shared: bool, tag: str | None) -> Term:
        result = self.builder.scratch(0, 1)
        self.builder.emit(ir.Set(result, FALSE, 0, 1, None))
        self.each_lock(ref, frame, lambda lock: self.take(lock, frame, expr.span, shared, tag, result))
        return ir.Reg(result)

    def _try_convert(self, ref: s.Ref, frame: Frame, expr: s.Expr) -> Term:
        result = self.builder.scratch(0, 1)
        self.builder.emit(ir.Set(result, FALSE, 0, 1, None))
        self.each_lock(ref, frame, lambda lock: self.convert(lock, frame, expr.span, False, result))
        return ir.Reg(result)

    def _call(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Term:
        known = self.results.get(id(call))
        if known is not None:
            return self.term_of(known)
        return self.kernel_call(call, frame, wanted)

    @abstractmethod
    def kernel_call(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Term:
        """A call of a kernel routine inside the step; `lower.kernel` gives it its meaning."""

    # ---- interference ----

    def settle(self, exprs: Iterator[s.Expr] | tuple[s.Expr, ...], frame: Frame) -> None:
        """Lets others write to the shared variables the expressions read, and checks that their guards are held."""
        seen: set[Cell] = set()
        for expr in exprs:
            for ref in references(expr):
                variable = self.variable(ref, frame)
                if variable is None or not isinstance(variable.place, Cell) or variable.place in seen:
                    continue
                cell = variable.place
                if cell.sort is Sort.GHOST:
                    seen.add(cell)
                    self.builder.emit(ir.Interfere(self.builder.register(cell)))
                elif cell.sort is Sort.SHARED:
                    seen.add(cell)
                    self.interfere(cell, frame)

    def interfere(self, cell: Cell, frame: Frame) -> None:
        """Others may write to a shared variable, unless its guard is held."""
        declared = self.program.variables[cell.name.removeprefix("var ")]
        if frame.quiet or not cell.others:
            return
        change = ir.Interfere(self.builder.register(cell))
        held: Term = FALSE
        for guard in declared.guards:
            held = arithmetic(s.BinaryOp.OR, held, self._any_held(self.locks(guard, frame), None))
        self.builder.emit(change if held == FALSE else ir.Choose(held, (), (change,)))

    def guarded(self, guards: tuple[s.Ref, ...], name: str, write: bool, frame: Frame, span: Span) -> None:
        """R01: every guard is held, exclusively for a write."""
        for guard in guards:
            held = self._any_held(self.locks(guard, Frame({}, frame.routine)), False if write else None)
            lock = qualified(guard)
            why = (
                f"{lock} is held exclusively when {name} is written" if write else f"{lock} is held when {name} is read"
            )
            for reached in self.reached:
                held = arithmetic(s.BinaryOp.OR, negate(reached), held)
            self.demand(held, Property.R01, frame, span, name, why)

    # ---- statements of one step ----

    def store(self, variable: Variable, value: Term, frame: Frame, span: Span, name: str) -> None:
        """variable := value, with C04 where the value may leave the range."""
        low, high = self._value_range(variable)
        register = self.builder.register(variable.place) if isinstance(variable.place, Cell) else variable.place
        bounds = self.builder.range(value)
        obligation = None
        if isinstance(variable.type, s.BoolType) and (bounds[0] < 0 or bounds[1] > 1):
            value = arithmetic(s.BinaryOp.NE, value, FALSE)
        elif bounds[0] < low or bounds[1] > high:
            why = f"the value stays in {low}..{high}"
            obligation = self.obligation(Property.C04, frame, span, name, why)
        self.builder.assign(register, value, low, high, obligation)
        if isinstance(variable.place, Cell) and variable.place.sort is Sort.SHARED:
            declared = self.program.variables[variable.place.name.removeprefix("var ")]
            self.guarded(declared.guards, declared.name, True, frame, span)

    def leave_open(self, variable: Variable) -> None:
        """A local variable that nobody has given a value: NO_LEVEL for a KIRQL, else any."""
        cell = variable.place
        assert isinstance(cell, Cell)
        register = self.builder.register(cell)
        if cell.sort is Sort.LEVEL:
            self.builder.assign(register, ir.Const(NO_LEVEL), 0, NO_LEVEL, None)
        else:
            self.builder.emit(ir.Pick(register, f"uninit {cell.name}", cell.low, cell.high))

    def _value_range(self, variable: Variable) -> tuple[int, int]:
        if is_lock_reference(variable):
            place = variable.place
            return self.builder.ranges[place] if isinstance(place, int) else (place.low, place.high)
        return type_range(self.program, variable.type)

    def assign(self, stmt: s.Assign, frame: Frame) -> None:
        binding = frame.names.get(stmt.target.name)
        if isinstance(binding, Handle) and stmt.target.selectors:
            selector = stmt.target.selectors[0]
            assert isinstance(selector, s.Member)
            field = binding.fields[selector.name]
            if is_lock_reference(field):
                self._refer(field, binding, stmt.value, frame)
                return
        variable = self.variable(stmt.target, frame)
        assert variable is not None
        if isinstance(variable.type, s.CounterType) and self._counter(stmt, variable, frame):
            return
        value = self.term(stmt.value, frame, variable.type)
        self.store(variable, value, frame, stmt.span, stmt.target.span.text)

    def _refer(self, field: Variable, handle: Handle, value: s.Expr, frame: Frame) -> None:
        """H.lock := L, as the number of the lock among the handle's candidates."""
        ref = value.ref if isinstance(value, s.Address) else value
        register = self.builder.register(field.place) if isinstance(field.place, Cell) else field.place
        low, high = 0, len(handle.candidates)
        if isinstance(ref, s.Ref) and ref.name == "none":
            self.builder.emit(ir.Set(register, FALSE, low, high, None))
            return
        assert isinstance(ref, s.Ref)

        def emit(lock: str) -> None:
            number = handle.candidates.index(lock) + 1 if lock in handle.candidates else 0
            self.builder.emit(ir.Set(register, ir.Const(number), low, high, None))

        self.each_lock(ref, frame, emit)

    def _counter(self, stmt: s.Assign, variable: Variable, frame: Frame) -> bool:
        """`c = c + 1` and `c = c - 1` on a counter, which never overflows."""
        match stmt.value:
            case s.Binary((s.BinaryOp.ADD | s.BinaryOp.SUB) as op, left, s.Number(1)) if left == stmt.target:
                assert isinstance(variable.type, s.CounterType)
                place = variable.place
                register = self.builder.register(place) if isinstance(place, Cell) else place
                self.builder.emit(ir.CounterStep(register, op is s.BinaryOp.ADD, variable.type.limit))
                return True
            case _:
                return False

    def take(
        self, lock: str, frame: Frame, span: Span, shared: bool, tag: str | None, result: int | None = None
    ) -> None:
        kind, state = self.state.kind(lock), self.state
        self._uses(lock)
        self.alive(lock, frame, span)
        if result is None:
            self._rising(lock, frame, span)
        register = self.builder.register(state.hold(lock))
        if self.timed and kind.spins:
            cells = (state.clock(lock), state.untimed(lock))
            start = tuple(ir.Set(self.builder.register(c), FALSE, c.low, c.high, None) for c in cells)
            self.builder.emit(ir.Choose(ir.IsHeld(register, None), (), start))
        allowed = frozenset((r.mode is s.Mode.SHARED, r.under is s.Mode.SHARED) for r in kind.recursion)
        slot = None
        if result is None:
            why = f"{lock} is not acquired by a context that holds it"
            slot = self.builder.slot(self.obligation(Property.B01, frame, span, lock, why))
        waits = () if result is not None else self._waits(lock, kind, frame, span)
        entered = self._enters(lock, kind, register)
        self.builder.emit(ir.Take(register, shared, state.tag(lock, tag), allowed, slot, result, waits))
        if result is None and not shared and state.environment.early:
            for routine in self.program.ended_by(lock):
                if routine not in state.again:
                    self._note_begun(routine, False)
        self._entered(lock, result, entered)

    def _rising(self, lock: str, frame: Frame, span: Span) -> None:
        """C02: no member of an `ordered` family with a higher index is held."""
        declared = self.state.declaration(lock)
        if not declared.ordered or declared.size is None:
            return
        family, _, index = lock.rstrip("]").partition("[")
        members = (self.state.hold(f"{family}[{number}]") for number in range(int(index) + 1, declared.size))
        above = either([ir.IsHeld(self.builder.register(cell), None) for cell in members])
        if above != FALSE:
            why = f"the members of {family} are acquired by rising index"
            self.demand(negate(above), Property.C02, frame, span, lock, why)

    def _waits(self, lock: str, kind: s.LockKind, frame: Frame, span: Span) -> tuple[int, ...]:
        """What several contexts together can break where this one may have to wait for a lock."""
        wanted = [(Property.D01, f"no deadlock is possible where {lock} is waited for")]
        if kind.spins:
            wanted.append((Property.D02, f"{lock} is not held by what runs below on this processor"))
        wanted.append((Property.D04, f"{lock} comes after every lock that is held"))
        return tuple(self.builder.slot(self.obligation(code, frame, span, lock, why)) for code, why in wanted)

    def _enters(self, lock: str, kind: s.LockKind, hold: int) -> Term | None:
        """Whether a context that acquires a lock does not hold it already, where it may; None: never."""
        if not kind.recursion or not any(self.state.shared(declared).others for declared in self.guarded_by(lock)):
            return None
        free = self.builder.scratch(0, 1)
        self.builder.assign(free, negate(ir.IsHeld(hold, None)), 0, 1, None)
        return ir.Reg(free)

    def _entered(self, lock: str, result: int | None, entered: Term | None) -> None:
        """What others wrote to the variables that the lock guards, up to now. `entered`: whether the lock was free
        before; None: certainly."""
        changes: list[ir.Instruction] = []
        for declared in self.guarded_by(lock):
            cell = self.state.shared(declared)
            if cell.others:
                changes.append(ir.Interfere(self.builder.register(cell)))
        conditions = [c for c in (None if result is None else ir.Reg(result), entered) if c is not None]
        if changes and conditions:
            condition = both(conditions[0], conditions[-1]) if len(conditions) > 1 else conditions[0]
            self.builder.emit(ir.Choose(condition, tuple(changes), ()))
        else:
            for change in changes:
                self.builder.emit(change)

    def guarded_by(self, lock: str) -> Iterable[s.VarDecl]:
        """The variables a lock guards."""
        return self._guarded().get(lock, {}).values()

    def _guarded(self) -> dict[str, dict[str, s.VarDecl]]:
        """For each lock the variables it guards."""
        if self.state.guarded is None:
            self.state.guarded = {}
            saved, self.builder = self.builder, Builder({})  # what an index needs is of no use here
            for declared in self.program.variables.values():
                for guard in declared.guards:
                    for _, name in self.locks(guard, Frame({}, "")):
                        self.state.guarded.setdefault(name, {})[declared.name] = declared
            self.builder = saved
        return self.state.guarded

    def alive(self, lock: str, frame: Frame, span: Span) -> None:
        """B05, B06: initialised, and not freed."""
        if not self.state.kind(lock).init_required:
            return
        life = ir.Reg(self.builder.register(self.state.life(lock)))
        initialised = arithmetic(s.BinaryOp.NE, life, ir.Const(ir.UNINITIALISED))
        self.demand(initialised, Property.B05, frame, span, lock, f"{lock} is initialised before it is used")
        freed = arithmetic(s.BinaryOp.NE, life, ir.Const(ir.FREED))
        self.demand(freed, Property.B06, frame, span, lock, f"{lock} is not used after it was freed")

    def drop(self, lock: str, frame: Frame, span: Span, mode: s.Mode, tag: str | None) -> None:
        self._uses(lock)
        register = self.builder.register(self.state.hold(lock))
        either = mode is s.Mode.EITHER
        number = None if either and tag is None else self.state.tag(lock, tag)
        if self.timed and self.state.kind(lock).spins:
            self._on_time(lock, register, frame, span)
        unheld, mismatch = self._release_slots(lock, frame, span)
        shared = None if either else mode is s.Mode.SHARED
        self.builder.emit(ir.Drop(register, shared, number, unheld, mismatch))

    def _on_time(self, lock: str, register: int, frame: Frame, span: Span) -> None:
        """T01: what lies between acquiring and this release took no longer than the limit, and all of it is known."""
        limit = time_limit(self.program)
        why = f"{lock} is held no longer than {limit / 1000:g} us"
        number = self.obligation(Property.T01, frame, span, lock, why)
        question = self.ledger.number(
            Property.T01, f"start {frame.routine}", frame.place(span), lock, "all costs are known"
        )
        self.ledger.timing[number] = question
        held = ir.IsHeld(register, None)
        elapsed = ir.Reg(self.builder.register(self.state.clock(lock)))
        untimed = ir.Reg(self.builder.register(self.state.untimed(lock)))
        in_time = arithmetic(s.BinaryOp.LE, elapsed, ir.Const(limit))
        demands = (
            ir.Demand(in_time, self.builder.slot(number)),
            ir.Demand(negate(untimed), self.builder.slot(question)),
        )
        self.builder.emit(ir.Choose(held, demands, ()))

    def spend(self, nanoseconds: int | None, times: Term | None = None) -> None:
        """Time passes for every spin lock that is held, so many `times`; None: nobody knows how much."""
        for lock in spin_locks(self.program):
            held = ir.IsHeld(self.builder.register(self.state.hold(lock)), None)
            if nanoseconds is None:
                cell = self.state.untimed(lock)
                change = ir.Set(self.builder.register(cell), TRUE, 0, 1, None)
            else:
                cell = self.state.clock(lock)
                register = self.builder.register(cell)
                passed: Term = ir.Const(min(nanoseconds, cell.high))
                if times is not None:
                    passed = arithmetic(s.BinaryOp.MUL, times, ir.Const(nanoseconds))
                later = ir.Arith(s.BinaryOp.ADD, ir.Reg(register), passed)
                change = ir.Set(register, later, cell.low, cell.high, None)
            self.builder.emit(ir.Choose(held, (change,), ()))

    def _release_slots(self, lock: str, frame: Frame, span: Span) -> tuple[int, int]:
        unheld = self.obligation(Property.B02, frame, span, lock, f"{lock} is held when it is released")
        why = f"the release of {lock} belongs to the way it was acquired"
        mismatch = self.obligation(Property.B04, frame, span, lock, why)
        return self.builder.slot(unheld), self.builder.slot(mismatch)

    def _release_nothing(self, ref: s.Ref, frame: Frame, span: Span) -> None:
        """B02: the handle belongs to no lock."""
        if isinstance(frame.names.get(ref.name), Handle):
            self.demand(FALSE, Property.B02, frame, span, ref.name, f"{ref.name} belongs to a lock when it is released")

    def convert(self, lock: str, frame: Frame, span: Span, shared: bool, result: int | None) -> None:
        self._uses(lock)
        register = self.builder.register(self.state.hold(lock))
        unheld, mismatch = self._release_slots(lock, frame, span)
        self.builder.emit(ir.Convert(register, shared, unheld, mismatch, result))

    def _uses(self, lock: str, freed: bool = False) -> None:
        """R04: nobody is about to use a lock when another context frees it."""
        declared = self.state.declaration(lock)
        if declared.kind in self.state.freed:
            self.builder.emit(ir.Access(self.builder.register(self.state.data(lock)), freed, False))
            if freed:
                self.ledger.number(Property.R04, "", declared.span, lock, f"nobody else uses {lock} when it is freed")

    def _outlives_devices(self, lock: str) -> bool:
        """Whether a lock is not that of a device: others use it while one is added or started."""
        return bool(self.program.devices) and not device_of(lock)

    def begin_life(self, lock: str, frame: Frame, span: Span) -> None:
        """`init L`"""
        hold = self.builder.register(self.state.hold(lock))
        life = self.builder.register(self.state.life(lock))
        free = negate(ir.IsHeld(hold, None))
        self.demand(free, Property.B05, frame, span, lock, f"{lock} is not initialised while it is held")
        if self.state.kind(lock).init_required:
            fresh = arithmetic(s.BinaryOp.NE, ir.Reg(life), ir.Const(ir.INITIALISED))
            self.demand(fresh, Property.B05, frame, span, lock, f"{lock} is not initialised twice")
        self.builder.emit(ir.Set(life, ir.Const(ir.INITIALISED), 0, 2, None))

    def end_life(self, lock: str, frame: Frame, span: Span) -> None:
        """`free L`"""
        alone = self.state.environment.early and not self.state.environment.again
        self._uses(lock, freed=not alone or self._outlives_devices(lock))
        hold = self.builder.register(self.state.hold(lock))
        life = self.builder.register(self.state.life(lock))
        free = negate(ir.IsHeld(hold, None))
        self.demand(free, Property.B06, frame, span, lock, f"{lock} is not freed while it is held")
        if self.state.kind(lock).init_required:
            alive = arithmetic(s.BinaryOp.EQ, ir.Reg(life), ir.Const(ir.INITIALISED))
            self.demand(alive, Property.B06, frame, span, lock, f"{lock} is initialised when it is freed")
        self.builder.emit(ir.Set(life, ir.Const(ir.FREED), 0, 2, None))

    def change_level(self, expr: s.Expr, up: bool, frame: Frame, span: Span) -> None:
        level = self.term(expr, frame)
        subject = frame.subject("irql")
        word = "raise only raises" if up else "lower only lowers"
        slot = self.builder.slot(self.obligation(Property.I04, frame, span, subject, f"{word} the IRQL"))
        why = "the IRQL does not drop below the level of a held spin lock"
        drop = self.builder.slot(self.obligation(Property.I05, frame, span, subject, why))
        self.builder.emit(ir.Change(self.builder.register(self.state.irql), level, up, slot, drop))
        self.builder.changes_irql = True

    def simple(self, stmt: s.Stmt, frame: Frame) -> None:
        """A statement that is one step, after `settle`."""
        match stmt:
            case s.Assign():
                self.assign(stmt, frame)
            case s.CallStmt(call):
                self._call(call, frame, None)
            case s.Assume(condition):
                self.builder.emit(ir.Guess(self.term(condition, frame)))
            case s.Assert(condition):
                self.demand(
                    self.term(condition, frame), Property.C01, frame, stmt.span, frame.subject(""), condition.span.text
                )
            case s.Require(condition, code, why):
                self._require(stmt, condition, Property(code), why, frame)
            case s.Access():
                self.access(stmt, frame)
            case s.Init(lock):
                self.each_lock(lock, frame, lambda name: self.begin_life(name, frame, stmt.span))
            case s.Free(lock):
                self.each_lock(lock, frame, lambda name: self.end_life(name, frame, stmt.span))
            case s.Acquire(lock, mode, tag):
                shared = mode is s.Mode.SHARED
                self.each_lock(lock, frame, lambda name: self.take(name, frame, stmt.span, shared, tag))
            case s.Release(lock, mode, tag):
                self.each_lock(
                    lock,
                    frame,
                    lambda name: self.drop(name, frame, stmt.span, mode, tag),
                    lambda: self._release_nothing(lock, frame, stmt.span),
                )
            case s.Convert(lock, mode):
                shared = mode is s.Mode.SHARED
                self.each_lock(lock, frame, lambda name: self.convert(name, frame, stmt.span, shared, None))
            case s.Raise(level):
                self.change_level(level, True, frame, stmt.span)
            case s.Lower(level):
                self.change_level(level, False, frame, stmt.span)
            case s.Blocks():
                self._require_free(
                    True, Property.I07, "no spin lock is held where the thread may block", frame, stmt.span
                )
            case s.Cost(nanoseconds, times):
                if self.timed:
                    self.spend(nanoseconds, None if times is None else self.term(times, frame))
            case s.Signal(op, event):
                self._signal(op, event, frame, stmt.span)
            case s.Enable(on, name, again):
                self._enable(on, name, again, frame)
            case s.MayReenter(role):
                why = f"no lock is held that a routine with the role {role} may wait for"
                subject = frame.subject(role)
                slot = self.builder.slot(self.obligation(Property.D01, frame, stmt.span, subject, why))
                self.builder.emit(ir.Reenter(role, slot))
                self._come_back(role)
            case _:
                pass

    def _come_back(self, role: str) -> None:
        """A call-out that has come back may have written to variables, where that is not seen by others writing them
        anyway: what the guard keeps others from, if the callee can acquire it again, and what nobody else writes."""
        for name, values in self.state.called_back.get(role, {}).items():
            declared = self.program.variables[name]
            cell = self.state.shared(declared)
            kinds = [self.state.kind(lock) for lock, guarded in self._guarded().items() if name in guarded]
            if kinds and not any(r.mode is s.Mode.EXCLUSIVE for kind in kinds for r in kind.recursion):
                continue
            if not kinds and _covers(cell.others, values):
                continue
            happens, register = self.builder.scratch(0, 1), self.builder.register(cell)
            self.builder.emit(ir.Pick(happens, f"{ir.CALLED_BACK}{name}", 0, 1))
            written: tuple[ir.Instruction, ...] = (ir.Pick(register, "", cell.low, cell.high),)
            if len(values) <= MAX_CALLED_BACK:
                which = self.builder.scratch(0, len(values) - 1)
                self.builder.emit(ir.Pick(which, "", 0, len(values) - 1))
                written = tuple(
                    ir.Choose(
                        arithmetic(s.BinaryOp.EQ, ir.Reg(which), ir.Const(n)),
                        (ir.Set(register, ir.Const(value), cell.low, cell.high, None),),
                        (),
                    )
                    for n, value in enumerate(values)
                )
            self.builder.emit(ir.Choose(ir.Reg(happens), written, ()))

    def _signal(self, op: s.SignalOp, ref: s.Ref, frame: Frame, span: Span) -> None:
        """`wait E`, `set E`, `clear E`"""
        binding = frame.names.get(ref.name)
        name = object_name(ref, binding)
        if name not in self.program.events:
            return
        register = self.builder.register(self.state.event(name))
        if op is s.SignalOp.WAIT:
            why = f"somebody who can still run sets {name}"
            slot = self.builder.slot(self.obligation(Property.D03, frame, span, name, why))
            self.builder.emit(ir.Await(register, slot))
        else:
            self.builder.emit(ir.Signal(register, op is s.SignalOp.SET))

    def _enable(self, on: bool, name: str, again: bool, frame: Frame) -> None:
        """`enable R`, `disable R`: for a DPC, a timer or a work item the routine it runs, for an interrupt its service
        routines."""
        binding = frame.names.get(name)
        target = binding.name if isinstance(binding, Object) else name
        program, by = self.program, target if target in self.program.deferred else ""
        for routine, sure in program.disabled_by(target):
            lasts = again or program.is_timer(target) if on else sure and not program.is_service_routine(routine)
            self.builder.emit(ir.Enable(routine, on, lasts, by if on or sure else ir.ONE_OF_SEVERAL))
            if on or (sure and not lasts):
                self._note_begun(routine, on)

    def _note_begun(self, routine: str, begun: bool) -> None:
        """Keeps in mind whether a routine may begin to run, in a phase before its own."""
        if self.state.environment.early:
            self.builder.assign(self.builder.register(self.state.begun(routine)), ir.Const(int(begun)), 0, 1, None)

    def _require(self, stmt: s.Require, condition: s.Expr, code: Property, why: str, frame: Frame) -> None:
        if isinstance(condition, s.NoLocks):
            besides = [name for ref in condition.besides for _, name in self.locks(ref, frame)]
            self._require_free(condition.spin_only, code, why, frame, stmt.span, besides)
            return
        self.demand(self.term(condition, frame), code, frame, stmt.span, frame.subject(""), why)

    def _require_free(
        self, spin_only: bool, code: Property, why: str, frame: Frame, span: Span, besides: Sequence[str] = ()
    ) -> None:
        slot = self.builder.slot(self.obligation(code, frame, span, frame.subject(""), why))
        registers = tuple(self.builder.register(self.state.hold(lock)) for lock in besides)
        self.builder.emit(ir.DemandFree(spin_only, slot, registers))

    def access(self, stmt: s.Access, frame: Frame) -> None:
        binding = frame.names.get(stmt.data.name)
        name = object_name(stmt.data, binding)
        declared = self.program.data.get(name)
        if declared is None:
            self._access_variable(name, stmt, frame)
            return
        self.guarded(declared.guards, name, stmt.write, frame, stmt.span)
        if not declared.guards:
            self.builder.emit(ir.Access(self.builder.register(self.state.data(name)), stmt.write, frame.quiet))
        if declared.paged:
            below = arithmetic(s.BinaryOp.LT, self.term(s.Irql(stmt.span), frame), ir.Const(DISPATCH_LEVEL))
            why = f"pageable {name} is touched below DISPATCH_LEVEL"
            self.demand(below, Property.I06, frame, stmt.span, name, why)

    def _access_variable(self, name: str, stmt: s.Access, frame: Frame) -> None:
        declared = self.program.variables.get(name)
        if declared is not None:
            self.guarded(declared.guards, name, stmt.write, frame, stmt.span)


def states_costs(program: Program) -> bool:
    """Whether the driver states a cost, or calls a kernel routine whose model does: only then T01 looks at time."""
    bodies = [routine.body for routine in program.routines.values()]
    costly = {
        name
        for name, overloads in program.externs.items()
        if any(e.body is not None and any(isinstance(stmt, s.Cost) for stmt in e.body.body) for e in overloads)
    }
    if costly and any(call.name in costly for body in bodies for call in calls_in(body)):
        return True
    pending: list[s.Stmt] = [*bodies]
    pending += [
        e.body
        for overloads in program.externs.values()
        for e in overloads
        if e.body is not None and e.span.source in program.own
    ]
    while pending:
        stmt = pending.pop()
        if isinstance(stmt, s.Cost):
            return True
        pending += substatements(stmt)
    return False


def spin_locks(program: Program) -> list[str]:
    """Every spin lock of the driver, members of families one by one."""
    names: list[str] = []
    for name, lock in program.locks.items():
        kind = program.lock_kinds.get(lock.kind)
        if kind is not None and kind.spins:
            names += [name] if lock.size is None else [f"{name}[{i}]" for i in range(lock.size)]
    return names


def _covers(whole: Sequence[int], part: Sequence[int]) -> bool:
    """Whether all of some values are among others; each a few numbers, rising, or a range that may be long."""
    if isinstance(part, range):
        return isinstance(whole, range) and part[0] in whole and part[-1] in whole
    return all(value in whole for value in part)


def _by_value(alternatives: Iterable[tuple[Term, str]]) -> dict[int, str]:
    """The locks by the value of the term that says which one it is."""
    found: dict[int, str] = {}
    for condition, name in alternatives:
        match condition:
            case ir.Arith(s.BinaryOp.EQ, _, ir.Const(value)):
                found[value] = name
            case _:
                pass
    return found


def is_lock_reference(variable: Variable) -> bool:
    return isinstance(variable.type, s.NamedType) and variable.type.name == "lock"
