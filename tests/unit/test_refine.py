"""Path formulas: a real way gives a trace that replays, an impossible one the variables that show it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import z3

from modelcheck.engines.paths import Paths
from modelcheck.engines.refine import Feasible, Infeasible, NoAnswer, decide
from modelcheck.verdict import Violated
from tests.test_examples import report_of
from tests.unit.test_fixpoint import analysed
from tests.unit.test_layout import MODEL


def answer(body: str, code: str, *tracked: str) -> Feasible | Infeasible | NoAnswer:
    """Whether the shortest way to the only alarm of that code can be taken."""
    lowered, fixpoint = analysed(body, *tracked)
    (number,) = (n for n in fixpoint.alarms if lowered.obligations[n].code.value == code)
    moves, _ = Paths(fixpoint).shortest(fixpoint.alarms[number])
    return decide(lowered, fixpoint.roots[0], {}, moves, number, fixpoint.tracked, 10_000)


def named(cells: object) -> set[str]:
    assert isinstance(cells, frozenset)
    return {cell.name.split()[-1].split(".")[-1] for cell in cells}


def test_an_impossible_way_names_the_variable_that_was_forgotten() -> None:
    """The flag, and not the other one."""
    body = """routine R() as DPC {
        bool t = false; bool u = *;
        if (*) { Take(&A); t = true; }
        if (u) { u = false; }
        if (t) { Give(&A); }
    }"""
    found = answer(body, "B02")
    assert isinstance(found, Infeasible)
    assert named(found.cells) == {"t"}


def test_two_numbers_that_decide_together_are_both_named() -> None:
    """Neither alone shows that the way is impossible."""
    body = """routine R() as DPC {
        int 0..3 a = *; int 0..3 b;
        b = a;
        if (a == 2) { Take(&A); }
        if (b == 2) { Give(&A); }
    }"""
    found = answer(body, "B02")
    assert isinstance(found, Infeasible)
    assert named(found.cells) == {"a", "b"}


def test_a_possible_way_gives_the_choices_it_makes() -> None:
    """In the order they are made, with values that lead there."""
    found = answer("routine R() as DPC { int 0..9 n = *; if (n == 7) { Give(&A); } }", "B02")
    assert isinstance(found, Feasible)
    choices = [choice for step in found.trace.steps for choice in step.choices]
    assert [(choice.name, choice.value) for choice in choices] == [("*", 7)]


@pytest.mark.parametrize("silent", [1, 2, 3])
def test_no_answer_is_neither_a_run_nor_a_proof(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever question Z3 leaves open: whether there is a run, or what it is; from there on it says nothing."""
    right, asked = z3.Solver.check, itertools.count(1)

    def check(self: z3.Solver, *assumptions: z3.BoolRef) -> z3.CheckSatResult:
        return z3.unknown if next(asked) >= silent else right(self, *assumptions)

    monkeypatch.setattr(z3.Solver, "check", check)
    found = answer("routine R() as DPC { int 0..9 n = *; if (n == 7) { Give(&A); } }", "B02")
    assert isinstance(found, NoAnswer if silent < 3 else Feasible)


def test_a_trace_names_the_branches_it_takes() -> None:
    """And ends where the obligation fails."""
    found = answer("routine R() as DPC { if (*) { Take(&A); } Give(&A); }", "B02")
    assert isinstance(found, Feasible)
    assert [step.taken for step in found.trace.steps][-2:] == [False, None]
    assert found.trace.steps[-1].span.text.startswith("Give")


def test_a_level_at_the_start_is_part_of_the_trace() -> None:
    """The one that leads to the failure, of all the role allows."""
    body = "role ANY { irql 0 .. 2; thread; any number; } routine R() as ANY { assert irql != APC_LEVEL; }"
    found = answer(body, "C01")
    assert isinstance(found, Feasible)
    assert {choice.name: choice.value for choice in found.trace.start}["irql"] == 1


TRACED = {
    "a_loop": "routine R() as DPC { int 0..5 n = 0; while (*) { assert n < 4; if (n < 5) { n++; } } }",
    "a_call": "routine In(int 0..3 n) : bool { return n > 1; } routine R() as DPC { bool b; b = In(2); assert !b; }",
    "recursion": "routine In(int 0..2 n) { if (n > 0) { In(n - 1); } assert n > 0; } routine R() as DPC { In(2); }",
    "a_jump": "routine R() as DPC { Take(&A); try { goto Out; } finally { assert !held(A); } Out: Give(&A); }",
    "others": "var x : int 0..3 = 0; routine R() as DPC { x = 1; assert x == 1; } routine Q() as DPC { x = 3; }",
    "a_switch": "routine R() as DPC { int 0..3 n = *; switch (n) { case 1: n = 2; case 3: assert n == 3; default: } }",
}


@pytest.mark.parametrize("name", TRACED)
def test_every_trace_replays(name: str, tmp_path: Path) -> None:
    """Through loops, calls, recursion, jumps and what others write."""
    path = tmp_path / f"{name}.drvm"
    path.write_text(f"{MODEL}{TRACED[name]}\n", encoding="utf-8")
    (result,) = report_of(path).violated
    assert result.obligation.code.value == "C01"
    assert isinstance(result.verdict, Violated)
    assert result.verdict.replayed


def test_a_trace_is_as_short_as_the_way_there(tmp_path: Path) -> None:
    """Four rounds of the loop and no step more."""
    path = tmp_path / "loop.drvm"
    path.write_text(f"{MODEL}{TRACED['a_loop']}\n", encoding="utf-8")
    (result,) = report_of(path).violated
    assert isinstance(result.verdict, Violated)
    texts = [step.span.text for step in result.verdict.trace.steps]
    assert sum(text.startswith("n++") for text in texts) == 4
    assert texts[-2:] == ["*", "assert n < 4"]
    assert len([text for text in texts if text != "R"]) == 1 + 4 * 4 + 2
