"""Calls of a kernel routine that differ only in the locks and local variables they are given.

A driver calls a few kernel routines again and again. What a call became is kept as a `Pattern`, and the next call of
the same shape (same routine, locks of the same kind, variables of the same range, the same constants) is made from it.
With other locks a pattern is relied on only after such a call became, the long way, exactly what the pattern makes of
it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from modelcheck.devices import plain
from modelcheck.ir import Cell, Term
from modelcheck.lower.builder import Builder, Range, Whole
from modelcheck.lower.scope import Ledger, Said, State
from modelcheck.record import dataclass, field
from modelcheck.verdict import Property

Cut: TypeAlias = tuple[str | int, ...]
"""A text; for the name of a lock the number of that lock among the call's."""
Register: TypeAlias = Cell | tuple[int, Callable[[State, str], Cell]] | int | None
"""What a register stands for: always the same cell, something of a lock, a local variable (its number among the
call's), or nothing."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A call. `shape`: all that decides what it becomes, but for which locks and local variables it is given; these,
    each once, in the order of the arguments."""

    shape: tuple[object, ...]
    locks: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(slots=True, eq=False)
class Pattern:
    """What calls of one shape become, alone at the beginning of a step."""

    locks: tuple[str, ...]
    whole: Whole
    registers: tuple[Register, ...]
    ranges: tuple[Range, ...]
    demands: tuple[tuple[Property, Cut, Cut], ...]
    changes_irql: bool
    result: Term
    proven: bool = False
    _said: dict[tuple[str, ...], list[Said]] = field(default_factory=dict)

    def cells(self, call: Repeatable, state: State) -> list[Cell | None]:
        found: list[Cell | None] = []
        for register in self.registers:
            match register:
                case (number, part):
                    found.append(part(state, call.locks[number]))
                case int(number):
                    found.append(call.cells[number])
                case _:
                    found.append(register)
        return found

    def says(self, locks: tuple[str, ...]) -> list[Said]:
        """The obligations of a call that is given these locks."""
        said = self._said.get(locks)
        if said is None:
            said = [
                (code, plain(_join(subject, locks)), plain(_join(why, locks))) for code, subject, why in self.demands
            ]
            self._said[locks] = said
        return said

    def apply(self, call: Repeatable, builder: Builder, state: State, slots: list[int]) -> Term:
        """Begins a step with it. `slots` are the numbers of what it says."""
        builder.whole = self.whole
        builder.code = list(self.whole.code)
        builder.cells = self.cells(call, state)
        builder.registers = {cell: index for index, cell in enumerate(builder.cells) if cell is not None}
        builder.ranges = list(self.ranges)
        builder.slots = slots
        builder.changes_irql = self.changes_irql
        return self.result


@dataclass(slots=True)
class Patterns:
    """The patterns of one environment; None for a shape whose calls are not alike."""

    known: dict[tuple[object, ...], Pattern | None] = field(default_factory=dict)

    def find(self, call: Repeatable) -> Pattern | None:
        """What can be relied on for this call."""
        pattern = self.known.get(call.shape)
        return pattern if pattern is not None and (pattern.proven or pattern.locks == call.locks) else None

    def learn(self, call: Repeatable, builder: Builder, result: Term, state: State, ledger: Ledger) -> None:
        """Takes in what a call became the long way, when nothing else is in the step yet."""
        said = [(o.code, o.subject, o.why) for o in (ledger.obligations[number] for number in builder.slots)]
        if call.shape not in self.known:
            self.known[call.shape] = _pattern(call, builder, result, said, state)
            return
        pattern = self.known[call.shape]
        if pattern is None or set(pattern.locks) & set(call.locks):
            return
        pattern.proven = (
            pattern.whole.code == tuple(builder.code)
            and pattern.cells(call, state) == builder.cells
            and pattern.ranges == tuple(builder.ranges)
            and pattern.says(call.locks) == said
            and pattern.changes_irql == builder.changes_irql
            and pattern.result == result
        )
        if not pattern.proven:
            self.known[call.shape] = None


def _pattern(call: Repeatable, builder: Builder, result: Term, said: list[Said], state: State) -> Pattern | None:
    registers: list[Register] = []
    for cell in builder.cells:
        if cell is None:
            registers.append(None)
        elif cell.is_global:
            registers.append(_of_lock(cell, call.locks, state) or cell)
        elif cell in call.cells:
            registers.append(call.cells.index(cell))
        else:
            return None
    demands = tuple((code, _cut(subject, call.locks), _cut(why, call.locks)) for code, subject, why in said)
    whole = Whole(tuple(builder.code), len(builder.cells))
    return Pattern(call.locks, whole, tuple(registers), tuple(builder.ranges), demands, builder.changes_irql, result)


def _of_lock(cell: Cell, locks: Sequence[str], state: State) -> tuple[int, Callable[[State, str], Cell]] | None:
    """Which lock a cell belongs to, and how to come to the same cell of another one."""
    for number, lock in enumerate(locks):
        part = state.part(cell, lock)
        if part is not None:
            return number, part
    return None


def _cut(text: str, locks: Sequence[str]) -> Cut:
    if not locks:
        return (text,)
    names = "|".join(map(re.escape, sorted(locks, key=len, reverse=True)))
    pieces = re.split(rf"(?<![\w.])({names})(?![\w.\[])", text)
    return tuple(locks.index(piece) if index % 2 else piece for index, piece in enumerate(pieces))


def _join(cut: Cut, locks: Sequence[str]) -> str:
    return "".join(piece if isinstance(piece, str) else locks[piece] for piece in cut)


__all__ = ["Pattern", "Patterns", "Repeatable"]
