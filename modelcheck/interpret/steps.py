"""One step of a run: what an instruction does, and calls."""

from __future__ import annotations

from collections.abc import Mapping

from modelcheck import syntax as s
from modelcheck.documented import lookup
from modelcheck.interpret.code import (
    SILENT,
    Begin,
    Boundary,
    Branch,
    CallBack,
    CallOut,
    CallUnmodelled,
    Change,
    Check,
    ClauseLevel,
    ClauseLock,
    Code,
    Combine,
    End,
    EnterAtomic,
    Finish,
    Fresh,
    GiveBack,
    Instruction,
    Invoke,
    IsHeld,
    Jump,
    Level,
    Load,
    LockOp,
    MayBlock,
    Negate,
    NoneHeld,
    Pend,
    Permit,
    Point,
    Pop,
    Push,
    Result,
    Resume,
    Select,
    SignalOp,
    Spend,
    Star,
    Store,
    Suppose,
    Touch,
    Truth,
    Unpend,
)
from modelcheck.interpret.compile import Compiler
from modelcheck.interpret.locks import Locks
from modelcheck.interpret.memory import number_of
from modelcheck.interpret.state import Discarded, Frame, Over, State
from modelcheck.interpret.tables import DEFERRED_ROLES
from modelcheck.interpret.values import (
    MAX_COUNT,
    MAX_FRAMES,
    RETURNED,
    Choose,
    Domain,
    Failure,
    Hold,
    Stepped,
    Target,
    Value,
)
from modelcheck.interpret.walk import held_anywhere, mentions_irql
from modelcheck.resolve import apply, find_role
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL, NO_LEVEL, Property


