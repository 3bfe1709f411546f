"""Seeded faults: each makes one function of the checker wrong, and some check has to notice.

What notices is one of three: Z3 rejects the certificate, a counterexample does not replay, or the verdicts differ from
the search of all runs (`bruteforce`). A fault on both sides, in an engine and in the evidence that should have caught
it, is left to the search. A fault that nothing notices would be a hole in the tests, not a fault that does no harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import z3

from modelcheck import encode, invariant, ir, pipeline
from modelcheck.encode import Encoded
from modelcheck.engines import analyse, execute, fixpoint, paths, refine
from modelcheck.evidence import certify, conditions
from modelcheck.layout import Layout
from modelcheck.lower import evaluate
from modelcheck.pipeline import InternalError
from tests.property.test_against_bruteforce import disagreements

Patch = pytest.MonkeyPatch

CERTIFICATE, REPLAY, SEARCH, NOTHING = "certificate", "replay", "search", ""

HEAD = """driver tooth;
lockkind SPIN { spins; level DISPATCH_LEVEL; init required; KIRQL saved; }
lockkind RW { spins; level DISPATCH_LEVEL; recursive shared; }
lockkind MUTEX { recursive exclusive; }
role DISPATCH { irql PASSIVE_LEVEL .. DISPATCH_LEVEL; thread; any number; }
role DPC { irql DISPATCH_LEVEL; dpc; any number; }
role ADD { irql PASSIVE_LEVEL; thread; any number; phase add; }
extern Init(lock L : SPIN) { init L; }
extern Take(lock L : SPIN, out KIRQL old) {
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L;
    L.saved = before;
    old = before;
}
extern Give(lock L : SPIN, KIRQL old) { release L; lower old; }
extern Acquire(lock L) { acquire L; }
extern Release(lock L) { release L; }
extern Share(lock L : RW) { acquire L shared; }
extern Unshare(lock L : RW) { release L shared; }
extern Try(lock L) : bool { bool taken = false; if (try_acquire L) { taken = true; } return taken; }
extern Upgrade(lock L : RW) { convert L to exclusive; }
extern Up(KIRQL level, out KIRQL old) { KIRQL before = irql; raise level; old = before; }
extern Down(KIRQL level) { lower level; }
extern Complete() { require no_spin_lock else I07 "no spin lock is held"; }
lock A : SPIN initialised;
lock B : SPIN initialised;
lock N : SPIN;
lock S : RW;
lock M : MUTEX;
"""

MODELS = {
    "again": "routine R() as DPC { KIRQL o; Take(&A, &o); Take(&A, &o); Give(&A, o); }",
    "mode": "routine R() as DPC { Share(&S); Release(&S); }",
    "balanced": "routine R() as DISPATCH { KIRQL o; Take(&A, &o); if (*) { Give(&A, o); return; } Give(&A, o); }",
    "paths": "routine R() as DPC { if (*) { Acquire(&M); } Release(&M); }",
    "called": "routine In() { Acquire(&M); } routine R() as DPC { In(); In(); Release(&M); }",
    "called_again": "routine In() { Acquire(&A); } routine R() as DPC { In(); In(); Release(&A); }",
    "shared": """var busy : bool = false;
routine R() as DPC { if (busy) { Acquire(&M); } busy = true; assert busy; }
routine W() as DPC { busy = false; }""",
    "complete": "routine In() { Complete(); } routine R() as DPC { Acquire(&S); In(); Release(&S); }",
    "saved": """routine R() as DISPATCH { KIRQL first; KIRQL second;
    Up(DISPATCH_LEVEL, &first); Up(HIGH_LEVEL, &second); Down(second); Down(first); }""",
    "levels": "routine R() as DISPATCH { assert irql < DISPATCH_LEVEL; }",
    "lives": """routine Add() as ADD { if (*) { Init(&N); } }
routine R() as DPC { KIRQL o; Take(&N, &o); Give(&N, o); }""",
    "passed": """routine Cond(bool b) { if (b) { Acquire(&M); } if (b) { Release(&M); } }
