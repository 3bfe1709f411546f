"""Checks the inside of routines, kernel routines and roles: expressions, calls, statements.

A type of None means that nothing is known (`*`, the result of an unmodelled routine, something already reported): it
fits everywhere, so that one mistake is one finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from functools import cache

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.names import (
    KIRQL,
    LEVEL,
    UNKNOWN,
    VALUES,
    Meaning,
    Names,
    Sort,
    Suggestions,
    param_meaning,
    type_meaning,
)
from modelcheck.printer import expression, parameter, reference, signature, type_text
from modelcheck.record import dataclass
from modelcheck.resolve import Program, enum_of, find_role, type_range
from modelcheck.source import Span
from modelcheck.verdict import HIGH_LEVEL, Property
from modelcheck.walk import substatements

_PRIMITIVES = (
    s.Init | s.Free | s.Acquire | s.Release | s.Convert | s.Raise | s.Lower | s.Blocks | s.Signal | s.Enable | s.Require
) | (s.Callback | s.MayReenter)
_NOT_IN_KERNEL_ROUTINES = {
    s.While: "loops",
    s.DoWhile: "loops",
    s.For: "loops",
    s.Goto: "`goto`",
    s.Label: "labels",
    s.Jump: "jumps",
    s.Switch: "`switch`",
    s.Try: "`try`",
    s.Atomic: "`atomic`",
}


@cache
def documented(name: str) -> bool:
    """Whether the driver reference documents a kernel routine of that name, modelled or not."""
    try:
        from modelcheck.documented import lookup
    except ImportError:
        return False
    return lookup(name) is not None


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


@dataclass(frozen=True, slots=True)
class Given:
    """The kinds of locks that a call (at `span`) gives parameters which leave theirs open."""

    declared: s.Routine | s.Extern
    kinds: Mapping[str, str]
    span: Span

    @property
    def key(self) -> tuple[object, ...]:
        """The same for calls that give the same body the same kinds."""
        return (id(self.declared), *self.kinds.items())


@dataclass(slots=True)
class Labels:
    """The labels of a routine with the blocks each stands in, and the jumps to them."""

    declared: dict[str, tuple[Span, tuple[int, ...]]] = field(default_factory=dict)
    jumps: list[tuple[s.Goto, tuple[int, ...]]] = field(default_factory=list)


class BodyCheck:
    """Checks one routine at a time; `names` says what is visible and takes what is found."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: list[Diagnostic] = []
        self.names = Names(program, self._report, Suggestions())
        self.error = self.names.error
        self.called: dict[str, set[str]] = {}
        """Routines and kernel routines by whom they are mentioned."""
        self.where = ""
        self.place = Place()
        self.labels = Labels()
        self.result: s.Type | None = None
        self.form: s.Extern | None = None
        self.extern_calls: dict[int, list[tuple[s.Extern, Span]]] = {}
        """By the identity of the calling form: which forms it calls, and where."""
        self.given: list[Given] = []
        """What calls give parameters that take locks of any kind."""
        self._call_types: dict[int, s.Type | None] = {}
        self._finals: set[int] = set()

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
        before = len(self.found)
        have = self.type_of(expr, wanted, calls)
        if len(self.found) > before:
            return
        constant = self.names.constant(expr, wanted)
        if have is not None and not self._fits(have, wanted, constant):
            message = f"`{_short(expr)}` is {_type_words(have)}, but `{type_text(wanted)}` is wanted"
            help_ = f"write `{_short(expr)} != 0`" if isinstance(wanted, s.BoolType) and not self._enum(have) else None
            self.error(Code.TYPE, message, expr.span, help=help_)
        elif constant is not None:
            low, high = type_range(self.program, wanted)
            if _is_kirql(wanted) and expr.span.source in self.program.own and not self.place.kernel:
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
        return not _is_kirql(wanted) or _is_kirql(have) or constant is not None

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
                levels = any(kind is not None and _is_kirql(kind) for kind in sides)
                return LEVEL if levels else s.IntType(0, 0, expr.span)
            case _:
                self._comparison(expr, calls)
                return s.BoolType(expr.span)

    def _comparison(self, expr: s.Binary, calls: bool) -> None:
        if self._lock_comparison(expr):
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
            self.error(Code.WRONG_SORT, f"`{_short(expr)}` is no lock", expr.span, help="write a lock or `none`")
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
                    self.error(Code.LOCK_KIND, message, ref.span, *_declared_at(ref, meaning))
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
        self.error(Code.WRONG_SORT, message, ref.span, *_declared_at(ref, meaning))

    # ---- calls ----

    def _call_value(self, call: s.Call, allowed: bool) -> s.Type | None:
        if id(call) in self._call_types:
            return self._call_types[id(call)]
        if not allowed:
            self._call_place(call.name, call.span)
        kind, gives = self.call(call)
        if not gives:
            message = f"`{call.name}` gives back nothing"
            self.error(Code.TYPE, message, call.span)
        self._call_types[id(call)] = kind
        return kind

    def call(self, call: s.Call) -> tuple[s.Type | None, bool]:
        """Checks a call; the type of its result, and whether there is one."""
        self.mention(call.name)
        for arg in call.args:
            self._inner_calls(arg)
        local = self.names.lookup(call.name)
        if local is not None and local.local:
            what = self.names.describe(s.Ref(call.name, (), call.span), local)
            help_ = f"write `call {call.name}(..);`" if local.sort is Sort.ROUTINE else None
            self.error(Code.WRONG_SORT, f"{what}, it cannot be called like this", call.span, help=help_)
            return None, True
        if call.name in self.program.routines:
            routine = self.program.routines[call.name]
            if self.place.kernel:
                message = f"`{call.name}` is a routine of the driver: kernel routines can only call kernel routines"
                self.error(Code.CALL_PLACE, message, call.span)
            self._arguments(call, routine.params, routine)
            self.give(routine, call.args, call.span)
            return routine.result, routine.result is not None
        if call.name in self.program.externs:
            chosen = self._overload(call, self.program.externs[call.name])
            if chosen is None:
                return None, True
            if self.form is not None:
                self.extern_calls.setdefault(id(self.form), []).append((chosen, call.span))
            self.give(chosen, call.args, call.span)
            return chosen.result, chosen.result is not None
        self._unmodelled(call, local)
        return None, True

    def give(self, declared: s.Routine | s.Extern, args: tuple[s.Expr, ...], span: Span) -> None:
        """Keeps the kinds of the locks that go to parameters which leave theirs open."""
        kinds: dict[str, str] = {}
        for param, arg in zip(declared.params, args, strict=False):
            ref = arg.ref if isinstance(arg, s.Address) else arg
            if isinstance(param, s.LockParam) and param.kind is None and isinstance(ref, s.Ref):
                kind = self._silently(ref).kind
                if kind in self.program.lock_kinds:
                    kinds[param.name] = kind
        if kinds:
            self.given.append(Given(declared, kinds, span))

    def _inner_calls(self, arg: s.Expr) -> None:
        """Checks the calls inside an argument once, however many forms of the outer routine are tried."""
        match arg:
            case s.Call():
                self._call_value(arg, True)
            case s.Unary(_, operand) | s.Old(operand):
                self._inner_calls(operand)
            case s.Binary(op, left, right):
                self._inner_calls(left)
                if op not in (s.BinaryOp.AND, s.BinaryOp.OR):
                    self._inner_calls(right)
            case _:
                pass

    def _unmodelled(self, call: s.Call, meaning: Meaning | None) -> None:
        """A callee nobody knows is for the engine to name; here only what was perhaps meant."""
        if meaning is not None:
            what = self.names.describe(s.Ref(call.name, (), call.span), meaning)
            self.error(Code.WRONG_SORT, f"{what}, not a routine", call.span, *_declared_at_name(call.name, meaning))
            return
        for arg in call.args:
            self._no_calls(arg, call.name)
        if documented(call.name):
            return
        near = self.names.suggestions.nearest(call.name, [*self.program.routines, *self.program.externs])
        if near is not None:
            message = f"no routine and no kernel model is called `{call.name}`"
            self.error(Code.UNMODELLED, message, call.span, help=f"did you mean `{near}`?")

    def _no_calls(self, arg: s.Expr, callee: str) -> None:
        """An argument that is not looked at cannot do anything."""
        if isinstance(arg, s.Call | s.TryAcquire | s.TryConvert):
            message = f"this argument of `{callee}` is not looked at, so a call in it would be lost"
            help_ = "call it in a statement of its own before"
            self.error(Code.CALL_PLACE, message, arg.span, help=help_)

    def _overload(self, call: s.Call, forms: list[s.Extern]) -> s.Extern | None:
        """The first form that fits, as the engine takes it; None with the reasons reported."""
        counted = [form for form in forms if _takes(form.params, len(call.args))]
        if len(counted) == 1:
            self._arguments(call, counted[0].params, counted[0])
            return counted[0]
        notes = [Note(f"it is declared as `{signature(form)}`", form.span) for form in (counted or forms)[:6]]
        if not counted:
            message = f"`{call.name}` does not take {_number_of(len(call.args), 'argument')}"
            self.error(Code.ARGUMENT_COUNT, message, call.span, *notes)
            return None
        tries: list[list[Diagnostic]] = []
        for form in counted:
            problems = self._trial(lambda form=form: self._arguments(call, form.params, form))  # type: ignore[misc]
            if not problems:
                self._not_looked_at(call, form, counted)
                return form
            tries.append(problems)
        undeclared = [d for d in tries[0] if d.code is Code.UNDECLARED]
        common = undeclared or [d for d in tries[0] if all(d in others for others in tries)]
        if common:
            self.found.extend(common)
        else:
            message = f"no form of `{call.name}` takes these arguments"
            self.error(Code.ARGUMENT_KIND, message, call.span, *notes)
        return None

    def _not_looked_at(self, call: s.Call, chosen: s.Extern, forms: list[s.Extern]) -> None:
        """What goes to an `any` where another form looks at objects of some sort is of no sort that is known."""
        for index, (param, arg) in enumerate(zip(chosen.params, call.args, strict=False)):
            ref = arg.ref if isinstance(arg, s.Address) else arg
            if not _is_any(param) or not isinstance(ref, s.Ref) or self.names.meant(ref) is None:
                continue
            meaning = self._silently(ref)
            others = [form for form in forms if index < len(form.params) and _is_looked_at(form.params[index])]
            if not others or meaning.sort in _WITHOUT_SORT:
                continue
            meant = next((form for form in others if self._takes_argument(call, form, index)), None)
            if meant is not None:
                self._arguments(call, meant.params, meant)  # what does not fit is another argument
                return
            wanted = " or ".join(dict.fromkeys(_in_words(form.params[index]) for form in others))
            message = f"{self.names.describe(ref, meaning)}, but {wanted} is wanted here"
            self.error(Code.ARGUMENT_KIND, message, arg.span, *_declared_at(ref, meaning))

    def _takes_argument(self, call: s.Call, form: s.Extern, index: int) -> bool:
        return not self._trial(lambda: self._argument(call.args[index], form.params[index], call.name))

    def _arguments(self, call: s.Call, params: tuple[s.Param, ...], declared: s.Routine | s.Extern) -> None:
        self.arguments(call.name, call.args, params, call.span, Note(f"`{signature(declared)}`", declared.span))

    def arguments(
        self, name: str, args: tuple[s.Expr, ...], params: tuple[s.Param, ...], span: Span, note: Note
    ) -> None:
        """Arguments against parameters, one by one."""
        if not _takes(params, len(args)):
            fixed = sum(not isinstance(p, s.RestParam) for p in params)
            least = "at least " if fixed < len(params) else ""
            message = f"`{name}` takes {least}{_number_of(fixed, 'argument')}, not {len(args)}"
            self.error(Code.ARGUMENT_COUNT, message, span, note)
            return
        written: dict[str, s.Expr] = {}
        for index, arg in enumerate(args):
            param = params[index] if index < len(params) else params[-1]
            if isinstance(param, s.RestParam):
                self._no_calls(arg, name)
                continue
            before = len(self.found)
            self._argument(arg, param, name)
            if len(self.found) == before and isinstance(param, s.ValueParam) and param.by_ref:
                text = _short(arg).lstrip("&")
                if text in written:
                    message = f"`{text}` is passed to `{name}` twice by reference"
                    self.error(Code.ALIASED, message, arg.span, Note("the first time", written[text].span))
                written[text] = arg

    def _argument(self, arg: s.Expr, param: s.Param, callee: str) -> None:
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        match param:
            case s.LockParam(_, kind):
                if ref is None:
                    self._wants(arg, param, callee)
                elif self.lock(ref, kind).sort is Sort.TARGET and not self.place.primitives:
                    message = f"`{reference(ref)}` belongs to the kernel model, which alone uses it as a lock"
                    self.error(Code.WRONG_SORT, message, ref.span, help="write the lock itself")
            case s.ValueParam(kind_, _, by_ref):
                self._value_argument(arg, ref, param, kind_, by_ref, callee)
            case s.ObjectParam(s.ObjectKind.TIMEOUT):
                if isinstance(arg, s.Address):
                    self.object(arg.ref, (Sort.VARIABLE, Sort.CONSTANT, Sort.TIMEOUT), "a timeout")
                elif not isinstance(arg, s.Unknown):
                    self._number(arg, "a timeout", calls=True)
            case s.ObjectParam(s.ObjectKind.ANY) | s.OpaqueParam():
                self._no_calls(arg, callee)
            case s.ObjectParam(object_kind):
                if ref is None:
                    self._wants(arg, param, callee)
                else:
                    self.object(ref, _OBJECT_SORTS[object_kind], parameter(param).rpartition(" ")[0])
            case s.RestParam():
                pass

    def _value_argument(
        self, arg: s.Expr, ref: s.Ref | None, param: s.ValueParam, kind: s.Type, by_ref: bool, callee: str
    ) -> None:
        inner = type_meaning(self.program, kind, param.span)
        if inner is None:
            return
        if inner.sort in (Sort.HANDLE, Sort.DEVICE):
            if ref is None:
                self._wants(arg, param, callee)
                return
            meaning = self.object(ref, (inner.sort,), f"a {inner.kind}")
            if meaning.sort is inner.sort and meaning.kind != inner.kind:
                message = f"`{reference(ref)}` is a {meaning.kind}, but a {inner.kind} is wanted here"
                self.error(Code.ARGUMENT_KIND, message, ref.span, *_declared_at(ref, meaning))
        elif not by_ref:
            if isinstance(arg, s.Address):
                message = f"`{callee}` takes this argument by value"
                self.error(Code.ARGUMENT_KIND, message, arg.span, help=f"write `{reference(arg.ref)}`")
            else:
                self.value(arg, kind)
        elif isinstance(arg, s.Address):
            self._reference_argument(arg.ref, kind, callee)
        elif ref is not None and self._silently(ref).sort is Sort.VARIABLE:
            message = f"`{callee}` writes to this argument: it is passed by reference"
            self.error(Code.ARGUMENT_KIND, message, arg.span, help=f"write `&{reference(ref)}`")
        elif ref is None or not ref.selectors:
            self._wants(arg, param, callee)
        else:
            self.names.resolve(ref)

    def _reference_argument(self, ref: s.Ref, kind: s.Type, callee: str) -> None:
        """`&x` where a routine writes a value of type `kind`."""
        meaning = self.names.resolve(ref)
        if meaning.sort is Sort.UNKNOWN:
            return
        if meaning.sort is not Sort.VARIABLE or meaning.type is None:
            self._wrong_sort(ref, meaning, f"a variable of type `{type_text(kind)}`")
            return
        have, want = self._enum(meaning.type), self._enum(kind)
        alike = isinstance(meaning.type, s.BoolType) == isinstance(kind, s.BoolType) and (
            _is_kirql(meaning.type) == _is_kirql(kind)
        )
        if have != want or not (alike or have):
            message = f"{self.names.describe(ref, meaning)}, but `{callee}` writes a `{type_text(kind)}`"
            self.error(Code.ARGUMENT_KIND, message, ref.span, *_declared_at(ref, meaning))

    def _wants(self, arg: s.Expr, param: s.Param, callee: str) -> None:
        message = f"`{callee}` wants `{parameter(param)}` here, and `{_short(arg)}` is none"
        if isinstance(arg, s.Ref) and self._silently(arg).sort is Sort.UNKNOWN:
            self.names.resolve(arg)
        else:
            self.error(Code.ARGUMENT_KIND, message, arg.span)

    # ---- bodies ----

    def routine(self, routine: s.Routine, primitives: bool) -> None:
        self._whole(routine, Place(primitives=primitives), routine.body)
        self._role_result(routine)

    def _role_result(self, routine: s.Routine) -> None:
        """A role that looks at the result must be able to: `result == STATUS_SUCCESS` wants an NTSTATUS."""
        if routine.role is None or routine.result is None:
            return
        try:
            role, _ = find_role(self.program, routine.role)
        except KeyError:
            return
        condition = role.continues
        if condition is None:
            return

        def attempt() -> None:
            self.names.frames.append({"result": Meaning(Sort.VARIABLE, type=routine.result)})
            self.condition(condition, calls=False)
            self.names.frames.pop()

        if self._trial(attempt):
            message = f"`{role.name}` looks at `{_short(condition)}`, and `{routine.name}` gives back a different type"
            note = Note(f"`{role.name}` is declared here", role.span)
            self.error(Code.ROLE, message, routine.result.span, note)

    def extern(self, extern: s.Extern) -> None:
        self.form = extern
        self._whole(extern, Place(kernel=True, primitives=True), extern.body)
        self.form = None
        if extern.body is not None:
            self._tail_returns(extern.body, last=True)

    def role(self, role: s.Role) -> None:
        """Entry and exit see the role's parameters."""
        self._begin(role.name, role.params, None)
        self.place = Place(kernel=True, primitives=True)
        for param in role.params:
            self._param(param, kernel=False)
        if role.continues is not None:
            self.names.declare("result", Meaning(Sort.UNKNOWN))
            self.condition(role.continues, calls=False)
        for expr in role.irql or ():
            self.level(expr)
        for block in (role.entry, role.exit):
            if block is not None:
                self._block(block, self.place)
                self._tail_returns(block, last=False)
        self._finish()

    def _whole(self, declared: s.Routine | s.Extern, place: Place, body: s.Block | None) -> None:
        self._begin(declared.name, declared.params, declared.result)
        self.place = place
        for param in declared.params:
            self._param(param, kernel=place.kernel)
        if declared.result is not None:
            self.type(declared.result, "a result")
        self._clauses(declared.clauses, declared.result)
        if body is not None:
            self.labels = Labels()
            self._finals.clear()
            self._block(body, place)
            self._jumps()
        self._finish()

    def _begin(self, name: str, params: tuple[s.Param, ...], result: s.Type | None) -> None:
        self.where, self.result = name, result
        self._call_types.clear()
        self.names.frames.append({})
        self._blocks: tuple[int, ...] = ()
        self._block_count = 0
        for param in params:
            if not isinstance(param, s.RestParam):
                self.names.declare(param.name, param_meaning(self.program, param) or UNKNOWN)

    def _finish(self) -> None:
        self.names.frames.clear()
        self.place = Place()

    def _param(self, param: s.Param, kernel: bool) -> None:
        match param:
            case s.LockParam(_, kind) if kind is not None and kind not in self.program.lock_kinds:
                help_ = self.names.suggestions.help(kind, self.program.lock_kinds)
                self.error(Code.UNDECLARED, f"there is no lock kind `{kind}`", param.span, help=help_)
            case s.ValueParam(kind_, _, by_ref):
                meaning = self.type(kind_, "a parameter", (Sort.VARIABLE, Sort.HANDLE, Sort.DEVICE))
                if meaning is not None and meaning.sort is Sort.DEVICE and by_ref:
                    self.error(Code.TYPE, "a device is passed as it is, not by reference", param.span)
            case s.RestParam() if not kernel:
                self.error(Code.TYPE, "`...` is for kernel routines (`extern`) only", param.span)

    def _clauses(self, clauses: tuple[s.Clause, ...], result: s.Type | None) -> None:
        raised: s.Clause | None = None
        taken: dict[s.Ref, s.LockClause] = {}
        for clause in clauses:
            match clause:
                case s.ConditionClause(kind, condition):
                    self.names.frames.append({})
                    if kind is s.ClauseKind.ENSURES and result is not None and self.names.lookup("result") is None:
                        self.names.declare("result", Meaning(Sort.VARIABLE, type=result))
                    self._pure(condition, "a clause", old=kind is s.ClauseKind.ENSURES)
                    self.condition(condition, calls=False)
                    self.names.frames.pop()
                case s.LockClause(acquires, lock, mode):
                    self.lock(lock)
                    if acquires and mode is s.Mode.EITHER:
                        self.error(Code.CLAUSE, "a lock is acquired `shared` or `exclusive`", clause.span)
                    other = taken.setdefault(lock, clause)
                    if other.acquires != acquires:
                        message = f"`{reference(lock)}` cannot be both acquired and released"
                        self.error(Code.CLAUSE, message, clause.span, Note("the other clause", other.span))
                case s.RaisesClause() | s.SameIrqlClause():
                    if isinstance(clause, s.RaisesClause):
                        self._pure(clause.level, "a clause", old=False)
                        self.level(clause.level)
                    if raised is not None:
                        message = "only one clause can say what becomes of the IRQL"
                        self.error(Code.CLAUSE, message, clause.span, Note("the other clause", raised.span))
                    raised = clause

    def _pure(self, expr: s.Expr, where: str, old: bool) -> None:
        """No `*`, no call, and `old` only where there is a state before."""
        for part in _parts(expr):
            match part:
                case s.Unknown():
                    self.error(Code.CLAUSE, f"`*` cannot stand in {where}", part.span)
                case s.Old() if not old:
                    self.error(Code.CLAUSE, "`old(..)` can only stand in `ensures`", part.span)
                case _:
                    pass

    def _block(self, block: s.Block, place: Place) -> None:
        outer, self.place = self.place, place
        self.names.frames.append({})
        blocks, self._block_count = self._blocks, self._block_count + 1
        for stmt in block.body:
            self._statement(stmt)
        self._blocks = blocks
        self.names.frames.pop()
        self.place = outer

    def _closed(self, block: s.Block, place: Place) -> None:
        """A block that `goto` cannot jump into."""
        blocks = self._blocks
        self._block_count += 1
        self._blocks = (*blocks, self._block_count)
        self._block(block, place)
        self._blocks = blocks

    def _statement(self, stmt: s.Stmt) -> None:
        place = self.place
        if place.kernel and type(stmt) in _NOT_IN_KERNEL_ROUTINES:
            what = _NOT_IN_KERNEL_ROUTINES[type(stmt)]
            self.error(Code.PRIMITIVE_PLACE, f"there are no {what} in models of kernel routines", stmt.span)
            return
        match stmt:
            case s.Block():
                self._block(stmt, place)
            case s.Declare():
                self._declare(stmt)
            case s.Assign():
                self.assign(stmt)
            case s.CallStmt(call):
                self.call(call)
            case s.If(arms, otherwise):
                for arm in arms:
                    self.condition(arm.condition)
                    self._block(arm.body, place)
                if otherwise is not None:
                    self._block(otherwise, place)
            case s.While(test, body):
                self.condition(test)
                self._block(body, _within(place, loop=True))
            case s.DoWhile(body, test):
                self._block(body, _within(place, loop=True))
                self.condition(test)
            case s.For(start, test, step, body):
                for part in (start, step):
                    if part is not None:
                        self._statement(part)
                if test is not None:
                    self.condition(test)
                self._block(body, _within(place, loop=True))
            case s.Switch():
                self._switch(stmt)
            case s.Goto():
                self.labels.jumps.append((stmt, self._blocks))
            case s.Label(name):
                first = self.labels.declared.setdefault(name, (stmt.span, self._blocks))
                if first[0] is not stmt.span:
                    note = Note("the first one", first[0])
                    self.error(Code.LABEL, f"the label `{name}` stands twice in this routine", stmt.span, note)
            case s.Jump(kind):
                self._jump(kind, stmt.span)
            case s.Return(value):
                self._return(value, stmt.span)
            case s.Try(body, final):
                self._closed(body, _within(place, inside_try=True))
                self._finals.add(self._block_count + 1)
                self._closed(final, Place(place.kernel, place.primitives, final=True))
            case s.Atomic(body):
                self._closed(body, place)
            case s.Assume(test) | s.Assert(test):
                self.condition(test)
            case s.Access():
                self._access(stmt)
            case s.Cost(_, times):
                if times is not None:
                    self.value(times, s.IntType(0, 1_000_000_000, times.span))
            case _:
                self._primitive(stmt)

    def _declare(self, stmt: s.Declare) -> None:
        meaning = self.type(stmt.type, "a local variable", (Sort.VARIABLE, Sort.HANDLE))
        if stmt.value is not None:
            if meaning is not None and meaning.sort is Sort.HANDLE:
                self.error(Code.TYPE, "a handle has no value to begin with", stmt.value.span)
            elif meaning is None:
                self.type_of(stmt.value)
            else:
                self.value(stmt.value, stmt.type)
        known = UNKNOWN if meaning is None else meaning
        self.names.declare(stmt.name, Meaning(known.sort, stmt.span, known.type, known.kind))

    def assign(self, stmt: s.Assign) -> None:
        """`x = e;`"""
        target = stmt.target
        meaning = self.names.resolve(target)
        match meaning.sort:
            case Sort.UNKNOWN:
                self.type_of(stmt.value)
                return
            case Sort.TARGET:
                self._target_value(stmt.value)
            case Sort.VARIABLE if meaning.type is not None:
                self.value(stmt.value, meaning.type)
            case _:
                message = f"{self.names.describe(target, meaning)}: nothing can be assigned to it"
                self.error(Code.NOT_ASSIGNABLE, message, target.span, *_declared_at(target, meaning))
                return
        if meaning.belongs_to_model and not self.place.primitives:
            message = f"`{reference(target)}` belongs to the kernel model: a driver can only read it"
            self.error(Code.NOT_ASSIGNABLE, message, target.span)

    def _switch(self, stmt: s.Switch) -> None:
        kind = self.type_of(stmt.subject)
        seen: dict[int, Span] = {}
        default: Span | None = None
        place = _within(self.place, switch=True)
        self.names.frames.append({})
        outer, self.place = self.place, place
        for case in stmt.cases:
            if case.value is None:
                if default is not None:
                    note = Note("the first one", default)
                    self.error(Code.SWITCH, "`default` stands twice in this switch", case.span, note)
                default = case.span
            else:
                self._case(case.value, kind, seen)
            for inner in case.body:
                self._statement(inner)
        self.place = outer
        self.names.frames.pop()

    def _case(self, value: s.Expr, kind: s.Type | None, seen: dict[int, Span]) -> None:
        before = len(self.found)
        if kind is None or (isinstance(kind, s.IntType) and kind.low == kind.high):
            self.type_of(value, kind, calls=False)
        else:
            self.value(value, kind, calls=False)
        if len(self.found) > before:
            return
        constant = self.names.constant(value, kind)
        if constant is None:
            self.not_constant(value, "the value of a case", before)
        elif constant in seen:
            note = Note("the first one", seen[constant])
            self.error(Code.SWITCH, f"the case `{_short(value)}` stands twice in this switch", value.span, note)
        else:
            seen[constant] = value.span

    def _jumps(self) -> None:
        """Every `goto` leads to a label, and not into a `try`, `finally` or `atomic`."""
        for goto, blocks in self.labels.jumps:
            found = self.labels.declared.get(goto.label)
            if found is None:
                help_ = self.names.suggestions.help(goto.label, self.labels.declared)
                self.error(Code.LABEL, f"there is no label `{goto.label}` in this routine", goto.span, help=help_)
            elif blocks[: len(found[1])] != found[1]:
                message = f"`goto {goto.label}` jumps into a `try`, `finally` or `atomic` from outside"
                self.error(Code.LABEL, message, goto.span, Note("the label", found[0]))
            elif any(block in self._finals for block in blocks[len(found[1]) :]):
                self.error(Code.JUMP_PLACE, "`goto` cannot leave a `finally`", goto.span)

    def _jump(self, kind: s.JumpKind, span: Span) -> None:
        place = self.place
        allowed, needed = {
            s.JumpKind.BREAK: (place.loop or place.switch, "a loop or `switch`"),
            s.JumpKind.CONTINUE: (place.loop, "a loop"),
            s.JumpKind.LEAVE: (place.inside_try, "the body of a `try`"),
        }[kind]
        if not allowed:
            where = "of the same `finally`" if place.final else ""
            self.error(Code.JUMP_PLACE, f"`{kind}` stands outside of {needed} {where}".rstrip(), span)

    def _return(self, value: s.Expr | None, span: Span) -> None:
        if self.place.final:
            self.error(Code.JUMP_PLACE, "`return` cannot leave a `finally`", span)
        if value is None:
            if self.result is not None:
                message = f"`{self.where}` must give back a `{type_text(self.result)}`"
                self.error(Code.TYPE, message, span, help="write `return` and a value, or `return *;`")
        elif self.result is None:
            self.type_of(value)
            help_ = f"say the type of the result: `{self.where}(..) : int 0..7`, or write `return;`"
            self.error(Code.TYPE, f"`{self.where}` gives back nothing", value.span, help=help_)
        else:
            self.value(value, self.result)

    def _tail_returns(self, block: s.Block, last: bool) -> None:
        """In a kernel routine `return` is the last thing that is done (`last` False: there is none)."""
        for index, stmt in enumerate(block.body):
            final = last and index == len(block.body) - 1
            if isinstance(stmt, s.Return):
                if not final:
                    message = "`return` can only be the last statement of a kernel routine"
                    self.error(Code.JUMP_PLACE, message, stmt.span)
                continue
            for inner in substatements(stmt):
                if isinstance(inner, s.Block):
                    self._tail_returns(inner, False)

    def _access(self, stmt: s.Access) -> None:
        meaning = self.names.resolve(stmt.data)
        if meaning.sort is Sort.VARIABLE:
            word = "write" if stmt.write else "read"
            message = f"`{reference(stmt.data)}` is a variable, and `{word}` is for data"
            self.error(Code.WRONG_SORT, message, stmt.data.span, help="use it in an expression or an assignment")
        elif meaning.sort not in (Sort.DATA, Sort.UNKNOWN):
            self._wrong_sort(stmt.data, meaning, "data")

    # ---- primitives ----

    def _primitive(self, stmt: s.Stmt) -> None:
        assert isinstance(stmt, _PRIMITIVES)
        if not self.place.primitives:
            self._primitive_place(stmt.span.text.split(None, 1)[0].rstrip(";("), stmt.span)
            return
        match stmt:
            case s.Init(lock) | s.Free(lock) | s.Convert(lock):
                self.lock(lock)
            case s.Acquire(lock, mode):
                self.lock(lock)
                if mode is s.Mode.EITHER:
                    self.error(Code.TYPE, "a lock is acquired `shared` or `exclusive`", stmt.span)
            case s.Release(lock):
                self.lock(lock)
            case s.Raise(level) | s.Lower(level):
                self.level(level)
            case s.Signal(_, event):
                self.object(event, (Sort.EVENT,), "an event")
            case s.Enable(_, name):
                ref = s.Ref(name, (), stmt.span)
                sorts = (Sort.ROUTINE, Sort.INTERRUPT, Sort.DEFERRED)
                self.object(ref, sorts, "a routine, an interrupt, a DPC, a timer or a work item")
            case s.Require():
                self._require(stmt)
            case s.Callback(name, args):
                self._callback(name, args, stmt.span)
            case s.MayReenter(role):
                if role not in self.program.roles:
                    help_ = self.names.suggestions.help(role, self.program.roles)
                    self.error(Code.UNDECLARED, f"there is no role `{role}`", stmt.span, help=help_)
            case s.Blocks():
                pass

    def _require(self, stmt: s.Require) -> None:
        if stmt.code not in Property.__members__:
            help_ = f"the codes are {', '.join(Property.__members__)}"
            self.error(Code.UNDECLARED, f"there is no property `{stmt.code}`", stmt.span, help=help_)
        if not isinstance(stmt.condition, s.NoLocks):
            self._pure(stmt.condition, "`require`", old=True)
            self.condition(stmt.condition, calls=False)

    def _callback(self, name: str, args: tuple[s.Expr, ...], span: Span) -> None:
        """`call R(..)`: R is a parameter; what it takes is known only where it is passed."""
        meaning = self.names.lookup(name)
        if meaning is None or meaning.sort is not Sort.ROUTINE or not meaning.local:
            self.error(Code.WRONG_SORT, f"`{name}` is no `routine` parameter, so it cannot be called back", span)
        for arg in args:
            self._no_calls(arg, name)


