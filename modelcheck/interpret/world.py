"""Several contexts on several processors: who may run, and what a step of one does to all (section 7 of
docs/language.md).

An `Entrant` is a context as it is given, a `Configuration` a state of the whole: a value that can be compared. `World`
tells who may run (`hindered`), what a context waits for (`blocks`), and makes steps. In a scenario shared variables,
ghost fields and lives of locks are one common store; in the open world each context sees its own, with the
interference of its environment.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modelcheck import syntax as s
from modelcheck.interpret.code import Invoke
from modelcheck.interpret.player import Access, Part, Player, Wanted
from modelcheck.interpret.state import State
from modelcheck.interpret.values import INITIALISED, RETURNED, Choose, Failure, Target, Value
from modelcheck.interpret.walk import expressions, statements, within
from modelcheck.resolve import Program
from modelcheck.verdict import DISPATCH_LEVEL, Choice, Property

ALONE = ("load", "unload")
"""Phases whose routines overlap with nothing but what they have enabled."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A context before it starts. `level` is the IRQL it starts at, `interrupts` what the IRQL of a processor must be
    below for it to start there (a DPC or an ISR). `arguments` are the values of its parameters where they are given."""

    routine: str
    kind: str
    processor: int
    level: int
    interrupts: int
    player: Player = field(compare=False)
    binding: Mapping[str, str] = field(default_factory=dict, compare=False)
    arguments: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Context:
    """One context in a configuration; `state` is None before it has started, and is not changed once it is here.
    `waiting`: it has come to wait for what it stands before, as far as that is a step (a writer, or one that waits for
    itself)."""

    state: State | None = None
    waiting: bool = False
    key: Hashable = None

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


class World:
    """The contexts of a scenario (`closed`) or of the open world, and their processors."""

    def __init__(self, program: Program, entrants: Sequence[Entrant], processors: int, closed: bool) -> None:
        self.program = program
        self.entrants = tuple(entrants)
        self.processors = processors
        self.closed = closed
        self.player = self.entrants[0].player
        """For what is the same for all contexts."""
        fields: set[Target] = {("field", lock, name) for lock, name in self.player.ghosts}
        variables: set[Target] = {("var", name) for name in program.variables}
        self.shared = frozenset(target for target in self.player.initial if target in fields | variables)
        self.phases = {e.routine: phase_of(e.player, e.routine) for e in self.entrants}
        others = [e.player.environment.others for e in self.entrants]
        self.unwritten = frozenset(x for x in program.variables if not any(o.get(x) for o in others))
        """Variables of the open world that nothing writes in phase `start` or later."""
        self.permitted = _mentioned(program)

    def begin(self, values: Mapping[str, int] | None = None) -> Configuration:
        """Nothing has started; `values` are those of shared variables where they are not as declared."""
        stacks: tuple[tuple[int, ...], ...] = ((),) * self.processors
        contexts = tuple(Context() for _ in self.entrants)
        if not self.closed:
            return Configuration(contexts, stacks)
        common = {target: self.player.initial[target] for target in self.shared}
        common.update({("var", name): value for name, value in (values or {}).items()})
        lives = dict.fromkeys(self.player.tables.instances, INITIALISED)
        return Configuration(contexts, stacks, common, lives)

    # who may run

    def hindered(self, now: Configuration, index: int) -> str:
        """Why the processor, the phases or its end keep a context from running now; "" if nothing does."""
        context = now.contexts[index]
        if context.state is None:
            return self._may_not_start(now, index)
        if context.state.ended:
            return "it has ended"
        above = self.above(now, index)
        if above:
            return "something has interrupted it"
        if self.displacing(now, index):
            return "another thread of its processor is at DISPATCH_LEVEL or above"
        return ""

    def _may_not_start(self, now: Configuration, index: int) -> str:
        entrant = self.entrants[index]
        stack = now.stacks[entrant.processor]
        ruling = self._ruling(now, entrant.processor)
        if entrant.kind == "thread":
            if stack:
                return "a DPC or an ISR runs on its processor"
            if ruling is not None:
                return "a thread of its processor is at DISPATCH_LEVEL or above"
        else:
            level = self._level_of(now, entrant.processor, stack, ruling)
            if level >= entrant.interrupts:
                return f"its processor is at level {level}, which it cannot interrupt"
        return "" if self.closed else self._overlap(now, index)

    def _level_of(self, now: Configuration, processor: int, stack: tuple[int, ...], ruling: int | None) -> int:
        """The IRQL of what runs on a processor, the lowest that can; below all levels where nothing does."""
        top = stack[-1] if stack else ruling
        if top is not None:
            return self.irql(now, top)
        threads = [i for i in self._threads(processor) if now.contexts[i].active]
        return min((self.irql(now, i) for i in threads), default=-1)

    def irql(self, now: Configuration, index: int) -> int:
        """The level of a context; while the system still runs its `entry`, not below what that raises to."""
        state = now.contexts[index].state
        assert state is not None
        entering = self.entrants[index].kind != "thread" and not _entered(state)
        return max(state.irql, self.entrants[index].interrupts) if entering else state.irql

    def _threads(self, processor: int) -> list[int]:
        return [i for i, e in enumerate(self.entrants) if e.kind == "thread" and e.processor == processor]

    def _ruling(self, now: Configuration, processor: int) -> int | None:
        """The thread of a processor that is at DISPATCH_LEVEL or above, if there is one."""
        return next((i for i in self._threads(processor) if self.rules(now, i)), None)

    def rules(self, now: Configuration, index: int) -> bool:
        """Whether it is a thread that keeps the others from its processor."""
        context = now.contexts[index]
        return (
            self.entrants[index].kind == "thread"
            and context.state is not None
            and not context.state.ended
            and context.state.irql >= DISPATCH_LEVEL
        )

    def above(self, now: Configuration, index: int) -> tuple[int, ...]:
        """What has interrupted a context: all that lies above it on the stack of its processor."""
        entrant = self.entrants[index]
        stack = now.stacks[entrant.processor]
        return stack if entrant.kind == "thread" else stack[stack.index(index) + 1 :]

    def displacing(self, now: Configuration, index: int) -> tuple[int, ...]:
        """The thread at DISPATCH_LEVEL or above that keeps a thread below it from running."""
        if self.entrants[index].kind != "thread" or self.rules(now, index):
            return ()
        ruling = self._ruling(now, self.entrants[index].processor)
        return () if ruling is None else (ruling,)

    def beneath(self, now: Configuration, index: int) -> frozenset[int]:
        """What a context has interrupted or displaced: what lies below it on the stack of its processor, and the
        started threads there that it keeps from running."""
        entrant = self.entrants[index]
        threads = {i for i in self._threads(entrant.processor) if now.contexts[i].active and i != index}
        if entrant.kind == "thread":
            return frozenset(threads) if self.rules(now, index) else frozenset()
        stack = now.stacks[entrant.processor]
        return frozenset({*stack[: stack.index(index)], *threads})

    def _overlap(self, now: Configuration, index: int) -> str:
        """Why a root of the open world may not start beside what runs: `single` roots, phases that are alone."""
        routine = self.entrants[index].routine
        role, _ = self.player.role(routine)
        active = [e.routine for e, c in zip(self.entrants, now.contexts, strict=True) if c.active]
        begun = [e.routine for e, c in zip(self.entrants, now.contexts, strict=True) if c.state is not None]
        if role is not None and role.single and routine in active:
            return f"only one `{routine}` runs at a time"
        phase = self.phases[routine]
        enabled = routine in now.enabled
        if phase == "load" and any(self.phases[name] != "load" and name not in now.enabled for name in begun):
            return f"`{routine}` comes before all others"
        if phase in ALONE and any(name not in now.enabled | self._left_enabled(phase) for name in active):
            return f"`{routine}` runs alone"
        if any(self.phases[name] == "load" for name in active) and not enabled:
            return f"a routine of the phase `load` has not enabled `{routine}`"
        over = any(self.phases[name] == "unload" for name in begun)
        if over and phase != "unload" and not enabled and routine not in self.permitted:
            return f"`{routine}` is not enabled when the driver is unloaded"
        return ""

    def _left_enabled(self, phase: str) -> frozenset[str]:
        return self.permitted if phase == "unload" else frozenset()

    # what a context waits for

    def wanted(self, now: Configuration, index: int) -> Wanted | None:
        """What a context stands before, if that has to be waited for at all."""
        state = now.contexts[index].state
        if state is None or state.ended:
            return None
        return self.entrants[index].player.wanted(state)

    def blocks(self, now: Configuration, index: int) -> tuple[Block, ...]:
        """All that keeps an active context from making a step now."""
        found: list[Block] = []
        above, displacing = self.above(now, index), self.displacing(now, index)
        if above:
            found.append(Block("interrupted", "", above))
        if displacing:
            found.append(Block("displaced", "", displacing))
        wanted = self.wanted(now, index)
        if wanted is not None:
            found += self.obstacles(now, index, wanted)
        return tuple(found)

    def obstacles(self, now: Configuration, index: int, wanted: Wanted) -> list[Block]:
        """Why an acquisition or a wait is not possible; empty if it is."""
        name = wanted.subject
        if wanted.is_event:
            return [] if name in now.events else [Block("event", name, ())]
        if not name:
            return [Block("self", "", (index,))]
        found: list[Block] = []
        context = now.contexts[index]
        assert context.state is not None
        if name in context.state.holds:
            if self.entrants[index].player.counts_up(context.state, name, wanted.shared):
                return []
            found.append(Block("self", name, (index,)))
        holders = self.holders(now, index, name, wanted.shared)
        ended = tuple(i for i in holders if not now.contexts[i].active)
        active = tuple(i for i in holders if now.contexts[i].active)
        writers = self._writers(now, index, name) if wanted.shared and not found else ()
        by_reason = (("held", active), ("ended", ended), ("writer", writers))
        return [*found, *(Block(reason, name, by) for reason, by in by_reason if by)]

    def holders(self, now: Configuration, index: int, lock: str, shared: bool) -> tuple[int, ...]:
        """The others whose hold of a lock does not go together with the mode wanted."""
        found = []
        for other, context in enumerate(now.contexts):
            hold = None if other == index or context.state is None else context.state.holds.get(lock)
            if hold is not None and not (shared and hold[0]):
                found.append(other)
        return tuple(found)

    def _writers(self, now: Configuration, index: int, lock: str) -> tuple[int, ...]:
        """The writers that have come to wait for a lock where these stop new readers."""
        if not self._writers_first(lock):
            return ()
        found = []
        for other, context in enumerate(now.contexts):
            if other != index and context.waiting and context.active:
                wanted = self.wanted(now, other)
                if wanted is not None and wanted.subject == lock and not wanted.shared and not wanted.is_event:
                    found.append(other)
        return tuple(found)

    def _writers_first(self, lock: str) -> bool:
        kind = self.player.tables.kind_of(lock)
        return kind is not None and kind.writers_first

    def _set_up(self, now: Configuration, index: int) -> Player:
        """The player of a context, told what the others hold and have signalled."""
        player = self.entrants[index].player

        def admits(lock: str, shared: bool) -> bool:
            return not self.holders(now, index, lock, shared) and not (shared and self._writers(now, index, lock))

        player.admits, player.sole = admits, lambda lock: not self.holders(now, index, lock, False)
        player.events, player.enabled = now.events, now.enabled
        return player

    # steps

    def can_step(self, now: Configuration, index: int) -> bool:
        """Whether a context has a step now: it may run, and goes on, or starts, or comes to wait."""
        return not self.hindered(now, index) and self.has_step(now, index)

    def has_step(self, now: Configuration, index: int) -> bool:
        """Whether a context that may run goes on, or starts, or comes to wait."""
        wanted = self.wanted(now, index)
        if wanted is None:
            return True
        obstacles = self.obstacles(now, index, wanted)
        return not obstacles or self._can_come_to_wait(now, index, wanted, obstacles)

    def can_come_to_wait(self, now: Configuration, index: int) -> bool:
        """Whether all that a context can do is to come to wait for what it stands before."""
        wanted = self.wanted(now, index)
        if wanted is None or self.hindered(now, index):
            return False
        return self._can_come_to_wait(now, index, wanted, self.obstacles(now, index, wanted))

    def _can_come_to_wait(self, now: Configuration, index: int, wanted: Wanted, obstacles: list[Block]) -> bool:
        if not obstacles or wanted.is_event or not wanted.subject or now.contexts[index].waiting:
            return False
        return obstacles[0].reason == "self" or (not wanted.shared and self._writers_first(wanted.subject))

    def step(self, now: Configuration, index: int, choose: Choose) -> Moved:
        """One step of a context that `can_step`.

        Raises:
            TooLong: the step has no end within the limits.
        """
        context = now.contexts[index]
        if context.state is None:
            return self._start(now, index, choose)
        wanted = self.wanted(now, index)
        if wanted is not None and self.obstacles(now, index, wanted):
            return self._come_to_wait(now, index, choose)
        state = self._with_common(now, context.state)
        part = self._set_up(now, index).part(state, choose)
        if part.discarded:
            state.ended, state.holds = RETURNED, {}
        after = replace(now, events=part.events, enabled=part.enabled, real=now.real and not part.discarded)
        return Moved(self._put(after, index, state), part.failures, part)

    def _start(self, now: Configuration, index: int, choose: Choose) -> Moved:
        """The context comes to its processor; nothing of it has run yet."""
        entrant = self.entrants[index]

        failures: tuple[Failure, ...]

        def asked(name: str, allowed: Sequence[int]) -> int:
            kind, _, rest = name.partition(" ")
            if name == "irql":
                return entrant.level
            if kind == "param" and rest in entrant.arguments:
                return entrant.arguments[rest]
            if self.closed and kind == "held":
                return 0  # nothing is held at the start of a scenario
            return choose(name, allowed)

        state = entrant.player.start(entrant.routine, asked, entrant.binding)
        after, failures = now, ()
        if self.closed:
            state.ended = ""
        else:
            seen = frozenset(
                (name, state.store["var", name]) for name in self.unwritten if ("var", name) in state.store
            )
            fits = not state.ended and (not now.constants or seen == now.constants)
            after = replace(now, constants=now.constants or seen, real=now.real and fits)
            if not fits:
                state.ended, state.holds = RETURNED, {}
        if not state.ended:
            entered = self._with_common(now, state)
            failures = entrant.player.enter(entered, choose)
            state.frames = entered.frames
        if entrant.kind != "thread" and not state.ended:
            stack = now.stacks[entrant.processor]
            after = _restacked(after, entrant.processor, (*stack, index))
        return Moved(self._put(after, index, state), failures)

    def _come_to_wait(self, now: Configuration, index: int, choose: Choose) -> Moved:
        """A writer has come to wait; or a context waits for itself, which breaks B01."""
        context = now.contexts[index]
        assert context.state is not None
        player = self.entrants[index].player
        failures: tuple[Failure, ...] = ()
        wanted = self.wanted(now, index)
        if wanted is not None and wanted.subject in context.state.holds:
            failures = player.refused(self._with_common(now, context.state), choose)
        waits = Context(context.state, True, (context.state.key(), True))
        contexts = (*now.contexts[:index], waits, *now.contexts[index + 1 :])
        return Moved(replace(now, contexts=contexts), failures)

    def _with_common(self, now: Configuration, state: State) -> State:
        """A copy of a context's state that sees what is common."""
        state = state.copy()
        if self.closed:
            state.store.update(now.common)
            state.lives = dict(now.lives)
        return state

    def _put(self, after: Configuration, index: int, state: State) -> Configuration:
        """The configuration with a context in its new state; what is common is taken from it."""
        common, lives = after.common, after.lives
        if self.closed and after.contexts[index].state is None:
            state.lives = {}
            for target in self.shared:
                state.store.pop(target, None)
        elif self.closed:
            lives, state.lives = state.lives, {}
            common = {target: state.store.pop(target) for target in self.shared}
        processor = self.entrants[index].processor
        stack = after.stacks[processor]
        if state.ended and index in stack:
            after = _restacked(after, processor, tuple(i for i in stack if i != index))
        context = Context(state, False, (state.key(), False))
        contexts = (*after.contexts[:index], context, *after.contexts[index + 1 :])
        after = replace(after, contexts=contexts, common=common, lives=lives)
        return after if self.closed or self._agree(after) else replace(after, real=False)

    def _agree(self, now: Configuration) -> bool:
        """Whether all who hold the guard of a variable see one value of it."""
        for name, guards in self.player.guards.items():
            for guard in guards:
                seen = {
                    c.state.store["var", name]
                    for c in now.contexts
                    if c.state is not None and not c.state.ended and guard in c.state.holds
                }
                if len(seen) > 1:
                    return False
        return True

    def successors(self, now: Configuration, index: int) -> Iterator[Moved]:
        """Every step that a context can make now, one for each way its choices can go."""
        prefix: list[int] | None = []
        while prefix is not None:
            branching = Branching(prefix)
            yield replace(self.step(now, index, branching), choices=branching.choices)
            prefix = branching.next_prefix()

    # races

    def accesses(self, now: Configuration, index: int) -> tuple[Access, ...]:
        """The accesses to data without a guard that a context stands before: those of its next step, however its
        choices go."""
        context = now.contexts[index]
        player = self.entrants[index].player
        if context.state is None or context.state.ended or not player.may_touch(context.state):
            return ()
        found: dict[Access, None] = {}
        prefix: list[int] | None = []
        while prefix is not None:
            branching = Branching(prefix)
            part = self._set_up(now, index).part(self._with_common(now, context.state), branching)
            if not part.discarded:
                found.update(dict.fromkeys(part.accesses))
            prefix = branching.next_prefix()
        return tuple(found)

    def races(self, now: Configuration) -> tuple[Failure, ...]:
        """R03 of every access that a context stands before while another stands before one that does not go with it."""
        standing = [self.accesses(now, index) for index in range(len(self.entrants))]
        found: dict[Failure, None] = {}
        for index, mine in enumerate(standing):
            for theirs in standing[index + 1 :]:
                for one in mine:
                    for other in theirs:
                        if one.data == other.data and (one.write or other.write) and not (one.atomic and other.atomic):
                            found.update(dict.fromkeys((_race(one), _race(other))))
        return tuple(found)


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


