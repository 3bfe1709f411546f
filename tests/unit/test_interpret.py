"""The interpreter runs single contexts as docs/language.md says. One promise a test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from modelcheck.interpret import MAX_FRAMES, Environment, Failure, Machine, replay
from modelcheck.resolve import Program, resolve_text
from modelcheck.verdict import Choice, Obligation, Step, Trace
from tests.bruteforce import analyse, explore
from tests.random_models import KERNEL, random_model

DRIVER = (
    "driver d;"
    + KERNEL
    + """
lock A : KSPIN_LOCK initialised; lock B : KSPIN_LOCK initialised; lock F[2] : KSPIN_LOCK initialised;
lock M : FAST_MUTEX; lock R : ERESOURCE;
data Items guarded by A; data Cold in paged;
interrupt Line at DIRQL;
"""
)


def program(routines: str, declarations: str = "") -> Program:
    return resolve_text(DRIVER + declarations + "\n" + routines)


def dispatch(body: str, declarations: str = "", others: str = "") -> Program:
    return program(f"{others}\nroutine Go(Irp) as DRIVER_DISPATCH {{ {body} }}", declarations)


def run(
    model: Program, choices: Iterable[int] = (), irql: int = 0, root: str = "Go", environment: Environment | None = None
) -> tuple[list[Failure], list[tuple[str, tuple[int, ...]]], str]:
    """Failures, the choices asked for after the start, and why the run ended. Choices not given are the first value."""
    machine = Machine(model, environment)
    given = list(choices)
    asked: list[tuple[str, tuple[int, ...]]] = []

    def choose(name: str, allowed: Sequence[int]) -> int:
        asked.append((name, tuple(allowed)))
        return given.pop(0) if given else allowed[0]

    state = machine.start(root, lambda name, allowed: irql if name == "irql" else allowed[0])
    failures: list[Failure] = []
    steps = 0
    while not state.ended and steps < 100_000:
        failures += machine.step(state, choose).failures
        steps += 1
    return failures, asked, state.ended


def codes(model: Program, choices: Iterable[int] = (), irql: int = 0, root: str = "Go") -> list[str]:
    return [f.code.value for f in run(model, choices, irql, root)[0]]


def possible(model: Program, root: str = "Go", others: Mapping[str, frozenset[int]] | None = None) -> set[str]:
    """The codes that some run of a root fails."""
    found = explore(Machine(model, Environment(others=others or {})), root)
    assert found.complete
    return {f.code.value for f in found.failures}


GET, PUT = "KeAcquireSpinLock(&A, &o);", "KeReleaseSpinLock(&A, o);"


def test_a_balanced_routine_fails_nothing() -> None:
    assert possible(dispatch(f"KIRQL o; {GET} write Items; {PUT}")) == set()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"KIRQL o; {GET}", ["B03", "I02"]),
        (f"KIRQL o; {GET} {GET}", ["B01"]),
        ("KIRQL o = 0; KeRaiseIrql(DISPATCH_LEVEL, &o); KeReleaseSpinLock(&A, o);", ["B02"]),
        (f"KIRQL o; {GET} KeReleaseSpinLockFromDpcLevel(&A); KeLowerIrql(o);", ["B04"]),
        (f"KIRQL o; {GET} {PUT} KeLowerIrql(1);", ["I04", "I02"]),
        (f"KIRQL o; {GET} KIRQL p = 1; KeReleaseSpinLock(&A, p);", ["I03", "I02"]),
        ("KIRQL o, p; KeAcquireSpinLock(&A, &o); KeAcquireSpinLock(&B, &p); KeReleaseSpinLock(&A, o);", ["I05", "B03"]),
        (f"KIRQL o; {GET} read Cold; {PUT}", ["I06"]),
        (f"KIRQL o; {GET} IoCompleteRequest(Irp, 0); {PUT}", ["I07"]),
        (f"KIRQL o; {GET} ExAcquireFastMutex(&M); {PUT}", ["I01", "I07", "I04"]),
        ("KeEnterCriticalRegion();", ["I08"]),
        ("KeAcquireSpinLockAtDpcLevel(&A); KeReleaseSpinLockFromDpcLevel(&A);", ["I01", "I01"]),
        ("write Items;", ["R01"]),
        ("int 0..3 n = 3; n++;", ["C04"]),
        ("assert irql == 2;", ["C01"]),
    ],
)
def test_each_obligation_fails_where_it_should(body: str, expected: list[str]) -> None:
    assert codes(dispatch(body))[: len(expected)] == expected


def test_a_forbidden_acquire_waits_for_ever() -> None:
    failures, _, ended = run(dispatch(f"KIRQL o; {GET} {GET} assert false;"))
    assert [f.code.value for f in failures] == ["B01"]
    assert ended == "waits for ever"


def test_failures_of_kernel_routines_stand_at_the_call() -> None:
    (failure, *_) = run(dispatch("KeReleaseSpinLock(&A, 0);"), irql=2)[0]
    assert (failure.code.value, failure.subject, failure.routine) == ("B02", "A", "Go")
    assert failure.span.text.startswith("KeReleaseSpinLock")


def test_an_assumption_ends_the_run() -> None:
    assert run(dispatch("assume irql == 1; assert false;"))[0] == []
    assert codes(dispatch("assume irql == 1; assert false;"), irql=1) == ["C01"]


def test_choices_are_asked_in_the_order_of_the_table() -> None:
    body = """bool u; int 0..2 n = *; enum { x, y } e; counter 2 c = 2; c = c - 1;
    KIRQL o; KeRaiseIrql(2, &o); if (KeTryToAcquireSpinLockAtDpcLevel(&A)) { KeReleaseSpinLockFromDpcLevel(&A); }
    KIRQL q; bool b = Query(&q); KeLowerIrql(o);"""
    _, asked, _ = run(dispatch(body))
    levels = tuple(range(32))
    assert asked == [
        ("uninit u", (0, 1)),
        ("*", (0, 1, 2)),
        ("uninit e", (0, 1)),
        ("counter c", (1, 2)),
        ("try", (0, 1)),
        ("out Level", levels),
        ("result", (0, 1)),
    ]


def test_the_sixth_hold_is_six_or_more() -> None:
    take, give = "ExAcquireResourceSharedLite(&R, TRUE);", "ExReleaseResourceLite(&R);"
    _, asked, _ = run(dispatch(take * 6 + give))
    assert asked == [("count R", (5, 6))]


def test_try_acquire_of_a_held_lock_is_false_without_a_choice() -> None:
    model = dispatch(f"KIRQL o; {GET} if (KeTryToAcquireSpinLockAtDpcLevel(&A)) {{ assert false; }} {PUT}")
    assert run(model)[:2] == ([], [])


def test_recursion_of_a_lock_kind_is_counted() -> None:
    take, give = "ExAcquireResourceSharedLite(&R, TRUE);", "ExReleaseResourceLite(&R);"
    assert codes(dispatch(take * 2 + give * 2)) == []
    assert codes(dispatch(take * 2 + give)) == ["B03"]


def test_others_write_before_a_statement_reads_and_only_then() -> None:
    environment = Environment(others={"v": frozenset({2})})
    model = dispatch("int 0..3 a = 0; a = v + v; v = 1; a = v;", "var v : int 0..3 = 0;")
    _, asked, _ = run(model, environment=environment)
    assert asked == [("var v", (0, 2)), ("var v", (1, 2))]


def test_nobody_writes_under_the_guard_and_acquiring_it_shows_what_was_written() -> None:
    environment = Environment(others={"v": frozenset({1})})
    model = dispatch(f"KIRQL o; {GET} bool a = v; a = v; {PUT}", "var v : bool = false guarded by A;")
    failures, asked, _ = run(model, environment=environment)
    assert (failures, asked) == ([], [("var v", (0, 1))])


def test_in_atomic_only_the_first_statement_sees_others() -> None:
    environment = Environment(others={"v": frozenset({1})})
    model = dispatch("bool a = false; atomic { a = v; a = v; } atomic { a = v; }", "var v : bool = false;")
    assert [name for name, _ in run(model, environment=environment)[1]] == ["var v", "var v"]


def test_ghost_fields_are_shared_by_all_contexts() -> None:
    model = dispatch(f"KIRQL o; {GET} {PUT}")
    assert possible(model) == set()
    assert possible(model, others={"A.use": frozenset({2})}) == {"B08"}


def test_leaving_a_try_runs_its_finally() -> None:
    for leaving in ("leave;", "return;", "goto out;", "", "while (true) { break; } leave;"):
        body = f"KIRQL o; {GET} try {{ if (irql == 2) {{ {leaving} }} }} finally {{ {PUT} }} out: ;"
        assert codes(dispatch(body)) == [], leaving


def test_nested_finally_blocks_run_from_the_inside() -> None:
    body = """int 0..9 n = 0;
    while (true) { try { try { if (n == 0) { break; } } finally { n = n + 1; } } finally { n = n + n; } }
    assert n == 2;"""
    assert codes(dispatch(body)) == []


def test_a_return_value_is_worked_out_before_finally() -> None:
    helper = "routine f() : int 0..9 { int 0..9 n = 1; try { return n; } finally { n = 5; } }"
    assert codes(dispatch("int 0..9 r = f(); assert r == 1;", others=helper)) == []


def test_a_switch_falls_through() -> None:
    body = """int 0..9 n = 0; enum { a, b, c } e = b;
    switch (e) { case a: n = 9; case b: n = n + 1; case c: n = n + 1; break; default: n = 7; }
    assert n == 2;"""
    assert codes(dispatch(body)) == []


def test_loops_continue_and_break() -> None:
    body = """int 0..9 n = 0; int 0..9 i = 0;
    for (i = 0; i < 5; i++) { if (i == 1) { continue; } if (i == 4) { break; } n++; }
    do { n++; } while (n < 6);
    assert n == 6 && i == 4;"""
    assert codes(dispatch(body)) == []


def test_goto_into_and_out_of_blocks() -> None:
    body = "int 0..9 n = 0; goto inside; if (*) { n = 5; inside: n++; goto out; } n = 9; out: assert n == 1;"
    assert codes(dispatch(body)) == []


def test_and_or_stop_early() -> None:
    _, asked, _ = run(dispatch("bool a = false; if (a && *) { a = true; } if (!a || *) { a = true; } assert a;"))
    assert asked == []


def test_locks_and_levels_are_passed_by_reference() -> None:
    helpers = """
    routine take(lock L : KSPIN_LOCK, KIRQL &old) { KeAcquireSpinLock(L, &old); }
    routine give(lock L : KSPIN_LOCK, KIRQL old) { KeReleaseSpinLock(L, old); }"""
    assert possible(dispatch("KIRQL o; take(&A, &o); give(&A, o);", others=helpers)) == set()
    assert possible(dispatch("KIRQL o; take(&A, &o); give(&B, o);", others=helpers)) >= {"B02", "B03"}


def test_families_are_indexed_when_they_run() -> None:
    index = "int 0..1 i = *; KIRQL o; KeAcquireSpinLock(&F[i], &o);"
    assert possible(dispatch(index + "KeReleaseSpinLock(&F[i], o);")) == set()
    failures = run(dispatch(index + "KeReleaseSpinLock(&F[0], o);"), [1])[0]
    assert [(f.code.value, f.subject) for f in failures] == [
        ("B02", "F[0]"),
        ("I05", "KeReleaseSpinLock"),
        ("B03", "F[1]"),
    ]


def test_a_handle_remembers_its_lock() -> None:
    take, give = "KeAcquireInStackQueuedSpinLock(&A, &h);", "KeReleaseInStackQueuedSpinLock(&h);"
    assert possible(dispatch(f"KLOCK_QUEUE_HANDLE h; {take} {give}")) == set()
    assert codes(dispatch(f"KLOCK_QUEUE_HANDLE h; {give}"), irql=2) == ["B02"]


def test_recursion_gives_back_its_values() -> None:
    helper = "routine f(int 0..5 n) : int 0..5 { if (n == 0) { return 0; } return f(n - 1) + 1; }"
    assert codes(dispatch("int 0..5 r = f(5); assert r == 5;", others=helper)) == []


def test_recursion_without_end_is_reported() -> None:
    ended = run(dispatch("f();", others="routine f() { f(); }"))[2]
    assert str(MAX_FRAMES) in ended


def test_a_callback_runs_at_the_level_and_under_the_lock_of_its_interrupt() -> None:
    helper = "routine sync(Context) { assert irql == DIRQL && held(Line.lock); }"
    assert codes(dispatch("KeSynchronizeExecution(Line, sync, NULL);", others=helper)) == []


def test_a_role_starts_at_every_level_with_its_entry() -> None:
    machine = Machine(program("routine Isr() as KSERVICE_ROUTINE(Line) { assert held(Line.lock) && irql == DIRQL; }"))
    assert machine.levels("Isr") == (5,)
    assert explore(machine, "Isr").failures == set()
    assert Machine(dispatch(";")).levels("Go") == (0, 1, 2)


def test_clauses_are_kept_by_the_routine_and_by_its_callers() -> None:
    helper = "routine f(KIRQL &old) requires irql <= APC_LEVEL acquires A raises irql to DISPATCH_LEVEL { %s }"
    call = "KIRQL o; f(&o); KeReleaseSpinLock(&A, o);"
    good = dispatch(call, others=helper % "KeAcquireSpinLock(&A, &old);")
    assert codes(good) == []
    assert codes(good, irql=2) == ["C03"]
    assert "C02" in codes(dispatch(call, others=helper % "old = irql;"))


def test_always_and_ensures() -> None:
    helper = "routine f() always irql <= DISPATCH_LEVEL ensures irql == old(irql) { KIRQL o; KeRaiseIrql(%s, &o); %s }"
    assert codes(dispatch("f();", others=helper % ("2", "KeLowerIrql(o);"))) == []
    assert "C02" in codes(dispatch("f();", others=helper % ("5", "KeLowerIrql(o);")))
    assert "C02" in codes(dispatch("f();", others=helper % ("2", "")))


def test_a_root_by_its_clauses_starts_in_every_state_they_allow() -> None:
    model = program("routine Fill() requires held(A) && irql == DISPATCH_LEVEL same irql { write Items; }")
    assert Machine(model).roots() == ("Fill",)
    assert possible(model, "Fill") == set()
    model = program("routine Drop(KIRQL o) requires irql == DISPATCH_LEVEL releases A { KeReleaseSpinLock(&A, o); }")
    assert "B02" not in possible(model, "Drop")


def test_pageable_code_runs_below_dispatch_level() -> None:
    helper = "paged routine cold() { KIRQL o; KeRaiseIrql(%s, &o); KeLowerIrql(o); }"
    assert codes(dispatch("cold();", others=helper % "1")) == []
    assert "I06" in codes(dispatch("cold();", others=helper % "2"))
    assert "I06" in codes(dispatch("cold();", others=helper % "1"), irql=2)


def test_device_members_and_context_variables() -> None:
    declarations = "device Port { lock Lock : KSPIN_LOCK initialised; data Rx guarded by Lock; }\ncontext KIRQL Kept;"
    helper = """routine f(Port p, Irp) {
        KeAcquireSpinLock(&p.Lock, &Irp.Kept); write p.Rx; KeReleaseSpinLock(&p.Lock, Kept);
    }"""
    assert possible(dispatch("f(Port, Irp);", declarations, helper)) == set()


def test_initialisation_is_followed_over_the_life_of_the_driver() -> None:
    text = """driver d; %s lock L : KSPIN_LOCK;
    routine Add() as DRIVER_ADD_DEVICE { %s }
    routine Go(Irp) as DRIVER_DISPATCH { KIRQL o; KeAcquireSpinLock(&L, &o); KeReleaseSpinLock(&L, o); }"""
    for body, expected in (("KeInitializeSpinLock(&L);", set()), ("if (*) { KeInitializeSpinLock(&L); }", {"B05"})):
        found = analyse(resolve_text(text % (KERNEL, body)))["Go"]
        assert {f.code.value for f in found.failures} == expected


# ---- replay ----


def claimed(model: Program, choices: Iterable[int] = (), irql: int = 0) -> tuple[Trace, Obligation]:
    """A trace of one run, written down as an engine would, and the obligation that fails in it first."""
    machine, given = Machine(model), list(choices)
    state = machine.start("Go", lambda name, allowed: irql if name == "irql" else allowed[0])
    steps: list[Step] = []
    while not state.ended:
        made: list[Choice] = []

        def choose(name: str, allowed: Sequence[int], made: list[Choice] = made) -> int:
            made.append(Choice(name, given.pop(0) if given else allowed[0]))
            return made[-1].value

        done = machine.step(state, choose)
        steps.append(Step(done.routine, done.depth, done.span, tuple(made)))
        if done.failures:
            f = done.failures[0]
            return Trace("Go", (Choice("irql", irql),), tuple(steps)), Obligation(
                f.code, f.routine, f.span, f.subject, ""
            )
    raise AssertionError("nothing fails")


def test_a_trace_is_replayed_to_the_obligation_it_claims() -> None:
    model = dispatch(f"KIRQL o; bool b = *; if (b) {{ {GET} }} {PUT}")
    trace, obligation = claimed(model, [0], irql=2)
    result = replay(model, trace, Environment(), obligation)
    assert (result.reproduced, result.reason, result.misplaced) == (True, "", "")


def test_a_trace_with_other_choices_diverges() -> None:
    model = dispatch(f"KIRQL o; bool b = *; if (b) {{ {GET} }} {PUT}")
    trace, obligation = claimed(model, [0], irql=2)
    other = (Choice("try", 0),)
    wrong = Trace("Go", trace.start, tuple(Step(s.routine, s.depth, s.span, other) for s in trace.steps))
    assert "chooses `*`" in replay(model, wrong, Environment(), obligation).reason
    high = Trace("Go", (Choice("irql", 5),), trace.steps)
    assert "irql = 5 is not possible" in replay(model, high, Environment(), obligation).reason


def test_a_trace_that_shows_something_else_is_not_accepted() -> None:
    model = dispatch(f"KIRQL o; bool b = *; if (b) {{ {GET} }} {PUT}")
    trace, obligation = claimed(model, [0], irql=2)
    other = Obligation(obligation.code, obligation.routine, obligation.span, "B", "")
    assert not replay(model, trace, Environment(), other).reproduced


def test_random_models_are_the_same_for_the_same_seed() -> None:
    assert random_model(7) == random_model(7)
    assert random_model(7) != random_model(8)
