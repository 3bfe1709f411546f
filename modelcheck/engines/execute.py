"""What an operation does to values: the fixpoint's own reading of docs/language.md section 4.

A register holds a number, None (any value: the cell is not followed), or a `Pending` set that is split into single
values only when an instruction looks at it. Over-approximate exactly where None is involved, exact otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck.ir import FREE, MAX_COUNT, Instruction, Operation, Term, hold, unhold
from modelcheck.lower.builder import registers_of
from modelcheck.record import dataclass
from modelcheck.resolve import apply
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import NO_LEVEL

MAX_SPREAD = 2_000
"""A followed variable is split into at most so many values at once."""


FEW = 8
"""A scratch register keeps an open value apart if it has at most so many."""


class TooWide(Exception):
    """A followed register would take too many values."""

    def __init__(self, register: int) -> None:
        super().__init__(f"register {register}")
        self.register = register


@dataclass(frozen=True, slots=True)
class Pending:
    """One of these values, not yet asked which."""

    values: tuple[int, ...]


Content: TypeAlias = int | Pending | None
Wanted: TypeAlias = tuple[int, bool, int]
"""A demand on locks the operation does not touch: slot, spin locks only, and the level they may not exceed (-1: none
held)."""


@dataclass(slots=True)
class State:
    """One way through the operation so far. `failed`: bit for each slot that is broken, or may be. `stopped`: the run
    waits for ever."""

    values: list[Content]
    failed: int = 0
    wanted: tuple[Wanted, ...] = ()
    stopped: bool = False

    def copy(self) -> State:
        return State(list(self.values), self.failed, self.wanted)


def run(
    operation: Operation, inputs: list[Content], others: Sequence[Sequence[int]], followed: Sequence[bool]
) -> list[State]:
    """Every outcome. `others[r]`: what others may write to register r; `followed[r]`: the register's value is kept
    after."""
    executor = _Executor(operation, others, followed)
    return executor.sequence(operation.code, [State(list(inputs))])


class _Executor:
    def __init__(self, operation: Operation, others: Sequence[Sequence[int]], followed: Sequence[bool]) -> None:
        self.operation = operation
        self.others = others
        self.followed = followed
        self.scratch = operation.scratch

    def sequence(self, code: tuple[Instruction, ...], states: list[State]) -> list[State]:
        done: list[State] = []
        for instruction in code:
            states = [after for state in states for after in self.one(instruction, state)]
            if any(state.stopped for state in states):
                done += [state for state in states if state.stopped]
                states = [state for state in states if not state.stopped]
        return done + states

    def split(self, states: list[State], registers: Iterable[int]) -> list[State]:
        """The states with every one of these registers a number or None."""
        for register in registers:
            result = []
            for state in states:
                content = state.values[register]
                if isinstance(content, Pending):
                    for value in content.values:
                        new = state.copy()
                        new.values[register] = value
                        result.append(new)
                else:
                    result.append(state)
            states = result
        return states

    def one(self, instruction: Instruction, state: State) -> list[State]:
        match instruction:
            case ir.Set(register, value, low, high, slot):
                return [self.set(s, register, value, low, high, slot) for s in self._ready(state, value)]
            case ir.Pick(register, _, low, high):
                return self.spread(state, register, range(low, high + 1))
            case ir.Interfere(register):
                return self.interfere(state, register)
            case ir.Guess(condition):
                return [s for s in self._ready(state, condition) if self.term(condition, s) != 0]
            case ir.Demand(condition, slot):
                open_registers = sorted(registers_of(condition) - _asked_once(condition))
                return [self.demand(s, self.term(condition, s), slot) for s in self.split([state], open_registers)]
            case ir.DemandFree(spin_only, slot, besides):
                return [self.demand_free(state, spin_only, slot, besides=besides)]
            case ir.Choose(condition, then, otherwise):
                return self.choose(state, condition, then, otherwise)
            case ir.Take():
                return self.take(state, instruction)
            case ir.Drop():
                return self.drop(state, instruction)
            case ir.Convert():
                return self.convert(state, instruction)
            case ir.Change():
                return self.change(state, instruction)
            case ir.CounterStep(register, up, limit):
                return self.counter(state, register, up, limit)
            case ir.Await() | ir.Signal() | ir.Access() | ir.Enable() | ir.Reenter():
                return [state]

    def _ready(self, state: State, term: Term) -> list[State]:
        return self.split([state], sorted(registers_of(term)))

    def set(self, state: State, register: int, value: Term, low: int, high: int, slot: int | None) -> State:
        result = self.term(value, state)
        if result is None:
            if slot is not None:
                state.failed |= 1 << slot
            state.values[register] = self.any(register, low, high)
            return state
        if not low <= result <= high:
            if slot is not None:
                state.failed |= 1 << slot
            result = min(max(result, low), high)
        state.values[register] = result
        return state

    def any(self, register: int, low: int, high: int) -> Content:
        if not self.followed[register]:
            return Pending(tuple(range(low, high + 1))) if register in self.scratch and high - low < FEW else None
        if high - low >= MAX_SPREAD:
            raise TooWide(register)
        return Pending(tuple(range(low, high + 1)))

    def spread(self, state: State, register: int, values: range) -> list[State]:
        state.values[register] = self.any(register, values.start, values.stop - 1)
        return [state]

    def interfere(self, state: State, register: int) -> list[State]:
        others = tuple(self.others[register]) if self.followed[register] else ()
        content = state.values[register]
        if content is None:
            return [state]
        if len(others) > MAX_SPREAD:
            raise TooWide(register)
        own = content.values if isinstance(content, Pending) else (content,)
        state.values[register] = Pending(tuple(sorted({*own, *others})))
        return [state]

    def demand(self, state: State, value: int | None, slot: int) -> State:
        if not value:  # broken, or not known to hold
            state.failed |= 1 << slot
        return state

    def demand_free(
        self, state: State, spin_only: bool, slot: int, level: int = -1, besides: tuple[int, ...] = ()
    ) -> State:
        """Breaks `slot` where a lock above `level` may be held, other than those in `besides`."""
        for register, spins, limit in self.operation.holds:
            if register in besides or not (spins or not spin_only) or limit <= level:
                continue
            if _may_be_held(state.values[register]):
                state.failed |= 1 << slot
        state.wanted = (*state.wanted, (slot, spin_only, level))
        return state

    def choose(
        self, state: State, condition: Term, then: tuple[Instruction, ...], otherwise: tuple[Instruction, ...]
    ) -> list[State]:
        result: list[State] = []
        for s in self._ready(state, condition):
            value = self.term(condition, s)
            if value is None:
                result += self.sequence(then, [s.copy()])
                result += self.sequence(otherwise, [s])
            else:
                result += self.sequence(then if value else otherwise, [s])
        return result

    def take(self, state: State, take: ir.Take) -> list[State]:
        result: list[State] = []
        for s in self.split([state], (take.register,)):
            value = s.values[take.register]
            assert isinstance(value, int)
            after = taken(value, take)
            if take.result is not None:
                refused = s.copy()
                refused.values[take.result] = 0
                result.append(refused)
            if after is None:
                if take.slot is not None:
                    result += self._stop(s, take.slot)
                continue
            s.values[take.register] = after
            if take.result is not None:
                s.values[take.result] = 1
            result.append(s)
        return result

    def _stop(self, state: State, slot: int) -> list[State]:
        """The run waits for ever: only its failure is left of it."""
        return [State([], state.failed | 1 << slot, state.wanted, stopped=True)]

    def drop(self, state: State, drop: ir.Drop) -> list[State]:
        result: list[State] = []
        for s in self.split([state], (drop.register,)):
            value = s.values[drop.register]
            assert isinstance(value, int)
            if value == FREE:
                s.failed |= 1 << drop.unheld
                result.append(s)
                continue
            shared, count, tag = unhold(value)
            if (drop.shared is not None and drop.shared != shared) or (
                drop.tag is not None and tag not in (drop.tag, ir.ANY_TAG)
            ):
                s.failed |= 1 << drop.mismatch
            left = [MAX_COUNT - 1, MAX_COUNT] if count == MAX_COUNT else [count - 1]
            for remaining in left:
                new = s.copy()
                new.values[drop.register] = hold(shared, remaining, tag) if remaining else FREE
                result.append(new)
        return result

    def convert(self, state: State, convert: ir.Convert) -> list[State]:
        result: list[State] = []
        for s in self.split([state], (convert.register,)):
            value = s.values[convert.register]
            assert isinstance(value, int)
            if convert.result is not None:
                refused = s.copy()
                refused.values[convert.result] = 0
            if value == FREE or unhold(value)[0] == convert.shared:
                s.failed |= 1 << (convert.unheld if value == FREE else convert.mismatch)
                if convert.result is not None:
                    s.values[convert.result] = 0
                result.append(s)
                continue
            if convert.result is not None:
                result.append(refused)
                s.values[convert.result] = 1
            _, count, tag = unhold(value)
            s.values[convert.register] = hold(convert.shared, count, tag)
            result.append(s)
        return result

    def change(self, state: State, change: ir.Change) -> list[State]:
        result: list[State] = []
        for s in self.split([state], sorted(registers_of(change.level) | {change.register})):
            level, now = self.term(change.level, s), s.values[change.register]
            assert isinstance(now, int)
            levels = [level] if level is not None else list(range(NO_LEVEL + 1))
            for new_level in levels:
                result.append(self._to_level(s.copy() if len(levels) > 1 else s, change, now, new_level))
        return result

    def _to_level(self, state: State, change: ir.Change, now: int, level: int) -> State:
        if (level < now) if change.up else (level > now):
            state.failed |= 1 << change.slot
        if not 0 <= level < NO_LEVEL:
            return state
        state.values[change.register] = level
        if level >= now:
            return state
        return self.demand_free(state, True, change.drop, level)

    def counter(self, state: State, register: int, up: bool, limit: int) -> list[State]:
        result: list[State] = []
        for s in self.split([state], (register,)):
            value = s.values[register]
            if value is None:
                result.append(s)
                continue
            assert isinstance(value, int)
            down = [limit - 1, limit] if value == limit else [max(value - 1, 0)]
            for number in [min(value + 1, limit)] if up else down:
                new = s.copy()
                new.values[register] = number
                result.append(new)
        return result

    def term(self, term: Term, state: State) -> int | None:
        """The value, None if it can be anything."""
        match term:
            case ir.Const(value):
                return value
            case ir.Reg(index):
                content = state.values[index]
                assert not isinstance(content, Pending)
                return content
            case ir.Star(low, high):
                return low if low == high else None
            case ir.Not(operand):
                value_of = self.term(operand, state)
                return None if value_of is None else int(not value_of)
            case ir.IsHeld(register, shared):
                held = state.values[register]
                assert held is not None
                answers = {
                    int(value != FREE and (shared is None or unhold(value)[0] == shared))
                    for value in (held.values if isinstance(held, Pending) else (held,))
                }
                return answers.pop() if len(answers) == 1 else None
            case ir.Arith(op, left, right):
                return _apply(op, self.term(left, state), self.term(right, state))


def _asked_once(term: Term) -> set[int]:
    """The locks of which a term asks once whether they are held: nothing else in it goes with the answer, so that they
    need not be told apart to know what the term can be."""
    found: dict[int, int] = {}

    def visit(term: Term) -> None:
        match term:
            case ir.IsHeld(register):
                found[register] = found.get(register, 0) + 1
            case ir.Reg(register):
                found[register] = found.get(register, 0) + 2
            case ir.Not(operand):
                visit(operand)
            case ir.Arith(_, left, right):
                visit(left)
                visit(right)
            case _:
                pass

    visit(term)
    return {register for register, times in found.items() if times == 1}


def _may_be_held(content: Content) -> bool:
    return any(value != FREE for value in content.values) if isinstance(content, Pending) else content != FREE


def _apply(op: BinaryOp, left: int | None, right: int | None) -> int | None:
    if left is not None and right is not None:
        return apply(op, left, right) or 0
    known = right if left is None else left
    if op is BinaryOp.AND and known == 0:
        return 0
    if op is BinaryOp.OR and known:
        return 1
    return None


def taken(value: int, take: ir.Take) -> int | None:
    """The hold after acquiring, None where that is forbidden."""
    if value == FREE:
        return hold(take.shared, 1, take.tag)
    shared, count, tag = unhold(value)
    if (take.shared, shared) not in take.allowed:
        return None
    return hold(shared, min(count + 1, MAX_COUNT), tag)
