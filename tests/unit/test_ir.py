"""The numbers that stand for how a lock is held, and cells."""

from __future__ import annotations

import itertools

from modelcheck.ir import FREE, MAX_COUNT, Cell, Sort, hold, unhold

HOLDS = list(itertools.product((False, True), range(1, MAX_COUNT + 1), range(5)))


def test_unhold_undoes_hold() -> None:
    """For every mode, count and tag."""
    assert [unhold(hold(*one)) for one in HOLDS] == HOLDS


def test_no_two_holds_share_a_number_and_none_is_free() -> None:
    """They are 1, 2, .. without a gap."""
    assert sorted(hold(*one) for one in HOLDS) == list(range(FREE + 1, len(HOLDS) + 1))


def test_one_hold_more_is_the_next_number() -> None:
    """What `encode` relies on: count up is + 1, shared instead of exclusive is + MAX_COUNT."""
    for _, count, tag in HOLDS:
        if count < MAX_COUNT:
            assert hold(False, count + 1, tag) == hold(False, count, tag) + 1
        assert hold(True, count, tag) == hold(False, count, tag) + MAX_COUNT


def test_cells_are_themselves() -> None:
    """Two with the same name in two environments are two; their signature is what an operation depends on."""
    first, second = (Cell("var x", Sort.SHARED, 0, 3, (1,)) for _ in range(2))
    assert first != second
    assert first.signature == second.signature
