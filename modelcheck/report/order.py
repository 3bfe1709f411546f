"""Which locks come after which in a hierarchy: what follows from what."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Pair = tuple[str, str]
"""(held, waited for)."""


def later(pairs: Collection[Pair], ranks: Mapping[str, int]) -> dict[str, set[str]]:
    """For each lock all that come after it; along each of `pairs` the rank rises."""
    found: dict[str, set[str]] = {name: set() for name in ranks}
    for held, wanted in sorted(pairs, key=lambda pair: -ranks[pair[0]]):
        found[held] |= {wanted} | found[wanted]
    return found


def direct(locks: Collection[str], after: Mapping[str, set[str]]) -> list[Pair]:
    """The pairs of these locks that do not follow from two others, sorted; `after` is what `later` gave."""
    found = []
    for held in sorted(locks):
        own = after[held].intersection(locks)
        found += [(held, wanted) for wanted in sorted(own.difference(*(after[between] for between in own)))]
    return found
