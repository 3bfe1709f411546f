"""What a driver becomes: cells that hold its state, operations on them, and graphs of operations.

A *cell* is one variable of a context's state with a small range: the IRQL, how a lock is held, a lock's life, a saved
level, a flag. An *operation* is what one statement does, written on *registers*, so that the same operation serves
every lock and variable it is applied to: `KeAcquireSpinLock(&A, &x)` and `KeAcquireSpinLock(&B, &y)` are one operation
on different cells. A *graph* has locations and edges; an edge applies an operation to cells, or calls another graph.

How a lock is held is one number: 0 free, else `hold(mode, count, tag)`; counts stop at 6, "six or more".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import TypeAlias

from modelcheck.record import dataclass, field
from modelcheck.source import Span
from modelcheck.syntax import BinaryOp

FREE = 0
MAX_COUNT = 6
NO_TAG, ANY_TAG = 0, 1
"""Tag indices with a meaning of their own: acquired without a tag; held already at the start in a way every release
fits."""
UNINITIALISED, INITIALISED, FREED = 0, 1, 2
START, RUN, STOP = 2, 3, 4
"""The phases in which devices are started, in which routines overlap with one another and with those that follow, and
in which devices are stopped (`Root.phase`)."""


def hold(shared: bool, count: int, tag: int) -> int:
    """The number for a hold of that mode, count 1..3 and tag index."""
    return 1 + (tag * 2 + shared) * MAX_COUNT + count - 1


TAG_APART = 2 * MAX_COUNT
"""Holds that are not FREE and differ by a multiple of this differ in nothing but their tag."""


def unhold(value: int) -> tuple[bool, int, int]:
    """(shared, count, tag) of a hold that is not FREE."""
    rest, count = divmod(value - 1, MAX_COUNT)
    return bool(rest % 2), count + 1, rest // 2


CALLED_BACK = "called back "
"""Begins the name of the choice whether a call-out that came back has written to a variable."""


class Sort(Enum):
    """What a cell is; decides how the fixpoint keeps it."""

    IRQL = "irql"
    HOLD = "hold"
    LIFE = "life"
    FIELD = "field"
    GHOST = "ghost"
    SHARED = "shared"
    CONTEXT = "context"
    LOCAL = "local"
    LEVEL = "level"
    LOCKREF = "lockref"
    TAINT = "taint"
    CLOCK = "clock"
    EVENT = "event"
    DATA = "data"


@dataclass(slots=True, eq=False)
class Cell:
    """One variable with values low..high. `others` is what other contexts may write to it meanwhile, `start` what it
    may hold when a root starts; `spins`, `level` and `writers_first` belong to the lock of a HOLD cell. EVENT and DATA
    cells stand for the event or the data itself; one context alone sees nothing of them."""

    name: str
    sort: Sort
    low: int
    high: int
    others: Sequence[int] = ()
    start: tuple[int, ...] = ()
    spins: bool = False
    level: int = 0
    is_global: bool = True
    writers_first: bool = False

    @property
    def signature(self) -> tuple[object, ...]:
        """All that an operation's meaning depends on."""
        return (self.low, self.high, self.others)

    def __repr__(self) -> str:
        return f"<{self.name}>"


# ---- expressions on registers ----


@dataclass(frozen=True, slots=True)
class Const:
    value: int


@dataclass(frozen=True, slots=True)
class Reg:
    index: int