_OBJECT_SORTS = {
    s.ObjectKind.INTERRUPT: (Sort.INTERRUPT,),
    s.ObjectKind.EVENT: (Sort.EVENT,),
    s.ObjectKind.ROUTINE: (Sort.ROUTINE, Sort.DEFERRED),
    s.ObjectKind.DATA: (Sort.DATA,),
}


_WITHOUT_SORT = frozenset({Sort.UNKNOWN, Sort.OPAQUE, Sort.TIMEOUT, Sort.CONSTANT, Sort.DEFERRED, Sort.DEVICE})
"""What can stand for an object that no model looks at."""


def _is_any(param: s.Param) -> bool:
    return isinstance(param, s.ObjectParam) and param.kind is s.ObjectKind.ANY


def _is_looked_at(param: s.Param) -> bool:
    return isinstance(param, s.LockParam) or (isinstance(param, s.ObjectParam) and param.kind in _OBJECT_SORTS)


def _in_words(param: s.Param) -> str:
    """What an argument is that is looked at, with its article: `a KMUTEX`, `an event`."""
    if isinstance(param, s.LockParam):
        return "a lock" if param.kind is None else f"a {param.kind}"
    assert isinstance(param, s.ObjectParam)
    return _OBJECT_SORTS[param.kind][0].value


