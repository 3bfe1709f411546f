"""Runs one context of a driver on plain values, straight from docs/language.md, sections 2 to 6.

It exists to check others: counterexamples are replayed here, and the tests explore all runs of small models with it. So
it shares nothing with the encoding or the engines. A routine becomes a flat list of instructions for a stack machine;
a `State` is a value that can be copied and compared, and `Machine.step` runs one step of it. Whatever the model leaves
open is asked of the caller: `choose(name, allowed)`, in the order of the table of choices in section 4.

A failed obligation is reported and the run goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from modelcheck import syntax as s
from modelcheck.documented import lookup
from modelcheck.resolve import Program, apply, enum_of, find_role, qualified, type_range
from modelcheck.source import Span
from modelcheck.verdict import (
    APC_LEVEL,
    DISPATCH_LEVEL,
    HIGH_LEVEL,
    NO_LEVEL,
    PASSIVE_LEVEL,
    Choice,
    Obligation,
    Property,
    Trace,
)

MAX_FRAMES = 10_000
"""Calls that may be active at once; a run that needs more is reported as too deep."""
MAX_COUNT = 6
"""A lock held that often is held "six or more" times."""
RETURNED = "returned"
"""Why a run is over that got to the end of its root."""
ANY_TAG = "*"
"""The tag of a hold that a clause describes without naming one: every release fits it."""
UNINITIALISED, INITIALISED, FREED = 0, 1, 2

Target: TypeAlias = tuple[object, ...]
"""What a reference denotes while running: ("lock", name), ("var", name), ("slot", frame, key), ..."""
Value: TypeAlias = int | str | Target | None
"""A number, the name of a lock in a handle's lock field, an object passed by reference, or nothing."""
Choose: TypeAlias = Callable[[str, tuple[int, ...]], int]
Hold: TypeAlias = tuple[bool, int, str | None]
"""How a lock is held: shared, how often, tag."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What others leave and do, as one root sees it.

    `starts`: values a shared variable may have at the start (missing: as declared). `others`: values written meanwhile
    to a shared variable or a ghost field `L.use` (missing: none). `lives`: states a lock's life may be in at the start
    (0 uninitialised, 1 initialised, 2 freed; missing: initialised).
    """

    starts: Mapping[str, frozenset[int]] = field(default_factory=dict)
    others: Mapping[str, frozenset[int]] = field(default_factory=dict)
    lives: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """An obligation that failed in a step. `why` is the text of a `require` or of a clause, else ""."""

    code: Property
    routine: str
    span: Span
    subject: str
    why: str = ""

    def breaks(self, obligation: Obligation) -> bool:
        """Whether it is this obligation that failed: same property, routine and place; subject and reason as far as
        both say them."""
        same_place = (
            self.span.source.name == obligation.span.source.name
            and self.span.start <= max(obligation.span.end, obligation.span.start + 1)
            and obligation.span.start <= max(self.span.end, self.span.start + 1)
        )
        return (
            self.code == obligation.code
            and self.routine == obligation.routine
            and same_place
            and (self.subject == obligation.subject or not self.subject or self.code.startswith("I"))
            and (not self.why or not obligation.why or self.why in obligation.why)
        )


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did: where it stands, how deep in calls, and the obligations that failed in it."""

    routine: str
    depth: int
    span: Span
    failures: tuple[Failure, ...]


# ---- domains and places ----


@dataclass(frozen=True, slots=True)
class Domain:
    """The values of a scalar type. `counter`: the highest means "that many or more"; `level`: a KIRQL."""

    low: int
    high: int
    values: tuple[str, ...] = ()
    counter: bool = False
    level: bool = False
    exact: bool = False
    """Leaving the range breaks C04: not so for truth values and counters."""

    @property
    def open(self) -> tuple[int, ...]:
        """What `*` of this type can be."""
        return tuple(range(self.low, (HIGH_LEVEL if self.level else self.high) + 1))

    @property
    def initial(self) -> int:
        """The value of one that was never written."""
        return NO_LEVEL if self.level else self.low


BOOL = Domain(0, 1)
LEVELS = Domain(0, NO_LEVEL, level=True, exact=True)
TIMEOUTS = Domain(0, 2, exact=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A reference whose names are resolved: a base, then members. `sort` says what it denotes, `kind` which lock or
    handle kind that is; `indexed`: the index of a lock family is on the stack."""

    base: Target
    bound: bool
    members: tuple[tuple[str, str], ...]
    indexed: bool
    sort: str
    domain: Domain | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """A parameter or local variable while compiling. `bound`: its slot holds what it refers to."""

    slot: str
    bound: bool
    sort: str
    domain: Domain | None = None
    kind: str | None = None


# ---- instructions ----


@dataclass(slots=True, eq=False)
class Mark:
    """An address of the code, known once it is placed."""

    at: int = -1


@dataclass(frozen=True, slots=True)
class Push:
    value: Value


@dataclass(frozen=True, slots=True)
class Load:
    place: Place


@dataclass(frozen=True, slots=True)
class Point:
    """Push what the place denotes, not its value."""

    place: Place


@dataclass(frozen=True, slots=True)
class Negate:
    op: s.UnaryOp


@dataclass(frozen=True, slots=True)
class Combine:
    op: s.BinaryOp


@dataclass(frozen=True, slots=True)
class Truth:
    """Turn the top of the stack into 0 or 1."""


@dataclass(frozen=True, slots=True)
class Star:
    allowed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Level:
    pass


@dataclass(frozen=True, slots=True)
class IsHeld:
    place: Place
    mode: s.Mode | None


@dataclass(frozen=True, slots=True)
class NoneHeld:
    spin_only: bool


@dataclass(frozen=True, slots=True)
class Pop:
    pass


@dataclass(frozen=True, slots=True)
class Jump:
    target: Mark


@dataclass(frozen=True, slots=True)
class Branch:
    """Jump if the top of the stack is `when`; `keep` leaves it there when jumping."""

    when: bool
    target: Mark
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    cases: tuple[tuple[int, Mark], ...]
    default: Mark


@dataclass(frozen=True, slots=True)
class Pend:
    """Remember where to go on after the `finally` block that is entered next."""

    target: Mark


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Unpend:
    pass


@dataclass(frozen=True, slots=True)
class EnterAtomic:
    pass


@dataclass(frozen=True, slots=True)
class Begin:
    """A statement or condition begins. `reads`: what it reads, in order of first reading."""

    span: Span
    reads: tuple[Place, ...]
    atomic: bool


@dataclass(frozen=True, slots=True)
class End:
    pass


@dataclass(frozen=True, slots=True)
class Store:
    """`counts_down`: the value is the variable itself less this number."""

    place: Place
    name: str
    counts_down: int = 0


@dataclass(frozen=True, slots=True)
class Fresh:
    """A declaration without a value."""

    slot: str
    name: str
    local: Local


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call with as many values or targets on the stack as the callee has parameters."""

    callee: s.Routine | s.Extern
    span: Span


@dataclass(frozen=True, slots=True)
class CallUnmodelled:
    """A call of a routine that no model describes. What the `outputs` on the stack refer to may hold anything after it;
    `result`: the type of what it gives back, where that is used."""

    name: str
    span: Span
    outputs: tuple[tuple[str, Domain], ...]
    result: Domain | None


@dataclass(frozen=True, slots=True)
class CallBack:
    place: Place
    count: int
    span: Span


@dataclass(frozen=True, slots=True)
class Result:
    """Keep the top of the stack as the result of the frame."""


@dataclass(frozen=True, slots=True)
class Suppose:
    pass


@dataclass(frozen=True, slots=True)
class Check:
    code: Property
    why: str


@dataclass(frozen=True, slots=True)
class Touch:
    place: Place
    write: bool


@dataclass(frozen=True, slots=True)
class LockOp:
    """`init`, `free`, `acquire`, `release`, `convert`, `try_acquire`, `try_convert`."""

    verb: str
    place: Place
    mode: s.Mode = s.Mode.EXCLUSIVE
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    up: bool


@dataclass(frozen=True, slots=True)
class MayBlock:
    pass


@dataclass(frozen=True, slots=True)
class Boundary:
    """The end of a step of the system: of a role's `entry` or `exit`."""

    span: Span


@dataclass(frozen=True, slots=True)
class Spend:
    """Time passes, in ns."""

    nanoseconds: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a root: B03 for each lock, I02."""


Instruction: TypeAlias = (
    Push
    | Load
    | Point
    | Negate
    | Combine
    | Truth
    | Star
    | Level
    | IsHeld
    | NoneHeld
    | Pop
    | Jump
    | Branch
    | Select
    | Pend
    | Resume
    | Unpend
    | EnterAtomic
    | Begin
    | End
    | Store
    | Fresh
    | Invoke
    | CallUnmodelled
    | CallBack
    | Result
    | Suppose
    | Check
    | Touch
    | LockOp
    | Change
    | MayBlock
    | Boundary
    | Finish
    | Spend
    | Spend
)
SILENT = (Jump, Branch, Select, Pend, Resume, Unpend, EnterAtomic)
"""What runs between two steps."""


@dataclass(slots=True, eq=False)
class Code:
    """The instructions of a body and what is known about its routine. `conditions`: clauses as code of their own;
    `olds`: operands of `old(e)` with the slots that keep them."""

    name: str
    is_routine: bool
    instructions: list[Instruction]
    params: tuple[tuple[s.Param, Local], ...] = ()
    clauses: tuple[s.Clause, ...] = ()
    conditions: dict[int, Code] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    olds: list[tuple[str, Code]] = field(default_factory=list)
    locals: tuple[Local, ...] = ()
    paged: bool = False
    span: Span | None = None
    result: Domain | None = None

    @property
    def has_always(self) -> bool:
        return any(isinstance(c, s.ConditionClause) and c.kind is s.ClauseKind.ALWAYS for c in self.clauses)


@dataclass(slots=True)
class Frame:
    """One active body. `site`: the call in the routine that an extern's body belongs to; None for a routine."""

    code: Code
    pc: int
    stack: list[Value]
    slots: dict[str, Value]
    span: Span
    site: Span | None
    callee: str
    depth: int
    pending: list[int] = field(default_factory=list)
    result: Value = None
    fresh: bool = False
    level: int = 0
    holds: dict[str, Hold] = field(default_factory=dict)

    def copy(self) -> Frame:
        return Frame(
            self.code,
            self.pc,
            list(self.stack),
            dict(self.slots),
            self.span,
            self.site,
            self.callee,
            self.depth,
            list(self.pending),
            self.result,
            self.fresh,
            self.level,
            self.holds,
        )

    def key(self) -> Hashable:
        return (
            id(self.code),
            self.pc,
            tuple(self.stack),
            frozenset(self.slots.items()),
            self.span.start,
            None if self.site is None else self.site.start,
            tuple(self.pending),
            self.result,
            self.fresh,
            self.level,
            frozenset(self.holds.items()),
        )


