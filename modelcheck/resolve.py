"""From files to a `Program`: imports followed, every declared name in one table, settings applied.

A model is untrusted input: an import names a shipped model, or a file in the folder of the model that is verified or
below it, symbolic links followed before that is decided. What is wrong with a declaration itself (declared twice, a
constant that is none) is kept in `Program.findings` and reported by `check` together with everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import TypeAlias

from modelcheck import syntax as s
from modelcheck.diagnostics import Code, Diagnostic, Note, Rejected, in_source_order
from modelcheck.parser import parse
from modelcheck.record import dataclass, field, replace
from modelcheck.source import Source, Span
from modelcheck.verdict import APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, NO_LEVEL, PASSIVE_LEVEL
from modelcheck.walk import (
    calls_in,
    every_call,
    every_expression,
    every_statement,
    lock_tests,
    references,
    substatements,
)

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_IMPORT_DEPTH = 50
INTERRUPT_LOCK_KIND = "KINTERRUPT"
RUN_LOCK_KIND = "RUN"
"""What a routine holds while a deferred object runs it, and what is acquired to wait for its end: `D.run`."""

BUILTIN_CONSTANTS = {
    "PASSIVE_LEVEL": PASSIVE_LEVEL,
    "APC_LEVEL": APC_LEVEL,
    "DISPATCH_LEVEL": DISPATCH_LEVEL,
    "DIRQL": 5,
    "HIGH_LEVEL": HIGH_LEVEL,
    "NO_WAIT": 0,
    "SOME_WAIT": 1,
    "WAIT_FOR_EVER": 2,
    "TRUE": 1,
    "FALSE": 0,
}
"""Known without any import. `NULL` is no number: as a timeout it means something else than 0."""

Named: TypeAlias = (
    s.SettingDecl
    | s.Const
    | s.EnumDecl
    | s.LockDecl
    | s.DeviceDecl
    | s.DataDecl
    | s.EventDecl
    | s.VarDecl
    | s.ContextVar
    | s.InterruptDecl
    | s.DeferredDecl
    | s.Routine
    | s.LockKind
    | s.HandleKind
)
"""Declarations whose names are all different. Roles, externs and scenarios have name spaces of their own."""


@dataclass(slots=True)
class Program:
    """Every declaration of a driver and its imports, by name. Device members and interrupt locks are qualified:
    `Port.Lock`, `Line.lock`. Complete once `resolve` returns; not changed afterwards."""

    driver: str
    root: Source
    sources: list[Source] = field(default_factory=list)
    own: set[Source] = field(default_factory=set)
    """The user's files; the others are shipped models."""
    constants: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, s.EnumType] = field(default_factory=dict)
    """Constants that are values of an enum by another name."""
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    enum_types: list[s.EnumType] = field(default_factory=list)
    """Every enum that is written anywhere, declared ones first."""
    enum_values: dict[str, int] = field(default_factory=dict)
    settings: dict[str, s.SettingDecl] = field(default_factory=dict)
    setting_values: dict[str, s.Expr] = field(default_factory=dict)
    lock_kinds: dict[str, s.LockKind] = field(default_factory=dict)
    handle_kinds: dict[str, s.HandleKind] = field(default_factory=dict)
    roles: dict[str, list[s.Role]] = field(default_factory=dict)
    externs: dict[str, list[s.Extern]] = field(default_factory=dict)
    locks: dict[str, s.LockDecl] = field(default_factory=dict)
    data: dict[str, s.DataDecl] = field(default_factory=dict)
    events: dict[str, s.EventDecl] = field(default_factory=dict)
    variables: dict[str, s.VarDecl] = field(default_factory=dict)
    context_variables: dict[str, s.ContextVar] = field(default_factory=dict)
    interrupts: dict[str, s.InterruptDecl] = field(default_factory=dict)
    deferred: dict[str, s.DeferredDecl] = field(default_factory=dict)
    runs: dict[str, list[str]] = field(default_factory=dict)
    """For each routine the deferred objects, or itself, whose `run` it holds while it runs: those whose end is waited
    for."""
    awaited: set[str] = field(default_factory=set)
    """The locks of roles (`holds`) that anybody acquires or asks for: runs of these roles hold them, and no others."""
    devices: dict[str, s.DeviceDecl] = field(default_factory=dict)
    routines: dict[str, s.Routine] = field(default_factory=dict)
    scenarios: dict[str, s.Scenario] = field(default_factory=dict)
    items: list[s.Item] = field(default_factory=list)
    """Every item of every file, imported ones first, as written."""
    findings: list[Diagnostic] = field(default_factory=list)
    """What is wrong with the declarations themselves; `check` reports it."""
    own_names: frozenset[str] = frozenset()
    """What the user's files declare."""

    def hides(self, ref: s.Ref) -> bool:
        """Whether the declaration of that name is out of sight: a shipped model sees nothing of the user's files, so
        that its enum constants mean what they mean whatever a driver calls its variables."""
        return ref.name in self.own_names and ref.span.source not in self.own

    def is_doubtful(self, lock: str) -> bool:
        """Whether it is not known if contexts that acquire a lock really wait for it."""
        declared = self.locks.get(lock.partition("[")[0])
        kind = None if declared is None else self.lock_kinds.get(declared.kind)
        return kind is not None and kind.doubtful

    def is_timer(self, name: str) -> bool:
        return name in self.deferred and self.deferred[name].kind is s.DeferredKind.TIMER

    def is_timed(self, routine: str) -> bool:
        """Whether a timer runs a routine: it may go off again."""
        return any(d.routine == routine and self.is_timer(name) for name, d in self.deferred.items())

    def is_service_routine(self, routine: str) -> bool:
        """Whether an interrupt runs a routine."""
        use = self.routines[routine].role
        return use is not None and any(role.kind is s.ContextKind.ISR for role in self.roles.get(use.name, ()))

    def run_by(self, name: str) -> tuple[str, ...]:
        """The routines that the system runs for what has this name: itself, those of a DPC, a timer or a work item, the
        service routines of an interrupt, those whose runs hold a lock."""
        if name in self.deferred:
            return (self.deferred[name].routine,)
        if name in self.routines:
            return (name,)
        if name not in self.interrupts:
            return self._holding(name)
        return tuple(
            routine.name
            for routine in self.routines.values()
            if routine.role is not None
            and any(role.kind is s.ContextKind.ISR for role in self.roles.get(routine.role.name, ()))
            and name in {ref.name for arg in routine.role.args for ref in references(arg)}
        )

    def disabled_by(self, name: str) -> tuple[tuple[str, bool], ...]:
        """The routines that begin no more for what has this name, each with whether that is certain: not where a lock
        stands for one of several, which is not known."""
        routines = self.run_by(name)
        roles = [use.name if (use := self.routines[routine].role) is not None else routine for routine in routines]
        doubtful = self.is_doubtful(name)
        return tuple((r, not doubtful or roles.count(role) == 1) for r, role in zip(routines, roles, strict=True))

    def ended_by(self, lock: str) -> tuple[str, ...]:
        """The routines that have run to their end, and begin no more unless they are enabled again, when somebody has
        acquired a lock exclusively: every run of them holds it. A timer may go off again, and what several objects run
        is run by the others."""
        objects = [(d.routine, f"{name}.run") for name, d in self.deferred.items()]
        alone = [routine for routine, _ in objects]
        runs = [routine for routine, run in objects if run == lock and alone.count(routine) == 1]
        return tuple(name for name in (*runs, *self._holding(lock)) if not self.is_timed(name))

    def _holding(self, lock: str) -> tuple[str, ...]:
        """The routines with a role whose runs hold a lock."""
        played = [(r.name, self.roles.get(r.role.name, ())) for r in self.routines.values() if r.role is not None]
        return tuple(name for name, roles in played if any(held.name == lock for role in roles for held in role.holds))

    def constant(self, expr: s.Expr) -> int | None:
        """The value of a constant expression, None if it is none. Names: constants, settings, enum constants, and the
        `level` of an interrupt."""
        return self._evaluate(expr, 2)

    def _evaluate(self, expr: s.Expr, steps: int) -> int | None:
        """`steps`: how often a setting or a level may be looked up on the way, so that a circle ends."""
        match expr:
            case s.Number(value):
                return value
            case s.Truth(value):
                return int(value)
            case s.Ref(name, ()):
                return self.enum_values.get(name) if self.hides(expr) else self._named_constant(name, steps)
            case s.Ref(name, (s.Member("level"),)) if name in self.interrupts and steps:
                return self._evaluate(self.interrupts[name].level, steps - 1)
            case s.Unary(op, operand):
                value_of = self._evaluate(operand, steps)
                if value_of is None:
                    return None
                return -value_of if op is s.UnaryOp.NEGATE else int(not value_of)
            case s.Binary(op, left, right):
                first, second = self._evaluate(left, steps), self._evaluate(right, steps)
                return None if first is None or second is None else apply(op, first, second)
            case _:
                return None

    def _named_constant(self, name: str, steps: int) -> int | None:
        if name in self.constants:
            return self.constants[name]
        if name in self.settings:
            return self._setting(self.settings[name], steps - 1) if steps else None
        return self.enum_values.get(name)

    def setting(self, name: str) -> int:
        """The value of a setting: the driver's, or the default of its declaration. Enum values as their index.

        Raises:
            KeyError: there is no such setting.
        """
        value = self._setting(self.settings[name], 1)
        return type_range(self, self.settings[name].type)[0] if value is None else value

    def _setting(self, declared: s.SettingDecl, steps: int) -> int | None:
        for expr in (self.setting_values.get(declared.name), declared.default):
            value = None if expr is None else self._of_type(declared.type, expr, steps)
            if value is not None:
                return value
        return None

    def constant_of(self, kind: s.Type, expr: s.Expr) -> int | None:
        """Like `constant`, where a value of type `kind` is wanted: an enum constant is looked up in that enum first."""
        return self._of_type(kind, expr, 2)

    def _of_type(self, kind: s.Type, expr: s.Expr, steps: int) -> int | None:
        values = enum_of(self, kind)
        if isinstance(expr, s.Ref) and not expr.selectors and expr.name in values:
            return values.index(expr.name)
        return self._evaluate(expr, steps)


