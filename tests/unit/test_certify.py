"""Certificates are asked about in batches: one that does not hold is found wherever it stands among those that do."""

from __future__ import annotations

import pytest

from modelcheck.evidence import certify
from modelcheck.evidence.conditions import Impossible, InclusionQuery, Pool

HOLDS = 2 * certify.BATCH + 2


def pool_with(wrong: int | None) -> Pool:
    """Inclusions that hold, each for an invariant of its own, but for the one with this number."""
    pool = Pool(full=True)
    for number in range(HOLDS):
        values = frozenset({0, 1, 2, 3} if number == wrong else {0, 1, 2})
        pool.add(InclusionQuery(values, frozenset({0, 1, 2})), number)
    return pool


@pytest.mark.parametrize("characters", [certify.BATCH_TEXT, 1_000, 1], ids=["many", "some", "one by one"])
@pytest.mark.parametrize(
    "wrong", [None, 0, 1, certify.BATCH - 1, certify.BATCH, certify.BATCH + 1, HOLDS - 2, HOLDS - 1]
)
def test_one_wrong_among_many_is_found(wrong: int | None, characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "BATCH_TEXT", characters)
    checked = certify.certify(pool_with(wrong), 60_000)
    assert set(checked.rejected) == ({wrong} if wrong is not None else set())
    assert not checked.unanswered
    assert checked.asked == HOLDS


@pytest.mark.parametrize("before", [0, 1, certify.BATCH - 1, certify.BATCH])
def test_what_cannot_hold_is_found(before: int) -> None:
    pool = Pool(full=True)
    for number in range(before):
        pool.add(InclusionQuery(frozenset({0}), frozenset({0})), number)
    pool.add(Impossible("no values remain"), before)
    assert set(certify.certify(pool, 60_000).rejected) == {before}
