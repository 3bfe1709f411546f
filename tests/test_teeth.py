"""Seeded faults: each makes one function of the checker wrong, and some check has to notice.

What notices is one of three: Z3 rejects the certificate, a counterexample does not replay, or the verdicts differ from
the search of all runs (`bruteforce`, and `concurrent_bruteforce` for what several contexts can break). A fault on both
sides, in an engine and in the evidence that should have caught it, is left to the search. A fault that nothing notices
would be a hole in the tests, not a fault that does no harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import z3

from modelcheck import encode, invariant, ir, layout, pipeline
from modelcheck.encode import Encoded
from modelcheck.engines import (
    analyse,
    arrive,
    component,
    deadlock,
    execute,
    fixpoint,
    meeting,
    paths,
    refine,
    schedule,
    transfer,
)
from modelcheck.evidence import certify, conditions, meetings
from modelcheck.layout import Layout
from modelcheck.lower import evaluate
from modelcheck.mutual import cycles, order, overlap, positions
from modelcheck.pipeline import InternalError, verify
from modelcheck.resolve import resolve
from modelcheck.verdict import MUTUAL, Property, Proved
from tests.concurrent_bruteforce import environments, explore_open
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

TOGETHER = """driver tooth;
lockkind SPIN { spins; level DISPATCH_LEVEL; }
lockkind MUTEX { }
lockkind RW { }
lockkind FAIR { writers first; }
role THREAD { irql PASSIVE_LEVEL; thread; any number; }
role ONE { irql PASSIVE_LEVEL; thread; single; }
role DPC { irql DISPATCH_LEVEL; dpc; any number; }
role ISR { irql DIRQL; isr; any number; }
extern Acquire(lock L) { acquire L; }
extern Both(lock L, lock M) { acquire L; acquire M; }
extern Share(lock L) { acquire L shared; }
extern Release(lock L) { release L either; }
extern Wait(event E) { wait E; }
extern Set(event E) { set E; }
extern Up(out KIRQL old) { KIRQL before = irql; raise DISPATCH_LEVEL; old = before; }
extern Down(KIRQL level) { lower level; }
lock A : MUTEX;
lock B : MUTEX;
lock S : SPIN;
lock T : SPIN;
lock R : RW;
lock F : FAIR;
event E;
data D;
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
    "forgotten count": """var n : int 0..1 = 0 guarded by M;
routine R() as DPC { Acquire(&M); n = 0; while (*) { if (n > 0) { assert false; } n = 1; } Release(&M); }""",
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

NEST = "Acquire(&{0}); Acquire(&{1}); Release(&{1}); Release(&{0});"
A_B, B_A = NEST.format("A", "B"), NEST.format("B", "A")
MEETINGS = {
    "crossed": f"routine P() as ONE {{ {A_B} }} routine Q() as ONE {{ {B_A} }}",
    "crossed by many": f"routine P() as THREAD {{ if (*) {{ {A_B} }} else {{ {B_A} }} }}",
    "crossed at a price": (f"routine P() as ONE {{ Acquire(&B); Release(&B); {A_B} }} routine Q() as ONE {{ {B_A} }}"),
    "crossed at once": """routine P() as ONE { Both(&A, &B); Release(&B); Release(&A); }
routine Q() as ONE { Both(&B, &A); Release(&A); Release(&B); }""",
    "crossed behind a gate": f"""extern Through(lock L) {{ acquire L; release L; }}
routine P() as ONE {{ {A_B} }} routine Q() as ONE {{ Through(&A); {B_A} }}""",
    "spinning": f"routine P() as DPC {{ {NEST.format('S', 'T')} }} routine Q() as DPC {{ {NEST.format('T', 'S')} }}",
    "ordered": f"routine P() as ONE {{ {A_B} }} routine Q() as ONE {{ {A_B} }}",
    "open gate": f"""routine P() as ONE {{ Share(&R); {A_B} Release(&R); }}
routine Q() as ONE {{ Share(&R); {B_A} Release(&R); }}""",
    "interrupted": "routine P() as DPC { Acquire(&S); Release(&S); } routine Q() as ISR { Acquire(&S); Release(&S); }",
    "displaced": """routine P() as ONE { Acquire(&S); Release(&S); }
routine Q() as THREAD { KIRQL o; Up(&o); Acquire(&S); Release(&S); Down(o); }""",
    "stopped readers": """routine P() as ONE { Acquire(&A); Share(&F); Release(&F); Release(&A); }
routine Q() as ONE { Share(&F); Acquire(&A); Release(&A); Release(&F); }
routine W() as ONE { Acquire(&F); Release(&F); }""",
    "itself": "routine P() as ONE { Acquire(&A); Acquire(&A); Release(&A); }",
    "left": "routine P() as ONE { Acquire(&A); } routine Q() as ONE { Acquire(&A); Release(&A); }",
    "event": """routine P() as ONE { Acquire(&A); Wait(E); Release(&A); }
routine Q() as ONE { Acquire(&A); Set(E); Release(&A); }""",
    "race": "routine P() as ONE { read D; } routine Q() as ONE { write D; }",
    "shared race": "routine P() as ONE { Share(&R); write D; Release(&R); } routine Q() as ONE { write D; }",
}
"""Small drivers whose contexts meet, in which a fault shows."""


