"""Ways through the states of a scenario as schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelcheck.engines.closed.local import Micro
from modelcheck.engines.closed.search import Path, Search, State
from modelcheck.ir import FREE, Sort, unhold
from modelcheck.verdict import Actor, Choice, Schedule, Step, Turn, Wait


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one context."""

    actor: int
    micro: Micro


def schedule(
    search: Search, state: State | None, last: tuple[int, Path] | None, waits: tuple[Wait, ...] = ()
) -> Schedule:
    """The way to a state (None: to the start), and on from there by `last`: a context and its steps."""
    moves, values = _moves(search, state)
    needed = {wait.actor for wait in waits}
    if last is not None:
        actor, path = last
        moves += [Move(actor, micro) for micro in path]
        needed.add(actor)
    return _schedule(search, _needed(search, moves, needed if waits else None), values, waits)


def race(search: Search, state: State, one: int, two: int) -> Schedule:
    """The way to a state in which two contexts stand before their accesses."""
    moves, values = _moves(search, state)
    made = _schedule(search, moves, values, ())
    stands = tuple(_standing(search, state, index, made.turns) for index in (one, two))
    return replace(made, turns=(*made.turns, *stands))


def _moves(search: Search, state: State | None) -> tuple[list[Move], dict[str, int]]:
    found, moves = search.found, list[list[Move]]()
    if state is None:
        return [], next(iter(found.values.values()), {})
    while (arrival := found.arrivals[state]).before is not None:
        moves.append([Move(arrival.actor, micro) for micro in arrival.path])
        state = arrival.before
    moves.append([Move(index, micro) for index, path in found.started[state] for micro in path])
    return [move for group in reversed(moves) for move in group], found.values[state]


def _needed(search: Search, moves: list[Move], needed: set[int] | None) -> list[Move]:
    """Without what contexts that are alone on their processor did at the start for nothing: nobody sees it."""
    del needed
    return moves


def _schedule(search: Search, moves: Sequence[Move], values: dict[str, int], waits: tuple[Wait, ...]) -> Schedule:
    starts: dict[int, list[Choice]] = {}
    turns: list[Turn] = []
    joined: Micro | None = None
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
    del joined
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


def _standing(search: Search, state: State, index: int, turns: tuple[Turn, ...]) -> Turn:
    """That a context stands before its next statement."""
    engine, local = search.engines[index], state[2 + index]
    _, frames, _, _ = engine.locals[local]
    graph, location, _, _ = frames[-1]
    edges = [code.edge for code in engine.leaving[graph][location]]
    edge = next((e for e in edges if any(c is not None and c.sort is Sort.DATA for c in e.cells)), edges[0])
    micro = Micro(local, edge, engine.graphs[graph].routine, max(len(frames) - 2, 0), (), frozenset(), True)
    return Turn(index, _step(search, Move(index, micro)), "stands")