@dataclass(slots=True)
class State:
    """Everything a context's future depends on. `ended`: why the run is over, "" while it goes on. `goes_on`: whether
    the driver goes on to later phases after it."""

    root: str
    frames: list[Frame]
    irql: int
    store: dict[Target, Value]
    holds: dict[str, Hold]
    lives: dict[str, int]
    clocks: dict[str, int] = field(default_factory=dict)
    """How long each spin lock has been held, in ns; stops just above the limit."""
    ended: str = ""
    goes_on: bool = True

    def copy(self) -> State:
        return State(
            self.root,
            [f.copy() for f in self.frames],
            self.irql,
            dict(self.store),
            dict(self.holds),
            dict(self.lives),
            dict(self.clocks),
            self.ended,
            self.goes_on,
        )

    def key(self) -> Hashable:
        return (
            self.root,
            tuple(f.key() for f in self.frames),
            self.irql,
            frozenset(self.store.items()),
            frozenset(self.holds.items()),
            frozenset(self.lives.items()),
            frozenset(self.clocks.items()),
            self.ended,
            self.goes_on,
        )


class Over(Exception):
    """The run ends inside a step: it waits for ever, or an assumption does not hold."""


class Divergence(Exception):
    """A trace is not a run."""


# ---- from the syntax tree to instructions ----