routine R() as DPC { bool b = *; Cond(b); }""",
    "count": "routine R() as DPC { int 0..3 n = 0; while (*) { n++; } }",
    "tried": "routine R() as DPC { Try(&M); Release(&M); }",
    "kept": "routine R() as DPC { bool t; t = Try(&S); if (t) { Release(&S); } }",
    "later": """extern Any() : bool;
routine R() as DPC { bool t = false; while (*) { t = Any(); } if (t) { Release(&M); } }""",
    "written": """var busy : bool = false guarded by M;
routine R() as DPC { Acquire(&M); busy = true; while (*) { Release(&M); Acquire(&M); } assert busy; Release(&M); }
routine W() as DPC { Acquire(&M); busy = false; Release(&M); }""",
    "forgotten": "routine R() as DPC { KIRQL x; x = HIGH_LEVEL; assert x == PASSIVE_LEVEL; }",
    "lowered": "routine R() as DISPATCH { KIRQL o; Up(DISPATCH_LEVEL, &o); Acquire(&S); Down(o); }",
    "converted": "routine R() as DPC { Share(&S); Upgrade(&S); Unshare(&S); }",
    "nested": """routine R() as DPC { int 0..2 i = 0; while (*) { Acquire(&M); }
    Release(&M); while (*) { Release(&M); } }""",
    "guarded": """data Items guarded by S;