class Steps(Locks):
    """Runs instructions, one step at a time. Compiled bodies are kept."""

    def step(self, state: State, choose: Choose) -> Stepped:
        """Runs one step of `state`, in place, and tells what failed in it. Sets `state.ended` when the run is over."""
        self.state, self.choose, self.failures = state, choose, []
        frame = state.frames[-1]
        at = (self._routine(), frame.depth, frame.span)
        try:
            at = self._until_boundary()
            self._settle()
        except Over as over:
            state.ended = str(over)
            frame = state.frames[-1]
            at = (self._routine(), frame.depth, frame.site or frame.span)
        return Stepped(*at, tuple(self.failures))

    def _until_boundary(self) -> tuple[str, int, Span]:
        """Runs up to the end of a statement of a routine, a call of a routine, or the end of the root."""
        while True:
            done = self._once()
            if done is not None:
                return done

    def _once(self) -> tuple[str, int, Span] | None:
        """Runs one instruction; where a step ends with it, tells where that stands."""
        frame = self.state.frames[-1]
        if frame.pc >= len(frame.code.instructions):
            self._leave()
            return None
        instruction = frame.code.instructions[frame.pc]
        routine, depth, span = self._routine(), frame.depth, frame.site or frame.span
        frame.pc += 1
        self._run(instruction)
        match instruction:
            case End() if frame.code.is_routine:
                return routine, depth, frame.span
            case Invoke(callee, at) if isinstance(callee, s.Routine) and depth >= 0:
                return routine, depth, frame.site or at
            case CallBack(_, _, at):
                return routine, depth, frame.site or at
            case Boundary(at):
                return routine, 0, at
            case Finish():
                return routine, 0, span
        return None

    def _settle(self) -> None:
        """Goes on over what is no step, so that a state stands before its next step, or at its end."""
        while not self.state.ended:
            frame = self.state.frames[-1]
            if frame.pc >= len(frame.code.instructions):
                self._leave()
                continue
            instruction = frame.code.instructions[frame.pc]
            if not isinstance(instruction, SILENT):
                return
            frame.pc += 1
            self._run(instruction)

    def role(self, root: str) -> tuple[s.Role | None, Mapping[str, s.Ref | int]]:
        """The role a root plays, None for a root by its clauses alone, and what the role's parameters stand for."""
        use = self.program.routines[root].role
        if use is not None:
            return find_role(self.program, use)
        kinds = (DEFERRED_ROLES[d.kind] for d in self.program.deferred.values() if d.routine == root)
        roles = self.program.roles.get(next(kinds, ""), ())
        return next((role for role in roles if not role.params), None), {}

    def _code(self, item: s.Routine | s.Extern) -> Code:
        code = self.codes.get(id(item))
        if code is None:
            code = Compiler(self.tables, item.name, isinstance(item, s.Routine)).routine(item)
            self.codes[id(item)] = code
        return code

    def _evaluate(self, code: Code) -> Value:
        """The value of an expression in the frame on top, with no choices and no obligations."""
        frame = self.state.frames[-1]
        kept = (frame.code, frame.pc, frame.stack, self.quiet)
        frame.code, frame.pc, frame.stack, self.quiet = code, 0, [], True
        while frame.pc < len(code.instructions):
            instruction = code.instructions[frame.pc]
            frame.pc += 1
            self._run(instruction)
        value = frame.stack[-1]
        frame.code, frame.pc, frame.stack, self.quiet = kept
        return value

    # one instruction

    def _run(self, instruction: Instruction) -> None:
        frame = self.state.frames[-1]
        stack = frame.stack
        match instruction:
            case Push(value):
                stack.append(value)
            case Load(place):
                target = self._place(place)
                stack.append(self._load(target, place.domain))
            case Point(place):
                stack.append(self._place(place))
            case Begin():
                self._begin(frame, instruction)
            case End():
                self._everywhere(frame)
            case Branch(when, mark, keep):
                value = stack[-1] if keep else stack.pop()
                if bool(value) is when:
                    frame.pc = mark.at
            case Jump(mark):
                frame.pc = mark.at
            case Truth():
                stack.append(int(bool(stack.pop())))
            case Negate(op):
                operand = stack.pop()
                stack.append(int(not operand) if op is s.UnaryOp.NOT else -number_of(operand))
            case Combine(op):
                right, left = stack.pop(), stack.pop()
                stack.append(combined(op, left, right))
            case Pop():
                stack.pop()
            case Star(allowed):
                stack.append(self.choose("*", allowed))
            case Level():
                stack.append(self.state.irql)
            case IsHeld(place, mode):
                held = self.state.holds.get(self._lock(self._place(place)) or "")
                fits = held is not None and (mode is None or held[0] is (mode is s.Mode.SHARED))
                stack.append(int(fits))
            case NoneHeld(spin_only, besides):
                out = {self._lock(self._place(place)) for place in besides}
                asked = (lock for lock in self.state.holds if lock not in out)
                stack.append(int(not any(not spin_only or self.tables.spins(lock) for lock in asked)))
            case Select(cases, default):
                subject = stack.pop()
                frame.pc = next((m.at for v, m in cases if v == subject), default.at)
            case Pend(mark):
                frame.pending.append(mark.at)
            case Resume():
                frame.pc = frame.pending.pop()
            case Unpend():
                frame.pending.pop()
            case EnterAtomic():
                frame.opening = None if self._called_in_atomic() else instruction
            case Store(place, name, down):
                self._assign(place, name, down)
            case Fresh(slot, name, local):
                self._fresh(frame, slot, name, local)
            case Invoke(callee, span):
                self._invoke(callee, span)
            case CallUnmodelled():
                self._unmodelled(frame, instruction)
            case CallBack():
                self._call_back(instruction)
            case Result():
                frame.result = self._returned(frame, stack.pop())
            case Suppose():
                if not stack.pop():
                    raise Discarded("an assumption does not hold")
            case Check(code, why):
                if not stack.pop():
                    self._fail(code, frame.callee if frame.site else "", why)
            case Touch(place, write):
                self._touch(self._place(place), write)
            case LockOp():
                self._lock_op(instruction)
            case SignalOp(verb, place):
                self._signal(verb, self._place(place))
            case Permit(on, place):
                self._permit(on, self._place(place))
            case ClauseLock(number, acquires, mode, tag):
                claimed = frame.slots[f"$clause{number}"]
                assert isinstance(claimed, tuple)
                if acquires:
                    self._acquire(self._lock(claimed), mode, tag)
                else:
                    self._release(self._lock(claimed), mode, tag)
            case ClauseLevel(number):
                self._change(number_of(frame.slots[f"$clause{number}"]), up=True)
            case GiveBack():
                self._give_back(frame)
            case Change(up):
                self._change(number_of(stack.pop()), up)
            case MayBlock():
                if any(self.tables.spins(lock) for lock in self.state.holds):
                    self._fail(Property.I07, frame.callee)
            case Spend(nanoseconds, each):
                spent = nanoseconds * max(number_of(stack.pop()), 0) if each else nanoseconds
                for lock in self.state.holds:
                    if self.tables.spins(lock):
                        clocks = self.state.clocks
                        clocks[lock] = min(clocks.get(lock, 0) + spent, self.limit + 1)
            case Finish():
                self._finish()
            case Boundary() | CallOut():
                pass

    def _signal(self, verb: s.SignalOp, target: Target) -> None:
        """`wait`, `set` and `clear` have no effect on one context alone."""

    def _permit(self, on: bool, target: Target) -> None:
        """`enable` and `disable` have no effect on one context alone."""

    def _returned(self, frame: Frame, value: Value) -> Value:
        """The value of `return e`, within the type of the routine."""
        domain = frame.code.result
        if domain is None or not isinstance(value, int):
            return value
        if frame.code.is_routine:
            return self._nearest(value, domain, "result")
        return max(domain.low, min(value, domain.high))

    def _begin(self, frame: Frame, begin: Begin) -> None:
        """What others may have written to the variables that the statement reads."""
        if frame.code.is_routine:
            frame.span = begin.span
        frame.atomic = begin.atomic
        opening, frame.opening = frame.opening, None
        if opening is not None and begin.atomic:
            for name in self._named(opening):
                self._interfere(("var", name), unless_guarded=True)
        alone = begin.atomic or self._called_in_atomic()
        asked = set()
        for place in begin.reads:
            if place.indexed:
                continue
            target = self._resolve(place, len(self.state.frames) - 1, None)
            if target not in asked and not (alone and target[0] == "var"):
                asked.add(target)
                self._interfere(target, unless_guarded=True)

    def _called_in_atomic(self) -> bool:
        """Whether the frame on top is of something that was called in `atomic`."""
        return any(below.atomic for below in self.state.frames[:-1])

    def _named(self, opening: EnterAtomic) -> list[str]:
        """The shared variables that an `atomic` block names, itself or through parameters, in order of declaration."""
        named = set(opening.variables)
        for place in opening.parameters:
            target = self._resolve(place, len(self.state.frames) - 1, None)
            if target[0] == "var":
                named.add(str(target[1]))
        return [name for name in self.program.variables if name in named]

    def _everywhere(self, frame: Frame) -> None:
        """What must hold after every statement of a routine: I06 for pageable code, `always`."""
        if not frame.code.is_routine:
            return
        if frame.code.paged and self.state.irql >= DISPATCH_LEVEL:
            self._fail(Property.I06, frame.code.name, span=frame.code.span)
        if frame.code.has_always:
            for number, clause in enumerate(frame.code.clauses):
                if isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.ALWAYS:
                    self._require(number, Property.C02, frame.code.name, clause.span.text, clause.span)

    def _require(self, number: int, code: Property, subject: str, why: str, span: Span) -> None:
        frame = self.state.frames[-1]
        if not self._evaluate(frame.code.conditions[number]):
            self._fail(code, subject, why, span)

    # calls

    def _invoke(self, callee: s.Routine | s.Extern, span: Span) -> None:
        code = self._code(callee)
        caller = self.state.frames[-1]
        count = next((i for i, (p, _) in enumerate(code.params) if isinstance(p, s.RestParam)), len(code.params))
        arguments = caller.stack[len(caller.stack) - count :]
        del caller.stack[len(caller.stack) - count :]
        self._enter(code, arguments, span)

    def _enter(self, code: Code, arguments: list[Value], span: Span) -> None:
        """Puts a frame on top, with its parameters; what the callee requires is checked at the call."""
        frames = self.state.frames
        if len(frames) >= MAX_FRAMES:
            raise Over(f"calls are more than {MAX_FRAMES} deep")
        caller = frames[-1]
        at = caller.site or span
        depth = caller.depth + 1
        frame = Frame(
            code, 0, [], {}, span, None if code.is_routine else at, caller.callee if caller.site else code.name, depth
        )
        if code.is_routine:
            frame.callee, frame.span = code.name, code.span or span
        assumed = caller.depth < 0 and code.is_routine and self.role(self.state.root)[0] is None
        bindings = []
        for (_, local), value in zip(code.params, arguments, strict=False):
            if not local.bound and local.domain is not None and isinstance(value, int):
                value = self._nearest(value, local.domain, local.slot)
            bindings.append((local.slot, value))
        frame.slots.update(bindings)
        routine = self._routine()
        frames.append(frame)
        if code.clauses:
            self._on_entry(frame, routine, None if assumed else at)
        if code.is_routine:
            self._everywhere(frame)

    def _on_entry(self, frame: Frame, caller: str, at: Span | None) -> None:
        """Keeps what clauses compare with later. The caller owes what is required, unless the start assumed it."""
        code = frame.code
        for slot, operand in code.olds:
            frame.slots[slot] = self._evaluate(operand)
        frame.level, frame.holds = self.state.irql, dict(self.state.holds)
        for number, clause in enumerate(code.clauses):
            match clause:
                case s.ConditionClause(s.ClauseKind.REQUIRES, condition):
                    if at is not None and not self._evaluate(code.conditions[number]):
                        is_level = not code.is_routine and mentions_irql(condition)
                        property_ = Property.I01 if is_level else Property.C03
                        self.failures.append(Failure(property_, caller, at, code.name, clause.span.text))
                case s.LockClause() | s.RaisesClause():
                    frame.slots[f"$clause{number}"] = self._evaluate(code.conditions[number])

    def _give_back(self, frame: Frame) -> None:
        """What an extern without a body gives back is open, within its `ensures`."""
        code = frame.code
        for param, local in code.params:
            if isinstance(param, s.ValueParam) and param.by_ref and local.domain is not None:
                value = self.choose(f"out {param.name}", local.domain.open)
                target = frame.slots.get(local.slot)
                if isinstance(target, tuple):
                    self._put(target, value, None, param.name)
        if code.result is not None:
            frame.result = frame.slots["$result"] = self.choose("result", code.result.open)
        for number, clause in enumerate(code.clauses):
            ensures = isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.ENSURES
            if ensures and not self._evaluate(code.conditions[number]):
                raise Discarded("the routine does not give this back")

    def _unmodelled(self, frame: Frame, call: CallUnmodelled) -> None:
        """Held to its documented bounds; what it does to locks is not known and taken to be nothing."""
        known = lookup(call.name)
        if known is not None and not known.has_lock_effect:
            if not known.irql_min <= self.state.irql <= known.irql_max:
                self._fail(Property.I01, call.name)
            if known.no_spin_lock and any(self.tables.spins(lock) for lock in self.state.holds):
                self._fail(Property.I07, call.name)
        targets = [frame.stack.pop() for _ in call.outputs]
        for (name, domain), target in zip(call.outputs, reversed(targets), strict=True):
            assert isinstance(target, tuple)
            self._put(target, self.choose(f"out {name}", domain.open), domain, name)
        frame.stack.append(0 if call.result is None else self.choose("result", call.result.open))

    def _call_back(self, instruction: CallBack) -> None:
        """`call R(..)`: the routine handed over runs here."""
        target = self._place(instruction.place)
        stack = self.state.frames[-1].stack
        arguments = stack[len(stack) - instruction.count :]
        del stack[len(stack) - instruction.count :]
        name = str(target[1])
        if target[0] == "deferred":
            name = self.program.deferred[name].routine
        routine = self.program.routines.get(name) if target[0] in ("routine", "deferred") else None
        if routine is None:
            return
        code = self._code(routine)
        wanted = [None if isinstance(p, s.OpaqueParam | s.RestParam) else 0 for p, _ in code.params]
        self._enter(code, [*arguments[: len(wanted)], *wanted[len(arguments) :]], instruction.span)
        self.state.frames[-1].slots["$callback"] = 1

    def _leave(self) -> None:
        """The frame on top has run to its end: its clauses are checked, its result is handed over."""
        frames = self.state.frames
        frame = frames[-1]
        code = frame.code
        if code.result is not None and frame.result is None:
            frame.result = self._not_given(code, code.result)
        if code.is_routine and code.clauses:
            self._on_exit(frame)
        frames.pop()
        if "$callback" not in frame.slots:
            frames[-1].stack.append(frame.result)

    def _not_given(self, code: Code, domain: Domain) -> int:
        """The result of a body that ends without `return`: what a variable without a value holds; anything where it is
        a kernel routine's."""
        if not code.is_routine:
            return self.choose("result", domain.open)
        return NO_LEVEL if domain.level else self.choose("uninit result", domain.open)

    def _on_exit(self, frame: Frame) -> None:
        code, name = frame.code, frame.code.name
        if frame.result is not None:
            frame.slots["$result"] = frame.result
        for number, clause in enumerate(code.clauses):
            match clause:
                case s.ConditionClause(s.ClauseKind.ENSURES, _):
                    self._require(number, Property.C02, name, clause.span.text, clause.span)
                case s.SameIrqlClause():
                    if self.state.irql != frame.level:
                        self._fail(Property.C02, name, "same irql", code.span)
                case s.RaisesClause():
                    if self.state.irql != frame.slots[f"$clause{number}"]:
                        self._fail(Property.C02, name, "", clause.span)
                case s.LockClause(acquires, _, mode, tag):
                    target = frame.slots[f"$clause{number}"]
                    assert isinstance(target, tuple)
                    lock = self._lock(target) or ""
                    if not as_claimed(frame.holds.get(lock), self.state.holds.get(lock), acquires, mode, tag):
                        self._fail(Property.C02, name, "", clause.span)

    def _bound(self, bottom: Frame) -> dict[str, str]:
        """The locks and the devices that the parameters of a root stand for."""
        slots = bottom.slots.items()
        return {k[1:]: str(v[1]) for k, v in slots if isinstance(v, tuple) and v[0] in ("lock", "device")}

    def _finish(self) -> None:
        """The end of a root: nothing else is held, and the level is as it was, or as the clauses say."""
        state = self.state
        bottom = state.frames[0]
        routine = self.program.routines[state.root]
        claimed, level_claimed = set(), False
        bound = self._bound(bottom)
        for clause in routine.clauses:
            match clause:
                case s.LockClause(_, ref):
                    claimed.add(self._clause_lock(ref, bound))
                case s.RaisesClause():
                    level_claimed = True
                case s.ConditionClause(s.ClauseKind.ENSURES, condition):
                    claimed.update(self._clause_lock(ref, bound) for ref, _ in held_anywhere(condition))
                    level_claimed |= mentions_irql(condition)
        for lock in {**bottom.holds, **state.holds}:
            before, after = bottom.holds.get(lock), state.holds.get(lock)
            if lock not in claimed and (before or (False, 0, None))[:2] != (after or (False, 0, None))[:2]:
                self._fail(Property.B03, lock, span=routine.span)
        if state.irql != bottom.level and not level_claimed:
            self._fail(Property.I02, "", span=routine.span)
        continues = bottom.code.conditions.get(0)
        state.goes_on = continues is None or bool(self._evaluate(continues))
        state.ended = RETURNED


def combined(op: s.BinaryOp, left: Value, right: Value) -> int:
    """An operator on numbers; locks and objects can only be compared. `% 0` is 0."""
    if isinstance(left, int) and isinstance(right, int):
        return apply(op, left, right) or 0
    same = (left or None) == (right or None)
    return int(same if op is s.BinaryOp.EQ else not same)


def as_claimed(before: Hold | None, after: Hold | None, acquires: bool, mode: s.Mode, tag: str | None) -> bool:
    """Whether a lock is held once more, or once less, as an `acquires` or `releases` clause says."""
    had, has = (0 if hold is None else hold[1] for hold in (before, after))
    if not acquires:
        return has == had - 1 or (had == MAX_COUNT and has == had)
    if after is None or (has != had + 1 and had != MAX_COUNT):
        return False
    return (mode is s.Mode.EITHER or after[0] is (mode is s.Mode.SHARED)) and (tag is None or after[2] == tag)
