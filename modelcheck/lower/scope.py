"""What names mean while a routine is lowered, and the cells of the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.devices import plain
from modelcheck.ir import Cell, Sort, Term
from modelcheck.record import dataclass, field
from modelcheck.resolve import Program, enum_of, qualified, type_range
from modelcheck.source import Source, Span
from modelcheck.verdict import NO_LEVEL, Obligation, Property

MAX_TAGS = 200

Said: TypeAlias = tuple[Property, str, str]
"""An obligation as far as it is not a matter of its place: code, subject, why."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a cell, or in a scratch register of the step that is being built."""

    place: Cell | int
    type: s.Type


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter by value: a term over the registers of the step."""

    term: Term
    type: s.Type | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    name: str


@dataclass(frozen=True, slots=True)
class Handle:
    """A handle variable: its fields, and the locks its lock field can refer to (value i + 1; 0 is none)."""

    fields: dict[str, Variable]
    candidates: tuple[str, ...]

    def key(self) -> tuple[object, ...]:
        return self.candidates


@dataclass(frozen=True, slots=True)
class Object:
    """An interrupt, event, routine, data object, deferred object or device, by its declared name."""

    name: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A parameter that is not looked at."""


Binding: TypeAlias = Variable | Value | Lock | Handle | Object | Opaque


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a statement stands: the names it sees, the routine that is reported, and, inside a kernel routine, the call
    that its obligations are placed at. `quiet`: nothing comes in between (in `atomic`, or in what is called there)."""

    names: dict[str, Binding]
    routine: str
    call: Span | None = None
    callee: str = ""
    quiet: bool = False

    def place(self, span: Span) -> Span:
        return self.call or span

    def subject(self, otherwise: str) -> str:
        return self.callee or otherwise


class State:
    """The cells of one environment: made when first asked for."""

    def __init__(
        self,
        program: Program,
        environment: ir.Environment,
        tags: dict[str, dict[str | None, int]],
        timed: bool = False,
    ) -> None:
        self.program = program
        self.timed = timed
        self.environment = environment
        self.tags = tags
        self.guarded: dict[str, dict[str, s.VarDecl]] | None = None
        """For each lock the variables it guards, once somebody has asked."""
        self.called_back: Mapping[str, Mapping[str, Sequence[int]]] = {}
        """For each role what a call-out that comes back to it can write to shared variables."""
        self.again: frozenset[str] = frozenset()
        """The routines that may begin again when their end was waited for."""
        self.freed: frozenset[str] = frozenset()
        """The kinds of locks of which some are freed while routines run that may use them."""

    def _cell(self, key: str, sort: Sort, low: int, high: int, **more: object) -> Cell:
        cell = self.environment.cells.get(key)
        if cell is None:
            cell = self.environment.cells[key] = Cell(key, sort, low, high, **more)  # type: ignore[arg-type]
        return cell

    @property
    def irql(self) -> Cell:
        return self._cell("irql", Sort.IRQL, 0, NO_LEVEL - 1)

    @property
    def taint(self) -> Cell:
        return self._cell("unmodelled", Sort.TAINT, 0, 1)

    def kind(self, lock: str) -> s.LockKind:
        return self.program.lock_kinds[self.declaration(lock).kind]

    def declaration(self, lock: str) -> s.LockDecl:
        return self.program.locks[lock.partition("[")[0]]

    def hold(self, lock: str) -> Cell:
        kind = self.kind(lock)
        level = 0 if kind.level is None else self.level(lock)
        high = ir.hold(True, ir.MAX_COUNT, MAX_TAGS - 1)
        first = kind.writers_first
        return self._cell(f"hold {lock}", Sort.HOLD, 0, high, spins=kind.spins, level=level, writers_first=first)

    def event(self, name: str) -> Cell:
        return self._cell(f"event {name}", Sort.EVENT, 0, 0)

    def data(self, name: str) -> Cell:
        return self._cell(f"data {name}", Sort.DATA, 0, 0)

    def level(self, lock: str) -> int:
        """The level of a spin lock: its interrupt's for an interrupt lock, its kind's otherwise."""
        owner = lock.partition(".")[0]
        if owner in self.program.interrupts and lock == f"{owner}.lock":
            return self.program.constant(self.program.interrupts[owner].level) or 0
        level = self.kind(lock).level
        return 0 if level is None else self.program.constant(level) or 0

    def life(self, lock: str) -> Cell:
        start = ir.INITIALISED if self.declaration(lock).initialised else ir.UNINITIALISED
        return self._cell(f"life {lock}", Sort.LIFE, 0, 2, start=(start,))

    def clock(self, lock: str) -> Cell:
        """How long a spin lock has been held, in ns; stops just above the limit."""
        return self._cell(f"time {lock}", Sort.CLOCK, 0, time_limit(self.program) + 1)

    def untimed(self, lock: str) -> Cell:
        """Whether something of unknown cost was done while the lock was held."""
        return self._cell(f"untimed {lock}", Sort.CLOCK, 0, 1)

    def begun(self, routine: str) -> Cell:
        """Whether this context has enabled a routine that may still begin to run."""
        return self._cell(f"begun {routine}", Sort.CONTEXT, 0, 1, start=(0,))

    def tag(self, lock: str, tag: str | None) -> int:
        table = self.tags.setdefault(self.kind(lock).name, {None: ir.NO_TAG, "*": ir.ANY_TAG})
        return table.setdefault(tag, min(len(table), MAX_TAGS - 1))

    def field(self, lock: str, field: s.Field) -> Cell:
        low, high = type_range(self.program, field.type)
        sort = Sort.GHOST if field.ghost else Sort.FIELD
        first = self._first(field.type, field.value)
        return self._cell(f"{lock}.{field.name}", sort, low, high, start=(first,))

    def _first(self, kind: s.Type, value: s.Expr | None) -> int:
        """The value at the start: the declared one; without one NO_LEVEL for a KIRQL, the lowest for anything else."""
        if value is not None:
            return self.program.constant_of(kind, value) or 0
        low, high = type_range(self.program, kind)
        return high if is_kirql(kind) else low

    def part(self, cell: Cell, lock: str) -> Callable[[State, str], Cell] | None:
        """If a cell belongs to a lock, how to come to the same one of another lock of its kind."""
        if cell.name in (f"hold {lock}", f"life {lock}"):
            return State.hold if cell.sort is Sort.HOLD else State.life
        for declared in self.kind(lock).fields:
            if cell.name == f"{lock}.{declared.name}":
                return lambda state, other, one=declared: state.field(other, one)  # type: ignore[misc]
        return None

    def shared(self, variable: s.VarDecl) -> Cell:
        low, high = type_range(self.program, variable.type)
        if variable.name in self.environment.fixed:
            low = high = self.environment.fixed[variable.name]
        written = self.environment.writes.get(plain(variable.name), ())
        return self._cell(f"var {variable.name}", Sort.SHARED, low, high, others=written)

    def context(self, variable: s.ContextVar) -> Cell:
        low, high = type_range(self.program, variable.type)
        first = self._first(variable.type, variable.value)
        return self._cell(f"context {variable.name}", Sort.CONTEXT, low, high, start=(first,))


@dataclass(slots=True)
class Ledger:
    """The obligations of a program, each once, and the callees no model knows."""

    obligations: list[Obligation] = field(default_factory=list)
    places: dict[tuple[str, Source, int, int], dict[Said, int]] = field(default_factory=dict)
    """For each place in a routine the numbers of what is said there."""
    unmodelled: dict[str, Span] = field(default_factory=dict)
    strangers: dict[str, dict[str, None]] = field(default_factory=dict)
    """For each routine the callees in it that no model knows."""
    timing: dict[int, int] = field(default_factory=dict)
    """For each T01 obligation the question whether all costs on the way are known."""
    untimed: dict[str, Span] = field(default_factory=dict)
    """Callees of unknown cost."""
    handed: set[str] = field(default_factory=set)
    """Events given to kernel routines that are not about events: the system may set them."""
    assumed: dict[str, Span] = field(default_factory=dict)
    """Kernel routines whose cost no model states, taken to be nothing."""

    def number(self, code: Property, routine: str, span: Span, subject: str, why: str) -> int:
        """The number of an obligation, which is a new one if nobody has said it yet."""
        return self.numbered(routine, span, ((code, plain(subject), plain(why)),))[0]

    def numbered(self, routine: str, span: Span, said: Iterable[Said]) -> list[int]:
        """The number of each of several obligations at one place, named as the model declares names."""
        at = (routine, span.source, span.start, span.end)
        known = self.places.get(at)
        if known is None:
            known = self.places[at] = {}
        found = []
        for each in said:
            number = known.get(each)
            if number is None:
                number = known[each] = len(self.obligations)
                code, subject, why = each
                self.obligations.append(Obligation(code, routine, span, subject, why))
            found.append(number)
        return found


def object_name(ref: s.Ref, binding: Binding | None) -> str:
    """The full name of the object that a reference names: `Port.Done` for `p.Done` of a device that is given as p."""
    if isinstance(binding, Object):
        return ".".join((binding.name, *(m.name for m in ref.selectors if isinstance(m, s.Member))))
    return qualified(ref)


def time_limit(program: Program) -> int:
    """How long a spin lock may be held, in ns: 25 us (kernel/introduction-to-spin-locks) unless a setting says
    otherwise."""
    return 1000 * (program.setting("hold_limit_us") if "hold_limit_us" in program.settings else 25)


def is_kirql(kind: s.Type) -> bool:
    return isinstance(kind, s.NamedType) and kind.name == "KIRQL"


def is_enum(program: Program, kind: s.Type | None) -> bool:
    return kind is not None and bool(enum_of(program, kind))
