"""Operations as SMT-LIB, and against the fixpoint's own reading of them: both find exactly the same outcomes.

`engines.execute` and `encode` were written apart from the same page of the language reference. Here Z3 lists all models
of an operation's formula for given values on entry, and the list is compared with what `execute` computes, value for
value. Operations come from random drivers, and from a generator that writes what no driver would contain.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import z3

from modelcheck import encode, ir
from modelcheck.encode import Register
from modelcheck.engines.execute import Content, Pending, run
from modelcheck.ir import FREE, MAX_COUNT, Instruction, Operation, Term, hold
from modelcheck.lower import every_graph, lower
from modelcheck.resolve import apply, resolve
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import NO_LEVEL
from tests.random_models import random_model

FEW, MANY = 120, 2_000
MOST = 80
"""Operations with more outcomes than this are left to other inputs: listing them takes too long."""
BUSY = frozenset({(False, False), (True, True), (True, False)})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way an operation can go. `values` is None where the run waits for ever. `wanted`: what is asked of locks
    that the operation does not touch."""

    values: tuple[int, ...] | None
    failed: frozenset[int]
    wanted: frozenset[tuple[int, bool, int]]


# ---- both readings, listed ----


def executed(operation: Operation, registers: Sequence[Register], inputs: Sequence[int]) -> set[Outcome] | None:
    """The outcomes that `execute` finds with every register followed; None if there are too many."""
    others = [tuple(r.others) for r in registers]
    states = run(operation, list(inputs), others, [True] * len(registers))
    found: set[Outcome] = set()
    for state in states:
        failed = frozenset(slot for slot in range(state.failed.bit_length()) if state.failed >> slot & 1)
        wanted = frozenset(state.wanted)
        if state.stopped:
            found.add(Outcome(None, failed, wanted))
            continue
        for values in itertools.product(*(_each(content) for content in state.values)):
            found.add(Outcome(values, failed, wanted))
            if len(found) > MOST:
                return None
    return found


def _each(content: Content) -> tuple[int, ...]:
    assert content is not None
    return content.values if isinstance(content, Pending) else (content,)


def encoded(operation: Operation, registers: Sequence[Register], inputs: Sequence[int]) -> set[Outcome] | None:
    """The outcomes that the formula of `encode` has models for; None if there are too many."""
    width = encode.width_of(operation, registers)
    text = encode.encode(operation, registers, [encode.literal(v, width) for v in inputs], "t", width)
    sort = f"(_ BitVec {width})"
    lines = list(text.lines)
    for name, term, kind in _named(text, sort):
        lines += [f"(declare-const {name} {kind})", f"(assert (= {name} {term}))"]
    solver = z3.SolverFor("QF_FD")
    solver.from_string("\n".join(lines))
    shown = [z3.Bool(name) if kind == "Bool" else z3.BitVec(name, width) for name, _, kind in _named(text, sort)]
    found: set[Outcome] = set()
    stops = _stopping(operation.code)
    for _ in range(3 * MOST):
        if solver.check() == z3.unsat:
            return found
        model = solver.model()
        seen = [model.eval(term, model_completion=True) for term in shown]
        solver.add(z3.Or([term != value for term, value in zip(shown, seen, strict=True)]))
        outcome = _read(text, [_plain(value) for value in seen], stops, len(registers))
        if outcome is not None:
            found.add(outcome)
    return None


def _named(text: encode.Encoded, sort: str) -> list[tuple[str, str, str]]:
    """(name, term, sort) of all that an outcome shows."""
    named = [("alive", text.alive, "Bool")]
    named += [(f"after{i}", term, sort) for i, term in enumerate(text.outputs)]
    named += [(f"broken{slot}", term, "Bool") for slot, term in text.broken.items()]
    for number, demand in enumerate(text.demands):
        named.append((f"asked{number}", demand.guard, "Bool"))
        if demand.level is not None:
            named.append((f"level{number}", demand.level, sort))
    return named


def _plain(value: z3.ExprRef) -> int:
    return int(value.as_signed_long()) if z3.is_bv_value(value) else int(z3.is_true(value))


