"""The lock hierarchy as SAL annotations."""

from __future__ import annotations

from pathlib import Path

from modelcheck.pipeline import Options, load, verify
from modelcheck.report.sal import annotated, sal
from modelcheck.verdict import Hierarchy, Ruled

RANKS = (("A", 0), ("Port.Lock", 1), ("C", 2), ("Alone", 0), ("Done", 1), ("Bucket[3]", 1), ("D", 2))
ORDER = (
    ("A", "Port.Lock", ()),
    ("Port.Lock", "C", ()),
    ("A", "C", ()),
    ("A", "Done", ()),
    ("A", "Bucket[3]", ()),
    ("Bucket[3]", "D", ()),
    ("C", "D", ()),
    ("D", "C", ()),
)
OWN = frozenset({"A", "Port.Lock", "C", "Alone", "D"})
HIERARCHY = Hierarchy(RANKS, ORDER, (Ruled(("C", "D"), "only one can hold `A`"),), events=("Done",))


def test_levels_are_created_ordered_and_given() -> None:
    text = sal(HIERARCHY, OWN).splitlines()
    assert "_Create_lock_level_(Port_Lock_Level);" in text
    assert "_Lock_level_order_(A_Level, Port_Lock_Level);" in text
    assert "// Port.Lock: _Has_lock_level_(Port_Lock_Level)" in text


def test_what_follows_from_two_others_is_not_said() -> None:
    assert "_Lock_level_order_(A_Level, C_Level);" not in sal(HIERARCHY, OWN)


def test_what_follows_over_a_lock_without_a_level_is_said() -> None:
    text = sal(HIERARCHY, OWN).splitlines()
    assert "_Lock_level_order_(A_Level, D_Level);" in text
    assert "// Bucket: no level, its locks are not declared one by one in the driver" in text
    assert not any("Bucket" in line for line in text if not line.startswith("//"))


def test_a_cycle_that_cannot_close_is_no_order() -> None:
    text = sal(HIERARCHY, OWN)
    assert "(C_Level, D_Level)" not in text
    assert "(D_Level, C_Level)" not in text
    assert "// no order: C -> D -> C cannot close: only one can hold `A`\n" in text


def test_locks_without_an_order_and_events_have_no_level() -> None:
    text = sal(HIERARCHY, OWN)
    assert "Alone" not in text
    assert "Done" not in text


def test_two_locks_never_share_a_level() -> None:
    order = Hierarchy((("Port.Lock", 0), ("Port_Lock", 1)), (("Port.Lock", "Port_Lock", ()),))
    text = sal(order, frozenset({"Port.Lock", "Port_Lock"})).splitlines()
    assert "_Lock_level_order_(Port_Lock_Level, Port_Lock_2_Level);" in text


def test_only_what_the_driver_declares_one_by_one_is_annotated(tmp_path: Path) -> None:
    model = tmp_path / "d.drvm"
    model.write_text(
        "driver d;\nimport wdm;\nlock A : KSPIN_LOCK initialised;\nlock B[2] : KSPIN_LOCK initialised;\n"
        "interrupt Line at DIRQL;\ndevice Port { lock Lock : KSPIN_LOCK; }\n"
        "dpc Later runs OnDpc;\nroutine OnDpc() { }\n"
        "routine Stop(Irp) as DRIVER_DISPATCH(IRP_MN_STOP_DEVICE) { KeRemoveQueueDpcEx(&Later, TRUE); }\n"
    )
    assert "Later.run" in load(model)[0].locks
    assert annotated(load(model)[0]) == {"A", "Port.Lock"}


CALL_OUT = """\
driver d;
import wdm;
lock Outer : KSPIN_LOCK initialised;
lock Inner : KSPIN_LOCK initialised;
role TIMER { irql DISPATCH_LEVEL; dpc; any number; }
role CALLBACK { irql DISPATCH_LEVEL; dpc; any number; }
extern Complete() { may reenter CALLBACK; }
routine Work(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&Outer, &old);
    Complete();
    KeReleaseSpinLock(&Outer, old);
}
lock Slow : FAST_MUTEX initialised;
routine Send(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP) {
    ExAcquireFastMutex(&Slow);
    ExReleaseFastMutex(&Slow);
}
routine Tick() as TIMER {
    Complete();
}
routine Back() as CALLBACK {
    KeAcquireSpinLockAtDpcLevel(&Inner);
    KeReleaseSpinLockFromDpcLevel(&Inner);
}
"""


def test_only_locks_and_events_stand_in_the_hierarchy(tmp_path: Path) -> None:
    """Processors and call-outs lead from lock to lock and are none: a DPC that calls out comes on top of `Slow`."""
    model = tmp_path / "d.drvm"
    model.write_text(CALL_OUT)
    order = verify(model, Options()).hierarchy
    assert order is not None
    assert {name for name, _ in order.ranks} == {"Outer", "Inner", "Slow"}
    assert {(held, wanted) for held, wanted, _ in order.order} == {
        ("Outer", "Inner"),
        ("Slow", "Inner"),
        ("Slow", "Outer"),
    }
