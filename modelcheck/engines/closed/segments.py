"""Operations cut before each acquisition and wait in them: what comes between two cuts is one step.

A segment is the code from one cut to the next. It has one register more than the operation, `stop`: 0 when the
operation has come to its end, else the number of the rest that is to follow. So a segment is an ordinary operation,
which `encode` can say as well.
"""

from __future__ import annotations

from modelcheck import ir
from modelcheck.ir import Instruction, Operation
from modelcheck.record import dataclass, field


@dataclass(slots=True, eq=False)
class Segment:
    """`head` is the acquisition or wait it begins with, None at the start of an operation."""

    operation: Operation
    head: ir.Take | ir.Await | None
    code: tuple[Instruction, ...]
    rests: tuple[tuple[Instruction, ...], ...]
    stop: int
    following: dict[int, Segment] = field(default_factory=dict)

    def rest(self, number: int) -> Segment:
        """The segment after the cut with that number, counted from 1."""
        found = self.following.get(number)
        if found is None:
            found = self.following[number] = _segment(self.operation, self.rests[number - 1])
        return found


def segment(operation: Operation) -> Segment:
    """The first segment of an operation."""
    return _segment(operation, operation.code, first=True)


def _segment(operation: Operation, code: tuple[Instruction, ...], first: bool = False) -> Segment:
    stop = operation.size
    head = None if first else code[0]
    assert head is None or isinstance(head, ir.Take | ir.Await)
    rests: list[tuple[Instruction, ...]] = []
    tail = _cut(code if first else code[1:], stop, rests)
    before: tuple[Instruction, ...] = (ir.Set(stop, ir.Const(0), 0, 0, None),)
    return Segment(operation, head, (*before, *(() if head is None else (head,)), *tail), tuple(rests), stop)


def is_cut(instruction: Instruction) -> bool:
    """Whether a step ends before it."""
    return isinstance(instruction, ir.Await) or (isinstance(instruction, ir.Take) and instruction.result is None)


def _cuts(instruction: Instruction) -> bool:
    if isinstance(instruction, ir.Choose):
        return any(map(_cuts, instruction.then)) or any(map(_cuts, instruction.otherwise))
    return is_cut(instruction)


def _cut(code: tuple[Instruction, ...], stop: int, rests: list[tuple[Instruction, ...]]) -> tuple[Instruction, ...]:
    """The code up to the first cut on every way through it."""
    done: list[Instruction] = []
    for index, instruction in enumerate(code):
        if is_cut(instruction):
            if code[index:] not in rests:
                rests.append(code[index:])
            number = rests.index(code[index:]) + 1
            done.append(ir.Set(stop, ir.Const(number), number, number, None))
            break
        if isinstance(instruction, ir.Choose) and _cuts(instruction):
            after = code[index + 1 :]
            then = _cut((*instruction.then, *after), stop, rests)
            otherwise = _cut((*instruction.otherwise, *after), stop, rests)
            done.append(ir.Choose(instruction.condition, then, otherwise))
            break
        done.append(instruction)
    return tuple(done)
