"""Scenarios: their contexts as graphs, the search of their states, and what is certified of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from modelcheck.engines.closed import symmetry
from modelcheck.engines.closed.local import Engine
from modelcheck.engines.closed.search import Search, components
from modelcheck.engines.closed.segments import segment
from modelcheck.engines.scenario import Broken, Kept, Open, Solved, solve
from modelcheck.evidence.certify import certify
from modelcheck.evidence.closed import conditions, gap
from modelcheck.evidence.conditions import Pool
from modelcheck.interpret import replay_schedule
from modelcheck.lower import every_graph
from modelcheck.lower.closed import Closed, lower_scenarios
from modelcheck.resolve import resolve_text
from modelcheck.verdict import Property
from tests.random_scenarios import random_crowd, random_scenario

SEEDS = range(40)

RING = """
driver ring;
import wdm;
lock L[8] : KSPIN_LOCK initialised;
{routines}
scenario all on 8 processors {{
{runs}
}}
"""

OPEN_VALUE = """
driver open_value;
import wdm;
var wanted : int 0..3;
routine Tests() {
    assert wanted != 2;
}
scenario open {
    run Tests();
}
scenario given {
    wanted = 1;
    run Tests();
}
"""

CROWD = """
driver crowd;
import wdm;
lock L : FAST_MUTEX initialised;
lock K : FAST_MUTEX initialised;
var kept : int 0..3 = 0 guarded by L;
routine Adds() {
    ExAcquireFastMutex(&L);
    if (kept < 3) { kept = kept + 1; }
    ExReleaseFastMutex(&L);
}
routine AddsToo() {
    ExAcquireFastMutex(&L);
    if (kept < 3) { kept = kept + 1; }
    ExReleaseFastMutex(&L);
}
routine Other() {
    ExAcquireFastMutex(&K);
    ExAcquireFastMutex(&L);
    ExReleaseFastMutex(&L);
    ExReleaseFastMutex(&K);
}
routine Looks() {
    assert kept != 2;
}
routine Assumes() {
    assume kept != 2;
}
scenario same on 4 processors {
    run Adds() on 0;
    run AddsToo() on 1;
    run Adds() on 2;
    run Other() on 3;
}
scenario looked on 2 processors {
    run Adds() on 0;
    run Looks() on 1;
}
scenario assumed on 2 processors {
    run Adds() on 0;
    run Assumes() on 1;
}
"""

LEVELS = """
driver levels;
import wdm;
interrupt Line at 7;
routine Dispatch(Irp) as DRIVER_DISPATCH { }
routine Later() as KDEFERRED_ROUTINE { }
routine Isr() as KSERVICE_ROUTINE(Line) { }
routine Plain() { }
scenario usual on 2 processors {
    run Dispatch(NULL) on 0;
    run Later() on 1;
    run Isr() on 1;
    run Plain() on 0;
    run Plain() as isr at DIRQL on 1;
}
"""


def closed(text: str, name: str = "") -> Closed:
    scenarios = {c.name: c for c in lower_scenarios(resolve_text(text))}
    return scenarios[name] if name else next(iter(scenarios.values()))


def kinds(solved: Solved) -> dict[str, type]:
    """For each obligation how it was decided."""
    return {f"{solved.closed.obligations[n].id} {n}": type(d) for n, d in solved.decisions.items()}


def ring(order: str) -> str:
    """Eight contexts that each take two neighbouring locks: the higher one last, or (`cyclic`) the next one."""
    routines, runs = [], []
    for i in range(8):
        first, last = (i, (i + 1) % 8) if order == "cyclic" else sorted((i, (i + 1) % 8))
        routines.append(
            f"routine P{i}() {{ KIRQL o; KeAcquireSpinLock(&L[{first}], &o); KeAcquireSpinLockAtDpcLevel(&L[{last}]);"
            f" KeReleaseSpinLockFromDpcLevel(&L[{last}]); KeReleaseSpinLock(&L[{first}], o); }}"
        )
        runs.append(f"    run P{i}() on {i};")
    return RING.format(routines="\n".join(routines), runs="\n".join(runs))


def test_contexts_start_at_the_level_of_their_role_or_as_written() -> None:
    contexts = closed(LEVELS).contexts
    assert [(c.name, str(c.kind), c.processor, c.level) for c in contexts] == [
        ("Dispatch", "thread", 0, 0),
        ("Later", "dpc", 1, 2),
        ("Isr", "isr", 1, 7),
        ("Plain 1", "thread", 0, 0),
        ("Plain 2", "isr", 1, 5),
    ]


def test_obligations_are_those_of_a_closed_world() -> None:
    """Each names its scenario; what only the open world can answer is not among them."""
    found = closed(ring("cyclic"))
    obligations = [found.obligations[n] for n in found.listed]
    assert {o.scenario for o in obligations} == {"all"}
    assert not {o.code.value for o in obligations} & {"B05", "B06", "B07", "B08", "R02", "T01", "D04"}
    assert {"B01", "B03", "D01", "D02", "I02"} <= {o.code.value for o in obligations}


def test_a_ring_of_eight_is_decided_in_few_states() -> None:
    broken, kept = solve(closed(ring("cyclic"))), solve(closed(ring("rising")))
    wrong = [broken.closed.obligations[n] for n, d in broken.decisions.items() if isinstance(d, Broken)]
    assert {(o.code.value, o.routine) for o in wrong} == {("D01", f"P{i}") for i in range(8)}
    assert all(isinstance(d, Kept) and d.reached for d in kept.decisions.values())
    assert len(broken.search.found.order) <= 3**8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reduction_changes_no_decision(seed: int) -> None:
    found = closed(random_scenario(seed))
    reduced, whole = solve(found), solve(found, reduce=False)
    assert kinds(reduced) == kinds(whole)
    assert len(reduced.search.found.order) <= len(whole.search.found.order)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_schedule_replays(seed: int) -> None:
    program = resolve_text(random_scenario(seed))
    (found,) = lower_scenarios(program)
    for number, decision in solve(found).decisions.items():
        if isinstance(decision, Broken):
            outcome = replay_schedule(program, decision.schedule, found.obligations[number])
            assert outcome.reproduced, f"{found.obligations[number].id}: {outcome.reason}"


CLAUSES = """
driver clauses;
role THREAD {{ irql PASSIVE_LEVEL; thread; any number; }}
extern Up() {{ raise DISPATCH_LEVEL; }}
var g : int 0..3 = 0;
{inner}
routine T() as THREAD {clause} {{ {body} }}
scenario alone {{ run T() on 0; }}
"""
LOW, KEPT = "ensures irql == PASSIVE_LEVEL", "ensures g == 1"
LAST_CALLS = {
    "statement": ("routine f() { Up(); }", LOW, "f();"),
    "nested": ("routine h() { Up(); } routine f() { h(); }", LOW, "f();"),
    "clause of the callee": (f"routine h() {{ Up(); }} routine f() {LOW} {{ h(); }}", "", "f(); g = 2;"),
    "with a result": ("routine f() : bool { Up(); return true; }", LOW, "if (f()) { }"),
    "in a branch": ("routine f() { if (*) { Up(); } }", LOW, "if (*) { f(); }"),
    "in a loop": ("routine f() { Up(); }", LOW, "while (*) { f(); break; }"),
    "nothing in it": ("routine f() { }", KEPT, "f();"),
    "in try": ("routine f() { Up(); }", KEPT, "try { f(); leave; } finally { f(); }"),
    "in atomic": ("routine f() { Up(); }", KEPT, "atomic { f(); }"),
    "always": ("routine f() { Up(); }", "always irql <= PASSIVE_LEVEL", "f();"),
}


@pytest.mark.parametrize("name", LAST_CALLS)
def test_a_clause_is_looked_at_behind_a_call_that_comes_last(name: str) -> None:
    """Where the routine ends with the routine it calls, no step of the schedule stands behind the call."""
    inner, clause, body = LAST_CALLS[name]
    program = resolve_text(CLAUSES.format(inner=inner, clause=clause, body=body))
    (found,) = lower_scenarios(program)
    broken = {n: d for n, d in solve(found).decisions.items() if found.obligations[n].code is Property.C02}
    assert broken
    for number, decision in broken.items():
        assert isinstance(decision, Broken)
        outcome = replay_schedule(program, decision.schedule, found.obligations[number])
        assert outcome.reproduced, f"{found.obligations[number].id}: {outcome.reason}"


CROSSING = """
driver crossing;
import wdm;
lock L : KSPIN_LOCK initialised;
lock K : KSPIN_LOCK initialised;
routine D() as KDEFERRED_ROUTINE {
    KeAcquireSpinLockAtDpcLevel(&K);
    KeAcquireSpinLockAtDpcLevel(&L);
    KeReleaseSpinLockFromDpcLevel(&L);
    KeReleaseSpinLockFromDpcLevel(&K);
}
routine E() as KDEFERRED_ROUTINE {
    KeAcquireSpinLockAtDpcLevel(&L);
    KeAcquireSpinLockAtDpcLevel(&K);
    KeReleaseSpinLockFromDpcLevel(&K);
    KeReleaseSpinLockFromDpcLevel(&L);
}
scenario two on 2 processors {
    run D() on 0;
    run E() on 1;
}
"""


def test_contexts_take_turns_as_seldom_as_they_can() -> None:
    (closed,) = lower_scenarios(resolve_text(CROSSING))
    ends = [d.schedule for d in solve(closed).decisions.values() if isinstance(d, Broken) and d.schedule.waits]
    assert ends
    for schedule in ends:
        actors = [turn.actor for turn in schedule.turns]
        assert sum(one != other for one, other in pairwise(actors)) == 1
        assert [turn.lock for turn in schedule.turns if turn.event == "waits"] == ["L", "K"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_states_are_certified(seed: int) -> None:
    """Z3 confirms each different execution, and the rules of section 7 lead nowhere else."""
    solved = solve(closed(random_scenario(seed)))
    pool = Pool()
    conditions(solved, 0, pool)
    checked = certify(pool, 60_000)
    assert pool.queries
    assert not checked.rejected
    assert not checked.unanswered
    assert gap(solved) == ""


def test_an_outcome_that_is_left_out_is_noticed() -> None:
    solved = solve(closed(OPEN_VALUE, "open"))
    memo = solved.search.memo
    for key, (outcomes, edge) in list(memo.items()):
        memo[key] = (tuple(replace(o, values=tuple(v + 1 for v in o.values)) for o in outcomes), edge)
    pool = Pool()
    conditions(solved, 0, pool)
    assert certify(pool, 60_000).rejected


def test_a_state_that_is_left_out_is_noticed() -> None:
    solved = solve(closed(ring("rising")))
    found = solved.search.found
    del found.arrivals[found.order[-1]]
    assert gap(solved) != ""


@pytest.mark.parametrize("seed", SEEDS)
def test_contexts_that_are_alike_change_no_decision(seed: int) -> None:
    """What is decided is certified, and every schedule replays."""
    program = resolve_text(random_crowd(seed))
    (found,) = lower_scenarios(program)
    reduced, whole = solve(found), solve(found, 2_000, reduce=False)
    if not whole.search.found.complete:
        assert kinds(reduced) == kinds(whole)
        assert len(reduced.search.found.order) <= len(whole.search.found.order)
    assert reduced.search.found.complete or gap(reduced) == ""
    for number, decision in reduced.decisions.items():
        if isinstance(decision, Broken):
            outcome = replay_schedule(program, decision.schedule, found.obligations[number])
            assert outcome.reproduced, f"{found.obligations[number].id}: {outcome.reason}"


def test_contexts_with_the_same_code_are_alike() -> None:
    """Whatever their routines are called; what a lock guards nobody sees while it is held."""
    solved = solve(closed(CROWD, "same"))
    assert solved.search.symmetry.alike == [(0, 1, 2), (0, 1, 2), (0, 1, 2), (3,)]
    assert [cell.name for cell in solved.search.guards] == ["var kept"]
    assert gap(solved) == ""


def test_contexts_taken_for_alike_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each acquires two locks, but not the same ones."""

    def loose(_self: object, ours: tuple[object, ...], theirs: tuple[object, ...]) -> bool:
        return len(ours) == len(theirs)

    monkeypatch.setattr(symmetry._Comparison, "_cells", loose)
    monkeypatch.setattr(symmetry._Comparison, "_checks", lambda *_: True)
    solved = solve(closed(ring("rising")))
    assert not solved.search.symmetry.is_trivial
    assert "alike" in gap(solved)


