"""The fixpoint against the interpreter: every state a run can be in is in the tables; and its own promises."""

from __future__ import annotations

import pytest

from modelcheck.engines.fixpoint import Fixpoint, GaveUp, passed_along, reverse_postorder
from modelcheck.ir import Cell, Sort
from modelcheck.lower import Lowered, every_graph, lower
from modelcheck.resolve import resolve_text
from tests.unit.test_layout import MODEL


def analysed(body: str, *tracked: str, budget: int = 100_000) -> tuple[Lowered, Fixpoint]:
    """A finished fixpoint over all roots with these locals followed."""
    lowered = lower(resolve_text(MODEL + body))
    fixpoint = Fixpoint(lowered.roots, frozenset(locals_of(lowered, *tracked)), budget)
    for root in lowered.roots:
        fixpoint.run(root, {})
    return lowered, fixpoint


def locals_of(lowered: Lowered, *names: str) -> list[Cell]:
    graphs = every_graph([root.graph for root in lowered.roots])
    return [c for graph in graphs for c in graph.locals if c.name.split()[-1].split(".")[-1] in names]


def codes(lowered: Lowered, numbers: object) -> set[str]:
    assert isinstance(numbers, dict | set)
    return {lowered.obligations[number].code.value for number in numbers}


FLAG = "routine R() as DPC { bool t = *; if (t) { Take(&A); } if (t) { Give(&A); } }"


def test_a_join_keeps_what_either_path_holds() -> None:
    """Without the flag the lock may be held or not: both B02 and B03 may fail."""
    lowered, fixpoint = analysed(FLAG)
    assert codes(lowered, fixpoint.alarms) == {"B02", "B03"}


def test_following_a_flag_keeps_its_paths_apart() -> None:
    """With it nothing alarms."""
    _, fixpoint = analysed(FLAG, "t")
    assert fixpoint.tracked
    assert not fixpoint.alarms


def test_recursion_comes_to_an_end() -> None:
    """A routine that calls itself is analysed once for each state it is entered in."""
    lowered, fixpoint = analysed("routine In() { Take(&A); if (*) { In(); } } routine R() as DPC { In(); Give(&A); }")
    assert codes(lowered, fixpoint.alarms) == {"B01"}


def test_a_callee_is_analysed_once_for_each_state_it_is_entered_in() -> None:
    """Two calls in one state share an activation; another state has its own."""
    _, fixpoint = analysed("routine In() { } routine R() as DPC { In(); In(); Take(&A); In(); Give(&A); }")
    entered = [a for a in fixpoint.activations.values() if a.graph.name.startswith("In")]
    assert len(entered) == 1  # In does not touch A: its state is not part of how In is entered


def test_what_the_callee_does_comes_back() -> None:
    """Each exit state of the callee is a state of the caller."""
    lowered, fixpoint = analysed("routine In() { if (*) { Take(&A); } } routine R() as DPC { In(); Give(&A); }")
    assert codes(lowered, fixpoint.alarms) == {"B02"}


def test_the_end_is_reached_with_every_value_a_loop_can_leave() -> None:
    """A counter that is followed takes each value; the exit has all of them."""
    body = "routine R() as DPC { int 0..3 n = 0; while (*) { if (n < 3) { n++; } } assert n < 9; }"
    _, fixpoint = analysed(body, "n")
    values = {
        activation.layout.key_value(key, cell)
        for activation in fixpoint.activations.values()
        for cell in activation.layout.keys
        if cell.sort is Sort.LOCAL
        for table in activation.table
        for key in table
    }
    assert values == {0, 1, 2, 3}


def test_a_budget_that_is_used_up_is_said() -> None:
    """And is no answer."""
    with pytest.raises(GaveUp, match="budget"):
        analysed(FLAG, budget=3)


def test_what_is_given_for_a_followed_parameter_is_followed() -> None:
    """And what a result comes from, for every call."""
    body = "routine In(bool p) : bool { return p; } routine R() as DPC { bool a = *; bool b; b = In(a); assert b; }"
    lowered = lower(resolve_text(MODEL + body))
    roots = [root.graph for root in lowered.roots]
    calls = [edge for graph in every_graph(roots) for edge in graph.edges if edge.copies_in and edge.copies_out]
    assert calls
    for edge in calls:
        for actual, formal in edge.copies_in:
            assert actual in passed_along(roots, frozenset({formal}))
        for formal, actual in edge.copies_out:
            assert formal in passed_along(roots, frozenset({actual}))
    assert passed_along(roots, frozenset()) == frozenset()


def test_locations_are_visited_before_what_follows_them() -> None:
    """In reverse postorder, but for the edges that close a loop."""
    lowered, _ = analysed("routine R() as DPC { Take(&A); if (*) { Give(&A); } else { Give(&A); } }")
    for graph in every_graph([root.graph for root in lowered.roots]):
        ranks = reverse_postorder(graph)
        assert ranks[graph.entry] == 0
        assert all(ranks[edge.source] < ranks[edge.target] for edge in graph.edges if ranks[edge.source] < graph.size)