class _Tables:
    """What the compiler and the machine ask about declarations."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.instances: dict[str, s.LockDecl] = {}
        for name, lock in program.locks.items():
            names = [name] if lock.size is None else [f"{name}[{i}]" for i in range(lock.size)]
            self.instances.update(dict.fromkeys(names, lock))

    def domain(self, kind: s.Type | None) -> Domain | None:
        """The values of a type; None for handles and devices."""
        match kind:
            case None:
                return None
            case s.NamedType("KIRQL"):
                return LEVELS
            case s.NamedType(name) if name not in self.program.enums:
                return None
        low, high = type_range(self.program, kind)
        counter = isinstance(kind, s.CounterType)
        exact = not counter and not isinstance(kind, s.BoolType)
        return Domain(low, high, enum_of(self.program, kind), counter, exact=exact)

    def local(self, kind: s.Type, slot: str, bound: bool) -> Local:
        """A variable of that type."""
        domain = self.domain(kind)
        if domain is not None:
            return Local(slot, bound, "value", domain)
        assert isinstance(kind, s.NamedType)
        if kind.name in self.program.devices:
            return Local(slot, True, "device", None, kind.name)
        return Local(slot, bound, "handle", None, kind.name)

    def lock_field(self, kind: str | None, name: str) -> Domain | None:
        """The type of a field of a lock; of any kind that has it where the kind is not known."""
        kinds = self.program.lock_kinds.values() if kind is None else [self.program.lock_kinds[kind]]
        found = [f for k in kinds for f in k.fields if f.name == name]
        return self.domain(found[0].type) if found else None

    def spins(self, lock: str) -> bool:
        kind = self.kind_of(lock)
        return kind is not None and kind.spins

    def kind_of(self, lock: str) -> s.LockKind | None:
        decl = self.instances.get(lock)
        return None if decl is None else self.program.lock_kinds.get(decl.kind)

    def guards_of(self, guards: Iterable[s.Ref]) -> tuple[str, ...]:
        """The full names of the locks that guard something."""
        names = []
        for guard in guards:
            name = qualified(guard)
            index = next((x.value for x in guard.selectors if isinstance(x, s.Index)), None)
            value = None if index is None else self.program.constant(index)
            names.append(name if value is None else f"{name}[{value}]")
        return tuple(names)


class _Compiler:
    """Turns one body into instructions. `regions` are the `try` statements around the place that is compiled."""

    def __init__(self, tables: _Tables, name: str, is_routine: bool) -> None:
        self.tables = tables
        self.program = tables.program
        self.code = Code(name, is_routine, [])
        self.scopes: list[dict[str, Local]] = [{}]
        self.reads: list[Place] = []
        self.loops: list[tuple[Mark, Mark | None, int]] = []
        self.regions: list[tuple[int, str]] = []
        self.tries: dict[int, tuple[Mark, Mark]] = {}
        self.labels: dict[str, tuple[Mark, tuple[tuple[int, str], ...]]] = {}
        self.atomic = False
        self.leave = Mark()
        self.count = 0

    # the whole body

    def routine(self, item: s.Routine | s.Extern) -> Code:
        """The code of a routine or extern, its clauses included."""
        code = self.code
        code.params = tuple((p, self._param(p)) for p in item.params)
        code.clauses = item.clauses
        code.span = item.span
        code.result = self.tables.domain(item.result)
        code.paged = isinstance(item, s.Routine) and item.paged
        if code.result is not None:
            self.scopes[0].setdefault("result", Local("$result", False, "value", code.result))
        for number, clause in enumerate(item.clauses):
            match clause:
                case s.ConditionClause(_, condition):
                    code.conditions[number] = self._apart(condition, BOOL)
                case s.RaisesClause(level):
                    code.conditions[number] = self._apart(level, LEVELS)
                case s.LockClause(_, ref):
                    code.conditions[number] = self._apart_ref(ref)
        if item.body is not None:
            self.scopes = [{local.slot: local for _, local in code.params}]
            self.body(item.body)
        return code

    def body(self, block: s.Block) -> None:
        self._labels(block, ())
        self.block(block)
        self.place(self.leave)

    def _param(self, param: s.Param) -> Local:
        match param:
            case s.LockParam(name, kind):
                local = Local(name, True, "lock", None, kind)
            case s.ValueParam(kind, name, by_ref):
                local = self.tables.local(kind, name, by_ref)
                if local.sort == "handle":
                    local = Local(name, True, "handle", None, local.kind)
            case s.ObjectParam(kind, name):
                value = kind is s.ObjectKind.TIMEOUT
                local = Local(name, not value, "value" if value else str(kind), TIMEOUTS if value else None)
            case s.OpaqueParam(name):
                local = Local(name, True, "opaque")
            case s.RestParam():
                return Local("...", True, "any")
        self.scopes[0][local.slot] = local
        return local

    def _apart(self, expr: s.Expr, want: Domain) -> Code:
        """The code of an expression on its own, which leaves its value on the stack."""
        return self._detached(lambda: self.expr(expr, want))

    def _apart_ref(self, ref: s.Ref) -> Code:
        return self._detached(lambda: self.emit(Point(self.ref(ref))))

    def _detached(self, build: Callable[[], None]) -> Code:
        saved, self.code = self.code, Code(self.code.name, self.code.is_routine, [], olds=self.code.olds)
        build()
        built, self.code = self.code, saved
        return built

    # emitting

    def emit(self, instruction: Instruction) -> None:
        self.code.instructions.append(instruction)

    def place(self, mark: Mark) -> None:
        mark.at = len(self.code.instructions)

    def statement(self, span: Span, build: Callable[[], None]) -> None:
        """One step: what others may have written to what it reads is asked before anything else."""
        at = len(self.code.instructions)
        self.reads = []
        self.emit(Begin(span, (), self.atomic))
        build()
        self.code.instructions[at] = Begin(span, tuple(dict.fromkeys(self.reads)), self.atomic)
        self.emit(End())

    # names

    def find(self, name: str) -> Local | None:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def ref(self, ref: s.Ref) -> Place:
        """The place a reference names; emits the value of its index, if it has one."""
        base, bound, sort, domain, kind, selectors = self._base(ref)
        members: list[tuple[str, str]] = []
        indexed = False
        for selector in selectors:
            if isinstance(selector, s.Index):
                self.expr(selector.value, None)
                indexed = True
                continue
            members.append((sort, selector.name))
            sort, domain, kind = self._member(sort, kind, selector.name)
        return Place(base, bound, tuple(members), indexed, sort, domain, kind)

    def _base(self, ref: s.Ref) -> tuple[Target, bool, str, Domain | None, str | None, tuple[s.Member | s.Index, ...]]:
        name, selectors = ref.name, ref.selectors
        program = self.program
        local = self.find(name)
        if local is not None:
            return ("slot", local.slot), local.bound, local.sort, local.domain, local.kind, selectors
        if program.hides(ref):
            return ("opaque", name), False, "opaque", None, None, selectors
        if name in program.devices and selectors and isinstance(selectors[0], s.Member):
            name, selectors = qualified(ref), selectors[1:]
        if name in program.variables:
            return self._variable("var", name, program.variables[name].type, selectors)
        if name in program.context_variables:
            return self._variable("ctx", name, program.context_variables[name].type, selectors)
        if name in program.locks:
            return ("lock", name), False, "lock", None, program.locks[name].kind, selectors
        for table, sort in (
            (program.data, "data"),
            (program.events, "event"),
            (program.interrupts, "interrupt"),
            (program.routines, "routine"),
            (program.deferred, "deferred"),
            (program.devices, "device"),
        ):
            if name in table:
                return (sort, name), False, sort, None, name if sort == "device" else None, selectors
        return ("opaque", name), False, "opaque", None, None, selectors

    def _variable(
        self, base: str, name: str, kind: s.Type, selectors: tuple[s.Member | s.Index, ...]
    ) -> tuple[Target, bool, str, Domain | None, str | None, tuple[s.Member | s.Index, ...]]:
        local = self.tables.local(kind, name, False)
        return (base, name), False, local.sort, local.domain, local.kind, selectors

    def _member(self, sort: str, kind: str | None, name: str) -> tuple[str, Domain | None, str | None]:
        program = self.program
        match sort:
            case "lock":
                return "value", self.tables.lock_field(kind, name), None
            case "handle":
                assert kind is not None
                found = next(f for f in program.handle_kinds[kind].fields if f.name == name)
                if isinstance(found, s.LockField):
                    return "lock", None, None
                return "value", self.tables.domain(found.type), None
            case "interrupt":
                return ("value", LEVELS, None) if name == "level" else ("lock", None, None)
            case "device":
                full = f"{kind}.{name}"
                if full in program.locks:
                    return "lock", None, program.locks[full].kind
                if full in program.variables:
                    return "value", self.tables.domain(program.variables[full].type), None
                return ("data" if full in program.data else "event"), None, None
            case _:
                if name in program.context_variables:
                    local = self.tables.local(program.context_variables[name].type, name, False)
                    return local.sort, local.domain, local.kind
                return "opaque", None, None

    # expressions

    def domain_of(self, expr: s.Expr) -> Domain | None:
        """The type of an expression as far as it is needed to give `*` and enum constants theirs."""
        match expr:
            case s.Ref():
                return self._detached_place(expr).domain
            case s.Irql():
                return LEVELS
            case s.Old(operand):
                return self.domain_of(operand)
            case s.Call(name):
                found = self.program.routines.get(name) or next(iter(self.program.externs.get(name, ())), None)
                return None if found is None else self.tables.domain(found.result)
            case s.Binary(s.BinaryOp.ADD | s.BinaryOp.SUB | s.BinaryOp.MUL | s.BinaryOp.MOD, left, right):
                return self.domain_of(left) or self.domain_of(right)
            case s.Unary(s.UnaryOp.NEGATE, operand):
                return self.domain_of(operand)
            case s.Unary() | s.Binary() | s.Held() | s.Truth() | s.TryAcquire() | s.TryConvert() | s.NoLocks():
                return BOOL
            case _:
                return None

    def _detached_place(self, ref: s.Ref) -> Place:
        """The place of a reference, without a trace in the code or in what the statement reads."""
        found: list[Place] = []
        reads = list(self.reads)
        self._detached(lambda: found.append(self.ref(ref)))
        self.reads = reads
        return found[0]

    def expr(self, expr: s.Expr, want: Domain | None) -> None:
        """Emit code that leaves the value of `expr` on the stack; `want` is the type a `*` has."""
        match expr:
            case s.Number(value):
                self.emit(Push(value))
            case s.Truth(value):
                self.emit(Push(int(value)))
            case s.Unknown():
                self.emit(Star((want or BOOL).open))
            case s.Irql():
                self.emit(Level())
            case s.Ref():
                self._read(expr, want)
            case s.Address(ref):
                self.emit(Point(self.ref(ref)))
            case s.Unary(op, operand):
                self.expr(operand, BOOL if op is s.UnaryOp.NOT else want)
                self.emit(Negate(op))
            case s.Binary(s.BinaryOp.OR | s.BinaryOp.AND as op, left, right):
                end = Mark()
                self.expr(left, BOOL)
                self.emit(Truth())
                self.emit(Branch(op is s.BinaryOp.OR, end, keep=True))
                self.emit(Pop())
                self.expr(right, BOOL)
                self.emit(Truth())
                self.place(end)
            case s.Binary(op, left, right):
                arithmetic = op in (s.BinaryOp.ADD, s.BinaryOp.SUB, s.BinaryOp.MUL, s.BinaryOp.MOD)
                self.expr(left, self.domain_of(right) or (want if arithmetic else None))
                self.expr(right, self.domain_of(left) or (want if arithmetic else None))
                self.emit(Combine(op))
            case s.Held(ref, mode):
                self.emit(IsHeld(self.ref(ref), mode))
            case s.NoLocks(spin_only):
                self.emit(NoneHeld(spin_only))
            case s.Old(operand):
                slot = f"$old{len(self.code.olds)}"
                self.code.olds.append((slot, self._apart(operand, want or BOOL)))
                self.emit(Load(Place(("slot", slot), False, (), False, "value")))
            case s.TryAcquire(ref, mode, tag):
                self.emit(LockOp("try_acquire", self.ref(ref), mode, tag))
            case s.TryConvert(ref):
                self.emit(LockOp("try_convert", self.ref(ref)))
            case s.Call():
                self.call(expr, want)

    def _read(self, ref: s.Ref, want: Domain | None) -> None:
        name = ref.name
        if not ref.selectors and self.find(name) is None:
            if want is not None and name in want.values:
                self.emit(Push(want.values.index(name)))
                return
            if name == "none" and name not in self.program.enum_values:
                self.emit(Push(None))
                return
            constant = self.program.constant(ref)
            if constant is not None:
                self.emit(Push(constant))
                return
        place = self.ref(ref)
        if place.sort == "value":
            self.reads.append(place)
            self.emit(Load(place))
        elif place.sort == "lock":
            self.emit(Load(place))
        else:
            self.emit(Point(place))

    # calls

    def call(self, call: s.Call, want: Domain | None) -> None:
        """Arguments from left to right, then the call; its result is on the stack."""
        routine = self.program.routines.get(call.name)
        callee: s.Routine | s.Extern | None = routine or self._overload(call)
        if callee is None:
            self.unmodelled(call, want)
            return
        for number, param in enumerate(callee.params):
            if isinstance(param, s.RestParam):
                break
            self.argument(param, call.args[number] if number < len(call.args) else None)
        self.emit(Invoke(callee, call.span))

    def unmodelled(self, call: s.Call, want: Domain | None) -> None:
        outputs = []
        for arg in call.args:
            place = self._detached_place(arg.ref) if isinstance(arg, s.Address) else None
            if place is not None and place.sort == "value" and place.domain is not None:
                assert isinstance(arg, s.Address)
                self.emit(Point(self.ref(arg.ref)))
                outputs.append((arg.ref.name, place.domain))
        self.emit(CallUnmodelled(call.name, call.span, tuple(outputs), want))

    def argument(self, param: s.Param, arg: s.Expr | None) -> None:
        """Emit what is handed over for one parameter."""
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        match param:
            case s.LockParam() if ref is not None:
                self.emit(Point(self.ref(ref)))
            case s.ValueParam(kind, _, by_ref):
                domain = self.tables.domain(kind)
                if ref is not None and (by_ref or domain is None):
                    self.emit(Point(self.ref(ref)))
                elif arg is not None:
                    self.expr(arg, domain)
            case s.ObjectParam(s.ObjectKind.TIMEOUT):
                self.timeout(arg)
            case s.ObjectParam(s.ObjectKind.ANY) | s.OpaqueParam() | s.RestParam():
                self.emit(Push(None))
            case s.ObjectParam() if ref is not None and ref.name != "NULL":
                self.emit(Point(self.ref(ref)))
            case _:
                self.emit(Push(None))

    def timeout(self, arg: s.Expr | None) -> None:
        """NULL waits for ever, 0 not at all, another number some time; `*` may be any of them."""
        match arg:
            case s.Ref("NULL", ()):
                self.emit(Push(2))
                return
            case s.Ref(name, ()) if (local := self.find(name)) is not None and local.domain is TIMEOUTS:
                self.emit(Load(self.ref(arg)))
                return
            case s.Ref("NO_WAIT" | "SOME_WAIT" | "WAIT_FOR_EVER", ()):
                self.emit(Push(self.program.constants[arg.name]))
                return
        value = None if arg is None else self.program.constant(arg)
        self.emit(Star(TIMEOUTS.open) if value is None else Push(int(value != 0)))

    def _overload(self, call: s.Call) -> s.Extern | None:
        """The first extern of that name that takes this number and sort of arguments."""
        overloads = self.program.externs.get(call.name, ())
        return next((e for e in overloads if self._fits(e, call.args)), next(iter(overloads), None))

    def _fits(self, extern: s.Extern, args: tuple[s.Expr, ...]) -> bool:
        params = extern.params
        if params and isinstance(params[-1], s.RestParam):
            params = params[:-1]
            args = args[: len(params)]
        return len(params) == len(args) and all(map(self._takes, params, args))

    def _takes(self, param: s.Param, arg: s.Expr) -> bool:
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        place = None if ref is None else self._detached_place(ref)
        match param:
            case s.LockParam(_, kind):
                if place is None or place.sort != "lock":
                    return False
                return kind is None or place.kind is None or place.kind == kind
            case s.ValueParam(kind, _, by_ref):
                if self.tables.domain(kind) is None:
                    return place is not None and place.sort in ("handle", "device") and place.kind == _type_name(kind)
                if by_ref:
                    return place is not None and place.sort == "value" and place.domain is not None
                return not isinstance(arg, s.Address) and (
                    place is None
                    or place.sort == "value"
                    or (ref is not None and self.program.constant_of(kind, ref) is not None)
                )
            case s.ObjectParam(s.ObjectKind.INTERRUPT | s.ObjectKind.EVENT | s.ObjectKind.DATA as kind):
                return place is not None and place.sort in (str(kind), "opaque")
            case s.ObjectParam(s.ObjectKind.ROUTINE):
                return place is not None and place.sort in ("routine", "deferred", "opaque")
            case _:
                return True

    # statements

    def block(self, block: s.Block) -> None:
        self.scopes.append({})
        for stmt in block.body:
            self.stmt(stmt)
        self.scopes.pop()

    def stmt(self, stmt: s.Stmt) -> None:
        match stmt:
            case s.Block():
                self.block(stmt)
            case s.If(arms, otherwise):
                end = Mark()
                for arm in arms:
                    other = Mark()
                    self.condition(arm.condition)
                    self.emit(Branch(False, other))
                    self.block(arm.body)
                    self.emit(Jump(end))
                    self.place(other)
                if otherwise is not None:
                    self.block(otherwise)
                self.place(end)
            case s.While(condition, body):
                self.loop(None, condition, None, body)
            case s.For(start, condition, step, body):
                self.loop(start, condition, step, body)
            case s.DoWhile(body, condition):
                top, again, end = Mark(), Mark(), Mark()
                self.place(top)
                self.looped(body, end, again)
                self.place(again)
                self.condition(condition)
                self.emit(Branch(True, top))
                self.place(end)
            case s.Switch(subject, cases):
                self.switch(stmt.span, subject, cases)
            case s.Goto(label):
                target, path = self.labels[label]
                self.exit_to(target, path)
            case s.Label(name):
                self.place(self.labels[name][0])
            case s.Jump(s.JumpKind.LEAVE):
                number = next(n for n, part in reversed(self.regions) if part == "body")
                self.exit_to(self.tries[number][0], (), keep=self._depth_of(number) + 1)
            case s.Jump(kind):
                self.jump(kind)
            case s.Try(body, final):
                self.try_(stmt, body, final)
            case s.Atomic(body):
                outer, self.atomic = self.atomic, True
                if not outer:
                    self.emit(EnterAtomic())
                self.block(body)
                self.atomic = outer
            case s.Return(value):
                self.statement(stmt.span, lambda: self.returned(value))
                self.exit_to(self.leave, ())
            case s.Declare():
                self.declare(stmt)
            case _:
                self.statement(stmt.span, lambda: self.simple(stmt))

    def jump(self, kind: s.JumpKind) -> None:
        """`break` and `continue`; a switch takes no `continue`."""
        for out, again, keep in reversed(self.loops):
            target = out if kind is s.JumpKind.BREAK else again
            if target is not None:
                self.exit_to(target, (), keep=keep)
                return

    def condition(self, condition: s.Expr) -> None:
        self.statement(condition.span, lambda: self.expr(condition, BOOL))

    def loop(self, start: s.Stmt | None, condition: s.Expr | None, step: s.Stmt | None, body: s.Block) -> None:
        top, again, end = Mark(), Mark(), Mark()
        if start is not None:
            self.stmt(start)
        self.place(top)
        if condition is not None:
            self.condition(condition)
            self.emit(Branch(False, end))
        self.looped(body, end, again)
        self.place(again)
        if step is not None:
            self.stmt(step)
        self.emit(Jump(top))
        self.place(end)

    def looped(self, body: s.Block, end: Mark, again: Mark) -> None:
        self.loops.append((end, again, len(self.regions)))
        self.block(body)
        self.loops.pop()

    def switch(self, span: Span, subject: s.Expr, cases: tuple[s.Case, ...]) -> None:
        domain = self.domain_of(subject)
        end = Mark()
        marks = [Mark() for _ in cases]
        table: list[tuple[int, Mark]] = []
        default = end
        for case, mark in zip(cases, marks, strict=True):
            if case.value is None:
                default = mark
                continue
            enum = domain.values if domain is not None else ()
            named = isinstance(case.value, s.Ref) and case.value.name in enum
            value = enum.index(case.value.name) if named else self.program.constant(case.value)  # type: ignore[union-attr]
            if value is not None:
                table.append((value, mark))
        self.statement(span, lambda: self.expr(subject, domain))
        self.emit(Select(tuple(table), default))
        self.scopes.append({})
        self.loops.append((end, None, len(self.regions)))
        for case, mark in zip(cases, marks, strict=True):
            self.place(mark)
            for stmt in case.body:
                self.stmt(stmt)
        self.loops.pop()
        self.scopes.pop()
        self.place(end)

    def try_(self, stmt: s.Try, body: s.Block, final: s.Block) -> None:
        """The `finally` block is there once; whoever enters it says where to go on."""
        number = id(stmt)
        entry, end = self.tries[number]
        self.regions.append((number, "body"))
        self.block(body)
        self.regions.pop()
        self.emit(Pend(end))
        self.place(entry)
        self.regions.append((number, "final"))
        self.block(final)
        self.regions.pop()
        self.emit(Resume())
        self.place(end)

    def _depth_of(self, number: int) -> int:
        return next(i for i, (n, _) in enumerate(self.regions) if n == number)

    def exit_to(self, target: Mark, path: tuple[tuple[int, str], ...], keep: int | None = None) -> None:
        """Jump to `target`, running the `finally` blocks that are left on the way. `path`: the regions around the
        target; or `keep`: how many of the present ones stay."""
        if keep is None:
            keep = 0
            while keep < min(len(path), len(self.regions)) and path[keep] == self.regions[keep]:
                keep += 1
        for number, part in reversed(self.regions[keep:]):
            if part == "final":
                self.emit(Unpend())
            elif self.tries[number][0] is not target:
                after = Mark()
                self.emit(Pend(after))
                self.emit(Jump(self.tries[number][0]))
                self.place(after)
        for number, part in path[keep:]:
            if part == "final":
                self.emit(Pend(self.tries[number][1]))
        if any(target is entry for entry, _ in self.tries.values()):  # `leave`
            self.emit(Pend(next(end for entry, end in self.tries.values() if entry is target)))
        self.emit(Jump(target))

    def _labels(self, stmt: s.Stmt, path: tuple[tuple[int, str], ...]) -> None:
        """Finds every label with the `try` statements around it, and gives every `try` its addresses."""
        match stmt:
            case s.Label(name):
                self.labels[name] = (Mark(), path)
            case s.Block(body):
                for inner in body:
                    self._labels(inner, path)
            case s.If(arms, otherwise):
                for arm in arms:
                    self._labels(arm.body, path)
                if otherwise is not None:
                    self._labels(otherwise, path)
            case s.While(_, body) | s.DoWhile(body) | s.Atomic(body) | s.For(_, _, _, body):
                self._labels(body, path)
            case s.Switch(_, cases):
                for case in cases:
                    for inner in case.body:
                        self._labels(inner, path)
            case s.Try(body, final):
                self.tries[id(stmt)] = (Mark(), Mark())
                self._labels(body, (*path, (id(stmt), "body")))
                self._labels(final, (*path, (id(stmt), "final")))

    def returned(self, value: s.Expr | None) -> None:
        if value is not None:
            self.expr(value, self.code.result)
            self.emit(Result())

    def declare(self, stmt: s.Declare) -> None:
        self.count += 1
        local = self.tables.local(stmt.type, f"{stmt.name}#{self.count}", False)

        def build() -> None:
            if stmt.value is not None and local.domain is not None:
                self.expr(stmt.value, local.domain)
                self.scopes[-1][stmt.name] = local
                self.emit(Store(Place(("slot", local.slot), False, (), False, "value", local.domain), stmt.name))
            else:
                self.scopes[-1][stmt.name] = local
                self.emit(Fresh(local.slot, stmt.name, local))

        self.statement(stmt.span, build)

    def simple(self, stmt: s.Stmt) -> None:
        """The code of a statement that is one step."""
        match stmt:
            case s.Assign(target, value):
                self.assign(target, value)
            case s.CallStmt(call):
                self.call(call, None)
                self.emit(Pop())
            case s.Assume(condition):
                self.expr(condition, BOOL)
                self.emit(Suppose())
            case s.Assert(condition):
                self.expr(condition, BOOL)
                self.emit(Check(Property.C01, condition.span.text))
            case s.Access(write, data):
                self.emit(Touch(self.ref(data), write))
            case s.Init(lock):
                self.emit(LockOp("init", self.ref(lock)))
            case s.Free(lock):
                self.emit(LockOp("free", self.ref(lock)))
            case s.Acquire(lock, mode, tag):
                self.emit(LockOp("acquire", self.ref(lock), mode, tag))
            case s.Release(lock, mode, tag):
                self.emit(LockOp("release", self.ref(lock), mode, tag))
            case s.Convert(lock, mode):
                self.emit(LockOp("convert", self.ref(lock), mode))
            case s.Cost(nanoseconds):
                self.emit(Spend(nanoseconds))
            case s.Raise(level) | s.Lower(level):
                self.expr(level, LEVELS)
                self.emit(Change(isinstance(stmt, s.Raise)))
            case s.Blocks():
                self.emit(MayBlock())
            case s.Require(condition, code, why):
                self.expr(condition, BOOL)
                self.emit(Check(Property(code), why))
            case s.Callback(name, args):
                for arg in args:
                    self.expr(arg, None)
                self.emit(CallBack(self.ref(s.Ref(name, (), stmt.span)), len(args), stmt.span))

    def assign(self, target: s.Ref, value: s.Expr) -> None:
        place = self.ref(target)
        if place.sort == "lock":
            if isinstance(value, s.Ref) and value.name == "none" and self.find("none") is None:
                self.emit(Push(None))
            else:
                self.expr(value, None)
        else:
            self.expr(value, place.domain)
        down = 0
        if isinstance(value, s.Binary) and value.op is s.BinaryOp.SUB and value.left == target:
            down = self.program.constant(value.right) or 0
        self.emit(Store(place, _text(target), down))


def _type_name(kind: s.Type) -> str | None:
    return kind.name if isinstance(kind, s.NamedType) else None


def _text(ref: s.Ref) -> str:
    """A reference as written, without its index."""
    return ".".join((ref.name, *(x.name for x in ref.selectors if isinstance(x, s.Member))))


# ---- running ----


class Machine:
    """Runs the roots of a program, one step at a time, under one environment. Compiled bodies are kept."""

    def __init__(self, program: Program, environment: Environment | None = None) -> None:
        self.program = program
        self.environment = environment or Environment()
        self.limit = 1000 * (program.setting("hold_limit_us") if "hold_limit_us" in program.settings else 25)
        """How long a spin lock may be held, in ns."""
        self.tables = _Tables(program)
        self.codes: dict[int, Code] = {}
        self.harnesses: dict[str, Code] = {}
        self.guards = {name: self.tables.guards_of(v.guards) for name, v in program.variables.items()}
        self.data_guards = {name: self.tables.guards_of(d.guards) for name, d in program.data.items()}
        self.ghosts = {
            (lock, f.name)
            for lock in self.tables.instances
            for f in (self.tables.kind_of(lock) or _NO_KIND).fields
            if f.ghost
        }
        self.initial = self._initial_store()
        self.state: State
        self.choose: Choose
        self.failures: list[Failure]
        self.quiet = False
        self.written: dict[str, set[int]] = {}
        """What was ever written to each shared variable and ghost field `L.use`, by any run of this machine."""
        self.touched: set[str] = set()
        """Locks that any run of this machine initialised or freed."""

    def with_environment(self, environment: Environment) -> Machine:
        """The same machine in another environment; what was compiled is shared."""
        other = Machine.__new__(Machine)
        for name, value in vars(self).items():
            setattr(other, name, value)
        other.environment = environment
        other.written, other.touched = {}, set()
        return other

    # starting

    def roots(self) -> tuple[str, ...]:
        """The routines the system starts: those with a role, and those with clauses that nobody calls."""
        called = _called(self.program)
        return tuple(name for name, r in self.program.routines.items() if r.role or (r.clauses and name not in called))

    def levels(self, root: str) -> tuple[int, ...]:
        """The IRQLs a root can start at, as its role says."""
        role, arguments = self.role(root)
        named = _named_levels(self.program)
        if role is None or role.irql is None:
            return tuple(sorted(named))
        low, high = (self._role_level(e, arguments) for e in role.irql)
        return tuple(sorted(level for level in {*named, low, high} if low <= level <= high))

    def role(self, root: str) -> tuple[s.Role | None, Mapping[str, s.Ref | int]]:
        """The role a root plays, None for a root by its clauses alone, and what the role's parameters stand for."""
        use = self.program.routines[root].role
        if use is not None:
            return find_role(self.program, use)
        kinds = (_DEFERRED_ROLES[d.kind] for d in self.program.deferred.values() if d.routine == root)
        roles = self.program.roles.get(next(kinds, ""), ())
        return next((role for role in roles if not role.params), None), {}

    def _role_level(self, expr: s.Expr, arguments: Mapping[str, s.Ref | int]) -> int:
        match expr:
            case s.Ref(name, selectors) if name in arguments:
                value = arguments[name]
                if isinstance(value, int):
                    return value
                return self._role_level(s.Ref(value.name, (*value.selectors, *selectors), expr.span), {})
        value_of = self.program.constant(expr)
        return HIGH_LEVEL if value_of is None else value_of

    def bindings(self, root: str) -> tuple[Mapping[str, str], ...]:
        """The locks that the lock parameters of a root can stand for: one entry for each combination."""
        found: list[dict[str, str]] = [{}]
        for param in self.program.routines[root].params:
            if isinstance(param, s.LockParam):
                fitting = [n for n, d in self.tables.instances.items() if self._fits(d, param.kind)]
                found = [{**binding, param.name: lock} for binding in found for lock in fitting]
        return tuple(found)

    def _fits(self, lock: s.LockDecl, kind: str | None) -> bool:
        return lock.span.source in self.program.own and kind in (None, lock.kind)

    def start(self, root: str, choose: Choose, binding: Mapping[str, str] | None = None) -> State:
        """A state before the first step of `root`, its lock parameters bound as in `binding`. Asks `irql`, `var x`,
        `life L`, `param p` and, for the locks that the clauses of a root without a role speak of, `held L`."""
        routine = self.program.routines[root]
        irql = choose("irql", self.levels(root))
        store = dict(self.initial)
        for name in self.program.variables:
            allowed = self.environment.starts.get(name)
            if allowed:
                store["var", name] = choose(f"var {name}", tuple(sorted(allowed)))
        lives = {}
        for name in self.tables.instances:
            allowed = self.environment.lives.get(name)
            lives[name] = choose(f"life {name}", tuple(sorted(allowed))) if allowed else INITIALISED
        bottom = Frame(self._harness(root), 0, [], {}, routine.span, routine.span, root, -1)
        state = State(root, [bottom], irql, store, {}, lives)
        self.state, self.choose, self.failures = state, choose, []
        self._bind_root(routine, binding or next(iter(self.bindings(root)), {}))
        if self.role(root)[0] is None:
            self._given(routine, binding or {})
        bottom.level, bottom.holds = irql, dict(state.holds)
        if self.role(root)[0] is None and not self._may_start(routine):
            state.ended = "its requirements do not allow this start"
        return state

    def _bind_root(self, routine: s.Routine, binding: Mapping[str, str]) -> None:
        """Gives the parameters of a root something to refer to."""
        slots = self.state.frames[0].slots
        for param, local in self._code(routine).params:
            match param:
                case s.LockParam(name):
                    slots[f"${name}"] = ("lock", binding[name]) if name in binding else ("opaque", name)
                case s.ValueParam(_, name) if local.domain is not None:
                    slots[f"${name}"] = self.choose(f"param {name}", local.domain.open)
        _, arguments = self.role(routine.name)
        for name, value in arguments.items():
            slots[name] = value if isinstance(value, int) else self._object(value)

    def _object(self, ref: s.Ref) -> Target:
        compiler = _Compiler(self.tables, "", False)
        return ("lock", self._family(ref)) if _indexed(ref) else self._resolve(compiler.ref(ref), 0, None)

    def _family(self, ref: s.Ref) -> str:
        return self.tables.guards_of((ref,))[0]

    def _given(self, routine: s.Routine, binding: Mapping[str, str]) -> None:
        """Whether the locks that clauses speak of are held at the start: 0 free, 1 exclusive, 2 shared. A lock that the
        routine acquires is free, one that it releases is held."""
        mentioned: dict[str, set[int]] = {}
        tags: dict[str, str] = {}
        for clause in routine.clauses:
            match clause:
                case s.LockClause(acquires, ref, mode, tag):
                    lock = self._clause_lock(ref, binding)
                    tags[lock] = tag or ANY_TAG
                    modes = {1, 2} if mode is s.Mode.EITHER else {2} if mode is s.Mode.SHARED else {1}
                    mentioned[lock] = {0} if acquires else modes
        for clause in routine.clauses:
            if isinstance(clause, s.ConditionClause):
                for ref, held_mode in _held_anywhere(clause.condition):
                    lock = self._clause_lock(ref, binding)
                    if lock not in tags:
                        mentioned.setdefault(lock, {0, 1}).add(2 if held_mode is s.Mode.SHARED else 1)
        for lock, allowed in mentioned.items():
            held = self.choose(f"held {lock}", tuple(sorted(allowed)))
            if held:
                self.state.holds[lock] = (held == 2, 1, tags.get(lock, ANY_TAG))

    def _clause_lock(self, ref: s.Ref, binding: Mapping[str, str]) -> str:
        return binding[ref.name] if ref.name in binding else self._family(ref)

    def _may_start(self, routine: s.Routine) -> bool:
        """Whether the `requires` clauses of a root hold in the state it would start in."""
        code = self._code(routine)
        depth = len(self.state.frames)
        frame = Frame(code, 0, [], {}, routine.span, None, routine.name, 0)
        self.state.frames.append(frame)
        for param, local in code.params:
            frame.slots[local.slot] = self._root_argument(param, local)
        fits = all(
            self._evaluate(code.conditions[n])
            for n, c in enumerate(routine.clauses)
            if isinstance(c, s.ConditionClause) and c.kind is s.ClauseKind.REQUIRES
        )
        del self.state.frames[depth:]
        return fits

    def _root_argument(self, param: s.Param, local: Local) -> Value:
        bottom = self.state.frames[0]
        match param:
            case s.LockParam(name):
                return bottom.slots[f"${name}"]
            case s.ValueParam(_, name):
                if local.domain is None:
                    return ("device", local.kind) if local.sort == "device" else ("slot", 0, f"${name}")
                return ("slot", 0, f"${name}") if local.bound else bottom.slots[f"${name}"]
            case _:
                return None

    def _initial_store(self) -> dict[Target, Value]:
        store: dict[Target, Value] = {}
        program, tables = self.program, self.tables
        for base, table in (("var", program.variables), ("ctx", program.context_variables)):
            for name, variable in table.items():
                domain = tables.domain(variable.type)
                if domain is not None:
                    store[base, name] = self._declared(variable.type, variable.value, domain)
        for lock in tables.instances:
            for f in (tables.kind_of(lock) or _NO_KIND).fields:
                domain = tables.domain(f.type)
                if domain is not None:
                    store["field", lock, f.name] = self._declared(f.type, f.value, domain)
        return store

    def _declared(self, kind: s.Type, value: s.Expr | None, domain: Domain) -> int:
        known = None if value is None else self.program.constant_of(kind, value)
        return domain.initial if known is None else known

    def _code(self, item: s.Routine | s.Extern) -> Code:
        code = self.codes.get(id(item))
        if code is None:
            code = _Compiler(self.tables, item.name, isinstance(item, s.Routine)).routine(item)
            self.codes[id(item)] = code
        return code

    def _harness(self, root: str) -> Code:
        """What the system does around a root: `entry`, the call, `exit`, and what must hold then."""
        code = self.harnesses.get(root)
        if code is not None:
            return code
        routine = self.program.routines[root]
        role, _ = self.role(root)
        compiler = _Compiler(self.tables, root, False)
        if role is not None:
            for param in role.params:
                compiler._param(param)
            if role.entry is not None:
                compiler._labels(role.entry, ())
                compiler.block(role.entry)
                compiler.emit(Boundary(role.entry.span))
        for param, local in self._code(routine).params:
            compiler.emit(Push(None) if isinstance(param, s.RestParam) else Load(_root_place(param, local)))
        compiler.emit(Invoke(routine, routine.span))
        compiler.emit(Store(Place(("slot", "$result"), False, (), False, "value"), "result"))
        if role is not None and role.exit is not None:
            compiler.leave = Mark()
            compiler._labels(role.exit, ())
            compiler.block(role.exit)
            compiler.emit(Boundary(role.exit.span))
        compiler.place(compiler.leave)
        compiler.emit(Finish())
        if role is not None and role.continues is not None and routine.result is not None:
            compiler.scopes[0]["result"] = Local("$result", False, "value", self.tables.domain(routine.result))
            compiler.code.conditions[0] = compiler._apart(role.continues, BOOL)
        self.harnesses[root] = compiler.code
        return compiler.code

    # stepping

    def step(self, state: State, choose: Choose) -> Stepped:
        """Runs one step of `state`, in place, and tells what failed in it. Sets `state.ended` when the run is over."""
        self.state, self.choose, self.failures = state, choose, []
        frame = state.frames[-1]
        at = (self._routine(), frame.depth, frame.span)
        try:
            at = self._until_boundary()
            self._settle()
        except Over as over:
            state.ended = str(over)
            frame = state.frames[-1]
            at = (self._routine(), frame.depth, frame.site or frame.span)
        return Stepped(*at, tuple(self.failures))

    def _until_boundary(self) -> tuple[str, int, Span]:
        """Runs up to the end of a statement of a routine, a call of a routine, or the end of the root."""
        while True:
            frame = self.state.frames[-1]
            if frame.pc >= len(frame.code.instructions):
                self._leave()
                continue
            instruction = frame.code.instructions[frame.pc]
            routine, depth, span = self._routine(), frame.depth, frame.site or frame.span
            frame.pc += 1
            self._run(instruction)
            match instruction:
                case End() if frame.code.is_routine:
                    return routine, depth, frame.span
                case Invoke(callee, at) if isinstance(callee, s.Routine) and depth >= 0:
                    return routine, depth, frame.site or at
                case CallBack(_, _, at):
                    return routine, depth, frame.site or at
                case Boundary(at):
                    return routine, 0, at
                case Finish():
                    return routine, 0, span

    def _settle(self) -> None:
        """Goes on over what is no step, so that a state stands before its next step, or at its end."""
        while not self.state.ended:
            frame = self.state.frames[-1]
            if frame.pc >= len(frame.code.instructions):
                self._leave()
                continue
            instruction = frame.code.instructions[frame.pc]
            if not isinstance(instruction, SILENT):
                return
            frame.pc += 1
            self._run(instruction)

    def _routine(self) -> str:
        for frame in reversed(self.state.frames):
            if frame.code.is_routine:
                return frame.code.name
        return self.state.root

    def _fail(self, code: Property, subject: str, why: str = "", span: Span | None = None) -> None:
        frame = self.state.frames[-1]
        if not self.quiet:
            failure = Failure(code, self._routine(), span or frame.site or frame.span, subject, why)
            if failure not in self.failures:
                self.failures.append(failure)

    def _evaluate(self, code: Code) -> Value:
        """The value of an expression in the frame on top, with no choices and no obligations."""
        frame = self.state.frames[-1]
        kept = (frame.code, frame.pc, frame.stack, self.quiet)
        frame.code, frame.pc, frame.stack, self.quiet = code, 0, [], True
        while frame.pc < len(code.instructions):
            instruction = code.instructions[frame.pc]
            frame.pc += 1
            self._run(instruction)
        value = frame.stack[-1]
        frame.code, frame.pc, frame.stack, self.quiet = kept
        return value

    # what references denote

    def _resolve(self, place: Place, index_frame: int, index: Value) -> Target:
        """What a place denotes now, seen from frame number `index_frame`."""
        base = place.base
        if base[0] == "slot":
            frame = self.state.frames[index_frame]
            target: Target = ("slot", index_frame, base[1])
            if place.bound:
                bound = frame.slots.get(str(base[1]))
                target = bound if isinstance(bound, tuple) else ("opaque", base[1])
        else:
            target = base
        if place.indexed and target[0] == "lock":
            target = ("lock", self._instance(str(target[1]), index))
        for sort, member in place.members:
            target = self._member(target, sort, member)
        return target

    def _instance(self, family: str, index: Value) -> str:
        """`Bucket[i]`; an index that is outside takes the nearest bound and breaks C04."""
        size = self.program.locks[family].size or 1
        number = index if isinstance(index, int) else 0
        if not 0 <= number < size:
            self._fail(Property.C04, family)
            number = max(0, min(number, size - 1))
        return f"{family}[{number}]"

    def _member(self, target: Target, sort: str, member: str) -> Target:
        match sort:
            case "lock":
                return ("field", self._lock(target), member)
            case "handle":
                return (*target[:-1], f"{target[-1]}.{member}")
            case "interrupt":
                name = str(target[1])
                if member == "lock":
                    return ("lock", f"{name}.lock")
                level = self.program.constant(self.program.interrupts[name].level)
                return ("int", HIGH_LEVEL if level is None else level)
            case "device":
                full = f"{target[1]}.{member}"
                tables = (
                    ("lock", self.program.locks),
                    ("var", self.program.variables),
                    ("data", self.program.data),
                    ("event", self.program.events),
                )
                return next(((base, full) for base, table in tables if full in table), ("opaque", full))
            case _:
                return ("ctx", member) if member in self.program.context_variables else ("opaque", member)

    def _lock(self, target: Target) -> str | None:
        """The name of the lock that is meant, None for a handle that belongs to none."""
        if target[0] == "lock":
            return str(target[1])
        value = self._load(target, None)
        return value if isinstance(value, str) else None

    def _load(self, target: Target, domain: Domain | None) -> Value:
        match target:
            case ("slot", int(number), key):
                slots = self.state.frames[number].slots
                default = None if domain is None else domain.initial
                return slots.get(str(key), default)
            case ("var" | "ctx" | "field", *_):
                if target[0] == "var":
                    self._guarded(str(target[1]), write=False)
                return self.state.store.get(target, None if domain is None else domain.initial)
            case ("lock", name):
                return str(name)
            case ("int", int(number)):
                return number
            case ("opaque", _):
                return 0
            case _:
                return target

    def _place(self, place: Place) -> Target:
        """What a place denotes in the frame on top; takes its index from the stack."""
        index = self.state.frames[-1].stack.pop() if place.indexed else None
        return self._resolve(place, len(self.state.frames) - 1, index)

    def _guarded(self, name: str, write: bool) -> None:
        """R01 for a shared variable."""
        for guard in self.guards.get(name, ()):
            held = self.state.holds.get(guard)
            if held is None or (write and held[0]):
                self._fail(Property.R01, name)
                return

    # one instruction

    def _run(self, instruction: Instruction) -> None:
        frame = self.state.frames[-1]
        stack = frame.stack
        match instruction:
            case Push(value):
                stack.append(value)
            case Load(place):
                target = self._place(place)
                stack.append(self._load(target, place.domain))
            case Point(place):
                stack.append(self._place(place))
            case Begin():
                self._begin(frame, instruction)
            case End():
                self._everywhere(frame)
            case Branch(when, mark, keep):
                value = stack[-1] if keep else stack.pop()
                if bool(value) is when:
                    frame.pc = mark.at
            case Jump(mark):
                frame.pc = mark.at
            case Truth():
                stack.append(int(bool(stack.pop())))
            case Negate(op):
                operand = stack.pop()
                stack.append(int(not operand) if op is s.UnaryOp.NOT else -_number(operand))
            case Combine(op):
                right, left = stack.pop(), stack.pop()
                stack.append(_combined(op, left, right))
            case Pop():
                stack.pop()
            case Star(allowed):
                stack.append(self.choose("*", allowed))
            case Level():
                stack.append(self.state.irql)
            case IsHeld(place, mode):
                held = self.state.holds.get(self._lock(self._place(place)) or "")
                fits = held is not None and (mode is None or held[0] is (mode is s.Mode.SHARED))
                stack.append(int(fits))
            case NoneHeld(spin_only):
                stack.append(int(not any(not spin_only or self.tables.spins(n) for n in self.state.holds)))
            case Select(cases, default):
                subject = stack.pop()
                frame.pc = next((m.at for v, m in cases if v == subject), default.at)
            case Pend(mark):
                frame.pending.append(mark.at)
            case Resume():
                frame.pc = frame.pending.pop()
            case Unpend():
                frame.pending.pop()
            case EnterAtomic():
                frame.fresh = True
            case Store(place, name, down):
                self._assign(place, name, down)
            case Fresh(slot, name, local):
                self._fresh(frame, slot, name, local)
            case Invoke(callee, span):
                self._invoke(callee, span)
            case CallUnmodelled():
                self._unmodelled(frame, instruction)
            case CallBack():
                self._call_back(instruction)
            case Result():
                frame.result = self._returned(frame, stack.pop())
            case Suppose():
                if not stack.pop():
                    raise Over("an assumption does not hold")
            case Check(code, why):
                if not stack.pop():
                    self._fail(code, frame.callee if frame.site else "", why)
            case Touch(place, write):
                self._touch(self._place(place), write)
            case LockOp():
                self._lock_op(instruction)
            case Change(up):
                self._change(_number(stack.pop()), up)
            case MayBlock():
                if any(self.tables.spins(lock) for lock in self.state.holds):
                    self._fail(Property.I07, frame.callee)
            case Spend(nanoseconds):
                for lock in self.state.holds:
                    if self.tables.spins(lock):
                        clocks = self.state.clocks
                        clocks[lock] = min(clocks.get(lock, 0) + nanoseconds, self.limit + 1)
            case Finish():
                self._finish()
            case Boundary():
                pass

    def _returned(self, frame: Frame, value: Value) -> Value:
        """The value of `return e`, within the type of the routine."""
        domain = frame.code.result
        if domain is None or not isinstance(value, int):
            return value
        if frame.code.is_routine:
            return self._within(value, domain, "result")
        return max(domain.low, min(value, domain.high))

    def _begin(self, frame: Frame, begin: Begin) -> None:
        """What others may have written to the variables that the statement reads."""
        if frame.code.is_routine:
            frame.span = begin.span
        if begin.atomic:
            first, frame.fresh = frame.fresh, False
            if not first:
                return
        asked = set()
        for place in begin.reads:
            if place.indexed:
                continue
            target = self._resolve(place, len(self.state.frames) - 1, None)
            if target not in asked:
                asked.add(target)
                self._interfere(target, unless_guarded=True)

    def _interfere(self, target: Target, unless_guarded: bool) -> None:
        match target:
            case ("var", str(name)):
                if unless_guarded and any(g in self.state.holds for g in self.guards[name]):
                    return
            case ("field", str(lock), str(member)) if (lock, member) in self.ghosts:
                name = f"{lock}.{member}"
            case _:
                return
        others = self.environment.others.get(name)
        if others:
            own = _number(self.state.store[target])
            self.state.store[target] = self.choose(f"var {name}", tuple(sorted(others | {own})))

    def _everywhere(self, frame: Frame) -> None:
        """What must hold after every statement of a routine: I06 for pageable code, `always`."""
        if not frame.code.is_routine:
            return
        if frame.code.paged and self.state.irql >= DISPATCH_LEVEL:
            self._fail(Property.I06, frame.code.name, span=frame.code.span)
        if frame.code.has_always:
            for number, clause in enumerate(frame.code.clauses):
                if isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.ALWAYS:
                    self._require(number, Property.C02, frame.code.name, clause.span.text, clause.span)

    def _require(self, number: int, code: Property, subject: str, why: str, span: Span) -> None:
        frame = self.state.frames[-1]
        if not self._evaluate(frame.code.conditions[number]):
            self._fail(code, subject, why, span)

    # assignments

    def _assign(self, place: Place, name: str, down: int) -> None:
        value = self.state.frames[-1].stack.pop()
        self._put(self._place(place), value, place.domain, name, down)

    def _put(self, target: Target, value: Value, domain: Domain | None, name: str, down: int = 0) -> None:
        """Stores a value; one that leaves the range takes the nearest bound and breaks C04."""
        own = self._domain(target)
        if own is not None:
            domain = own
        if domain is not None and isinstance(value, int):
            value = self._fit(value, domain, name, down)
        match target:
            case ("slot", int(number), key):
                slots = self.state.frames[number].slots
                slots[str(key)] = value
            case ("var" | "ctx" | "field", *_):
                if target[0] == "var":
                    self._guarded(str(target[1]), write=True)
                if target[0] != "field" or target[1] is not None:
                    self.state.store[target] = value
                    self._written(target, value)

    def _written(self, target: Target, value: Value) -> None:
        name = ".".join(map(str, target[1:]))
        if isinstance(value, int) and (target[0] == "var" or target[1:] in self.ghosts):
            self.written.setdefault(name, set()).add(value)

    def _fit(self, value: int, domain: Domain, name: str, down: int) -> int:
        if domain.counter and down > 0 and value + down == domain.high:
            allowed = tuple(range(max(domain.low, domain.high - down), domain.high + 1))
            allowed = (allowed[0], domain.high)
            return self.choose(f"counter {name}", allowed)
        return self._within(value, domain, name)

    def _within(self, value: int, domain: Domain, name: str) -> int:
        """The value, or the nearest one of the type, which breaks C04."""
        if not domain.exact and not domain.counter:
            return int(bool(value))
        nearest = max(domain.low, min(value, domain.high))
        if nearest != value and domain.exact:
            self._fail(Property.C04, name)
        return nearest

    def _domain(self, target: Target) -> Domain | None:
        match target:
            case ("var", str(name)):
                return self.tables.domain(self.program.variables[name].type) if name in self.program.variables else None
            case ("ctx", str(name)):
                found = self.program.context_variables.get(name)
                return None if found is None else self.tables.domain(found.type)
            case _:
                return None

    def _fresh(self, frame: Frame, slot: str, name: str, local: Local) -> None:
        """A declaration without a value: a choice; NO_LEVEL for a KIRQL, no lock for a handle."""
        for key in [k for k in frame.slots if k == slot or k.startswith(f"{slot}.")]:
            del frame.slots[key]
        if local.domain is not None:
            if local.domain.level:
                frame.slots[slot] = NO_LEVEL
            else:
                frame.slots[slot] = self.choose(f"uninit {name}", local.domain.open)

    # calls

    def _invoke(self, callee: s.Routine | s.Extern, span: Span) -> None:
        code = self._code(callee)
        caller = self.state.frames[-1]
        count = next((i for i, (p, _) in enumerate(code.params) if isinstance(p, s.RestParam)), len(code.params))
        arguments = caller.stack[len(caller.stack) - count :]
        del caller.stack[len(caller.stack) - count :]
        self._enter(code, arguments, span)
        if isinstance(callee, s.Extern) and callee.body is None:
            self._effects(callee)

    def _enter(self, code: Code, arguments: list[Value], span: Span) -> None:
        """Puts a frame on top, with its parameters; what the callee requires is checked at the call."""
        frames = self.state.frames
        if len(frames) >= MAX_FRAMES:
            raise Over(f"calls are more than {MAX_FRAMES} deep")
        caller = frames[-1]
        at = caller.site or span
        depth = caller.depth + 1
        frame = Frame(
            code, 0, [], {}, span, None if code.is_routine else at, caller.callee if caller.site else code.name, depth
        )
        if code.is_routine:
            frame.callee, frame.span = code.name, code.span or span
        assumed = caller.depth < 0 and code.is_routine and self.role(self.state.root)[0] is None
        bindings = []
        for (_, local), value in zip(code.params, arguments, strict=False):
            if not local.bound and local.domain is not None and isinstance(value, int):
                value = self._within(value, local.domain, local.slot)
            bindings.append((local.slot, value))
        frame.slots.update(bindings)
        routine = self._routine()
        frames.append(frame)
        if code.clauses:
            self._on_entry(frame, routine, None if assumed else at)
        if code.is_routine:
            self._everywhere(frame)

    def _on_entry(self, frame: Frame, caller: str, at: Span | None) -> None:
        """Keeps what clauses compare with later. The caller owes what is required, unless the start assumed it."""
        code = frame.code
        for slot, operand in code.olds:
            frame.slots[slot] = self._evaluate(operand)
        frame.level, frame.holds = self.state.irql, dict(self.state.holds)
        for number, clause in enumerate(code.clauses):
            match clause:
                case s.ConditionClause(s.ClauseKind.REQUIRES, condition):
                    if at is not None and not self._evaluate(code.conditions[number]):
                        is_level = not code.is_routine and _mentions_irql(condition)
                        property_ = Property.I01 if is_level else Property.C03
                        self.failures.append(Failure(property_, caller, at, code.name, clause.span.text))
                case s.LockClause() | s.RaisesClause():
                    frame.slots[f"$clause{number}"] = self._evaluate(code.conditions[number])

    def _effects(self, extern: s.Extern) -> None:
        """An extern without a body does what its clauses say; what it gives back is open."""
        frame = self.state.frames[-1]
        code = frame.code
        for number, clause in enumerate(extern.clauses):
            match clause:
                case s.LockClause(acquires, _, mode, tag):
                    target = frame.slots[f"$clause{number}"]
                    assert isinstance(target, tuple)
                    if acquires:
                        self._acquire(self._lock(target), mode, tag)
                    else:
                        self._release(self._lock(target), mode, tag)
                case s.RaisesClause():
                    self._change(_number(frame.slots[f"$clause{number}"]), up=True)
        for param, local in code.params:
            if isinstance(param, s.ValueParam) and param.by_ref and local.domain is not None:
                value = self.choose(f"out {param.name}", local.domain.open)
                target = frame.slots.get(local.slot)
                if isinstance(target, tuple):
                    self._put(target, value, None, param.name)
        if code.result is not None:
            frame.result = frame.slots["$result"] = self.choose("result", code.result.open)
        for number, clause in enumerate(extern.clauses):
            ensures = isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.ENSURES
            if ensures and not self._evaluate(code.conditions[number]):
                raise Over("the routine does not give this back")

    def _unmodelled(self, frame: Frame, call: CallUnmodelled) -> None:
        """Held to its documented bounds; what it does to locks is not known and taken to be nothing."""
        known = lookup(call.name)
        if known is not None and not known.has_lock_effect:
            if not known.irql_min <= self.state.irql <= known.irql_max:
                self._fail(Property.I01, call.name)
            if known.no_spin_lock and any(self.tables.spins(lock) for lock in self.state.holds):
                self._fail(Property.I07, call.name)
        targets = [frame.stack.pop() for _ in call.outputs]
        for (name, domain), target in zip(call.outputs, reversed(targets), strict=True):
            assert isinstance(target, tuple)
            self._put(target, self.choose(f"out {name}", domain.open), domain, name)
        frame.stack.append(0 if call.result is None else self.choose("result", call.result.open))

    def _call_back(self, instruction: CallBack) -> None:
        """`call R(..)`: the routine handed over runs here."""
        target = self._place(instruction.place)
        stack = self.state.frames[-1].stack
        arguments = stack[len(stack) - instruction.count :]
        del stack[len(stack) - instruction.count :]
        name = str(target[1])
        if target[0] == "deferred":
            name = self.program.deferred[name].routine
        routine = self.program.routines.get(name) if target[0] in ("routine", "deferred") else None
        if routine is None:
            return
        code = self._code(routine)
        wanted = [None if isinstance(p, s.OpaqueParam | s.RestParam) else 0 for p, _ in code.params]
        self._enter(code, [*arguments[: len(wanted)], *wanted[len(arguments) :]], instruction.span)
        self.state.frames[-1].slots["$callback"] = 1

    def _leave(self) -> None:
        """The frame on top has run to its end: its clauses are checked, its result is handed over."""
        frames = self.state.frames
        frame = frames[-1]
        code = frame.code
        if code.is_routine and code.clauses:
            self._on_exit(frame)
        result = frame.result
        if result is None and code.result is not None:
            result = code.result.initial
        frames.pop()
        if "$callback" not in frame.slots:
            frames[-1].stack.append(result)

    def _on_exit(self, frame: Frame) -> None:
        code, name = frame.code, frame.code.name
        if frame.result is not None:
            frame.slots["$result"] = frame.result
        for number, clause in enumerate(code.clauses):
            match clause:
                case s.ConditionClause(s.ClauseKind.ENSURES, _):
                    self._require(number, Property.C02, name, clause.span.text, clause.span)
                case s.SameIrqlClause():
                    if self.state.irql != frame.level:
                        self._fail(Property.C02, name, "same irql", code.span)
                case s.RaisesClause():
                    if self.state.irql != frame.slots[f"$clause{number}"]:
                        self._fail(Property.C02, name, "", clause.span)
                case s.LockClause(acquires, _, mode, tag):
                    target = frame.slots[f"$clause{number}"]
                    assert isinstance(target, tuple)
                    lock = self._lock(target) or ""
                    if not _as_claimed(frame.holds.get(lock), self.state.holds.get(lock), acquires, mode, tag):
                        self._fail(Property.C02, name, "", clause.span)

    def _finish(self) -> None:
        """The end of a root: nothing else is held, and the level is as it was, or as the clauses say."""
        state = self.state
        bottom = state.frames[0]
        routine = self.program.routines[state.root]
        claimed, level_claimed = set(), False
        bound = {k[1:]: str(v[1]) for k, v in bottom.slots.items() if isinstance(v, tuple) and v[0] == "lock"}
        for clause in routine.clauses:
            match clause:
                case s.LockClause(_, ref):
                    claimed.add(self._clause_lock(ref, bound))
                case s.RaisesClause():
                    level_claimed = True
                case s.ConditionClause(s.ClauseKind.ENSURES, condition):
                    claimed.update(self._clause_lock(ref, bound) for ref, _ in _held_anywhere(condition))
                    level_claimed |= _mentions_irql(condition)
        for lock in {**bottom.holds, **state.holds}:
            before, after = bottom.holds.get(lock), state.holds.get(lock)
            if lock not in claimed and (before or (False, 0, None))[:2] != (after or (False, 0, None))[:2]:
                self._fail(Property.B03, lock, span=routine.span)
        if state.irql != bottom.level and not level_claimed:
            self._fail(Property.I02, "", span=routine.span)
        continues = bottom.code.conditions.get(0)
        state.goes_on = continues is None or bool(self._evaluate(continues))
        state.ended = RETURNED

    # locks and levels

    def _lock_op(self, op: LockOp) -> None:
        lock = self._lock(self._place(op.place))
        stack = self.state.frames[-1].stack
        match op.verb:
            case "init":
                self._init(lock)
            case "free":
                self._free(lock)
            case "acquire":
                self._acquire(lock, op.mode, op.tag)
            case "release":
                self._release(lock, op.mode, op.tag)
            case "convert":
                self._convert(lock, op.mode)
            case "try_acquire":
                stack.append(int(self._try_acquire(lock, op.mode, op.tag)))
            case _:
                stack.append(int(self._try_convert(lock)))

    def _has_life(self, lock: str) -> bool:
        kind = self.tables.kind_of(lock)
        return kind is not None and kind.init_required

    def _init(self, lock: str | None) -> None:
        if lock is None:
            return
        if lock in self.state.holds or (self._has_life(lock) and self.state.lives[lock] == INITIALISED):
            self._fail(Property.B05, lock)
        self.state.lives[lock] = INITIALISED
        self.touched.add(lock)

    def _free(self, lock: str | None) -> None:
        if lock is None:
            return
        if lock in self.state.holds or (self._has_life(lock) and self.state.lives[lock] != INITIALISED):
            self._fail(Property.B06, lock)
        self.state.lives[lock] = FREED
        self.touched.add(lock)

    def _alive(self, lock: str) -> None:
        """B05 and B06 where a lock is used."""
        if self._has_life(lock):
            if self.state.lives[lock] == UNINITIALISED:
                self._fail(Property.B05, lock)
            elif self.state.lives[lock] == FREED:
                self._fail(Property.B06, lock)

    def _admits(self, lock: str, shared: bool) -> bool:
        """Whether the context may take the lock (once more) in that mode without waiting for itself."""
        held = self.state.holds.get(lock)
        if held is None:
            return True
        kind = self.tables.kind_of(lock)
        wanted = s.Mode.SHARED if shared else s.Mode.EXCLUSIVE
        under = s.Mode.SHARED if held[0] else s.Mode.EXCLUSIVE
        return kind is not None and any(r.mode is wanted and r.under is under for r in kind.recursion)

    def _take(self, lock: str, shared: bool, tag: str | None) -> None:
        """The hold counts up. What others wrote to the variables it guards is seen from now on."""
        held = self.state.holds.get(lock)
        if held is not None:
            self.state.holds[lock] = (held[0], min(held[1] + 1, MAX_COUNT), held[2])
            return
        self.state.holds[lock] = (shared, 1, tag)
        for name, guards in self.guards.items():
            if lock in guards:
                self._interfere(("var", name), unless_guarded=False)

    def _acquire(self, lock: str | None, mode: s.Mode, tag: str | None) -> None:
        if lock is None:
            raise Over("waits for a lock that a handle does not name")
        self._alive(lock)
        shared = mode is s.Mode.SHARED
        if not self._admits(lock, shared):
            self._fail(Property.B01, lock)
            raise Over("waits for ever")
        self._take(lock, shared, tag)

    def _try_acquire(self, lock: str | None, mode: s.Mode, tag: str | None) -> bool:
        if lock is None:
            return False
        self._alive(lock)
        shared = mode is s.Mode.SHARED
        if not self._admits(lock, shared) or not self.choose("try", (0, 1)):
            return False
        self._take(lock, shared, tag)
        return True

    def _release(self, lock: str | None, mode: s.Mode, tag: str | None) -> None:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return
        shared, count, own_tag = held
        wrong_mode = mode is not s.Mode.EITHER and shared is not (mode is s.Mode.SHARED)
        wrong_tag = tag is not None and own_tag not in (tag, ANY_TAG)
        if wrong_mode or wrong_tag:
            self._fail(Property.B04, lock)
        if self.state.clocks.get(lock, 0) > self.limit:
            self._fail(Property.T01, lock)
        left = self.choose(f"count {lock}", (MAX_COUNT - 1, MAX_COUNT)) if count == MAX_COUNT else count - 1
        if not left:
            self.state.clocks.pop(lock, None)
        if left:
            self.state.holds[lock] = (shared, left, own_tag)
        else:
            del self.state.holds[lock]

    def _convert(self, lock: str | None, mode: s.Mode) -> None:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return
        shared = mode is s.Mode.SHARED
        if held[0] is shared:
            self._fail(Property.B04, lock)
        self.state.holds[lock] = (shared, held[1], held[2])

    def _try_convert(self, lock: str | None) -> bool:
        held = self.state.holds.get(lock or "")
        if lock is None or held is None:
            self._fail(Property.B02, lock or "")
            return False
        if not held[0]:
            self._fail(Property.B04, lock)
            return False
        if not self.choose("try", (0, 1)):
            return False
        self.state.holds[lock] = (False, held[1], held[2])
        return True

    def _change(self, level: int, up: bool) -> None:
        """`raise` and `lower`. NO_LEVEL, which was never written, leaves the level as it was."""
        state = self.state
        before = state.irql
        if level < before if up else level > before:
            self._fail(Property.I04, state.frames[-1].callee)
        if level != NO_LEVEL:
            state.irql = max(PASSIVE_LEVEL, min(level, HIGH_LEVEL))
        if state.irql < before and any(state.irql < self._floor(lock) for lock in state.holds):
            self._fail(Property.I05, state.frames[-1].callee)

    def _floor(self, lock: str) -> int:
        """The level below which the IRQL must not drop while the lock is held."""
        kind = self.tables.kind_of(lock)
        if kind is None or not kind.spins or kind.level is None:
            return PASSIVE_LEVEL
        decl = self.tables.instances[lock]
        name = decl.name.rpartition(".")[0]
        if decl.span in {i.span for i in self.program.interrupts.values() if i.name == name}:
            level = self.program.constant(self.program.interrupts[name].level)
        else:
            level = self.program.constant(kind.level)
        return PASSIVE_LEVEL if level is None else level

    def _touch(self, target: Target, write: bool) -> None:
        """`read D` and `write D`: R01 for the guards, I06 for pageable data."""
        name = str(target[1])
        if target[0] == "var":
            self._guarded(name, write)
            return
        for guard in self.data_guards.get(name, ()):
            held = self.state.holds.get(guard)
            if held is None or (write and held[0]):
                self._fail(Property.R01, name)
                break
        decl = self.program.data.get(name)
        if decl is not None and decl.paged and self.state.irql >= DISPATCH_LEVEL:
            self._fail(Property.I06, name)


