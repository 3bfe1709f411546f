"""Processors: who may start and who may run (section 7 of docs/language.md)."""

from __future__ import annotations

from collections.abc import Sequence

from modelcheck import syntax as s
from modelcheck.devices import parameters
from modelcheck.interpret.code import Invoke
from modelcheck.interpret.configuration import Configuration, Entrant
from modelcheck.interpret.player import Player
from modelcheck.interpret.state import State
from modelcheck.interpret.values import Target
from modelcheck.interpret.walk import expressions, statements, within
from modelcheck.resolve import Program
from modelcheck.verdict import DISPATCH_LEVEL

ALONE = ("load", "unload")
"""Phases whose routines overlap with nothing but what they have enabled."""


class Processors:
    """Contexts and their processors, in a scenario (`closed`) or in the open world."""

    def __init__(self, program: Program, entrants: Sequence[Entrant], processors: int, closed: bool) -> None:
        self.program = program
        self.entrants = tuple(entrants)
        self.processors = processors
        self.closed = closed
        self.player = self.entrants[0].player
        """For what is the same for all contexts."""
        fields: set[Target] = {("field", lock, name) for lock, name in self.player.ghosts}
        variables: set[Target] = {("var", name) for name in program.variables}
        self.shared = frozenset(target for target in self.player.initial if target in fields | variables)
        self.phases = {e.routine: phase_of(e.player, e.routine) for e in self.entrants}
        others = [e.player.environment.others for e in self.entrants]
        self.unwritten = frozenset(x for x in program.variables if not any(o.get(x) for o in others))
        """Variables of the open world that nothing writes in phase `start` or later."""
        self._permitted: frozenset[str] | None = None
        self.inside = {
            i: tuple(n for n, e in enumerate(self.entrants) if e.within == i) for i in range(len(self.entrants))
        }
        """Who runs in the call-outs of a context."""

    @property
    def permitted(self) -> frozenset[str]:
        """The routines that somebody may enable."""
        if self._permitted is None:
            self._permitted = _mentioned(self.program)
        return self._permitted

    # contexts that run in a call-out of another

    def carrier(self, index: int) -> int:
        """The context that lies on the processor: the one in whose call-outs it runs, or itself."""
        while self.entrants[index].within >= 0:
            index = self.entrants[index].within
        return index

    def called(self, now: Configuration, index: int) -> int:
        """Who runs in a call-out of a context now, -1 if nobody does."""
        return next((i for i in self.inside[index] if now.contexts[i].active), -1)

    def innermost(self, now: Configuration, index: int) -> int:
        """Who runs in place of a context now: the last that was started in a call-out, or itself."""
        inner = self.called(now, index)
        while inner >= 0:
            index, inner = inner, self.called(now, inner)
        return index

    def outer(self, index: int) -> tuple[int, ...]:
        """The contexts in whose call-outs a context runs, the nearest first."""
        found: list[int] = []
        while (index := self.entrants[index].within) >= 0:
            found.append(index)
        return tuple(found)

    # who may run

    def hindered(self, now: Configuration, index: int) -> str:
        """Why the processor, the phases or its end keep a context from running now; "" if nothing does."""
        context = now.contexts[index]
        if context.state is None:
            return self._may_not_start(now, index)
        if context.state.ended:
            return "it has ended"
        if self.called(now, index) >= 0:
            return "it has called out, and what came back into the driver has not ended"
        above = self.above(now, index)
        if above:
            return "something has interrupted it"
        if self.displacing(now, index):
            return "another thread of its processor is at DISPATCH_LEVEL or above"
        return ""

    def _may_not_start(self, now: Configuration, index: int) -> str:
        entrant = self.entrants[index]
        if entrant.within >= 0:
            return self._may_not_come_back(now, index)
        stack = now.stacks[entrant.processor]
        ruling = self._ruling(now, entrant.processor)
        if entrant.kind == "thread":
            if stack:
                return "a DPC or an ISR runs on its processor"
            if ruling is not None:
                return "a thread of its processor is at DISPATCH_LEVEL or above"
        else:
            level = self._level_of(now, entrant.processor, stack, ruling)
            if level >= entrant.interrupts:
                return f"its processor is at level {level}, which it cannot interrupt"
        return "" if self.closed else self._overlap(now, index)

    def _may_not_come_back(self, now: Configuration, index: int) -> str:
        """Why a context may not start in a call-out of the one it runs within."""
        entrant = self.entrants[index]
        caller = now.contexts[entrant.within]
        role, _ = entrant.player.role(entrant.routine)
        out = None if caller.state is None else self.entrants[entrant.within].player.out(caller.state)
        if caller.state is None or caller.state.ended or out is None:
            return "nobody has called out for it"
        if role is None or role.name != out.role:
            return f"the driver may come back with the role {out.role} only"
        plain = [other.phase or "run" for other in self.program.roles[role.name] if not other.params]
        if plain and self.phases[entrant.routine] != plain[0]:
            return f"`{entrant.routine}` is of a phase in which nobody comes back"
        levels = entrant.player.levels(entrant.routine)
        if not min(levels) <= caller.state.irql <= max(levels):
            return f"it does not run at level {caller.state.irql}"
        if entrant.level not in (-1, caller.state.irql):
            return f"it starts at level {caller.state.irql}"
        return self.hindered(now, entrant.within) or self._overlap(now, index)

    def _level_of(self, now: Configuration, processor: int, stack: tuple[int, ...], ruling: int | None) -> int:
        """The IRQL of what runs on a processor, the lowest that can; below all levels where nothing does."""
        top = stack[-1] if stack else ruling
        if top is not None:
            return self.irql(now, top)
        threads = [i for i in self._threads(processor) if now.contexts[i].active]
        return min((self.irql(now, i) for i in threads), default=-1)

    def irql(self, now: Configuration, index: int) -> int:
        """The level of a context; while the system still runs its `entry`, not below what that raises to."""
        index = self.innermost(now, index)
        state = now.contexts[index].state
        assert state is not None
        if self.entrants[index].within >= 0:
            return state.irql
        entering = self.entrants[index].kind != "thread" and not _entered(state)
        return max(state.irql, self.entrants[index].interrupts) if entering else state.irql

    def _threads(self, processor: int) -> list[int]:
        return [
            i for i, e in enumerate(self.entrants) if e.kind == "thread" and e.processor == processor and e.within < 0
        ]

    def _ruling(self, now: Configuration, processor: int) -> int | None:
        """The thread of a processor that is at DISPATCH_LEVEL or above, if there is one."""
        return next((i for i in self._threads(processor) if self.rules(now, i)), None)

    def rules(self, now: Configuration, index: int) -> bool:
        """Whether it is a thread that keeps the others from its processor."""
        return (
            self.entrants[index].kind == "thread"
            and now.contexts[index].active
            and self.irql(now, index) >= DISPATCH_LEVEL
        )

    def above(self, now: Configuration, index: int) -> tuple[int, ...]:
        """What has interrupted a context: all that lies above it on the stack of its processor."""
        index = self.carrier(index)
        entrant = self.entrants[index]
        stack = now.stacks[entrant.processor]
        return stack if entrant.kind == "thread" else stack[stack.index(index) + 1 :]

    def displacing(self, now: Configuration, index: int) -> tuple[int, ...]:
        """The thread at DISPATCH_LEVEL or above that keeps a thread below it from running."""
        index = self.carrier(index)
        if self.entrants[index].kind != "thread" or self.rules(now, index):
            return ()
        ruling = self._ruling(now, self.entrants[index].processor)
        return () if ruling is None else (ruling,)

    def beneath(self, now: Configuration, index: int) -> frozenset[int]:
        """What a context has interrupted or displaced: what lies below it on the stack of its processor, and the
        started threads there that it keeps from running."""
        index = self.carrier(index)
        entrant = self.entrants[index]
        threads = {i for i in self._threads(entrant.processor) if now.contexts[i].active and i != index}
        if entrant.kind == "thread":
            return frozenset(threads) if self.rules(now, index) else frozenset()
        stack = now.stacks[entrant.processor]
        return frozenset({*stack[: stack.index(index)], *threads})

    def _overlap(self, now: Configuration, index: int) -> str:
        """Why a root of the open world may not start beside what runs: `single` roots, phases that are alone. What it
        runs within is not beside it."""
        entrant = self.entrants[index]
        routine = entrant.routine
        role, _ = self.player.role(routine)
        own = self.outer(index)
        beside = [(e, c) for i, (e, c) in enumerate(zip(self.entrants, now.contexts, strict=True)) if i not in own]
        active = [e.routine for e, c in beside if c.active]
        begun = [e.routine for e, c in beside if c.state is not None]
        alike = [e for e, c in beside if c.active and (e.routine, e.binding) == (routine, entrant.binding)]
        if role is not None and role.single and alike:
            return f"only one `{routine}` runs at a time"
        phase = self.phases[routine]
        if phase in ALONE and routine in begun:
            return f"`{routine}` runs once"
        if any(c.active and self._is_newcomer(entrant, e) for e, c in beside):
            return f"a device is added on which `{routine}` is, or another one"
        outside = [e for e, c in beside if self.program.devices and c.active and self._are_apart(entrant, e)]
        if outside:
            return f"`{routine}` does not run beside `{outside[0].routine}`"
        enabled = routine in now.enabled
        if phase == "load" and any(self.phases[name] != "load" and name not in now.enabled for name in begun):
            return f"`{routine}` comes before all others"
        if phase in ALONE and any(name not in now.enabled | self._left_enabled(phase) for name in active):
            return f"`{routine}` runs alone"
        if any(self.phases[name] == "load" for name in active) and not enabled:
            return f"a routine of the phase `load` has not enabled `{routine}`"
        over = any(self.phases[name] == "unload" for name in begun)
        if over and phase != "unload" and not enabled and routine not in self.permitted:
            return f"`{routine}` is not enabled when the driver is unloaded"
        return ""

    def _is_newcomer(self, one: Entrant, other: Entrant) -> bool:
        """Whether one of two contexts adds the device, the first it is given, that the other is given too: it is alone
        on it but for what somebody may enable."""
        return any(
            self.phases[adding.routine] == "add"
            and there.routine not in self.permitted
            and not set(self._devices(there)).isdisjoint(self._devices(adding)[:1])
            for adding, there in ((one, other), (other, one))
        )

    def _are_apart(self, one: Entrant, other: Entrant) -> bool:
        """Whether the roles of two contexts say that they are never on one device at once."""
        first, second = self.player.role(one.routine)[0], self.player.role(other.routine)[0]
        if first is None or second is None:
            return False
        said = second.name in {role.name for role in first.apart} or first.name in {role.name for role in second.apart}
        if not said and not (first.among and first.among == second.among):
            return False
        mine, others = self._devices(one), self._devices(other)
        return bool({*mine[:1]} & {*others} or {*others[:1]} & {*mine})

    def _devices(self, entrant: Entrant) -> list[str]:
        """The devices that a context is given."""
        taken = parameters(self.program, self.program.routines[entrant.routine])
        return [entrant.binding[name] for name in taken if name in entrant.binding]

    def _left_enabled(self, phase: str) -> frozenset[str]:
        return self.permitted if phase == "unload" else frozenset()


