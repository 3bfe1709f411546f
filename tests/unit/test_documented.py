"""What is documented about routines that no model describes: bounds, flags, and that it is found quickly."""

from __future__ import annotations

import time
from importlib.resources import files

import pytest

from modelcheck import documented
from modelcheck.documented import Documented, lookup

DIRQL, HIGH_LEVEL = 5, 31


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ZwClose", 0, 0),
        ("KeDelayExecutionThread", 0, 1),
        ("IoAllocateIrp", 0, 2),
        ("KeInsertDeviceQueue", 2, 2),
        ("KeQueryTickCount", 0, HIGH_LEVEL),
        ("DbgPrint", 0, DIRQL),
        ("IoRequestDpc", DIRQL, DIRQL),
    ],
)
def test_gives_the_levels_of_the_reference_page(name: str, low: int, high: int) -> None:
    """A level by name is that number, `any level` is 0 to 31."""
    found = lookup(name)
    assert found is not None
    assert (found.name, found.irql_min, found.irql_max) == (name, low, high)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("ExAcquireSpinLockShared", 0, 2), ("KzLowerIrql", 0, HIGH_LEVEL), ("KeReleaseSpinLockForDpc", 2, 2)],
)
def test_a_wrong_page_head_is_overridden(name: str, low: int, high: int) -> None:
    """Where remarks or header contradict the head of a page, they count."""
    found = lookup(name)
    assert found is not None
    assert (found.irql_min, found.irql_max) == (low, high)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("InterlockedIncrementAcquire64", 0, HIGH_LEVEL),
        ("RtlULongMult", 0, HIGH_LEVEL),
        ("CcFlushCache", 0, 1),
        ("DbgBreakPoint", 0, DIRQL),
        ("FwpsFreeCloneNetBufferList", 0, 2),
        ("FwpsCalloutRegister", 0, 0),
    ],
)
def test_what_the_catalogue_leaves_out_is_added(name: str, low: int, high: int) -> None:
    """By hand, or for names without their version what all versions allow."""
    found = lookup(name)
    assert found is not None
    assert (found.irql_min, found.irql_max, found.has_lock_effect) == (low, high, False)


@pytest.mark.parametrize("name", ["SetFlag", "ClearFlag"])
def test_macros_that_assign_are_unknown(name: str) -> None:
    """What they are given changes, which only an assignment says."""
    assert lookup(name) is None


@pytest.mark.parametrize("name", ["NoSuchRoutine", "", "KeSetEvent", "ExDeleteTimer", "DRIVER_DISPATCH", "HW_STARTIO"])
def test_what_has_no_single_level_is_unknown(name: str) -> None:
    """No row: never `any level`. Callbacks are not routines."""
    assert lookup(name) is None


@pytest.mark.parametrize("name", ["IoCompleteRequest", "IofCompleteRequest", "WdfRequestSend", "NdisMIndicateStatus"])
def test_says_what_must_not_be_called_under_a_spin_lock(name: str) -> None:
    found = lookup(name)
    assert found is not None
    assert found.no_spin_lock


@pytest.mark.parametrize(
    "name",
    [
        *("KfAcquireSpinLock", "KeEnterCriticalRegion", "ClassAcquireChildLock", "KfRaiseIrql", "KsAcquireDevice"),
        # spelled out: `NdisInterlockedInsertHeadList / InsertTailList` names two, neither of them `InsertTailList`
        *("NdisInterlockedInsertTailList", "NdisInterlockedDecrement", "KsReleaseDevice"),
    ],
)
def test_lock_routines_are_marked(name: str) -> None:
    """They change what is held or the IRQL, so that a model is needed to go on."""
    found = lookup(name)
    assert found is not None
    assert found.has_lock_effect


@pytest.mark.parametrize(
    "name",
    [
        "ZwClose",
        "InsertTailList",
        "RemoveHeadList",
        "IoAcquireRemoveLock",
        "ExReleaseRundownProtection",
        "MmUnlockPages",
    ],
)
def test_reference_counts_and_others_are_no_locks(name: str) -> None:
    found = lookup(name)
    assert found is not None
    assert not found.has_lock_effect


def test_the_table_is_sorted_and_well_formed() -> None:
    """One line a routine: name, two levels in order, flags."""
    lines = (files("modelcheck") / "data" / "documented.tsv").read_text(encoding="utf-8").splitlines()
    names = [line.partition("\t")[0] for line in lines]
    assert names == sorted(set(names))
    for line in lines:
        name, low, high, flags = line.split("\t")
        assert lookup(name) == Documented(name, int(low), int(high), "S" in flags, "L" in flags)
        assert 0 <= int(low) <= int(high) <= HIGH_LEVEL
        assert set(flags) <= {"S", "L"}


def test_is_read_once_and_quickly() -> None:
    """The first look-up reads the table: well below a tenth of a second even on a busy machine."""
    documented._lines.cache_clear()
    start = time.perf_counter()
    lookup("ZwClose")
    assert time.perf_counter() - start < 0.1
    assert documented._lines() is documented._lines()
