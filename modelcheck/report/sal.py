"""The lock hierarchy as SAL: lock levels and their order, for the headers of the driver itself.

`_Create_lock_level_`, `_Has_lock_level_` and `_Lock_level_order_` of concurrencysal.h; the analyser of the compiler
warns of an acquisition against them (C26105; code-quality/annotating-locking-behavior)."""

from __future__ import annotations

import re

from modelcheck.verdict import Hierarchy


def sal(order: Hierarchy) -> str:
    """The annotations as text, one for a line. Two locks are ordered by what is held directly before; SAL takes the
    order to be transitive."""
    pairs = {
        (held, wanted) for held, wanted, _ in order.order if held != wanted and not {held, wanted} & set(order.events)
    }
    ordered = {name for pair in pairs for name in pair}
    locks = [name for name, _ in order.ranks if name in ordered]
    lines = [f"_Create_lock_level_({level(name)});" for name in locks]
    lines += [
        f"_Lock_level_order_({level(held)}, {level(wanted)});" for held, wanted in _direct(pairs, dict(order.ranks))
    ]
    lines += [f"// {name}: _Has_lock_level_({level(name)})" for name in locks]
    return "".join(f"{line}\n" for line in lines)


def level(lock: str) -> str:
    """The name of a lock's level: an identifier of C."""
    return re.sub(r"\W+", "_", lock).strip("_") + "_Level"


def _direct(pairs: set[tuple[str, str]], ranks: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs that do not follow from two others."""
    after: dict[str, set[str]] = {}
    for held, wanted in sorted(pairs, key=lambda pair: -ranks[pair[0]]):
        after.setdefault(held, set()).add(wanted)
    reach: dict[str, set[str]] = {}
    for name in sorted(ranks, key=lambda n: -ranks[n]):
        direct = after.get(name, set())
        reach[name] = direct.union(*(reach.get(other, set()) for other in direct if ranks[other] > ranks[name]))
    return sorted(
        (held, wanted)
        for held, wanted in pairs
        if not any(wanted in reach.get(other, set()) for other in after[held] if ranks[held] < ranks[other])
    )
