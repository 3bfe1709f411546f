"""The syntax tree of a driver model: what was written, and where.

Nodes are frozen and compare by what they say; `span` is where they stand and is not compared, so that
`parse(print(t)) == t` can hold. Names are not resolved here. The grammar is `grammar/driver.lark`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from modelcheck.record import dataclass, field
from modelcheck.source import Span


def place() -> Span:
    """The field every node ends with: where it stands, not part of what it says."""
    return field(compare=False, repr=False)  # type: ignore[no-any-return]


# ---- expressions ----


@dataclass(frozen=True, slots=True)
class Number:
    value: int
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Unknown:
    """`*`: any value of the type that is wanted here."""

    span: Span = place()


@dataclass(frozen=True, slots=True)
class Irql:
    """`irql`: the current level."""

    span: Span = place()


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Index:
    value: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Ref:
    """A name with selectors: `QueueLock`, `Bucket[i]`, `Port.Lock`, `L.saved`."""

    name: str
    selectors: tuple[Member | Index, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Address:
    """`&x`: only as an argument."""

    ref: Ref
    span: Span = place()


class UnaryOp(StrEnum):
    NOT = "!"
    NEGATE = "-"


@dataclass(frozen=True, slots=True)
class Unary:
    op: UnaryOp
    operand: Expr
    span: Span = place()


class BinaryOp(StrEnum):
    OR = "||"
    AND = "&&"
    EQ = "=="
    NE = "!="
    LE = "<="
    GE = ">="
    LT = "<"
    GT = ">"
    ADD = "+"
    SUB = "-"
    MUL = "*"
    MOD = "%"


@dataclass(frozen=True, slots=True)
class Binary:
    op: BinaryOp
    left: Expr
    right: Expr
    span: Span = place()


class Mode(StrEnum):
    SHARED = "shared"
    EXCLUSIVE = "exclusive"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Held:
    """`held(L)`, `held(L, shared)`: the context holds the lock (in that mode)."""

    lock: Ref
    mode: Mode | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class NoLocks:
    """`no_spin_lock`: no spin lock is held, or none but those behind `except`; `no_lock`: no lock at all."""

    spin_only: bool
    besides: tuple[Ref, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Old:
    """`old(e)`, in `ensures`: what `e` was on entry."""

    operand: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class TryAcquire:
    """`try_acquire L`: true when the lock was taken; may always fail."""

    lock: Ref
    mode: Mode
    tag: str | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class TryConvert:
    """`try_convert L`: shared to exclusive without waiting; on false the shared hold stays."""

    lock: Ref
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    args: tuple[Expr, ...]
    span: Span = place()


Expr: TypeAlias = (
    Number
    | Truth
    | Unknown
    | Irql
    | Ref
    | Address
    | Unary
    | Binary
    | Held
    | NoLocks
    | Old
    | TryAcquire
    | TryConvert
    | Call
)

# ---- types ----


@dataclass(frozen=True, slots=True)
class BoolType:
    span: Span = place()


@dataclass(frozen=True, slots=True)
class IntType:
    low: int
    high: int
    span: Span = place()


@dataclass(frozen=True, slots=True)
class CounterType:
    """0..limit where `limit` stands for "that many or more": it never overflows."""

    limit: int
    span: Span = place()


@dataclass(frozen=True, slots=True)
class EnumType:
    values: tuple[str, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class NamedType:
    """`KIRQL`, an `enum` by name, or a handle kind."""

    name: str
    span: Span = place()


Type: TypeAlias = BoolType | IntType | CounterType | EnumType | NamedType

# ---- statements ----


@dataclass(frozen=True, slots=True)
class Block:
    body: tuple[Stmt, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Declare:
    """`KIRQL old;`, `int 0..7 i = 0, j;`: one node for each declared name."""

    type: Type
    name: str
    value: Expr | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Assign:
    target: Ref
    value: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class CallStmt:
    call: Call
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Arm:
    condition: Expr
    body: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class If:
    """`if .. else if .. else ..`: the arms in order."""

    arms: tuple[Arm, ...]
    otherwise: Block | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class While:
    condition: Expr
    body: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class DoWhile:
    body: Block
    condition: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class For:
    start: Assign | CallStmt | None
    condition: Expr | None
    step: Assign | CallStmt | None
    body: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Case:
    """`case e:` or, with no value, `default:`; control falls through to the next one as in C."""

    value: Expr | None
    body: tuple[Stmt, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Switch:
    subject: Expr
    cases: tuple[Case, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Goto:
    label: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Label:
    name: str
    span: Span = place()


class JumpKind(StrEnum):
    BREAK = "break"
    CONTINUE = "continue"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Jump:
    kind: JumpKind
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Return:
    value: Expr | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Try:
    """`try { } finally { }`: the second block runs however the first is left."""

    body: Block
    final: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Atomic:
    """`atomic { }`: interlocked, nothing comes in between."""

    body: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Assume:
    condition: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Assert:
    condition: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Access:
    """`read D;` or `write D;` of declared data."""

    write: bool
    data: Ref
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Cost:
    """`cost 3us;` in nanoseconds; `cost n * 1us;` that often."""

    nanoseconds: int
    times: Ref | None
    span: Span = place()


# Primitives: what kernel models are made of.


@dataclass(frozen=True, slots=True)
class Init:
    lock: Ref
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Free:
    lock: Ref
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Acquire:
    lock: Ref
    mode: Mode
    tag: str | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Release:
    lock: Ref
    mode: Mode
    tag: str | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Convert:
    lock: Ref
    mode: Mode
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Raise:
    level: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Lower:
    level: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Blocks:
    """`blocks`: the routine may wait here."""

    span: Span = place()


class SignalOp(StrEnum):
    WAIT = "wait"
    SET = "set"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Signal:
    op: SignalOp
    event: Ref
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Enable:
    """`enable R` / `disable R`: from here on the routine (or what runs it) can / cannot start. `enable R again`: also
    when it has run and that was waited for."""

    enable: bool
    name: str
    again: bool
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Require:
    """`require C else CODE "why"`: an obligation of the property `code`."""

    condition: Expr
    code: str
    why: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Callback:
    """`call R(args)`: the routine parameter R runs here."""

    name: str
    args: tuple[Expr, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class MayReenter:
    role: str
    span: Span = place()


Stmt: TypeAlias = (
    Block
    | Declare
    | Assign
    | CallStmt
    | If
    | While
    | DoWhile
    | For
    | Switch
    | Goto
    | Label
    | Jump
    | Return
    | Try
    | Atomic
    | Assume
    | Assert
    | Access
    | Cost
    | Init
    | Free
    | Acquire
    | Release
    | Convert
    | Raise
    | Lower
    | Blocks
    | Signal
    | Enable
    | Require
    | Callback
    | MayReenter
)

# ---- routines ----


@dataclass(frozen=True, slots=True)
class LockParam:
    name: str
    kind: str | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class ValueParam:
    """`KIRQL old`, `out KIRQL old`, `KIRQL &old`: by reference when `by_ref`. `any E x`, `if_said`: of an enum, looked
    at where a constant of it is written; anything else is its first."""

    type: Type
    name: str
    by_ref: bool
    if_said: bool
    span: Span = place()


class ObjectKind(StrEnum):
    INTERRUPT = "interrupt"
    EVENT = "event"
    ROUTINE = "routine"
    TIMEOUT = "timeout"
    ANY = "any"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class ObjectParam:
    """An interrupt, event, routine or data object; a `timeout` (NULL, 0, a number or `*`); or `any`, not looked at."""

    kind: ObjectKind
    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class OpaqueParam:
    """A parameter that locking does not depend on: `Irp`. In a role declaration: a constant such as IRP_MJ_POWER."""

    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class RestParam:
    """`...`: any further arguments, not looked at."""

    span: Span = place()


Param: TypeAlias = LockParam | ValueParam | ObjectParam | OpaqueParam | RestParam


class ClauseKind(StrEnum):
    REQUIRES = "requires"
    ALWAYS = "always"
    ENSURES = "ensures"


@dataclass(frozen=True, slots=True)
class ConditionClause:
    kind: ClauseKind
    condition: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class LockClause:
    """`acquires L [shared] [as TAG]` or `releases L ..`."""

    acquires: bool
    lock: Ref
    mode: Mode
    tag: str | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class RaisesClause:
    level: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class SameIrqlClause:
    span: Span = place()


Clause: TypeAlias = ConditionClause | LockClause | RaisesClause | SameIrqlClause


@dataclass(frozen=True, slots=True)
class RoleUse:
    name: str
    args: tuple[Expr, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Routine:
    name: str
    params: tuple[Param, ...]
    result: Type | None
    role: RoleUse | None
    clauses: tuple[Clause, ...]
    paged: bool
    body: Block
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Extern:
    """A kernel routine: a body of primitives, or clauses alone."""

    name: str
    params: tuple[Param, ...]
    result: Type | None
    clauses: tuple[Clause, ...]
    body: Block | None
    span: Span = place()


# ---- declarations ----


@dataclass(frozen=True, slots=True)
class Driver:
    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Import:
    """`import wdm;` (a shipped model) or `import "queue.drvm";` (a file beside this one)."""

    name: str
    is_path: bool
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class SettingDecl:
    name: str
    type: Type
    default: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Const:
    name: str
    value: Expr
    span: Span = place()


@dataclass(frozen=True, slots=True)
class EnumDecl:
    name: str
    values: tuple[str, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class LockDecl:
    name: str
    size: int | None
    kind: str
    ordered: bool
    initialised: bool
    paged: bool
    span: Span = place()


@dataclass(frozen=True, slots=True)
class DataDecl:
    name: str
    paged: bool
    guards: tuple[Ref, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class EventDecl:
    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class VarDecl:
    """A variable shared by all routines."""

    name: str
    type: Type
    value: Expr | None
    guards: tuple[Ref, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class ContextVar:
    """A variable of which every context has its own (kernel models)."""

    name: str
    type: Type
    value: Expr | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class DeviceDecl:
    name: str
    members: tuple[LockDecl | DataDecl | VarDecl | EventDecl, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class InterruptDecl:
    name: str
    level: Expr
    span: Span = place()


class DeferredKind(StrEnum):
    DPC = "dpc"
    TIMER = "timer"
    WORKITEM = "workitem"


@dataclass(frozen=True, slots=True)
class DeferredDecl:
    """`dpc D runs R;`: an object that runs a routine later."""

    kind: DeferredKind
    name: str
    routine: str
    span: Span = place()


class ContextKind(StrEnum):
    THREAD = "thread"
    DPC = "dpc"
    ISR = "isr"


@dataclass(frozen=True, slots=True)
class Run:
    routine: str
    args: tuple[Expr, ...]
    kind: ContextKind | None
    level: Expr | None
    processor: int | None
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    processors: int | None
    steps: tuple[Run | Assign, ...]
    span: Span = place()


# ---- kinds and roles ----


@dataclass(frozen=True, slots=True)
class Field:
    """A variable of a lock or a handle. `ghost` fields of a lock are shared by all contexts and never reset."""

    type: Type
    name: str
    value: Expr | None
    ghost: bool
    span: Span = place()


@dataclass(frozen=True, slots=True)
class LockField:
    """A handle's lock: which lock it was used to acquire."""

    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Recursion:
    """Acquiring `mode` while holding `under` is allowed and counted."""

    mode: Mode
    under: Mode
    span: Span = place()


