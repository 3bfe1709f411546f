"""What a segment does to single values: every outcome, exactly (docs/language.md sections 4 and 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from modelcheck import ir
from modelcheck.engines.execute import taken
from modelcheck.ir import FREE, MAX_COUNT, Instruction, Operation, Term, hold, unhold
from modelcheck.record import dataclass
from modelcheck.resolve import apply
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import NO_LEVEL

MAX_SPREAD = 4096
"""An open value is split into at most so many."""

Choices: TypeAlias = tuple[tuple[str, int, int], ...]
"""Names, the register they are about (-1: none), values."""


class TooWide(Exception):
    """Something open can take too many values."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The locks a context holds that the operation does not touch: any at all, and the highest level of a spin lock
    (-1: none)."""

    any_held: bool
    spin_level: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`values` of all registers afterwards. `broken`: a bit for each slot. `touched`: (register, write, atomic) of
    data; `signals`: (register, on). `ends`: an assumption failed then, so that the run ends there."""

    values: tuple[int, ...]
    broken: int
    choices: Choices
    touched: tuple[tuple[int, bool, bool], ...]
    signals: tuple[tuple[int, bool], ...]
    ends: bool = False


@dataclass(slots=True)
class _Run:
    """One way through the code so far."""

    values: list[int]
    broken: int = 0
    choices: Choices = ()
    touched: tuple[tuple[int, bool, bool], ...] = ()
    signals: tuple[tuple[int, bool], ...] = ()

    def split(self) -> _Run:
        return _Run(list(self.values), self.broken, self.choices, self.touched, self.signals)


def outcomes(
    code: tuple[Instruction, ...],
    operation: Operation,
    values: tuple[int, ...],
    elsewhere: Elsewhere,
    refused: frozenset[tuple[int, bool]],
) -> tuple[Outcome, ...]:
    """Every way through `code` from these values, then those that break something before an assumption fails.
    `refused`: (register, shared) of locks that cannot be got now: a try gives false.

    Raises:
        TooWide: something open can take too many values.
    """
    runner = _Runner(operation, elsewhere, refused)
    runs = list(runner.sequence(code, 0, _Run(list(values))))
    return tuple(
        Outcome(tuple(run.values), run.broken, run.choices, run.touched, run.signals, ends)
        for found, ends in ((runs, False), (runner.cut, True))
        for run in found
    )


