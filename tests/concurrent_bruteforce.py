"""All interleavings of a few contexts, and all choices: the answer the engines for several contexts are compared with.

Configurations of the interpreter's `World` are explored and kept with every step between them, so that what can never
happen again is read off the graph: a context is stuck where no way on has a step of it. Nothing is an approximation;
beyond the limit `TooManyStates` is raised.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement, product

from modelcheck import syntax as s
from modelcheck.devices import bindings, parameters
from modelcheck.interpret import Environment, Failure, Machine
from modelcheck.interpret.configuration import Configuration, Entrant, Moved
from modelcheck.interpret.entrants import closed_world, entrant, players
from modelcheck.interpret.stuck import deadlocks, held_up, lasting
from modelcheck.interpret.walk import expressions, statements, within
from modelcheck.interpret.world import World
from modelcheck.resolve import Program
from modelcheck.source import Span
from modelcheck.verdict import Actor, Choice, Obligation, Property, Schedule, Step, Turn, Wait
from tests import bruteforce

MAX_STATES = 20_000


class TooManyStates(Exception):
    """There are more configurations than the limit."""


@dataclass(slots=True)
class Together:
    """What several contexts can break.

    `failures`: every obligation that fails in some run. `certain`: without acquisitions where a context only waits
    behind others that are stuck by themselves; whether these count as deadlocks too is a matter of reading. `firm`:
    those of them that further contexts, which could set an event, would not undo.

    `states`: how many configurations there are; `stuck`: how many of them have a context that can never go on.
    `inconsistent`: reasons that do not fit what the graph says (a promise about `held_up`, empty). `schedules`: a
    shortest run for each failure (of the open world: of the first choice of contexts that has it).
    """

    failures: set[Failure] = field(default_factory=set)
    certain: set[Failure] = field(default_factory=set)
    firm: set[Failure] = field(default_factory=set)
    states: int = 0
    stuck: int = 0
    inconsistent: list[str] = field(default_factory=list)
    schedules: dict[Failure, Schedule] = field(default_factory=dict)

    def keys(self) -> set[tuple[str, str, str]]:
        """(code, routine, subject) of each failure."""
        return {(f.code.value, f.routine, f.subject) for f in self.failures}

    def codes(self) -> set[str]:
        return {f.code.value for f in self.failures}

    def breaks(self, obligation: Obligation) -> bool:
        return any(f.breaks(obligation) for f in self.failures)

    def certainly_breaks(self, obligation: Obligation) -> bool:
        return any(f.breaks(obligation) for f in self.certain)


@dataclass(frozen=True, slots=True)
class Witness:
    """Where something breaks: behind a configuration and further turns, with the reasons of a deadlock."""

    at: int
    turns: tuple[Turn, ...] = ()
    waits: tuple[Wait, ...] = ()


class _Graph:
    """The configurations that can be reached, numbered, and who steps from which to which."""

    def __init__(self, world: World, first: Configuration, limit: int, scenario: str) -> None:
        self.world = world
        self.scenario = scenario
        self.found: list[Configuration] = []
        self.edges: list[tuple[int, int | None, int]] = []
        """From, who goes on (None: somebody only comes to wait), to."""
        self.came: dict[int, tuple[int, Turn]] = {}
        """How each configuration was first reached: from which, by which turn."""
        self.witnesses: dict[Failure, Witness] = {}
        self._numbers: dict[Hashable, int] = {}
        self._number(first)
        at = 0
        while at < len(self.found):
            if len(self.found) > limit:
                raise TooManyStates(f"more than {limit} configurations")
            self._expand(at)
            at += 1

    def _number(self, configuration: Configuration) -> int:
        key = configuration.key()
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.found)
            self.found.append(configuration)
        return known

    def _expand(self, at: int) -> None:
        now = self.found[at]
        for index in range(len(self.world.entrants)):
            if not self.world.can_step(now, index):
                continue
            for moved in self.world.successors(now, index):
                number = self._number(moved.after)
                waits = moved.part is None and now.contexts[index].state is not None
                self.edges.append((at, None if waits else index, number))
                if number and number not in self.came and moved.after.real:
                    self.came[number] = (at, self._turn(index, moved))
                if now.real:
                    for failure in moved.failures:
                        self.witnesses.setdefault(failure, Witness(at, (self._turn(index, moved),)))

    def _turn(self, index: int, moved: Moved) -> Turn:
        """A step of the world as a turn of a schedule; the start of a context stands before its first statement."""
        context = moved.after.contexts[index]
        state = context.state
        assert state is not None
        held = tuple(sorted((k, "shared" if h[0] else "exclusive", h[1]) for k, h in state.holds.items()))
        wanted = self.world.wanted(moved.after, index)
        if moved.part is not None:
            step = Step(moved.part.routine, moved.part.depth, moved.part.span, moved.choices, state.irql, held)
            if moved.part.whole or wanted is None:
                return Turn(index, step)
        else:
            routine, span, _ = self.world.entrants[index].player.next_place(state)
            step = Step(routine, 0, span, moved.choices, state.irql, held)
            if wanted is None or not context.waiting:
                return Turn(index, step, "stands")
        return Turn(index, step, "waits", wanted.subject, "shared" if wanted.shared else "")

    def _up_to_the_next(self, turn: Turn, later: list[Turn]) -> Turn:
        """What the system takes for a context before its routine, with the way to what it takes next."""
        routine = self.world.program.routines[self.world.entrants[turn.actor].routine]
        following = next((other for other in later if other.actor == turn.actor), turn)
        if turn.event or following.event != "waits" or {turn.step.span, following.step.span} != {routine.span}:
            return turn
        return replace(turn, event="waits", lock=following.lock, mode=following.mode)

    def schedule(self, failure: Failure) -> Schedule:
        """A shortest run that breaks what `failure` tells."""
        witness = self.witnesses[failure]
        turns = list(witness.turns)
        at = witness.at
        while at:
            at, turn = self.came[at]
            turns.insert(0, turn)
        turns = [self._up_to_the_next(turn, turns[n + 1 :]) for n, turn in enumerate(turns)]
        starts: dict[int, tuple[Choice, ...]] = {}
        for turn in turns:
            starts.setdefault(turn.actor, turn.step.choices)
        first = {turn.actor: number for number, turn in reversed(list(enumerate(turns)))}
        for number in first.values():
            turns[number] = replace(turns[number], step=replace(turns[number].step, choices=()))
        actors = tuple(
            Actor(f"{e.routine} {i}", e.routine, e.kind, e.processor, (Choice("irql", e.level), *starts.get(i, ())))
            for i, e in enumerate(self.world.entrants)
        )
        return Schedule(self.scenario, self.world.processors, actors, tuple(turns), witness.waits)

    def before(self, goals: Iterable[int]) -> set[int]:
        """The configurations with a way on to one of `goals`, these included."""
        sources: dict[int, list[int]] = {}
        for source, _, target in self.edges:
            sources.setdefault(target, []).append(source)
        reached = set(goals)
        pending = list(reached)
        while pending:
            for source in sources.get(pending.pop(), ()):
                if source not in reached:
                    reached.add(source)
                    pending.append(source)
        return reached

    def live(self) -> list[set[int]]:
        """For each context, the configurations from which it can make a step, now or later."""
        starts: list[set[int]] = [set() for _ in self.world.entrants]
        for source, index, _ in self.edges:
            if index is not None:
                starts[index].add(source)
        return [self.before(states) for states in starts]


def explore_together(world: World, first: Configuration, limit: int = MAX_STATES, scenario: str = "") -> Together:
    """Everything that the contexts of a world can do from `first`.

    Raises:
        TooManyStates: that is too much.
    """
    graph = _Graph(world, first, limit, scenario)
    result = Together(states=len(graph.found))
    live = graph.live()
    events = {event for now in graph.found for event in now.events}
    can_be_set = {e: graph.before(i for i, now in enumerate(graph.found) if e in now.events) for e in sorted(events)}
    certain: set[Failure] = set()
    firm: set[Failure] = set()
    later: dict[Failure, Witness] = {}
    """Deadlocks of which some contexts are only bound to come to wait; shown where there is no better run."""
    for number, now in enumerate(graph.found):
        stuck = frozenset(i for i, c in enumerate(now.contexts) if c.active and number not in live[i])
        held = held_up(world, now)
        wrong = held - stuck
        if wrong:
            result.inconsistent.append(f"{sorted(wrong)} go on from configuration {number}")
        if not now.real:
            continue
        for failure in world.races(now):
            graph.witnesses.setdefault(failure, Witness(number, _standing(world, now, failure)))
        if stuck:
            result.stuck += 1
            never = {e for e in world.program.events if number not in can_be_set.get(e, ())}
            blamed = at_fault(world, now, stuck)
            certain.update(f for f in deadlocks(world, now, stuck, never) if blamed.get((f.routine, f.span, f.subject)))
            blamed = at_fault(world, now, held)
            firm.update(f for f in deadlocks(world, now, held, never) if blamed.get((f.routine, f.span, f.subject)))
            for failure in deadlocks(world, now, held, never):
                graph.witnesses.setdefault(failure, Witness(number, (), _waits(world, now, held)))
            for failure in deadlocks(world, now, stuck, never):
                later.setdefault(failure, Witness(number, (), _waits(world, now, stuck)))
    others = {f for f in graph.witnesses if f.code not in (Property.D01, Property.D02, Property.D03)}
    result.certain, result.firm = others | certain, others | firm
    for failure, witness in later.items():
        graph.witnesses.setdefault(failure, witness)
    result.failures = set(graph.witnesses)
    result.schedules = {failure: graph.schedule(failure) for failure in graph.witnesses}
    return result


def at_fault(world: World, now: Configuration, stuck: frozenset[int]) -> dict[tuple[str, Span, str], bool]:
    """For each place where a stuck context stands, whether one that stands there does more than wait behind others: it
    waits for itself, for one that has ended, for an event, or for one that waits for it in turn."""
    edges: dict[int, set[int]] = {}
    for index in stuck:
        blocks = world.blocks(now, index)
        itself = any(block.reason == "self" for block in blocks)
        for block in blocks:
            if itself and block.reason in ("held", "writer", "ended"):
                continue  # it waits for itself, whoever else holds what it wants
            by = block.by
            if block.reason == "event":
                by = tuple(i for i in stuck if _signals(world, i, block.subject))
            if block.reason != "self":
                edges.setdefault(index, set()).update(i for i in by if i in stuck)
    found: dict[tuple[str, Span, str], bool] = {}
    for index in stuck:
        wanted = world.wanted(now, index)
        if wanted is None:
            continue
        place = (wanted.routine, wanted.span, wanted.subject)
        for block in world.obstacles(now, index, wanted):
            alone = block.reason in ("self", "ended", "event")
            if alone or any(index in _reached(edges, i) for i in block.by if i in stuck):
                found[place] = True
    return found


def _reached(edges: dict[int, set[int]], start: int) -> set[int]:
    seen, pending = {start}, [start]
    while pending:
        for target in edges.get(pending.pop(), ()):
            if target not in seen:
                seen.add(target)
                pending.append(target)
    return seen


def _signals(world: World, index: int, event: str) -> bool:
    """Whether a context's routine hands the event to a kernel routine that sets events."""
    program = world.program
    for stmt in statements(program.routines[world.entrants[index].routine].body):
        for expr in expressions(stmt):
            for part in within(expr):
                if isinstance(part, s.Call) and any(isinstance(a, s.Ref) and a.name == event for a in part.args):
                    bodies = [e.body for e in program.externs.get(part.name, ()) if e.body is not None]
                    inner = [x for body in bodies for x in statements(body)]
                    if any(isinstance(x, s.Signal) and x.op is s.SignalOp.SET for x in inner):
                        return True
    return False


