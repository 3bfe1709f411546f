"""From a file to a report: one verdict for each obligation, each with its evidence, and the same for the same file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelcheck import pipeline
from modelcheck.diagnostics import Rejected
from modelcheck.engines.analyse import Analysis, Broken, Limits, Open
from modelcheck.engines.deadlock import Deadlock, Ranked
from modelcheck.evidence import certify
from modelcheck.evidence.conditions import Pool
from modelcheck.lower import lower
from modelcheck.pipeline import InternalError, Options, load, obligations, verify
from modelcheck.report.words import advice, choice_words
from modelcheck.verdict import MUTUAL, Property, Proved, Report, Schedule, Trace, Undecided, Violated
from tests.unit.test_layout import MODEL

GOOD = "routine R() as DPC { Take(&A); Give(&A); }"
BAD = "routine R() as DPC { Take(&A); Take(&A); Give(&A); }"
FLAG = "routine R() as DPC { bool t = *; if (t) { Take(&A); } if (t) { Give(&A); } }"


def written(folder: Path, body: str) -> Path:
    path = folder / "d.drvm"
    path.write_text(MODEL + body + "\n", encoding="utf-8")
    return path


def kinds(report: Report) -> dict[str, type]:
    return {result.obligation.code.value: type(result.verdict) for result in report.results}


def test_every_obligation_has_one_verdict_in_source_order(tmp_path: Path) -> None:
    """The report has a line for each that `obligations` lists."""
    path = written(tmp_path, BAD)
    assert [result.obligation.id for result in verify(path).results] == [found.id for found in obligations(path)]


def test_a_proof_names_its_certificate_and_a_violation_its_trace(tmp_path: Path) -> None:
    """Nothing is green by default."""
    for result in verify(written(tmp_path, BAD)).results:
        match result.verdict:
            case Proved(certificate):
                assert certificate
            case Violated(Trace(steps=steps), replayed):
                assert replayed
                assert steps
            case Violated(Schedule(turns=turns), replayed):
                assert replayed
                assert turns
            case Undecided():
                pytest.fail(result.obligation.id)


def test_the_same_file_gives_the_same_report(tmp_path: Path) -> None:
    """Twice, traces and all."""
    path = written(tmp_path, BAD + FLAG.replace("R()", "Q()"))
    assert repr(verify(path).results) == repr(verify(path).results)


def test_what_is_not_reached_is_proved_and_said_to_be(tmp_path: Path) -> None:
    """No path comes there."""
    report = verify(written(tmp_path, "routine R() as DPC { return; Take(&A); Give(&A); }"))
    unreachable = {r.obligation.code.value for r in report.results if r.verdict == Proved("invariant 0", True)}
    assert {"B01", "B02", "B04"} <= unreachable


def test_only_the_properties_asked_for_are_reported(tmp_path: Path) -> None:
    """The others are left out, not proved."""
    assert set(kinds(verify(written(tmp_path, BAD), Options(only=frozenset({"B01"}))))) == {"B01"}


LEFT = """driver left;
import wdm;
lock A : KSPIN_LOCK;
routine AddDevice() as DRIVER_ADD_DEVICE { KeInitializeSpinLock(&A); }
routine Read(Irp) as DRIVER_DISPATCH { KIRQL old; KeAcquireSpinLock(&A, &old); KeReleaseSpinLock(&A, old); }
"""
SETTER = """driver only;
import wdm;
lock A : FAST_MUTEX initialised;
event E;
routine W(Irp) as DRIVER_DISPATCH(IRP_MJ_CREATE) {
    KeWaitForSingleObject(&E, Executive, KernelMode, FALSE, NULL);
}
routine S(Irp) as DRIVER_DISPATCH(IRP_MJ_CREATE) {
    ExAcquireFastMutex(&A); ExReleaseFastMutex(&A); KeSetEvent(&E, 0, FALSE);
}
"""


def test_who_sets_an_event_is_asked_about_though_only_the_event_is(tmp_path: Path) -> None:
    """That the event is set rests on the lock that the one who sets it waits for."""
    path = tmp_path / "only.drvm"
    path.write_text(SETTER, encoding="utf-8")
    (result,) = verify(path, Options(only=frozenset({"D03"}))).results
    (same,) = (r for r in verify(path).results if r.obligation.code is Property.D03)
    assert result.verdict == same.verdict == Proved("order")


def test_an_unknown_about_one_obligation_is_no_proof_of_another_that_rests_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the event that is set after a lock, nor of the hierarchy."""
    path = tmp_path / "only.drvm"
    path.write_text(SETTER, encoding="utf-8")
    codes = [o.code for o in lower(load(path)[0]).obligations]
    right = certify.certify

    def silent(pool: Pool, milliseconds: int) -> certify.Checked:
        checked = right(pool, milliseconds)
        assert not checked.unanswered
        several = all(max(numbers) < 0 or codes[max(numbers)] in MUTUAL for numbers in pool.invariants)
        waits = {n: "" for n, code in enumerate(codes) if code is Property.D01} if several and pool.queries else {}
        return replace(checked, unanswered=waits)

    assert verify(path).hierarchy is not None
    monkeypatch.setattr(certify, "certify", silent)
    report = verify(path)
    assert {r.obligation.code for r in report.undecided} == {Property.D01, Property.D03}
    assert report.hierarchy is None


