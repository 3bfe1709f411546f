"""Several contexts on several processors: who may run, and what a step of one does to all (section 7 of
docs/language.md).

An `Entrant` is a context as it is given, a `Configuration` a state of the whole: a value that can be compared. `World`
tells who may run (`hindered`), what a context waits for (`blocks`), and makes steps. In a scenario shared variables,
ghost fields and lives of locks are one common store; in the open world each context sees its own, with the
interference of its environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modelcheck.interpret.configuration import Block, Branching, Configuration, Context, Moved
from modelcheck.interpret.player import Access, Player, Wanted
from modelcheck.interpret.state import State
from modelcheck.interpret.values import INITIALISED, RETURNED, Choose, Failure
from modelcheck.interpret.waiting import Waiting
from modelcheck.record import replace
from modelcheck.verdict import Property


class World(Waiting):
    """Several contexts together: makes their steps."""

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

    def _set_up(self, now: Configuration, index: int) -> Player:
        """The player of a context, told what the others hold and have signalled."""
        player = self.entrants[index].player

        def admits(lock: str, shared: bool) -> bool:
            return not self.holders(now, index, lock, shared) and not (shared and self._writers(now, index, lock))

        player.admits, player.sole = admits, lambda lock: not self.holders(now, index, lock, False)
        player.events, player.enabled = now.events, now.enabled
        player.comes_back = not self.closed and bool(self.inside[index])
        player.tries = (1,) if self.closed else (0, 1)
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

    def step(self, now: Configuration, index: int, choose: Choose, fine: bool = False) -> Moved:
        """One step of a context that `can_step`; `fine` as in `Player.part`.

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
        part = self._set_up(now, index).part(state, choose, fine)
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
                return entrant.level if entrant.level >= 0 else self.irql(now, entrant.within)
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
            if entrant.within >= 0:
                fits = self._come_back(now, index, state) and fits
                after = replace(after, real=after.real and fits)
            if not fits:
                state.ended, state.holds = RETURNED, {}
        if not state.ended:
            entered = self._with_common(now, state)
            failures = entrant.player.enter(entered, choose)
            state.frames = entered.frames
        if entrant.kind != "thread" and entrant.within < 0 and not state.ended:
            stack = now.stacks[entrant.processor]
            after = _restacked(after, entrant.processor, (*stack, index))
        return Moved(self._put(after, index, state), failures)

    def _come_back(self, now: Configuration, index: int, state: State) -> bool:
        """A context that starts in a call-out holds what its caller holds; tells whether both see the same of what
        that guards."""
        caller = now.contexts[self.entrants[index].within].state
        assert caller is not None
        state.holds = dict(caller.holds)
        state.frames[0].holds = dict(caller.holds)
        return all(state.store["var", name] == caller.store["var", name] for name in self._guarded(caller))

    def _guarded(self, state: State) -> list[str]:
        """The variables whose guard a context holds."""
        return [name for name, guards in self.player.guards.items() if any(guard in state.holds for guard in guards)]

    def _go_back(self, after: Configuration, index: int) -> Configuration:
        """A context that ran in a call-out has ended: its caller goes on with what that has left."""
        within = self.entrants[index].within
        state, caller = after.contexts[index].state, after.contexts[within].state
        assert state is not None
        assert caller is not None
        caller = caller.copy()
        for name in self._guarded(state):
            caller.store["var", name] = state.store["var", name]
        caller.irql, caller.holds = state.irql, dict(state.holds)
        state.holds = {}
        contexts = list(after.contexts)
        contexts[index] = Context(state)
        contexts[within] = Context(caller)
        return replace(after, contexts=tuple(contexts))

    def _come_to_wait(self, now: Configuration, index: int, choose: Choose) -> Moved:
        """A writer has come to wait; or a context waits for itself, which breaks B01."""
        context = now.contexts[index]
        assert context.state is not None
        player = self.entrants[index].player
        failures: tuple[Failure, ...] = ()
        wanted = self.wanted(now, index)
        if wanted is not None and wanted.subject in context.state.holds:
            failures = player.refused(self._with_common(now, context.state), choose)
        waits = Context(context.state, True)
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
        context = Context(state)
        contexts = (*after.contexts[:index], context, *after.contexts[index + 1 :])
        after = replace(after, contexts=contexts, common=common, lives=lives)
        if state.ended and self.entrants[index].within >= 0:
            after = self._go_back(after, index)
        return after if self.closed or self._agree(after) else replace(after, real=False)

    def _agree(self, now: Configuration) -> bool:
        """Whether all who hold the guard of a variable see one value of it."""
        for name, guards in self.player.guards.items():
            for guard in guards:
                seen = {
                    c.state.store["var", name]
                    for i, c in enumerate(now.contexts)
                    if c.state is not None and not c.state.ended and guard in c.state.holds and self.called(now, i) < 0
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
        if context.state is None or context.state.ended:
            return ()
        found: dict[Access, None] = dict.fromkeys(player.freed(context.state) if player.watches_locks else ())
        prefix: list[int] | None = [] if player.may_touch(context.state) else None
        while prefix is not None:
            branching = Branching(prefix)
            part = self._set_up(now, index).part(self._with_common(now, context.state), branching)
            if not part.discarded:
                found.update(dict.fromkeys(part.accesses))
            prefix = branching.next_prefix()
        return tuple(found)

    def races(self, now: Configuration) -> tuple[Failure, ...]:
        """R03 or R04 of every access that a context stands before while another stands before one that does not go with
        it."""
        standing = [self.accesses(now, index) for index in range(len(self.entrants))]
        found: dict[Failure, None] = {}
        for index, mine in enumerate(standing):
            for theirs in standing[index + 1 :]:
                for one in mine:
                    for other in theirs:
                        if one.data == other.data and (one.write or other.write) and not (one.atomic and other.atomic):
                            found.update(dict.fromkeys((self._race(one), self._race(other))))
        return tuple(found)

    def _race(self, access: Access) -> Failure:
        code = Property.R04 if access.data in self.player.tables.instances else Property.R03
        return Failure(code, access.routine, access.span, access.data)


def _restacked(now: Configuration, processor: int, stack: tuple[int, ...]) -> Configuration:
    return replace(now, stacks=(*now.stacks[:processor], stack, *now.stacks[processor + 1 :]))