def _read(text: encode.Encoded, seen: list[int], stops: frozenset[int], size: int) -> Outcome | None:
    """The outcome, None for a run that an assumption ends."""
    alive, rest = seen[0], seen[1 + size :]
    failed = frozenset(slot for slot, value in zip(text.broken, rest, strict=False) if value)
    rest = rest[len(text.broken) :]
    wanted: set[tuple[int, bool, int]] = set()
    for demand in text.demands:
        asked, rest = rest[0], rest[1:]
        level = -1
        if demand.level is not None:
            level, rest = rest[0], rest[1:]
        if asked:
            wanted.add((demand.slot, demand.spin_only, level))
    if not alive:
        return Outcome(None, failed, frozenset(wanted)) if failed & stops else None
    return Outcome(tuple(seen[1 : 1 + size]), failed, frozenset(wanted))


def _stopping(code: Iterable[Instruction]) -> frozenset[int]:
    """The slots whose breaking ends the run."""
    found: set[int] = set()
    for instruction in code:
        match instruction:
            case ir.Take(slot=int(slot)):
                found.add(slot)
            case ir.Choose(_, then, otherwise):
                found |= _stopping(then) | _stopping(otherwise)
            case _:
                pass
    return frozenset(found)


def differences(operation: Operation, registers: Sequence[Register], inputs: Sequence[int]) -> list[str]:
    """Where the two readings part. With a `*` inside a term `execute` may find more, or fail more, never less."""
    ours = executed(operation, registers, inputs)
    theirs = None if ours is None else encoded(operation, registers, inputs)
    if ours is None or theirs is None:
        return []
    missing = theirs - ours
    if _has_star(operation.code):
        missing = {m for m in missing if not any(_covers(o, m) for o in ours)}
        extra: set[Outcome] = set()
    else:
        extra = ours - theirs
    where = f"{operation.code} on {tuple(inputs)}"
    return [f"execute misses {m}: {where}" for m in missing] + [f"encode misses {e}: {where}" for e in extra]


def _covers(ours: Outcome, theirs: Outcome) -> bool:
    return ours.values == theirs.values and ours.failed >= theirs.failed and ours.wanted >= theirs.wanted


def _has_star(code: Iterable[Instruction]) -> bool:
    return any(isinstance(term, ir.Star) and term.low != term.high for term in _terms(code))


def _terms(code: Iterable[Instruction]) -> Iterator[Term]:
    for instruction in code:
        match instruction:
            case ir.Set(_, value):
                yield from _within(value)
            case ir.Guess(condition) | ir.Demand(condition):
                yield from _within(condition)
            case ir.Change(_, level):
                yield from _within(level)
            case ir.Choose(condition, then, otherwise):
                yield from _within(condition)
                yield from _terms((*then, *otherwise))
            case _:
                pass


def _within(term: Term) -> Iterator[Term]:
    yield term
    match term:
        case ir.Not(operand):
            yield from _within(operand)
        case ir.Arith(_, left, right):
            yield from _within(left)
            yield from _within(right)
        case _:
            pass


# ---- one promise each ----


def operation_of(*code: Instruction, size: int = 1, holds: tuple[tuple[int, bool, int], ...] = ()) -> Operation:
    """The instructions on `size` registers that all matter."""
    every = frozenset(range(size))
    return Operation(code, size, holds, every, every, frozenset(), frozenset(), False, False, frozenset())


Shown = set[tuple[tuple[int, ...] | None, tuple[int, ...]]]


def outcomes(operation: Operation, registers: Sequence[Register], *inputs: int) -> Shown:
    """(values, slots broken) of every model."""
    found = encoded(operation, registers, inputs)
    assert found is not None
    return {(o.values, tuple(sorted(o.failed))) for o in found}


LOCK = Register("L", 0, hold(True, MAX_COUNT, 2))
SMALL = Register("x", 0, 3)
LEVELS = Register("irql", 0, 31)


def test_a_value_out_of_range_takes_the_nearest_bound_and_breaks_the_slot() -> None:
    """C04 at both ends, none inside."""
    add = operation_of(ir.Set(0, ir.Arith(BinaryOp.ADD, ir.Reg(0), ir.Const(2)), 0, 3, 0))
    sub = operation_of(ir.Set(0, ir.Arith(BinaryOp.SUB, ir.Reg(0), ir.Const(2)), 0, 3, 0))
    assert [outcomes(add, [SMALL], v) for v in (1, 2)] == [{((3,), ())}, {((3,), (0,))}]
    assert [outcomes(sub, [SMALL], v) for v in (2, 1)] == [{((0,), ())}, {((0,), (0,))}]


