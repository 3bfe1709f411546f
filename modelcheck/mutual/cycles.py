"""Can contexts wait for each other in a ring? One formula over classes of contexts, for any number of them.

A *stand* is a class of contexts: a root that waits at some place, or that merely holds locks while it is interrupted
or displaced. The formula chooses stands and, for each, what it waits for, so that every lock that is waited for is
held by a chosen stand and every chosen stand's lock is waited for; what they hold goes together, their roots can be
there at the same time, single roots once, and they agree on variables that cannot change meanwhile. No model, no
deadlock along these locks; a model is a set of rings to look for a run of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from modelcheck.record import dataclass

EXCLUSIVE, SHARED, MAYBE, WAITING = "x", "s", "?", "w"

Hold: TypeAlias = tuple[str, str]
"""A lock and how it is held: `x`, `s`, or `?` (perhaps not at all, or in either mode)."""


@dataclass(frozen=True, slots=True)
class Link:
    """One way for a stand to be in a ring: it is waited for because of `source` (a lock it holds, with the mode, or, as
    a writer that keeps readers out, waits for; or what it has taken the processor of: that stand's lock, with `ground`
    the stand) and waits for `target`."""

    stand: int
    source: tuple[str, str]
    target: tuple[str, str]
    ground: int = -1


@dataclass(frozen=True, slots=True)
class Stand:
    """A class of contexts: its root, what it holds, values of variables that cannot change while it stands there."""

    root: int
    holds: tuple[Hold, ...]
    values: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Ring:
    """The question about one component of the order. `apart`: pairs of roots that are never there together; `single`:
    roots of which there is one context at most; `barred`: stands and roots that are never there together."""

    stands: list[Stand]
    links: list[Link]
    apart: frozenset[tuple[int, int]]
    single: frozenset[int]
    barred: frozenset[tuple[int, int]] = frozenset()
    loose: frozenset[str] = frozenset()
    """Locks and variables of devices: with more instances than are told apart, contexts need not find the same one."""
    loose_roots: frozenset[int] = frozenset()
    """Roots of which there can be one context for each device."""
    kept_off: frozenset[tuple[int, int]] = frozenset()
    """Pairs of roots that are never there together on one device."""


@dataclass(slots=True)
class Formula:
    """`lines`: declarations and what always holds; `reasons`: for each reason a ring can be impossible for, the name
    of the assumption that stands for it, and the reason in words; `loose`: those that hold only of the instances of
    devices that are told apart."""

    lines: list[str]
    reasons: dict[str, str]
    loose: frozenset[str] = frozenset()

    @property
    def firm(self) -> list[str]:
        """The reasons that a proof may rest on."""
        return [name for name in self.reasons if name not in self.loose]


def link_name(number: int) -> str:
    return f"l{number}"


def formula(ring: Ring) -> Formula:
    """The formula of a ring; every link is a Boolean `l0`, `l1`, ..."""
    return _Writer(ring).write()


class _Writer:
    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.lines: list[str] = []
        self.reasons: dict[str, str] = {}
        self.loose: set[str] = set()
        self.count = 0

    def write(self) -> Formula:
        ring = self.ring
        for number in range(len(ring.links)):
            self.lines.append(f"(declare-const {link_name(number)} Bool)")
        self._flow()
        self._stands()
        self._locks()
        self._roots()
        self._values()
        return Formula(self.lines, self.reasons, frozenset(self.loose))

    def assertion(self, term: str) -> None:
        self.lines.append(f"(assert {term})")

    def fresh(self, stem: str) -> str:
        self.count += 1
        self.lines.append(f"(declare-const {stem}{self.count} Bool)")
        return f"{stem}{self.count}"

    def reason(self, words: str, loose: bool = False) -> str:
        for name, known in self.reasons.items():
            if known == words:
                return name
        name = self.fresh("why")
        self.reasons[name] = words
        if loose:
            self.loose.add(name)
        return name

    def at_most_one(self, literals: list[str], unless: str = "") -> None:
        """A sequential counter (Sinz 2005); with `unless` only where that assumption is made."""
        head = f"(not {unless}) " if unless else ""
        before = ""
        for index, literal in enumerate(literals):
            if before:
                self.assertion(f"(or {head}(not {before}) (not {literal}))")
            if index + 1 < len(literals):
                carry = self.fresh("c")
                self.assertion(f"(or (not {literal}) {carry})")
                if before:
                    self.assertion(f"(or (not {before}) {carry})")
                before = carry

    def _flow(self) -> None:
        """A lock is waited for once and held for it once, or not at all."""
        into: dict[tuple[str, str], list[str]] = {}
        out: dict[tuple[str, str], list[str]] = {}
        for number, link in enumerate(self.ring.links):
            out.setdefault(link.source, []).append(link_name(number))
            into.setdefault(link.target, []).append(link_name(number))
        for node in sorted({*into, *out}):
            self.at_most_one(into.get(node, []))
            self.at_most_one(out.get(node, []))
            arrives, leaves = disjunction(into.get(node, [])), disjunction(out.get(node, []))
            self.assertion(f"(= {arrives} {leaves})")
        self.assertion(disjunction([link_name(n) for n in range(len(self.ring.links))]))

    def _stands(self) -> None:
        """Which stands are in it, each by one link."""
        linked: dict[int, list[str]] = {}
        for number, link in enumerate(self.ring.links):
            linked.setdefault(link.stand, []).append(link_name(number))
            if link.ground >= 0:
                linked.setdefault(link.ground, []).append(link_name(number))
        self.chosen: dict[int, str] = {}
        for stand, links in sorted(linked.items()):
            self.at_most_one(links)
            name = self.chosen[stand] = self.fresh("s")
            self.assertion(f"(= {name} {disjunction(links)})")

    def _locks(self) -> None:
        """An exclusive holder is the only one."""
        exclusive: dict[str, dict[int, list[str]]] = {}
        shared: dict[str, dict[int, list[str]]] = {}
        for stand, name in self.chosen.items():
            for lock, how in self.ring.stands[stand].holds:
                if how != MAYBE:
                    table = exclusive if how == EXCLUSIVE else shared
                    table.setdefault(lock, {}).setdefault(stand, []).append(name)
        for number, link in enumerate(self.ring.links):
            holder = link.stand if link.ground < 0 else link.ground
            lock, mode = link.source
            if mode in (EXCLUSIVE, SHARED):
                table = exclusive if mode == EXCLUSIVE else shared
                table.setdefault(lock, {}).setdefault(holder, []).append(link_name(number))
        for lock in sorted(exclusive):
            alone = {holder: disjunction(dict.fromkeys(names)) for holder, names in sorted(exclusive[lock].items())}
            both = {holder: disjunction(dict.fromkeys(names)) for holder, names in sorted(shared.get(lock, {}).items())}
            if len({*alone, *both}) < 2:
                continue
            why = self.reason(f"only one can hold `{lock}`", lock in self.ring.loose)
            self.at_most_one(list(alone.values()), why)
            for holder, term in both.items():
                for other, taken in alone.items():
                    if other != holder:
                        self.assertion(f"(or (not {why}) (not {term}) (not {taken}))")

    def _roots(self) -> None:
        """Roots that never overlap, and those of which there is one at a time."""
        members: dict[int, list[str]] = {}
        for stand, name in self.chosen.items():
            members.setdefault(self.ring.stands[stand].root, []).append(name)
        for first, second in sorted(self.ring.apart):
            if first != second and first in members and second in members:
                why = self.reason(f"apart {first} {second}")
                one, other = disjunction(members[first]), disjunction(members[second])
                self.assertion(f"(or (not {why}) (not {one}) (not {other}))")
        for first, second in sorted(self.ring.kept_off):
            if first in members and second in members:
                why = self.reason(f"kept_off {first} {second}", bool({first, second} & self.ring.loose_roots))
                one, other = disjunction(members[first]), disjunction(members[second])
                self.assertion(f"(or (not {why}) (not {one}) (not {other}))")
        for stand, root in sorted(self.ring.barred):
            if stand in self.chosen and root in members:
                why = self.reason(f"apart {self.ring.stands[stand].root} {root}")
                there = disjunction(members[root])
                self.assertion(f"(or (not {why}) (not {self.chosen[stand]}) (not {there}))")
        for root in sorted(self.ring.single):
            if len(members.get(root, [])) > 1:
                self.at_most_one(members[root], self.reason(f"single {root}", root in self.ring.loose_roots))

    def _values(self) -> None:
        """A variable that cannot change has one value."""
        found: dict[str, dict[int, list[str]]] = {}
        for stand, name in self.chosen.items():
            for variable, value in self.ring.stands[stand].values:
                found.setdefault(variable, {}).setdefault(value, []).append(name)
        for variable, values in sorted(found.items()):
            if len(values) > 1:
                why = self.reason(f"`{variable}` has one value", variable in self.ring.loose)
                literals = []
                for _, names in sorted(values.items()):
                    has = self.fresh("v")
                    self.assertion(f"(or (not {disjunction(names)}) {has})")
                    literals.append(has)
                self.at_most_one(literals, why)


def disjunction(literals: Iterable[str]) -> str:
    parts = list(literals)
    return "false" if not parts else parts[0] if len(parts) == 1 else f"(or {' '.join(parts)})"
