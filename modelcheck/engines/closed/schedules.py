"""Ways through the states of a scenario as schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from modelcheck.engines.closed.local import RUNNING, Incomplete, Micro
from modelcheck.engines.closed.search import FIRST, Fault, Path, Search, State
from modelcheck.engines.closed.stuck import Deadlock, may_set
from modelcheck.engines.closed.symmetry import Exchange, composed
from modelcheck.ir import FREE, Sort, unhold
from modelcheck.record import dataclass, replace
from modelcheck.verdict import Actor, Choice, Schedule, Step, Turn, Wait


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one context."""

    actor: int
    micro: Micro
    unseen: bool = False


def fault(search: Search, number: int) -> Schedule:
    """The way to a step that breaks an obligation."""
    found = search.found.broken[number]
    actor = found.exchange[found.actor]
    moves, values = _before(search, found, number, actor)
    return _schedule(search, [*moves, *(Move(actor, micro) for micro in found.path)], values, ())


def _before(search: Search, found: Fault, number: int, actor: int) -> tuple[list[Move], dict[str, int]]:
    """The steps up to the state of a fault; none where a context breaks something at the very start."""
    if found.state is None:
        return [], search.found.opening[number]
    return _moves(search, found.state, found.exchange, {actor}, actor)


def deadlock(search: Search, found: Deadlock) -> Schedule:
    """The way to a state from where contexts can never go on."""
    to = found.exchange
    waits = tuple(
        replace(wait, actor=to[wait.actor], by=tuple(to[i] for i in wait.by))
        for wait in sorted(found.waits, key=lambda wait: to[wait.actor])
    )
    needed = {actor for wait in waits for actor in (wait.actor, *wait.by)}
    needed |= {i for wait in waits if wait.reason == "event" for i in _setters(search, wait.subject)}
    moves, values = _moves(search, found.state, to, needed)
    return _schedule(search, moves, values, waits)


def race(search: Search, state: State, one: int, two: int) -> Schedule:
    """The way to a state in which two contexts stand before their accesses."""
    moves, values = _moves(search, state, search.symmetry.same, {one, two})
    made = _schedule(search, moves, values, ())
    first, second = (two, one) if moves and moves[-1].actor == two else (one, two)
    return replace(made, turns=(*made.turns, _standing(search, state, first), _standing(search, state, second)))


def _setters(search: Search, event: str) -> Iterator[int]:
    """The contexts that have a statement that sets the event: where it stays unset, all have passed theirs by."""
    for at, cell in enumerate(search.layout.common):
        if cell.name == f"event {event}":
            yield from (i for i in range(search.count) if may_set(search, i, at))


def _moves(
    search: Search, state: State, exchange: Exchange, needed: set[int], last: int = -1
) -> tuple[list[Move], dict[str, int]]:
    """The steps on the way to a state behind an exchange, and what was open at its start. Contexts that did something
    only at the very start, unseen, take part where they are `needed`; `last` is the one that goes on from there."""
    found, legs, end = search.found, list[Leg](), search.exchanged(state, exchange)
    while (arrival := found.arrivals[state]).before is not None:
        after = state[FIRST + arrival.exchange[arrival.actor]]
        exchange = composed(arrival.exchange, exchange)
        legs.append(Leg(exchange[arrival.actor], arrival.path, after))
        state = arrival.before
    legs = in_fewest_blocks(search, search.exchanged(state, exchange), legs[::-1], end, last)
    taking_part = needed | {leg.actor for leg in legs}
    unseen = ((exchange[i], path) for i, path in found.started[state])
    started = {i: [Move(i, micro, True) for micro in path] for i, path in unseen if i in taking_part}
    moves = [Move(leg.actor, micro, n > 0) for leg in legs for n, micro in enumerate(leg.path)]
    return _delayed(search, started, moves), found.values[state]


@dataclass(frozen=True, slots=True)
class Leg:
    """A step of a context with all that follows it unseen, and the local state that it leads to."""

    actor: int
    path: Path
    after: int


MAX_ORDERS = 20_000
"""Points that are come to at most while the legs of a run are put into another order."""

_Point: TypeAlias = tuple[State, tuple[int, ...], int]
"""A state, how many legs of each context lead there, and the context that went last, -1 at the start."""


def in_fewest_blocks(search: Search, start: State, legs: list[Leg], end: State, last: int) -> list[Leg]:
    """The same legs in an order that leads to the same state and in which contexts take turns least often, if that is
    found; `last` goes on from there. Breadth-first over the blocks in which one context goes alone."""
    own = [[leg for leg in legs if leg.actor == actor] for actor in range(search.count)]
    first: _Point = (start, (0,) * search.count, -1)
    before: dict[_Point, tuple[_Point, Leg]] = {}
    level = [first]
    while level and len(before) < MAX_ORDERS:
        following: list[_Point] = []
        for begin in level:
            for actor in (i for i in range(search.count) if i != begin[2]):
                here = begin
                for leg in own[actor][begin[1][actor] :]:
                    state, counts, _ = here
                    target = _after(search, state, leg)
                    if target is None:
                        break
                    there = (target, (*counts[:actor], counts[actor] + 1, *counts[actor + 1 :]), actor)
                    if there in before:
                        break
                    before[there] = (here, leg)
                    following.append(there)
                    here = there
        goals = [point for point in following if point[0] == end and sum(point[1]) == len(legs)]
        if goals:
            return _way(before, next((goal for goal in goals if goal[2] == last), goals[0]))
        level = following
    return legs