def test_an_exchange_that_is_none_is_noticed() -> None:
    solved = solve(closed(CROWD, "same"))
    exchanges = solved.search.found.exchanges
    for state in exchanges:
        exchanges[state] = (3, 1, 2, 0)
    assert exchanges
    assert gap(solved) != ""


def test_what_breaks_for_one_of_those_alike_breaks_for_all() -> None:
    solved = solve(
        closed(
            OPEN_VALUE.replace("    run Tests();\n}\nscenario given", "    run Tests();\n" * 2 + "}\nscenario given")
        )
    )
    assert gap(solved) == ""
    solved.search.found.broken.popitem()
    assert gap(solved) != ""


@pytest.mark.parametrize("name", ["looked", "assumed"])
def test_a_variable_taken_for_guarded_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing follows on the access."""
    assert solve(closed(CROWD, name)).search.guards == {}
    monkeypatch.setattr(Engine, "check_guards", lambda *_: None)
    solved = solve(closed(CROWD, name))
    assert solved.search.guards
    assert "without the lock" in gap(solved)


def test_a_deadlock_that_is_left_out_is_noticed() -> None:
    solved = solve(closed(ring("cyclic")))
    assert gap(solved) == ""
    for number, decision in solved.decisions.items():
        if isinstance(decision, Broken):
            solved.decisions[number] = Kept(True)
    assert "never go on" in gap(solved)


def test_a_seen_step_taken_for_unseen_is_noticed() -> None:
    """An ISR on the thread's processor sees what the search was told nobody sees."""
    text = OPEN_VALUE.replace("assert wanted != 2;", "KIRQL o; KeRaiseIrql(2, &o); KeLowerIrql(o);").replace(
        "    run Tests();\n}\nscenario given", "    run Tests();\n    run Tests() as isr at DIRQL;\n}\nscenario given"
    )
    found = closed(text, "open")
    search = Search(found, 10_000)
    for engine in search.engines:
        engine.alone = True
    search.run()
    assert gap(Solved(found, search, {})) != ""