@dataclass(frozen=True, slots=True)
class Star:
    """Any value of low..high."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Not:
    operand: Term


@dataclass(frozen=True, slots=True)
class Arith:
    op: BinaryOp
    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class IsHeld:
    """1 when the hold in that register is not free (and of the mode asked for)."""

    register: int
    shared: bool | None


Term: TypeAlias = Const | Reg | Star | Not | Arith | IsHeld

# ---- instructions on registers; slots number the obligations of the operation ----


@dataclass(frozen=True, slots=True)
class Set:
    """register := term. Outside low..high it takes the nearest bound and breaks `slot` (C04)."""

    register: int
    value: Term
    low: int
    high: int
    slot: int | None


@dataclass(frozen=True, slots=True)
class Pick:
    """register := any value of low..high (`name` says why: `uninit x`, `result`, ...)."""

    register: int
    name: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Interfere:
    """register := its own value or one that others write meanwhile."""

    register: int


@dataclass(frozen=True, slots=True)
class Guess:
    """Assume that the condition holds: the edge is not taken otherwise."""

    condition: Term


@dataclass(frozen=True, slots=True)
class Demand:
    """Obligation `slot`: the condition holds. What follows runs in any case."""

    condition: Term
    slot: int


@dataclass(frozen=True, slots=True)
class DemandFree:
    """Obligation `slot`: no spin lock (or no lock at all) is held, of all locks there are but those in `besides`."""

    spin_only: bool
    slot: int
    besides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Choose:
    condition: Term
    then: tuple[Instruction, ...]
    otherwise: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """Acquire. `allowed` lists the (mode wanted, mode held) pairs that count up. Forbidden: breaks `slot`, the run
    ends. With `result`, a try: 1 and taken, or 0; where it is forbidden always 0.

    Without, the context may have to wait here: `waits` are the slots of what several contexts can break (D01; D02 of a
    spin lock; D04)."""

    register: int
    shared: bool
    tag: int
    allowed: frozenset[tuple[bool, bool]]
    slot: int | None
    result: int | None = None
    waits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """Release once. `shared` None: either mode; `tag` None: any."""

    register: int
    shared: bool | None
    tag: int | None
    unheld: int
    mismatch: int


@dataclass(frozen=True, slots=True)
class Convert:
    """Change the mode of a hold; with `result` a try."""

    register: int
    shared: bool
    unheld: int
    mismatch: int
    result: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """irql := term (NO_LEVEL leaves it). `slot` I04: only up / only down; `drop` I05: not below the level of a held
    spin lock."""

    register: int
    level: Term
    up: bool
    slot: int
    drop: int


@dataclass(frozen=True, slots=True)
class CounterStep:
    """A counter up or down; its limit means "that many or more"; below 0 it stays 0."""

    register: int
    up: bool
    limit: int


# What only several contexts together see; for one alone these do nothing.


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until the event is set; `slot` D03."""

    register: int
    slot: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Set the event, or clear it."""

    register: int
    on: bool


@dataclass(frozen=True, slots=True)
class Access:
    """Touch data that has no guard. `atomic`: in an interlocked operation."""

    register: int
    write: bool
    atomic: bool


ONE_OF_SEVERAL = "?"
"""In place of a DPC, timer or work item: it is not known which of several routines is meant."""


@dataclass(frozen=True, slots=True)
class Enable:
    """The system may start the routine from now on, or no longer. `lasts`: also again when its end was waited for, as a
    timer does; or, of one that is no longer started, a run of it that has begun goes on. `by`: the DPC, timer or work
    item that starts it, "" if it is named otherwise, `ONE_OF_SEVERAL` if this one or another is no longer started."""

    routine: str
    on: bool
    lasts: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Reenter:
    """The call may come back into the driver: any routine of the role may run here, in this context. `slot` D01."""

    role: str
    slot: int


Instruction: TypeAlias = (
    Set
    | Pick
    | Interfere
    | Guess
    | Demand
    | DemandFree
    | Choose
    | Take
    | Drop
    | Convert
    | Change
    | CounterStep
    | Await
    | Signal
    | Access
    | Enable
    | Reenter
)
Mutual: TypeAlias = Await | Signal | Access | Enable | Reenter


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Instructions on `size` registers. `reads`: registers whose value on entry can matter; `kills`: registers
    certainly written before they are read; `refreshes`: those of `reads` of which nothing is read before it is certain
    that others may have written to them; `writes`: all that can change. `holds`: (register, spins, level) of lock
    registers; `meets_others`: which locks are held there decides what several contexts can do; `scratch`: registers
    that stand for no cell. A driver has one object for each different operation (`Builder.finish`)."""

    code: tuple[Instruction, ...]
    size: int
    holds: tuple[tuple[int, bool, int], ...]
    reads: frozenset[int]
    writes: frozenset[int]
    kills: frozenset[int]
    refreshes: frozenset[int]
    demands_free: bool
    meets_others: bool
    scratch: frozenset[int]


@dataclass(slots=True, eq=False)
class Check:
    """An obligation on one cell alone: its value is in `allowed`."""

    obligation: int
    cell: Cell
    allowed: frozenset[int]


@dataclass(slots=True, eq=False)
class Edge:
    """From one location to another. `operation` on `cells`, or a call: then `callee`, and values copied in and out.

    `obligations[slot]` numbers the program's obligations. `step` False: part of the step before it (no source line of
    its own). `taken`: how the condition went, on the two edges of one. `joined`: nothing comes between the edge before
    and this one (`atomic`).
    """

    source: int
    target: int
    span: Span
    operation: Operation | None = None
    cells: tuple[Cell | None, ...] = ()
    obligations: tuple[int, ...] = ()
    callee: Graph | None = None
    copies_in: tuple[tuple[Cell, Cell], ...] = ()
    copies_out: tuple[tuple[Cell, Cell], ...] = ()
    checks: tuple[Check, ...] = ()
    step: bool = True
    taken: bool | None = None
    joined: bool = False

    @property
    def code(self) -> tuple[Instruction, ...]:
        """The instructions of its operation; none for a call."""
        return () if self.operation is None else self.operation.code