def test_an_unknown_about_how_locks_are_left_is_no_proof_of_anything(tmp_path: Path) -> None:
    """All phases after it start from that."""
    path = tmp_path / "left.drvm"
    path.write_text(LEFT, encoding="utf-8")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    left = {n for root in lowered.roots for n in root.outcomes.values()}
    (proves, *_) = (i for i, made in enumerate(analysis.invariants) if made.obligations & left)
    checked = pipeline._doubted(certify.Checked({}, {proves: "q"}, 1), lowered, analysis)
    assert checked.unanswered.keys() >= set(range(len(analysis.invariants)))
    with pytest.raises(InternalError, match="how locks are left"):
        pipeline._doubted(certify.Checked({proves: "q"}, {}, 1), lowered, analysis)


def test_nothing_about_several_contexts_is_proved_beside_a_call_that_no_model_knows(tmp_path: Path) -> None:
    """Not even where no path comes there: the call may do anything."""
    path = written(tmp_path, "routine R() as DPC { WhoKnows(); return; Take(&A); Give(&A); }")
    several = [r for r in verify(path).results if r.obligation.code in MUTUAL]
    assert several
    for result in several:
        assert isinstance(result.verdict, Undecided)
        assert "no model knows" in result.verdict.reason


def test_what_rests_on_an_unconfirmed_proof_is_not_proved(tmp_path: Path) -> None:
    """That nobody waits for himself is proved by B01 alone, and that nobody ends with the lock by B03 alone."""
    path = written(tmp_path, "routine R() as DPC { if (*) { Take(&A); Give(&A); } }")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    (waiting,) = (n for n, o in enumerate(lowered.obligations) if o.code is Property.D01)

    def found(proved: frozenset[int]) -> object:
        engine = Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), proved)
        engine.run(strict=False)
        return engine.findings[waiting]

    assert isinstance(found(analysis.held), Ranked)
    unconfirmed = frozenset(n for n in analysis.held if lowered.obligations[n].code is not Property.B01)
    assert isinstance(found(unconfirmed), Open)


def test_a_wrong_model_is_rejected_before_anything_is_asked(tmp_path: Path) -> None:
    """With what is wrong about it."""
    with pytest.raises(Rejected) as rejected:
        verify(written(tmp_path, "routine R() as DPC { Take(&Nothing); }"))
    assert rejected.value.diagnostics


def test_what_could_not_be_told_says_why(tmp_path: Path) -> None:
    """What comes after a call that no model knows is neither proved nor violated."""
    report = verify(written(tmp_path, "routine R() as DPC { Nobody(); Take(&A); Give(&A); }"))
    assert report.unmodelled == ("Nobody",)
    assert {"B01", "B02", "B03", "B04"} <= {result.obligation.code.value for result in report.undecided}
    assert all(result.verdict.reason for result in report.undecided if isinstance(result.verdict, Undecided))
    assert not report.violated


def test_an_unknown_of_the_solver_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not answer is unknown."""
    import z3

    monkeypatch.setattr(certify, "_ask", lambda *_: z3.unknown)
    report = verify(written(tmp_path, GOOD))
    assert Proved not in kinds(report).values()
    assert not report.violated


def test_a_rejected_certificate_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loudly."""
    import z3

    monkeypatch.setattr(certify, "_ask", lambda *_: z3.sat)
    with pytest.raises(InternalError, match="rejects"):
        verify(written(tmp_path, GOOD))