# ---- small questions ----

_DEFERRED_ROLES = {
    s.DeferredKind.DPC: "KDEFERRED_ROUTINE",
    s.DeferredKind.TIMER: "KDEFERRED_ROUTINE",
    s.DeferredKind.WORKITEM: "IO_WORKITEM_ROUTINE",
}
"""What `dpc D runs R;` makes of a routine that says no role itself."""
_NOWHERE = Span.__new__(Span)
_NO_KIND = s.LockKind("", False, False, False, False, None, (), (), _NOWHERE)


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _combined(op: s.BinaryOp, left: Value, right: Value) -> int:
    """An operator on numbers; locks and objects can only be compared. `% 0` is 0."""
    if isinstance(left, int) and isinstance(right, int):
        return apply(op, left, right) or 0
    same = (left or None) == (right or None)
    return int(same if op is s.BinaryOp.EQ else not same)


def _as_claimed(before: Hold | None, after: Hold | None, acquires: bool, mode: s.Mode, tag: str | None) -> bool:
    """Whether a lock is held once more, or once less, as an `acquires` or `releases` clause says."""
    had, has = (0 if hold is None else hold[1] for hold in (before, after))
    if not acquires:
        return has == had - 1 or (had == MAX_COUNT and has == had)
    if after is None or (has != had + 1 and had != MAX_COUNT):
        return False
    return (mode is s.Mode.EITHER or after[0] is (mode is s.Mode.SHARED)) and (tag is None or after[2] == tag)


