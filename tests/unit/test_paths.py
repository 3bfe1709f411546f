"""Ways to alarms: connected, and as short as can be."""

from __future__ import annotations

from modelcheck.engines.paths import Move, Paths
from tests.unit.test_fixpoint import analysed


def way(body: str, code: str, *tracked: str) -> list[Move]:
    """The moves to the obligation of that code."""
    lowered, fixpoint = analysed(body, *tracked)
    (number,) = (n for n in fixpoint.alarms if lowered.obligations[n].code.value == code)
    moves, alarm = Paths(fixpoint).shortest(fixpoint.alarms[number])
    assert moves[-1].plan is alarm.plan
    return moves


def connected(moves: list[Move]) -> bool:
    """Each move begins where the one before it in the same frame ended, and each frame at the entry of its graph."""
    at: dict[int, int] = {}
    for move in moves:
        edge = move.plan.edge
        if move.kind == "leave":
            if at[move.frame] != (edge.callee.exit if edge.callee else -1):
                return False
            at[move.other] = edge.target
            continue
        if at.setdefault(move.frame, move.plan.layout.graph.entry) != edge.source:
            return False
        if move.kind == "enter":
            assert edge.callee is not None
            at[move.other] = edge.callee.entry
        else:
            at[move.frame] = edge.target
    return True


LONG_AND_SHORT = """routine R() as DPC {
    if (*) { Take(&A); Give(&A); Take(&A); Give(&A); } else { if (*) { Take(&A); } }
    Give(&A);
}"""


def test_the_shorter_of_two_ways_is_taken() -> None:
    """The way round both acquires, not the one through four calls."""
    moves = way(LONG_AND_SHORT, "B02")
    assert connected(moves)
    lines = [move.plan.edge.span.text for move in moves if move.kind == "step"]
    assert not any("Take" in line for line in lines)


def test_a_way_through_a_call_enters_and_leaves_it() -> None:
    """The callee's moves stand between."""
    moves = way("routine In() { Take(&A); } routine R() as DPC { In(); Take(&A); }", "B01")
    assert connected(moves)
    kinds = [move.kind for move in moves]
    assert kinds.count("enter") == kinds.count("leave") + 1  # the root's own routine is never left


def test_a_way_into_a_callee_stays_there() -> None:
    """An alarm inside: every call on the way to it is open at its end."""
    moves = way("routine In() { Give(&A); } routine R() as DPC { In(); }", "B02")
    assert connected(moves)
    assert "leave" not in [move.kind for move in moves]


def test_a_way_through_recursion_is_as_deep_as_needed() -> None:
    """The second entry already acquires twice."""
    moves = way("routine In() { Take(&A); if (*) { In(); } } routine R() as DPC { In(); Give(&A); }", "B01")
    assert connected(moves)
    assert [move.kind for move in moves].count("enter") == 3


def test_a_way_through_a_loop_goes_round_as_often_as_needed() -> None:
    """Three rounds to the assertion that fails for three."""
    body = "routine R() as DPC { int 0..3 n = 0; while (*) { assert n < 3; n++; } }"
    moves = way(body, "C01", "n")
    assert connected(moves)
    assert sum(move.plan.edge.span.text.startswith("n++") for move in moves) == 3
