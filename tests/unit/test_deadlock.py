"""What several contexts break, and how it is shown: who is in it, on how many processors, waiting for what."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.engines.analyse import Analysis, Limits, Open
from modelcheck.engines.deadlock import Deadlock, Deadlocked, Excluded, Finding, Ranked
from modelcheck.lower import lower
from modelcheck.pipeline import Options, load, verify
from modelcheck.verdict import MUTUAL, Obligation, Property, Report, Schedule, Undecided, Violated

HEAD = """driver waiting;
lockkind SPIN { spins; level DISPATCH_LEVEL; }
lockkind MUTEX { }
lockkind RW { }
lockkind FAIR { writers first; }
role LOAD { irql PASSIVE_LEVEL; thread; single; phase load; }
role THREAD { irql PASSIVE_LEVEL; thread; any number; }
role ONE { irql PASSIVE_LEVEL; thread; single; }
role DPC { irql DISPATCH_LEVEL; dpc; any number; }
role ISR { irql DIRQL; isr; any number; }
extern Acquire(lock L) { acquire L; }
extern Share(lock L) { acquire L shared; }
extern Release(lock L) { release L either; }
extern Up(out KIRQL old) { KIRQL before = irql; raise DISPATCH_LEVEL; old = before; }
extern Down(KIRQL level) { lower level; }
extern Wait(event E) { wait E; }
extern Set(event E) { set E; }
lock A : MUTEX;
lock B : MUTEX;
lock C : MUTEX;
lock G : MUTEX;
lock S : SPIN;
lock T : SPIN;
lock F : FAIR;
event E;
data D;
"""
NEST = "Acquire(&{0}); Acquire(&{1}); Release(&{1}); Release(&{0});"


def nest(name: str, role: str, first: str, second: str) -> str:
    return f"routine {name}() as {role} {{ {NEST.format(first, second)} }}\n"


def model(text: str, folder: Path) -> Path:
    path = folder / "waiting.drvm"
    path.write_text(f"{HEAD}{text}\n", encoding="utf-8")
    return path


def report(text: str, folder: Path, strict: bool = False) -> Report:
    return verify(model(text, folder), Options(strict=strict))


def name_of(obligation: Obligation) -> str:
    return f"{obligation.code} {obligation.routine} {obligation.subject}".replace("  ", " ")


def findings(text: str, folder: Path, strict: bool = False) -> list[tuple[str, Finding]]:
    """What the engine itself finds, before anything is certified or replayed, with code, routine and lock."""
    lowered = lower(load(model(text, folder))[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    engine = Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), analysis.held)
    engine.run(strict)

    return [(name_of(lowered.obligations[n]), finding) for n, finding in engine.findings.items()]


def schedules(found: Report) -> dict[str, Schedule]:
    """The schedule of each violation that has one."""
    result = {}
    for r in found.violated:
        if isinstance(r.verdict, Violated) and isinstance(r.verdict.trace, Schedule):
            assert r.verdict.replayed
            result[f"{r.obligation.code} {r.obligation.routine} {r.obligation.subject}".replace("  ", " ")] = (
                r.verdict.trace
            )
    return result


def reasons(schedule: Schedule) -> set[tuple[str, str, str]]:
    """(who, why, for what) of everybody who waits at the end."""
    return {(schedule.actors[w.actor].routine, w.reason, w.subject) for w in schedule.waits}


# ---- who waits for whom ----


def test_two_that_cross_wait_for_each_other(tmp_path: Path) -> None:
    """Both acquisitions have the same run, and only they are violated."""
    found = schedules(report(nest("P", "ONE", "A", "B") + nest("Q", "ONE", "B", "A"), tmp_path))
    assert set(found) == {"D01 P B", "D01 Q A"}
    for schedule in found.values():
        assert reasons(schedule) == {("P", "held", "B"), ("Q", "held", "A")}


def test_one_routine_alone_needs_two_contexts(tmp_path: Path) -> None:
    both = f"routine P() as THREAD {{ if (*) {{ {NEST.format('A', 'B')} }} else {{ {NEST.format('B', 'A')} }} }}"
    schedule = schedules(report(both, tmp_path))["D01 P B"]
    assert [actor.name for actor in schedule.actors] == ["P 1", "P 2"]


MIXED = """\
driver mixed;
import wdm;
lock R : ERESOURCE initialised;
lock M : FAST_MUTEX initialised;
routine T(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP) {
    KeEnterCriticalRegion();
    ExAcquireResourceExclusiveLite(&R, TRUE);
    ExAcquireFastMutex(&M);
    ExReleaseFastMutex(&M);
    ExReleaseResourceLite(&R);
    KeLeaveCriticalRegion();
}
routine U(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP) {
    KeEnterCriticalRegion();
    ExAcquireFastMutex(&M);
    ExAcquireResourceSharedLite(&R, TRUE);
    ExReleaseResourceLite(&R);
    ExReleaseFastMutex(&M);
    KeLeaveCriticalRegion();
}
"""


def test_each_acquisition_is_shown_with_as_few_contexts_as_it_needs(tmp_path: Path) -> None:
    """Who waits for R and holds nothing needs two others; they need nobody else. A holder is named before a writer."""
    file = tmp_path / "mixed.drvm"
    file.write_text(MIXED)
    found = schedules(verify(file))
    assert [actor.name for actor in found["D01 T R"].actors] == ["T 1", "T 2", "U"]
    assert [actor.name for actor in found["D01 T M"].actors] == ["T", "U"]
    assert found["D01 U R"] == found["D01 T M"]
    for schedule in found.values():
        assert ("U", "held", "R") in reasons(schedule)
        begun = list(dict.fromkeys(turn.actor for turn in schedule.turns))
        assert begun == sorted(begun)


def test_three_in_a_ring(tmp_path: Path) -> None:
    text = nest("P", "ONE", "A", "B") + nest("Q", "ONE", "B", "C") + nest("R", "ONE", "C", "A")
    schedule = schedules(report(text, tmp_path))["D01 P B"]
    assert reasons(schedule) == {("P", "held", "B"), ("Q", "held", "C"), ("R", "held", "A")}


def test_the_smaller_ring_is_shown(tmp_path: Path) -> None:
    """What is not needed for a deadlock is not in its run."""
    text = nest("P", "ONE", "A", "B") + nest("Q", "ONE", "B", "A") + nest("R", "ONE", "A", "C")
    assert len(schedules(report(text, tmp_path))["D01 P B"].actors) == 2


def test_threads_that_block_share_a_processor(tmp_path: Path) -> None:
    found = schedules(report(nest("P", "ONE", "A", "B") + nest("Q", "ONE", "B", "A"), tmp_path))
    assert found["D01 P B"].processors == 1


def test_contexts_that_spin_have_one_each(tmp_path: Path) -> None:
    found = schedules(report(nest("P", "DPC", "S", "T") + nest("Q", "DPC", "T", "S"), tmp_path))
    assert found["D01 P T"].processors == 2


def test_an_interrupt_above_the_holder(tmp_path: Path) -> None:
    """One processor, and D02 where it spins."""
    text = """routine P() as DPC { Acquire(&S); Release(&S); }
    routine Q() as ISR { Acquire(&S); Release(&S); }"""
    found = schedules(report(text, tmp_path))
    assert set(found) == {"D01 Q S", "D02 Q S"}
    assert reasons(found["D02 Q S"]) == {("Q", "held", "S"), ("P", "interrupted", "")}
    assert found["D02 Q S"].processors == 1


def test_a_thread_that_has_displaced_the_holder(tmp_path: Path) -> None:
    text = """routine P() as ONE { Acquire(&S); Release(&S); }
    routine Q() as ONE { KIRQL o; Up(&o); Acquire(&S); Release(&S); Down(o); }"""
    assert reasons(schedules(report(text, tmp_path))["D02 Q S"]) == {("Q", "held", "S"), ("P", "displaced", "")}


def test_a_reader_behind_a_waiting_writer(tmp_path: Path) -> None:
    text = """routine P() as ONE { Acquire(&A); Share(&F); Release(&F); Release(&A); }
    routine Q() as ONE { Share(&F); Acquire(&A); Release(&A); Release(&F); }
    routine W() as ONE { Acquire(&F); Release(&F); }"""
    found = schedules(report(text, tmp_path))
    assert reasons(found["D01 P F"]) == {("P", "writer", "F"), ("Q", "held", "A"), ("W", "held", "F")}


def test_one_who_waits_for_himself(tmp_path: Path) -> None:
    found = schedules(report("routine P() as ONE { Acquire(&A); Acquire(&A); Release(&A); }", tmp_path))
    assert reasons(found["D01 P A"]) == {("P", "self", "A")}


def test_a_lock_whose_holder_has_ended(tmp_path: Path) -> None:
    text = "routine P() as ONE { Acquire(&A); }\nroutine Q() as ONE { Acquire(&A); Release(&A); }"
    assert reasons(schedules(report(text, tmp_path))["D01 Q A"]) == {("Q", "ended", "A")}


def test_an_event_that_nobody_sets(tmp_path: Path) -> None:
    found = schedules(report("routine P() as ONE { Wait(E); }", tmp_path))
    assert reasons(found["D03 P E"]) == {("P", "event", "E")}


def test_an_event_whose_setter_needs_the_lock(tmp_path: Path) -> None:
    text = """routine P() as ONE { Acquire(&A); Wait(E); Release(&A); }
    routine Q() as ONE { Acquire(&A); Set(E); Release(&A); }"""
    assert reasons(schedules(report(text, tmp_path))["D03 P E"]) == {("P", "event", "E"), ("Q", "held", "A")}


def test_a_race_ends_with_both_before_it(tmp_path: Path) -> None:
    found = schedules(report("routine P() as ONE { read D; } routine Q() as ONE { write D; }", tmp_path))
    assert [turn.event for turn in found["R03 D"].turns[-2:]] == ["stands", "stands"]
    assert found["R03 D"].waits == ()


# ---- what nothing can come of ----


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            f"routine P() as ONE {{ Acquire(&G); {NEST.format('A', 'B')} Release(&G); }}"
            f"routine Q() as ONE {{ Acquire(&G); {NEST.format('B', 'A')} Release(&G); }}",
            "only one can hold `G`",
        ),
        (
            f"routine P() as ONE {{ if (*) {{ {NEST.format('A', 'B')} }} else {{ {NEST.format('B', 'A')} }} }}",
            "P runs once at a time",
        ),
    ],
    ids=["gate", "single"],
)
def test_a_cycle_is_excluded_with_a_reason(text: str, why: str, tmp_path: Path) -> None:
    excluded = [f for name, f in findings(text, tmp_path) if name.startswith("D01") and isinstance(f, Excluded)]
    assert len(excluded) >= 2
    assert all(why in finding.by for finding in excluded)


def test_routines_that_never_overlap_have_no_cycle_in_common(tmp_path: Path) -> None:
    found = findings(nest("P", "LOAD", "A", "B") + nest("Q", "ONE", "B", "A"), tmp_path)
    assert {"D01 P B", "D01 Q A"} <= {name for name, _ in found}
    assert all(isinstance(finding, Ranked | Excluded) for _, finding in found)


def test_one_order_is_proved_by_ranks(tmp_path: Path) -> None:
    found = findings(nest("P", "THREAD", "A", "B") + nest("Q", "THREAD", "B", "C"), tmp_path)
    assert {finding for name, finding in found if name.startswith("D01")} == {Ranked(True)}


def test_what_no_run_comes_to_is_said_to_be_unreached(tmp_path: Path) -> None:
    found = findings(f"routine P() as ONE {{ assume false; {NEST.format('A', 'B')} }}", tmp_path)
    assert ("D01 P B", Ranked(False)) in found


def test_after_a_call_that_no_model_knows_nothing_is_proved(tmp_path: Path) -> None:
    found = report("routine P() as ONE { Mystery(); Acquire(&A); Release(&A); }", tmp_path)
    together = [r for r in found.results if r.obligation.code in MUTUAL]
    assert together
    assert all(isinstance(r.verdict, Undecided) for r in together)


# ---- the strict order ----


GATED = (
    f"routine P() as ONE {{ Acquire(&G); {NEST.format('A', 'B')} Release(&G); }}"
    f"routine Q() as ONE {{ Acquire(&G); {NEST.format('B', 'A')} Release(&G); }}"
)


def test_the_strict_order_is_asked_for_only_when_wanted(tmp_path: Path) -> None:
    assert not any(name.startswith("D04") for name, _ in findings(GATED, tmp_path))
    assert not any(r.obligation.code is Property.D04 for r in report(GATED, tmp_path).results)
    only = verify(model(GATED, tmp_path), Options(only=frozenset({"D04"})))
    assert {r.obligation.code for r in only.results} == {Property.D04}


def test_the_strict_order_knows_no_gate(tmp_path: Path) -> None:
    """Both inner acquisitions break it, the gate's do not."""
    found = findings(GATED, tmp_path, strict=True)
    broken = {name for name, finding in found if isinstance(finding, Deadlocked)}
    assert broken == {"D04 P B", "D04 Q A"}
    assert not any(isinstance(finding, Open) for _, finding in found)