def _operands(expr: s.Expr) -> tuple[s.Expr, ...]:
    match expr:
        case s.Unary(_, operand) | s.Old(operand):
            return (operand,)
        case s.Binary(_, left, right):
            return (left, right)
        case s.Call(_, args):
            return args
        case _:
            return ()


def _within(expr: s.Expr) -> Iterator[s.Expr]:
    """An expression and everything inside it, left to right."""
    pending = deque([expr])
    while pending:
        current = pending.popleft()
        yield current
        pending.extendleft(reversed(_operands(current)))


def _mentions_irql(expr: s.Expr) -> bool:
    return any(isinstance(e, s.Irql) for e in _within(expr))


def _held_anywhere(expr: s.Expr) -> Iterator[tuple[s.Ref, s.Mode | None]]:
    return ((e.lock, e.mode) for e in _within(expr) if isinstance(e, s.Held))


def _held_in(expr: s.Expr) -> Iterator[tuple[s.Ref, s.Mode | None]]:
    """The locks that a condition says are held, as far as it is a conjunction."""
    match expr:
        case s.Held(lock, mode):
            yield lock, mode
        case s.Binary(s.BinaryOp.AND, left, right):
            yield from _held_in(left)
            yield from _held_in(right)


def _indexed(ref: s.Ref) -> bool:
    return any(isinstance(x, s.Index) for x in ref.selectors)