def test_a_forbidden_acquire_ends_the_run() -> None:
    """B01 is broken and nothing comes after."""
    take = operation_of(ir.Take(0, False, 0, frozenset(), 0), holds=((0, True, 2),))
    assert outcomes(take, [LOCK], hold(False, 1, 0)) == {(None, (0,))}
    assert outcomes(take, [LOCK], FREE) == {((hold(False, 1, 0),), ())}


def test_an_acquire_again_counts_up_to_the_most_and_keeps_mode_and_tag() -> None:
    """Exclusive held, shared wanted: the hold stays exclusive."""
    take = operation_of(ir.Take(0, True, 2, frozenset({(True, False)}), 0))
    assert outcomes(take, [LOCK], hold(False, 1, 0)) == {((hold(False, 2, 0),), ())}
    assert outcomes(take, [LOCK], hold(False, MAX_COUNT, 0)) == {((hold(False, MAX_COUNT, 0),), ())}


def test_a_try_succeeds_or_not_where_the_lock_is_free() -> None:
    """Two outcomes; where the mode forbids it one, and never B01."""
    take = operation_of(ir.Take(0, False, 0, frozenset(), None, 1), size=2)
    assert outcomes(take, [LOCK, SMALL], FREE, 3) == {((FREE, 0), ()), ((hold(False, 1, 0), 1), ())}
    assert outcomes(take, [LOCK, SMALL], hold(True, 1, 0), 3) == {((hold(True, 1, 0), 0), ())}


def test_a_release_of_the_most_or_more_leaves_as_many_or_one_less() -> None:
    """The choice `count L`."""
    drop = operation_of(ir.Drop(0, False, 0, 0, 1))
    left = {hold(False, MAX_COUNT - 1, 0), hold(False, MAX_COUNT, 0)}
    assert outcomes(drop, [LOCK], hold(False, MAX_COUNT, 0)) == {((number,), ()) for number in left}
    assert outcomes(drop, [LOCK], hold(False, 1, 0)) == {((FREE,), ())}


def test_a_release_that_does_not_belong_releases_all_the_same() -> None:
    """B04 by mode or tag; a hold from before the start fits every tag; a free lock is B02 and stays free."""
    drop = operation_of(ir.Drop(0, False, 2, 0, 1))
    assert outcomes(drop, [LOCK], hold(True, 1, 2)) == {((FREE,), (1,))}
    assert outcomes(drop, [LOCK], hold(False, 1, 0)) == {((FREE,), (1,))}
    assert outcomes(drop, [LOCK], hold(False, 1, ir.ANY_TAG)) == {((FREE,), ())}
    assert outcomes(drop, [LOCK], FREE) == {((FREE,), (0,))}


def test_a_conversion_changes_the_mode_alone() -> None:
    """Count and tag stay; in the wanted mode already it is B04."""
    convert = operation_of(ir.Convert(0, True, 0, 1))
    assert outcomes(convert, [LOCK], hold(False, 2, 2)) == {((hold(True, 2, 2),), ())}
    assert outcomes(convert, [LOCK], hold(True, 2, 2)) == {((hold(True, 2, 2),), (1,))}
    assert outcomes(convert, [LOCK], FREE) == {((FREE,), (0,))}


@pytest.mark.parametrize("up", [True, False])
def test_a_change_of_level_is_made_even_where_it_is_wrong(up: bool) -> None:
    """I04 on the wrong side; the level given is set; NO_LEVEL leaves it."""
    change = operation_of(ir.Change(0, ir.Reg(1), up, 0, 1), size=2)
    registers = [LEVELS, Register("saved", 0, NO_LEVEL)]
    assert outcomes(change, registers, 2, 2) == {((2, 2), ())}
    assert outcomes(change, registers, 2, 1) == {((1, 1), (0,) if up else ())}
    assert outcomes(change, registers, 2, 5) == {((5, 5), () if up else (0,))}
    assert outcomes(change, registers, 2, NO_LEVEL) == {((2, NO_LEVEL), () if up else (0,))}


