"""The lock hierarchy as SAL annotations."""

from __future__ import annotations

from modelcheck.report.sal import level, sal
from modelcheck.verdict import Hierarchy

RANKS = (("A", 0), ("Port.Lock", 1), ("C", 2), ("Alone", 0), ("Done", 1))
ORDER = (("A", "Port.Lock", ()), ("Port.Lock", "C", ()), ("A", "C", ()), ("A", "Done", ()))


def test_levels_are_created_ordered_and_given() -> None:
    text = sal(Hierarchy(RANKS, ORDER, events=("Done",))).splitlines()
    assert "_Create_lock_level_(Port_Lock_Level);" in text
    assert "_Lock_level_order_(A_Level, Port_Lock_Level);" in text
    assert "// Port.Lock: _Has_lock_level_(Port_Lock_Level)" in text


def test_what_follows_from_two_others_is_not_said() -> None:
    assert "_Lock_level_order_(A_Level, C_Level);" not in sal(Hierarchy(RANKS, ORDER))


def test_locks_without_an_order_and_events_have_no_level() -> None:
    text = sal(Hierarchy(RANKS, ORDER, events=("Done",)))
    assert "Alone" not in text
    assert "Done" not in text


def test_a_level_is_an_identifier() -> None:
    assert level("Bucket[3]") == "Bucket_3_Level"
