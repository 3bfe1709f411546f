"""Who can never go on: by reasons that hold one another up, and by exhausting all ways on."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable

from modelcheck.interpret.configuration import Block, Configuration
from modelcheck.interpret.player import TooLong, Wanted
from modelcheck.interpret.values import Failure
from modelcheck.interpret.world import World
from modelcheck.record import dataclass
from modelcheck.verdict import Property


def lasting(block: Block, stuck: Collection[int]) -> bool:
    """Whether a reason to wait never goes away if the contexts in `stuck` never go on."""
    return block.reason in ("self", "ended") or (block.reason != "event" and any(i in stuck for i in block.by))


def held_up(world: World, now: Configuration) -> frozenset[int]:
    """The greatest set of contexts each of which waits for ever if the others of the set do. All of them never go on;
    there may be more (whoever waits for an event, or for what runs round in a loop)."""
    stuck = {i for i, context in enumerate(now.contexts) if context.active}
    while True:
        loose = {i for i in stuck if not any(lasting(b, stuck) for b in world.blocks(now, i))}
        if not loose:
            return frozenset(stuck)
        stuck -= loose


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways on from a configuration. `steppers`: who goes on or starts on some of them (to come to wait is not to go
    on); `events`: which events are set somewhere on them. `complete` is False where a limit was reached."""

    steppers: frozenset[int]
    events: frozenset[str]
    complete: bool


def ways_on(world: World, now: Configuration, limit: int) -> Ways:
    """Explores every continuation, up to `limit` configurations."""
    steppers: set[int] = set()
    events = set(now.events)
    seen: set[Hashable] = {now.key()}
    pending = deque([now])
    while pending:
        current = pending.popleft()
        events |= current.events
        for index in range(len(world.entrants)):
            if not world.can_step(current, index):
                continue
            if not world.can_come_to_wait(current, index):
                steppers.add(index)
            try:
                moves = list(world.successors(current, index))
            except TooLong:
                return Ways(frozenset(steppers), frozenset(events), False)
            for moved in moves:
                key = moved.after.key()
                if key not in seen:
                    seen.add(key)
                    pending.append(moved.after)
        if len(seen) > limit:
            return Ways(frozenset(steppers), frozenset(events), False)
    return Ways(frozenset(steppers), frozenset(events), True)


def deadlocks(
    world: World, now: Configuration, stuck: Collection[int], never_set: Collection[str]
) -> tuple[Failure, ...]:
    """D01, D02 and D03 of the contexts in `stuck`, which never go on: where each of them stands. `never_set` are the
    events that nobody sets on any way on."""
    found: dict[Failure, None] = {}
    for index in sorted(stuck):
        wanted = world.wanted(now, index)
        if wanted is None:
            out = world.out(now, index)
            if out is not None and world.called(now, index) in stuck:
                found[Failure(Property.D01, out.routine, out.span, out.callee)] = None
            continue
        blocks = world.obstacles(now, index, wanted)
        for block in blocks[:1] if blocks and blocks[0].reason == "self" else blocks:
            if block.reason == "event":
                if block.subject in never_set:
                    found[_failure(Property.D03, wanted)] = None
            elif lasting(block, stuck) or not (world.above(now, index) or world.displacing(now, index)):
                found[_failure(Property.D01, wanted)] = None
                if block.reason == "held" and world.player.tables.spins(wanted.subject):
                    below = world.beneath(now, index)
                    if any(i in below and i in stuck for i in block.by):
                        found[_failure(Property.D02, wanted)] = None
    return tuple(found)


def _failure(code: Property, wanted: Wanted) -> Failure:
    return Failure(code, wanted.routine, wanted.span, wanted.subject)
