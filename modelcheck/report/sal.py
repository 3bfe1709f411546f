"""The lock hierarchy as SAL: lock levels and their order, for the headers of the driver itself.

`_Create_lock_level_`, `_Has_lock_level_` and `_Lock_level_order_` of concurrencysal.h; the analyser of the compiler
warns of an acquisition against them (C26105; code-quality/annotating-locking-behavior)."""

from __future__ import annotations

from collections.abc import Collection

from modelcheck.report.order import direct, later
from modelcheck.report.words import clean, ruled_words
from modelcheck.resolve import Program
from modelcheck.verdict import Hierarchy


def annotated(program: Program) -> frozenset[str]:
    """The locks whose declaration in C can carry an annotation: those that the driver declares itself, one by one. An
    interrupt's lock is the system's, as is what a routine holds while it runs; the locks of a family share one."""
    runs = {f"{name}.run" for names in program.runs.values() for name in names}
    system = {f"{name}.lock" for name in program.interrupts} | runs
    return frozenset(
        name
        for name, lock in program.locks.items()
        if lock.span.source in program.own and lock.size is None and name not in system
    )


def sal(order: Hierarchy, own: Collection[str]) -> str:
    """The annotations as text, one for a line; `own` are the locks that can have one (`annotated`). Two are ordered
    by what is held directly before; SAL takes the order to be transitive."""
    ranks = dict(order.ranks)
    rising = {
        (held, wanted)
        for held, wanted, _ in order.order
        if ranks[held] < ranks[wanted] and not {held, wanted} & set(order.events)
    }
    after = later(rising, ranks)
    ordered = [name for name, _ in order.ranks if any(name in pair for pair in rising)]
    levels = _levels([name for name in ordered if name in own])
    lines = [f"_Create_lock_level_({level});" for level in levels.values()]
    lines += [f"_Lock_level_order_({levels[held]}, {levels[wanted]});" for held, wanted in direct(levels, after)]
    lines += [f"// {name}: _Has_lock_level_({level})" for name, level in levels.items()]
    others = dict.fromkeys(name.partition("[")[0] for name in ordered if name not in levels)
    lines += [f"// {clean(name)}: no level, its locks are not declared one by one in the driver" for name in others]
    lines += [f"// no order: {ruled_words(ruled)}" for ruled in order.ruled]
    return "".join(f"{line}\n" for line in lines or ["// no lock is waited for while another is held"])


def _levels(locks: list[str]) -> dict[str, str]:
    """The name of each lock's level: an identifier of C, and no other lock's."""
    found: dict[str, str] = {}
    for lock in locks:
        name = base = lock.replace(".", "_")
        number = 1
        while f"{name}_Level" in found.values():
            number += 1
            name = f"{base}_{number}"
        found[lock] = f"{name}_Level"
    return found