def _standing(world: World, now: Configuration, failure: Failure) -> tuple[Turn, ...]:
    """The last turns of two contexts that race, one of them where `failure` is."""
    found = [(i, access) for i in range(len(world.entrants)) for access in world.accesses(now, i)]
    pair = next(
        (one, other)
        for one in found
        for other in found
        if one[0] != other[0]
        and (one[1].data, one[1].routine, one[1].span) == (failure.subject, failure.routine, failure.span)
        and other[1].data == failure.subject
        and (one[1].write or other[1].write)
        and not (one[1].atomic and other[1].atomic)
    )
    return tuple(Turn(i, Step(access.routine, 0, access.span), "stands") for i, access in pair)


def _waits(world: World, now: Configuration, stuck: frozenset[int]) -> tuple[Wait, ...]:
    """Why each context of a deadlock cannot go on, on whom of the others."""
    found = []
    for index in sorted(stuck):
        blocks = world.blocks(now, index)
        block = next((b for b in blocks if lasting(b, stuck)), blocks[0])
        by = tuple(i for i in block.by if i in stuck) or block.by
        found.append(Wait(index, block.reason, block.subject, by))
    return tuple(found)


def explore_scenario(program: Program, scenario: str, limit: int = MAX_STATES) -> Together:
    """Everything that can happen in a scenario.

    Raises:
        TooManyStates: that is too much.
    """
    return explore_together(*closed_world(program, scenario), limit, scenario)


