"""Walks over the syntax tree: what an expression or a body mentions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from modelcheck import syntax as s
from modelcheck.resolve import Program
from modelcheck.walk import texts


def operands(expr: s.Expr) -> tuple[s.Expr, ...]:
    match expr:
        case s.Unary(_, operand) | s.Old(operand):
            return (operand,)
        case s.Binary(_, left, right):
            return (left, right)
        case s.Call(_, args):
            return args
        case _:
            return ()


def within(expr: s.Expr) -> Iterator[s.Expr]:
    """An expression and everything inside it, left to right."""
    pending = deque([expr])
    while pending:
        current = pending.popleft()
        yield current
        pending.extendleft(reversed(operands(current)))


def mentions_irql(expr: s.Expr) -> bool:
    return any(isinstance(e, s.Irql) for e in within(expr))


def held_anywhere(expr: s.Expr) -> Iterator[tuple[s.Ref, s.Mode | None]]:
    return ((e.lock, e.mode) for e in within(expr) if isinstance(e, s.Held))


def statements(body: s.Block) -> Iterator[s.Stmt]:
    """Every statement of a body, outer ones first."""
    pending: deque[s.Stmt] = deque([body])
    while pending:
        stmt = pending.popleft()
        yield stmt
        match stmt:
            case s.Block(inner):
                pending.extendleft(reversed(inner))
            case s.If(arms, otherwise):
                pending.extend(arm.body for arm in arms)
                if otherwise is not None:
                    pending.append(otherwise)
            case s.While(_, inner) | s.DoWhile(inner) | s.Atomic(inner):
                pending.append(inner)
            case s.For(start, _, step, inner):
                pending.extend(part for part in (start, inner, step) if part is not None)
            case s.Switch(_, cases):
                pending.extend(part for case in cases for part in case.body)
            case s.Try(inner, final):
                pending.extend((inner, final))


def expressions(stmt: s.Stmt) -> tuple[s.Expr, ...]:
    """The expressions that stand directly in a statement."""
    match stmt:
        case s.If(arms):
            return tuple(arm.condition for arm in arms)
        case s.While(condition) | s.DoWhile(_, condition) | s.Assume(condition) | s.Assert(condition):
            return (condition,)
        case s.Require(condition):
            return (condition,)
        case s.For(_, condition):
            return () if condition is None else (condition,)
        case s.Switch(subject):
            return (subject,)
        case s.Assign(_, value) | s.Raise(value) | s.Lower(value):
            return (value,)
        case s.Declare(_, _, value) | s.Return(value):
            return () if value is None else (value,)
        case s.CallStmt(call):
            return (call,)
        case s.Callback(_, args):
            return args
        case _:
            return ()


def calls_back(program: Program, name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a kernel routine runs a routine that is handed to it, itself or in another one that it calls."""
    if name in seen:
        return False
    for extern in program.externs.get(name, ()):
        for stmt in () if extern.body is None else statements(extern.body):
            calls = (part.name for e in expressions(stmt) for part in within(e) if isinstance(part, s.Call))
            if isinstance(stmt, s.Callback) or any(calls_back(program, call, seen | {name}) for call in calls):
                return True
    return False


def called_routines(program: Program) -> frozenset[str]:
    """Routines that are called, or handed to a kernel routine that may call them."""
    found = set()
    for routine in program.routines.values():
        for stmt in statements(routine.body):
            for expr in expressions(stmt):
                for part in within(expr):
                    if isinstance(part, s.Call):
                        found.add(part.name)
                    ref = part.ref if isinstance(part, s.Address) else part
                    if isinstance(ref, s.Ref) and not ref.selectors and ref.name in program.routines:
                        found.add(ref.name)
    return frozenset(found)


def named(program: Program, body: s.Block) -> frozenset[str]:
    """The names in a body, in the routines that are named in it, and in the driver's own kernel routines."""
    bodies: list[s.Block | None] = [body]
    names: set[str] = set()
    for part in bodies:  # which grows meanwhile
        new = set(texts(part)) - names
        names |= new
        new |= {program.deferred[name].routine for name in new if name in program.deferred}
        bodies += [program.routines[name].body for name in sorted(new) if name in program.routines]
        for name in sorted(new):
            bodies += [e.body for e in program.externs.get(name, ()) if e.span.source in program.own]
    return frozenset(names)
