"""Replays a schedule: whether several contexts can run like that, and whether its end shows what it claims to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product

from modelcheck.devices import instance, parameters, plain
from modelcheck.interpret.configuration import Configuration, Entrant, Moved
from modelcheck.interpret.entrants import closed_world, entrant, inner, kind_of, players
from modelcheck.interpret.player import Player, TooLong
from modelcheck.interpret.replay import Script
from modelcheck.interpret.state import Divergence
from modelcheck.interpret.stuck import deadlocks, lasting, ways_on
from modelcheck.interpret.values import Environment, Failure
from modelcheck.interpret.world import World
from modelcheck.record import dataclass
from modelcheck.resolve import Program
from modelcheck.source import Span
from modelcheck.verdict import RACES, Actor, Choice, Obligation, Property, Schedule, Step, Turn, Wait

MAX_BINDINGS = 64
"""Ways to bind the lock parameters of the contexts that are tried."""
MAX_UNLISTED = 64
"""Steps of a context that a turn may pass on the way to where it stands: what the system runs around a routine, the
rest of a statement after a call, the statements of a kernel routine that calls back."""
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
    program: Program,
    schedule: Schedule,
    obligation: Obligation,
    environments: Mapping[str, Environment] | None = None,
    player: Player | None = None,
) -> Outcome:
    """Runs `schedule` and tells whether its end breaks `obligation`. In the open world each routine runs in its own
    environment of `environments`; many schedules of one program share what `player` has compiled."""
    result = None
    try:
        for world, first, numbers in _worlds(program, schedule, environments or {}, player):
            for entrant in world.entrants:
                entrant.player.watches_locks = obligation.code is Property.R04
            for eager, whole in product((True, False), (False, True)):
                found = _Replaying(world, first, numbers, schedule, obligation, eager, whole).run()
                if found.reproduced:
                    return found
                result = result or found
    except Divergence as divergence:
        return Outcome(False, str(divergence), (), 0)
    return result or Outcome(False, "no lock fits the parameters of the routines", (), 0)


# ---- the contexts of a schedule ----


def _worlds(
    program: Program, schedule: Schedule, environments: Mapping[str, Environment], player: Player | None
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
    machines = players(program, {name: environments.get(name, Environment()) for name in sorted(routines)}, player)
    order = _callers_first(schedule)
    for actor in schedule.actors:
        if actor.within < 0:
            _fits(machines[actor.routine], actor, schedule)
        elif (caller := schedule.actors[actor.within]) and (caller.kind, caller.processor) != (
            actor.kind,
            actor.processor,
        ):
            raise Divergence(f"{actor.name} runs on the processor of {caller.name}, as {caller.kind}")
    choices = [machines[actor.routine].bindings(actor.routine) for actor in schedule.actors]
    for bindings in islice(product(*choices), MAX_BINDINGS):
        made: dict[int, Entrant] = {}
        for number in order:
            actor = schedule.actors[number]
            binding = {**bindings[number], **_devices(program, actor)}
            made[number] = _entrant(machines[actor.routine], actor, binding, made)
        world = World(program, [made[number] for number in sorted(made)], schedule.processors, closed=False)
        yield world, world.begin(), tuple(range(len(made)))


def _devices(program: Program, actor: Actor) -> dict[str, str]:
    """The devices that a context is given."""
    taken = parameters(program, program.routines[actor.routine])
    numbers = {choice.name.removeprefix("param "): choice.value for choice in actor.start}
    return {name: instance(device, numbers.get(name, 1)) for name, device in taken.items()}


def _callers_first(schedule: Schedule) -> list[int]:
    """The actors, those that run in a call-out of another behind that."""
    order: list[int] = []
    while len(order) < len(schedule.actors):
        ready = [n for n, a in enumerate(schedule.actors) if n not in order and (a.within < 0 or a.within in order)]
        if not ready:
            raise Divergence("there is no context in whose call-out another can run")
        order += ready
    return order


def _fits(machine: Player, actor: Actor, schedule: Schedule) -> None:
    """Whether a context that the system starts is of the kind and on the processor that it can be."""
    if kind_of(machine, actor.routine) != actor.kind:
        raise Divergence(f"{actor.name}: `{actor.routine}` is no {actor.kind}")
    if not 0 <= actor.processor < schedule.processors:
        raise Divergence(f"{actor.name}: there is no processor {actor.processor}")


def _entrant(machine: Player, actor: Actor, binding: Mapping[str, str], others: Mapping[int, Entrant]) -> Entrant:
    """The context of an actor; of one that runs within another the level is looked at when it starts."""
    given = next((c.value for c in actor.start if c.name == "irql"), None)
    if actor.within >= 0:
        level = -1 if given is None else given
        return inner(machine, actor.routine, others[actor.within], actor.within, level, binding)
    levels = machine.levels(actor.routine)
    level = levels[0] if given is None else given
    if level not in levels:
        raise Divergence(f"{actor.name}: irql = {level} is not possible at the start")
    return entrant(machine, actor.routine, actor.processor, level, binding)


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


class _Assumed(Divergence):
    """An assumption does not hold: what failed before it did so in a run, which ends there."""


class _Replaying:
    """One replay: the configuration so far, and the choices that are left to each actor.

    `eager`: who stands before a lock that it cannot take has come to wait at once, not only when its next turn says so
    again. `whole`: the rest of a kernel routine that calls back belongs to the turn before it as far as it goes, not
    only as far as that turn tells of it; and who waits is as the turn says.
    """

    def __init__(
        self,
        world: World,
        first: Configuration,
        numbers: Sequence[int],
        schedule: Schedule,
        obligation: Obligation,
        eager: bool,
        whole: bool,
    ) -> None:
        self.eager = eager
        self.whole = whole
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
        self.turns_left = [len(own) for own in steps]
        self.scripts = [_Script(a.start, own) for a, own in zip(schedule.actors, steps, strict=True)]
        self.failures: list[Failure] = []
        self.misplaced = ""
        self.behind: dict[int, list[Span]] = {}
        """For each context, the steps that were run already beyond those of its last turn."""
        self.ended: dict[int, list[Span]] = {}
        """For each context, what else came to its end since its last turn."""

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
            last = done + 1 == len(self.schedule.turns) and not self.schedule.waits
            shown = last and isinstance(trouble, _Assumed) and self._broken()
            reason = "" if shown else f"turn {done + 1}: {trouble}"
            return Outcome(shown, reason, tuple(self.failures), done + shown, self.misplaced)
        if self.schedule.turns and not self.schedule.waits and not self.schedule.turns[-1].event:
            self._behind(self.schedule.turns[-1].actor)
            if self._broken():
                return Outcome(True, "", tuple(self.failures), done, self.misplaced)
        reason = self._stuck() if self.schedule.waits else self._stands()
        return Outcome(not reason, reason, tuple(self.failures), done, self.misplaced)

    def _broken(self) -> bool:
        return any(f.breaks(self.obligation) for f in self.failures)

    def _turn(self, turn: Turn) -> None:
        number = self.numbers[turn.actor]
        self.scripts[turn.actor].next_turn()
        self.turns_left[turn.actor] -= 1
        if self.now.contexts[number].state is None:
            self._advance(turn.actor)
        match turn.event:
            case "":
                self._to_the_end(turn)
            case "waits":
                self._to_the_wait(turn)
            case "stands":
                self._to_the_place(turn)
            case "calls":
                self._to_the_call(turn)
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
        moved = self.world.step(self.now, number, script.at_start if starting else script.later, fine=True)
        self.failures += [f for f in moved.failures if f not in self.failures]
        if moved.part is not None and moved.part.discarded:
            raise _Assumed(f"an assumption of {name} does not hold")
        if not moved.after.real:
            raise Divergence(f"{name} sees shared variables as it cannot beside the others")
        self.now = moved.after
        self.behind[number] = [] if moved.part is None else list(moved.part.spans)
        self.ended.setdefault(number, []).extend(() if moved.part is None else moved.part.others)
        return moved

    def _to_the_end(self, turn: Turn) -> None:
        """Through to the end of the statement where the turn stands, with all that it acquires, and with what belongs
        to it behind that."""
        number = self.numbers[turn.actor]
        if self._is_harness(turn):
            self._around(turn)
        elif self._ended(number) and not self._is_inside(turn):
            return  # what its role asks for at the end was done when it ended
        elif not self._passed(number, turn):
            self._through(turn)
        self._rest(turn)

    def _passed(self, number: int, turn: Turn) -> bool:
        """Whether what the turn stands at has come to its end already; then it counts as this turn's."""
        behind = self.behind.get(number, [])
        place = next((n for n, span in enumerate(behind) if _overlap(span, turn.step.span)), None)
        if place is not None:
            del behind[: place + 1]
            return True
        passed = turn.step.span in self.ended.get(number, [])
        self.ended[number] = []
        return passed

    def _through(self, turn: Turn) -> None:
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            moved = self._advance(turn.actor)
            if moved.part is None:
                if self._broken() or self._waits_for_itself(number):
                    return
                raise Divergence(f"{self.schedule.actors[turn.actor].name} only comes to wait")
            if self._passed(number, turn):
                return
            if self._ended(number):
                break
            if self._broken() and moved.part.whole and not self.schedule.waits:
                return
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not come to {turn.step.span}")

    def _rest(self, turn: Turn) -> None:
        """What no turn stands at belongs to the one before it: what a kernel routine that calls back does behind its
        call, or behind the routine that it has called."""
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED):
            state = self.now.contexts[number].state
            if state is None or state.ended or self.behind.get(number) or self._broken():
                return
            if not self.world.entrants[number].player.is_rest(state):
                return
            if self._is_as_said(number, turn) and not (self.whole and self.turns_left[turn.actor]):
                return
            if not self.world.can_step(self.now, number) or self.world.can_come_to_wait(self.now, number):
                return
            self._advance(turn.actor)

    def _behind(self, actor: int) -> None:
        """What is behind the last turn without being a step of its own: calls as statements come to their end, and
        with them the routines in which they stand."""
        number = self.numbers[actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            state = self.now.contexts[number].state
            if state is None or state.ended or self._broken():
                return
            if not self.world.entrants[number].player.is_rest(state) or not self.world.can_step(self.now, number):
                return
            self._advance(actor)

    def _is_as_said(self, number: int, turn: Turn) -> bool:
        """Whether the level and the locks of a context are those that the turn tells of."""
        state = self.now.contexts[number].state
        return state is not None and state.irql == turn.step.irql and sorted(turn.step.held) in self._held(number)

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
        if wanted is None or wanted.subject != turn.lock or (self.whole and not self._is_as_said(number, turn)):
            return False
        return wanted.is_event or wanted.shared == (turn.mode == "shared")

    def _to_the_call(self, turn: Turn) -> None:
        """Up to a call-out that may come back into the driver with the role that the turn names."""
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            out = self.world.out(self.now, number)
            if out is not None and out.role == turn.lock:
                return
            self._advance(turn.actor)
            if self._ended(number):
                break
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not come to call out to `{turn.lock}`")

    def _to_the_place(self, turn: Turn) -> None:
        """The statement of the turn is the next of the context; what the system runs before is not listed."""
        number = self.numbers[turn.actor]
        for _ in range(MAX_UNLISTED + self._depth(number)):
            state = self.now.contexts[number].state
            assert state is not None
            if state.ended:
                break
            if self._stands_at(number, turn):
                return
            self._advance(turn.actor)
        raise Divergence(f"{self.schedule.actors[turn.actor].name} does not stand at {turn.step.span}")

    def _stands_at(self, number: int, turn: Turn) -> bool:
        """Whether the statement of the turn is next, or the access it is about."""
        state = self.now.contexts[number].state
        assert state is not None
        player, accesses = self.world.entrants[number].player, self.world.accesses(self.now, number)
        _, span, _ = player.next_place(state)
        there = _overlap(span, turn.step.span) or any(_overlap(a.span, turn.step.span) for a in accesses)
        if not self.whole:
            return there
        return (there or player.is_rest(state)) and any(plain(a.data) == self.obligation.subject for a in accesses)

    # what the system runs around a routine

    def _is_harness(self, turn: Turn) -> bool:
        """Whether a turn stands at the routine itself: its start, the `entry` and `exit` of its role, its end."""
        actor = self.schedule.actors[turn.actor]
        return turn.step.routine == actor.routine and _overlap(
            turn.step.span, self.world.program.routines[actor.routine].span
        )

    def _is_inside(self, turn: Turn) -> bool:
        """Whether a turn stands at something that the driver itself has written."""
        return turn.step.span.source in self.world.program.own

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
        held = self._held(self.numbers[turn.actor])
        name = self.schedule.actors[turn.actor].name
        if state.irql != turn.step.irql:
            self.misplaced = f"turn {number + 1}: {name} is at level {state.irql}, not {turn.step.irql}"
        elif sorted(turn.step.held) not in held:
            self.misplaced = f"turn {number + 1}: {name} holds {held[0]}, not {sorted(turn.step.held)}"

    def _held(self, number: int) -> list[list[tuple[str, str, int]]]:
        """What a context holds; if it runs in a call-out, with what its caller holds and without."""
        state = self.now.contexts[number].state
        within = self.world.entrants[number].within
        caller = None if within < 0 else self.now.contexts[within].state
        own = {} if state is None else dict(state.holds)
        beside = {} if caller is None else {k: h for k, h in own.items() if caller.holds.get(k) != h}
        held = [own] if caller is None else [own, beside]
        return [sorted((k, "shared" if h[0] else "exclusive", h[1]) for k, h in one.items()) for one in held]

    # what the end shows

    def _nested(self) -> str:
        """Why the last context does not stand before the acquisition with another lock held; "" if it does."""
        last = self.schedule.turns[-1]
        number = self.numbers[last.actor]
        state, wanted = self.now.contexts[number].state, self.world.wanted(self.now, number)
        if state is None or wanted is None or plain(wanted.subject) != self.obligation.subject:
            return f"nobody stands before `{self.obligation.subject}`"
        if not any(lock != wanted.subject for lock in state.holds):
            return "no other lock is held"
        return ""

    def _stands(self) -> str:
        """Why the last two contexts do not stand before accesses that break the obligation; "" if they do."""
        if self.obligation.code is Property.D04:
            return self._nested()
        if self.obligation.code not in RACES:
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
            never |= {n for n in never if plain(n) == self.obligation.subject} or {self.obligation.subject}
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
            if block.reason != wait.reason or (block.subject != wait.subject and wait.reason != "called"):
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
