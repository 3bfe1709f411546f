"""Several contexts run as section 7 of docs/language.md says, and schedules are replayed. One promise a test."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import pytest

from modelcheck.interpret import Environment, Failure, replay_schedule
from modelcheck.resolve import Program, resolve_text
from modelcheck.source import Span
from modelcheck.verdict import Actor, Choice, Obligation, Property, Schedule, Step, Turn, Wait
from tests.concurrent_bruteforce import Together, TooManyStates, explore_open, explore_scenario, worlds
from tests.random_scenarios import KERNEL, random_scenario

DRIVER = (
    "driver d;"
    + KERNEL
    + """
lock A : KSPIN_LOCK; lock B : KSPIN_LOCK; lock X : EX_SPIN_LOCK; lock M : FAST_MUTEX; lock N : FAST_MUTEX;
lock K : KMUTEX; lock R : ERESOURCE;
event Go; data D; var flag : bool = false; var guarded : bool = false guarded by R;
interrupt Line at DIRQL;
"""
)


def thread(name: str, body: str) -> str:
    return f"routine {name}(Irp) as DRIVER_DISPATCH {{ {body} }}\n"


def dpc(name: str, body: str) -> str:
    return f"routine {name}() as KDEFERRED_ROUTINE {{ {body} }}\n"


def isr(name: str, body: str) -> str:
    return f"routine {name}() as KSERVICE_ROUTINE(Line) {{ {body} }}\n"


def model(routines: str, runs: str, processors: int = 1) -> Program:
    return resolve_text(f"{DRIVER}{routines}\nscenario s on {processors} processors {{ {runs} }}")


def explored(routines: str, runs: str, processors: int = 1) -> Together:
    return explore_scenario(model(routines, runs, processors), "s")


def broken(routines: str, runs: str, processors: int = 1) -> set[tuple[str, str, str]]:
    return explored(routines, runs, processors).keys()


SPIN_A = "KeAcquireSpinLock(&A, &a);", "KeReleaseSpinLock(&A, a);"
SPIN_B = "KeAcquireSpinLock(&B, &b);", "KeReleaseSpinLock(&B, b);"
DPC_A = "KeAcquireSpinLockAtDpcLevel(&A);", "KeReleaseSpinLockFromDpcLevel(&A);"
DPC_B = "KeAcquireSpinLockAtDpcLevel(&B);", "KeReleaseSpinLockFromDpcLevel(&B);"
MUTEX_M = "ExAcquireFastMutex(&M);", "ExReleaseFastMutex(&M);"
MUTEX_N = "ExAcquireFastMutex(&N);", "ExReleaseFastMutex(&N);"


def nested(outer: tuple[str, str], inner: tuple[str, str], body: str = "") -> str:
    return f"KIRQL a; KIRQL b; {outer[0]} {inner[0]} {body} {inner[1]} {outer[1]}"


OPPOSITE = thread("F", nested(SPIN_A, SPIN_B)) + thread("G", nested(SPIN_B, SPIN_A))


# ---- deadlocks ----


def test_two_spin_locks_in_opposite_order_need_two_processors() -> None:
    assert broken(OPPOSITE, "run F(NULL) on 0; run G(NULL) on 1;", 2) == {("D01", "F", "B"), ("D01", "G", "A")}
    assert broken(OPPOSITE, "run F(NULL); run G(NULL);") == set()


def test_one_order_has_no_deadlock() -> None:
    routines = thread("F", nested(SPIN_A, SPIN_B))
    assert broken(routines, "run F(NULL) on 0; run F(NULL) on 1;", 2) == set()


def test_two_mutexes_in_opposite_order_need_one_processor_only() -> None:
    routines = thread("F", nested(MUTEX_M, MUTEX_N)) + thread("G", nested(MUTEX_N, MUTEX_M))
    assert broken(routines, "run F(NULL); run G(NULL);") == {("D01", "F", "N"), ("D01", "G", "M")}


def test_a_gate_lock_rules_the_cycle_out() -> None:
    gate = "KeWaitForMutexObject(&K);", "KeReleaseMutex(&K);"
    one, other = nested(MUTEX_M, MUTEX_N), nested(MUTEX_N, MUTEX_M)
    routines = thread("F", gate[0] + one + gate[1]) + thread("G", gate[0] + other + gate[1])
    assert broken(routines, "run F(NULL); run G(NULL);") == set()


def test_a_dpc_spins_on_a_lock_whose_holder_it_has_interrupted() -> None:
    routines = thread("F", "".join(DPC_A)) + dpc("G", "".join(DPC_A))
    deadlock = {("D01", "G", "A"), ("D02", "G", "A")}
    assert broken(routines, "run F(NULL); run G();") == deadlock
    assert broken(routines, "run F(NULL) on 0; run G() on 1;", 2) == set()
    assert broken(routines, "run F(NULL) as thread at DISPATCH_LEVEL; run G();") == set()


def test_a_lock_shared_with_an_isr_must_be_held_at_its_level() -> None:
    routines = thread("F", f"KIRQL a; {''.join(SPIN_A)}") + isr("I", "".join(DPC_A))
    assert broken(routines, "run F(NULL); run I();") == {("D01", "I", "A"), ("D02", "I", "A")}
    high = thread("F", f"KIRQL o; KeRaiseIrql(DIRQL, &o); {''.join(DPC_A)} KeLowerIrql(o);") + isr("I", "".join(DPC_A))
    assert broken(high, "run F(NULL); run I();") == set()


def test_a_thread_that_spins_at_dispatch_level_displaces_the_holder() -> None:
    routines = thread("F", "".join(DPC_A)) + thread("G", f"KIRQL a; {''.join(SPIN_A)}")
    found = broken(routines, "run F(NULL); run G(NULL);")
    assert found == {("D01", "G", "A"), ("D02", "G", "A")}


def test_threads_below_dispatch_level_displace_each_other_at_will() -> None:
    routines = thread("F", "".join(DPC_A))
    assert broken(routines, "run F(NULL); run F(NULL);") == set()


def test_who_acquires_what_it_holds_waits_for_itself_and_others_for_it() -> None:
    routines = thread("F", f"{MUTEX_M[0]} {MUTEX_M[0]}") + thread("G", "".join(MUTEX_M))
    runs = "run F(NULL); run G(NULL);"
    assert broken(routines, runs) == {("B01", "F", "M"), ("D01", "F", "M"), ("D01", "G", "M")}


def test_who_waits_for_a_lock_of_a_context_that_has_ended_waits_for_ever() -> None:
    routines = thread("F", "KeWaitForMutexObject(&K);") + thread("G", "KeWaitForMutexObject(&K); KeReleaseMutex(&K);")
    assert ("D01", "G", "K") in broken(routines, "run F(NULL); run G(NULL);")


def test_recursion_counts_up_and_does_not_wait() -> None:
    routines = thread(
        "F", "KeWaitForMutexObject(&K); KeWaitForMutexObject(&K); KeReleaseMutex(&K); KeReleaseMutex(&K);"
    )
    assert broken(routines, "run F(NULL); run F(NULL);") == set()


def test_only_readers_hold_a_lock_together() -> None:
    take = "KIRQL a; a = ExAcquireSpinLock{}(&X); assert !flag; {} ExReleaseSpinLock(&X, a);"
    change = "flag = true; flag = false;"
    reader, writer = thread("F", take.format("Shared", "")), thread("G", take.format("Exclusive", change))
    assert broken(reader + writer, "run F(NULL) on 0; run G(NULL) on 1;", 2) == set()
    wrong = thread("G", take.format("Shared", change))
    assert broken(reader + wrong, "run F(NULL) on 0; run G(NULL) on 1;", 2) == {("C01", "F", "")}


def test_a_waiting_writer_stops_new_readers() -> None:
    shared = "KIRQL x; x = ExAcquireSpinLockShared(&X);", "ExReleaseSpinLock(&X, x);"
    exclusive = "KIRQL x; x = ExAcquireSpinLockExclusive(&X); ExReleaseSpinLock(&X, x);"
    routines = dpc("F", nested(shared, DPC_A)) + dpc("G", nested(DPC_A, shared)) + dpc("W", exclusive)
    assert broken(routines, "run F() on 0; run G() on 1;", 2) == set()
    found = broken(routines, "run F() on 0; run G() on 1; run W() on 2;", 3)
    assert found == {("D01", "F", "A"), ("D01", "G", "X"), ("D01", "W", "X")}


def test_a_try_gives_false_where_the_lock_is_not_to_be_had() -> None:
    change = "flag = true; flag = false; KeReleaseSpinLockFromDpcLevel(&A);"
    trying = f"if (KeTryToAcquireSpinLockAtDpcLevel(&A)) {{ {change} }}"
    routines = dpc("F", f"{DPC_A[0]} assert !flag; {DPC_A[1]}") + dpc("G", trying)
    assert broken(routines, "run F() on 0; run G() on 1;", 2) == set()


# ---- events ----


def test_an_event_that_nobody_sets_is_waited_for_for_ever() -> None:
    waiting, setting = thread("F", "KeWaitForSingleObject(Go);"), thread("G", "KeSetEvent(Go);")
    assert broken(waiting, "run F(NULL);") == {("D03", "F", "Go")}
    assert broken(waiting + setting, "run F(NULL); run G(NULL);") == set()


def test_an_event_stays_set_until_it_is_cleared() -> None:
    waiting = thread("F", "KeWaitForSingleObject(Go); KeWaitForSingleObject(Go);")
    assert broken(waiting + thread("G", "KeSetEvent(Go);"), "run F(NULL); run G(NULL);") == set()
    clearing = thread("G", "KeSetEvent(Go); KeClearEvent(Go);")
    assert broken(waiting + clearing, "run F(NULL); run G(NULL);") == {("D03", "F", "Go")}


def test_waiting_with_what_the_signaller_needs() -> None:
    routines = thread("F", f"{MUTEX_M[0]} KeWaitForSingleObject(Go); {MUTEX_M[1]}")
    routines += thread("G", f"{MUTEX_M[0]} KeSetEvent(Go); {MUTEX_M[1]}")
    assert broken(routines, "run F(NULL); run G(NULL);") == {("D03", "F", "Go"), ("D01", "G", "M")}


# ---- data and variables ----


def test_a_race_is_two_accesses_one_of_them_a_write_not_both_in_atomic() -> None:
    runs = "run F(NULL); run G(NULL);"
    race = {("R03", "F", "D"), ("R03", "G", "D")}
    assert broken(thread("F", "write D;") + thread("G", "read D;"), runs) == race
    assert broken(thread("F", "read D;") + thread("G", "read D;"), runs) == set()
    assert broken(thread("F", "atomic { write D; }") + thread("G", "read D;"), runs) == race
    assert broken(thread("F", "atomic { write D; }") + thread("G", "atomic { write D; }"), runs) == set()


def test_a_lock_around_each_access_rules_the_race_out() -> None:
    locked = f"{MUTEX_M[0]} write D; {MUTEX_M[1]}"
    assert broken(thread("F", locked) + thread("G", locked), "run F(NULL); run G(NULL);") == set()


def test_an_interrupt_in_the_middle_of_an_access_is_a_race() -> None:
    routines = thread("F", f"KIRQL a; {SPIN_A[0]} write D; {SPIN_A[1]}") + isr("I", "write D;")
    assert broken(routines, "run F(NULL); run I();") == {("R03", "F", "D"), ("R03", "I", "D")}
    routines = thread("F", f"KIRQL a; {SPIN_A[0]} write D; {SPIN_A[1]}") + dpc("I", "write D;")
    assert broken(routines, "run F(NULL); run I();") == set()


def test_a_shared_variable_has_one_value_for_all() -> None:
    runs = "run F(NULL); run G(NULL);"
    assert broken(thread("F", "flag = true;") + thread("G", "assert !flag;"), runs) == {("C01", "G", "")}
    assert broken(thread("F", "flag = true;") + thread("G", "assert !flag;"), "run G(NULL);") == set()
    assert broken(thread("G", "assert !flag;"), "flag = true; run G(NULL);") == {("C01", "G", "")}


def test_atomic_is_one_step() -> None:
    runs = "run F(NULL) on 0; run F(NULL) on 1;"
    body = "{ flag = true; assert flag; flag = false; }"
    assert broken(thread("F", f"atomic {body}"), runs, 2) == set()
    assert broken(thread("F", body), runs, 2) == {("C01", "F", "")}


# ---- who may run ----


def test_a_context_starts_at_the_level_given_or_at_that_of_its_role() -> None:
    routines = thread("F", "assert irql == 0;") + dpc("G", "assert irql == 2;") + isr("I", "assert irql == DIRQL;")
    assert broken(routines, "run F(NULL); run G(); run I();") == set()
    assert broken(routines, "run F(NULL) as thread at 1;") == {("C01", "F", "")}
    assert broken(thread("F", "assert irql == 7;"), "run F(NULL) as isr at 7;") == set()


def test_what_is_interrupted_goes_on_when_the_interrupt_has_ended() -> None:
    routines = thread("F", "assert !flag;") + dpc("G", "flag = true; flag = false;")
    assert broken(routines, "run F(NULL); run G();") == set()
    assert broken(routines, "run F(NULL) on 0; run G() on 1;", 2) == {("C01", "F", "")}


def test_a_dpc_does_not_interrupt_a_dpc_but_an_isr_does() -> None:
    body = "flag = true; flag = false;"
    assert broken(dpc("F", "assert !flag; flag = false;") + dpc("G", body), "run F(); run G();") == set()
    checked = dpc("F", "flag = false; assert !flag; assert !flag;") + isr("I", "flag = true;")
    assert broken(checked, "run F(); run I();") == {("C01", "F", "")}


def test_a_thread_at_dispatch_level_keeps_other_threads_away() -> None:
    routines = thread("F", "KIRQL o; KeRaiseIrql(DISPATCH_LEVEL, &o); flag = false; assert !flag; KeLowerIrql(o);")
    routines += thread("G", "flag = true;")
    assert broken(routines, "run F(NULL); run G(NULL);") == set()
    assert broken(routines, "run F(NULL) on 0; run G(NULL) on 1;", 2) == {("C01", "F", "")}


def test_an_isr_whose_entry_raises_comes_at_that_level() -> None:
    role = """role KMESSAGE_SERVICE_ROUTINE(interrupt I) {
        irql PASSIVE_LEVEL .. DISPATCH_LEVEL; isr; single;
        entry { raise I.level; acquire I.lock; }
        exit { release I.lock; lower PASSIVE_LEVEL; }
    }
    """
    routines = role + dpc("G", "flag = false; assert !flag;")
    routines += "routine I() as KMESSAGE_SERVICE_ROUTINE(Line) { flag = true; }\n"
    assert ("C01", "G", "") in broken(routines, "run G(); run I();")
    program = open_model(routines)
    seen = environments(program) | {"G": Environment(others={"flag": frozenset({1})})}
    found = explore_open(program, seen, processors=1)
    failure = next(f for f in found.failures if f.code == "C01")
    assert replay_schedule(program, found.schedules[failure], claim(failure, ""), seen).reproduced
    interrupting = [w for w in worlds(program, seen, 2, 1) if {e.routine for e in w.entrants} == {"G", "I"}]
    assert {e.interrupts for w in interrupting for e in w.entrants if e.routine == "I"} == {5}


def test_phases_that_are_alone_overlap_with_what_they_have_enabled_only() -> None:
    roles = """role DRIVER_INITIALIZE { irql PASSIVE_LEVEL; thread; single; phase load; }
    role DRIVER_UNLOAD { irql PASSIVE_LEVEL; thread; single; phase unload; }
    extern Connect(routine R) { enable R; }
    """
    quiet = open_model(roles + "routine Load() as DRIVER_INITIALIZE { write D; write D; }\n" + isr("I", "write D;"))
    assert "R03" not in explore_open(quiet, environments(quiet)).codes()
    body = "Connect(I); write D; write D;"
    enabled = open_model(roles + f"routine Load() as DRIVER_INITIALIZE {{ {body} }}\n" + isr("I", "write D;"))
    assert "R03" in explore_open(enabled, environments(enabled)).codes()
    unload = open_model(roles + "routine Unload() as DRIVER_UNLOAD { write D; }\n" + dpc("G", "write D;"))
    assert {("R03", "Unload", "D")}.isdisjoint(explore_open(unload, environments(unload)).keys())


def test_an_assumption_that_fails_is_no_deadlock_of_those_who_wait() -> None:
    routines = thread("F", f"{MUTEX_M[0]} assume flag; {MUTEX_M[1]}") + thread("G", "".join(MUTEX_M))
    assert broken(routines, "run F(NULL); run G(NULL);") == set()


def test_too_many_states_are_told() -> None:
    with pytest.raises(TooManyStates):
        explore_scenario(model(OPPOSITE, "run F(NULL); run G(NULL);"), "s", limit=20)


# ---- replay ----


def claim(failure: Failure, scenario: str = "s") -> Obligation:
    return Obligation(failure.code, failure.routine, failure.span, failure.subject, failure.why, scenario)


def deadlock() -> tuple[Program, Schedule, Obligation]:
    """The deadlock of two spin locks on two processors."""
    program = model(OPPOSITE, "run F(NULL) on 0; run G(NULL) on 1;", 2)
    found = explore_scenario(program, "s")
    failure = next(f for f in found.failures if f.routine == "F")
    return program, found.schedules[failure], claim(failure)


def test_every_schedule_of_a_random_scenario_is_replayed() -> None:
    shown = set()
    for seed in range(60):
        program = resolve_text(random_scenario(seed))
        found = explore_scenario(program, "together")
        assert found.inconsistent == []
        for failure, schedule in found.schedules.items():
            outcome = replay_schedule(program, schedule, claim(failure, "together"))
            assert (outcome.reproduced, outcome.reason, outcome.misplaced) == (True, "", ""), (seed, failure)
            shown.add(failure.code.value)
    assert shown >= {"D01", "D02", "D03", "R03", "B01", "C01"}


def test_random_scenarios_are_the_same_for_the_same_seed() -> None:
    assert random_scenario(7) == random_scenario(7)
    assert random_scenario(7) != random_scenario(8)


def test_a_schedule_that_shows_something_else_is_not_accepted() -> None:
    program, schedule, obligation = deadlock()
    assert replay_schedule(program, schedule, obligation).reproduced
    other = replace(obligation, subject="A")
    outcome = replay_schedule(program, schedule, other)
    assert (outcome.reproduced, outcome.reason) == (False, "none of the contexts stands where the obligation does")


def test_a_context_that_can_go_on_is_in_no_deadlock() -> None:
    program, schedule, obligation = deadlock()
    shorter = replace(schedule, turns=schedule.turns[:-1])
    assert not replay_schedule(program, shorter, obligation).reproduced
    alone = replace(schedule, waits=schedule.waits[:1])
    assert not replay_schedule(program, alone, replace(obligation, subject="X")).reproduced


def test_a_reason_must_be_the_one_there_is() -> None:
    program, schedule, obligation = deadlock()
    for reason in ("self", "ended", "writer", "event", "interrupted", "displaced"):
        wrong = (replace(schedule.waits[0], reason=reason), schedule.waits[1])
        outcome = replay_schedule(program, replace(schedule, waits=wrong), obligation)
        assert "does not wait like that" in outcome.reason


def test_a_turn_that_may_not_run_is_named() -> None:
    routines = thread("F", "write D;") + dpc("G", "write D;")
    program = model(routines, "run F(NULL); run G();")
    place = program.routines["F"].span
    found = explore_scenario(program, "s")
    (failure, schedule) = next((f, s) for f, s in found.schedules.items() if f.code == "R03")
    assert replay_schedule(program, schedule, claim(failure)).reproduced
    actors = schedule.actors
    body = next(t.step for t in schedule.turns if t.actor == 0)
    turns = (
        Turn(1, Step("G", 0, program.routines["G"].span, irql=2)),
        Turn(0, replace(body, span=place, irql=0)),
    )
    outcome = replay_schedule(program, Schedule("s", 1, actors, turns), claim(failure))
    assert not outcome.reproduced
    assert outcome.reason.startswith("turn 2:")
    assert "a DPC or an ISR runs on its processor" in outcome.reason


def test_a_context_that_the_scenario_does_not_run_is_refused() -> None:
    program, schedule, obligation = deadlock()
    actors = (replace(schedule.actors[0], processor=1), schedule.actors[1])
    outcome = replay_schedule(program, replace(schedule, actors=actors), obligation)
    assert "has no such context" in outcome.reason


def test_levels_and_locks_that_differ_are_noted() -> None:
    program, schedule, obligation = deadlock()
    last = schedule.turns[-1]
    other = replace(last, step=replace(last.step, irql=7))
    outcome = replay_schedule(program, replace(schedule, turns=(*schedule.turns[:-1], other)), obligation)
    assert outcome.reproduced
    assert f"turn {len(schedule.turns)}" in outcome.misplaced


def test_an_event_that_can_still_be_set_is_no_deadlock() -> None:
    routines = thread("F", "KeWaitForSingleObject(Go);") + thread("G", "KeSetEvent(Go);")
    program = model(routines, "run F(NULL); run G(NULL);")
    stuck = explore_scenario(model(routines, "run F(NULL);"), "s")
    failure, schedule = next(iter(stuck.schedules.items()))
    outcome = replay_schedule(program, schedule, claim(failure))
    assert not outcome.reproduced
    assert "can go on" in outcome.reason or "can still be set" in outcome.reason


# ---- the open world ----


def environments(program: Program, others: dict[str, frozenset[int]] | None = None) -> dict[str, Environment]:
    return {name: Environment(others=others or {}) for name in program.routines}


def open_model(routines: str) -> Program:
    return resolve_text(DRIVER + routines)


def test_the_open_world_runs_any_contexts_anywhere() -> None:
    program = open_model(OPPOSITE)
    found = explore_open(program, environments(program))
    assert {("D01", "F", "B"), ("D01", "G", "A")} <= found.keys()
    for failure, schedule in found.schedules.items():
        outcome = replay_schedule(program, schedule, claim(failure, ""), environments(program))
        assert (outcome.reproduced, outcome.reason) == (True, "")


def test_one_context_of_a_single_root_runs_at_a_time() -> None:
    program = open_model(isr("I", "flag = true; write D;"))
    assert "R03" not in explore_open(program, environments(program)).codes()
    program = open_model(dpc("G", "flag = true; write D;"))
    assert "R03" in explore_open(program, environments(program)).codes()


def test_a_variable_that_nothing_writes_has_one_value_for_all() -> None:
    one = dpc("F", f"if (flag) {{ {nested(DPC_A, DPC_B)} }} else {{ {nested(DPC_B, DPC_A)} }}")
    program = open_model(one)
    starts = {"F": Environment(starts={"flag": frozenset({0, 1})})}
    assert "D01" not in explore_open(program, starts).codes()
    written = {"F": Environment(starts={"flag": frozenset({0, 1})}, others={"flag": frozenset({0, 1})})}
    assert "D01" in explore_open(program, written).codes()


def test_who_hold_the_guard_of_a_variable_see_one_value() -> None:
    take, give = "ExAcquireResourceSharedLite(&R);", "ExReleaseResourceLite(&R);"
    one = f"{take} if (guarded) {{ {nested(DPC_A, DPC_B)} }} else {{ {nested(DPC_B, DPC_A)} }} {give}"
    program = open_model(dpc("F", one))
    written = {"F": Environment(others={"guarded": frozenset({0, 1})})}
    assert "D01" not in explore_open(program, written).codes()
    free = open_model(dpc("F", one.replace("guarded", "flag")))
    assert "D01" in explore_open(free, {"F": Environment(others={"flag": frozenset({0, 1})})}).codes()


def test_a_schedule_of_the_open_world_starts_within_its_role() -> None:
    program = open_model(dpc("G", "write D;"))
    span = program.routines["G"].span
    actor = Actor("G", "G", "dpc", 0, (Choice("irql", 5),))
    schedule = Schedule("", 1, (actor,), (Turn(0, Step("G", 0, span)),), (Wait(0, "self", "A", (0,)),))
    obligation = Obligation(next(iter(explore_open(program, environments(program)).failures)).code, "G", span, "D", "")
    assert "irql = 5" in replay_schedule(program, schedule, obligation, environments(program)).reason
    wrong = replace(schedule, actors=(replace(actor, kind="isr"),))
    assert "is no isr" in replay_schedule(program, wrong, obligation, environments(program)).reason


# ---- schedules as engines tell them ----


CALLING = """
extern Now(routine R) : bool { acquire M; call R(); release M; bool result = *; return result; }
extern Through(routine R) : bool { bool result = Now(R); return result; }
extern Out() { may reenter BACK; }
extern Both(routine R) { acquire N; call R(); acquire N; release N; release N; }
role BACK { irql PASSIVE_LEVEL .. DISPATCH_LEVEL; thread; any number; }
role LOCKED { irql DISPATCH_LEVEL; thread; any number; entry { acquire A; } exit { release A; } }
role HIGH { irql DISPATCH_LEVEL; dpc; any number; }
extern Up() { may reenter HIGH; }
extern Locked() { may reenter LOCKED; }
"""
M, N, A, B, K = ((lock, "exclusive", 1) for lock in "MNABK")
Held: TypeAlias = tuple[str, str, int]


class Told:
    """A schedule made by hand: turns by the text of their statements, the first place where each stands."""

    def __init__(self, routines: str) -> None:
        self.program = open_model(CALLING + routines)
        self.actors: list[Actor] = []
        self.turns: list[Turn] = []

    def span(self, routine: str, text: str) -> Span:
        source = self.program.routines[routine].span.source
        at = source.text.index(text, self.program.routines[routine].span.start)
        return Span(source, at, at + len(text))

    def actor(self, routine: str, level: int = 0, processor: int = 0, kind: str = "thread", within: int = -1) -> None:
        start = (Choice("irql", level),)
        self.actors.append(Actor(routine, routine, kind, processor, start, within))

    def turn(
        self, actor: int, text: str, *held: Held, irql: int = 0, to: tuple[str, str] = ("", ""), at: str = ""
    ) -> None:
        """A turn of an actor, in another routine than its own where `at` names one."""
        routine = at or self.actors[actor].routine
        step = Step(routine, 0, self.span(routine, text), (), irql, tuple(sorted(held)))
        self.turns.append(Turn(actor, step, *to))

    def replayed(self, code: Property, subject: str, routine: str, text: str, *waits: Wait) -> tuple[bool, str, str]:
        processors = max(actor.processor for actor in self.actors) + 1
        schedule = Schedule("", processors, tuple(self.actors), tuple(self.turns), waits)
        obligation = Obligation(code, routine, self.span(routine, text), subject, "")
        outcome = replay_schedule(self.program, schedule, obligation, environments(self.program))
        return outcome.reproduced, outcome.reason, outcome.misplaced


TAKES_N = f"routine In() {{ {MUTEX_N[0]} {MUTEX_N[1]} }}\n"
OPPOSITE_G = thread("G", f"{MUTEX_N[0]} {MUTEX_M[0]} {MUTEX_M[1]} {MUTEX_N[1]}")


@pytest.mark.parametrize(
    "body",
    [
        "Now(In);",
        "bool x = Now(In);",
        "if (Now(In)) { read D; }",
        "while (Now(In)) { read D; }",
        "for (;;) { Now(In); }",
        "Through(In);",
        "Inner();",
        "if (Result()) { read D; }",
    ],
)
def test_the_call_of_a_kernel_routine_that_calls_back_is_a_step_and_its_callback_another(body: str) -> None:
    inner = "routine Inner() { Now(In); } routine Result() : bool { return Now(In); }\n"
    told = Told(TAKES_N + inner + thread("F", body) + OPPOSITE_G)
    told.actor("F")
    told.actor("G")
    told.turn(0, "F")
    name = next((n for n in ("Inner", "Result") if n in body), "")
    if name:
        told.turn(0, f"{name}()")
    call = "Through(In)" if "Through" in body else "Now(In)"
    told.turn(0, call, M, at=name)
    told.turn(0, call, M, at=name)
    told.turn(0, "ExAcquireFastMutex(&N)", M, irql=1, to=("waits", "N"), at="In")
    told.turn(1, "ExAcquireFastMutex(&N);", N, irql=1)
    told.turn(1, "ExAcquireFastMutex(&M);", N, irql=1, to=("waits", "M"))
    waits = Wait(0, "held", "N", (1,)), Wait(1, "held", "M", (0,))
    for routine, subject in (("In", "N"), ("G", "M")):
        found = told.replayed(Property.D01, subject, routine, f"ExAcquireFastMutex(&{subject})", *waits)
        assert found == (True, "", "")


def test_the_rest_of_a_kernel_routine_that_calls_back_belongs_to_the_turn_before_it() -> None:
    after = f"{MUTEX_N[0]} {MUTEX_N[1]}"
    told = Told("routine In() { read D; }\n" + thread("F", f"if (Now(In)) {{ {after} }}") + thread("G", after))
    told.actor("F")
    told.actor("G")
    told.turn(0, "F")
    told.turn(0, "Now(In)", M)
    told.turn(0, "Now(In)", M)
    told.turn(0, "read D;", at="In")
    told.turn(1, "ExAcquireFastMutex(&N);", N, irql=1)
    wait = Wait(0, "held", "N", (1,))
    outcome = told.replayed(Property.D01, "N", "F", "ExAcquireFastMutex(&N)", wait)
    assert outcome == (False, "F does not wait like that: held `N`", "")


def test_who_waits_in_the_rest_of_a_kernel_routine_waits_there() -> None:
    told = Told(f"routine In() {{ {MUTEX_M[0]} {MUTEX_M[1]} }}\n" + thread("F", "Both(In);"))
    told.actor("F")
    told.turn(0, "F")
    told.turn(0, "Both(In)", N)
    told.turn(0, "Both(In)", N)
    told.turn(0, "ExAcquireFastMutex(&M);", M, N, irql=1, at="In")
    told.turn(0, "ExReleaseFastMutex(&M);", N, to=("waits", "N"), at="In")
    outcome = told.replayed(Property.D01, "N", "F", "Both(In)", Wait(0, "self", "N", (0,)))
    assert outcome == (True, "", "")


# ---- call-outs that come back ----


def back(body: str) -> str:
    return f"routine Back() as BACK {{ {body} }}\n"


def come_back(take: str, give: str, inside: str) -> Told:
    """F has taken a lock and called out; Back runs in it."""
    told = Told(back(inside) + thread("F", f"KIRQL a; {take} Out(); {give}"))
    told.actor("F")
    return told


def test_a_spin_lock_that_the_caller_holds_is_waited_for_for_ever() -> None:
    told = come_back(*SPIN_A, DPC_A[0])
    told.actor("Back", 2, within=0)
    told.turn(0, SPIN_A[0], A, irql=2)
    told.turn(0, "Out()", A, irql=2, to=("calls", "BACK"))
    told.turn(1, DPC_A[0], irql=2, to=("waits", "A"))
    for wait in (Wait(1, "held", "A", (0,)), Wait(1, "self", "A", (1,))):
        waits = Wait(0, "called", "", (1,)), wait
        assert told.replayed(Property.D01, "Out", "F", "Out()", *waits) == (True, "", "")
        assert told.replayed(Property.D01, "A", "Back", DPC_A[0], *waits) == (True, "", "")


def test_a_mutex_that_the_caller_holds_counts_up_and_goes_back_to_it() -> None:
    take, give = "KeWaitForMutexObject(&K);", "KeReleaseMutex(&K);"
    told = come_back(take, f"assert !held(K); {give}", take + give)
    told.actor("Back", 0, within=0)
    told.turn(0, take, K)
    told.turn(0, "Out()", K, to=("calls", "BACK"))
    told.turn(1, take, ("K", "exclusive", 2))
    waits = Wait(0, "called", "", (1,)), Wait(1, "held", "K", (0,))
    reason = told.replayed(Property.D01, "K", "Back", take, *waits)[1]
    assert reason == "Back does not wait like that: held `K`"
    told.turn(1, give, K)
    told.turn(1, "Back", K)
    told.turn(0, "Out();", K)
    told.turn(0, "assert !held(K);", K)
    assert told.replayed(Property.C01, "", "F", "assert !held(K);") == (True, "", "")


def test_what_comes_back_waits_for_others_that_wait_for_its_caller() -> None:
    other = thread("G", f"{MUTEX_N[0]} {MUTEX_M[0]} {MUTEX_M[1]} {MUTEX_N[1]}")
    told = Told(back("".join(MUTEX_N)) + thread("F", f"{MUTEX_M[0]} Out(); {MUTEX_M[1]}") + other)
    told.actor("F")
    told.actor("G")
    told.actor("Back", 1, within=0)
    told.turn(1, MUTEX_N[0], N, irql=1)
    told.turn(0, MUTEX_M[0], M, irql=1)
    told.turn(0, "Out()", M, irql=1, to=("calls", "BACK"))
    told.turn(2, MUTEX_N[0], irql=1, to=("waits", "N"))
    told.turn(1, MUTEX_M[0], N, irql=1, to=("waits", "M"))
    waits = Wait(0, "called", "BACK", (2,)), Wait(1, "held", "M", (0,)), Wait(2, "held", "N", (1,))
    assert told.replayed(Property.D01, "Out", "F", "Out()", *waits) == (True, "", "")
    assert told.replayed(Property.D01, "N", "Back", MUTEX_N[0], *waits) == (True, "", "")
    assert told.replayed(Property.D01, "M", "G", MUTEX_M[0], *waits) == (True, "", "")
    reason = told.replayed(Property.D01, "Out", "F", "Out()", *waits[1:])[1]
    assert reason == "none of the contexts stands where the obligation does"


def test_the_caller_has_no_step_while_what_came_back_runs() -> None:
    told = come_back(*SPIN_A, "read D;")
    told.actor("Back", 2, within=0)
    told.turn(0, "Out()", A, irql=2, to=("calls", "BACK"))
    told.turn(1, "read D;", A, irql=2, to=("stands", ""))
    told.turn(0, SPIN_A[1])
    reason = told.replayed(Property.C01, "", "F", SPIN_A[1])[1]
    assert reason == "turn 3: F cannot run: it has called out, and what came back into the driver has not ended"


def test_what_comes_back_runs_its_entry_in_place_of_its_caller() -> None:
    told = Told("routine Back() as LOCKED { }\n" + thread("F", f"KIRQL a; {SPIN_A[0]} Locked(); {SPIN_A[1]}"))
    told.actor("F")
    told.actor("Back", 2, within=0)
    told.turn(0, "Locked()", A, irql=2, to=("calls", "LOCKED"))
    told.turn(1, "Back", irql=2, to=("waits", "A"))
    waits = Wait(0, "called", "", (1,)), Wait(1, "held", "A", (0,))
    assert told.replayed(Property.D01, "Locked", "F", "Locked()", *waits) == (True, "", "")


@pytest.mark.parametrize(
    ("call", "level", "kind", "reason"),
    [
        ("Out();", 0, "thread", "it starts at level 2"),
        ("Up();", 2, "thread", "the driver may come back with the role HIGH only"),
        ("read D;", 2, "thread", "nobody has called out for it"),
        ("Out();", 2, "dpc", "Back runs on the processor of F, as thread"),
    ],
)
def test_what_may_come_back_is_a_routine_of_the_role_at_its_level(
    call: str, level: int, kind: str, reason: str
) -> None:
    told = Told(back("write D;") + thread("F", f"KIRQL a; {SPIN_A[0]} {call} {SPIN_A[1]}"))
    told.actor("F")
    told.actor("Back", level, within=0, kind=kind)
    told.turn(0, SPIN_A[0], A, irql=2)
    if call != "read D;":
        told.turn(0, call[:-1], A, irql=2, to=("calls", "HIGH" if call == "Up();" else "BACK"))
    told.turn(1, "write D;", irql=2)
    assert told.replayed(Property.C01, "", "Back", "write D;")[1].endswith(reason)


def test_a_dpc_routine_that_comes_back_into_a_thread_runs_as_that_thread() -> None:
    told = Told(
        "routine Tick() as HIGH { " + DPC_A[0] + " }\n" + thread("F", f"KIRQL a; {SPIN_A[0]} Up(); {SPIN_A[1]}")
    )
    told.actor("F")
    told.actor("Tick", 2, within=0)
    told.turn(0, "Up()", A, irql=2, to=("calls", "HIGH"))
    told.turn(1, DPC_A[0], A, irql=2, to=("waits", "A"))
    waits = Wait(0, "called", "", (1,)), Wait(1, "self", "A", (1,))
    assert told.replayed(Property.D01, "Up", "F", "Up()", *waits) == (True, "", "")


def test_contexts_that_run_within_each_other_are_refused() -> None:
    told = come_back(*SPIN_A, "read D;")
    told.actors[0] = replace(told.actors[0], within=1)
    told.actor("Back", 2, within=0)
    told.turn(0, "Out()", to=("calls", "BACK"))
    assert "in whose call-out" in told.replayed(Property.D01, "Out", "F", "Out()")[1]


def test_a_call_out_has_no_effect_in_a_scenario() -> None:
    routines = CALLING + back(DPC_A[0]) + thread("F", f"KIRQL a; {SPIN_A[0]} Out(); {SPIN_A[1]}")
    assert broken(routines, "run F(NULL);") == set()
