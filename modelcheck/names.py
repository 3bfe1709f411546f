"""What a name means at a place of a model: its sort, its type, what may stand behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.printer import reference, type_text
from modelcheck.record import dataclass, replace
from modelcheck.resolve import INTERRUPT_LOCK_KIND, RUN_LOCK_KIND, Program, enum_of
from modelcheck.source import Source, Span

KIRQL = "KIRQL"
MAX_SUGGESTIONS = 50
MAX_CANDIDATES = 5_000


class Sort(StrEnum):
    """What can be declared, in the words of a message."""

    VARIABLE = "a variable"
    CONSTANT = "a constant"
    LOCK = "a lock"
    FAMILY = "a family of locks"
    HANDLE = "a handle"
    TARGET = "the lock of a handle"
    DATA = "data"
    EVENT = "an event"
    INTERRUPT = "an interrupt"
    DEFERRED = "a DPC, timer or work item"
    DEVICE = "a device"
    ROUTINE = "a routine"
    TIMEOUT = "a timeout"
    OPAQUE = "an opaque parameter"
    ROLE = "a role"
    KIND = "a type"
    UNKNOWN = "something undeclared"


VALUES = frozenset({Sort.VARIABLE, Sort.CONSTANT, Sort.TIMEOUT, Sort.UNKNOWN})
"""The sorts that have a value to compute with."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """`type` is that of a value, `kind` the lock kind, handle kind or device, `size` that of a family.

    `belongs_to_model`: drivers only read it. `local`: a parameter or a variable of the routine.
    """

    sort: Sort
    span: Span | None = None
    type: s.Type | None = None
    kind: str | None = None
    size: int | None = None
    belongs_to_model: bool = False
    local: bool = False


UNKNOWN = Meaning(Sort.UNKNOWN)
LEVEL = s.NamedType(KIRQL, Span(Source("<built in>", ""), 0, 0))


class Suggestions:
    """Names that were perhaps meant. Looking for them is slow, so only the first few findings get one."""

    def __init__(self) -> None:
        self.left = MAX_SUGGESTIONS

    def nearest(self, name: str, candidates: Iterable[str]) -> str | None:
        if self.left <= 0 or len(name) > 60:
            return None
        self.left -= 1
        from difflib import get_close_matches

        lower = {c.lower(): c for c in candidates if abs(len(c) - len(name)) <= 3 and c != name}
        some = dict(list(lower.items())[:MAX_CANDIDATES])
        found = get_close_matches(name.lower(), some, n=1, cutoff=0.75)
        return some[found[0]] if found else None

    def help(self, name: str, candidates: Iterable[str]) -> str | None:
        near = self.nearest(name, candidates)
        return None if near is None else f"did you mean `{near}`?"


class Names:
    """The names that are visible: globals, then parameters and locals in frames. `report` takes what is wrong."""

    def __init__(self, program: Program, report: Callable[[Diagnostic], None], suggestions: Suggestions) -> None:
        self.program = program
        self.report = report
        self.suggestions = suggestions
        self.globals = _globals(program)
        self.frames: list[dict[str, Meaning]] = []
        self.enum_indices = _enum_indices(program)

    def error(self, code: Code, message: str, span: Span, *notes: Note, help: str | None = None) -> None:
        self.report(Diagnostic(code, message, span, notes, help))

    def declare(self, name: str, meaning: Meaning) -> None:
        """In the innermost frame. A name means one thing in a routine: an inner block may not declare it again."""
        for frame in self.frames:
            first = frame.get(name)
            if first is not None and meaning.span is not None:
                note = Note(f"`{name}` is declared here first", first.span)
                self.error(Code.DECLARED_TWICE, f"`{name}` is declared twice in this routine", meaning.span, note)
                return
        self.frames[-1][name] = replace(meaning, local=True)

    def lookup(self, name: str) -> Meaning | None:
        for frame in reversed(self.frames):
            if name in frame:
                return frame[name]
        return self.globals.get(name)

    def meant(self, ref: s.Ref) -> Meaning | None:
        """What the name of a reference is declared as, as far as it is seen from there."""
        if self.program.hides(ref):
            return next((frame[ref.name] for frame in reversed(self.frames) if ref.name in frame), None)
        return self.lookup(ref.name)

    def visible(self) -> list[str]:
        """Every name a user could have meant here."""
        inner = [name for frame in self.frames for name in frame]
        return [*inner, *self.globals, *self.enum_indices]

    def undeclared(self, name: str, span: Span) -> None:
        message = f"`{name}` is not declared"
        self.error(Code.UNDECLARED, message, span, help=self.suggestions.help(name, self.visible()))

    # references

    def resolve(self, ref: s.Ref, wanted: s.Type | None = None) -> Meaning:
        """What a reference means; `wanted` is the type expected here, which decides about enum constants.

        Reports what is wrong with it, and then is `UNKNOWN`.
        """
        meaning = self.meant(ref)
        if meaning is None and not ref.selectors:
            meaning = self._enum_constant(ref, wanted)
        if meaning is None:
            if ref.name in self.program.roles:
                self.error(Code.WRONG_SORT, f"`{ref.name}` is a role, not an object", ref.span)
            else:
                self.undeclared(ref.name, Span(ref.span.source, ref.span.start, ref.span.start + len(ref.name)))
            return UNKNOWN
        seen = ref.name
        for selector in ref.selectors:
            if meaning.sort is Sort.UNKNOWN:
                return UNKNOWN
            meaning = self._select(meaning, seen, selector)
            seen += f".{selector.name}" if isinstance(selector, s.Member) else "[..]"
        return meaning

    def _enum_constant(self, ref: s.Ref, wanted: s.Type | None) -> Meaning | None:
        if wanted is not None and ref.name in enum_of(self.program, wanted):
            return Meaning(Sort.CONSTANT, type=wanted)
        enums = self.enum_indices.get(ref.name)
        if not enums:
            return None
        if len({e.values.index(ref.name) for e in enums}) > 1 and wanted is None:
            notes = tuple(Note("it stands in this enum", e.span) for e in enums[:3])
            message = f"`{ref.name}` is in several enums, and it cannot be told here which one is meant"
            self.error(Code.TYPE, message, ref.span, *notes)
            return UNKNOWN
        return Meaning(Sort.CONSTANT, type=enums[0])

    def _select(self, meaning: Meaning, seen: str, selector: s.Member | s.Index) -> Meaning:
        if isinstance(selector, s.Index):
            return self._element(meaning, seen, selector)
        name = selector.name
        found = self._member(meaning, name)
        if found is not None:
            return found
        members = self._members(meaning)
        if meaning.sort is Sort.FAMILY:
            self.error(Code.WRONG_SORT, f"`{seen}` is a family of locks: say which one is meant", selector.span)
        elif not members:
            self.error(Code.WRONG_SORT, f"`{seen}` is {meaning.sort} and has no member `{name}`", selector.span)
        else:
            help_ = self.suggestions.help(name, members) or f"it has {', '.join(f'`{m}`' for m in members[:8])}"
            self.error(Code.UNDECLARED, f"`{seen}` has no member `{name}`", selector.span, help=help_)
        return UNKNOWN

    def _element(self, meaning: Meaning, seen: str, selector: s.Index) -> Meaning:
        if meaning.sort is not Sort.FAMILY or meaning.size is None:
            self.error(Code.WRONG_SORT, f"`{seen}` is {meaning.sort}, not a family of locks", selector.span)
            return UNKNOWN
        index = None if self.mentions_local(selector.value) else self.program.constant(selector.value)
        if index is not None and not 0 <= index < meaning.size:
            message = f"`{seen}` has the locks 0 to {meaning.size - 1}, not {index}"
            self.error(Code.OUT_OF_RANGE, message, selector.span)
        return replace(meaning, sort=Sort.LOCK, size=None)

    def _member(self, meaning: Meaning, name: str) -> Meaning | None:
        match meaning.sort:
            case Sort.DEVICE:
                return self.globals.get(f"{meaning.kind}.{name}")
            case Sort.INTERRUPT if name == "lock":
                return Meaning(Sort.LOCK, meaning.span, kind=INTERRUPT_LOCK_KIND)
            case Sort.ROUTINE | Sort.DEFERRED if name == "run" and meaning.local:
                return Meaning(Sort.LOCK, meaning.span, kind=RUN_LOCK_KIND)
            case Sort.INTERRUPT if name == "level":
                return Meaning(Sort.CONSTANT, meaning.span, LEVEL)
            case Sort.OPAQUE:
                context = self.program.context_variables.get(name)
                return None if context is None else self.globals[name]
            case Sort.LOCK | Sort.TARGET:
                return self._lock_field(meaning.kind, name)
            case Sort.HANDLE if meaning.kind is not None:
                return self._handle_field(meaning.kind, name)
            case _:
                return None

    def _lock_field(self, kind: str | None, name: str) -> Meaning | None:
        """A field of a lock; where its kind is open, of any kind that has one of that name."""
        kinds = self.program.lock_kinds
        some = kinds.values() if kind is None else [kinds[kind]] if kind in kinds else []
        for declared in some:
            for field in declared.fields:
                if field.name == name:
                    return Meaning(Sort.VARIABLE, field.span, field.type, belongs_to_model=True)
        return None

    def _handle_field(self, kind: str, name: str) -> Meaning | None:
        declared = self.program.handle_kinds.get(kind)
        for field in () if declared is None else declared.fields:
            if field.name == name:
                if isinstance(field, s.LockField):
                    return Meaning(Sort.TARGET, field.span, belongs_to_model=True)
                return Meaning(Sort.VARIABLE, field.span, field.type, belongs_to_model=True)
        return None

    def _members(self, meaning: Meaning) -> list[str]:
        match meaning.sort:
            case Sort.DEVICE if meaning.kind in self.program.devices:
                return [m.name for m in self.program.devices[meaning.kind].members]
            case Sort.INTERRUPT:
                return ["lock", "level"]
            case Sort.OPAQUE:
                return list(self.program.context_variables)
            case Sort.LOCK if meaning.kind in self.program.lock_kinds:
                return [f.name for f in self.program.lock_kinds[meaning.kind].fields]
            case Sort.HANDLE if meaning.kind in self.program.handle_kinds:
                return [f.name for f in self.program.handle_kinds[meaning.kind].fields]
            case _:
                return []

    # constants and types

    def mentions_local(self, expr: s.Expr) -> bool:
        """Whether a name in the expression is a parameter or a local variable."""
        match expr:
            case s.Ref(name, selectors):
                return any(name in frame for frame in self.frames) or any(
                    isinstance(x, s.Index) and self.mentions_local(x.value) for x in selectors
                )
            case s.Unary(_, operand) | s.Old(operand):
                return self.mentions_local(operand)
            case s.Binary(_, left, right):
                return self.mentions_local(left) or self.mentions_local(right)
            case s.Address(ref):
                return self.mentions_local(ref)
            case _:
                return False

    def constant(self, expr: s.Expr, wanted: s.Type | None) -> int | None:
        """The value of an expression that is constant here."""
        if self.mentions_local(expr):
            return None
        return self.program.constant(expr) if wanted is None else self.program.constant_of(wanted, expr)

    def describe(self, ref: s.Ref, meaning: Meaning) -> str:
        """`QueueLock` is a lock of kind KSPIN_LOCK, as a message says it."""
        if meaning.sort is Sort.LOCK and meaning.kind is not None:
            return f"`{reference(ref)}` is a {meaning.kind}"
        if meaning.sort in VALUES and meaning.type is not None:
            return f"`{reference(ref)}` is {meaning.sort} of type `{type_text(meaning.type)}`"
        return f"`{reference(ref)}` is {meaning.sort}"


def type_meaning(program: Program, kind: s.Type, span: Span) -> Meaning | None:
    """What a variable or parameter of a type is; None if the type is not declared."""
    match kind:
        case s.NamedType(name) if name in program.handle_kinds:
            return Meaning(Sort.HANDLE, span, kind=name)
        case s.NamedType(name) if name in program.devices:
            return Meaning(Sort.DEVICE, span, kind=name)
        case s.NamedType(name) if name != KIRQL and name not in program.enums:
            return None
        case _:
            return Meaning(Sort.VARIABLE, span, kind)


_OBJECTS = {
    s.ObjectKind.INTERRUPT: Sort.INTERRUPT,
    s.ObjectKind.EVENT: Sort.EVENT,
    s.ObjectKind.ROUTINE: Sort.ROUTINE,
    s.ObjectKind.TIMEOUT: Sort.TIMEOUT,
    s.ObjectKind.ANY: Sort.OPAQUE,
    s.ObjectKind.DATA: Sort.DATA,
}


def param_meaning(program: Program, param: s.Param) -> Meaning | None:
    """What a parameter is inside; None for `...` and for a type that is not declared."""
    match param:
        case s.LockParam(_, kind):
            return Meaning(Sort.LOCK, param.span, kind=kind)
        case s.ValueParam(kind_, _):
            return type_meaning(program, kind_, param.span)
        case s.ObjectParam(kind__, _):
            return Meaning(_OBJECTS[kind__], param.span)
        case s.OpaqueParam():
            return Meaning(Sort.OPAQUE, param.span)
        case s.RestParam():
            return None


def _globals(program: Program) -> dict[str, Meaning]:
    """Everything with a name of its own that can stand in a reference; members are qualified."""
    known: dict[str, Meaning] = {}
    for name, value in program.constants.items():
        known[name] = Meaning(Sort.CONSTANT, type=program.renamed.get(name) or s.IntType(value, value, LEVEL.span))
    for setting in program.settings.values():
        known[setting.name] = Meaning(Sort.CONSTANT, setting.span, setting.type)
    for name, lock in program.locks.items():
        sort = Sort.LOCK if lock.size is None else Sort.FAMILY
        known[name] = Meaning(sort, lock.span, kind=lock.kind, size=lock.size)
    for name, variable in program.variables.items():
        known[name] = Meaning(Sort.VARIABLE, variable.span, variable.type)
    for name, context in program.context_variables.items():
        known[name] = Meaning(Sort.VARIABLE, context.span, context.type, belongs_to_model=True)
    known |= {name: Meaning(Sort.DATA, d.span) for name, d in program.data.items()}
    known |= {name: Meaning(Sort.EVENT, e.span) for name, e in program.events.items()}
    known |= {name: Meaning(Sort.INTERRUPT, i.span) for name, i in program.interrupts.items()}
    known |= {name: Meaning(Sort.DEFERRED, d.span) for name, d in program.deferred.items()}
    known |= {name: Meaning(Sort.DEVICE, d.span, kind=name) for name, d in program.devices.items()}
    known |= {name: Meaning(Sort.ROUTINE, r.span) for name, r in program.routines.items()}
    known |= {name: Meaning(Sort.ROUTINE, e[0].span) for name, e in program.externs.items()}
    for kinds in (program.lock_kinds, program.handle_kinds):
        known |= {name: Meaning(Sort.KIND, k.span) for name, k in kinds.items()}
    known["NULL"] = Meaning(Sort.TIMEOUT)
    return known


def _enum_indices(program: Program) -> dict[str, list[s.EnumType]]:
    """For each enum constant the different enums it stands in."""
    found: dict[str, list[s.EnumType]] = {}
    for kind in program.enum_types:
        for value in kind.values:
            known = found.setdefault(value, [])
            if kind not in known:
                known.append(kind)
    return found