def _entered(state: State) -> bool:
    """Whether the body of a context was called already: its `entry` is behind it."""
    bottom = state.frames[0]
    behind = (i.callee for i in bottom.code.instructions[: bottom.pc] if isinstance(i, Invoke))
    return any(isinstance(callee, s.Routine) and callee.name == state.root for callee in behind)


def _mentioned(program: Program) -> frozenset[str]:
    """Routines that some statement hands over by name, itself or the object that runs it, or enables: these can be
    enabled."""
    names = set()
    bodies = [r.body for r in program.routines.values()]
    bodies += [e.body for table in program.externs.values() for e in table if e.body is not None]
    for body in bodies:
        for stmt in statements(body):
            if isinstance(stmt, s.Enable):
                names |= {stmt.name, *program.run_by(stmt.name)}
            for expr in expressions(stmt):
                refs = (part.ref if isinstance(part, s.Address) else part for part in within(expr))
                names |= {ref.name for ref in refs if isinstance(ref, s.Ref)}
    deferred = {d.routine for name, d in program.deferred.items() if name in names}
    return frozenset((names & set(program.routines)) | deferred)


def phase_of(player: Player, routine: str) -> str:
    """The phase a root belongs to."""
    role, _ = player.role(routine)
    return "run" if role is None or role.phase is None else role.phase
