"""Syntax nodes from the parts of each production, and the errors that are seen only then (numbers, depth)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic
from modelcheck.record import replace
from modelcheck.source import Source, Span

MAX_DEPTH = 100
"""Nesting of brackets, and of operators and calls in one expression; deeper models are refused, not crashed on."""
MAX_NUMBER = 2**31

_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000}


class Token(str):
    """A word of the source, with the name of its terminal and its place."""

    __slots__ = ("end_pos", "start_pos", "type")

    type: str
    start_pos: int
    end_pos: int


def too_deep(span: Span) -> Diagnostic:
    return Diagnostic(Code.TOO_DEEP, f"nested more than {MAX_DEPTH} levels deep", span)


def _flat(body: Iterable[Any]) -> tuple[s.Stmt, ...]:
    """A declaration of several names is several statements, an empty statement none."""
    flat: list[s.Stmt] = []
    for stmt in body:
        if isinstance(stmt, tuple):
            flat.extend(stmt)
        elif stmt is not None:
            flat.append(stmt)
    return tuple(flat)


class Builder:
    """Builds syntax nodes at each reduction. One method for each rule or alias of the grammar."""

    transparent = frozenset({"or_", "and_"})
    """Methods that give back a single operand as it is."""

    def __init__(self, source: Source, errors: list[Diagnostic]) -> None:
        self.source = source
        self.errors = errors
        self.depths: dict[int, int] = {}
        self.is_too_deep = False

    def _nested(self, node: Any, *parts: Any) -> Any:
        """The node, or one of its parts if it is nested too deep: then that is an error, once."""
        depths = self.depths
        depth = 1
        for part in parts:
            inner = depths.get(id(part))
            if inner is not None and inner >= depth:
                depth = inner + 1
        if depth > MAX_DEPTH:
            if not self.is_too_deep:
                self.errors.append(too_deep(parts[0].span))
            self.is_too_deep = True
            return parts[0]
        depths[id(node)] = depth
        return node

    def _span(self, first: Any, last: Any = None) -> Span:
        """From the start of a token or node to the end of another."""
        last = first if last is None else last
        start = first.start_pos if isinstance(first, Token) else first.span.start
        end = last.end_pos if isinstance(last, Token) else last.span.end
        return Span(self.source, start, end)

    def start(self, *items: s.Item) -> s.Model:
        return s.Model(items, Span(self.source, 0, len(self.source.text)))

    # declarations

    def driver(self, name: Token) -> s.Driver:
        return s.Driver(str(name), self._span(name))

    def import_(self, name: Token) -> s.Import:
        if name.type == "STRING":
            return s.Import(name[1:-1], True, self._span(name))
        return s.Import(str(name), False, self._span(name))

    def setting(self, name: Token, value: s.Expr) -> s.Setting:
        return s.Setting(str(name), value, self._span(name))

    def setting_decl(self, name: Token, kind: s.Type, default: s.Expr) -> s.SettingDecl:
        return s.SettingDecl(str(name), kind, default, self._span(name))

    def const(self, name: Token, value: s.Expr) -> s.Const:
        return s.Const(str(name), value, self._span(name))

    def names(self, *names: Token) -> tuple[Token, ...]:
        return names

    def enum_decl(self, name: Token, values: tuple[Token, ...]) -> s.EnumDecl:
        return s.EnumDecl(str(name), tuple(map(str, values)), self._span(name))

    def size(self, number: Token) -> int:
        return self._integer(number)

    def lock_attr(self, word: Token) -> str:
        return str(word)

    def lock(self, name: Token, size: int | None, kind: Token, *attributes: str) -> s.LockDecl:
        ordered, initialised, paged = (word in attributes for word in ("ordered", "initialised", "paged"))
        return s.LockDecl(str(name), size, str(kind), ordered, initialised, paged, self._span(name))

    def device(self, name: Token, *members: Any) -> s.DeviceDecl:
        return s.DeviceDecl(str(name), members, self._span(name))

    def guard(self, *refs: s.Ref) -> tuple[s.Ref, ...]:
        return refs

    def data_attr(self, attribute: Any) -> Any:
        return attribute

    def data(self, name: Token, *attributes: Any) -> s.DataDecl:
        guards = tuple(ref for a in attributes if isinstance(a, tuple) for ref in a)
        return s.DataDecl(str(name), "paged" in attributes, guards, self._span(name))

    def event(self, name: Token) -> s.EventDecl:
        return s.EventDecl(str(name), self._span(name))

    def var(self, name: Token, kind: s.Type, value: s.Expr | None, guards: tuple[s.Ref, ...] | None) -> s.VarDecl:
        return s.VarDecl(str(name), kind, value, guards or (), self._span(name))

    def context_var(self, kind: s.Type, name: Token, value: s.Expr | None) -> s.ContextVar:
        return s.ContextVar(str(name), kind, value, self._span(name))

    def interrupt(self, name: Token, level: s.Expr) -> s.InterruptDecl:
        return s.InterruptDecl(str(name), level, self._span(name))

    def dpc(self, kind: Token, name: Token, routine: Token) -> s.DeferredDecl:
        return s.DeferredDecl(s.DeferredKind(kind), str(name), str(routine), self._span(name))

    # routines

    def routine(
        self,
        paged: Token | None,
        name: Token,
        params: tuple[s.Param, ...],
        result: s.Type | None,
        role: s.RoleUse | None,
        *rest: Any,
    ) -> s.Routine:
        return s.Routine(str(name), params, result, role, rest[:-1], paged is not None, rest[-1], self._span(name))

    def extern(self, name: Token, params: tuple[s.Param, ...], result: s.Type | None, *rest: Any) -> s.Extern:
        body = rest[-1] if rest and isinstance(rest[-1], s.Block) else None
        clauses = rest[:-1] if body else rest
        return s.Extern(str(name), params, result, clauses, body, self._span(name))

    def role_use(self, name: Token, args: tuple[s.Expr, ...] | None, closing: Token | None) -> s.RoleUse:
        return s.RoleUse(str(name), args or (), self._span(name, closing))

    def params(self, *params: s.Param | None) -> tuple[s.Param, ...]:
        return tuple(p for p in params if p is not None)

    def param_lock(self, name: Token, kind: Token | None) -> s.LockParam:
        return s.LockParam(str(name), None if kind is None else str(kind), self._span(name))

    def param_value(self, *parts: Any) -> s.ValueParam:
        kind = next(p for p in parts if not isinstance(p, Token))
        by_ref = any(isinstance(p, Token) and p.type in {"OUT", "AMP"} for p in parts)
        return s.ValueParam(kind, str(parts[-1]), by_ref, False, self._span(parts[-1]))

    def param_if_said(self, _: Token, kind: Token, name: Token) -> s.ValueParam:
        return s.ValueParam(s.NamedType(str(kind), self._span(kind)), str(name), False, True, self._span(name))

    def param_object(self, kind: Token, name: Token) -> s.ObjectParam:
        return s.ObjectParam(s.ObjectKind(kind), str(name), self._span(name))

    def param_opaque(self, name: Token) -> s.OpaqueParam:
        return s.OpaqueParam(str(name), self._span(name))

    def param_rest(self, dots: Token) -> s.RestParam:
        return s.RestParam(self._span(dots))

    def requires(self, condition: s.Expr) -> s.ConditionClause:
        return s.ConditionClause(s.ClauseKind.REQUIRES, condition, condition.span)

    def always(self, condition: s.Expr) -> s.ConditionClause:
        return s.ConditionClause(s.ClauseKind.ALWAYS, condition, condition.span)

    def ensures(self, condition: s.Expr) -> s.ConditionClause:
        return s.ConditionClause(s.ClauseKind.ENSURES, condition, condition.span)

    def mode(self, word: Token) -> Token:
        return word

    def tag(self, name: Token) -> Token:
        return name

    def _way(self, first: Any, ref: s.Ref, mode: Token | None, tag: Token | None) -> tuple[Any, ...]:
        """The mode and tag of an acquisition or a release, and the span from `first` to the last of them."""
        shown = s.Mode.EXCLUSIVE if mode is None else s.Mode(mode)
        return shown, None if tag is None else str(tag), self._span(first, tag or mode or ref)

    def acquires(self, ref: s.Ref, mode: Token | None, tag: Token | None) -> s.LockClause:
        return s.LockClause(True, ref, *self._way(ref, ref, mode, tag))

    def releases(self, ref: s.Ref, mode: Token | None, tag: Token | None) -> s.LockClause:
        return s.LockClause(False, ref, *self._way(ref, ref, mode, tag))

    def raises(self, level: s.Expr) -> s.RaisesClause:
        return s.RaisesClause(level, level.span)

    def same_irql(self, word: Token) -> s.SameIrqlClause:
        return s.SameIrqlClause(self._span(word))

    # types

    def type_bool(self, word: Token) -> s.BoolType:
        return s.BoolType(self._span(word))

    def bound(self, minus: Token | None, number: Token) -> tuple[int, Token]:
        value = self._integer(number)
        return (-value if minus else value), number

    def type_int(self, word: Token, low: tuple[int, Token], high: tuple[int, Token]) -> s.IntType:
        span = self._span(word, high[1])
        if low[0] > high[0]:
            self.errors.append(Diagnostic(Code.BAD_NUMBER, f"the range {low[0]}..{high[0]} is empty", span))
        return s.IntType(low[0], high[0], span)

    def type_counter(self, word: Token, limit: Token) -> s.CounterType:
        return s.CounterType(self._integer(limit), self._span(word, limit))

    def type_enum(self, word: Token, values: tuple[Token, ...], closing: Token) -> s.EnumType:
        return s.EnumType(tuple(map(str, values)), self._span(word, closing))

    def type_name(self, name: Token) -> s.NamedType:
        return s.NamedType(str(name), self._span(name))

    # statements

    def block(self, opening: Token, *rest: Any) -> s.Block:
        return s.Block(_flat(rest[:-1]), self._span(opening, rest[-1]))

    def body(self, opening: Token, *rest: Any) -> s.Block:
        return self.block(opening, *rest)

    def empty(self) -> None:
        return None

    def declarator(self, name: Token, value: s.Expr | None) -> tuple[Token, s.Expr | None]:
        return name, value

    def decl(self, kind: s.Type, *declarators: tuple[Token, s.Expr | None]) -> tuple[s.Declare, ...]:
        """The type belongs to the first of them."""
        return tuple(
            s.Declare(kind, str(name), value, self._span(name if index else kind, value or name))
            for index, (name, value) in enumerate(declarators)
        )

    def simple_assign(self, target: s.Ref, value: s.Expr) -> s.Assign:
        return s.Assign(target, value, self._span(target, value))

    def assign(self, assign: s.Assign) -> s.Assign:
        return assign

    def simple_step(self, target: s.Ref, sign: Token) -> s.Assign:
        op = s.BinaryOp.ADD if sign == "++" else s.BinaryOp.SUB
        span = self._span(target, sign)
        return s.Assign(target, s.Binary(op, target, s.Number(1, span), span), span)

    def step(self, assign: s.Assign) -> s.Assign:
        return assign

    def call_stmt(self, call: s.Call) -> s.CallStmt:
        return s.CallStmt(call, call.span)

    def if_(self, word: Token, *parts: Any) -> s.If:
        *heads, otherwise = parts
        arms = tuple(s.Arm(c, b, c.span) for c, b in zip(heads[::3], heads[2::3], strict=True))
        return s.If(arms, otherwise, self._span(word, heads[1]))

    def while_(self, word: Token, condition: s.Expr, closing: Token, body: s.Block) -> s.While:
        return s.While(condition, body, self._span(word, closing))

    def do_(self, word: Token, body: s.Block, condition: s.Expr) -> s.DoWhile:
        return s.DoWhile(body, condition, self._span(word))

    def for_(
        self, word: Token, start: Any, condition: s.Expr | None, step: Any, closing: Token, body: s.Block
    ) -> s.For:
        first, last = (s.CallStmt(p, p.span) if isinstance(p, s.Call) else p for p in (start, step))
        return s.For(first, condition, last, body, self._span(word, closing))

    def case(self, *parts: Any) -> s.Case:
        word, *rest = parts
        value = rest.pop(0) if word.type == "CASE" else None
        return s.Case(value, _flat(rest), self._span(word, value))

    def switch(self, word: Token, subject: s.Expr, closing: Token, *cases: s.Case) -> s.Switch:
        return s.Switch(subject, cases, self._span(word, closing))

    def goto(self, word: Token, name: Token) -> s.Goto:
        return s.Goto(str(name), self._span(word, name))

    def label(self, name: Token, colon: Token) -> s.Label:
        return s.Label(str(name), self._span(name, colon))

    def jump(self, word: Token) -> s.Jump:
        return s.Jump(s.JumpKind(word), self._span(word))

    def return_(self, word: Token, value: s.Expr | None) -> s.Return:
        return s.Return(value, self._span(word, value or word))

    def try_(self, word: Token, body: s.Block, final: s.Block) -> s.Try:
        return s.Try(body, final, self._span(word))

    def atomic(self, word: Token, body: s.Block) -> s.Atomic:
        return s.Atomic(body, self._span(word))

    def condition_stmt(self, word: Token, condition: s.Expr) -> s.Assume | s.Assert:
        node = s.Assume if word.type == "ASSUME" else s.Assert
        return node(condition, self._span(word, condition))

    def access(self, word: Token, ref: s.Ref) -> s.Access:
        return s.Access(word.type == "WRITE", ref, self._span(word, ref))

    def cost(self, word: Token, duration: Token) -> s.Cost:
        return s.Cost(self._nanoseconds(duration), None, self._span(word, duration))

    def cost_each(self, word: Token, times: s.Ref, _: Token, duration: Token) -> s.Cost:
        return s.Cost(self._nanoseconds(duration), times, self._span(word, duration))

    def _nanoseconds(self, duration: Token) -> int:
        number, unit = str(duration[:-2]), str(duration[-2:])
        if len(number) > 12:
            self.errors.append(Diagnostic(Code.BAD_NUMBER, "this time is too long", self._span(duration)))
            number = "0"
        return round(Fraction(number) * _NANOSECONDS[unit])

    # primitives

    def init(self, word: Token, ref: s.Ref) -> s.Init:
        return s.Init(ref, self._span(word, ref))

    def free(self, word: Token, ref: s.Ref) -> s.Free:
        return s.Free(ref, self._span(word, ref))

    def acquire(self, word: Token, ref: s.Ref, mode: Token | None, tag: Token | None) -> s.Acquire:
        return s.Acquire(ref, *self._way(word, ref, mode, tag))

    def release(self, word: Token, ref: s.Ref, mode: Token | None, tag: Token | None) -> s.Release:
        return s.Release(ref, *self._way(word, ref, mode, tag))

    def convert(self, word: Token, ref: s.Ref, mode: Token) -> s.Convert:
        return s.Convert(ref, s.Mode(mode), self._span(word, mode))

    def raise_(self, word: Token, level: s.Expr) -> s.Raise:
        return s.Raise(level, self._span(word, level))

    def lower(self, word: Token, level: s.Expr) -> s.Lower:
        return s.Lower(level, self._span(word, level))

    def blocks(self, word: Token) -> s.Blocks:
        return s.Blocks(self._span(word))

    def wait(self, word: Token, ref: s.Ref) -> s.Signal:
        return s.Signal(s.SignalOp.WAIT, ref, self._span(word, ref))

    def set(self, word: Token, ref: s.Ref) -> s.Signal:
        return s.Signal(s.SignalOp.SET, ref, self._span(word, ref))

    def clear(self, word: Token, ref: s.Ref) -> s.Signal:
        return s.Signal(s.SignalOp.CLEAR, ref, self._span(word, ref))

    def enable(self, word: Token, name: Token, again: Token | None) -> s.Enable:
        return s.Enable(True, str(name), again is not None, self._span(word, again or name))

    def disable(self, word: Token, name: Token) -> s.Enable:
        return s.Enable(False, str(name), False, self._span(word, name))

    def require(self, word: Token, condition: s.Expr, code: Token, why: Token) -> s.Require:
        return s.Require(condition, str(code), why[1:-1], self._span(word, why))

    def callback(self, word: Token, name: Token, args: tuple[s.Expr, ...], closing: Token) -> s.Callback:
        return s.Callback(str(name), args, self._span(word, closing))

    def may_reenter(self, word: Token, role: Token) -> s.MayReenter:
        return s.MayReenter(str(role), self._span(word, role))

    # expressions

    def _fold(self, op: s.BinaryOp, operands: tuple[Any, ...]) -> Any:
        left = operands[0]
        for right in operands[1:]:
            left = self._nested(s.Binary(op, left, right, self._span(left, right)), left, right)
        return left

    def or_(self, *operands: s.Expr) -> Any:
        return self._fold(s.BinaryOp.OR, operands)

    def and_(self, *operands: s.Expr) -> Any:
        return self._fold(s.BinaryOp.AND, operands)

    def comparison(self, left: s.Expr, op: Token, right: s.Expr) -> Any:
        return self._nested(s.Binary(s.BinaryOp(op), left, right, self._span(left, right)), left, right)

    def sum(self, *parts: Any) -> Any:
        left = parts[0]
        for op, right in zip(parts[1::2], parts[2::2], strict=True):
            left = self._nested(s.Binary(s.BinaryOp(op), left, right, self._span(left, right)), left, right)
        return left

    product = sum

    def not_(self, word: Token, operand: s.Expr) -> Any:
        return self._nested(s.Unary(s.UnaryOp.NOT, operand, self._span(word, operand)), operand)

    def negate(self, minus: Token, operand: s.Expr) -> Any:
        return self._nested(s.Unary(s.UnaryOp.NEGATE, operand, self._span(minus, operand)), operand)

    def address(self, sign: Token, ref: s.Ref) -> s.Address:
        return s.Address(ref, self._span(sign, ref))

    def parenthesised(self, opening: Token, inner: Any, closing: Token) -> Any:
        """The expression, standing where its parentheses do."""
        outer = replace(inner, span=self._span(opening, closing))
        depth = self.depths.pop(id(inner), None)
        if depth is not None:
            self.depths[id(outer)] = depth
        return outer

    def _integer(self, token: Token) -> int:
        digits = token[2:] if token[:2] in ("0x", "0X") else token
        value = int(digits, 16 if digits is not token else 10) if len(digits) <= 12 else MAX_NUMBER + 1
        if value > MAX_NUMBER:
            self.errors.append(Diagnostic(Code.BAD_NUMBER, f"numbers go up to {MAX_NUMBER}", self._span(token)))
            return 0
        return value

    def number(self, token: Token) -> s.Number:
        return s.Number(self._integer(token), self._span(token))

    def true(self, token: Token) -> s.Truth:
        return s.Truth(True, self._span(token))

    def false(self, token: Token) -> s.Truth:
        return s.Truth(False, self._span(token))

    def unknown(self, token: Token) -> s.Unknown:
        return s.Unknown(self._span(token))

    def irql(self, token: Token) -> s.Irql:
        return s.Irql(self._span(token))

    def held(self, word: Token, ref: s.Ref, mode: Token | None, closing: Token) -> s.Held:
        return s.Held(ref, s.Mode(mode) if mode else None, self._span(word, closing))

    def no_spin_lock(self, word: Token, *besides: Any) -> s.NoLocks:
        names = [part for part in besides if part is not None and part.type == "NAME"]
        refs = tuple(s.Ref(str(name), (), self._span(name)) for name in names)
        return s.NoLocks(True, refs, self._span(word, besides[-1] if refs else word))

    def no_lock(self, word: Token) -> s.NoLocks:
        return s.NoLocks(False, (), self._span(word))

    def old(self, word: Token, operand: s.Expr, closing: Token) -> Any:
        return self._nested(s.Old(operand, self._span(word, closing)), operand)

    def try_acquire(self, word: Token, ref: s.Ref, mode: Token | None, tag: Token | None) -> s.TryAcquire:
        return s.TryAcquire(ref, *self._way(word, ref, mode, tag))

    def try_convert(self, word: Token, ref: s.Ref) -> s.TryConvert:
        return s.TryConvert(ref, self._span(word, ref))

    def args(self, *args: s.Expr | None) -> tuple[s.Expr, ...]:
        return tuple(a for a in args if a is not None)

    def call(self, name: Token, args: tuple[s.Expr, ...], closing: Token) -> Any:
        call = s.Call(str(name), args, self._span(name, closing))
        return self._nested(call, *args) if args else call

    def member(self, name: Token) -> s.Member:
        return s.Member(str(name), self._span(name))

    def index(self, opening: Token, value: s.Expr, closing: Token) -> Any:
        return self._nested(s.Index(value, self._span(opening, closing)), value)

    def ref(self, name: Token, *selectors: s.Member | s.Index) -> Any:
        ref = s.Ref(str(name), selectors, self._span(name, selectors[-1] if selectors else name))
        return self._nested(ref, *selectors) if selectors else ref

    # scenarios

    def run(self, name: Token, args: tuple[s.Expr, ...], *rest: Any) -> s.Run:
        kind, level, processor = rest
        return s.Run(
            str(name),
            args,
            None if kind is None else s.ContextKind(kind),
            level,
            None if processor is None else self._integer(processor),
            self._span(name),
        )

    def scenario(self, name: Token, processors: Token | None, *steps: s.Run | s.Assign) -> s.Scenario:
        count = None if processors is None else self._integer(processors)
        return s.Scenario(str(name), count, steps, self._span(name))

    # kinds and roles

    def field(self, ghost: Token | None, kind: s.Type, name: Token, value: s.Expr | None) -> s.Field:
        return s.Field(kind, str(name), value, ghost is not None, self._span(name))

    def field_lock(self, name: Token) -> s.LockField:
        return s.LockField(str(name), self._span(name))

    def kind_flag(self, word: Token) -> tuple[str, Any]:
        return str(word), True

    def kind_init(self) -> tuple[str, Any]:
        return "init", True

    def kind_writers_first(self) -> tuple[str, Any]:
        return "writers_first", True

    def kind_each_device(self) -> tuple[str, Any]:
        return "each_device", True

    def kind_level(self, level: s.Expr) -> tuple[str, Any]:
        return "level", level

    def kind_recursive(self, mode: Token, under: Token | None) -> tuple[str, Any]:
        return "recursive", s.Recursion(s.Mode(mode), s.Mode(under or mode), self._span(mode, under))

    def lockkind(self, name: Token, *attributes: Any) -> s.LockKind:
        pairs = [a for a in attributes if isinstance(a, tuple)]
        flags = {word for word, value in pairs if value is True}
        return s.LockKind(
            str(name),
            spins="spins" in flags,
            resident="resident" in flags,
            init_required="init" in flags,
            writers_first="writers_first" in flags,
            doubtful="doubtful" in flags,
            closes="closes" in flags,
            each_device="each_device" in flags,
            level=next((value for word, value in pairs if word == "level"), None),
            recursion=tuple(value for word, value in pairs if word == "recursive"),
            fields=tuple(a for a in attributes if isinstance(a, s.Field)),
            span=self._span(name),
        )

    def handlekind(self, name: Token, *fields: s.Field | s.LockField) -> s.HandleKind:
        return s.HandleKind(str(name), fields, self._span(name))

    def role_irql(self, low: s.Expr, high: s.Expr | None) -> tuple[str, Any]:
        return "irql", (low, high or low)

    def role_kind(self, word: Token) -> tuple[str, Any]:
        return "kind", s.ContextKind(word)

    def role_any(self) -> tuple[str, Any]:
        return "single", None

    def role_single(self, among: Token | None) -> tuple[str, Any]:
        return "single", str(among or "")

    def role_last(self) -> tuple[str, Any]:
        return "last", True

    def role_apart(self, *roles: Token) -> tuple[str, Any]:
        return "apart", [self._role_name(role) for role in roles]

    def role_follows(self, *roles: Token) -> tuple[str, Any]:
        return "follows", [self._role_name(role) for role in roles]

    def role_awaits(self, *roles: Token) -> tuple[str, Any]:
        return "awaits", [self._role_name(role) for role in roles]

    def _role_name(self, role: Token) -> s.RoleName:
        return s.RoleName(str(role), self._span(role))

    def role_phase(self, name: Token, then: Token | None) -> tuple[str, Any]:
        again = then is not None and then.type == "AGAIN"
        return "phase", (str(name), again, "" if again else str(then or ""))

    def role_continues(self, condition: s.Expr) -> tuple[str, Any]:
        return "continues", condition

    def role_holds(self, *locks: s.Ref) -> tuple[str, Any]:
        return "holds", locks

    def role_entry(self, block: s.Block) -> tuple[str, Any]:
        return "entry", block

    def role_exit(self, block: s.Block) -> tuple[str, Any]:
        return "exit", block

    def role(self, name: Token, *parts: Any) -> s.Role:
        params = tuple(p for p in parts if p is not None and not isinstance(p, tuple))
        pairs = [p for p in parts if isinstance(p, tuple)]
        said: dict[str, Any] = dict(pairs)
        phase, again, resumes = said.get("phase", (None, False, ""))
        return s.Role(
            str(name),
            params,
            irql=said.get("irql"),
            kind=said.get("kind", s.ContextKind.THREAD),
            single=said.get("single") is not None,
            among=said.get("single") or "",
            last=said.get("last", False),
            phase=phase,
            again=again,
            resumes=resumes,
            continues=said.get("continues"),
            holds=tuple(lock for word, locks in pairs if word == "holds" for lock in locks),
            apart=tuple(role for word, roles in pairs if word == "apart" for role in roles),
            follows=tuple(role for word, roles in pairs if word == "follows" for role in roles),
            awaits=tuple(role for word, roles in pairs if word == "awaits" for role in roles),
            entry=said.get("entry"),
            exit=said.get("exit"),
            span=self._span(name),
        )