def _root_place(param: s.Param, local: Local) -> Place:
    """Where the harness of a root keeps what it hands over for a parameter."""
    match param:
        case s.ValueParam(_, name) if local.domain is not None and not local.bound:
            return Place(("slot", f"${name}"), False, (), False, "value", local.domain)
        case s.LockParam(name):
            return Place(("slot", f"${name}"), True, (), False, "lock")
        case s.ValueParam(_, name):
            base: Target = ("device", local.kind) if local.sort == "device" else ("slot", f"${name}")
            return Place(base, False, (), False, local.sort)
        case _:
            return Place(("opaque", ""), False, (), False, "opaque")


def _statements(body: s.Block) -> Iterator[s.Stmt]:
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


def _expressions(stmt: s.Stmt) -> tuple[s.Expr, ...]:
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


def _called(program: Program) -> frozenset[str]:
    """Routines that are called, or handed to a kernel routine that may call them."""
    found = set()
    for routine in program.routines.values():
        for stmt in _statements(routine.body):
            for expr in _expressions(stmt):
                for part in _within(expr):
                    if isinstance(part, s.Call):
                        found.add(part.name)
                    ref = part.ref if isinstance(part, s.Address) else part
                    if isinstance(ref, s.Ref) and not ref.selectors and ref.name in program.routines:
                        found.add(ref.name)
    return frozenset(found)


