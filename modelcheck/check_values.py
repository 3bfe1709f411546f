"""Checks expressions: names, types, what may stand where.

A type of None means that nothing is known (`*`, the result of an unmodelled routine, something already reported): it
fits everywhere, so that one mistake is one finding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.names import (
    KIRQL,
    LEVEL,
    VALUES,
    Meaning,
    Names,
    Sort,
    Suggestions,
    type_meaning,
)
from modelcheck.printer import expression, reference, type_text
from modelcheck.record import dataclass
from modelcheck.resolve import Program, enum_of, type_range
from modelcheck.source import Span
from modelcheck.verdict import HIGH_LEVEL


@dataclass(frozen=True, slots=True)
class Place:
    """Where statements stand, as far as it decides what may stand there.

    `kernel`: in a kernel routine or the entry or exit of a role; `primitives`: those may be used;
    `loops`, `switches`, `tries`: inside one of them, counted from the innermost `finally`; `final`: in a `finally`.
    """

    kernel: bool = False
    primitives: bool = False
    loop: bool = False
    switch: bool = False
    inside_try: bool = False
    final: bool = False


class ValueCheck(ABC):
    """Checks the expressions of one routine at a time; `names` says what is visible and takes what is found."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: list[Diagnostic] = []
        self.names = Names(program, self._report, Suggestions())
        self.error = self.names.error
        self.called: dict[str, set[str]] = {}
        """Routines and kernel routines by whom they are mentioned."""
        self.where = ""
        self.place = Place()
        self.result: s.Type | None = None

    def _report(self, diagnostic: Diagnostic) -> None:
        self.found.append(diagnostic)

    def _trial(self, attempt: Callable[[], object]) -> list[Diagnostic]:
        """What an attempt would report."""
        kept, self.found = self.found, []
        attempt()
        tried, self.found = self.found, kept
        return tried

    def mention(self, name: str) -> None:
        self.called.setdefault(name, set()).add(self.where)

    @abstractmethod
    def _call_value(self, call: s.Call, allowed: bool) -> s.Type | None:
        """What a call gives back, with everything in it checked; `allowed`: one may stand here."""

    # ---- types of declarations ----

    def type(self, kind: s.Type, what: str, allowed: Iterable[Sort] = (Sort.VARIABLE,)) -> Meaning | None:
        """What a variable of that type is. Reports types that do not exist or do not fit."""
        if isinstance(kind, s.NamedType):
            meaning = type_meaning(self.program, kind, kind.span)
            if meaning is None:
                self._no_type(kind)
            elif meaning.sort not in allowed:
                self.error(Code.TYPE, f"{what} cannot be {meaning.sort}", kind.span)
            else:
                return meaning
            return None
        if isinstance(kind, s.EnumType):
            self.enum(kind.values, kind.span)
        return type_meaning(self.program, kind, kind.span)

    def _no_type(self, kind: s.NamedType) -> None:
        program = self.program
        known = [KIRQL, "bool", "int", *program.enums, *program.handle_kinds, *program.devices]
        if kind.name in program.lock_kinds:
            message = f"`{kind.name}` is a lock kind, not a type"
            self.error(Code.WRONG_SORT, message, kind.span, help="pass locks as `lock L`")
            return
        help_ = "write `bool`" if kind.name.upper() == "BOOLEAN" else self.names.suggestions.help(kind.name, known)
        self.error(Code.UNDECLARED, f"there is no type `{kind.name}`", kind.span, help=help_)

    def enum(self, values: tuple[str, ...], span: Span) -> None:
        seen: set[str] = set()
        for value in values:
            if value in seen:
                self.error(Code.DECLARED_TWICE, f"`{value}` stands twice in this enum", span)
            seen.add(value)

    def initial(self, kind: s.Type, value: s.Expr, what: str) -> None:
        """The value a declaration outside of routines gives: a constant of the type."""
        before = len(self.found)
        self.value(value, kind)
        if not isinstance(value, s.Unknown) and self.names.constant(value, kind) is None:
            self.not_constant(value, what, before)

    def not_constant(self, expr: s.Expr, what: str, before: int) -> None:
        """Reports an expression that must be constant, unless its check, begun with `before` findings, has already."""
        if not any(d.span is not None and _covers(expr.span, d.span) for d in self.found[before:]):
            self.error(Code.NOT_CONSTANT, f"{what} must be a constant", expr.span)

    # ---- expressions ----

    def condition(self, expr: s.Expr, calls: bool = True) -> None:
        self.type_of(expr, s.BoolType(expr.span), calls)

    def level(self, expr: s.Expr, low: int = 0) -> None:
        """An IRQL."""
        self.value(expr, LEVEL)
        level = self.names.constant(expr, LEVEL)
        if level is not None and 0 <= level < low:
            self.error(Code.OUT_OF_RANGE, f"an IRQL of at least {low} is wanted here, not {level}", expr.span)

    def value(self, expr: s.Expr, wanted: s.Type, calls: bool = True) -> None:
        """An expression whose value goes where `wanted` is."""
        if type_meaning(self.program, wanted, expr.span) is None:
            return  # that is reported where the type is written
        before = len(self.found)
        have = self.type_of(expr, wanted, calls)
        if len(self.found) > before:
            return
        constant = self.names.constant(expr, wanted)
        if have is not None and not self._fits(have, wanted, constant):
            message = f"`{short(expr)}` is {_type_words(have)}, but `{type_text(wanted)}` is wanted"
            help_ = f"write `{short(expr)} != 0`" if isinstance(wanted, s.BoolType) and not self._enum(have) else None
            self.error(Code.TYPE, message, expr.span, help=help_)
        elif constant is not None:
            low, high = type_range(self.program, wanted)
            if is_kirql(wanted) and expr.span.source in self.program.own and not self.place.kernel:
                high = HIGH_LEVEL
            if not low <= constant <= high:
                message = f"{constant} is outside of {low}..{high}"
                self.error(Code.OUT_OF_RANGE, message, expr.span)

    def _enum(self, kind: s.Type | None) -> tuple[str, ...]:
        return () if kind is None else enum_of(self.program, kind)

    def _fits(self, have: s.Type, wanted: s.Type, constant: int | None) -> bool:
        """Levels and constants go into numbers, constants into levels, the constants 0 and 1 into bool; enums keep to
        themselves."""
        if self._enum(have) or self._enum(wanted):
            return self._enum(have) == self._enum(wanted)
        if isinstance(have, s.BoolType) or isinstance(wanted, s.BoolType):
            return isinstance(have, s.BoolType) == isinstance(wanted, s.BoolType) or (
                isinstance(wanted, s.BoolType) and constant in (0, 1)
            )
        return not is_kirql(wanted) or is_kirql(have) or constant is not None

    def type_of(self, expr: s.Expr, wanted: s.Type | None = None, calls: bool = True) -> s.Type | None:
        """The type of an expression with everything in it checked. `calls`: one may stand here."""
        match expr:
            case s.Number(value):
                return s.IntType(value, value, expr.span)
            case s.Truth() | s.Held() | s.NoLocks() | s.TryAcquire() | s.TryConvert():
                self._lock_expression(expr, calls)
                return s.BoolType(expr.span)
            case s.Unknown():
                return None
            case s.Irql():
                return LEVEL
            case s.Ref():
                return self._ref_value(expr, wanted)
            case s.Address(ref):
                self.error(Code.TYPE, f"`&{reference(ref)}` can only be an argument", expr.span)
                return None
            case s.Unary(op, operand):
                return self._unary(op, operand, expr.span, calls)
            case s.Binary():
                return self._binary(expr, calls)
            case s.Old(operand):
                return self.type_of(operand, wanted, calls=False)
            case s.Call():
                return self._call_value(expr, calls)

    def _ref_value(self, ref: s.Ref, wanted: s.Type | None) -> s.Type | None:
        meaning = self.names.resolve(ref, wanted)
        self._indices(ref)
        if meaning.sort not in VALUES:
            self.error(Code.WRONG_SORT, f"{self.names.describe(ref, meaning)}, but a value is wanted here", ref.span)
            return None
        return meaning.type

    def _indices(self, ref: s.Ref) -> None:
        for selector in ref.selectors:
            if isinstance(selector, s.Index):
                self._number(selector.value, "an index", calls=False)

    def _number(self, expr: s.Expr, what: str, calls: bool) -> s.Type | None:
        kind = self.type_of(expr, None, calls)
        if self._enum(kind):
            self.error(Code.TYPE, f"{what} must be a number, not an enum", expr.span)
        return kind

    def _unary(self, op: s.UnaryOp, operand: s.Expr, span: Span, calls: bool) -> s.Type | None:
        if op is s.UnaryOp.NOT:
            self.type_of(operand, None, calls)
            return s.BoolType(span)
        kind = self._number(operand, "what is negated", calls)
        constant = self.names.constant(operand, None)
        return kind if constant is None else s.IntType(-constant, -constant, span)

    def _binary(self, expr: s.Binary, calls: bool) -> s.Type | None:
        match expr.op:
            case s.BinaryOp.AND | s.BinaryOp.OR:
                self.condition(expr.left, calls)
                self.condition(expr.right, calls=False)
                return s.BoolType(expr.span)
            case s.BinaryOp.ADD | s.BinaryOp.SUB | s.BinaryOp.MUL | s.BinaryOp.MOD:
                sides = [self._number(side, f"an operand of `{expr.op}`", calls) for side in (expr.left, expr.right)]
                zero = expr.op is s.BinaryOp.MOD and self.names.constant(expr.right, None) == 0
                if zero:
                    self.error(Code.OUT_OF_RANGE, "the remainder of a division by 0 has no value", expr.span)
                levels = any(kind is not None and is_kirql(kind) for kind in sides)
                return LEVEL if levels else s.IntType(0, 0, expr.span)
            case _:
                self._comparison(expr, calls)
                return s.BoolType(expr.span)

    def _comparison(self, expr: s.Binary, calls: bool) -> None:
        if self._lock_comparison(expr) or self._device_comparison(expr):
            return
        left, right = expr.left, expr.right
        if self._is_enum_name(left) and not self._is_enum_name(right):
            second = self.type_of(right, None, calls)
            first = self.type_of(left, second, calls)
        else:
            first = self.type_of(left, None, calls)
            second = self.type_of(right, first, calls)
        if first is None or second is None:
            return
        if (self._enum(first) or self._enum(second)) and self._enum(first) != self._enum(second):
            message = f"{_compared(first)} and {_compared(second)} cannot be compared"
            self.error(Code.TYPE, message, expr.span)
        for side, other in ((left, right), (right, left)):
            level = self.names.constant(other, None)
            if isinstance(side, s.Irql) and level is not None and not 0 <= level <= HIGH_LEVEL:
                self.error(Code.OUT_OF_RANGE, f"an IRQL is in 0..{HIGH_LEVEL}", other.span)

    def _is_enum_name(self, expr: s.Expr) -> bool:
        return isinstance(expr, s.Ref) and not expr.selectors and self.names.meant(expr) is None

    def _lock_comparison(self, expr: s.Binary) -> bool:
        """`H.target == none`, `H.target != L`: whether it is one, checked."""
        if expr.op not in (s.BinaryOp.EQ, s.BinaryOp.NE):
            return False
        pairs = ((expr.left, expr.right), (expr.right, expr.left))
        for side, other in pairs:
            if isinstance(side, s.Ref) and side.selectors and self._silently(side).sort is Sort.TARGET:
                self._target_value(other)
                return True
        return False

    def _device_comparison(self, expr: s.Binary) -> bool:
        """`a == b` of two parameters that are devices: whether they are the same one."""
        if expr.op not in (s.BinaryOp.EQ, s.BinaryOp.NE):
            return False
        sides = [self._silently(side) for side in (expr.left, expr.right) if isinstance(side, s.Ref)]
        return len(sides) == 2 and all(side.sort is Sort.DEVICE for side in sides) and sides[0].kind == sides[1].kind

    def _silently(self, ref: s.Ref) -> Meaning:
        found: list[Meaning] = []
        self._trial(lambda: found.append(self.names.resolve(ref)))
        return found[0]

    def _target_value(self, expr: s.Expr) -> None:
        """What the lock field of a handle holds: a lock, another such field, or `none`."""
        ref = expr.ref if isinstance(expr, s.Address) else expr
        if isinstance(ref, s.Ref) and ref.name == "none" and not ref.selectors:
            return
        if not isinstance(ref, s.Ref):
            self.error(Code.WRONG_SORT, f"`{short(expr)}` is no lock", expr.span, help="write a lock or `none`")
            return
        self.lock(ref)

    def _lock_expression(self, expr: s.Expr, calls: bool) -> None:
        match expr:
            case s.Held(lock):
                self.lock(lock)
            case s.NoLocks(spin_only):
                word = "no_spin_lock" if spin_only else "no_lock"
                self.error(Code.PRIMITIVE_PLACE, f"`{word}` can only be the whole condition of a `require`", expr.span)
            case (s.TryAcquire(lock) | s.TryConvert(lock)) as attempt:
                word = "try_acquire" if isinstance(attempt, s.TryAcquire) else "try_convert"
                if not self.place.primitives:
                    self._primitive_place(word, expr.span)
                elif not calls:
                    self._call_place(word, expr.span)
                if isinstance(attempt, s.TryAcquire) and attempt.mode is s.Mode.EITHER:
                    self.error(Code.TYPE, "a lock is acquired `shared` or `exclusive`", expr.span)
                self.lock(lock)

    def _call_place(self, name: str, span: Span) -> None:
        message = f"`{name}` cannot be called here: whether or when it runs would be open"
        help_ = "call it in a statement of its own, or alone in the condition, and keep the result in a variable"
        self.error(Code.CALL_PLACE, message, span, help=help_)

    def _primitive_place(self, word: str, span: Span) -> None:
        message = f"`{word}` is for models of kernel routines, not for a driver's routine"
        help_ = "call the kernel routine that does it, or declare it as an `extern`"
        self.error(Code.PRIMITIVE_PLACE, message, span, help=help_)

    # ---- objects ----

    def lock(self, ref: s.Ref, kind: str | None = None) -> Meaning:
        """A reference to a lock, of `kind` if that is given."""
        meaning = self.names.resolve(ref)
        self._indices(ref)
        match meaning.sort:
            case Sort.UNKNOWN | Sort.TARGET:
                pass
            case Sort.LOCK:
                if kind is not None and meaning.kind not in (kind, None):
                    message = f"`{reference(ref)}` is a {meaning.kind}, but a {kind} is wanted here"
                    self.error(Code.LOCK_KIND, message, ref.span, *declared_at(ref, meaning))
            case Sort.FAMILY:
                last = (meaning.size or 1) - 1
                message = f"`{reference(ref)}` is a family of locks: say which one is meant"
                help_ = f"write `{ref.name}[i]` with an `i` from 0 to {last}"
                self.error(Code.WRONG_SORT, message, ref.span, help=help_)
            case _:
                self._wrong_sort(ref, meaning, "a lock")
        return meaning

    def object(self, ref: s.Ref, sorts: tuple[Sort, ...], wanted: str) -> Meaning:
        meaning = self.names.resolve(ref)
        self._indices(ref)
        if meaning.sort is Sort.ROUTINE:
            self.mention(ref.name)
        if meaning.sort not in (*sorts, Sort.UNKNOWN):
            self._wrong_sort(ref, meaning, wanted)
        return meaning

    def _wrong_sort(self, ref: s.Ref, meaning: Meaning, wanted: str) -> None:
        message = f"{self.names.describe(ref, meaning)}, but {wanted} is wanted here"
        self.error(Code.WRONG_SORT, message, ref.span, *declared_at(ref, meaning))


def is_kirql(kind: s.Type) -> bool:
    return isinstance(kind, s.NamedType) and kind.name == KIRQL


def short(expr: s.Expr) -> str:
    text = expression(expr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_words(kind: s.Type) -> str:
    """What a value is, after `is`. The type of a constant or of a sum is a range of one number."""
    return "a number" if _is_number(kind) else f"of type `{type_text(kind)}`"


def _compared(kind: s.Type) -> str:
    return "a number" if _is_number(kind) else f"`{type_text(kind)}`"


def _is_number(kind: s.Type) -> bool:
    return isinstance(kind, s.IntType) and kind.low == kind.high


def declared_at(ref: s.Ref, meaning: Meaning) -> tuple[Note, ...]:
    return declared_at_name(reference(ref), meaning)


def declared_at_name(name: str, meaning: Meaning) -> tuple[Note, ...]:
    return () if meaning.span is None else (Note(f"`{name}` is declared here", meaning.span),)


def _covers(outer: Span, inner: Span) -> bool:
    return outer.source is inner.source and outer.start <= inner.start and inner.end <= outer.end


__all__ = ["Place", "ValueCheck", "declared_at", "declared_at_name", "is_kirql", "short"]
