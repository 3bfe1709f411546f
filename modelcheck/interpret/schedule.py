"""Replays a schedule: whether several contexts can run like that, and whether its end shows what it claims to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

from modelcheck.interpret.configuration import Configuration, Entrant, Moved
from modelcheck.interpret.entrants import closed_world, entrant, kind_of, players
from modelcheck.interpret.player import TooLong
from modelcheck.interpret.replay import Script
from modelcheck.interpret.state import Divergence
from modelcheck.interpret.stuck import deadlocks, lasting, ways_on
from modelcheck.interpret.values import Environment, Failure
from modelcheck.interpret.world import World
from modelcheck.resolve import Program
from modelcheck.source import Span
from modelcheck.verdict import Choice, Obligation, Property, Schedule, Step, Turn, Wait

MAX_BINDINGS = 64
"""Ways to bind the lock parameters of the contexts that are tried."""
MAX_UNLISTED = 16
"""Steps of a context that a turn may pass on the way to where it stands: what the system runs around a routine, the
rest of a statement after a call."""
MAX_WAYS = 20_000
"""Configurations that are explored to see that a context never goes on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a schedule. `failures`: what failed in the last turn that was run, or what its end shows.
    `reason`: at which turn and why it is no run, or why it does not show what it claims; "" when it does. `turns`
    counts the turns that were run."""

    reproduced: bool
    reason: str
    failures: tuple[Failure, ...]
    turns: int
    misplaced: str = ""
    """The first turn behind which the level or the locks held are not as the schedule says."""


def replay_schedule(
    program: Program, schedule: Schedule, obligation: Obligation, environments: Mapping[str, Environment] | None = None
) -> Outcome:
    """Runs `schedule` and tells whether its end breaks `obligation`. In the open world each routine runs in its own
    environment of `environments`."""
    result = None
    try:
        for world, first, numbers in _worlds(program, schedule, environments or {}):
            for eager in (True, False):
                found = _Replaying(world, first, numbers, schedule, obligation, eager).run()
                if found.reproduced:
                    return found
                result = result or found
    except Divergence as divergence:
        return Outcome(False, str(divergence), (), 0)
    return result or Outcome(False, "no lock fits the parameters of the routines", (), 0)


# ---- the contexts of a schedule ----


def _worlds(
    program: Program, schedule: Schedule, environments: Mapping[str, Environment]
) -> Iterator[tuple[World, Configuration, tuple[int, ...]]]:
    """The worlds the schedule can belong to, with the number that each of its actors has there."""
    if not schedule.actors:
        raise Divergence("the schedule has no contexts")
    if schedule.scenario:
        if schedule.scenario not in program.scenarios:
            raise Divergence(f"there is no scenario `{schedule.scenario}`")
        starts = {c.name: c.value for actor in schedule.actors for c in actor.start}
        given = {name.removeprefix("var "): value for name, value in starts.items() if name.startswith("var ")}
        world, first = closed_world(program, schedule.scenario, given)
        yield world, first, _assigned(world, schedule)
        return
    routines = {actor.routine for actor in schedule.actors}
    machines = players(program, {name: environments.get(name, Environment()) for name in sorted(routines)})
    for actor in schedule.actors:
        if kind_of(machines[actor.routine], actor.routine) != actor.kind:
            raise Divergence(f"{actor.name}: `{actor.routine}` is no {actor.kind}")
        if not 0 <= actor.processor < schedule.processors:
            raise Divergence(f"{actor.name}: there is no processor {actor.processor}")
    choices = [machines[actor.routine].bindings(actor.routine) for actor in schedule.actors]
    for bindings in islice(product(*choices), MAX_BINDINGS):
        entrants: list[Entrant] = []
        for actor, binding in zip(schedule.actors, bindings, strict=True):
            machine = machines[actor.routine]
            levels = machine.levels(actor.routine)
            level = next((c.value for c in actor.start if c.name == "irql"), levels[0])
            if level not in levels:
                raise Divergence(f"{actor.name}: irql = {level} is not possible at the start")
            entrants.append(entrant(machine, actor.routine, actor.processor, level, binding))
        world = World(program, entrants, schedule.processors, closed=False)
        yield world, world.begin(), tuple(range(len(entrants)))


def _assigned(world: World, schedule: Schedule) -> tuple[int, ...]:
    """Which context of the scenario each actor is."""
    free = list(range(len(world.entrants)))
    found = []
    for actor in schedule.actors:
        start = {c.name: c.value for c in actor.start}
        fitting = (i for i in free if _is(world.entrants[i], actor.routine, actor.kind, actor.processor, start))
        number = next(fitting, None)
        if number is None:
            raise Divergence(f"{actor.name}: the scenario `{schedule.scenario}` has no such context")
        free.remove(number)
        found.append(number)
    return tuple(found)


def _is(candidate: Entrant, routine: str, kind: str, processor: int, start: Mapping[str, int]) -> bool:
    given = {f"param {name}": value for name, value in candidate.arguments.items()}
    return (
        (candidate.routine, candidate.kind, candidate.processor) == (routine, kind, processor)
        and start.get("irql", candidate.level) == candidate.level
        and all(start.get(name, value) == value for name, value in given.items())
    )


# ---- turn by turn ----


class _Script(Script):
    """The choices of one context in all its turns. A `try` that fails since others hold the lock is no choice here; a
    schedule may still list it."""

    def __init__(self, start: tuple[Choice, ...], steps: Sequence[Step]) -> None:
        super().__init__(start, steps)
        counts = [len(step.choices) for step in steps]
        self.left = [sum(counts[n:]) for n in range(len(counts))]
        """How many choices each turn and those behind it have."""
        self.turns = 0

    def next_turn(self) -> None:
        """What earlier turns list and nothing asked for is passed over."""
        while len(self.queue) > self.left[self.turns] and self._is_vain():
            self.queue.popleft()
        self.turns += 1

    def later(self, name: str, allowed: Sequence[int]) -> int:
        while name != "try" and self.queue and self._is_vain():
            self.queue.popleft()
        return super().later(name, allowed)

    def _is_vain(self) -> bool:
        return (self.queue[0].name, self.queue[0].value) == ("try", 0)


class _Replaying:
    """One replay: the configuration so far, and the choices that are left to each actor. `eager`: who stands before a
    lock that it cannot take has come to wait at once, not only when its next turn says so again."""

    def __init__(
        self,
        world: World,
        first: Configuration,
        numbers: Sequence[int],
        schedule: Schedule,
        obligation: Obligation,
        eager: bool,
    ) -> None:
        self.eager = eager
        self.world = world
        self.now = first
        self.numbers = tuple(numbers)
        self.schedule = schedule
        self.obligation = obligation
        steps: list[list[Step]] = [[] for _ in schedule.actors]
        for turn in schedule.turns:
            if not 0 <= turn.actor < len(steps):
                raise Divergence(f"there is no context {turn.actor}")
            steps[turn.actor].append(turn.step)
        self.scripts = [_Script(a.start, own) for a, own in zip(schedule.actors, steps, strict=True)]
        self.failures: list[Failure] = []
        self.misplaced = ""
        self.behind: dict[int, list[Span]] = {}
        """For each context, the other statements of the `atomic` block that its last step ran."""

    def run(self) -> Outcome:
        done = 0
        try:
            for number, turn in enumerate(self.schedule.turns):
                self.failures = []
                self._turn(turn)
                self._compare(number, turn)
                done = number + 1
                if not self.schedule.waits and self._broken():
                    return Outcome(True, "", tuple(self.failures), done, self.misplaced)
        except (Divergence, TooLong) as trouble:
            return Outcome(False, f"turn {done + 1}: {trouble}", tuple(self.failures), done, self.misplaced)
        reason = self._stuck() if self.schedule.waits else self._stands()
        return Outcome(not reason, reason, tuple(self.failures), done, self.misplaced)

    def _broken(self) -> bool:
        return any(f.breaks(self.obligation) for f in self.failures)

    def _turn(self, turn: Turn) -> None:
        number = self.numbers[turn.actor]
        self.scripts[turn.actor].next_turn()
        if self.now.contexts[number].state is None:
            self._advance(turn.actor)
        match turn.event:
            case "":
                self._to_the_end(turn)
            case "waits":
                self._to_the_wait(turn)
            case "stands":
                self._to_the_place(turn)
            case _:
                raise Divergence(f"there is no event `{turn.event}`")

    def _advance(self, actor: int) -> Moved:
        """One step of a context, if it may take one now."""
        number, name = self.numbers[actor], self.schedule.actors[actor].name
        hindered = self.world.hindered(self.now, number)
        if hindered:
            raise Divergence(f"{name} cannot run: {hindered}")
        if not self.world.has_step(self.now, number):
            wanted = self.world.wanted(self.now, number)
            assert wanted is not None
            raise Divergence(f"{name} has to wait for `{wanted.subject}`")
        script = self.scripts[actor]
        starting = self.now.contexts[number].state is None
        moved = self.world.step(self.now, number, script.at_start if starting else script.later)
        self.failures += [f for f in moved.failures if f not in self.failures]
        if moved.part is not None and moved.part.discarded:
            raise Divergence(f"an assumption of {name} does not hold")
        if not moved.after.real:
            raise Divergence(f"{name} sees shared variables as it cannot beside the others")
        self.now = moved.after
        self.behind[number] = [] if moved.part is None else list(moved.part.spans[1:])
        return moved

    def _to_the_end(self, turn: Turn) -> None:
        """Through to the end of the statement where the turn stands, with all that it acquires."""
        number = self.numbers[turn.actor]
        if self._is_harness(turn):
            self._around(turn)
            return
        behind = self.behind.get(number, [])
        place = next((n for n, span in enumerate(behind) if _overlap(span, turn.step.span)), None)
        if place is not None:
            del behind[: place + 1]
            return
        for _ in range(MAX_UNLISTED + self._depth(number)):
            moved = self._advance(turn.actor)
            if moved.part is None:
                if self._broken() or self._waits_for_itself(number):
                    return
                raise Divergence(f"{self.schedule.actors[turn.actor].name} only comes to wait")
            if any(_overlap(span, turn.step.span) for span in moved.part.spans):
                return
            if self._ended(number):
                break
            if self._broken() and moved.part.whole and not self.schedule.waits:
                return
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not come to {turn.step.span}")

    def _waits_for_itself(self, number: int) -> bool:
        return any(b.reason == "self" for b in self.world.blocks(self.now, number))

    def _to_the_wait(self, turn: Turn) -> None:
        """Up to the acquisition or the wait that the turn names; a writer that cannot take the lock comes to wait."""
        number = self.numbers[turn.actor]
        for done in range(MAX_UNLISTED + self._depth(number)):
            if self._stands_before(number, turn):
                if (self.eager or not done) and self.world.can_come_to_wait(self.now, number):
                    self._advance(turn.actor)
                return
            self._advance(turn.actor)
            if self._ended(number):
                break
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not come to stand before `{turn.lock}`")

    def _stands_before(self, number: int, turn: Turn) -> bool:
        wanted = self.world.wanted(self.now, number)
        if wanted is None or wanted.subject != turn.lock:
            return False
        return wanted.is_event or wanted.shared == (turn.mode == "shared")

    def _to_the_place(self, turn: Turn) -> None:
        """The statement of the turn is the next of the context; what the system runs before is not listed."""
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            state = self.now.contexts[number].state
            assert state is not None
            if state.ended:
                break
            _, span, _ = self.world.entrants[number].player.next_place(state)
            if _overlap(span, turn.step.span) or any(
                _overlap(a.span, turn.step.span) for a in self.world.accesses(self.now, number)
            ):
                return
            self._advance(turn.actor)
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not stand at {turn.step.span}")

    # what the system runs around a routine

    def _is_harness(self, turn: Turn) -> bool:
        """Whether a turn stands at the routine itself: its start, the `entry` and `exit` of its role, its end."""
        actor = self.schedule.actors[turn.actor]
        return turn.step.routine == actor.routine and _overlap(
            turn.step.span, self.world.program.routines[actor.routine].span
        )

    def _around(self, turn: Turn) -> None:
        """Up to the first statement of the body; behind the body, to the end. In the body it is no step."""
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            if self._broken() or self._ended(number) or self._begins_statement(number):
                return
            self._advance(turn.actor)

    def _begins_statement(self, number: int) -> bool:
        """Whether a statement of a routine is next, not the rest of one or what the system runs."""
        state = self.now.contexts[number].state
        return state is not None and self.world.entrants[number].player.next_place(state)[2]

    def _ended(self, number: int) -> bool:
        state = self.now.contexts[number].state
        return state is not None and bool(state.ended)

    def _depth(self, number: int) -> int:
        state = self.now.contexts[number].state
        return 0 if state is None else len(state.frames)

    def _compare(self, number: int, turn: Turn) -> None:
        """Notes the first turn behind which a context is not as the schedule says."""
        state = self.now.contexts[self.numbers[turn.actor]].state
        if self.misplaced or turn.event == "stands" or state is None or self.behind.get(self.numbers[turn.actor]):
            return
        held = sorted((lock, "shared" if h[0] else "exclusive", h[1]) for lock, h in state.holds.items())
        name = self.schedule.actors[turn.actor].name
        if state.irql != turn.step.irql:
            self.misplaced = f"turn {number + 1}: {name} is at level {state.irql}, not {turn.step.irql}"
        elif held != sorted(turn.step.held):
            self.misplaced = f"turn {number + 1}: {name} holds {held}, not {sorted(turn.step.held)}"

    # what the end shows

    def _nested(self) -> str:
        """Why the last context does not stand before the acquisition with another lock held; "" if it does."""
        last = self.schedule.turns[-1]
        number = self.numbers[last.actor]
        state, wanted = self.now.contexts[number].state, self.world.wanted(self.now, number)
        if state is None or wanted is None or wanted.subject != self.obligation.subject:
            return f"nobody stands before `{self.obligation.subject}`"
        if not any(lock != wanted.subject for lock in state.holds):
            return "no other lock is held"
        return ""

    def _stands(self) -> str:
        """Why the last two contexts do not stand before accesses that break the obligation; "" if they do."""
        if self.obligation.code is Property.D04:
            return self._nested()
        if self.obligation.code is not Property.R03:
            return "the obligation does not fail"
        last = [turn for turn in self.schedule.turns[-2:] if turn.event == "stands"]
        if len(last) != 2 or last[0].actor == last[1].actor:
            return "the last turns are not those of two contexts that stand before an access"
        self.failures = list(self.world.races(self.now))
        return "" if self._broken() else "the contexts do not stand before accesses that race"

    def _stuck(self) -> str:
        """Why the contexts in `waits` can go on after all, or why the obligation is not one of theirs; "" if they
        cannot and it is."""
        waits, world = self.schedule.waits, self.world
        if any(not 0 <= i < len(self.numbers) for wait in waits for i in (wait.actor, *wait.by)):
            return "there is no such context"
        stuck = frozenset(self.numbers[wait.actor] for wait in waits)
        for number in sorted(stuck):
            if world.can_come_to_wait(self.now, number):
                self.now = world.step(self.now, number, lambda name, allowed: allowed[0]).after
        lasts = True
        for wait in waits:
            name, number = self.schedule.actors[wait.actor].name, self.numbers[wait.actor]
            if not self.now.contexts[number].active:
                return f"{name} has not started or has ended"
            if not self._is_reason(wait):
                return f"{name} does not wait like that: {wait.reason} `{wait.subject}`"
            by = frozenset(self.numbers[i] for i in wait.by)
            lasts &= wait.reason in ("self", "ended", "event") or by <= stuck
            lasts &= any(lasting(block, stuck) for block in world.blocks(self.now, number))
        never = frozenset(wait.subject for wait in waits if wait.reason == "event")
        if self.obligation.code is Property.D03:
            never |= {self.obligation.subject}
        if never or not lasts:
            reason = self._exhausted(stuck, never)
            if reason:
                return reason
        self.failures = list(deadlocks(world, self.now, stuck, never))
        return "" if self._broken() else "none of the contexts stands where the obligation does"

    def _is_reason(self, wait: Wait) -> bool:
        """Whether a context waits for that reason, on the contexts named."""
        by = {self.numbers[i] for i in wait.by}
        for block in self.world.blocks(self.now, self.numbers[wait.actor]):
            if (block.reason, block.subject) != (wait.reason, wait.subject):
                continue
            if wait.reason in ("self", "event"):
                return True
            if by and by <= set(block.by):
                return True
        return False

    def _exhausted(self, stuck: frozenset[int], never: frozenset[str]) -> str:
        """Why it is not shown that `stuck` never go on and that the events of `never` are never set; "" if it is."""
        ways = ways_on(self.world, self.now, MAX_WAYS)
        goes_on = sorted(ways.steppers & stuck)
        if goes_on:
            return f"{self._name(goes_on[0])} can go on"
        set_after_all = sorted(ways.events & never)
        if set_after_all:
            return f"`{set_after_all[0]}` can still be set"
        return "" if ways.complete else "there are too many ways on to see that none of them goes on"

    def _name(self, number: int) -> str:
        if number in self.numbers:
            return self.schedule.actors[self.numbers.index(number)].name
        return self.world.entrants[number].routine


def _overlap(one: Span, other: Span) -> bool:
    """Whether two places are the same or one lies in the other."""
    return (
        one.source.name == other.source.name
        and one.start < max(other.end, other.start + 1)
        and other.start < max(one.end, one.start + 1)
    )
