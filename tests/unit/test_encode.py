"""Operations as SMT-LIB, and against the fixpoint's own reading of them: both find exactly the same outcomes.

`engines.execute` and `encode` were written apart from the same page of the language reference. Here Z3 lists all models of
an operation's formula for given values on entry, and the list is compared with what `execute` computes, value for value.
Operations come from random drivers, and from a generator that writes instructions no driver would contain.
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
from modelcheck.engines import execute
from modelcheck.engines.execute import Content, Pending, run
from modelcheck.ir import FREE, Instruction, Operation, Term, hold
from modelcheck.lower import every_graph, lower
from modelcheck.resolve import resolve
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import NO_LEVEL
from tests.random_models import random_model

FEW, MANY = 120, 2_000
MOST = 80
"""Operations with more outcomes than this are left to other inputs: listing them takes too long."""
BUSY = frozenset({(False, False), (True, True), (True, False)})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way an operation can go. `values` is None where the run waits for ever. `wanted`: what is asked of locks that the
    operation does not touch."""

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
        failed = frozenset(slot for slot in range(64) if state.failed >> slot & 1)
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
    shown = [
        z3.Bool(name) if kind == "Bool" else z3.BitVec(name, width) for name, _, kind in _named(text, sort)
    ]
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


def some_inputs(rng: random.Random, operation: Operation, registers: Sequence[Register], most: int) -> Iterator[list[int]]:
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
    Register("spin", 0, hold(True, 3, 3)),
    Register("shared", 0, hold(True, 3, 3)),
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
                return ir.Guess(self.term()) if rng.random() < 0.3 else ir.Demand(self.term(), self.slot())
            case 4:
                return ir.Demand(self.term(), self.slot())
            case 5:
                return ir.DemandFree(rng.random() < 0.5, self.slot())
            case 6:
                allowed = rng.choice((frozenset(), BUSY, frozenset({(True, True)})))
                wanted = rng.random() < 0.5
                tag = rng.choice((0, 2, 3))
                if rng.random() < 0.4:
                    return ir.Take(rng.choice(_LOCKS), wanted, tag, allowed, None, TAKEN)
                return ir.Take(rng.choice(_LOCKS), wanted, tag, allowed, self.slot())
            case 7:
                return ir.Drop(
                    rng.choice(_LOCKS), rng.choice((None, True, False)), rng.choice((None, 0, 2, 3)), self.slot(), self.slot()
                )
            case 8:
                result = rng.choice((None, TAKEN))
                return ir.Convert(rng.choice(_LOCKS), rng.random() < 0.5, self.slot(), self.slot(), result)
            case 9:
                level = ir.Star(0, NO_LEVEL - 1) if self.stars and rng.random() < 0.3 else rng.choice((ir.Reg(LEVEL), ir.Reg(IRQL)))
                return ir.Change(IRQL, level, rng.random() < 0.5, self.slot(), self.slot())
            case 10:
                return ir.CounterStep(COUNTER, rng.random() < 0.5, 3)
            case _:
                return ir.Choose(self.term(), self.code(2, depth - 1), self.code(2, depth - 1))


def written(seed: int, stars: bool) -> Operation:
    """An operation; obligations come before any assumption, as they do where a condition is lowered."""
    code = Writer(random.Random(seed), stars).code(4)
    everything = frozenset(range(len(REGISTERS)))
    return Operation(code, len(REGISTERS), HOLDS, everything, everything, frozenset(), True)


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
