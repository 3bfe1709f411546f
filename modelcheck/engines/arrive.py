"""With what a context comes to the places where it meets others: the fixpoint's reading of an operation, up to
there."""

from __future__ import annotations

from typing import TypeAlias

from modelcheck.engines.execute import Content, Pending, State, _Executor
from modelcheck.invariant import Base
from modelcheck.ir import Instruction
from modelcheck.lower import Lowered
from modelcheck.mutual.positions import Arrival, Case, Constraint, Facts, facts, sites
from modelcheck.mutual.situation import Situation

Cases: TypeAlias = dict[Case, tuple[Arrival, ...]]
"""For each operation at which contexts meet, in each state, the ways in which it is come to."""


class _Observer(_Executor):
    """Runs an operation and keeps the state before each instruction that is observed."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.operation, case.others, case.followed)
        self.indexes = {id(i): n for n, i in enumerate(sites(case.operation))}
        self.seen: list[tuple[int, list[Content]]] = []

    def one(self, instruction: Instruction, state: State) -> list[State]:
        index = self.indexes.get(id(instruction))
        if index is not None:
            self.seen.append((index, list(state.values)))
        return super().one(instruction, state)


def arrivals(case: Case) -> tuple[Arrival, ...]:
    """For each way an observed instruction is come to its index and the registers then."""
    observer = _Observer(case)
    inputs: list[Content] = [
        None if values is None else values[0] if len(values) == 1 else Pending(values) for values in case.inputs
    ]
    observer.sequence(case.operation.code, [State(inputs)])
    return tuple(dict.fromkeys((index, tuple(map(_values, values))) for index, values in observer.seen))


def meetings(base: Base, lowered: Lowered) -> tuple[Facts, Cases, Situation]:
    """Where contexts meet, read off an invariant for each root, with the proposals it was read with."""
    found, cases = facts(base, lowered.roots, arrivals)
    return found, cases, Situation(base, lowered, found)


def _values(content: Content) -> Constraint:
    if content is None:
        return None
    return content.values if isinstance(content, Pending) else (content,)


__all__ = ["Cases", "arrivals", "meetings"]