def _named_levels(program: Program) -> frozenset[int]:
    """The IRQLs the program speaks of: those with a name, of interrupts and lock kinds, and the bounds of roles."""
    exprs: list[s.Expr] = [i.level for i in program.interrupts.values()]
    exprs += [k.level for k in program.lock_kinds.values() if k.level is not None]
    exprs += [e for roles in program.roles.values() for role in roles for e in role.irql or ()]
    values = {program.constant(e) for e in exprs}
    builtin = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, program.constants["DIRQL"], HIGH_LEVEL}
    return frozenset(v for v in values | builtin if v is not None and PASSIVE_LEVEL <= v <= HIGH_LEVEL)


# ---- replaying a trace ----


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a trace. `failures`: what failed in the last step that was run. `reason`: where and why the trace
    is not a run, or does not show what it claims; "" when it does. `steps` counts the steps that were run."""

    reproduced: bool
    reason: str
    failures: tuple[Failure, ...]
    steps: int
    misplaced: str = ""
    """The first step that stands elsewhere in the run than in the trace; the choices fit all the same."""


class _Script:
    """Answers choices from a trace, in order."""

    def __init__(self, trace: Trace) -> None:
        self.start = {c.name: c.value for c in trace.start}
        self.queue: deque[Choice] = deque(c for step in trace.steps for c in step.choices)

    def at_start(self, name: str, allowed: tuple[int, ...]) -> int:
        if name not in self.start:
            if self.queue and self.queue[0].name == name:
                return self.later(name, allowed)
            return allowed[0]  # what the trace does not mention does not matter to it
        value = self.start[name]
        if value not in allowed:
            raise Divergence(f"{name} = {value} is not possible at the start")
        return value

    def later(self, name: str, allowed: tuple[int, ...]) -> int:
        names = {name, "*"} if name == "result" else {name}
        if not self.queue:
            return allowed[0]  # the trace ends in the middle of a step; any way on is a run
        if self.queue[0].name not in names:
            if len(allowed) == 1:
                return allowed[0]
            raise Divergence(f"the run chooses `{name}` where the trace has `{self.queue[0].name}`")
        value = self.queue.popleft().value
        if value not in allowed:
            raise Divergence(f"{name} = {value} is not possible here")
        return value


def replay(
    program: Program, trace: Trace, environment: Environment, claimed: Obligation | None = None, limit: int = 1_000_000
) -> Replay:
    """Runs `trace` and tells whether its end fails `claimed` (any obligation at all if it is None)."""
    return replay_on(Machine(program, environment), trace, claimed, limit)


def replay_on(machine: Machine, trace: Trace, claimed: Obligation | None = None, limit: int = 1_000_000) -> Replay:
    """`replay` on a machine that is already there: many traces of one program share what was compiled."""
    result = None
    for binding in machine.bindings(trace.root):
        result = _replay_bound(machine, trace, binding, claimed, limit)
        if result.reproduced:
            return result
    return result or Replay(False, "no lock fits the parameters of the routine", (), 0)


def _replay_bound(
    machine: Machine, trace: Trace, binding: Mapping[str, str], claimed: Obligation | None, limit: int
) -> Replay:
    script = _Script(trace)
    steps, misplaced = 0, ""
    failures: tuple[Failure, ...] = ()
    try:
        state = machine.start(trace.root, script.at_start, binding)
        if state.ended:
            raise Divergence(state.ended)
        while not state.ended and steps < min(limit, 2 * len(trace.steps) + 100):
            done = machine.step(state, script.later)
            failures = done.failures
            if not misplaced and not _stands_at(done, trace, steps):
                misplaced = f"step {steps + 1}: the run is at {done.span}"
            steps += 1
            if claimed is None and steps == len(trace.steps) and failures:
                return Replay(True, "", failures, steps, misplaced)
            if claimed is not None and any(f.breaks(claimed) for f in failures):
                return Replay(True, "", failures, steps, misplaced)
    except Divergence as divergence:
        return Replay(False, f"step {steps + 1}: {divergence}", failures, steps, misplaced)
    ending = state.ended or f"it is longer than {limit} steps"
    return Replay(False, f"the run ends ({ending}) and the obligation does not fail", failures, steps, misplaced)


def _stands_at(done: Stepped, trace: Trace, number: int) -> bool:
    """Whether a step of the run stands where the trace says, on the same line at least."""
    if number >= len(trace.steps):
        return False
    step = trace.steps[number]
    return step.span.source is done.span.source and step.span.line == done.span.line