@dataclass(slots=True, eq=False, repr=False)
class Graph:
    """A routine for one binding of its lock parameters, or the harness that starts a root. `idle`: statements under a
    `default` that has no value left, which nobody expects a path to come to."""

    name: str
    routine: str
    span: Span
    size: int = 0
    entry: int = 0
    exit: int = 1
    edges: list[Edge] = field(default_factory=list)
    locals: list[Cell] = field(default_factory=list)
    inputs: list[Cell] = field(default_factory=list)
    outputs: list[Cell] = field(default_factory=list)
    result: Cell | None = None
    idle: list[Span] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<graph {self.name}>"

    def location(self) -> int:
        self.size += 1
        return self.size - 1


@dataclass(slots=True, eq=False)
class Root:
    """A routine the system starts: its harness, its phase (0 load .. 5 unload), the cells whose start values vary.
    `kind` is `thread`, `dpc` or `isr`; `role` the name of its role, "" for a root by its clauses alone; `single`: one
    at a time; `admitted`: below that level its processor has to run for a DPC or an ISR to start."""

    routine: str
    graph: Graph
    phase: int
    levels: tuple[int, ...]
    environment: Environment
    kind: str = "thread"
    role: str = ""
    single: bool = False
    comes_back: str = ""
    """The role in which call-outs can come back to it; "" if they do not."""
    among: str = ""
    """Of all single roots that say the same, one is there at a time; "": it says nothing."""
    last: bool = False
    """Of those none comes behind it."""
    apart: frozenset[str] = frozenset()
    """The roles whose roots are not there while it is."""
    awaits: frozenset[str] = frozenset()
    """The roles of whose runs the driver has seen the end, in a way that is not looked at; `any`: of all."""
    follows: tuple[str, ...] = ()
    """The roles of its phase whose roots have run before it, those first that others of them follow."""
    devices: tuple[tuple[str, str], ...] = ()
    """For each parameter that is a device which instance."""
    admitted: int = 0
    continues: Cell | None = None
    starts: dict[str, Sequence[int]] = field(default_factory=dict)
    given: list[Cell] = field(default_factory=list)
    end: Edge | None = None
    """The edge at whose start the root has ended: B03 and I02 stand there."""
    outcomes: dict[tuple[str, int], int] = field(default_factory=dict)
    """(life cell, value): the number of the question whether the driver can go on with that value."""
    running: frozenset[str] = frozenset()
    """The locks that each run of it holds for those who wait for its end."""
    early: dict[str, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    """For each life cell the values it can have when the root starts before the earlier phases have ended, as it is
    enabled that early, or when the device is started again: with the numbers of the questions whether it has, none
    where that is not asked."""
    resumes: str = ""
    """The role with which a device goes on that it has stopped; "" if with none."""
    again: bool = False
    """It comes again, whether or not a routine stops the device."""
    resumed: frozenset[str] = frozenset()
    """The life cells that it may find as its device was left when that was stopped."""


@dataclass(slots=True, eq=False)
class Environment:
    """The cells of the global state as one set of roots sees them. `writes`: what others may write to shared variables;
    `fixed`: the value of those that nobody ever writes; `early`: the roots are of phases in which what they enable may
    begin before its own."""

    cells: dict[str, Cell] = field(default_factory=dict)
    writes: dict[str, Sequence[int]] = field(default_factory=dict)
    fixed: dict[str, int] = field(default_factory=dict)
    early: bool = False
    again: bool = False
    """The roots come again, when others have used what they find."""


def instructions(code: Iterable[Instruction]) -> Iterator[Instruction]:
    """All instructions of a code, those inside choices too, in the order they are written."""
    for instruction in code:
        yield instruction
        if isinstance(instruction, Choose):
            yield from instructions(instruction.then)
            yield from instructions(instruction.otherwise)


def every_graph(roots: list[Graph]) -> list[Graph]:
    """The graphs reachable from the roots by calls, in the order they are met."""
    order: list[Graph] = []
    seen: set[Graph] = set()
    pending = list(reversed(roots))
    while pending:
        graph = pending.pop()
        if graph not in seen:
            seen.add(graph)
            order.append(graph)
            pending += reversed([edge.callee for edge in graph.edges if edge.callee is not None])
    return order
