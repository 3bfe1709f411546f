"""Replays a trace: whether it is a run, and fails what it claims to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from modelcheck.interpret.machine import Machine
from modelcheck.interpret.state import Divergence
from modelcheck.interpret.values import Environment, Failure, Stepped
from modelcheck.record import dataclass
from modelcheck.resolve import Program
from modelcheck.verdict import Choice, Obligation, Step, Trace


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a trace. `failures`: what failed in the last step that was run. `reason`: where and why the trace
    is not a run, or does not show what it claims; "" when it does. `steps` counts the steps that were run."""

    reproduced: bool
    reason: str
    failures: tuple[Failure, ...]
    steps: int
    misplaced: str = ""
    """The first step that stands elsewhere in the run than in the trace; the choices fit all the same."""


class Script:
    """Answers choices from a trace, in order."""

    def __init__(self, start: tuple[Choice, ...], steps: Sequence[Step]) -> None:
        self.start = {c.name: c.value for c in start}
        self.queue: deque[Choice] = deque(c for step in steps for c in step.choices)

    def at_start(self, name: str, allowed: Sequence[int]) -> int:
        if name not in self.start:
            if self.queue and self.queue[0].name == name:
                return self.later(name, allowed)
            return allowed[0]  # what the trace does not mention does not matter to it
        value = self.start[name]
        if value not in allowed:
            raise Divergence(f"{name} = {value} is not possible at the start")
        return value

    def later(self, name: str, allowed: Sequence[int]) -> int:
        names = {name, "*"} if name == "result" else {name}
        if not self.queue:
            return allowed[0]  # the trace ends in the middle of a step; any way on is a run
        if self.queue[0].name not in names:
            if len(allowed) == 1:
                return allowed[0]
            raise Divergence(f"the run chooses `{name}` where the trace has `{self.queue[0].name}`")
        value = self.queue.popleft().value
        if value not in allowed:
            raise Divergence(f"{name} = {value} is not possible here")
        return value


def replay(
    program: Program, trace: Trace, environment: Environment, claimed: Obligation | None = None, limit: int = 1_000_000
) -> Replay:
    """Runs `trace` and tells whether its end fails `claimed` (any obligation at all if it is None)."""
    return replay_on(Machine(program, environment), trace, claimed, limit)


def replay_on(machine: Machine, trace: Trace, claimed: Obligation | None = None, limit: int = 1_000_000) -> Replay:
    """`replay` on a machine that is already there: many traces of one program share what was compiled."""
    result = None
    for binding in machine.bindings(trace.root):
        result = _replay_bound(machine, trace, binding, claimed, limit)
        if result.reproduced:
            return result
    return result or Replay(False, "no lock fits the parameters of the routine", (), 0)


def _replay_bound(
    machine: Machine, trace: Trace, binding: Mapping[str, str], claimed: Obligation | None, limit: int
) -> Replay:
    script = Script(trace.start, trace.steps)
    steps, misplaced = 0, ""
    failures: tuple[Failure, ...] = ()
    try:
        state = machine.start(trace.root, script.at_start, binding)
        if state.ended:
            raise Divergence(state.ended)
        while not state.ended and steps < min(limit, 2 * len(trace.steps) + 100):
            done = machine.step(state, script.later)
            failures = done.failures
            if not misplaced and not _stands_at(done, trace, steps):
                misplaced = f"step {steps + 1}: the run is at {done.span}"
            steps += 1
            if claimed is None and steps == len(trace.steps) and failures:
                return Replay(True, "", failures, steps, misplaced)
            if claimed is not None and any(f.breaks(claimed) for f in failures):
                return Replay(True, "", failures, steps, misplaced)
    except Divergence as divergence:
        return Replay(False, f"step {steps + 1}: {divergence}", failures, steps, misplaced)
    ending = state.ended or f"it is longer than {limit} steps"
    return Replay(False, f"the run ends ({ending}) and the obligation does not fail", failures, steps, misplaced)


def _stands_at(done: Stepped, trace: Trace, number: int) -> bool:
    """Whether a step of the run stands where the trace says, on the same line at least."""
    if number >= len(trace.steps):
        return False
    step = trace.steps[number]
    return step.span.source is done.span.source and step.span.line == done.span.line
