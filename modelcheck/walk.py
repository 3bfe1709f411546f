"""What stands inside statements and expressions."""

from __future__ import annotations

from collections.abc import Iterator

from modelcheck import syntax as s
from modelcheck.record import fields
from modelcheck.source import Span


def substatements(stmt: s.Stmt) -> tuple[s.Stmt, ...]:
    """The statements directly inside a statement, in order."""
    match stmt:
        case s.Block(body):
            return body
        case s.If(arms, otherwise):
            return (*(arm.body for arm in arms), *(() if otherwise is None else (otherwise,)))
        case s.While(_, body) | s.DoWhile(body) | s.Atomic(body) | s.For(_, _, _, body):
            return (body,)
        case s.Switch(_, cases):
            return tuple(inner for case in cases for inner in case.body)
        case s.Try(body, final):
            return (body, final)
        case _:
            return ()


def expressions(stmt: s.Stmt) -> tuple[s.Expr, ...]:
    """The expressions a simple statement evaluates, in order; the index of an assigned reference counts."""
    match stmt:
        case s.Assign(target, value):
            indexes = tuple(sel.value for sel in target.selectors if isinstance(sel, s.Index))
            return (*indexes, value)
        case s.CallStmt(call):
            return (call,)
        case s.Assume(condition) | s.Assert(condition) | s.Require(condition):
            return (condition,)
        case s.Raise(level) | s.Lower(level):
            return (level,)
        case s.Cost(_, times):
            return () if times is None else (times,)
        case s.Declare(value=value) | s.Return(value):
            return () if value is None else (value,)
        case s.Acquire(lock) | s.Release(lock) | s.Convert(lock) | s.Init(lock) | s.Free(lock):
            return tuple(sel.value for sel in lock.selectors if isinstance(sel, s.Index))
        case _:
            return ()


def conditions(stmt: s.Stmt) -> tuple[s.Expr, ...]:
    """The conditions of a compound statement."""
    match stmt:
        case s.If(arms):
            return tuple(arm.condition for arm in arms)
        case s.While(condition) | s.DoWhile(_, condition):
            return (condition,)
        case s.For(_, condition):
            return () if condition is None else (condition,)
        case s.Switch(subject):
            return (subject,)
        case _:
            return ()


def every_statement(stmt: s.Stmt) -> Iterator[s.Stmt]:
    """A statement and those inside it."""
    pending = [stmt]
    while pending:
        current = pending.pop()
        yield current
        pending += substatements(current)
        if isinstance(current, s.For):
            pending += [part for part in (current.start, current.step) if part is not None]


def every_expression(stmt: s.Stmt) -> Iterator[s.Expr]:
    """All expressions of a statement and those inside it."""
    for current in every_statement(stmt):
        yield from expressions(current)
        yield from conditions(current)


def calls_in(stmt: s.Stmt) -> list[s.Call]:
    """All calls of a statement and of those inside it."""
    return [call for expr in every_expression(stmt) for call in every_call(expr)]


def references(expr: s.Expr) -> Iterator[s.Ref]:
    """The references an expression reads, left to right; what is passed by address is not read."""
    match expr:
        case s.Ref(_, selectors):
            yield expr
            for selector in selectors:
                if isinstance(selector, s.Index):
                    yield from references(selector.value)
        case s.Unary(_, operand) | s.Old(operand):
            yield from references(operand)
        case s.Binary(_, left, right):
            yield from references(left)
            yield from references(right)
        case s.Call(_, args):
            for arg in args:
                yield from references(arg)
        case s.Address(ref):
            for selector in ref.selectors:
                if isinstance(selector, s.Index):
                    yield from references(selector.value)
        case _:
            return


def lock_tests(expr: s.Expr) -> list[s.Held | s.TryAcquire]:
    """Where an expression asks for locks, by `held` or by trying, left to right."""
    match expr:
        case s.Held() | s.TryAcquire():
            return [expr]
        case s.Unary(_, operand) | s.Old(operand):
            return lock_tests(operand)
        case s.Binary(_, left, right):
            return lock_tests(left) + lock_tests(right)
        case _:
            return []


def every_call(expr: s.Expr) -> list[s.Call]:
    """The calls in an expression, inner ones first."""
    match expr:
        case s.Call(_, args):
            return [*(call for arg in args for call in every_call(arg)), expr]
        case s.Unary(_, operand):
            return every_call(operand)
        case s.Binary(_, left, right):
            return every_call(left) + every_call(right)
        case _:
            return []


def parts(node: object) -> Iterator[object]:
    """A part of the tree and all that stands in it but for where it stands, in no certain order."""
    pending = [node]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, tuple | list):
            pending += part
        elif not isinstance(part, Span):
            pending += [getattr(part, name) for name in fields(part.__class__)]


def texts(node: object) -> Iterator[str]:
    """Every name that stands in a part of the tree, with all other text in it, in no certain order."""
    return (part for part in parts(node) if isinstance(part, str))
