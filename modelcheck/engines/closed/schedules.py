"""Ways through the states of a scenario as schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from modelcheck.engines.closed.local import RUNNING, Micro
from modelcheck.engines.closed.search import Path, Search, State
from modelcheck.engines.closed.stuck import may_set
from modelcheck.ir import FREE, Sort, unhold
from modelcheck.record import dataclass
from modelcheck.verdict import Actor, Choice, Schedule, Step, Turn, Wait


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one context."""

    actor: int
    micro: Micro
    unseen: bool = False


def opening(search: Search, number: int, actor: int, path: Path) -> Schedule:
    """The steps of a context at the very start that break an obligation."""
    moves = [Move(actor, micro) for micro in path]
    return _schedule(search, moves, search.found.opening[number], ())


def schedule(search: Search, state: State, last: tuple[int, Path] | None, waits: tuple[Wait, ...] = ()) -> Schedule:
    """The way to a state, and on from there by `last`: a context and its steps."""
    needed = {actor for wait in waits for actor in (wait.actor, *wait.by)} | ({last[0]} if last else set())
    needed |= {i for wait in waits if wait.reason == "event" for i in _setters(search, wait.subject)}
    moves, values = _moves(search, state, needed)
    if last is not None:
        moves += [Move(last[0], micro) for micro in last[1]]
    return _schedule(search, moves, values, waits)


def race(search: Search, state: State, one: int, two: int) -> Schedule:
    """The way to a state in which two contexts stand before their accesses."""
    moves, values = _moves(search, state, {one, two})
    made = _schedule(search, moves, values, ())
    stands = (_standing(search, state, one), _standing(search, state, two))
    return replace(made, turns=(*made.turns, *stands))


def _setters(search: Search, event: str) -> Iterator[int]:
    """The contexts that have a statement that sets the event: where it stays unset, all have passed theirs by."""
    for at, cell in enumerate(search.layout.common):
        if cell.name == f"event {event}":
            yield from (i for i in range(search.count) if may_set(search, i, at))


def _moves(search: Search, state: State, needed: set[int]) -> tuple[list[Move], dict[str, int]]:
    """The steps on the way to a state, and what was open at its start. Contexts that did something only at the very
    start, unseen, take part where they are `needed`."""
    found, groups = search.found, list[list[Move]]()
    while (arrival := found.arrivals[state]).before is not None:
        groups.append([Move(arrival.actor, micro, n > 0) for n, micro in enumerate(arrival.path)])
        state = arrival.before
    taking_part = needed | {move.actor for group in groups for move in group}
    groups.append([Move(i, micro, True) for i, path in found.started[state] if i in taking_part for micro in path])
    return _delayed(search, [move for group in reversed(groups) for move in group]), found.values[state]


def _delayed(search: Search, moves: list[Move]) -> list[Move]:
    """A writer that stands before a lock with `writers first` comes to wait as soon as it cannot have it. One that
    came there unseen does so just before it goes on, or before others may keep it from its processor."""
    done: list[Move] = []
    late: dict[int, Move] = {}
    for move in moves:
        engine = search.engines[move.actor]
        done += [late.pop(i) for i in list(late) if i == move.actor or _may_displace(search, move.actor, i)]
        need = engine.needs[move.micro.after]
        writes = need is not None and need.writers_first and not need.shared
        if writes and move.micro.begins and move.unseen and engine.mode[move.micro.after] == RUNNING:
            late[move.actor] = move
        else:
            done.append(move)
    return [*done, *late.values()]


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
    return Turn(move.actor, step, "waits", cell.name.partition(" ")[2], "shared" if need.shared else "")


def _step(search: Search, move: Move) -> Step:
    engine, micro = search.engines[move.actor], move.micro
    choices = tuple(Choice(name, value) for name, value in micro.choices if not name.startswith("param "))
    held = []
    for at, value in zip(search.layout.holds, engine.held[micro.after], strict=True):
        if value != FREE:
            shared, count, _ = unhold(value)
            name = search.layout.own[at].name.removeprefix("hold ")
            held.append((name, "shared" if shared else "exclusive", count))
    return Step(
        micro.routine,
        micro.depth,
        micro.edge.span,
        choices,
        engine.level[micro.after],
        tuple(sorted(held)),
        micro.edge.taken,
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