def apply(op: s.BinaryOp, left: int, right: int) -> int | None:
    """`left op right` on whole numbers; None where it has no value (`% 0`). `%` has the sign of `left`, as in C."""
    match op:
        case s.BinaryOp.OR:
            return int(bool(left) or bool(right))
        case s.BinaryOp.AND:
            return int(bool(left) and bool(right))
        case s.BinaryOp.EQ:
            return int(left == right)
        case s.BinaryOp.NE:
            return int(left != right)
        case s.BinaryOp.LE:
            return int(left <= right)
        case s.BinaryOp.GE:
            return int(left >= right)
        case s.BinaryOp.LT:
            return int(left < right)
        case s.BinaryOp.GT:
            return int(left > right)
        case s.BinaryOp.ADD:
            return left + right
        case s.BinaryOp.SUB:
            return left - right
        case s.BinaryOp.MUL:
            return left * right
        case s.BinaryOp.MOD:
            if right == 0:
                return None
            rest = abs(left) % abs(right)
            return -rest if left < 0 else rest


def enum_of(program: Program, kind: s.Type) -> tuple[str, ...]:
    """The constants of an enum type in order; empty for any other type."""
    match kind:
        case s.EnumType(values):
            return values
        case s.NamedType(name):
            return program.enums.get(name, ())
        case _:
            return ()