def test_a_fall_below_the_level_of_a_held_spin_lock_breaks_its_slot() -> None:
    """I05 where a spin lock is held and the level falls below its own; not at that level, not for a free lock."""
    change = operation_of(ir.Change(0, ir.Reg(1), False, 0, 1), size=3, holds=((2, True, 2),))
    registers = [LEVELS, Register("saved", 0, NO_LEVEL), LOCK]
    taken = hold(False, 1, 0)
    assert outcomes(change, registers, 5, 1, taken) == {((1, 1, taken), (1,))}
    assert outcomes(change, registers, 5, 2, taken) == {((2, 2, taken), ())}
    assert outcomes(change, registers, 5, 1, FREE) == {((1, 1, FREE), ())}


def test_interference_keeps_the_value_or_takes_one_that_others_write() -> None:
    """And no other."""
    change = operation_of(ir.Interfere(0))
    assert outcomes(change, [Register("x", 0, 9, (2, 5))], 7) == {((n,), ()) for n in (2, 5, 7)}
    assert outcomes(change, [Register("x", 0, 9)], 7) == {((7,), ())}


def test_a_counter_at_its_limit_stays_or_goes_down() -> None:
    """The choice `counter x`; at 0 it stays 0."""
    down, up = operation_of(ir.CounterStep(0, False, 3)), operation_of(ir.CounterStep(0, True, 3))
    assert outcomes(down, [SMALL], 3) == {((2,), ()), ((3,), ())}
    assert outcomes(down, [SMALL], 0) == {((0,), ())}
    assert outcomes(up, [SMALL], 3) == {((3,), ())}


def test_a_broken_slot_stays_broken_on_the_branch_that_broke_it_only() -> None:
    """An obligation in a branch that is not taken is not broken."""
    branch = operation_of(ir.Choose(ir.Reg(0), (ir.Demand(ir.Const(0), 0),), (ir.Demand(ir.Const(0), 1),)))
    assert outcomes(branch, [SMALL], 0) == {((0,), (1,))}
    assert outcomes(branch, [SMALL], 2) == {((2,), (0,))}


def test_two_stars_are_two_choices() -> None:
    """`* != *` can be true."""
    star = ir.Star(0, 1)
    differ = operation_of(ir.Set(0, ir.Arith(BinaryOp.NE, star, star), 0, 1, None))
    assert outcomes(differ, [SMALL], 0) == {((0,), ()), ((1,), ())}


@pytest.mark.parametrize(
    ("values", "inside"),
    [((1, 2, 3), {1, 2, 3}), ((0, 2, 3, 7), {0, 2, 3, 7}), ((), set()), (range(-2, 1), {-2, -1, 0}), (range(0), set())],
)
def test_member_is_membership(values: Sequence[int], inside: set[int]) -> None:
    """For every value of the width, negative ones too."""
    solver = z3.SolverFor("QF_FD")
    x = z3.BitVec("x", 5)
    solver.from_string(f"(declare-const x (_ BitVec 5))(assert {encode.member('x', values, 5)})")
    assert {v for v in range(-16, 16) if solver.check(x == v) == z3.sat} == inside


@pytest.mark.parametrize("op", list(BinaryOp))
def test_terms_never_overflow_their_width(op: BinaryOp) -> None:
    """Arithmetic on the ends of wide ranges gives what it gives on whole numbers."""
    wide = Register("x", -1000, 1000)
    into = (-(2**30), 2**30)
    work = operation_of(ir.Set(2, ir.Arith(op, ir.Reg(0), ir.Reg(1)), *into, None), size=3)
    registers = [wide, wide, Register("y", -5, 5)]
    for left, right in itertools.product((-1000, -7, 0, 3, 1000), repeat=2):
        assert outcomes(work, registers, left, right, 0) == {((left, right, apply(op, left, right) or 0), ())}


# ---- operations of random drivers ----

Applied = tuple[Operation, tuple[Register, ...]]


