"""Which variables of a scenario are kept where: with each context, once for all, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from modelcheck import ir
from modelcheck.ir import Cell, Instruction, Sort
from modelcheck.lower import every_graph
from modelcheck.lower.builder import registers_of
from modelcheck.lower.closed import CODES, Closed, Context, is_common
from modelcheck.record import dataclass, field
from modelcheck.resolve import qualified


@dataclass(slots=True)
class Layout:
    """Where cells are kept: `own` of each context, `common` ones once. Cells in neither are constant."""

    closed: Closed
    own: list[Cell] = field(default_factory=list)
    common: list[Cell] = field(default_factory=list)
    data: list[Cell] = field(default_factory=list)
    events: list[Cell] = field(default_factory=list)
    contended: frozenset[Cell] = frozenset()
    varied: list[tuple[Cell, tuple[int, ...]]] = field(default_factory=list)
    """Shared variables that can have several values at the start."""
    queued: frozenset[Cell] = frozenset()
    """Locks where a waiting writer stops readers, and there are some."""
    noticed: frozenset[Cell] = frozenset()
    """Locks of which it matters when they are released: those, and what somebody tries to get."""
    guards: dict[Cell, Cell] = field(default_factory=dict)
    """For variables that contexts write to each other the lock that is declared to guard them: the hold of it. That it
    does is seen as the search goes."""
    irql: int = 0
    holds: tuple[int, ...] = ()
    """Where among `own` the IRQL is, and the holds."""

    def __post_init__(self) -> None:
        uses = [_uses(context, self.closed) for context in self.closed.contexts]
        starts = dict(self.closed.starts)
        contended = set()
        for cell in dict.fromkeys(c for use in uses for c in use.touched):
            users = [use for use in uses if cell in use.touched]
            writers = [use for use in uses if cell in use.written]
            relevant = any(cell in use.read for use in uses)
            if cell.sort in (Sort.LIFE, Sort.TAINT, Sort.CLOCK) or (cell.sort is Sort.GHOST and not relevant):
                continue
            shared = len(users) > 1 and bool(writers) and (is_common(cell) or cell.sort is Sort.HOLD)
            if shared or cell.sort is Sort.EVENT:
                contended.add(cell)
            if cell.sort is Sort.EVENT:
                self.events.append(cell)
                self.common.append(cell)
            elif cell.sort is Sort.DATA:
                self.data.append(cell)
            elif is_common(cell) and shared:
                self.common.append(cell)
            else:
                self.own.append(cell)
            if is_common(cell) and len(starts.get(cell, ())) > 1:
                self.varied.append((cell, starts[cell]))
        self.contended = frozenset(contended)
        read = {cell for use in uses for cell in use.shared}
        self.queued = frozenset(cell for cell in self.own if cell.writers_first and cell in read)
        self.noticed = self.queued.union(*(use.tried for use in uses))
        self.guards = self._guards({cell for use in uses for cell in use.copied})
        self.irql = next((i for i, c in enumerate(self.own) if c.sort is Sort.IRQL))
        self.holds = tuple(i for i, c in enumerate(self.own) if c.sort is Sort.HOLD)

    def _guards(self, copied: set[Cell]) -> dict[Cell, Cell]:
        locks = {cell.name: cell for cell in self.own if cell.sort is Sort.HOLD}
        found = {}
        for cell in self.common:
            if cell.sort is Sort.SHARED and cell in self.contended and cell not in copied:
                guards = self.closed.program.variables[cell.name.removeprefix("var ")].guards
                lock = locks.get(f"hold {qualified(guards[0])}") if len(guards) == 1 else None
                if lock in self.contended:
                    found[cell] = lock
        return found


@dataclass(slots=True)
class _Uses:
    """The cells a context touches: which it reads where it matters, which it writes."""

    touched: set[Cell] = field(default_factory=set)
    read: set[Cell] = field(default_factory=set)
    written: set[Cell] = field(default_factory=set)
    shared: set[Cell] = field(default_factory=set)
    """Locks that it takes shared."""
    tried: set[Cell] = field(default_factory=set)
    """Locks that it tries to get."""
    copied: set[Cell] = field(default_factory=set)
    """What it hands to calls, and gets from them."""


def _uses(context: Context, closed: Closed) -> _Uses:
    found = _Uses()
    for graph in every_graph([context.graph]):
        for edge in graph.edges:
            if edge.operation is not None:
                found.touched.update(c for c in edge.cells if c is not None and c.is_global)
                found.written.update(
                    c for r in _written(edge.operation.code) if (c := edge.cells[r]) is not None and c.is_global
                )
                numbers = edge.obligations
                reads = _read(edge.operation.code, lambda slot, n=numbers: closed.obligations[n[slot]].code in CODES)  # type: ignore[misc]
                found.read.update(c for r in reads if (c := edge.cells[r]) is not None and c.is_global)
                found.shared.update(c for r in taken_shared(edge.operation.code) if (c := edge.cells[r]) is not None)
                found.tried.update(c for r in tried(edge.operation.code) if (c := edge.cells[r]) is not None)
            for ours, theirs in edge.copies_in + edge.copies_out:
                found.touched.update(c for c in (ours, theirs) if c.is_global)
                found.copied.update((ours, theirs))
                found.read.update(c for c in (ours,) if c.is_global)
                found.written.update(c for c in (theirs,) if c.is_global)
    return found


def _written(code: Iterable[Instruction]) -> set[int]:
    found: set[int] = set()
    for instruction in code:
        match instruction:
            case ir.Choose(_, then, otherwise):
                found |= _written(then) | _written(otherwise)
            case ir.Access(register, write):
                found.update([register] if write else [])
            case ir.Guess() | ir.Demand() | ir.DemandFree() | ir.Await() | ir.Interfere() | ir.Enable() | ir.Reenter():
                pass
            case ir.Take(register, result=result) | ir.Convert(register, result=result):
                found.update([register] if result is None else [register, result])
            case _:
                found.add(instruction.register)
    return found


def taken_shared(code: Iterable[Instruction]) -> Iterator[int]:
    """The registers of the locks that are taken shared."""
    for instruction in code:
        match instruction:
            case ir.Choose(_, then, otherwise):
                yield from taken_shared(then)
                yield from taken_shared(otherwise)
            case ir.Take(register, True):
                yield register


def tried(code: Iterable[Instruction]) -> Iterator[int]:
    """The registers of the locks that are tried: taken or converted if that is possible."""
    for instruction in code:
        match instruction:
            case ir.Choose(_, then, otherwise):
                yield from tried(then)
                yield from tried(otherwise)
            case ir.Take(register, result=int()) | ir.Convert(register, result=int()):
                yield register


def _read(code: Iterable[Instruction], asked: Callable[[int], bool]) -> set[int]:
    """Registers whose value matters for more than a demand in a slot that is not asked (B08 speaks of ghosts)."""
    found: set[int] = set()
    for instruction in code:
        match instruction:
            case ir.Choose(condition, then, otherwise):
                found |= registers_of(condition) | _read(then, asked) | _read(otherwise, asked)
            case ir.Set(_, value):
                found |= registers_of(value)
            case ir.Guess(condition):
                found |= registers_of(condition)
            case ir.Demand(condition, slot):
                found |= registers_of(condition) if asked(slot) else set()
            case ir.Change(_, level):
                found |= registers_of(level)
            case ir.CounterStep(register):
                found.add(register)
            case _:
                pass
    return found
