"""Calls of kernel routines: their models, written in the language, become instructions of the calling step."""

from __future__ import annotations

from modelcheck import documented, ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Sort, Term
from modelcheck.lower.builder import Builder
from modelcheck.lower.evaluate import FALSE, TRUE, Evaluator, arithmetic, both, is_lock_reference, negate
from modelcheck.lower.repeated import Patterns, Repeatable
from modelcheck.lower.scope import (
    Binding,
    Frame,
    Handle,
    Ledger,
    Lock,
    Object,
    Opaque,
    State,
    Value,
    Variable,
    object_name,
)
from modelcheck.resolve import Program, qualified, said, type_range
from modelcheck.source import Span
from modelcheck.verdict import Property
from modelcheck.walk import expressions

NO_WAIT, SOME_WAIT, WAIT_FOR_EVER = 0, 1, 2


class KernelCalls(Evaluator):
    """Adds calls of externs, of documented routines without a model, and of unknown ones. `patterns`: what calls became
    so far."""

    def __init__(self, program: Program, state: State, ledger: Ledger, builder: Builder, patterns: Patterns) -> None:
        super().__init__(program, state, ledger, builder)
        self.patterns = patterns

    def select(self, call: s.Call, frame: Frame) -> s.Extern | None:
        """The first overload that the arguments fit, None if no model knows the routine."""
        overloads = self.program.externs.get(call.name, ())
        for extern in overloads:
            if self._fits(extern, call, frame):
                return extern
        return overloads[0] if overloads else None

    def _fits(self, extern: s.Extern, call: s.Call, frame: Frame) -> bool:
        open_ended = bool(extern.params) and isinstance(extern.params[-1], s.RestParam)
        params = extern.params[:-1] if open_ended else extern.params
        if len(call.args) < len(params) or (len(call.args) > len(params) and not open_ended):
            return False
        return all(self._fits_one(p, a, frame) for p, a in zip(params, call.args, strict=False))

    def _fits_one(self, param: s.Param, arg: s.Expr, frame: Frame) -> bool:
        ref = arg.ref if isinstance(arg, s.Address) else arg
        binding = frame.names.get(ref.name) if isinstance(ref, s.Ref) else None
        match param:
            case s.LockParam(_, kind):
                if not self.is_lock(arg, frame):
                    return False
                assert isinstance(ref, s.Ref)
                return kind is None or all(self.state.kind(lock).name == kind for _, lock in self.locks(ref, frame))
            case s.ValueParam(s.NamedType(name)) if name in self.program.handle_kinds:
                return isinstance(binding, Handle)
            case s.ValueParam(if_said=True):
                return True
            case s.ValueParam():
                return not self.is_lock(arg, frame) and not (isinstance(binding, Handle) and not ref.selectors)  # type: ignore[union-attr]
            case s.ObjectParam(kind, _):
                return self._is_object(kind, ref, binding)
            case _:
                return True

    def _is_object(self, kind: s.ObjectKind, ref: s.Expr, binding: Binding | None) -> bool:
        if kind in (s.ObjectKind.ANY, s.ObjectKind.TIMEOUT):
            return True
        if not isinstance(ref, s.Ref):
            return False
        name = object_name(ref, binding)
        tables: dict[s.ObjectKind, tuple[dict[str, object], ...]] = {
            s.ObjectKind.INTERRUPT: (self.program.interrupts,),  # type: ignore[dict-item]
            s.ObjectKind.EVENT: (self.program.events,),  # type: ignore[dict-item]
            s.ObjectKind.ROUTINE: (self.program.routines, self.program.deferred),  # type: ignore[dict-item]
            s.ObjectKind.DATA: (self.program.data,),  # type: ignore[dict-item]
        }
        return any(name in table for table in tables[kind])

    def kernel_call(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Term:
        repeatable = self._repeatable(call, frame, wanted)
        if repeatable is None:
            return self._called(call, frame, wanted)
        pattern = self.patterns.find(repeatable)
        if pattern is None:
            result = self._called(call, frame, wanted)
            self.patterns.learn(repeatable, self.builder, result, self.state, self.ledger)
            return result
        slots = self.ledger.numbered(frame.routine, call.span, pattern.says(repeatable.locks))
        return pattern.apply(repeatable, self.builder, self.state, slots)

    def _repeatable(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Repeatable | None:
        """The call, if it begins its step and all that it is given are locks that guard no variable and have no order,
        local variables, constants and events."""
        builder = self.builder
        if builder.cells or builder.code or builder.slots or self.timed or self.reached or frame.call or frame.callee:
            return None
        if call.name not in self.program.externs:
            return None
        shape: list[object] = [call.name, wanted, frame.quiet]
        locks: list[str] = []
        cells: list[Cell] = []
        for arg in call.args:
            ref = arg.ref if isinstance(arg, s.Address) else arg
            if isinstance(ref, s.Number | s.Truth | s.Unknown):
                shape.append(ref)
                continue
            if not isinstance(ref, s.Ref) or not all(isinstance(sel, s.Member) for sel in ref.selectors):
                return None
            given: object
            match frame.names.get(ref.name), ref.selectors:
                case Variable(Cell(is_global=False) as cell, kind), ():
                    if cell not in cells:
                        cells.append(cell)
                    given = (cells.index(cell), cell.sort, cell.low, cell.high, kind)
                case Opaque(), ():
                    given = Opaque()
                case Lock(name), ():
                    given = self._shape_of_lock(name, locks)
                case None, _ if not self.program.hides(ref):
                    given = self._shape_of_name(ref, frame, locks)
                case _:
                    return None
            if given is None:
                return None
            shape.append((isinstance(arg, s.Address), given))
        return Repeatable(tuple(shape), tuple(locks), tuple(cells))

    def _shape_of_name(self, ref: s.Ref, frame: Frame, locks: list[str]) -> object | None:
        """What a declared name adds to the shape of a call, None where that is not enough."""
        name = qualified(ref)
        if name in self.program.locks:
            return self._shape_of_lock(name, locks) if self.program.locks[name].size is None else None
        if ref.name in self.program.locks or self.variable(ref, frame) is not None:
            return None
        return name

    def _shape_of_lock(self, name: str, locks: list[str]) -> object | None:
        declared = self.program.locks.get(name.partition("[")[0])
        if declared is None or declared.ordered or self.guarded_by(name):
            return None
        if name not in locks:
            locks.append(name)
        return (locks.index(name), self.state.kind(name).name, self.state.level(name))

    def _called(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Term:
        extern = self.select(call, frame)
        if extern is None:
            return self._without_model(call, frame, wanted)
        result = None
        kind = extern.result or wanted
        if kind is not None:
            result = Variable(self.builder.scratch(*type_range(self.program, kind)), kind)
        site = frame.place(call.span)
        inside = Frame({}, frame.routine, site, frame.callee or call.name, frame.quiet)
        self._expand(extern, call, frame, inside, {}, result)
        return TRUE if result is None else self.term_of(result)

    def _expand(
        self,
        extern: s.Extern,
        call: s.Call,
        frame: Frame,
        inside: Frame,
        chosen: dict[str, str],
        result: Variable | None,
    ) -> None:
        """Once for each combination of locks that the lock arguments can stand for."""
        for param, arg in zip(extern.params, call.args, strict=False):
            if isinstance(param, s.LockParam) and param.name not in chosen:
                ref = arg.ref if isinstance(arg, s.Address) else arg
                assert isinstance(ref, s.Ref)
                self.each_lock(
                    ref,
                    frame,
                    lambda lock, name=param.name: self._expand(  # type: ignore[misc]
                        extern, call, frame, inside, {**chosen, name: lock}, result
                    ),
                )
                return
        names = self.bind(extern.params, call.args, frame, chosen)
        self._body(extern, Frame(names, inside.routine, inside.call, inside.callee, inside.quiet), call.span, result)

    def bind(
        self, params: tuple[s.Param, ...], args: tuple[s.Expr, ...], frame: Frame, chosen: dict[str, str]
    ) -> dict[str, Binding]:
        """What each parameter stands for inside the kernel routine."""
        names: dict[str, Binding] = {}
        by_reference = {a.ref.name for a in args if isinstance(a, s.Address)}
        for number, arg in enumerate(args):
            param = params[number] if number < len(params) else None
            if not (isinstance(param, s.ObjectParam) and param.kind is s.ObjectKind.EVENT):
                self._hand_over(arg, frame)
        for param, arg in zip(params, args, strict=False):
            ref = arg.ref if isinstance(arg, s.Address) else arg
            match param:
                case s.LockParam(name):
                    names[name] = Lock(chosen[name])
                case s.ValueParam(kind, name, if_said=True):
                    names[name] = Value(ir.Const(said(self.program, kind, arg) or 0), kind)
                case s.ValueParam(kind, name, by_ref):
                    names[name] = self._value(kind, by_ref, arg, ref, frame, by_reference)
                case s.ObjectParam(s.ObjectKind.TIMEOUT, name):
                    names[name] = Value(self._timeout(arg, frame))
                case s.ObjectParam(s.ObjectKind.ANY, name) | s.OpaqueParam(name):
                    names[name] = Opaque()
                case s.ObjectParam(_, name):
                    assert isinstance(ref, s.Ref)
                    names[name] = Object(object_name(ref, frame.names.get(ref.name)))
                case _:
                    pass
        return names

    def _hand_over(self, arg: s.Expr, frame: Frame) -> None:
        """An event that goes where the model does not look may be set by the system."""
        ref = arg.ref if isinstance(arg, s.Address) else arg
        if isinstance(ref, s.Ref):
            name = object_name(ref, frame.names.get(ref.name))
            if name in self.program.events:
                self.ledger.handed.add(name)

    def _value(
        self, kind: s.Type, by_ref: bool, arg: s.Expr, ref: s.Expr, frame: Frame, by_reference: set[str]
    ) -> Binding:
        if isinstance(ref, s.Ref):
            binding = frame.names.get(ref.name)
            if isinstance(binding, Handle) and not ref.selectors:
                return binding
            if by_ref:
                variable = self.variable(ref, frame)
                if variable is not None:
                    return variable
        low, high = self._range(kind)
        if by_ref:
            return Variable(self.builder.scratch(low, high), kind)
        term = self.term(arg, frame, kind)
        stable = isinstance(term, ir.Const) or (
            isinstance(ref, s.Ref) and ref.name not in by_reference and self._is_stable(term)
        )
        if not stable:
            register = self.builder.scratch(*self.builder.range(term))
            self.builder.emit(ir.Set(register, term, *self.builder.ranges[register], None))
            term = ir.Reg(register)
        return Value(term, kind)

    def _is_stable(self, term: Term) -> bool:
        """A local variable that the kernel routine cannot change."""
        if not isinstance(term, ir.Reg):
            return False
        cell = self.builder.cells[term.index]
        return cell is not None and cell.sort in (Sort.LOCAL, Sort.LEVEL)

    def _timeout(self, arg: s.Expr, frame: Frame) -> Term:
        """NO_WAIT for 0, WAIT_FOR_EVER for NULL, SOME_WAIT for any other number."""
        ref = arg.ref if isinstance(arg, s.Address) else arg
        if isinstance(ref, s.Ref) and ref.name == "NULL":
            return ir.Const(WAIT_FOR_EVER)
        if isinstance(ref, s.Unknown):
            return ir.Star(NO_WAIT, WAIT_FOR_EVER)
        if isinstance(ref, s.Ref) and isinstance(frame.names.get(ref.name), Value) and not ref.selectors:
            return self.term(ref, frame)
        if isinstance(ref, s.Ref) and self.variable(ref, frame) is None and self.program.constant(ref) is None:
            return ir.Star(NO_WAIT, WAIT_FOR_EVER)
        zero = negate(self.term(arg, frame))
        return arithmetic(s.BinaryOp.SUB, ir.Const(SOME_WAIT), zero)

    def _body(self, extern: s.Extern, frame: Frame, span: Span, result: Variable | None) -> None:
        self.required(extern.clauses, frame, span)
        if self.timed and not (extern.body and any(isinstance(stmt, s.Cost) for stmt in extern.body.body)):
            if extern.span.source in self.program.own:
                self._untimed(extern.name, span)
            else:
                self.ledger.assumed.setdefault(extern.name, span)
        if extern.body is None:
            self._effects(extern, frame, span, result)
        else:
            without_return = s.Return(s.Unknown(span), span)
            self._sequence((*extern.body.body, without_return), frame, result)

    def required(self, clauses: tuple[s.Clause, ...], frame: Frame, span: Span) -> None:
        """The `requires` clauses: I01 where they speak of the IRQL, C03 otherwise."""
        for clause in clauses:
            if not isinstance(clause, s.ConditionClause) or clause.kind is not s.ClauseKind.REQUIRES:
                continue
            code = Property.I01 if mentions_irql(clause.condition) else Property.C03
            condition = self.term(clause.condition, frame)
            if condition != TRUE:
                self.demand(condition, code, frame, span, frame.callee, clause.condition.span.text)

    def _untimed(self, callee: str, span: Span) -> None:
        self.ledger.untimed.setdefault(callee, span)
        self.spend(None)

    def _effects(self, extern: s.Extern, frame: Frame, span: Span, result: Variable | None) -> None:
        """A kernel routine without a body does what its clauses say."""
        for clause in extern.clauses:
            match clause:
                case s.LockClause(True, lock, mode, tag):
                    shared = mode is s.Mode.SHARED
                    self.each_lock(
                        lock,
                        frame,
                        lambda name, shared=shared, tag=tag: self.take(  # type: ignore[misc]
                            name, frame, span, shared, tag
                        ),
                    )
                case s.LockClause(False, lock, mode, tag):
                    self.each_lock(
                        lock,
                        frame,
                        lambda name, mode=mode, tag=tag: self.drop(  # type: ignore[misc]
                            name, frame, span, mode, tag
                        ),
                    )
                case s.RaisesClause(level):
                    self.change_level(level, True, frame, span)
                case _:
                    pass
        for param in extern.params:
            if isinstance(param, s.ValueParam) and param.by_ref:
                variable = frame.names[param.name]
                if isinstance(variable, Variable):
                    place = variable.place
                    register = self.builder.register(place) if isinstance(place, Cell) else place
                    self.builder.emit(ir.Pick(register, f"out {param.name}", *self._range(param.type)))
        if result is not None:
            self.give_back(result)

    def give_back(self, result: Variable) -> None:
        """What a kernel routine gives back of which nothing is said."""
        place = result.place
        register = self.builder.register(place) if isinstance(place, Cell) else place
        self.builder.emit(ir.Pick(register, "result", *self._range(result.type)))

    def _sequence(self, body: tuple[s.Stmt, ...], frame: Frame, result: Variable | None) -> None:
        """Statements of a kernel routine; what follows an `if` that may return is done where it does not."""
        for index, stmt in enumerate(body):
            match stmt:
                case s.If(arms, otherwise):
                    rest = body[index + 1 :] if returns(stmt) else ()
                    self._branches(arms, otherwise, rest, frame, result)
                    if rest or returns(stmt):
                        return
                case s.Block(inner) if returns(stmt):
                    self._sequence((*inner, *body[index + 1 :]), frame, result)
                    return
                case s.Block(inner):
                    self._sequence(inner, frame, result)
                case s.Declare():
                    self.declare_scratch(stmt, frame)
                case s.Return(value):
                    if value is not None and result is not None:
                        assert isinstance(result.place, int)
                        self.settle((value,), frame)
                        low, high = self.builder.ranges[result.place]
                        term = self.term(value, frame, result.type)
                        self.builder.emit(ir.Set(result.place, term, low, high, None))
                    return
                case _:
                    self.settle(expressions(stmt), frame)
                    self.simple(stmt, frame)

    def _branches(
        self,
        arms: tuple[s.Arm, ...],
        otherwise: s.Block | None,
        rest: tuple[s.Stmt, ...],
        frame: Frame,
        result: Variable | None,
    ) -> None:
        if not arms:
            self._sequence((*(otherwise.body if otherwise else ()), *rest), frame, result)
            return
        arm = arms[0]
        self.settle((arm.condition,), frame)
        condition = self.term(arm.condition, frame)
        then_body = arm.body.body if ends_with_return(arm.body.body) else (*arm.body.body, *rest)
        if isinstance(condition, ir.Const):
            if condition.value:
                self._sequence(then_body, frame, result)
            else:
                self._branches(arms[1:], otherwise, rest, frame, result)
            return
        saved = self.builder.branch()
        self._sequence(
            then_body, Frame(dict(frame.names), frame.routine, frame.call, frame.callee, frame.quiet), result
        )
        then = self.builder.resume(saved)
        saved = self.builder.branch()
        self._branches(arms[1:], otherwise, rest, frame, result)
        self.builder.emit(ir.Choose(condition, then, self.builder.resume(saved)))

    def declare_scratch(self, stmt: s.Declare, frame: Frame) -> None:
        """A local of a kernel routine lives within the step."""
        low, high = type_range(self.program, stmt.type)
        register = self.builder.scratch(low, high)
        variable = Variable(register, stmt.type)
        if stmt.value is not None:
            self.settle((stmt.value,), frame)
            self.store(variable, self.term(stmt.value, frame, stmt.type), frame, stmt.span, stmt.name)
        elif isinstance(stmt.type, s.NamedType) and stmt.type.name == "KIRQL":
            self.builder.emit(ir.Set(register, ir.Const(high), low, high, None))
        else:
            self.builder.emit(ir.Pick(register, f"uninit {stmt.name}", low, high))
        frame.names[stmt.name] = variable

    def _without_model(self, call: s.Call, frame: Frame, wanted: s.Type | None) -> Term:
        """A documented routine is held to its IRQL bounds; anything else taints all that follows."""
        for arg in call.args:
            self._hand_over(arg, frame)
        known = documented.lookup(call.name)
        if self.timed and known is None:
            self._untimed(call.name, call.span)
        elif self.timed:
            self.ledger.assumed.setdefault(call.name, call.span)
        if known is None or known.has_lock_effect:
            self.ledger.unmodelled.setdefault(call.name, call.span)
            self.ledger.strangers.setdefault(frame.routine, {})[call.name] = None
            self.builder.emit(ir.Set(self.builder.register(self.state.taint), TRUE, 0, 1, None))
        else:
            irql = ir.Reg(self.builder.register(self.state.irql))
            least = arithmetic(s.BinaryOp.GE, irql, ir.Const(known.irql_min)) if known.irql_min else TRUE
            most = arithmetic(s.BinaryOp.LE, irql, ir.Const(known.irql_max))
            condition = most if least == TRUE else both(least, most)
            why = f"{known.irql_min} <= irql <= {known.irql_max}"
            self.demand(condition, Property.I01, frame, call.span, call.name, why)
            if known.no_spin_lock:
                inside = Frame({}, frame.routine, frame.place(call.span), frame.callee or call.name)
                self._require_free(True, Property.I07, "no spin lock is held at this call", inside, call.span)
        self._havoc_outputs(call, frame)
        if wanted is None:
            return ir.Star(0, 1)
        register = self.builder.scratch(*self._range(wanted))
        self.builder.emit(ir.Pick(register, "result", *self.builder.ranges[register]))
        return ir.Reg(register)

    def _havoc_outputs(self, call: s.Call, frame: Frame) -> None:
        """Variables whose address is given may hold anything afterwards."""
        for arg in call.args:
            if isinstance(arg, s.Address):
                variable = self.variable(arg.ref, frame)
                if variable is not None and not is_lock_reference(variable):
                    place = variable.place
                    register = self.builder.register(place) if isinstance(place, Cell) else place
                    self.builder.emit(ir.Pick(register, f"out {arg.ref.name}", *self._range(variable.type)))


def mentions_irql(expr: s.Expr) -> bool:
    match expr:
        case s.Irql():
            return True
        case s.Unary(_, operand) | s.Old(operand):
            return mentions_irql(operand)
        case s.Binary(_, left, right):
            return mentions_irql(left) or mentions_irql(right)
        case _:
            return False


def returns(stmt: s.Stmt) -> bool:
    """Whether a return stands anywhere inside."""
    match stmt:
        case s.Return():
            return True
        case s.If(arms, otherwise):
            blocks = [arm.body for arm in arms] + ([otherwise] if otherwise else [])
            return any(returns(inner) for block in blocks for inner in block.body)
        case s.Block(body):
            return any(map(returns, body))
        case _:
            return False


def ends_with_return(body: tuple[s.Stmt, ...]) -> bool:
    return bool(body) and isinstance(body[-1], s.Return)


__all__ = ["FALSE", "KernelCalls", "mentions_irql"]