def test_a_counterexample_that_does_not_replay_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace of one obligation says nothing about another."""
    right = Analysis.run

    def mixed(analysis: Analysis) -> None:
        right(analysis)
        (trace,) = (d for d in analysis.decisions.values() if isinstance(d, Broken))
        for number in analysis.decisions:
            if analysis.lowered.obligations[number].code == "B03":
                analysis.decisions[number] = trace

    monkeypatch.setattr(Analysis, "run", mixed)
    with pytest.raises(InternalError, match="replay"):
        verify(written(tmp_path, BAD))


def test_refinement_ends_with_a_proof(tmp_path: Path) -> None:
    """A correlated flag is followed, and nothing else is needed."""
    assert set(kinds(verify(written(tmp_path, FLAG))).values()) == {Proved}


def test_nothing_hangs_on_how_much_is_asked_at_once(tmp_path: Path) -> None:
    """`full` asks every query by itself; the verdicts stay."""
    path = written(tmp_path, BAD + FLAG.replace("R()", "Q()"))
    assert kinds(verify(path, Options(full=True))) == kinds(verify(path))


def test_the_model_is_parsed_without_a_solver() -> None:
    """What needs no Z3 does not import it."""
    assert "z3" not in vars(pipeline)


def test_values_of_local_variables_are_told_as_the_model_writes_them(tmp_path: Path) -> None:
    text = (
        "routine R() as DPC { bool b; enum { red, green } c; bool d = *; int 0..3 i; "
        "assert !(b == true && c == green && d == false && i == 3); }"
    )
    (violated,) = verify(written(tmp_path, text)).violated
    assert isinstance(violated.verdict, Violated)
    assert isinstance(violated.verdict.trace, Trace)
    told = [choice_words(choice) for step in violated.verdict.trace.steps for choice in step.choices]
    assert told == ["b happens to be true", "c happens to be green", "`*` is false", "i happens to be 3"]


def test_the_reason_names_the_callee_that_no_model_knows(tmp_path: Path) -> None:
    """Only those that a root comes to, in the open world and in a scenario."""
    text = (
        "routine R() as DPC { Nobody(); Take(&A); Give(&A); } "
        "routine S() as DPC { Helper(); Take(&A); Give(&A); } routine Helper() { Other(); } "
        "scenario one { run R(); }"
    )
    for result in verify(written(tmp_path, text)).undecided:
        assert isinstance(result.verdict, Undecided)
        assert "`Nobody`" in result.verdict.reason or result.obligation.routine == "S"
        assert "`Other`" in result.verdict.reason or result.obligation.routine == "R"
        assert "extern" in advice(result.verdict, ("Nobody", "Other"))


def test_states_are_not_told_apart_by_what_has_too_many_values(tmp_path: Path) -> None:
    """Two that wait for each other, each for values of its own of what is decided when the driver is loaded."""
    model = """driver d; import wdm;
        lock A : KMUTEX initialised; lock B : KMUTEX initialised; var size : int 0..2000000000;
        routine L(d, p) : NTSTATUS as DRIVER_INITIALIZE { size = *; return STATUS_SUCCESS; }
        routine Take(lock M : KMUTEX) { KeWaitForSingleObject(&M, Executive, KernelMode, FALSE, NULL); }
        routine Give(lock M : KMUTEX) { KeReleaseMutex(&M, FALSE); }
        routine R(Irp) as DRIVER_DISPATCH(IRP_MJ_CREATE) {
            if (size == 5) { Take(&A); Take(&B); Give(&B); Give(&A); } }
        routine S(Irp) as DRIVER_DISPATCH(IRP_MJ_CLOSE) {
            if (size < 7) { Take(&B); Take(&A); Give(&A); Give(&B); } }"""
    path = tmp_path / "d.drvm"
    path.write_text(model, encoding="utf-8")
    waits = [result.verdict for result in verify(path).results if result.obligation.code is Property.D01]
    assert len(waits) == 2
    assert not any(isinstance(verdict, Proved) for verdict in waits)