def _race(access: Access) -> Failure:
    return Failure(Property.R03, access.routine, access.span, access.data)


def _restacked(now: Configuration, processor: int, stack: tuple[int, ...]) -> Configuration:
    return replace(now, stacks=(*now.stacks[:processor], stack, *now.stacks[processor + 1 :]))


def _entered(state: State) -> bool:
    """Whether the body of a context was called already: its `entry` is behind it."""
    bottom = state.frames[0]
    behind = (i.callee for i in bottom.code.instructions[: bottom.pc] if isinstance(i, Invoke))
    return any(isinstance(callee, s.Routine) and callee.name == state.root for callee in behind)


def _mentioned(program: Program) -> frozenset[str]:
    """Routines that some statement hands over by name, itself or the object that runs it: these can be enabled."""
    names = set()
    bodies = [r.body for r in program.routines.values()]
    bodies += [e.body for table in program.externs.values() for e in table if e.body is not None]
    for body in bodies:
        for stmt in statements(body):
            if isinstance(stmt, s.Enable):
                names.add(stmt.name)
            for expr in expressions(stmt):
                refs = (part.ref if isinstance(part, s.Address) else part for part in within(expr))
                names |= {ref.name for ref in refs if isinstance(ref, s.Ref)}
    deferred = {d.routine for name, d in program.deferred.items() if name in names}
    return frozenset((names & set(program.routines)) | deferred)


def phase_of(player: Player, routine: str) -> str:
    """The phase a root belongs to."""
    role, _ = player.role(routine)
    return "run" if role is None or role.phase is None else role.phase