class _Runner:
    def __init__(self, operation: Operation, elsewhere: Elsewhere, refused: frozenset[tuple[int, bool]]) -> None:
        self.operation = operation
        self.elsewhere = elsewhere
        self.refused = refused
        self.cut: list[_Run] = []
        """Ways that have broken something when an assumption fails."""

    def sequence(self, code: tuple[Instruction, ...], start: int, run: _Run) -> Iterator[_Run]:
        """The ends of the code from `start` on, depth first."""
        for index in range(start, len(code)):
            instruction = code[index]
            if isinstance(instruction, ir.Choose):
                for value, decided in self.terms(instruction.condition, run):
                    chosen = instruction.then if value else instruction.otherwise
                    for after in self.sequence(chosen, 0, decided):
                        yield from self.sequence(code, index + 1, after)
                return
            ways = self.one(instruction, run)
            if len(ways) != 1:
                for way in ways:
                    yield from self.sequence(code, index + 1, way)
                return
            run = ways[0]
        yield run

    def one(self, instruction: Instruction, run: _Run) -> list[_Run]:
        match instruction:
            case ir.Set(register, value, low, high, slot):
                return [self.set(r, register, v, low, high, slot) for v, r in self.terms(value, run)]
            case ir.Pick(register, name, low, high):
                return [self.picked(run, register, name, value) for value in _spread(low, high)]
            case ir.Guess(condition):
                ways = self.terms(condition, run)
                self.cut += [r for v, r in ways if not v and r.broken]
                return [r for v, r in ways if v]
            case ir.Demand(condition, slot):
                return [self.demand(r, bool(v), slot) for v, r in self.terms(condition, run)]
            case ir.DemandFree(spin_only, slot, besides):
                return [self.demand(run, self.nothing_held(run, spin_only, besides), slot)]
            case ir.Take():
                return self.take(run, instruction)
            case ir.Drop():
                return self.drop(run, instruction)
            case ir.Convert():
                return self.convert(run, instruction)
            case ir.Change():
                return [self.change(r, instruction, v) for v, r in self.terms(instruction.level, run)]
            case ir.CounterStep(register, up, limit):
                return self.counter(run, register, up, limit)
            case ir.Signal(register, on):
                run.signals = (*run.signals, (register, on))
                return [run]
            case ir.Access(register, write, atomic):
                run.touched = (*run.touched, (register, write, atomic))
                return [run]
            case ir.Interfere() | ir.Await() | ir.Enable() | ir.Reenter():
                return [run]
            case ir.Choose():
                raise AssertionError("taken apart in sequence")

    # ---- terms ----

    def terms(self, term: Term, run: _Run) -> list[tuple[int, _Run]]:
        """The values of a term, each with the run in which it has that value."""
        if not _open(term):
            return [(self.term(term, run.values), run)]
        match term:
            case ir.Star(low, high):
                found = []
                for value in _spread(low, high):
                    new = run.split()
                    new.choices = (*new.choices, ("*", -1, value))
                    found.append((value, new))
                return found
            case ir.Not(operand):
                return [(int(not v), r) for v, r in self.terms(operand, run)]
            case ir.Arith(op, left, right):
                return self.arithmetic(op, left, right, run)
            case _:
                raise AssertionError("nothing is open there")

    def arithmetic(self, op: BinaryOp, left: Term, right: Term, run: _Run) -> list[tuple[int, _Run]]:
        found: list[tuple[int, _Run]] = []
        for first, inside in self.terms(left, run):
            if (op is BinaryOp.AND and not first) or (op is BinaryOp.OR and first):
                found.append((int(op is BinaryOp.OR), inside))
                continue
            found += [(apply(op, first, second) or 0, r) for second, r in self.terms(right, inside)]
        return found

    def term(self, term: Term, values: list[int]) -> int:
        match term:
            case ir.Const(value):
                return value
            case ir.Reg(index):
                return values[index]
            case ir.Not(operand):
                return int(not self.term(operand, values))
            case ir.IsHeld(register, shared):
                held = values[register]
                return int(held != FREE and (shared is None or unhold(held)[0] == shared))
            case ir.Arith(op, left, right):
                return apply(op, self.term(left, values), self.term(right, values)) or 0
            case ir.Star(low):
                return low

    # ---- effects ----

    def set(self, run: _Run, register: int, value: int, low: int, high: int, slot: int | None) -> _Run:
        if not low <= value <= high:
            if slot is not None:
                run.broken |= 1 << slot
            value = min(max(value, low), high)
        run.values[register] = value
        return run

    def picked(self, run: _Run, register: int, name: str, value: int) -> _Run:
        new = run.split()
        new.values[register] = value
        new.choices = (*new.choices, (name, -1, value))
        return new

    def demand(self, run: _Run, holds: bool, slot: int) -> _Run:
        if not holds:
            run.broken |= 1 << slot
        return run

    def nothing_held(self, run: _Run, spin_only: bool, besides: tuple[int, ...]) -> bool:
        if self.elsewhere.spin_level >= 0 or (self.elsewhere.any_held and not spin_only):
            return False
        asked = (r for r, spins, _ in self.operation.holds if (spins or not spin_only) and r not in besides)
        return all(run.values[r] == FREE for r in asked)

    def take(self, run: _Run, take: ir.Take) -> list[_Run]:
        after = taken(run.values[take.register], take)
        if take.result is None:
            if after is None:
                if take.slot is not None:
                    run.broken |= 1 << take.slot
                return []
            run.values[take.register] = after
            return [run]
        refused = run.split()
        refused.values[take.result] = 0
        if after is None or (take.register, take.shared) in self.refused:
            return [refused]
        run.choices = (*run.choices, ("try", -1, 1))
        run.values[take.register] = after
        run.values[take.result] = 1
        return [run]

    def drop(self, run: _Run, drop: ir.Drop) -> list[_Run]:
        value = run.values[drop.register]
        if value == FREE:
            run.broken |= 1 << drop.unheld
            return [run]
        shared, count, tag = unhold(value)
        if drop.shared not in (None, shared) or (drop.tag is not None and tag not in (drop.tag, ir.ANY_TAG)):
            run.broken |= 1 << drop.mismatch
        if count < MAX_COUNT:
            run.values[drop.register] = hold(shared, count - 1, tag) if count > 1 else FREE
            return [run]
        ways = []
        for left in (MAX_COUNT - 1, MAX_COUNT):
            new = run.split()
            new.values[drop.register] = hold(shared, left, tag)
            new.choices = (*new.choices, ("count", drop.register, left))
            ways.append(new)
        return ways

    def convert(self, run: _Run, convert: ir.Convert) -> list[_Run]:
        value = run.values[convert.register]
        if value == FREE or unhold(value)[0] == convert.shared:
            run.broken |= 1 << (convert.unheld if value == FREE else convert.mismatch)
            if convert.result is not None:
                run.values[convert.result] = 0
            return [run]
        _, count, tag = unhold(value)
        changed = hold(convert.shared, count, tag)
        if convert.result is None:
            run.values[convert.register] = changed
            return [run]
        refused = run.split()
        refused.values[convert.result] = 0
        if (convert.register, convert.shared) in self.refused:
            return [refused]
        run.choices = (*run.choices, ("try", -1, 1))
        run.values[convert.register], run.values[convert.result] = changed, 1
        return [run]

    def change(self, run: _Run, change: ir.Change, level: int) -> _Run:
        now = run.values[change.register]
        if (level < now) if change.up else (level > now):
            run.broken |= 1 << change.slot
        if not 0 <= level < NO_LEVEL:
            return run
        run.values[change.register] = level
        if level < now:
            held = any(
                spins and limit > level and run.values[register] != FREE
                for register, spins, limit in self.operation.holds
            )
            if held or self.elsewhere.spin_level > level:
                run.broken |= 1 << change.drop
        return run

    def counter(self, run: _Run, register: int, up: bool, limit: int) -> list[_Run]:
        value = run.values[register]
        if up or value < limit:
            run.values[register] = min(value + 1, limit) if up else max(value - 1, 0)
            return [run]
        ways = []
        for number in (limit - 1, limit):
            new = run.split()
            new.values[register] = number
            new.choices = (*new.choices, ("counter", register, number))
            ways.append(new)
        return ways


def _spread(low: int, high: int) -> range:
    if high - low >= MAX_SPREAD:
        raise TooWide
    return range(low, high + 1)


def _open(term: Term) -> bool:
    """Whether evaluating the term makes a choice."""
    match term:
        case ir.Star():
            return True
        case ir.Not(operand):
            return _open(operand)
        case ir.Arith(_, left, right):
            return _open(left) or _open(right)
        case _:
            return False


__all__ = ["Choices", "Elsewhere", "Outcome", "TooWide", "outcomes"]