# ---- the open world ----


def environments(program: Program) -> dict[str, Environment]:
    """What each root sees of the others, found by running them one after the other until nothing new is written."""
    machine = Machine(program)
    roots = bruteforce.roots_of(machine)
    results = bruteforce.analyse(program)
    return {root.name: bruteforce.environment_of(machine, root, roots, results) for root in roots}


def explore_open(
    program: Program,
    environments: dict[str, Environment],
    most: int = 2,
    processors: int = 2,
    limit: int = MAX_STATES,
) -> Together:
    """Up to `most` contexts of the roots of a program on up to `processors` processors: every choice of contexts, of
    their levels and of their processors, and every interference that the environments allow. A lower bound of what
    breaks in the open world, which has no such limits.

    Raises:
        TooManyStates: one of them is too much.
    """
    result = Together()
    for world in worlds(program, environments, most, processors):
        found = explore_together(world, world.begin(), limit)
        result.failures |= found.failures
        result.certain |= found.certain
        result.firm |= found.firm
        result.schedules = {**found.schedules, **result.schedules}
        result.states += found.states
        result.stuck += found.stuck
        result.inconsistent += found.inconsistent
    return result


def worlds(program: Program, environments: dict[str, Environment], most: int, processors: int) -> Iterator[World]:
    """The worlds with exactly `most` contexts: one that does not start is one less."""
    machines = players(program, environments)
    variants = [
        (root, level, {**binding, **taken})
        for root, machine in machines.items()
        for level in machine.levels(root)
        for binding in machine.bindings(root)
        for taken in bindings(program, program.routines[root])
    ]
    for chosen in combinations_with_replacement(range(len(variants)), most):
        for places in _places(most, processors):
            entrants: Sequence[Entrant] = [
                _on_devices(entrant(machines[root], root, place, level, binding))
                for (root, level, binding), place in zip((variants[v] for v in chosen), places, strict=True)
            ]
            yield World(program, entrants, processors, closed=False)


def _on_devices(context: Entrant) -> Entrant:
    """The context with the numbers of the devices that it is bound to."""
    taken = parameters(context.player.program, context.player.program.routines[context.routine])
    numbers = {name: int(context.binding[name].partition("#")[2] or 1) for name in taken}
    return replace(context, arguments=numbers)


def _places(contexts: int, processors: int) -> list[tuple[int, ...]]:
    """Ways to lay contexts on processors that differ in more than the numbers of the processors."""
    return [
        places
        for places in product(range(processors), repeat=contexts)
        if all(place <= max(places[:i], default=-1) + 1 for i, place in enumerate(places))
    ]