def _within(place: Place, loop: bool = False, switch: bool = False, inside_try: bool = False) -> Place:
    return Place(
        place.kernel,
        place.primitives,
        place.loop or loop,
        place.switch or switch,
        place.inside_try or inside_try,
        place.final,
    )


def _takes(params: tuple[s.Param, ...], count: int) -> bool:
    fixed = sum(not isinstance(p, s.RestParam) for p in params)
    return count == fixed or (count > fixed and fixed < len(params))


def _is_kirql(kind: s.Type) -> bool:
    return isinstance(kind, s.NamedType) and kind.name == KIRQL


def _parts(expr: s.Expr) -> Iterator[s.Expr]:
    """The expression and everything in it."""
    yield expr
    match expr:
        case s.Unary(_, operand) | s.Old(operand):
            yield from _parts(operand)
        case s.Binary(_, left, right):
            yield from _parts(left)
            yield from _parts(right)
        case _:
            pass


def _short(expr: s.Expr) -> str:
    text = expression(expr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_words(kind: s.Type) -> str:
    """What a value is, after `is`. The type of a constant or of a sum is a range of one number."""
    return "a number" if _is_number(kind) else f"of type `{type_text(kind)}`"


def _compared(kind: s.Type) -> str:
    return "a number" if _is_number(kind) else f"`{type_text(kind)}`"


def _is_number(kind: s.Type) -> bool:
    return isinstance(kind, s.IntType) and kind.low == kind.high


def _number_of(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def _declared_at(ref: s.Ref, meaning: Meaning) -> tuple[Note, ...]:
    return _declared_at_name(reference(ref), meaning)


def _declared_at_name(name: str, meaning: Meaning) -> tuple[Note, ...]:
    return () if meaning.span is None else (Note(f"`{name}` is declared here", meaning.span),)


def _covers(outer: Span, inner: Span) -> bool:
    return outer.source is inner.source and outer.start <= inner.start and inner.end <= outer.end
