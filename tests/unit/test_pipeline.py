"""From a file to a report: one verdict for each obligation, each with its evidence, and the same for the same file."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck import pipeline
from modelcheck.diagnostics import Rejected
from modelcheck.engines.analyse import Analysis, Broken
from modelcheck.evidence import certify
from modelcheck.pipeline import InternalError, Options, obligations, verify
from modelcheck.verdict import Proved, Report, Schedule, Trace, Undecided, Violated
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