def said(program: Program, kind: s.Type, arg: s.Expr) -> int | None:
    """Which constant of an enum is written; None if none is."""
    values = enum_of(program, kind)
    return values.index(arg.name) if isinstance(arg, s.Ref) and not arg.selectors and arg.name in values else None


def type_range(program: Program, kind: s.Type) -> tuple[int, int]:
    """The lowest and highest value of a type. A KIRQL reaches to `NO_LEVEL`: it may never have been written.

    Raises:
        KeyError: the type has no values (a handle kind, or a name that is not declared).
    """
    match kind:
        case s.BoolType():
            return 0, 1
        case s.IntType(low, high):
            return low, high
        case s.CounterType(limit):
            return 0, limit
        case s.EnumType(values):
            return 0, len(values) - 1
        case s.NamedType("KIRQL"):
            return 0, NO_LEVEL
        case s.NamedType(name):
            return 0, len(program.enums[name]) - 1


def qualified(ref: s.Ref) -> str:
    """The name in the tables a reference begins with: `Port.Lock` for `Port.Lock`, `Bucket` for `Bucket[i]`."""
    match ref:
        case s.Ref(name, (s.Member(member), *_)):
            return f"{name}.{member}"
        case _:
            return ref.name


RoleArguments: TypeAlias = dict[str, s.Ref | int]


def find_role(program: Program, use: s.RoleUse) -> tuple[s.Role, RoleArguments]:
    """The declared role a routine plays, and what each parameter of the role stands for there.

    Raises:
        KeyError: no declaration of that role takes these arguments.
    """
    for role in program.roles.get(use.name, ()):
        arguments = _match_role(program, role, use)
        if arguments is not None:
            return role, arguments
    raise KeyError(use.name)