routine R() as DPC { Share(&S); write Items; Unshare(&S); }""",
    "flag": """routine R() as DPC { bool t = *; if (t) { Acquire(&A); } if (t) { Release(&A); } }""",
    "wide": "routine R() as DPC { int 0..40 n = 0; n = n + 7; if (n != 7) { Release(&M); } assert n == 7; }",
    "asserted": "routine R() as DPC { int 0..3 n = *; if (n > 1) { n = 1; } assert n < 1; }",
    "kinds": "routine R() as DPC { Acquire(&S); Release(&S); } routine Q() as DISPATCH { Release(&S); }",
}
"""Small drivers in which a fault shows."""


def noticed(path: Path) -> str:
    """What notices that something is wrong with the checker when it verifies this model."""
    try:
        wrong = disagreements(path)
    except InternalError as error:
        return REPLAY if "replay" in str(error) else CERTIFICATE
    return SEARCH if wrong else NOTHING


def model(name: str, folder: Path) -> Path:
    path = folder / "tooth.drvm"
    path.write_text(f"{HEAD}{MODELS[name]}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", MODELS)
def test_without_a_fault_nothing_is_noticed(name: str, tmp_path: Path) -> None:
    """The models themselves are in order."""
    assert noticed(model(name, tmp_path)) == NOTHING


# ---- faults ----


@dataclass(frozen=True, slots=True)
class Fault:
    """`seed` makes the checker wrong; `by` notices it on the model called `shown`."""

    name: str
    shown: str
    by: str
    seed: Callable[[Patch], None]


FAULTS: list[Fault] = []


def fault(shown: str, by: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def keep(seed: Callable[[Patch], None]) -> Callable[[Patch], None]:
        FAULTS.append(Fault(seed.__name__, shown, by, seed))
        return seed

    return keep


def afterwards(patch: Patch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """The function `name` gives `change(its result, *its arguments)`."""
    right = getattr(owner, name)
    patch.setattr(owner, name, lambda *a, **k: change(right(*a, **k), *a))


# -- the fixpoint's reading of operations


@fault("again", CERTIFICATE)
def execute_allows_recursion(patch: Patch) -> None:
    right = execute.taken
    patch.setattr(execute, "taken", lambda value, take: value if right(value, take) is None else right(value, take))


def _without_slots(states: list[execute.State], *slots: int) -> list[execute.State]:
    for state in states:
        for slot in slots:
            state.failed &= ~(1 << slot)
    return states


@fault("mode", CERTIFICATE)
def execute_release_forgets_the_mismatch(patch: Patch) -> None:
    afterwards(patch, execute._Executor, "drop", lambda states, _, __, drop: _without_slots(states, drop.mismatch))


@fault("paths", CERTIFICATE)
def execute_release_forgets_what_is_not_held(patch: Patch) -> None:
    afterwards(patch, execute._Executor, "drop", lambda states, _, __, drop: _without_slots(states, drop.unheld))


@fault("nested", CERTIFICATE)
def execute_counts_the_most_as_exactly_so_many(patch: Patch) -> None:
    afterwards(patch, execute._Executor, "drop", lambda states, *_: states[:1])


@fault("written", CERTIFICATE)
def execute_ignores_interference(patch: Patch) -> None:
    patch.setattr(execute._Executor, "interfere", lambda _, state, __: [state])


@fault("tried", CERTIFICATE)
def execute_tries_always_succeed(patch: Patch) -> None:
    def only(states: list[execute.State], _: object, __: object, take: ir.Take) -> list[execute.State]:
        return states if take.result is None else states[-1:]

    afterwards(patch, execute._Executor, "take", only)


@fault("later", CERTIFICATE)
def execute_open_values_are_the_lowest(patch: Patch) -> None:
    def lowest(_: object, state: execute.State, register: int, values: range) -> list[execute.State]:
        state.values[register] = values.start
        return [state]

    patch.setattr(execute._Executor, "spread", lowest)


@fault("lowered", CERTIFICATE)
def execute_forgets_locks_when_the_level_falls(patch: Patch) -> None:
    def without(states: list[execute.State], _: object, __: object, change: ir.Change, *___: object) -> Any:
        for state in _without_slots(states, change.drop):
            state.wanted = tuple(w for w in state.wanted if w[0] != change.drop)
        return states

    afterwards(patch, execute._Executor, "_to_level", without)


@fault("converted", CERTIFICATE)
def execute_conversion_keeps_the_mode(patch: Patch) -> None:
    right = execute._Executor.convert

    def keep(self: Any, state: execute.State, convert: ir.Convert) -> list[execute.State]:
        before = state.values[convert.register]
        states = right(self, state, convert)
        for after in states:
            after.values[convert.register] = before
        return states

    patch.setattr(execute._Executor, "convert", keep)


@fault("count", CERTIFICATE)
def execute_bounds_are_off_by_one(patch: Patch) -> None:
    right = execute._Executor.set

    def later(self: Any, state: execute.State, register: int, value: Any, low: int, high: int, slot: int | None) -> Any:
        result = self.term(value, state)
        return right(self, state, register, value, low, high, None if result == high + 1 else slot)

    patch.setattr(execute._Executor, "set", later)


# -- the fixpoint


@fault("paths", CERTIFICATE)
def fixpoint_joins_drop_states(patch: Patch) -> None:
    right = fixpoint.Fixpoint._join

    def first_only(self: Any, activation: Any, location: int, key: int, sets: int) -> None:
        if key not in activation.table[location]:
            right(self, activation, location, key, sets)

    patch.setattr(fixpoint.Fixpoint, "_join", first_only)


@fault("levels", CERTIFICATE)
def fixpoint_start_misses_a_level(patch: Patch) -> None:
    afterwards(patch, fixpoint, "start_states", lambda states, *_: states[:-1])


@fault("balanced", CERTIFICATE)
def fixpoint_starts_with_empty_sets(patch: Patch) -> None:
    afterwards(patch, fixpoint, "start_states", lambda states, *_: [(key, 0) for key, _ in states])


@fault("called", CERTIFICATE)
def fixpoint_calls_change_nothing(patch: Patch) -> None:
    for owner in (fixpoint, paths):
        patch.setattr(owner, "returned", lambda _, callee, key, sets: [(key, sets)] * len(callee.exits))


@fault("called", CERTIFICATE)
def fixpoint_callees_are_entered_with_free_locks(patch: Patch) -> None:
    def free(entered: tuple[int, int], plan: Any, inner: Layout, *_: object) -> tuple[int, int]:
        key, sets = entered
        for cell in inner.sets:
            if cell.sort is ir.Sort.HOLD:
                sets = sets & ~inner.set_mask(cell) | inner.set_bits(cell, (ir.FREE,))
        return key, sets

    afterwards(patch, fixpoint, "enter", free)


@fault("passed", CERTIFICATE)
def fixpoint_does_not_follow_what_is_passed_along(patch: Patch) -> None:
    patch.setattr(fixpoint, "passed_along", lambda _, tracked: tracked)


@fault("complete", CERTIFICATE)
def fixpoint_asks_no_locks_outside_an_operation(patch: Patch) -> None:
    patch.setattr(fixpoint, "_lock_masks", lambda *_: (0, 0))


@fault("kinds", CERTIFICATE)
def analyse_leaves_out_a_root(patch: Patch) -> None:
    afterwards(patch, analyse, "_roots_of", lambda roots, *_: {number: found[:1] for number, found in roots.items()})
    patch.setattr(analyse.Analysis, "_phases", _only_the_first_root)


def _only_the_first_root(analysis: analyse.Analysis) -> None:
    analysis.lives.update({root: {} for root in analysis.lowered.roots})
    first = analysis.lowered.roots[0]
    for number in analysis._roots:
        analysis._roots[number] = [first]


@fault("lives", CERTIFICATE)
def analyse_takes_locks_for_initialised(patch: Patch) -> None:
    def initialised(lives: invariant.Lives, *_: object) -> invariant.Lives:
        return dict.fromkeys(lives, (ir.INITIALISED,))

    afterwards(patch, analyse, "lives_from", initialised)


# -- encode: a fault there is one of the evidence and of the traces


@fault("balanced", CERTIFICATE)
def encode_loses_the_frame(patch: Patch) -> None:
    """Registers that an operation does not write have any value afterwards."""

    def loose(encoded: Encoded, operation: ir.Operation, registers: Any, _: object, prefix: str, width: int) -> Encoded:
        for index in range(operation.size):
            if index not in operation.writes:
                name = f"{prefix}loose{index}"
                encoded.items.append(encode.Declared(name, encode.sort_of(width)))
                encoded.outputs[index] = name
        return encoded

    afterwards(patch, encode, "encode", loose)


@fault("balanced", CERTIFICATE)
def encode_releases_keep_the_lock(patch: Patch) -> None:
    right = encode._Encoder.drop

    def keep(self: Any, drop: ir.Drop) -> None:
        before = self.values[drop.register]
        right(self, drop)
        self.values[drop.register] = before

    patch.setattr(encode._Encoder, "drop", keep)


@fault("flag", CERTIFICATE)
def encode_takes_both_branches(patch: Patch) -> None:
    """Conditions of edges are never false."""
    right = encode._Encoder.one

    def unguarded(self: Any, instruction: ir.Instruction) -> None:
        if not isinstance(instruction, ir.Guess):
            right(self, instruction)

    patch.setattr(encode._Encoder, "one", unguarded)


# -- paths and their traces


@fault("wide", REPLAY)
def refine_forgets_what_was_written(patch: Patch) -> None:
    """A cell that is read has any value: every alarm has a path."""
    right = refine.PathFormula._read

    def anything(self: Any, cell: ir.Cell, frame: int) -> str:
        lines = len(self.lines)
        term = right(self, cell, frame)
        self.lines[lines:] = [line for line in self.lines[lines:] if "=>" not in line]
        return term

    patch.setattr(refine.PathFormula, "_read", anything)


@fault("asserted", REPLAY)
def refine_gives_other_choices(patch: Patch) -> None:
    right = refine._trace

    def without(*arguments: Any) -> Any:
        trace = right(*arguments)
        return dataclasses.replace(trace, steps=tuple(dataclasses.replace(s, choices=()) for s in trace.steps))

    patch.setattr(refine, "_trace", without)


# -- faults that engine and evidence share, or one on each side


@fault("levels", SEARCH)
def shared_start_misses_a_level(patch: Patch) -> None:
    for owner in (fixpoint, conditions, refine):
        afterwards(patch, owner, "start_values", lambda values, root, cell, _: _lowest(values, cell))


def _lowest(values: Any, cell: ir.Cell) -> Any:
    return tuple(values)[:1] if cell.sort is ir.Sort.IRQL else values


@fault("lives", SEARCH)
def shared_locks_are_initialised(patch: Patch) -> None:
    for owner in (analyse, conditions):
        afterwards(patch, owner, "lives_from", lambda lives, *_: dict.fromkeys(lives, (ir.INITIALISED,)))


@fault("complete", SEARCH)
def shared_no_locks_outside_an_operation(patch: Patch) -> None:
    patch.setattr(fixpoint, "_lock_masks", lambda *_: (0, 0))
    patch.setattr(conditions, "held_outside", lambda *_: (False, False, -1))


@fault("called_again", SEARCH)
def shared_calls_change_nothing_and_are_not_looked_at(patch: Patch) -> None:
    fixpoint_calls_change_nothing(patch)
    patch.setattr(conditions._Conditions, "_return", lambda *_: None)


@fault("called_again", SEARCH)
def shared_entries_of_calls_are_not_looked_at(patch: Patch) -> None:
    fixpoint_callees_are_entered_with_free_locks(patch)
    patch.setattr(conditions._Conditions, "_enter", lambda *_: None)


@fault("levels", SEARCH)
def shared_starts_are_not_looked_at(patch: Patch) -> None:
    fixpoint_start_misses_a_level(patch)
    patch.setattr(conditions._Conditions, "_start", lambda *_: None)


@fault("again", SEARCH)
def certify_reads_unknown_as_unsat(patch: Patch) -> None:
    execute_allows_recursion(patch)
    afterwards(patch, certify, "_ask", lambda answer, *_: z3.unsat)


@fault("wide", SEARCH)
def replay_accepts_anything(patch: Patch) -> None:
    refine_forgets_what_was_written(patch)
    afterwards(patch, pipeline, "replay_on", lambda answer, *_: dataclasses.replace(answer, reproduced=True))


@fault("forgotten", CERTIFICATE)
def liveness_kills_too_much(patch: Patch) -> None:
    """Saved levels are forgotten: the certificate may not take a forgotten value for one that is known."""
    right = Layout.__init__

    def forgetful(self: Layout, *arguments: Any) -> None:
        right(self, *arguments)
        everywhere = sum(self.key_mask(cell) for cell in self.keys if cell.is_global)
        self.live = [everywhere] * self.graph.size

    patch.setattr(Layout, "__init__", forgetful)


# -- lowering: what is asked at all


@fault("count", SEARCH)
def lower_bounds_are_off_by_one(patch: Patch) -> None:
    right = evaluate.Evaluator._value_range

    def wider(self: Any, variable: Any) -> tuple[int, int]:
        low, high = right(self, variable)
        return low, high + (high == 3)

    patch.setattr(evaluate.Evaluator, "_value_range", wider)


@fault("shared", SEARCH)
def lower_ignores_interference(patch: Patch) -> None:
    patch.setattr(evaluate.Evaluator, "_interfere", lambda *_: None)


@fault("guarded", SEARCH)
def lower_takes_any_hold_for_a_guard(patch: Patch) -> None:
    right = evaluate.Evaluator._any_held
    patch.setattr(evaluate.Evaluator, "_any_held", lambda self, alternatives, _: right(self, alternatives, None))


@fault("lives", SEARCH)
def lower_asks_nothing_about_lives(patch: Patch) -> None:
    patch.setattr(evaluate.Evaluator, "alive", lambda *_: None)


@pytest.mark.parametrize("seeded", FAULTS, ids=lambda seeded: seeded.name)
def test_a_fault_is_noticed(seeded: Fault, tmp_path: Path, monkeypatch: Patch) -> None:
    """By the check that is there for it."""
    path = model(seeded.shown, tmp_path)
    seeded.seed(monkeypatch)
    assert noticed(path) == seeded.by
