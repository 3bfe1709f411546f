"""Contexts and the states of several of them together, as values."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from modelcheck.interpret.player import Part, Player
from modelcheck.interpret.state import State
from modelcheck.interpret.values import Failure, Target, Value
from modelcheck.record import dataclass, field
from modelcheck.verdict import Choice


@dataclass(frozen=True, slots=True)
class Entrant:
    """A context before it starts. `level` is the IRQL it starts at, `interrupts` what the IRQL of a processor must be
    below for it to start there (a DPC or an ISR). `binding` says what its parameters are that are locks or devices,
    `arguments` are the values of its parameters where they are given.
    `within`: the context in whose call-out it runs, by number; -1 for none. Both are one context for all others; a
    `level` of -1 is then that of the caller."""

    routine: str
    kind: str
    processor: int
    level: int
    interrupts: int
    player: Player = field(compare=False)
    binding: Mapping[str, str] = field(default_factory=dict, compare=False)
    arguments: Mapping[str, int] = field(default_factory=dict, compare=False)
    within: int = -1


@dataclass(frozen=True, slots=True)
class Context:
    """One context in a configuration; `state` is None before it has started, and is not changed once it is here.
    `waiting`: it has come to wait for what it stands before, as far as that is a step (a writer, or one that waits for
    itself)."""

    state: State | None = None
    waiting: bool = False
    _key: list[Hashable] = field(default_factory=list, compare=False, repr=False)

    @property
    def key(self) -> Hashable:
        """What it is known by in a search; worked out once it is asked for."""
        if not self._key:
            self._key.append((None if self.state is None else self.state.key(), self.waiting))
        return self._key[0]

    @property
    def active(self) -> bool:
        """Whether it has started and not ended."""
        return self.state is not None and not self.state.ended


@dataclass(frozen=True, slots=True)
class Configuration:
    """A state of all. `stacks`: for each processor the DPCs and ISRs on it, the lowest first. `common` is the one store
    of a scenario, `constants` the values that all contexts of the open world agree on, `real` is False behind an
    assumption that fails: no run leads here, but it shows what could have gone on."""

    contexts: tuple[Context, ...]
    stacks: tuple[tuple[int, ...], ...]
    common: Mapping[Target, Value] = field(default_factory=dict)
    lives: Mapping[str, int] = field(default_factory=dict)
    events: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    constants: frozenset[tuple[str, Value]] = frozenset()
    real: bool = True

    def key(self) -> Hashable:
        return (
            tuple(c.key for c in self.contexts),
            self.stacks,
            frozenset(self.common.items()),
            frozenset(self.lives.items()),
            self.events,
            self.enabled,
            self.constants,
            self.real,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Why a context cannot go on now, and whom that depends on: the reasons of `verdict.Wait`."""

    reason: str
    subject: str
    by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """What one step of one context led to. `part` is None where it only started or came to wait. `choices` tells how
    `successors` made them."""

    after: Configuration
    failures: tuple[Failure, ...] = ()
    part: Part | None = None
    choices: tuple[Choice, ...] = ()


class Branching:
    """Answers choices by a prefix, then by the first value; `next_prefix` is the next prefix depth first, if any."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix
        self.asked: list[tuple[str, int, Sequence[int]]] = []

    def __call__(self, name: str, allowed: Sequence[int]) -> int:
        number = len(self.asked)
        index = self.prefix[number] if number < len(self.prefix) else 0
        self.asked.append((name, index, allowed))
        return allowed[index]

    def next_prefix(self) -> list[int] | None:
        for number in range(len(self.asked) - 1, -1, -1):
            _, index, allowed = self.asked[number]
            if index + 1 < len(allowed):
                return [i for _, i, _ in self.asked[:number]] + [index + 1]
        return None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What was chosen where there was more than one way."""
        return tuple(Choice(name, allowed[index]) for name, index, allowed in self.asked if len(allowed) > 1)
