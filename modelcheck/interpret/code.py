"""The instructions of the stack machine, and the code of a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from modelcheck import syntax as s
from modelcheck.interpret.values import Domain, Local, Place, Value
from modelcheck.record import dataclass, field
from modelcheck.source import Span
from modelcheck.verdict import Property


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
    allowed: Sequence[int]


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
    besides: tuple[Place, ...] = ()


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
    """Others may write before the block begins, to these shared variables and to what these parameters refer to."""

    variables: frozenset[str]
    parameters: tuple[Place, ...]


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
class CallOut:
    """A place where the system may come back into the driver, with a routine of the role, in the same context."""

    role: str


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
class SignalOp:
    """`wait`, `set` or `clear` an event."""

    verb: s.SignalOp
    place: Place


@dataclass(frozen=True, slots=True)
class Permit:
    """`enable` and `disable`: whether the system may start what the place denotes."""

    on: bool
    place: Place


@dataclass(frozen=True, slots=True)
class ClauseLock:
    """What the `acquires` or `releases` clause of that number does, for an extern without a body."""

    number: int
    acquires: bool
    mode: s.Mode
    tag: str | None


@dataclass(frozen=True, slots=True)
class ClauseLevel:
    """What the `raises` clause of that number does, for an extern without a body."""

    number: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """What an extern without a body gives back, within its `ensures`."""


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
    """Time passes, in ns; `each`: that often as the value on the stack says."""

    nanoseconds: int
    each: bool


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
    | CallOut
    | Result
    | Suppose
    | Check
    | Touch
    | LockOp
    | SignalOp
    | Permit
    | ClauseLock
    | ClauseLevel
    | GiveBack
    | Change
    | MayBlock
    | Boundary
    | Finish
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
