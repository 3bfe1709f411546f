"""What comes of an obligation that several contexts together can break."""

from __future__ import annotations

from typing import TypeAlias

from modelcheck.engines.analyse import Open
from modelcheck.ir import Root
from modelcheck.mutual.positions import Position
from modelcheck.record import dataclass
from modelcheck.verdict import Schedule

NO_RING = "no ring goes through here"
MORE_DEVICES = "with more devices at once the locks of each do not exclude it; no such run was put together"


@dataclass(frozen=True, slots=True)
class Ranked:
    """Proved by the order alone. `reached` False where nothing comes there."""

    reached: bool


@dataclass(frozen=True, slots=True)
class Excluded:
    """Proved: the order has a cycle here, and nothing can come of it, for the reasons in words."""

    component: int
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deadlocked:
    """`roots`: those of the schedule's actors."""

    schedule: Schedule
    roots: tuple[Root, ...]


Finding: TypeAlias = Ranked | Excluded | Deadlocked | Open


def mode_of(position: Position) -> str:
    """In what mode a position waits, as a turn says it."""
    return "event" if position.sort == "event" else "shared" if position.shared else ""
