"""Verification conditions and their answers: a table that is no invariant is rejected, whatever is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import z3

from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.evidence import certify
from modelcheck.evidence.conditions import Impossible, InclusionQuery, Pool, conditions, text
from modelcheck.invariant import Invariant
from modelcheck.lower import Lowered, lower
from modelcheck.resolve import resolve_text
from tests.unit.test_layout import MODEL

BODY = """
routine In() { Take(&A); }
routine R() as DPC { In(); if (*) { Give(&A); Take(&A); } Give(&A); }
"""


def proposed() -> tuple[Lowered, Invariant]:
    """An invariant that proves every obligation of a small driver."""
    lowered = lower(resolve_text(MODEL + BODY))
    analysis = Analysis(lowered, Limits())
    analysis.run()
    (found,) = (i for i in analysis.invariants if isinstance(i, Invariant) and i.obligations)
    return lowered, found


def accepted(lowered: Lowered, found: Invariant) -> bool:
    pool = Pool()
    conditions(found, 0, lowered.roots, pool)
    return not certify.certify(pool, 10_000).rejected


def test_a_right_table_is_accepted() -> None:
    """The engine's own."""
    assert accepted(*proposed())


def _tables(found: Invariant) -> list[tuple[dict[int, int], int]]:
    return [(states, key) for table in found.tables for states in table.states for key in states]


def test_no_state_can_be_left_out() -> None:
    """Each state of each table in turn."""
    lowered, found = proposed()
    for states, key in _tables(found):
        sets = states.pop(key)
        assert not accepted(lowered, found)
        states[key] = sets


def test_no_value_of_a_lock_can_be_left_out() -> None:
    """Each value of each set in turn: also the last one, which leaves an empty set."""
    lowered, found = proposed()
    for states, key in _tables(found):
        sets = states[key]
        for bit in range(sets.bit_length()):
            if sets >> bit & 1:
                states[key] = sets & ~(1 << bit)
                assert not accepted(lowered, found), (key, bit)
        states[key] = sets


def test_a_table_with_more_states_proves_less() -> None:
    """Where every lock may be held in every way, no obligation about it is proved."""
    lowered, found = proposed()
    for table in found.tables:
        layout = found.layouts[table.graph]
        for states in table.states:
            for key in states:
                for cell in layout.sets:
                    states[key] |= layout.set_mask(cell)
    assert not accepted(lowered, found)
    assert accepted(lowered, dataclasses.replace(found, obligations=frozenset()))


def test_a_call_needs_a_table() -> None:
    """One that has none is rejected."""
    lowered, found = proposed()
    for table in found.tables:
        table.calls.clear()
    assert not accepted(lowered, found)


def test_a_root_cannot_be_left_out() -> None:
    """One from which the obligations can be met."""
    lowered, found = proposed()
    assert not accepted(lowered, dataclasses.replace(found, roots=[], tables=[], starts={}))


def answer(*queries: object) -> z3.CheckSatResult:
    texts = [text(query, f"q{number}_") for number, query in enumerate(queries)]  # type: ignore[arg-type]
    return certify._ask(texts, 10_000)


def test_inclusion_is_inclusion() -> None:
    """Of every value given among those expected."""
    assert answer(InclusionQuery((1, 2), (0, 1, 2))) == z3.unsat
    assert answer(InclusionQuery((1, 3), (0, 1, 2))) == z3.sat
    assert answer(InclusionQuery((), ())) == z3.unsat
    assert answer(InclusionQuery((0,), ())) == z3.sat


def test_one_wrong_query_shows_among_many_right_ones() -> None:
    """A batch is unsat only if each of its queries is."""
    right = [InclusionQuery((n,), (n, n + 1)) for n in range(5)]
    assert answer(*right) == z3.unsat
    assert answer(*right, InclusionQuery((7,), (8,))) == z3.sat
    assert answer(*right, Impossible("something is missing")) == z3.sat


@pytest.mark.parametrize(("said", "field"), [(z3.sat, "rejected"), (z3.unknown, "unanswered")])
def test_only_unsat_is_a_proof(said: z3.CheckSatResult, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sat` rejects; `unknown` is no answer, and not taken for one."""
    reply: Callable[..., z3.CheckSatResult] = lambda *_: said  # noqa: E731 - the solver in small
    monkeypatch.setattr(certify, "_ask", reply)
    pool = Pool()
    pool.add(InclusionQuery((1,), (1,)), 4)
    assert list(getattr(certify.certify(pool, 1), field)) == [4]


def test_the_same_query_is_asked_once_for_all_that_rest_on_it() -> None:
    """And rejects all of them."""
    pool = Pool()
    for invariant in (0, 2):
        pool.add(InclusionQuery((1,), (2,)), invariant)
    checked = certify.certify(pool, 10_000)
    assert (checked.asked, sorted(checked.rejected)) == (1, [0, 2])


SAVED = """
var n : int 0..3 = 0 guarded by A;
routine Other() as DPC { Take(&A); n = 3; n = *; Give(&A); }
routine In() { if (n < 3) { n = n + 1; } }
routine Count() { In(); In(); }
routine R() as DPC {
    KIRQL o; bool first = false;
    Up(HIGH_LEVEL, &o); Take(&A); Count(); if (first) { n = 0; } assert n > 0; Give(&A); Down(o);
}
"""


def test_what_is_followed_cannot_be_forgotten_at_one_place() -> None:
    """The tables as they are, but a value said not to matter at one location where it does: behind it nobody may take
    it for known, neither in an operation nor across a call."""
    lowered = lower(resolve_text(MODEL + SAVED))
    analysis = Analysis(lowered, Limits())
    analysis.run()
    ends = {root.graph for root in lowered.roots}
    found = max((i for i in analysis.invariants if i.obligations), key=lambda i: len(i.tracked))
    assert {cell.name.split()[-1] for cell in found.tracked} == {"n", "first"}
    assert accepted(lowered, found)
    forgotten = 0
    for table in found.tables:
        layout, graph = table.layout, table.graph
        for location, states in enumerate(table.states):
            live = layout.live[location]
            for cell in (c for c in layout.keys if states and layout.key_mask(c) & live):
                if graph in ends and location == graph.exit:
                    continue
                layout.live[location] = live & ~layout.key_mask(cell)
                assert not accepted(lowered, found), f"{cell.name} at {location} of {graph.name}"
                layout.live[location] = live
                forgotten += 1
    assert forgotten