def proved_wrongly(path: Path) -> list[str]:
    """What is proved of contexts that meet, and some run of three of them breaks."""
    program = resolve(path)
    found = explore_open(program, environments(program), 3, 2)
    return [
        r.obligation.id
        for r in verify(path).results
        if r.obligation.code in MUTUAL
        and isinstance(r.verdict, Proved)
        and any(f.breaks(r.obligation) for f in (found.firm if r.obligation.code is Property.D03 else found.certain))
    ]


def noticed(path: Path, name: str) -> str:
    """What notices that something is wrong with the checker when it verifies this model."""
    try:
        wrong = proved_wrongly(path) if name in MEETINGS else disagreements(path)
    except InternalError as error:
        return REPLAY if "replay" in str(error) else CERTIFICATE
    return SEARCH if wrong else NOTHING


def model(name: str, folder: Path) -> Path:
    path = folder / "tooth.drvm"
    text = f"{TOGETHER}{MEETINGS[name]}" if name in MEETINGS else f"{HEAD}{MODELS[name]}"
    path.write_text(f"{text}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [*MODELS, *MEETINGS])
def test_without_a_fault_nothing_is_noticed(name: str, tmp_path: Path) -> None:
    """The models themselves are in order."""
    assert noticed(model(name, tmp_path), name) == NOTHING


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
    def without(state: execute.State, _: object, __: object, change: ir.Change, *___: object) -> Any:
        _without_slots([state], change.drop)
        state.wanted = tuple(w for w in state.wanted if w[0] != change.drop)
        return state

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
def fixpoint_drops_what_comes_to_a_known_state(patch: Patch) -> None:
    right = fixpoint.Fixpoint._follow

    def first_only(self: Any, activation: Any, plan: Any, keys: list[int], table: dict[int, int]) -> None:
        following = activation.table[plan.edge.target]
        before = dict(following)
        right(self, activation, plan, keys, table)
        following.update(before)

    patch.setattr(fixpoint.Fixpoint, "_follow", first_only)


@fault("levels", CERTIFICATE)
def fixpoint_start_misses_a_level(patch: Patch) -> None:
    afterwards(patch, fixpoint, "start_states", lambda states, *_: states[:-1])


@fault("balanced", CERTIFICATE)
def fixpoint_starts_with_empty_sets(patch: Patch) -> None:
    afterwards(patch, fixpoint, "start_states", lambda states, *_: [(key, 0) for key, _ in states])


@fault("called", CERTIFICATE)
def fixpoint_calls_change_nothing(patch: Patch) -> None:
    for owner in (fixpoint, paths):
        patch.setattr(owner, "returned", lambda _, inner, exits, key, sets: [(key, sets)] * len(exits))


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
    patch.setattr(transfer, "_lock_masks", lambda *_: (0, 0))


@fault("kinds", CERTIFICATE)
def analyse_leaves_out_a_root(patch: Patch) -> None:
    afterwards(patch, analyse, "_roots_of", lambda roots, *_: {number: found[:1] for number, found in roots.items()})
    patch.setattr(analyse.Analysis, "_phases", _only_the_first_root)


def _only_the_first_root(analysis: analyse.Analysis) -> None:
    analysis.lives.update({root: {} for root in analysis.lowered.roots})
    first = analysis.lowered.roots[0]
    for number in analysis._roots:
        analysis._roots[number] = (first,)


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
    patch.setattr(transfer, "_lock_masks", lambda *_: (0, 0))
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


@fault("forgotten count", CERTIFICATE)
def liveness_forgets_shared_variables(patch: Patch) -> None:
    """A shared variable is taken not to matter anywhere."""

    def forgetful(made: dict[ir.Graph, Layout]) -> None:
        for found in made.values():
            lost = sum(found.key_mask(cell) for cell in found.keys if cell.sort is ir.Sort.SHARED)
            found.live = [live & ~lost for live in found.live]

    patch.setattr(layout, "_forget_shared", forgetful)


@fault("forgotten count", CERTIFICATE)
def liveness_forgets_across_loops(patch: Patch) -> None:
    """A shared variable is taken to matter only just before it is looked at."""
    patch.setattr(layout, "_spread", lambda *_: None)


# -- lowering: what is asked at all


@fault("count", SEARCH)
def lower_bounds_are_off_by_one(patch: Patch) -> None:
    right = evaluate.Evaluator._value_range

    def wider(self: Any, variable: Any) -> tuple[int, int]:
        low, high = right(self, variable)
        return low, high + (high == 3)

    patch.setattr(evaluate.Evaluator, "_value_range", wider)


@fault("shared", REPLAY)
def lower_ignores_interference(patch: Patch) -> None:
    patch.setattr(evaluate.Evaluator, "interfere", lambda *_: None)


@fault("guarded", SEARCH)
def lower_takes_any_hold_for_a_guard(patch: Patch) -> None:
    right = evaluate.Evaluator._any_held
    patch.setattr(evaluate.Evaluator, "_any_held", lambda self, alternatives, _: right(self, alternatives, None))


@fault("lives", SEARCH)
def lower_asks_nothing_about_lives(patch: Patch) -> None:
    patch.setattr(evaluate.Evaluator, "alive", lambda *_: None)


# -- several contexts: the engine alone, which evidence or the replay catches


@fault("crossed", CERTIFICATE)
def arrive_comes_nowhere(patch: Patch) -> None:
    patch.setattr(arrive, "arrivals", lambda _: ())


@fault("crossed at once", CERTIFICATE)
def arrive_holds_nothing(patch: Patch) -> None:
    """Locks are free wherever others are met."""

    def free(found: Any, case: positions.Case) -> Any:
        locks = set(case.matter)
        return tuple(
            (index, tuple((ir.FREE,) if r in locks and v and v[0] > ir.FREE else v for r, v in enumerate(values)))
            for index, values in found
        )

    afterwards(patch, arrive, "arrivals", free)


@fault("crossed", CERTIFICATE)
def order_ranks_whatever_has_a_cycle(patch: Patch) -> None:
    patch.setattr(order, "components", lambda edges: {node: number for number, node in enumerate(edges)})


@fault("crossed", CERTIFICATE)
def deadlock_excludes_every_ring(patch: Patch) -> None:
    patch.setattr(component.Component, "decide", lambda self, *_, **__: deadlock.Excluded(self.number, ()))


@fault("itself", CERTIFICATE)
def deadlock_forgets_who_waits_for_himself(patch: Patch) -> None:
    patch.setattr(deadlock.Deadlock, "_itself", lambda *_: None)


@fault("left", CERTIFICATE)
def deadlock_forgets_what_is_left_held(patch: Patch) -> None:
    patch.setattr(deadlock.Deadlock, "_left_held", lambda *_: None)


@fault("race", CERTIFICATE)
def deadlock_sees_no_accesses_at_once(patch: Patch) -> None:
    patch.setattr(deadlock, "clashes", lambda *_: [])


@fault("shared race", CERTIFICATE)
def deadlock_takes_any_two_holds_for_apart(patch: Patch) -> None:
    patch.setattr(deadlock, "go_together", lambda *_: False)
    patch.setattr(meeting, "schedule", lambda *_: None)
    right = deadlock.Deadlock._race

    def never(self: Any, data: str) -> Any:
        found = right(self, data)
        return deadlock.Excluded(-1, ()) if isinstance(found, analyse.Open) else found

    patch.setattr(deadlock.Deadlock, "_race", never)


@fault("crossed at a price", REPLAY)
def schedule_lets_everybody_through(patch: Patch) -> None:
    """One that needs a lock on its way runs behind the one who keeps it."""
    patch.setattr(schedule._Search, "_can", lambda self, state, member: state[member] < self.lengths[member])
    patch.setattr(
        schedule._Search,
        "_one_after_the_other",
        lambda self: [m for m in reversed(range(len(self.members))) for _ in range(self.lengths[m])],
    )


@fault("crossed behind a gate", REPLAY)
def schedule_forgets_what_is_given_back_at_once(patch: Patch) -> None:
    patch.setattr(refine, "_acquired", lambda *_: ())


@fault("spinning", REPLAY)
def schedule_puts_all_on_one_processor(patch: Patch) -> None:
    patch.setattr(schedule, "_assignments", lambda members: [[0] * len(members)])
    patch.setattr(schedule._Search, "_can", lambda self, state, member: state[member] < self.lengths[member])


# -- several contexts: faults that engine and evidence share


def _in_both(patch: Patch, name: str, value: Any) -> None:
    for owner in (order, overlap):
        if hasattr(owner, name):
            patch.setattr(owner, name, value)


@fault("interrupted", SEARCH)
def shared_nothing_is_interrupted(patch: Patch) -> None:
    _in_both(patch, "takes_over", lambda *_: False)


@fault("displaced", SEARCH)
def shared_no_thread_is_displaced(patch: Patch) -> None:
    right = overlap.takes_over
    _in_both(
        patch, "takes_over", lambda level, below, above, *at: above.kind != "thread" and right(level, below, above, *at)
    )


@fault("crossed", SEARCH)
def shared_nobody_meets(patch: Patch) -> None:
    patch.setattr(overlap.Overlap, "meet", lambda *_: False)


@fault("crossed by many", SEARCH)
def shared_every_root_is_single(patch: Patch) -> None:
    right = overlap.Overlap.meet
    patch.setattr(overlap.Overlap, "meet", lambda self, first, second: first != second and right(self, first, second))


@fault("open gate", SEARCH)
def shared_a_shared_gate_keeps_apart(patch: Patch) -> None:
    """The formula takes every hold for an exclusive one."""

    def exclusive(stand: cycles.Stand) -> cycles.Stand:
        return dataclasses.replace(stand, holds=tuple((lock, cycles.EXCLUSIVE) for lock, _ in stand.holds))

    right = cycles._Writer.__init__

    def strict(self: Any, ring: cycles.Ring) -> None:
        right(self, dataclasses.replace(ring, stands=[exclusive(stand) for stand in ring.stands]))

    patch.setattr(cycles._Writer, "__init__", strict)
    patch.setattr(component.Component, "_at_once", lambda *_: None)  # a ring that is found needs no formula
    patch.setattr(component.Component, "_short", lambda *_: None)


@fault("stopped readers", SEARCH)
def shared_writers_stop_nobody(patch: Patch) -> None:
    right = order._Builder.__init__

    def pushy(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        self.writers_first = frozenset()

    patch.setattr(order._Builder, "__init__", pushy)


@fault("left", SEARCH)
def shared_nothing_is_left_held(patch: Patch) -> None:
    patch.setattr(positions._Reader, "ending", lambda *_: {})


@fault("event", SEARCH)
def shared_signals_need_no_locks(patch: Patch) -> None:
    """An event is set by whoever sets it, whatever he waits for before."""
    patch.setattr(order._Builder, "_signals", lambda *_: None)
    deadlock_finds_no_blocked_signal(patch)


def deadlock_finds_no_blocked_signal(patch: Patch) -> None:
    patch.setattr(deadlock.Deadlock, "_all_blocked", lambda *_: None)


@fault("crossed", SEARCH)
def shared_nothing_is_held_outside_an_operation(patch: Patch) -> None:
    patch.setattr(positions.Holds, "masks", lambda *_: {})


@fault("crossed", SEARCH)
def meetings_asks_for_nothing(patch: Patch) -> None:
    deadlock_excludes_every_ring(patch)
    patch.setattr(meetings._Proof, "queries", lambda _: [])


@fault("race", SEARCH)
def shared_no_accesses_at_once(patch: Patch) -> None:
    for owner in (deadlock, meetings):
        patch.setattr(owner, "clashes", lambda *_: [])


@pytest.mark.parametrize("seeded", FAULTS, ids=lambda seeded: seeded.name)
def test_a_fault_is_noticed(seeded: Fault, tmp_path: Path, monkeypatch: Patch) -> None:
    """By the check that is there for it."""
    path = model(seeded.shown, tmp_path)
    seeded.seed(monkeypatch)
    assert noticed(path, seeded.shown) == seeded.by
