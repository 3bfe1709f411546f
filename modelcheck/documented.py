"""What the driver reference says about routines that no model describes: at which IRQL they may be called.

The facts are in data/documented.tsv, which tools/make_documented.py writes. A routine that is not there is unknown,
which is not the same as harmless.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from modelcheck.record import dataclass


@dataclass(frozen=True, slots=True)
class Documented:
    """Bounds of one kernel routine, as levels: device levels are DIRQL, 5, the highest is 31.

    `no_spin_lock`: not to be called with a spin lock held. `has_lock_effect`: it takes or gives back a lock or changes
    the IRQL, so that without a model of it nothing is known about what follows.
    """

    name: str
    irql_min: int
    irql_max: int
    no_spin_lock: bool
    has_lock_effect: bool


def lookup(name: str) -> Documented | None:
    """What is documented about the routine of that name; None if nothing is, or no usable IRQL."""
    line = _lines().get(name)
    if line is None:
        return None
    low, high, flags = line.split("\t")
    return Documented(name, int(low), int(high), "S" in flags, "L" in flags)


@cache
def _lines() -> dict[str, str]:
    """The rest of each line by routine; read on first use, taken apart one by one."""
    text = (files("modelcheck") / "data" / "documented.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())