def operations_of(path: Path) -> list[Applied]:
    """Each different operation of a driver, with the registers it is applied to."""
    program = resolve(path)
    found: dict[tuple[object, ...], Applied] = {}
    for graph in every_graph([root.graph for root in lower(program).roots]):
        for edge in graph.edges:
            if edge.operation is None:
                continue
            ranges = _scratch(edge.operation)
            registers = tuple(
                Register("", *ranges.get(i, (0, 1))) if c is None else Register(c.name, c.low, c.high, tuple(c.others))
                for i, c in enumerate(edge.cells)
            )
            key = (edge.operation, *((r.low, r.high, tuple(r.others)) for r in registers))
            found.setdefault(key, (edge.operation, registers))
    return list(found.values())


def _scratch(operation: Operation) -> dict[int, tuple[int, int]]:
    """What is written to each register, as a range: all that is known of those that stand for no cell."""
    ranges: dict[int, tuple[int, int]] = {}

    def visit(code: Iterable[Instruction]) -> None:
        for instruction in code:
            match instruction:
                case ir.Set(register, _, low, high) | ir.Pick(register, _, low, high):
                    known = ranges.get(register, (low, high))
                    ranges[register] = (min(known[0], low), max(known[1], high))
                case ir.Choose(_, then, otherwise):
                    visit((*then, *otherwise))
                case _:
                    pass

    visit(operation.code)
    return ranges


def some_inputs(
    rng: random.Random, operation: Operation, registers: Sequence[Register], most: int
) -> Iterator[list[int]]:
    """Values on entry; the ends of a range and states near them more often than others."""
    for _ in range(most):
        values = []
        for index, register in enumerate(registers):
            span = range(register.low, register.high + 1)
            likely = [span[0], span[-1], *span[:5], *span[-2:]]
            spread = index in operation.reads and rng.random() < 0.4
            values.append(rng.choice(span) if spread else rng.choice(likely))
        yield values


@pytest.mark.parametrize("first", range(0, FEW, 20))
def test_execute_and_encode_agree_on_random_drivers(first: int, tmp_path: Path) -> None:
    """On every operation of random drivers both readings list the same outcomes."""
    assert _disagreements(tmp_path, range(first, first + 20)) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, 40))
def test_execute_and_encode_agree_on_random_drivers_at_length(first: int, tmp_path: Path) -> None:
    """The same for many more drivers."""
    assert _disagreements(tmp_path, range(first, first + 40)) == []


def _disagreements(folder: Path, seeds: range) -> list[str]:
    done: set[tuple[object, ...]] = set()
    wrong: list[str] = []
    for seed in seeds:
        rng = random.Random(seed)
        path = folder / f"random{seed}.drvm"
        path.write_text(random_model(seed, imported=seed % 10 == 0), encoding="utf-8")
        for operation, registers in operations_of(path):
            key = (operation, *((r.low, r.high, tuple(r.others)) for r in registers))
            if key not in done:
                done.add(key)
                for inputs in some_inputs(rng, operation, registers, 3):
                    wrong += differences(operation, registers, inputs)
    return wrong


# ---- operations that no driver contains ----

IRQL, SPIN, SHARED, LEVEL, FLAG, NUMBER, OTHERS, COUNTER, TAKEN = range(9)
REGISTERS = (
    Register("irql", 0, 31),
    Register("spin", 0, hold(True, MAX_COUNT, 3)),
    Register("shared", 0, hold(True, MAX_COUNT, 3)),
    Register("level", 0, NO_LEVEL),
    Register("flag", 0, 1),
    Register("number", -3, 4),
    Register("others", 0, 5, (1, 4, 5)),
    Register("counter", 0, 3),
    Register("taken", 0, 1),
)
HOLDS = ((SPIN, True, 2), (SHARED, False, 0))
_LOCKS = (SPIN, SHARED)
_PLAIN = (LEVEL, FLAG, NUMBER, OTHERS, COUNTER)