def following(roles: Mapping[str, Sequence[s.Role]], name: str) -> tuple[str, ...]:
    """The roles that one follows, and those that these follow, the first first."""
    found: dict[str, None] = {}
    pending = [(name, False)]
    entered: set[str] = set()
    while pending:
        here, done = pending.pop()
        if done:
            found[here] = None
        elif here not in entered:
            entered.add(here)
            pending.append((here, True))
            pending += [(other.name, False) for role in roles.get(here, ()) for other in reversed(role.follows)]
    if not any(other.name == name for here in found for role in roles.get(here, ()) for other in role.follows):
        del found[name]  # it follows itself only if the model is wrong
    return tuple(found)


def comes_back(program: Program, role: s.Role) -> bool:
    """Whether a call-out to a role of that name can come back to routines of this one: a narrower form of it may be of
    another phase, and then its requests are none that a driver above sends by itself."""
    widest = next((other for other in program.roles[role.name] if not other.params), role)
    return (widest.phase or "run") == (role.phase or "run")


def _match_role(program: Program, role: s.Role, use: s.RoleUse) -> RoleArguments | None:
    if len(role.params) != len(use.args):
        return None
    arguments: RoleArguments = {}
    for param, arg in zip(role.params, use.args, strict=True):
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        match param:
            case s.OpaqueParam(name):
                if ref is None or ref.selectors or ref.name != name:
                    return None
            case s.ValueParam(kind, name):
                value = program.constant_of(kind, arg)
                if value is None:
                    return None
                arguments[name] = value
            case s.LockParam(name, kind_name):
                lock = None if ref is None else program.locks.get(qualified(ref))
                if ref is None or lock is None or kind_name not in (None, lock.kind):
                    return None
                if not _is_one_lock(program, lock, ref):
                    return None
                arguments[name] = ref
            case s.ObjectParam(object_kind, name):
                if ref is None or not _is_object(program, object_kind, ref):
                    return None
                arguments[name] = ref
            case s.RestParam():
                return None
    return arguments


def _is_one_lock(program: Program, lock: s.LockDecl, ref: s.Ref) -> bool:
    """Whether a reference names a lock, of a family by an index that is a constant and in range."""
    indices = [program.constant(part.value) for part in ref.selectors if isinstance(part, s.Index)]
    if lock.size is None:
        return not indices
    return len(indices) == 1 and indices[0] is not None and 0 <= indices[0] < lock.size


def _is_object(program: Program, kind: s.ObjectKind, ref: s.Ref) -> bool:
    match kind:
        case s.ObjectKind.INTERRUPT:
            return ref.name in program.interrupts and not ref.selectors
        case s.ObjectKind.EVENT:
            return qualified(ref) in program.events
        case s.ObjectKind.ROUTINE:
            return ref.name in program.routines and not ref.selectors
        case s.ObjectKind.DATA:
            return qualified(ref) in program.data
        case _:
            return True


def run_arguments(routine: s.Routine, run: s.Run) -> tuple[s.Expr, ...]:
    """The arguments of a `run`; opaque parameters may be left out, all of them, and stand for anything then."""
    opaque = [isinstance(param, s.OpaqueParam) for param in routine.params]
    if not any(opaque) or len(run.args) != opaque.count(False):
        return run.args
    given = iter(run.args)
    return tuple(s.Unknown(run.span) if left_out else next(given) for left_out in opaque)


def declarations(body: s.Block) -> Iterator[s.Declare]:
    """Every local declaration in a body, outer ones first."""
    pending: list[s.Stmt] = [body]
    while pending:
        stmt = pending.pop()
        if isinstance(stmt, s.Declare):
            yield stmt
        else:
            pending.extend(reversed(substatements(stmt)))


def _waits_for(stmt: s.Stmt, name: str) -> bool:
    """Whether a statement acquires what the object of that name holds while its routine runs."""
    match stmt:
        case s.Acquire(s.Ref(base, (s.Member("run"),))):
            return base == name
        case _:
            return any(_waits_for(inner, name) for inner in substatements(stmt))


def _uses(body: s.Block | None, clauses: Sequence[s.Clause]) -> tuple[set[str], set[str]]:
    """What a body and its clauses use: the locks they acquire or ask for, and the routines they call, by name."""
    locks, calls = set[str](), set[str]()
    asked = [clause.condition for clause in clauses if isinstance(clause, s.ConditionClause)]
    if body is not None:
        locks.update(stmt.lock.name for stmt in every_statement(body) if isinstance(stmt, s.Acquire))
        asked += every_expression(body)
    for expr in asked:
        locks.update(test.lock.name for test in lock_tests(expr))
        calls.update(call.name for call in every_call(expr))
    return locks, calls


