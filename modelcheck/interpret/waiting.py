"""What contexts wait for: locks that others hold or wait for, events, their processor."""

from __future__ import annotations

from modelcheck.interpret.configuration import Block, Configuration
from modelcheck.interpret.player import Out, Wanted
from modelcheck.interpret.processors import Processors


class Waiting(Processors):
    """Tells what keeps a context from its next step."""

    def wanted(self, now: Configuration, index: int) -> Wanted | None:
        """What a context stands before, if that has to be waited for at all."""
        state = now.contexts[index].state
        if state is None or state.ended:
            return None
        return self.entrants[index].player.wanted(state)

    def out(self, now: Configuration, index: int) -> Out | None:
        """The call-out at which a context stands, None if it does not."""
        state = now.contexts[index].state
        return None if state is None or state.ended else self.entrants[index].player.out(state)

    def blocks(self, now: Configuration, index: int) -> tuple[Block, ...]:
        """All that keeps an active context from making a step now."""
        found: list[Block] = []
        above, displacing = self.above(now, index), self.displacing(now, index)
        if above:
            found.append(Block("interrupted", "", above))
        if displacing:
            found.append(Block("displaced", "", displacing))
        inner = self.called(now, index)
        if inner >= 0:
            found.append(Block("called", "", (inner,)))
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
            outer = tuple(i for i in self.outer(index) if self._holds(now, i, name))
            if outer:
                found.append(Block("held", name, outer))
        holders = self.holders(now, index, name, wanted.shared)
        ended = tuple(i for i in holders if not now.contexts[i].active)
        active = tuple(i for i in holders if now.contexts[i].active)
        writers = self._writers(now, index, name) if wanted.shared and not found else ()
        by_reason = (("held", active), ("ended", ended), ("writer", writers))
        return [*found, *(Block(reason, name, by) for reason, by in by_reason if by)]

    def holders(self, now: Configuration, index: int, lock: str, shared: bool) -> tuple[int, ...]:
        """The others whose hold of a lock does not go together with the mode wanted. Those that run in call-outs of one
        another are one context; what it holds is what the innermost of them does."""
        found = []
        own = self.carrier(index)
        for other, context in enumerate(now.contexts):
            if context.state is None or lock not in context.state.holds or self.carrier(other) == own:
                continue
            state = now.contexts[self.innermost(now, other)].state
            hold = None if state is None else state.holds.get(lock)
            if hold is not None and not (shared and hold[0]):
                found.append(other)
        return tuple(found)

    def _holds(self, now: Configuration, index: int, lock: str) -> bool:
        state = now.contexts[index].state
        return state is not None and lock in state.holds

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