@dataclass(slots=True)
class Writer:
    """Writes instructions at random; `stars` allows `*` inside terms."""

    rng: random.Random
    stars: bool
    slots: int = 0

    def slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def term(self, depth: int = 2) -> Term:
        rng = self.rng
        match rng.randrange(8 if depth else 3):
            case 0:
                return ir.Const(rng.randint(-3, 33))
            case 1 | 2:
                return ir.Reg(rng.choice((*_PLAIN, IRQL)))
            case 3:
                return ir.Not(self.term(depth - 1))
            case 4:
                return ir.IsHeld(rng.choice(_LOCKS), rng.choice((None, True, False)))
            case 5 if self.stars:
                return ir.Star(*sorted((rng.randint(-2, 5), rng.randint(-2, 5))))
            case _:
                return ir.Arith(rng.choice(list(BinaryOp)), self.term(depth - 1), self.term(depth - 1))

    def code(self, most: int, depth: int = 2) -> tuple[Instruction, ...]:
        return tuple(self.instruction(depth) for _ in range(self.rng.randint(1, most)))

    def instruction(self, depth: int) -> Instruction:
        rng = self.rng
        match rng.randrange(12 if depth else 11):
            case 0:
                register = rng.choice(_PLAIN)
                into = REGISTERS[register]
                return ir.Set(register, self.term(), into.low, into.high, rng.choice((None, self.slot())))
            case 1:
                register = rng.choice(_PLAIN)
                return ir.Pick(register, "uninit", REGISTERS[register].low, min(REGISTERS[register].high, 3))
            case 2:
                return ir.Interfere(rng.choice((OTHERS, FLAG)))
            case 3:
                return ir.Guess(self.term())
            case 4:
                return ir.Demand(self.term(), self.slot())
            case 5:
                return ir.DemandFree(rng.random() < 0.5, self.slot(), rng.choice(((), _LOCKS[:1])))
            case 6:
                allowed = rng.choice((frozenset(), BUSY, frozenset({(True, True)})))
                wanted, number = rng.random() < 0.5, rng.choice((0, 2, 3))
                if rng.random() < 0.4:
                    return ir.Take(rng.choice(_LOCKS), wanted, number, allowed, None, TAKEN)
                return ir.Take(rng.choice(_LOCKS), wanted, number, allowed, self.slot())
            case 7:
                shared, tag = rng.choice((None, True, False)), rng.choice((None, 0, 2, 3))
                return ir.Drop(rng.choice(_LOCKS), shared, tag, self.slot(), self.slot())
            case 8:
                result = rng.choice((None, TAKEN))
                return ir.Convert(rng.choice(_LOCKS), rng.random() < 0.5, self.slot(), self.slot(), result)
            case 9:
                levels: list[Term] = [ir.Reg(LEVEL), ir.Reg(LEVEL), ir.Reg(IRQL)]
                level = rng.choice([*levels, ir.Star(0, NO_LEVEL - 1)] if self.stars else levels)
                return ir.Change(IRQL, level, rng.random() < 0.5, self.slot(), self.slot())
            case 10:
                return ir.CounterStep(COUNTER, rng.random() < 0.5, 3)
            case _:
                return ir.Choose(self.term(), self.code(2, depth - 1), self.code(2, depth - 1))


def written(seed: int, stars: bool) -> Operation:
    """An operation on REGISTERS."""
    code = Writer(random.Random(seed), stars).code(4)
    everything = frozenset(range(len(REGISTERS)))
    nothing: frozenset[int] = frozenset()
    return Operation(code, len(REGISTERS), HOLDS, everything, everything, nothing, nothing, True, True, nothing)


@pytest.mark.parametrize("stars", [False, True])
@pytest.mark.parametrize("first", range(0, 400, 100))
def test_execute_and_encode_agree_on_random_operations(first: int, stars: bool) -> None:
    """On operations written at random both readings list the same outcomes."""
    assert _random_disagreements(range(first, first + 100), stars) == []


@pytest.mark.slow
@pytest.mark.parametrize("stars", [False, True])
@pytest.mark.parametrize("first", range(400, 12_400, 500))
def test_execute_and_encode_agree_on_random_operations_at_length(first: int, stars: bool) -> None:
    """The same for many more operations."""
    assert _random_disagreements(range(first, first + 500), stars) == []


def _random_disagreements(seeds: range, stars: bool) -> list[str]:
    wrong: list[str] = []
    for seed in seeds:
        operation = written(seed, stars)
        for inputs in some_inputs(random.Random(seed), operation, REGISTERS, 2):
            wrong += differences(operation, REGISTERS, inputs)
    return wrong
