"""One context among others: its steps are divided before each acquisition and wait (docs/language.md, section 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from modelcheck import syntax as s
from modelcheck.interpret.code import (
    Begin,
    CallBack,
    CallOut,
    ClauseLock,
    Code,
    End,
    Instruction,
    Invoke,
    Load,
    LockOp,
    Point,
    Pop,
    Push,
    SignalOp,
    Touch,
)
from modelcheck.interpret.machine import Machine
from modelcheck.interpret.state import Discarded, Frame, Over, State
from modelcheck.interpret.values import Choose, Failure, Target
from modelcheck.interpret.walk import calls_back
from modelcheck.record import dataclass
from modelcheck.resolve import Program
from modelcheck.source import Span

MAX_PARTS = 10_000
"""Statements of one `atomic` block that may run as one step."""


class TooLong(Exception):
    """A step has no end within the limits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a context stands before: the lock it is about to acquire or the event it is about to wait for.

    `subject` is "" for a handle that names no lock. `routine` and `span` tell the place as an obligation does.
    """

    subject: str
    is_event: bool
    shared: bool
    routine: str
    span: Span


@dataclass(frozen=True, slots=True)
class Out:
    """A call-out at which a context stands: the driver may come back with `role`. `callee` is the kernel routine;
    `routine` and `span` tell the place as an obligation does."""

    role: str
    callee: str
    routine: str
    span: Span


@dataclass(frozen=True, slots=True)
class Access:
    """A `read` or `write` of data without a guard, and where it stands; or a use of a lock, which to free it writes."""

    data: str
    write: bool
    atomic: bool
    routine: str
    span: Span


@dataclass(frozen=True, slots=True)
class Part:
    """What one step did. `whole`: it went through to the end of its statement and did not stop before an acquisition.
    `discarded`: an assumption failed, so this is no run. `events` are those set after it, `enabled` the routines that
    were enabled by then; `accesses` the data without a guard that was touched.

    `spans`: the steps of a trace that it ran, in order: statements (of an `atomic` block more than one), calls of
    routines, calls of kernel routines that call back. `others`: what came to its end in it and is none: a call as a
    statement, whose step is the call itself; statements of a kernel routine that calls back."""

    routine: str
    depth: int
    span: Span
    failures: tuple[Failure, ...]
    whole: bool
    discarded: bool
    events: frozenset[str]
    enabled: frozenset[str]
    accesses: tuple[Access, ...]
    spans: tuple[Span, ...]
    others: tuple[Span, ...]


class Player(Machine):
    """Runs one of several contexts. What the others hold and have signalled is set before each step."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.admits: Callable[[str, bool], bool] = lambda lock, shared: True
        """Whether the others leave a lock to be taken in a mode (shared or not)."""
        self.sole: Callable[[str], bool] = lambda lock: True
        """Whether nobody else holds a lock."""
        self.events: frozenset[str] = frozenset()
        """Which events are set."""
        self.enabled: frozenset[str] = frozenset()
        """Which routines were enabled and not disabled since."""
        self.comes_back = False
        """Whether somebody may come back into the driver inside this context: its steps are divided at call-outs."""
        self.watches_locks = False
        """Whether the use of a lock is an access too."""
        self.accesses: list[Access] = []
        self.spans: list[Span] = []
        self.others: list[Span] = []
        self.touching: dict[tuple[int, bool], bool] = {}
        self.calling_back: dict[str, bool] = {}

    def part(self, state: State, choose: Choose, fine: bool = False) -> Part:
        """Runs one step of `state`, in place: through to the end of its statement or `atomic` block, or to the next
        acquisition or wait. Where it stands before one, this is taken first: the caller knows that it is possible.
        `fine`: kernel routines that call back are run one statement at a time, apart from what is around them.

        Raises:
            TooLong: an `atomic` block or the depth of calls has no end.
        """
        self.state, self.choose, self.failures, self.accesses = state, choose, [], []
        self.spans, self.others = [], []
        frame = state.frames[-1]
        at = (self._routine(), frame.depth, frame.site or frame.span)
        whole, discarded = True, False
        try:
            for _ in range(MAX_PARTS):
                found = self._part(fine)
                if found is None:
                    frame = state.frames[-1]
                    at, whole = (self._routine(), frame.depth, frame.site or frame.span), False
                    break
                at = found
                self._approach()
                if state.ended or not self.inside_atomic(state):
                    break
            else:
                raise TooLong("an atomic block does not end")
        except Discarded:
            discarded = True
        except Over as over:
            raise TooLong(str(over)) from over
        return Part(
            *at,
            tuple(self.failures),
            whole,
            discarded,
            self.events,
            self.enabled,
            tuple(self.accesses),
            tuple(self.spans),
            tuple(self.others),
        )

    def _part(self, fine: bool) -> tuple[str, int, Span] | None:
        """Runs to the end of a step, or, None, to where it is divided behind the first instruction."""
        while True:
            frame = self.state.frames[-1]
            instruction = _next(frame)
            done = self._once()
            if done is not None:
                (self.others if self._ends_call(frame) else self.spans).append(done[2])
                return done
            self._note(frame, instruction)
            if self.wanted(self.state) is not None or (self.comes_back and self.out(self.state) is not None):
                return None
            if fine and self._pauses(frame, instruction):
                return None

    # kernel routines that call back

    def _calls_back(self, name: str) -> bool:
        if name not in self.calling_back:
            self.calling_back[name] = name not in self.program.routines and calls_back(self.program, name)
        return self.calling_back[name]

    def _is_calling_back(self, frame: Frame) -> bool:
        """Whether a frame is that of a kernel routine that calls back."""
        return frame.site is not None and not frame.code.is_routine and self._calls_back(frame.code.name)

    def _note(self, frame: Frame, instruction: Instruction | None) -> None:
        """Keeps that a kernel routine that calls back was called, or that a statement of it has ended."""
        match instruction:
            case Invoke(callee, span) if isinstance(callee, s.Extern) and self._calls_back(callee.name):
                self.spans.append(span)
            case End() if self._is_calling_back(frame):
                begin = next(i for i in reversed(frame.code.instructions[: frame.pc]) if isinstance(i, Begin))
                self.others.append(begin.span)

    def _pauses(self, frame: Frame, instruction: Instruction | None) -> bool:
        """Whether a fine step ends behind an instruction of `frame`: where a kernel routine that calls back
        begins, ends a statement, is about to call, or has ended."""
        if self.inside_atomic(self.state):
            return False
        top = self.state.frames[-1]
        if isinstance(_next(top), CallBack):
            return True
        if top is frame:
            return isinstance(instruction, End) and self._is_calling_back(frame)
        return self._is_calling_back(top if instruction is not None else frame)

    def is_rest(self, state: State) -> bool:
        """Whether what comes next belongs to no step of a trace of its own: it goes on in a kernel routine that calls
        back, or a call as a statement comes to its end."""
        frame = state.frames[-1]
        instruction = _next(frame)
        if isinstance(instruction, CallBack):
            return False
        if frame.code.is_routine:
            code = frame.code.instructions
            return (
                isinstance(instruction, Pop) and isinstance(code[frame.pc + 1], End) and self._is_graph(code, frame.pc)
            )
        above = frame
        for below in reversed(state.frames[:-1]):
            if below.code.is_routine:
                return self._is_calling_back(above)
            above = below
        return False

    def _ends_call(self, frame: Frame) -> bool:
        """Whether the last instruction was the end of a call as a statement, where the call is a step of its own."""
        code, end = frame.code.instructions, frame.pc - 1
        if end < 2 or not isinstance(code[end], End) or not isinstance(code[end - 1], Pop):
            return False
        return self._is_graph(code, end - 1)

    def _is_graph(self, code: list[Instruction], pc: int) -> bool:
        """Whether the instruction before `pc` calls a routine, or a kernel routine that calls back."""
        match code[pc - 1]:
            case Invoke(callee):
                return isinstance(callee, s.Routine) or self._calls_back(callee.name)
            case _:
                return False

    # call-outs

    def out(self, state: State) -> Out | None:
        """The call-out at which a context stands, None if it does not."""
        frame = state.frames[-1]
        instruction = _next(frame)
        if not isinstance(instruction, CallOut):
            return None
        with self._looking_at(state):
            return Out(instruction.role, frame.callee, self._routine(), frame.site or frame.span)

    def enter(self, state: State, choose: Choose) -> tuple[Failure, ...]:
        """Brings a context that has just started before its first step; tells what fails in that."""
        self.state, self.choose, self.failures = state, choose, []
        self._approach()
        return tuple(self.failures)

    def _approach(self) -> None:
        """Goes on over what is no step: the call of the body by the system, too."""
        self._settle()
        while not self.state.ended and self._is_call_of_body(_next(self.state.frames[-1])):
            self._once()
            self._settle()

    def _is_call_of_body(self, instruction: Instruction | None) -> bool:
        if len(self.state.frames) > 1:
            return False
        match instruction:
            case Load() | Point() | Push():
                return True
            case Invoke(callee):
                return isinstance(callee, s.Routine)
            case _:
                return False

    def refused(self, state: State, choose: Choose) -> tuple[Failure, ...]:
        """What fails where `state` stands before an acquisition that it can never make, since it holds the lock itself
        (B01, or the lock is no longer alive)."""
        tried = state.copy()
        self.state, self.choose, self.failures = tried, choose, []
        with suppress(Over):
            self._once()
        return tuple(self.failures)

    # what a context stands before

    @contextmanager
    def _looking_at(self, state: State) -> Iterator[None]:
        """Looks at a state without running it, perhaps in the middle of a step of another one."""
        kept = getattr(self, "state", state), self.quiet
        self.state, self.quiet = state, True
        yield
        self.state, self.quiet = kept

    def wanted(self, state: State) -> Wanted | None:
        """What the next instruction has to wait for, None if it goes on by itself."""
        frame = state.frames[-1]
        instruction = _next(frame)
        match instruction:
            case LockOp("acquire") | ClauseLock(_, True) | SignalOp(s.SignalOp.WAIT):
                with self._looking_at(state):
                    return self._wanted(frame, instruction)
            case _:
                return None

    def _wanted(self, frame: Frame, instruction: LockOp | ClauseLock | SignalOp) -> Wanted | None:
        """What an acquisition or a wait that has not run yet is for."""
        last = len(self.state.frames) - 1
        at = (self._routine(), frame.site or frame.span)
        match instruction:
            case SignalOp(_, place):
                target = self._resolve(place, last, None)
                return Wanted(str(target[1]), True, False, *at) if target[0] == "event" else None
            case ClauseLock(number, _, mode):
                claimed = frame.slots[f"$clause{number}"]
                target = claimed if isinstance(claimed, tuple) else ("opaque", "")
            case LockOp(_, place, mode):
                target = self._resolve(place, last, frame.stack[-1] if place.indexed else None)
        return Wanted(self._lock(target) or "", False, mode is s.Mode.SHARED, *at)

    def counts_up(self, state: State, lock: str, shared: bool) -> bool:
        """Whether a context that holds a lock may take it once more in that mode."""
        with self._looking_at(state):
            return self._admits(lock, shared)

    def inside_atomic(self, state: State) -> bool:
        """Whether the context stands in the middle of an `atomic` block."""
        frame = state.frames[-1]
        begin = _next(frame)
        if any(below.atomic for below in state.frames[:-1]):
            return True
        return begin.atomic and frame.opening is None if isinstance(begin, Begin) else frame.atomic

    def next_place(self, state: State) -> tuple[str, Span, bool]:
        """Where the next step stands: its routine, its place, and whether a statement of a routine begins there."""
        frame = state.frames[-1]
        begin = _next(frame)
        with self._looking_at(state):
            routine = self._routine()
        if isinstance(begin, Begin) and frame.code.is_routine:
            return routine, begin.span, True
        return routine, frame.site or frame.span, False

    def may_touch(self, state: State) -> bool:
        """Whether the next step may access data, as far as its code alone tells; of an `atomic` block that step is all
        of it, with what it calls."""
        frame = state.frames[-1]
        begin = _next(frame)
        if isinstance(begin, LockOp):  # it has come to an acquisition
            return self.watches_locks
        return isinstance(begin, Begin) and self._touches(frame.code, begin.atomic)

    def _touches(self, code: Code, atomic: bool) -> bool:
        """Whether a body, or an extern that it calls, in `atomic` also a routine, has a `read` or `write`."""
        known = self.touching.get((id(code), atomic))
        if known is None:
            self.touching[id(code), atomic] = False
            known = self.touching[id(code), atomic] = any(
                self._may_touch(instruction, atomic) for instruction in code.instructions
            )
        return known

    def _may_touch(self, instruction: Instruction, atomic: bool) -> bool:
        match instruction:
            case Touch():
                return True
            case LockOp():
                return self.watches_locks
            case Invoke(callee):
                inside = atomic or isinstance(callee, s.Extern)
                return inside and self._touches(self._code(callee), atomic)
            case CallBack():
                return atomic
            case _:
                return False

    # what the others see of it

    def _open(self, lock: str, shared: bool) -> bool:
        return lock in self.state.holds or self.admits(lock, shared)

    def _sole(self, lock: str) -> bool:
        return self.sole(lock)

    def _signal(self, verb: s.SignalOp, target: Target) -> None:
        if target[0] == "event" and verb is not s.SignalOp.WAIT:
            event = {str(target[1])}
            self.events = self.events | event if verb is s.SignalOp.SET else self.events - event

    def _permit(self, on: bool, target: Target) -> None:
        names = frozenset(name for name, sure in self.program.disabled_by(str(target[1])) if on or sure)
        self.enabled = self.enabled | names if on else self.enabled - names

    def _touch(self, target: Target, write: bool) -> None:
        frame = self.state.frames[-1]
        name = str(target[1])
        if target[0] == "data" and not self.data_guards.get(name):
            atomic = any(f.atomic for f in self.state.frames)
            self.accesses.append(Access(name, write, atomic, self._routine(), frame.site or frame.span))
        super()._touch(target, write)

    def _use(self, lock: str, frees: bool) -> None:
        if self.watches_locks:
            frame = self.state.frames[-1]
            self.accesses.append(Access(lock, frees, False, self._routine(), frame.site or frame.span))

    def freed(self, state: State) -> list[Access]:
        """The locks that a context has freed, and not initialised again: to use them now is as bad as before."""
        frame = state.frames[-1]
        with self._looking_at(state):
            routine, span = self._routine(), frame.site or frame.span
        return [Access(lock, True, False, routine, span) for lock in sorted(state.freed)]


def _next(frame: Frame) -> Instruction | None:
    code = frame.code.instructions
    return code[frame.pc] if frame.pc < len(code) else None
