"""What the interpreter computes with: what others do, failures, the types of values and the places they are at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from modelcheck.devices import plain
from modelcheck.record import dataclass, field
from modelcheck.source import Span
from modelcheck.verdict import HIGH_LEVEL, NO_LEVEL, RACES, Obligation, Property

MAX_FRAMES = 10_000
"""Calls that may be active at once; a run that needs more is reported as too deep."""
MAX_COUNT = 6
"""A lock held that often is held "six or more" times."""
RETURNED = "returned"
"""Why a run is over that got to the end of its root."""
ANY_TAG = "*"
"""The tag of a hold that a clause describes without naming one: every release fits it."""
UNINITIALISED, INITIALISED, FREED = 0, 1, 2

Target: TypeAlias = tuple[object, ...]
"""What a reference denotes while running: ("lock", name), ("var", name), ("slot", frame, key), ..."""
Value: TypeAlias = int | str | Target | None
"""A number, the name of a lock in a handle's lock field, an object passed by reference, or nothing."""
Choose: TypeAlias = Callable[[str, Sequence[int]], int]
Hold: TypeAlias = tuple[bool, int, str | None]
"""How a lock is held: shared, how often, tag."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What others leave and do, as one root sees it.

    `starts`: values a shared variable may have at the start (missing: as declared). `others`: values written meanwhile
    to a shared variable or a ghost field `L.use` (missing: none). `lives`: states a lock's life may be in at the start
    (0 uninitialised, 1 initialised, 2 freed; missing: initialised). Of a wide type all values are a range.
    """

    starts: Mapping[str, Collection[int]] = field(default_factory=dict)
    others: Mapping[str, Collection[int]] = field(default_factory=dict)
    lives: Mapping[str, Collection[int]] = field(default_factory=dict)


def in_order(values: Collection[int]) -> Sequence[int]:
    """Values as what a choice may be: rising."""
    return values if isinstance(values, range) else tuple(sorted(values))


@dataclass(frozen=True, slots=True)
class Failure:
    """An obligation that failed in a step. `why` is the text of a `require` or of a clause, else ""."""

    code: Property
    routine: str
    span: Span
    subject: str
    why: str = ""

    def breaks(self, obligation: Obligation) -> bool:
        """Whether it is this obligation that failed: same property, routine and place; subject and reason as far as
        both say them. A race is of the data or the lock, wherever it is."""
        if self.code in RACES:
            return self.code == obligation.code and plain(self.subject) == obligation.subject
        same_place = (
            self.span.source.name == obligation.span.source.name
            and self.span.start <= max(obligation.span.end, obligation.span.start + 1)
            and obligation.span.start <= max(self.span.end, self.span.start + 1)
        )
        return (
            self.code == obligation.code
            and self.routine == obligation.routine
            and same_place
            and (plain(self.subject) == obligation.subject or not self.subject or self.code.startswith("I"))
            and (not self.why or not obligation.why or self.why in obligation.why)
        )


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did: where it stands, how deep in calls, and the obligations that failed in it."""

    routine: str
    depth: int
    span: Span
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """The values of a scalar type. `counter`: the highest means "that many or more"; `level`: a KIRQL."""

    low: int
    high: int
    values: tuple[str, ...] = ()
    counter: bool = False
    level: bool = False
    exact: bool = False
    """Leaving the range breaks C04: not so for truth values and counters."""

    @property
    def open(self) -> range:
        """What `*` of this type can be."""
        return range(self.low, (HIGH_LEVEL if self.level else self.high) + 1)

    @property
    def initial(self) -> int:
        """The value of one that was never written."""
        return NO_LEVEL if self.level else self.low


BOOL = Domain(0, 1)
LEVELS = Domain(0, NO_LEVEL, level=True, exact=True)
TIMEOUTS = Domain(0, 2, exact=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A reference whose names are resolved: a base, then members. `sort` says what it denotes, `kind` which lock or
    handle kind that is; `indexed`: the index of a lock family is on the stack."""

    base: Target
    bound: bool
    members: tuple[tuple[str, str], ...]
    indexed: bool
    sort: str
    domain: Domain | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """A parameter or local variable while compiling. `bound`: its slot holds what it refers to."""

    slot: str
    bound: bool
    sort: str
    domain: Domain | None = None
    kind: str | None = None
