"""The state of a run: frames, levels, locks, variables. A value that can be copied and compared."""

from __future__ import annotations

from collections.abc import Hashable

from modelcheck.interpret.code import Code, EnterAtomic
from modelcheck.interpret.values import Hold, Target, Value
from modelcheck.record import dataclass, field
from modelcheck.source import Span


@dataclass(slots=True)
class Frame:
    """One active body. `site`: the call in the routine that an extern's body belongs to; None for a routine."""

    code: Code
    pc: int
    stack: list[Value]
    slots: dict[str, Value]
    span: Span
    site: Span | None
    callee: str
    depth: int
    pending: list[int] = field(default_factory=list)
    result: Value = None
    opening: EnterAtomic | None = None
    """The `atomic` block that the next statement begins."""
    level: int = 0
    holds: dict[str, Hold] = field(default_factory=dict)
    atomic: bool = False
    """Whether the statement that began last stands in `atomic`."""

    def copy(self) -> Frame:
        return Frame(
            self.code,
            self.pc,
            list(self.stack),
            dict(self.slots),
            self.span,
            self.site,
            self.callee,
            self.depth,
            list(self.pending),
            self.result,
            self.opening,
            self.level,
            self.holds,
            self.atomic,
        )

    def key(self) -> Hashable:
        return (
            id(self.code),
            self.pc,
            tuple(self.stack),
            frozenset(self.slots.items()),
            self.span.start,
            None if self.site is None else self.site.start,
            tuple(self.pending),
            self.result,
            self.opening is None,
            self.level,
            frozenset(self.holds.items()),
        )


@dataclass(slots=True)
class State:
    """Everything a context's future depends on. `ended`: why the run is over, "" while it goes on. `goes_on`: whether
    the driver goes on to later phases after it. `freed`: the locks that it has freed itself."""

    root: str
    frames: list[Frame]
    irql: int
    store: dict[Target, Value]
    holds: dict[str, Hold]
    lives: dict[str, int]
    clocks: dict[str, int] = field(default_factory=dict)
    """How long each spin lock has been held, in ns; stops just above the limit."""
    ended: str = ""
    goes_on: bool = True
    freed: frozenset[str] = frozenset()

    def copy(self) -> State:
        return State(
            self.root,
            [f.copy() for f in self.frames],
            self.irql,
            dict(self.store),
            dict(self.holds),
            dict(self.lives),
            dict(self.clocks),
            self.ended,
            self.goes_on,
            self.freed,
        )

    def key(self) -> Hashable:
        return (
            self.root,
            tuple(f.key() for f in self.frames),
            self.irql,
            frozenset(self.store.items()),
            frozenset(self.holds.items()),
            frozenset(self.lives.items()),
            frozenset(self.clocks.items()),
            self.ended,
            self.goes_on,
            self.freed,
        )


class Over(Exception):
    """The run ends inside a step: it waits for ever, or an assumption does not hold."""


class Discarded(Over):
    """The run is none: an assumption does not hold."""


class Divergence(Exception):
    """A trace is not a run."""