def _after(search: Search, state: State, leg: Leg) -> State | None:
    """The state behind a leg, None where it is not possible."""
    if leg.actor not in search.runnable(state):
        return None
    try:
        macro = search.following(state, leg.actor)
    except Incomplete:
        return None
    if macro is not None:
        for (local, common), path in zip(macro.targets, macro.paths, strict=True):
            if (local, path) == (leg.after, leg.path):
                return search.moved(state, leg.actor, local, common)
    return None


def _way(before: dict[_Point, tuple[_Point, Leg]], point: _Point) -> list[Leg]:
    legs = []
    while point in before:
        point, leg = before[point]
        legs.append(leg)
    return legs[::-1]


def _delayed(search: Search, started: dict[int, list[Move]], moves: list[Move]) -> list[Move]:
    """The steps with what contexts have `started` with unseen, just before each goes on, or before others may keep it
    from its processor.

    A writer that stands before a lock with `writers first` comes to wait as soon as it cannot have it. One that came
    there unseen does so as late as that, too."""
    done: list[Move] = []
    late = dict(started)
    for move in moves:
        engine = search.engines[move.actor]
        done += [m for i in list(late) if i == move.actor or _may_displace(search, move.actor, i) for m in late.pop(i)]
        need = engine.needs[move.micro.after]
        writes = need is not None and need.writers_first and not need.shared
        if writes and move.micro.begins and move.unseen and engine.mode[move.micro.after] == RUNNING:
            late[move.actor] = [move]
        else:
            done.append(move)
    return [*done, *(move for moves in late.values() for move in moves)]


def _may_displace(search: Search, actor: int, other: int) -> bool:
    return search.processor[actor] == search.processor[other] and not search.engines[other].calm


def _schedule(search: Search, moves: Sequence[Move], values: dict[str, int], waits: tuple[Wait, ...]) -> Schedule:
    starts: dict[int, list[Choice]] = {}
    turns: list[Turn] = []
    for move in moves:
        micro = move.micro
        params = [c for c in micro.choices if c[0].startswith("param ")]
        starts.setdefault(move.actor, []).extend(Choice(name, value) for name, value in params)
        turn = _turn(search, move)
        if not micro.begins and turns and turns[-1].actor == move.actor and turns[-1].event == "waits":
            before = turns.pop()
            step = replace(turn.step, choices=before.step.choices + turn.step.choices, span=before.step.span)
            turn = replace(turn, step=step)
        turns.append(turn)
    actors = []
    for index, context in enumerate(search.closed.contexts):
        start = (
            Choice("irql", context.level),
            *(Choice(name, value) for name, value in sorted(values.items())),
            *starts.get(index, ()),
        )
        actors.append(Actor(context.name, context.routine, str(context.kind), context.processor, start))
    return Schedule(search.closed.name, search.closed.processors, tuple(actors), tuple(turns), waits)


def _turn(search: Search, move: Move) -> Turn:
    engine, micro = search.engines[move.actor], move.micro
    need = engine.needs[micro.after]
    step = _step(search, move)
    if need is None:
        return Turn(move.actor, step)
    cell = search.layout.common[need.cell] if need.is_event else search.layout.own[need.cell]
    mode = "event" if need.is_event else "shared" if need.shared else ""
    return Turn(move.actor, step, "waits", cell.name.partition(" ")[2], mode)


def _step(search: Search, move: Move) -> Step:
    engine, micro = search.engines[move.actor], move.micro
    place = search.symmetry.place(move.actor, micro.edge)
    choices = tuple(Choice(name, value) for name, value in micro.choices if not name.startswith("param "))
    held = []
    for at, value in zip(search.layout.holds, engine.held[micro.after], strict=True):
        if value != FREE:
            shared, count, _ = unhold(value)
            name = search.layout.own[at].name.removeprefix("hold ")
            held.append((name, "shared" if shared else "exclusive", count))
    return Step(
        place.routine,
        micro.depth,
        place.edge.span,
        choices,
        engine.level[micro.after],
        tuple(sorted(held)),
        place.edge.taken,
    )


def _standing(search: Search, state: State, index: int) -> Turn:
    """That a context stands before its next statement."""
    engine, local = search.engines[index], state[2 + index]
    _, frames, _, _ = engine.locals[local]
    graph, location, _, _ = frames[-1]
    edges = [code.edge for code in engine.leaving[graph][location]]
    edge = next((e for e in edges if any(c is not None and c.sort is Sort.DATA for c in e.cells)), edges[0])
    micro = Micro(local, edge, engine.graphs[graph].routine, max(len(frames) - 2, 0), (), frozenset(), True)
    return Turn(index, _step(search, Move(index, micro)), "stands")