@dataclass(frozen=True, slots=True)
class LockKind:
    name: str
    spins: bool
    resident: bool
    init_required: bool
    writers_first: bool
    doubtful: bool
    closes: bool
    each_device: bool
    level: Expr | None
    recursion: tuple[Recursion, ...]
    fields: tuple[Field, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class HandleKind:
    name: str
    fields: tuple[Field | LockField, ...]
    span: Span = place()


@dataclass(frozen=True, slots=True)
class RoleName:
    """A role that another one speaks of."""

    name: str
    span: Span = place()


@dataclass(frozen=True, slots=True)
class Role:
    """`among`: of all roles that say the same word one routine runs at a time; `again`: it comes again, whether or not
    a routine stops the device; `resumes`: the role of `start` with which a device goes on that it has stopped, "" if
    with none; `apart`: none of those runs meanwhile; `follows`: those of the same phase that have run before; `awaits`:
    those that the driver has seen the end of, in a way that is not looked at (`any`: all)."""

    name: str
    params: tuple[Param, ...]
    irql: tuple[Expr, Expr] | None
    kind: ContextKind
    single: bool
    among: str
    last: bool
    phase: str | None
    again: bool
    resumes: str
    continues: Expr | None
    holds: tuple[Ref, ...]
    apart: tuple[RoleName, ...]
    follows: tuple[RoleName, ...]
    awaits: tuple[RoleName, ...]
    entry: Block | None
    exit: Block | None
    span: Span = place()


Item: TypeAlias = (
    Driver
    | Import
    | Setting
    | SettingDecl
    | Const
    | EnumDecl
    | LockDecl
    | DeviceDecl
    | DataDecl
    | EventDecl
    | VarDecl
    | ContextVar
    | InterruptDecl
    | DeferredDecl
    | Routine
    | Extern
    | Scenario
    | LockKind
    | HandleKind
    | Role
)


@dataclass(frozen=True, slots=True)
class Model:
    """One file."""

    items: tuple[Item, ...]
    span: Span = place()
