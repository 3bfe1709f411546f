"""Which places of a root can be come to, or left for what: walks over its graphs, calls entered and left.

Where a call came from is not kept apart, so a walk finds too much rather than too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelcheck import ir
from modelcheck.ir import Edge, Graph, Instruction, Term, instructions
from modelcheck.lower import every_graph
from modelcheck.mutual.positions import EXCLUSIVE, lock_of


def come_to(start: Graph, stops: Callable[[Edge], bool]) -> dict[Graph, set[int]]:
    """The locations come to from the start of a graph over edges that are not stopped."""
    entered: dict[Graph, set[int]] = {start: {start.entry}}
    through: set[Graph] = set()
    changed = True
    while changed:
        changed = False
        for graph, locations in list(entered.items()):
            pending = list(locations)
            leaving: dict[int, list[Edge]] = {}
            for edge in graph.edges:
                leaving.setdefault(edge.source, []).append(edge)
            while pending:
                for edge in leaving.get(pending.pop(), ()):
                    if edge.callee is not None:
                        if edge.callee not in entered:
                            entered[edge.callee] = {edge.callee.entry}
                            changed = True
                        if edge.callee not in through:
                            continue
                    elif stops(edge):
                        continue
                    if edge.target not in locations:
                        locations.add(edge.target)
                        pending.append(edge.target)
                        changed = True
            if graph.exit in locations and graph not in through:
                through.add(graph)
                changed = True
    return entered


def leading_to(start: Graph, wanted: Callable[[Edge], bool]) -> dict[Graph, set[int]]:
    """The locations from which one of the edges may still be taken."""
    graphs = every_graph([start])
    found: dict[Graph, set[int]] = {graph: set() for graph in graphs}
    changed = True
    while changed:
        changed = False
        for graph in graphs:
            for edge in reversed(graph.edges):
                leads = edge.target in found[graph]
                if edge.callee is not None:
                    if leads and edge.callee.exit not in found[edge.callee]:
                        found[edge.callee].add(edge.callee.exit)
                        changed = True
                    leads = leads or edge.callee.entry in found[edge.callee]
                elif wanted(edge):
                    leads = True
                if leads and edge.source not in found[graph]:
                    found[graph].add(edge.source)
                    changed = True
    return found


def stopped_by(lock: str, how: int) -> Callable[[Edge], bool]:
    """Whether an edge certainly acquires the lock in a way that another's hold of it keeps from going through."""

    def takes(edge: Edge, instruction: Instruction) -> bool:
        match instruction:
            case ir.Take(register, shared, result=None, slot=slot) if slot is not None:
                cell = edge.cells[register]
                return cell is not None and lock_of(cell) == lock and (how == EXCLUSIVE or not shared)
            case _:
                return False

    return certainly(takes)


def awaits(event: str) -> Callable[[Edge], bool]:
    """Whether an edge certainly waits for an event."""
    return certainly(lambda edge, i: isinstance(i, ir.Await) and _is_event(edge, i.register, event))


def sets(event: str) -> Callable[[Edge], bool]:
    """Whether an edge certainly sets an event."""
    return certainly(lambda edge, i: isinstance(i, ir.Signal) and i.on and _is_event(edge, i.register, event))


def may_signal(event: str, on: bool) -> Callable[[Edge], bool]:
    """Whether an edge may set, or clear, an event."""

    def does(edge: Edge) -> bool:
        return edge.operation is not None and any(
            isinstance(i, ir.Signal) and i.on is on and _is_event(edge, i.register, event)
            for i in instructions(edge.operation.code)
        )

    return does


def is_cleared(event: str, graphs: Iterable[Graph]) -> bool:
    """Whether anybody may clear an event."""
    clears = may_signal(event, False)
    return any(clears(edge) for graph in graphs for edge in graph.edges)


def _is_event(edge: Edge, register: int, event: str) -> bool:
    cell = edge.cells[register]
    return cell is not None and cell.name == f"event {event}"


def certainly(test: Callable[[Edge, Instruction], bool]) -> Callable[[Edge], bool]:
    """Whether every way through an edge comes to an instruction that passes the test."""

    def always(edge: Edge, code: tuple[Instruction, ...], known: dict[int, int]) -> bool:
        for i in code:
            match i:
                case ir.Choose(condition, then, otherwise):
                    value = _value(condition, known)
                    ways = [w for w, taken in ((then, value != 0), (otherwise, not value)) if taken]
                    if all(always(edge, way, dict(known)) for way in ways):
                        return True
                    for register in {r for way in ways for r in _set_in(way)}:
                        known.pop(register, None)
                case ir.Set(register, value=ir.Const(number), low=low, high=high):
                    known[register] = min(max(number, low), high)
                case _:
                    if test(edge, i):
                        return True
                    for register in _set_in((i,)):
                        known.pop(register, None)
        return False

    return lambda edge: edge.operation is not None and always(edge, edge.operation.code, {})


def _value(term: Term, known: dict[int, int]) -> int | None:
    """The value of a condition from registers with a known one, None if it is not known."""
    match term:
        case ir.Const(value):
            return value
        case ir.Reg(register):
            return known.get(register)
        case ir.Not(operand):
            inner = _value(operand, known)
            return None if inner is None else int(not inner)
        case _:
            return None


def _set_in(code: tuple[Instruction, ...]) -> set[int]:
    """The registers that a code may write."""
    found: set[int] = set()
    for i in instructions(code):
        match i:
            case ir.Take(register, result=result) | ir.Convert(register, result=result):
                found.update((register,) if result is None else (register, result))
            case (
                ir.Set(register)
                | ir.Pick(register)
                | ir.Interfere(register)
                | ir.Drop(register)
                | ir.Change(register)
                | ir.CounterStep(register)
            ):
                found.add(register)
            case _:
                pass
    return found
