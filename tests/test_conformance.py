"""Cases with known answers come out as they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelcheck.resolve import resolve_text
from modelcheck.source import Span
from modelcheck.verdict import Obligation, Property, Proved, Report, Result, Trace, Undecided, Verdict, Violated
from tests.conformance.__main__ import main, run_case
from tests.conformance.notation import read_case
from tests.conformance.properties import Answer, Fails, Holds, NotKnown, answer
from tests.conformance.translate import Question, translate

FOLDER = Path(__file__).parent / "conformance"
FILES = ("cases.json", "extra.json", "several.json")
CASES = [case for name in FILES for case in json.loads((FOLDER / name).read_text("utf-8"))]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_every_property_comes_out_as_the_case_says(case: dict[str, Any]) -> None:
    wrong = [str(outcome) for outcome in run_case(case) if not outcome.passed]
    assert wrong == []


def test_a_wrong_expectation_is_reported_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leak = {
        "id": "leak",
        "locks": {"L": "spin"},
        "contexts": [{"name": "t", "kind": "thread", "text": "acquire(L)"}],
        "properties": [
            {"name": "no_lock_held_at_exit", "verdict": True, "needs": "a"},
            {"name": "no_recursive_acquire", "verdict": True, "needs": "a"},
            {"name": "no_deadlock", "verdict": True, "needs": "b"},
        ],
    }
    file = tmp_path / "cases.json"
    file.write_text(json.dumps([leak]), "utf-8")
    assert main([str(file), "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("leak: no_lock_held_at_exit: expected holds, got fails: B03")
    assert lines[-1] == "2 passed, 1 failed"


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"contexts": {"a": 1}},
        {"contexts": [{"ops": [{"foo": 1}]}]},
        {"contexts": [{"text": "acquire(L"}]},
        {"contexts": [{"text": "frobnicate(L)"}]},
        {"contexts": [{"irql": "SYNCH", "text": "nop"}]},
        {"contexts": [{"text": "inc(c)"}], "vars": {"c": "x"}},
        {"contexts": []},
    ],
)
@pytest.mark.parametrize("needs", ["a", "b", None])
def test_an_odd_case_is_not_known_and_stops_nothing(case: dict[str, Any], needs: str | None) -> None:
    claims = [{"name": "no_deadlock", "verdict": True}, {"name": "no_such_property", "verdict": True, "needs": needs}]
    outcomes = run_case({"id": "odd", "properties": claims} | case)
    assert [type(o.answer) for o in outcomes] == [NotKnown, NotKnown]


def test_what_is_no_case_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"cases": ["a word", 7, None, {"id": "no properties"}]}), "utf-8")
    assert main([str(file), "--jobs", "1"]) == 0
    assert capsys.readouterr().out == "0 passed, 0 failed\n"


def test_what_cannot_be_expressed_counts_as_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {
        "id": "odd",
        "locks": {"L": "semaphore"},
        "contexts": [{"name": "t", "kind": "thread", "text": "acquire(L)"}],
        "properties": [{"name": "no_lock_held_at_exit", "verdict": False, "needs": "a"}],
    }
    file = tmp_path / "cases.json"
    file.write_text(json.dumps([odd]), "utf-8")
    assert main([str(file), "--jobs", "1"]) == 1
    output = capsys.readouterr().out
    assert "cannot be expressed: the lock kind `semaphore` of `L`" in output
    assert output.splitlines()[-1] == "0 passed, 1 failed"


def test_what_rests_on_how_far_is_counted_is_not_known() -> None:
    even = {
        "id": "even",
        "vars": {"p": 0},
        "contexts": [{"name": "t", "text": "loop(*){inc(p);inc(p)};loop(*){dec(p);dec(p)};assert(p!=1)"}],
        "properties": [{"name": "assert_holds", "verdict": True, "needs": "a"}],
    }
    assert [type(o.answer) for o in run_case(even)] == [NotKnown]


def _answer(*verdicts: tuple[Property, Verdict]) -> Answer:
    """What `no_lock_held_at_exit` comes to when the only root has these verdicts at its exit."""
    case = read_case(
        {
            "id": "x",
            "locks": {"L": "spin"},
            "contexts": [{"name": "t", "text": "acquire(L);release(L)"}],
            "properties": [{"name": "no_lock_held_at_exit", "verdict": True, "needs": "a"}],
        }
    )
    model = translate(case, Question())
    span = Span(resolve_text(model.text).root, 0, 1)
    results = tuple(Result(Obligation(code, model.roots[0], span, "L", ""), verdict) for code, verdict in verdicts)
    return answer(case.claims[0], model, Report("case", "case.drvm", results))


def test_a_property_holds_only_on_proofs() -> None:
    assert _answer((Property.B03, Proved("q"))) == Holds()
    assert isinstance(_answer((Property.B03, Proved("q")), (Property.B03, Undecided("budget"))), NotKnown)


def test_a_property_without_an_obligation_is_not_known() -> None:
    assert isinstance(_answer(), NotKnown)
    assert isinstance(_answer((Property.B01, Proved("q"))), NotKnown)


def test_a_property_fails_only_on_a_trace_that_replays() -> None:
    trace = Trace("t", (), ())
    assert isinstance(_answer((Property.B03, Violated(trace, replayed=True))), Fails)
    assert isinstance(_answer((Property.B03, Violated(trace, replayed=False))), NotKnown)