def around_run(
    program: Program, routine: s.Routine, role: s.Role | None
) -> tuple[tuple[s.Acquire, ...], tuple[s.Release, ...]]:
    """What the system does before and behind a run of a routine, around the `entry` and `exit` of its role: it holds
    what others acquire who wait for the end of that run."""
    span = routine.span
    refs = [s.Ref(name, (s.Member("run", span),), span) for name in program.runs.get(routine.name, ())]
    if role is not None:
        given = {param.name for param in role.params if not isinstance(param, s.RestParam)}
        refs += [ref for ref in role.holds if ref.name in given or ref.name in program.awaited]
    taken = tuple(s.Acquire(ref, s.Mode.SHARED, None, span) for ref in refs)
    return taken, tuple(s.Release(ref, s.Mode.SHARED, None, span) for ref in reversed(refs))


# ---- reading files ----


def shipped_models() -> dict[str, Path]:
    """The models that come with modelcheck, by name: from the package or, in a checkout, from beside it."""
    here = Path(__file__).parent
    for folder in (here / "models", here.parent / "models"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.drvm"))}
    return {}


def read_source(path: Path, name: str | None = None, at: Span | None = None) -> Source:
    """The text of a model file; `at` is the import that asks for it.

    Raises:
        Rejected: it cannot be read, is too large, is not UTF-8.
    """
    shown = name or str(path)
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
            raise Rejected((Diagnostic(Code.UNREADABLE, f"`{shown}` {what}", at),))
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a valid path"
        raise Rejected((Diagnostic(Code.UNREADABLE, f"`{shown}` cannot be read: {why}", at),)) from None
    if len(content) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 2**20
        raise Rejected((Diagnostic(Code.TOO_LARGE, f"`{shown}` is larger than {limit} MiB", at),))
    try:
        return Source(shown, content.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        return _not_utf8(shown, path, content, error)


def _not_utf8(shown: str, path: Path, content: bytes, error: UnicodeDecodeError) -> Source:
    """Points at the first byte that is not UTF-8, in the text with such bytes replaced."""
    good = content[: error.start].decode("utf-8", errors="replace")
    source = Source(shown, content.decode("utf-8", errors="replace"), path)
    message = f"byte 0x{content[error.start]:02x} is not UTF-8"
    span = Span(source, len(good), len(good) + 1)
    raise Rejected((Diagnostic(Code.NOT_UTF8, message, span, help="save the file as UTF-8"),))


def resolve(path: Path) -> Program:
    """The program of the model file `path` and of everything it imports.

    Raises:
        Rejected: a file cannot be read or parsed, or an import leads nowhere.
    """
    path = Path(path)
    return _Resolver(path.parent).run(read_source(path))


def resolve_text(text: str, name: str = "<text>", folder: Path | None = None) -> Program:
    """The program of a model given as text. Files are imported from `folder`, none if it is None.

    Raises:
        Rejected: as for `resolve`.
    """
    return _Resolver(folder).run(Source(name, text))


@cache
def _shipped(path: Path, shown: str) -> tuple[Source, bool, s.Model]:
    """A shipped model, read once in a process: its text, that it is not the user's own, its tree.

    Raises:
        Rejected: it cannot be read or parsed.
    """
    source = read_source(path, shown)
    return source, False, parse(source)


class _Resolver:
    """Follows imports depth first and fills the tables in the order of the files."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else _real(folder)
        self.shipped = shipped_models()
        self.errors: list[Diagnostic] = []
        self.done: set[Path] = set()
        self.active: list[Path] = []
        self.declared: dict[str, Span] = {}

    def run(self, root: Source) -> Program:
        self.program = Program(driver=Path(root.name).stem, root=root, constants=dict(BUILTIN_CONSTANTS))
        self._load(root, own=True)
        if self.errors:
            raise Rejected(in_source_order(self.errors))
        for item in self.program.items:
            self._collect(item)
        self._enum_constants()
        own = self.program.own
        self.program.own_names = frozenset(name for name, span in self.declared.items() if span.source in own)
        for item in self.program.items:
            if isinstance(item, s.Const):
                self._constant(item)
        self._runs()
        self._awaited()
        self._driver()
        return self.program

    def _runs(self) -> None:
        """Declares `D.run` for the deferred objects, and `R.run` for the routines, that are given to a kernel routine
        which waits for them."""
        program = self.program
        waiting = {
            (name, number)
            for name, overloads in program.externs.items()
            for extern in overloads
            for number, param in enumerate(extern.params)
            if isinstance(param, s.ObjectParam) and extern.body is not None and _waits_for(extern.body, param.name)
        }
        bodies = [routine.body for routine in program.routines.values()] if waiting else []
        calls = [call for body in bodies for call in calls_in(body)]
        wanted = {
            arg.name
            for call in calls
            for number, given in enumerate(call.args)
            if (call.name, number) in waiting
            and isinstance(arg := given.ref if isinstance(given, s.Address) else given, s.Ref)
        }
        run_by = {name: item.routine for name, item in program.deferred.items()} | {
            name: name for name in program.routines
        }
        for name, routine in run_by.items():
            if name in wanted and routine in program.routines:
                lock = f"{name}.run"
                span = program.deferred[name].span if name in program.deferred else program.routines[name].span
                program.locks[lock] = s.LockDecl(lock, None, RUN_LOCK_KIND, False, True, False, span)
                program.runs.setdefault(routine, []).append(name)

    def _awaited(self) -> None:
        """Finds the locks of roles (`holds`) that the driver uses, in whatever form of a kernel routine."""
        program = self.program
        roles = [role for roles in program.roles.values() for role in roles]
        kept = {ref.name for role in roles for ref in role.holds} & program.locks.keys()
        parts: list[tuple[s.Block | None, Sequence[s.Clause]]] = []
        parts += [(block, ()) for role in roles for block in (role.entry, role.exit)]
        parts += [(routine.body, routine.clauses) for routine in program.routines.values()]
        called: set[str] = set()
        while kept and parts:
            locks, calls = _uses(*parts.pop())
            program.awaited |= locks & kept
            for name in calls - called:
                parts += [(form.body, form.clauses) for form in program.externs.get(name, ())]
            called |= calls

    # imports

    def _load(self, source: Source, own: bool, parsed: s.Model | None = None) -> None:
        """Parses a file, if that has not been done, and what it imports; its imports come before it in `items`."""
        path = None if source.path is None else _real(source.path)
        if path is not None:
            self.done.add(path)
            self.active.append(path)
        self.program.sources.append(source)
        if own:
            self.program.own.add(source)
        try:
            model = parse(source) if parsed is None else parsed
        except Rejected as rejected:
            self.errors.extend(rejected.diagnostics)
        else:
            if not model.items:
                self.errors.append(Diagnostic(Code.EMPTY, "the file declares nothing", Span(source, 0, 0)))
            for item in model.items:
                if isinstance(item, s.Import):
                    self._import(item, source, own)
            self.program.items.extend(model.items)
        if path is not None:
            self.active.pop()

    def _import(self, item: s.Import, source: Source, own: bool) -> None:
        path = self._local_path(item, source, own) if item.is_path else self._shipped_path(item)
        if path is None:
            return
        if path in self.active:
            message = f"`{_printable(item.name)}` imports itself, directly or through others"
            self.errors.append(Diagnostic(Code.CYCLIC_IMPORT, message, item.span))
        elif len(self.active) >= MAX_IMPORT_DEPTH:
            self.errors.append(Diagnostic(Code.TOO_DEEP, f"imports nest deeper than {MAX_IMPORT_DEPTH}", item.span))
        elif path not in self.done:
            shown = self._shown(path, item, source)
            try:
                if item.is_path:
                    self._load(read_source(path, shown, item.span), own)
                else:
                    self._load(*_shipped(path, shown))
            except Rejected as rejected:
                self.errors.extend(rejected.diagnostics)

    def _shown(self, path: Path, item: s.Import, source: Source) -> str:
        """What people call an imported file: its path as one would type it beside the importing one."""
        if not item.is_path:
            return f"models/{path.name}"
        return str(Path(source.name).parent / item.name) if source.path is not None else item.name

    def _shipped_path(self, item: s.Import) -> Path | None:
        if item.name in self.shipped:
            return _real(self.shipped[item.name])
        near = _nearest(item.name, self.shipped)
        known = ", ".join(f"`{name}`" for name in self.shipped)
        help_ = f"did you mean `{near[0]}`?" if near else f"shipped models: {known}" if known else None
        message = f"there is no shipped model `{item.name}`"
        self.errors.append(Diagnostic(Code.NO_SUCH_IMPORT, message, item.span, help=help_))
        return None

    def _local_path(self, item: s.Import, source: Source, own: bool) -> Path | None:
        """The file meant by `import "name";`, None with an error written down if it may not be read."""
        top = self.folder if own else None if source.path is None else _real(source.path.parent)
        base = top if source.path is None or not own else _real(source.path.parent)
        name = PureWindowsPath(item.name)  # on any system: `..\\x` leaves the folder, and `a\\b` is in a folder below
        path = None if base is None or "\0" in item.name or name.drive else _real(base / name.as_posix())
        if top is None or path is None or not path.is_relative_to(top):
            message = f'`"{_printable(item.name)}"` is outside the folder of the model'
            help_ = "import files of the same folder or below it, or a shipped model by its name"
            self.errors.append(Diagnostic(Code.IMPORT_OUTSIDE, message, item.span, help=help_))
            return None
        if not _is_file(path):
            near = _nearest(path.name, _names_in(path.parent))
            hint = f"did you mean `{near[0]}`?" if near else None
            message = f'there is no file `"{_printable(item.name)}"`'
            self.errors.append(Diagnostic(Code.NO_SUCH_IMPORT, message, item.span, help=hint))
            return None
        return path

    # tables

    def _collect(self, item: s.Item) -> None:
        program = self.program
        match item:
            case s.Driver() | s.Import():
                return
            case s.Setting():
                self._setting(item)
                return
            case s.Role():
                program.roles.setdefault(item.name, []).append(item)
                return
            case s.Extern():
                self._extern(item)
                return
            case s.Scenario():
                first = program.scenarios.setdefault(item.name, item)
                if first is not item:
                    self._twice(f"scenario {item.name}", item.name, item.span, first.span)
                return
        if not self._new(item.name, item.span):
            return
        match item:
            case s.SettingDecl():
                program.settings[item.name] = item
            case s.EnumDecl():
                program.enums[item.name] = item.values
            case s.LockDecl():
                program.locks[item.name] = item
            case s.DeviceDecl():
                self._device(item)
            case s.DataDecl():
                program.data[item.name] = item
            case s.EventDecl():
                program.events[item.name] = item
            case s.VarDecl():
                program.variables[item.name] = item
            case s.ContextVar():
                program.context_variables[item.name] = item
            case s.InterruptDecl():
                program.interrupts[item.name] = item
                name = f"{item.name}.lock"
                program.locks[name] = s.LockDecl(name, None, INTERRUPT_LOCK_KIND, False, True, False, item.span)
            case s.DeferredDecl():
                program.deferred[item.name] = item
            case s.Routine():
                program.routines[item.name] = item
            case s.LockKind():
                program.lock_kinds[item.name] = item
            case s.HandleKind():
                program.handle_kinds[item.name] = item

    def _new(self, name: str, span: Span) -> bool:
        """Whether a name is declared here for the first time; if not, that is a finding."""
        if name in BUILTIN_CONSTANTS or name in {"KIRQL", "NULL", "none"}:
            self.program.findings.append(Diagnostic(Code.RESERVED, f"`{name}` has a meaning of its own", span))
            return False
        first = self.declared.setdefault(name, span)
        if first is not span:
            self._twice(name, name, span, first)
            return False
        return True

    def _twice(self, what: str, name: str, span: Span, first: Span) -> None:
        note = Note(f"`{name}` is declared here first", first)
        self.program.findings.append(Diagnostic(Code.DECLARED_TWICE, f"`{what}` is declared twice", span, (note,)))

    def _extern(self, item: s.Extern) -> None:
        overloads = self.program.externs.setdefault(item.name, [])
        overloads.append(item)
        first = self.declared.setdefault(item.name, item.span)
        if first is not item.span and first is not overloads[0].span:
            self._twice(item.name, item.name, item.span, first)

    def _setting(self, item: s.Setting) -> None:
        first = self.program.setting_values.get(item.name)
        if first is not None:
            self._twice(f"setting {item.name}", item.name, item.span, first.span)
            return
        self.program.setting_values[item.name] = item.value

    def _device(self, device: s.DeviceDecl) -> None:
        """Members go into the tables under qualified names; their guards are qualified too."""
        program = self.program
        program.devices[device.name] = device
        own_locks = {m.name for m in device.members if isinstance(m, s.LockDecl)}
        seen: dict[str, Span] = {}
        for member in device.members:
            first = seen.setdefault(member.name, member.span)
            name = f"{device.name}.{member.name}"
            if first is not member.span:
                self._twice(name, name, member.span, first)
                continue
            match member:
                case s.LockDecl():
                    program.locks[name] = replace(member, name=name)
                case s.EventDecl():
                    program.events[name] = replace(member, name=name)
                case s.DataDecl():
                    guards = _in_device(device.name, own_locks, member.guards)
                    program.data[name] = replace(member, name=name, guards=guards)
                case s.VarDecl():
                    guards = _in_device(device.name, own_locks, member.guards)
                    program.variables[name] = replace(member, name=name, guards=guards)

    def _enum_constants(self) -> None:
        self.program.enum_types.extend(_types(self.program.items))
        for kind in self.program.enum_types:
            for index, value in enumerate(kind.values):
                self.program.enum_values.setdefault(value, index)

    def _constant(self, item: s.Const) -> None:
        value = self.program.constant(item.value)
        if value is None:
            message = f"the value of `{item.name}` is not a constant"
            help_ = "use numbers and constants declared before it"
            self.program.findings.append(Diagnostic(Code.NOT_CONSTANT, message, item.value.span, help=help_))
            value = 0
        if self.declared.get(item.name) is item.span:
            self.program.constants[item.name] = value
            of_enum = self._enum_of(item.value)
            if of_enum is not None:
                self.program.renamed[item.name] = of_enum

    def _enum_of(self, value: s.Expr) -> s.EnumType | None:
        """The enum that a constant's value is one of; None for a number, or where it could be of several."""
        program = self.program
        if not isinstance(value, s.Ref) or value.selectors or value.name in program.settings:
            return None
        if value.name in program.constants:
            return program.renamed.get(value.name)
        kinds = {kind.values: kind for kind in reversed(program.enum_types) if value.name in kind.values}
        return next(iter(kinds.values())) if len(kinds) == 1 else None

    def _driver(self) -> None:
        """`driver NAME;` stands once, in the file that is verified."""
        root = self.program.root
        drivers = [i for i in self.program.items if isinstance(i, s.Driver) and i.span.source is root]
        if not drivers:
            message = "the model does not say which driver it is of"
            help_ = f"begin it with `driver {_identifier(Path(root.name).stem)};`"
            self.program.findings.append(Diagnostic(Code.NO_DRIVER, message, Span(root, 0, 0), help=help_))
            return
        self.program.driver = drivers[0].name
        for other in drivers[1:]:
            self._twice("driver", "driver", other.span, drivers[0].span)


def _in_device(device: str, locks: set[str], guards: tuple[s.Ref, ...]) -> tuple[s.Ref, ...]:
    """Guards that name a lock of the device itself, as they are named outside of it."""
    return tuple(
        s.Ref(device, (s.Member(g.name, g.span), *g.selectors), g.span) if g.name in locks else g for g in guards
    )


def _types(items: Iterable[s.Item]) -> Iterator[s.EnumType]:
    """Every enum written anywhere, declared ones as types too."""
    for item in items:
        if isinstance(item, s.EnumDecl):
            yield s.EnumType(item.values, item.span)
    for item in items:
        yield from (kind for kind in _types_of(item) if isinstance(kind, s.EnumType))


def _types_of(item: s.Item) -> Iterator[s.Type]:
    match item:
        case s.SettingDecl() | s.VarDecl() | s.ContextVar():
            yield item.type
        case s.DeviceDecl(_, members):
            yield from (m.type for m in members if isinstance(m, s.VarDecl))
        case s.LockKind() | s.HandleKind():
            yield from (f.type for f in item.fields if isinstance(f, s.Field))
        case s.Routine() | s.Extern():
            yield from (p.type for p in item.params if isinstance(p, s.ValueParam))
            if item.result is not None:
                yield item.result
            if item.body is not None:
                yield from (d.type for d in declarations(item.body))
        case s.Role():
            yield from (p.type for p in item.params if isinstance(p, s.ValueParam))
            yield from (d.type for block in (item.entry, item.exit) if block for d in declarations(block))


def _real(path: Path) -> Path:
    """The path with symbolic links followed; a loop of links stays as it is."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


def _is_file(path: Path) -> bool:
    """False too for a path that the system cannot even look up."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """The most similar of some names, if one is similar."""
    from difflib import get_close_matches

    return get_close_matches(name, list(names), n=1)


def _names_in(folder: Path) -> list[str]:
    try:
        return [p.name for p in folder.glob("*.drvm")]
    except OSError:
        return []


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _identifier(text: str) -> str:
    word = "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
    return word if word and not word[0].isdigit() else f"d_{word}"
