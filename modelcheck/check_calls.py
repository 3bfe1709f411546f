"""Checks calls: of routines, kernel routines in one of their forms, routines that nobody has described."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from modelcheck import syntax as s
from modelcheck.check_values import ValueCheck, declared_at, declared_at_name, is_kirql, short
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.names import (
    Meaning,
    Sort,
    type_meaning,
)
from modelcheck.printer import parameter, reference, signature, type_text
from modelcheck.record import dataclass
from modelcheck.resolve import Program, said
from modelcheck.source import Span


@cache
def documented(name: str) -> bool:
    """Whether the driver reference documents a kernel routine of that name, modelled or not."""
    try:
        from modelcheck.documented import lookup
    except ImportError:
        return False
    return lookup(name) is not None


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


class CallCheck(ValueCheck):
    """Checks calls and their arguments."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.form: s.Extern | None = None
        self.extern_calls: dict[int, list[tuple[s.Extern, Span]]] = {}
        """By the identity of the calling form: which forms it calls, and where."""
        self.given: list[Given] = []
        """What calls give parameters that take locks of any kind."""
        self._call_types: dict[int, s.Type | None] = {}

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
            self.error(Code.WRONG_SORT, f"{what}, not a routine", call.span, *declared_at_name(call.name, meaning))
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
            self.error(Code.ARGUMENT_KIND, message, arg.span, *declared_at(ref, meaning))

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
                text = short(arg).lstrip("&")
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
            case s.ValueParam(kind_, if_said=True) if said(self.program, kind_, arg) is None:
                self._no_calls(arg, callee)
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
                self.error(Code.ARGUMENT_KIND, message, ref.span, *declared_at(ref, meaning))
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
            is_kirql(meaning.type) == is_kirql(kind)
        )
        if have != want or not (alike or have):
            message = f"{self.names.describe(ref, meaning)}, but `{callee}` writes a `{type_text(kind)}`"
            self.error(Code.ARGUMENT_KIND, message, ref.span, *declared_at(ref, meaning))

    def _wants(self, arg: s.Expr, param: s.Param, callee: str) -> None:
        message = f"`{callee}` wants `{parameter(param)}` here, and `{short(arg)}` is none"
        if isinstance(arg, s.Ref) and self._silently(arg).sort is Sort.UNKNOWN:
            self.names.resolve(arg)
        else:
            self.error(Code.ARGUMENT_KIND, message, arg.span)


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


def _takes(params: tuple[s.Param, ...], count: int) -> bool:
    fixed = sum(not isinstance(p, s.RestParam) for p in params)
    return count == fixed or (count > fixed and fixed < len(params))


def _number_of(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