def test_a_variable_without_a_value_has_any() -> None:
    decided = {name: set(kinds(solve(closed(OPEN_VALUE, name))).values()) for name in ("open", "given")}
    assert decided == {"open": {Broken, Kept}, "given": {Kept}}


def test_a_budget_leaves_the_rest_open() -> None:
    solved = solve(closed(ring("rising")), budget=50)
    assert set(kinds(solved).values()) == {Open}
    reasons = {d.reason for d in solved.decisions.values() if isinstance(d, Open)}
    assert reasons == {"there are more than 50 states"}


def test_what_no_model_knows_leaves_the_rest_open() -> None:
    solved = solve(closed(OPEN_VALUE.replace("assert", "Unheard(); assert"), "given"))
    assert set(kinds(solved).values()) == {Open}


def test_an_operation_is_cut_before_each_acquisition() -> None:
    """KeAcquireSpinLock: raise, then acquire; nothing follows that waits."""
    found = closed(ring("rising"))
    graphs = every_graph([found.contexts[0].graph])
    operations = [e.operation for graph in graphs for e in graph.edges if e.operation is not None]
    first = next(segment(operation) for operation in operations if operation.meets_others)
    assert first.head is None
    assert len(first.rests) == 1
    assert first.rest(1).head is not None
    assert first.rest(1).rests == ()


def test_components_come_behind_what_they_lead_to() -> None:
    edges = {1: [2], 2: [3], 3: [2, 4], 4: []}
    assert [sorted(c) for c in components([1, 2, 3, 4], lambda n: edges[n])] == [[4], [2, 3], [1]]
