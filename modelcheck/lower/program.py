"""A whole driver: its roots, what they see of each other, and a harness for each.

A harness is the graph that starts a root: the role's `entry`, the routine, the role's `exit`, and what must hold at
the end. Its start state is open: any level of the role, any value that shared variables and lock lives can have then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.devices import bindings as device_bindings
from modelcheck.devices import device_of, named, needed, plain, with_instances
from modelcheck.devices import parameters as device_parameters
from modelcheck.ir import Cell, Check, Edge, Environment, Graph, Root, Sort, Term, every_graph
from modelcheck.kinds import Kinds
from modelcheck.lower.builder import Builder, constants, really_written
from modelcheck.lower.control import GraphLowerer
from modelcheck.lower.enabling import note_early, note_resumed
from modelcheck.lower.evaluate import TRUE, arithmetic, both, states_costs
from modelcheck.lower.kernel import KernelCalls, mentions_irql
from modelcheck.lower.routine import all_locks
from modelcheck.lower.scope import Binding, Frame, Handle, Ledger, Lock, Object, Opaque, State, Variable
from modelcheck.lower.steps import Unit
from modelcheck.record import dataclass, field, replace
from modelcheck.resolve import Program, around_run, comes_back, find_role, following, type_range
from modelcheck.source import Span
from modelcheck.verdict import APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL, Obligation, Property
from modelcheck.walk import (
    calls_in,
    conditions,
    every_call,
    every_statement,
    expressions,
    lock_tests,
    references,
    substatements,
)

_T = TypeVar("_T")

PHASES = ("load", "add", "start", "run", "stop", "unload")
LOAD, ADD, START, RUN, UNLOAD = (PHASES.index(phase) for phase in ("load", "add", "start", "run", "unload"))
MAX_LISTED = 256
MAX_STRANGERS = 3
_DEFERRED_ROLES = {
    s.DeferredKind.DPC: "KDEFERRED_ROUTINE",
    s.DeferredKind.TIMER: "KDEFERRED_ROUTINE",
    s.DeferredKind.WORKITEM: "IO_WORKITEM_ROUTINE",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the text says of the values of a shared variable: as which it is `declared`, and with which it is `written`
    then or somewhere. It may be written with others, and not every statement is come to."""

    declared: Sequence[int]
    written: Sequence[int]


@dataclass(slots=True)
class Lowered:
    """A driver as graphs. `facts` are obligations that the declarations alone decide: whether each holds."""

    program: Program
    roots: list[Root] = field(default_factory=list)
    obligations: list[Obligation] = field(default_factory=list)
    facts: dict[int, bool] = field(default_factory=dict)
    unmodelled: dict[str, Span] = field(default_factory=dict)
    uncalled: list[s.Routine] = field(default_factory=list)
    unfit: list[s.Routine] = field(default_factory=list)
    """Routines by clauses alone whose lock parameters no lock of the driver fits."""
    ledger: Ledger = field(default_factory=Ledger)
    questions: set[int] = field(default_factory=set)
    """Obligations of our own, not the user's: see `Root.outcomes`."""
    levels: tuple[int, ...] = ()
    writers: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """Which routines write a value to a shared variable, as far as the values are known."""
    said: dict[str, Said] = field(default_factory=dict)
    """Of each shared variable what the text says about its values."""
    own: int = 0
    """How many obligations come from the model; those behind are questions asked about its states."""

    def strangers(self, roots: Iterable[Root]) -> str:
        """The callees of some roots that no model knows, in words."""
        graphs = every_graph([root.graph for root in roots])
        found = {name for graph in graphs for name in self.ledger.strangers.get(graph.routine, ())}
        return strangers(found or self.unmodelled)


def strangers(names: Iterable[str]) -> str:
    """`` `A` or `B` ``; of many the first."""
    ordered = sorted(names)
    shown = [f"`{name}`" for name in ordered[:MAX_STRANGERS]]
    if len(ordered) > MAX_STRANGERS:
        shown.append(f"{len(ordered) - MAX_STRANGERS} others")
    return " or ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def lower(program: Program, instances: int = 0) -> Lowered:
    """The graphs of a checked program; with at least that many instances of each device told apart."""
    return _ProgramLowerer(with_instances(program, max(instances, needed(program)))).run()


@dataclass(slots=True)
class _Plan:
    """A root before it is lowered."""

    routine: s.Routine
    role: s.Role | None
    names: dict[str, Binding]
    phase: int
    single: bool
    routines: frozenset[str]
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    """What lock parameters and devices are."""
    devices: tuple[tuple[str, str], ...] = ()
    """For each parameter that is a device which instance."""


class _ProgramLowerer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.ledger = Ledger()
        self.lowered = Lowered(
            program, obligations=self.ledger.obligations, unmodelled=self.ledger.unmodelled, ledger=self.ledger
        )
        self.operations: dict[object, ir.Operation] = {}
        self.written: dict[int, dict[str, _Written]] = {}
        """For each plan, by identity, what its routines write."""
        self.interference: dict[tuple[int | None, str], dict[str, Sequence[int]]] = {}
        """What the routines that overlap write: all of them, or without the plan that is single, by its identity; to
        members of a device that is added, nothing."""
        self.starts: dict[tuple[int, str, str, frozenset[int]], dict[str, Sequence[int]]] = {}
        """For each phase the values of shared variables at its start."""
        self.tags: dict[str, dict[str | None, int]] = {}
        self.timed = states_costs(program)
        self.kinds = Kinds(program)
        self.calls = {name: calls_in(routine.body) for name, routine in program.routines.items()}
        self.callees = {name: _called(program, calls) for name, calls in self.calls.items()}
        self.externs = {name: _externs(program, calls) for name, calls in self.calls.items()}
        """For each routine the kernel routines with a body that it calls, directly or through them."""

    def run(self) -> Lowered:
        self.lowered.levels = self._levels()
        self._declarations()
        plans = self._plans()
        writes = {name: self._routine_writes(name, routine) for name, routine in self.program.routines.items()}
        for routine, written in sorted(writes.items()):
            for name, what in sorted(written.items()):
                for value in sorted(what.values):
                    self.lowered.writers.setdefault((name, value), []).append(routine)
        self.lowered.said = self._said(writes)
        units: dict[object, Unit] = {}
        fixed = self._fixed(writes)
        called_back = self._called_back(plans, writes)
        freed, again = self._freed(plans), self._again()
        for plan in plans:
            environment = self._environment(plan, plans, writes)
            environment.fixed = fixed
            environment.early = plan.phase < RUN
            environment.again = plan.role is not None and plan.role.again
            key = (environment.early, environment.again, *sorted(environment.writes.items(), key=lambda item: item[0]))
            unit = units.get(repr(key))
            if unit is None:
                state = State(self.program, environment, self.tags, self.timed)
                state.called_back, state.freed, state.again = called_back, freed, again
                unit = units[repr(key)] = Unit(self.program, state, self.ledger, self.operations)
            self._root(plan, unit, plans, writes)
        self._finish(units.values())
        self.lowered.own = len(self.lowered.obligations)
        return self.lowered

    # ---- declarations ----

    def _levels(self) -> tuple[int, ...]:
        named = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, self.program.constants.get("DIRQL", 5), HIGH_LEVEL}
        for interrupt in self.program.interrupts.values():
            named.add(self.program.constant(interrupt.level) or 0)
        for roles in self.program.roles.values():
            for role in roles:
                for bound in role.irql or ():
                    named.add(self.program.constant(bound) or 0)
        return tuple(sorted(level for level in named if 0 <= level <= HIGH_LEVEL))

    def _fact(self, code: Property, span: Span, subject: str, why: str, holds: bool) -> None:
        self.lowered.facts[self.ledger.number(code, "", span, subject, why)] = holds

    def _declarations(self) -> None:
        """B07 and R02 are decided by the declarations alone."""
        for name, lock in _once(self.program.locks):
            kind = self.program.lock_kinds.get(lock.kind)
            if kind is not None and kind.resident and lock.span.source in self.program.own:
                self._fact(Property.B07, lock.span, name, f"the storage of {name} is resident", not lock.paged)
        for name, data in _once(self.program.data):
            guards = [self._kind_of(guard) for guard in data.guards]
            if any(kind is not None and kind.spins for kind in guards):
                why = f"{name} is resident, as a spin lock guards it"
                self._fact(Property.B07, data.span, name, why, not data.paged)
            if data.guards:
                self._fact(Property.R02, data.span, name, f"{name} has one guard", len(data.guards) == 1)
            elif data.span.source in self.program.own:
                why = f"no two contexts touch {name} at once, one of them writing"
                self.ledger.number(Property.R03, "", data.span, name, why)
        for name, variable in _once(self.program.variables):
            if variable.guards:
                self._fact(Property.R02, variable.span, name, f"{name} has one guard", len(variable.guards) == 1)

    def _kind_of(self, guard: s.Ref) -> s.LockKind | None:
        for name in (".".join((guard.name, *(m.name for m in guard.selectors if isinstance(m, s.Member)))), guard.name):
            if name in self.program.locks:
                return self.program.lock_kinds.get(self.program.locks[name].kind)
        return None

    # ---- roots ----

    def _plans(self) -> list[_Plan]:
        called = {name for names in self.callees.values() for name in names}
        deferred = {d.routine: _DEFERRED_ROLES[d.kind] for d in self.program.deferred.values()}
        plans: list[_Plan] = []
        for name, routine in self.program.routines.items():
            use = routine.role
            if use is None and name in deferred and deferred[name] in self.program.roles:
                use = s.RoleUse(deferred[name], (), routine.span)
            if use is not None:
                plans += self._on_devices(self._role_plan(routine, use))
            elif routine.clauses and name not in called:
                plans += [p for plan in self._clause_plans(routine) for p in self._on_devices(plan)]
            elif name not in called:
                self.lowered.uncalled.append(routine)
        return plans

    def _role_plan(self, routine: s.Routine, use: s.RoleUse) -> _Plan:
        role, arguments = find_role(self.program, use)
        names: dict[str, Binding] = {}
        for name, argument in arguments.items():
            if isinstance(argument, s.Ref):
                names[name] = self._role_argument(role, name, argument)
        phase = PHASES.index(role.phase) if role.phase in PHASES else RUN
        return _Plan(routine, role, names, phase, role.single, self._reach(routine.name))

    def _on_devices(self, plan: _Plan) -> list[_Plan]:
        """A root once for each way to give it the devices that it takes."""
        found = []
        for taken in device_bindings(self.program, plan.routine):
            objects = {name: Object(device) for name, device in taken.items()}
            found.append(replace(plan, bindings={**plan.bindings, **objects}, devices=tuple(taken.items())))
        return found

    def _role_argument(self, role: s.Role, name: str, argument: s.Ref) -> Binding:
        param = next(p for p in role.params if not isinstance(p, s.RestParam) and p.name == name)
        members = ".".join((argument.name, *(m.name for m in argument.selectors if isinstance(m, s.Member))))
        indices = [self.program.constant(m.value) for m in argument.selectors if isinstance(m, s.Index)]
        members += "".join(f"[{index}]" for index in indices)
        return Lock(members) if isinstance(param, s.LockParam) else Object(members)

    def _clause_plans(self, routine: s.Routine) -> list[_Plan]:
        """A routine with clauses that nobody calls: once for each lock its lock parameters can be."""
        bindings: list[dict[str, str]] = [{}]
        for param in routine.params:
            if isinstance(param, s.LockParam):
                fitting = [n for n in all_locks(self.program) if self._fits(n, param.kind)]
                bindings = [{**b, param.name: n} for b in bindings for n in fitting]
        bindings = [b for b in bindings if not self.kinds.refuses(routine, b)]
        if not bindings:
            self.lowered.unfit.append(routine)
        reach = self._reach(routine.name)
        bound = [{name: Lock(lock) for name, lock in b.items()} for b in bindings]
        return [_Plan(routine, None, {}, RUN, False, reach, b) for b in bound]

    def _fits(self, lock: str, kind: str | None) -> bool:
        declared = self.program.locks[lock.partition("[")[0]]
        return declared.span.source in self.program.own and kind in (None, declared.kind)

    def _reach(self, name: str) -> frozenset[str]:
        seen: set[str] = set()
        pending = [name]
        while pending:
            routine = pending.pop()
            if routine not in seen:
                seen.add(routine)
                pending += [callee for callee in self.callees.get(routine, ()) if callee in self.program.routines]
        return frozenset(seen)

    # ---- shared variables ----

    def _environment(self, plan: _Plan, plans: list[_Plan], writes: dict[str, dict[str, _Written]]) -> Environment:
        """What others may write while a root runs: all roots that can overlap with it."""
        if not self._is_beside(plan):
            return Environment()
        once = plan.single or plan.phase == LOAD
        own = once or (plan.devices and any(self._apart(plan, other) for other in plans))
        key = (id(plan) if own else None, self._added(plan))
        shared = self.interference.get(key)
        if shared is None:
            total: dict[str, _Written] = {}
            for other in plans:
                if self._is_beside(other) and not (other is plan and once):
                    away = (self._added(other), self._added(plan), self._apart(plan, other))
                    for name, written in self._written(other, writes).items():
                        if device_of(name) not in away or not device_of(name):
                            total.setdefault(name, _Written()).add(written)
            shared = self.interference[key] = {name: written.all() for name, written in total.items()}
        return Environment(writes=dict(shared))

    @cached_property
    def _names_devices(self) -> bool:
        return named(self.program)

    def _apart(self, plan: _Plan, other: _Plan) -> str:
        """A device that two roots are given and on which, as their roles say, they never are at once, if it cannot be
        told from others that they touch; else ""."""
        if not (plan.devices and other.devices and plan.role and other.role) or plan is other or self._names_devices:
            return ""
        mine, theirs = ([plain(device) for _, device in each.devices] for each in (plan, other))
        shared = (device for device in (mine[0], theirs[0]) if mine.count(device) == theirs.count(device) == 1)
        alike = plan.single and other.single and plan.role.among == other.role.among != ""
        said = {r.name for r in plan.role.apart}, {r.name for r in other.role.apart}
        return next(shared, "") if alike or other.role.name in said[0] or plan.role.name in said[1] else ""

    def _is_beside(self, plan: _Plan) -> bool:
        """Whether anybody runs beside a root whom what it writes concerns: other devices of the driver, and in the
        first phases what it has handed to the system."""
        return plan.phase >= START or (plan.phase == ADD and bool(self.program.devices)) or self._hands_over(plan)

    def _hands_over(self, plan: _Plan) -> bool:
        """Whether a root can start something: it names it, or what the role or a kernel routine does enables it."""
        if any(map(self._names, plan.routines)):
            return True
        bodies = [(self.program.routines[name].body, self.externs[name]) for name in sorted(plan.routines)]
        blocks = () if plan.role is None else (plan.role.entry, plan.role.exit)
        bodies += [(block, _externs(self.program, calls_in(block))) for block in blocks if block is not None]
        return any(self._enables(body, called) for body, called in bodies)

    def _enables(self, body: s.Block, called: Iterable[s.Extern]) -> bool:
        """Whether a body, or a kernel routine that it calls, enables something by its own name."""
        parts = [(body, frozenset[str]())]
        parts += [(extern.body, _local(extern.params)) for extern in called if extern.body]
        return any(
            isinstance(stmt, s.Enable) and stmt.name not in hidden and self.program.run_by(stmt.name)
            for part, hidden in parts
            for stmt in every_statement(part)
        )

    def _names(self, routine: str) -> bool:
        """Whether a routine hands to kernel routines what can be started."""
        program, calls = self.program, self.calls[routine]
        devices = device_parameters(program, program.routines[routine])
        started = {*program.routines, *program.deferred, *program.interrupts}
        given = [arg.ref for call in calls for arg in call.args if isinstance(arg, s.Address)]
        given += [ref for call in calls for arg in call.args for ref in references(arg)]
        return any(_meant(ref, devices) in started for ref in given)

    def _added(self, plan: _Plan) -> str:
        """The device that a root adds to the driver, the first it is given: nobody else is on it. "" if there is none,
        or somebody can be, or it cannot be told from others the root touches."""
        devices = [plain(device) for _, device in plan.devices]
        if plan.phase != ADD or not devices or devices.count(devices[0]) > 1 or self._names_devices:
            return ""
        return "" if self._hands_over(plan) else devices[0]

    def _said(self, writes: dict[str, dict[str, _Written]]) -> dict[str, Said]:
        found: dict[str, Said] = {}
        told: dict[str, set[int]] = {}
        for by_routine in writes.values():
            for name, written in by_routine.items():
                told.setdefault(name, set()).update(written.said)
        for name, variable in self.program.variables.items():
            low, high = type_range(self.program, variable.type)
            value = None if variable.value is None else self.program.constant_of(variable.type, variable.value)
            declared = range(low, high + 1) if variable.value is None else (low if value is None else value,)
            both = declared if variable.value is None else tuple(sorted({*declared, *told.get(plain(name), ())}))
            found[name] = Said(declared, both)
        return found

    def _again(self) -> frozenset[str]:
        """The routines that some kernel routine enables `again`, by all that it is given."""
        names = set[str]()
        enabling: dict[str, set[str]] = {}
        for call in (call for calls in self.calls.values() for call in calls):
            if call.name not in enabling:
                called = _externs(self.program, [call])
                statements = (stmt for extern in called if extern.body for stmt in every_statement(extern.body))
                enabling[call.name] = {stmt.name for stmt in statements if isinstance(stmt, s.Enable) and stmt.again}
            if enabling[call.name]:
                given = (arg.ref if isinstance(arg, s.Address) else arg for arg in call.args)
                names |= enabling[call.name] | {ref.name for ref in given if isinstance(ref, s.Ref)}
        timed = (name for name in self.program.routines if self.program.is_timed(name))
        return frozenset((*timed, *(routine for name in sorted(names) for routine in self.program.run_by(name))))

    def _freed(self, plans: list[_Plan]) -> frozenset[str]:
        """The kinds of locks of which some may be freed by roots that others run beside; but for what can be closed,
        which others go on asking for."""
        beside = ADD if self.program.devices else RUN
        freeing = (p for p in plans if p.phase >= beside or (p.role is not None and p.role.again))
        names = sorted(frozenset[str]().union(*(plan.routines for plan in freeing)))
        externs = {id(e): e for name in names for e in self.externs[name]}.values()
        return self._kinds_freed(externs)

    def _kinds_freed(self, externs: Iterable[s.Extern]) -> frozenset[str]:
        """The kinds of locks that some of these kernel routines free, but for what can be closed."""
        found = set[str | None]()
        for extern in externs:
            stmts = every_statement(extern.body) if extern.body is not None else ()
            frees = {stmt.lock.name for stmt in stmts if isinstance(stmt, s.Free)}
            found |= {p.kind for p in extern.params if isinstance(p, s.LockParam) and p.name in frees}
        kinds = self.program.lock_kinds
        return frozenset(k for k in kinds if not kinds[k].closes and not found.isdisjoint({None, k}))

    def _fixed(self, writes: Mapping[str, Mapping[str, _Written]]) -> dict[str, int]:
        """The value of each shared variable that is declared with one and that no routine writes."""
        written = {name for by_routine in writes.values() for name in by_routine}
        written |= {
            n for roles in self.program.roles.values() for role in roles for w in self._by_role(role) for n in w
        }
        return {
            name: value
            for name, declared in self.program.variables.items()
            if plain(name) not in written
            and declared.value is not None
            and (value := self.program.constant_of(declared.type, declared.value)) is not None
        }

    def _written(self, plan: _Plan, writes: dict[str, dict[str, _Written]]) -> dict[str, _Written]:
        total = self.written.get(id(plan))
        if total is None:
            total = self.written[id(plan)] = {}
            for own in (*(writes.get(routine, {}) for routine in sorted(plan.routines)), *self._by_role(plan.role)):
                for name, written in own.items():
                    total.setdefault(name, _Written()).add(written)
        return total

    def _called_back(
        self, plans: list[_Plan], writes: dict[str, dict[str, _Written]]
    ) -> dict[str, dict[str, Sequence[int]]]:
        """For each role that a call-out can come back to, what the routines that play it can write to shared variables,
        those included that they call out to in turn."""
        total: dict[str, dict[str, _Written]] = {}
        inner: dict[str, set[str]] = {}
        bodies = (e.body for externs in self.program.externs.values() for e in externs if e.body is not None)
        wanted = {stmt.role for body in bodies for stmt in every_statement(body) if isinstance(stmt, s.MayReenter)}
        for plan in plans:
            if plan.role is not None and plan.role.name in wanted and comes_back(self.program, plan.role):
                written = total.setdefault(plan.role.name, {})
                for name, what in self._written(plan, writes).items():
                    written.setdefault(name, _Written()).add(what)
                for name in sorted(plan.routines):
                    called = (self.program.routines[name].body, *(e.body for e in self.externs[name]))
                    inner.setdefault(plan.role.name, set()).update(_call_outs(called))
        found: dict[str, dict[str, Sequence[int]]] = {}
        for role in total:
            roles, pending = {role}, [role]
            while pending:
                following = inner.get(pending.pop(), set()) & total.keys() - roles
                roles |= following
                pending += sorted(following)
            together: dict[str, _Written] = {}
            for one in sorted(roles):
                for name, what in total[one].items():
                    together.setdefault(name, _Written()).add(what)
            by_name = {n: together[plain(n)].all() for n in self.program.variables if plain(n) in together}
            found[role] = {name: values for name, values in by_name.items() if values}
        return found

    def _by_role(self, role: s.Role | None) -> list[dict[str, _Written]]:
        """What the `entry` and `exit` of a role write to shared variables: only the user's own see any."""
        if role is None or role.span.source not in self.program.own:
            return []
        blocks = [block for block in (role.entry, role.exit) if block is not None]
        return [_writes(self.program, block, _externs(self.program, calls_in(block))) for block in blocks]

    def _routine_writes(self, name: str, routine: s.Routine) -> dict[str, _Written]:
        """What a routine's own statements write to shared variables, also through a device that it is given."""
        devices = device_parameters(self.program, routine)
        return _writes(self.program, routine.body, self.externs[name], devices, routine.params)

    def _verify_writes(self, plan: _Plan, root: Root, writes: dict[str, dict[str, _Written]]) -> None:
        """What a root writes to shared variables is what the others are told that it may write."""
        told = self._written(plan, writes)
        for graph in every_graph([root.graph]):
            for edge in graph.edges:
                if edge.operation is not None and any(c is not None and c.sort is Sort.SHARED for c in edge.cells):
                    for cell in (edge.cells[register] for register in really_written(edge)):
                        if cell is None or cell.sort is not Sort.SHARED:
                            continue
                        if plain(cell.name).removeprefix("var ") not in told:
                            raise AssertionError(f"{root.routine} writes {cell.name}, and nobody is told")

    def _starts(
        self, plan: _Plan, plans: list[_Plan], writes: dict[str, dict[str, _Written]]
    ) -> dict[str, Sequence[int]]:
        """Values of shared variables when a root starts: declared, or written in its own or an earlier phase; by itself
        only if it may have run before. Nobody has been on a device that is added; on one that is started also those
        may have been who are kept apart from it, as on a second one that who adds is given."""
        once, added = plan.routine.name if plan.phase in (LOAD, UNLOAD) else "", self._added(plan)
        beside = plans if plan.phase < RUN and plan.devices else ()
        apart = frozenset(id(other) for other in beside if self._apart(plan, other))
        known = self.starts.get((plan.phase, once, added, apart))
        if known is not None:
            return dict(known)
        starts: dict[str, _Written] = {}
        for name, declared in self.program.variables.items():
            low, high = type_range(self.program, declared.type)
            start = starts[name] = _Written()
            if declared.value is None:
                start.anything(low, high)
            else:
                value = self.program.constant_of(declared.type, declared.value)
                start.values.add(low if value is None else value)
        for other in plans:
            before = other.phase <= plan.phase or min(other.phase, plan.phase) >= RUN
            if id(other) in apart or (before and other.routine.name != once):
                told = self._written(other, writes)
                for name, start in starts.items():
                    if plain(name) in told and not (added and device_of(name) == added):
                        start.add(told[plain(name)])
        found = self.starts[plan.phase, once, added, apart] = {name: start.all() for name, start in starts.items()}
        return dict(found)

    # ---- harnesses ----

    def _root(self, plan: _Plan, unit: Unit, plans: list[_Plan], writes: dict[str, dict[str, _Written]]) -> None:
        graph = Graph(f"start {plan.routine.name}", plan.routine.name, plan.routine.span)
        harness = _Harness(unit, graph, plan, self.lowered.levels)
        levels = harness.lower()
        kind = "thread" if plan.role is None else plan.role.kind.value
        role = "" if plan.role is None else plan.role.name
        environment = unit.state.environment
        root = Root(plan.routine.name, graph, plan.phase, levels, environment, kind, role, plan.single)
        root.devices = plan.devices
        if plan.role is not None:
            root.among, root.apart = plan.role.among, frozenset(other.name for other in plan.role.apart)
            root.last = plan.role.last
            root.again, root.resumes = plan.role.again, plan.role.resumes
            root.awaits = frozenset(other.name for other in plan.role.awaits)
            root.follows = following(self.program.roles, role)
            root.comes_back = role if comes_back(self.program, plan.role) else ""
        root.admitted = harness.admitted(levels)
        root.continues = harness.goes_on
        root.given = [*harness.given_cells, *(unit.state.hold(lock) for lock in sorted(harness.claims))]
        root.end = harness.end
        root.running = frozenset(harness.running)
        root.starts = self._starts(plan, plans, writes)
        self._verify_writes(plan, root, writes)
        self.lowered.roots.append(root)

    def _finish(self, units: Iterable[Unit]) -> None:
        """What is only known when everything is lowered: how many tags there are, who writes ghosts, B03 at the
        ends."""
        for unit in units:
            for cell in unit.state.environment.cells.values():
                if cell.sort is Sort.HOLD:
                    tags = self.tags.get(
                        unit.state.kind(cell.name.removeprefix("hold ")).name, {None: ir.NO_TAG, "*": ir.ANY_TAG}
                    )
                    cell.high = ir.hold(True, ir.MAX_COUNT, len(tags) - 1)
        ghosts = _ghost_writes(self.lowered.roots)
        for environment in dict.fromkeys(root.environment for root in self.lowered.roots):
            for cell in environment.cells.values():
                if cell.sort is Sort.GHOST:
                    cell.others = tuple(sorted(ghosts.get(cell.name, ())))
                    cell.start = tuple(sorted({*cell.start, *cell.others}))
        self.lowered.questions.update(self.ledger.timing.values())
        for root in self.lowered.roots:
            self._balance(root)
            self._freed_at_end(root)
        note_early(self.lowered.roots, self.ledger, self.operations)
        note_resumed(self.lowered.roots, self._freeable())
        self.lowered.questions.update(
            n for r in self.lowered.roots for e in r.early.values() for ns in e.values() for n in ns
        )

    def _freeable(self) -> frozenset[str]:
        """The life cells of locks of the kinds that some kernel routine frees; what can be closed begins anew then."""
        kinds = self._kinds_freed(e for table in self.program.externs.values() for e in table)
        locks = self.program.locks
        return frozenset(f"life {n}" for n in all_locks(self.program) if locks[n.partition("[")[0]].kind in kinds)

    def _balance(self, root: Root) -> None:
        """B03: every lock the root touches is free at its end."""
        frame = frame_of(root.graph)
        assert root.end is not None
        span = root.graph.span
        checks = []
        for cell in sorted((c for c in frame if c.sort is Sort.HOLD and c.is_global), key=lambda c: c.name):
            lock = cell.name.removeprefix("hold ")
            if cell in root.given:
                continue
            number = self.ledger.number(Property.B03, root.routine, span, lock, f"{lock} is held at exit as at entry")
            checks.append(Check(number, cell, frozenset({ir.FREE})))
        root.end.checks = tuple(checks)
        self._questions(root, frame)

    def _freed_at_end(self, root: Root) -> None:
        """R04: who has freed a lock has still freed it at the end, having let go of what kept others out; on an edge of
        its own that leads nowhere."""
        assert root.end is not None
        if root.phase == LOAD:
            return
        edges = [edge for graph in every_graph([root.graph]) for edge in graph.edges if edge.operation is not None]
        touched = {edge.cells[i.register] for edge in edges for i in _accesses(edge) if i.write}
        cells = root.environment.cells
        for name in sorted(cell.name for cell in touched if cell is not None):
            life = cells.get(f"life {name.removeprefix('data ')}")
            if life is not None:
                builder = Builder(self.operations)
                freed = arithmetic(s.BinaryOp.EQ, ir.Reg(builder.register(life)), ir.Const(ir.FREED))
                builder.emit(ir.Guess(freed))
                builder.emit(ir.Access(builder.register(cells[name]), True, False))
                graph, at = root.graph, root.end.source
                edge = Edge(at, graph.location(), graph.span, builder.finish(), tuple(builder.cells), step=False)
                graph.edges.insert(-1, edge)

    def _questions(self, root: Root, frame: frozenset[Cell]) -> None:
        """With which lives of locks the driver can go on after this root, where it changes any."""
        written = {
            edge.cells[register]
            for graph in every_graph([root.graph])
            for edge in graph.edges
            if edge.operation is not None
            for register in edge.operation.writes
        }
        checks = []
        for cell in sorted((c for c in frame if c.sort is Sort.LIFE and c in written), key=lambda c: c.name):
            for value in range(cell.low, cell.high + 1):
                why = f"{root.routine} does not end with {cell.name} = {value}"
                number = self.ledger.number(Property.B05, f"start {root.routine}", root.graph.span, cell.name, why)
                self.lowered.questions.add(number)
                root.outcomes[cell.name, value] = number
                others = frozenset(range(cell.low, cell.high + 1)) - {value}
                checks.append(Check(number, cell, others))
        root.graph.edges[-1].checks = tuple(checks)


def _once(table: Mapping[str, _T]) -> list[tuple[str, _T]]:
    """What is declared, without the further instances of devices."""
    return [(name, item) for name, item in table.items() if plain(name) == name]


@dataclass(slots=True)
class _Written:
    """Values a routine may write to a variable, and those that its text says."""

    values: set[int] = field(default_factory=set)
    said: set[int] = field(default_factory=set)
    wide: range | None = None
    """All of a range too wide to list, where anything may be written."""

    def add(self, other: _Written) -> None:
        self.values |= other.values
        self.said |= other.said
        self.wide = self.wide or other.wide

    def anything(self, low: int, high: int) -> None:
        if high - low < MAX_LISTED:
            self.values.update(range(low, high + 1))
        else:
            self.wide = range(low, high + 1)

    def all(self) -> Sequence[int]:
        return self.wide if self.wide is not None else tuple(sorted(self.values))


class _Harness(GraphLowerer):
    """Starts a root: role entry, the routine, role exit, I02."""

    def __init__(self, unit: Unit, graph: Graph, plan: _Plan, levels: tuple[int, ...]) -> None:
        super().__init__(unit, graph)
        self.plan = plan
        self.levels = levels
        self.goes_on: Cell | None = None
        self.given_cells: list[Cell] = []
        self.end: Edge | None = None
        self.kept: dict[str, Cell] = {}
        self.claims: set[str] = set()
        self.running: set[str] = set()

    def lower(self) -> tuple[int, ...]:
        """The graph; gives the levels the root can start at."""
        plan, graph, program = self.plan, self.graph, self.program
        routine = plan.routine
        graph.entry, graph.exit = self.places.new(), self.places.new()
        kirql = s.NamedType("KIRQL", routine.span)
        before = self.local("irql at start", kirql)
        role_name = routine.name if plan.role is None else plan.role.name
        frame = Frame(dict(plan.names), routine.name, routine.span, role_name)

        def start(evaluator: KernelCalls) -> None:
            builder = evaluator.builder
            irql = evaluator.term(s.Irql(routine.span), frame)
            evaluator.store(before, irql, frame, routine.span, "irql at start")
            for declared in program.context_variables.values():
                cell = self.unit.state.context(declared)
                builder.assign(builder.register(cell), ir.Const(cell.start[0]), cell.low, cell.high, None)

        at = self.edge(graph.entry, routine.span, start)
        taken, given_back = around_run(program, routine, plan.role)
        self.running = {lock for stmt in taken for _, lock in self.evaluator().locks(stmt.lock, frame)}
        at = self.sequence(taken, at, frame)
        if plan.role is not None and plan.role.entry is not None:
            self.return_to = self.places.new()
            at = self.sequence(plan.role.entry.body, at, frame)
        at, names = self._arguments(at, frame)
        at = self._required(at, names)
        self.claims = self.claimed(Frame(names, routine.name))
        body = self.unit.graph(routine, names)
        at, result = self._run(at, body, names)
        if plan.role is not None and plan.role.exit is not None:
            at = self.sequence(plan.role.exit.body, at, frame)
        at = self.sequence(given_back, at, frame)
        at = self._continues(at, frame, result)

        def end(evaluator: KernelCalls) -> None:
            irql = evaluator.term(s.Irql(routine.span), frame)
            same = arithmetic(s.BinaryOp.EQ, irql, evaluator.term_of(before))
            why = "the IRQL at exit is that at entry"
            own = Frame({}, routine.name)
            if not self._changes_irql():
                evaluator.demand(same, Property.I02, own, routine.span, routine.name, why)
            for lock, kept in self.kept.items():
                hold = ir.Reg(evaluator.builder.register(self.unit.state.hold(lock)))
                unchanged = _held_alike(hold, ir.Reg(evaluator.builder.register(kept)))
                evaluator.demand(
                    unchanged, Property.B03, own, routine.span, lock, f"{lock} is held at exit as at entry"
                )

        ended = self.edge(at, routine.span, end)
        self.end = graph.edges[-1]

        def go_on(evaluator: KernelCalls) -> None:
            if self.goes_on is not None:
                evaluator.builder.emit(ir.Guess(ir.Reg(evaluator.builder.register(self.goes_on))))

        went_on = self.edge(ended, routine.span, go_on, step=False)
        self.edge(went_on, routine.span, lambda evaluator: None, step=False, target=graph.exit)
        self.places.settle()
        return self._levels()

    def _changes_irql(self) -> bool:
        """A routine may say that it ends at another level; then C02 speaks of that, not I02."""
        return any(
            isinstance(c, s.RaisesClause)
            or (isinstance(c, s.ConditionClause) and c.kind is s.ClauseKind.ENSURES and mentions_irql(c.condition))
            for c in self.plan.routine.clauses
        )

    def _levels(self) -> tuple[int, ...]:
        role = self.plan.role
        if role is None or role.irql is None:
            return self.levels
        frame = Frame(dict(self.plan.names), self.plan.routine.name)
        bounds = [self.evaluator().term(bound, frame) for bound in role.irql]
        low, high = (bound.value if isinstance(bound, ir.Const) else 0 for bound in bounds)
        return tuple(sorted(level for level in {*self.levels, low, high} if low <= level <= high))

    def admitted(self, levels: tuple[int, ...]) -> int:
        """The level at which the root begins: its own, or the one that the role's `entry` raises to first."""
        begins = max(levels, default=PASSIVE_LEVEL)
        role = self.plan.role
        frame = Frame(dict(self.plan.names), self.plan.routine.name)
        for stmt in role.entry.body if role is not None and role.entry is not None else ():
            if isinstance(stmt, s.Acquire):
                break
            if isinstance(stmt, s.Raise):
                level = self.evaluator().term(stmt.level, frame)
                begins = max(begins, level.value if isinstance(level, ir.Const) else HIGH_LEVEL)
        return begins

    def _arguments(self, at: int, frame: Frame) -> tuple[int, dict[str, Binding]]:
        """Parameters of the root itself: values are open."""
        names: dict[str, Binding] = {}
        variables: list[Variable] = []
        for param in self.plan.routine.params:
            match param:
                case s.RestParam():
                    continue
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.handle_kinds:
                    handle = self.handle(name, self.program.handle_kinds[kind], tuple(all_locks(self.program)))
                    names[name] = handle
                    variables += list(handle.fields.values())
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.devices:
                    names[name] = self.plan.bindings[name]
                case s.ValueParam(kind, name):
                    variable = self.local(name, kind)
                    names[name] = variable
                    variables.append(variable)
                case _:
                    names[param.name] = self.plan.bindings.get(param.name, Opaque())

        def pick(evaluator: KernelCalls) -> None:
            for variable in variables:
                assert isinstance(variable.place, Cell)
                register = evaluator.builder.register(variable.place)
                if variable.place.sort is Sort.LOCKREF:
                    evaluator.builder.assign(register, ir.Const(0), 0, variable.place.high, None)
                else:
                    low, high = evaluator._range(variable.type)
                    evaluator.builder.emit(ir.Pick(register, f"param {variable.place.name}", low, high))

        return (self.edge(at, self.plan.routine.span, pick, step=False) if variables else at), names

    def _required(self, at: int, names: dict[str, Binding]) -> int:
        """The routine's `requires`: assumed where there is no role, owed by the system where there is one."""
        routine, role = self.plan.routine, self.plan.role
        inside = Frame(names, routine.name)

        def build(evaluator: KernelCalls) -> None:
            if role is None:
                self._given(evaluator, inside)
            for clause in routine.clauses:
                if isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.REQUIRES:
                    condition = evaluator.term(clause.condition, inside)
                    if condition == TRUE:
                        continue
                    if role is None:
                        evaluator.builder.emit(ir.Guess(condition))
                    else:
                        why = clause.condition.span.text
                        evaluator.demand(condition, Property.C03, inside, routine.span, routine.name, why)

        return self.edge(at, routine.span, build, step=False)

    def claimed(self, frame: Frame) -> set[str]:
        """Locks whose hold at the end the clauses speak of; C02 says of them what B03 says of the others."""
        found: set[str] = set()
        for clause in self.plan.routine.clauses:
            refs: list[s.Ref] = []
            if isinstance(clause, s.LockClause):
                refs = [clause.lock]
            elif isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.ENSURES:
                refs = [held.lock for held in lock_tests(clause.condition)]
            found.update(lock for ref in refs for _, lock in self.evaluator().locks(ref, frame))
        return found

    def _given(self, evaluator: KernelCalls, frame: Frame) -> None:
        """Locks that a root without a role may find held: those its `requires` and `releases` speak of."""
        state, builder = self.unit.state, evaluator.builder
        claimed = self.claimed(frame)
        for lock, (low, high) in self._possible_holds(evaluator, frame).items():
            cell = state.hold(lock)
            register = builder.register(cell)
            self.given_cells.append(cell)
            how = builder.scratch(low, high)
            builder.emit(ir.Pick(how, f"held {lock}", low, high))
            for value, shared in ((1, False), (2, True)):
                took = ir.Set(register, ir.Const(ir.hold(shared, 1, ir.ANY_TAG)), 0, cell.high, None)
                builder.emit(ir.Choose(arithmetic(s.BinaryOp.EQ, ir.Reg(how), ir.Const(value)), (took,), ()))
            if lock not in claimed:
                kept = Cell(f"hold of {lock} at start", Sort.LEVEL, 0, cell.high, is_global=False)
                self.graph.locals.append(kept)
                self.kept[lock] = kept
                builder.assign(builder.register(kept), ir.Reg(register), 0, cell.high, None)

    def _possible_holds(self, evaluator: KernelCalls, frame: Frame) -> dict[str, tuple[int, int]]:
        """For each lock the clauses speak of how it may be held at the start: from 0 (not) over 1 (exclusively) to 2
        (shared)."""
        found: dict[str, tuple[int, int]] = {}
        for clause in self.plan.routine.clauses:
            if isinstance(clause, s.LockClause):
                modes = {s.Mode.EXCLUSIVE: (1, 1), s.Mode.SHARED: (2, 2), s.Mode.EITHER: (1, 2)}
                for _, lock in evaluator.locks(clause.lock, frame):
                    found[lock] = (0, 0) if clause.acquires else modes[clause.mode]
        for clause in self.plan.routine.clauses:
            if isinstance(clause, s.ConditionClause):
                for held in lock_tests(clause.condition):
                    for _, lock in evaluator.locks(held.lock, frame):
                        if lock not in found or found[lock] == (0, 1):
                            found[lock] = (0, 2 if held.mode is s.Mode.SHARED else 1)
        return found

    def _run(self, at: int, body: Graph, names: dict[str, Binding]) -> tuple[int, Variable | None]:
        routine = self.plan.routine
        formals = {cell.name: cell for cell in body.inputs}
        ins: list[tuple[Cell, Cell]] = []
        for param in routine.params:
            if isinstance(param, s.ValueParam):
                ins += [(cell, formals[name]) for cell, name in self._copies(param, names.get(param.name))]
        result = None if routine.result is None else self.local("result", routine.result)
        outs: list[tuple[Cell, Cell]] = []
        if result is not None and body.result is not None:
            assert isinstance(result.place, Cell)
            outs.append((body.result, result.place))
        after = self.places.new()
        self.graph.edges.append(
            Edge(at, after, routine.span, callee=body, copies_in=tuple(ins), copies_out=tuple(outs), step=False)
        )
        return after, result

    def _continues(self, at: int, frame: Frame, result: Variable | None) -> int:
        role = self.plan.role
        if role is None or role.continues is None or result is None:
            return at
        goes_on = self.local("goes on", s.BoolType(self.plan.routine.span))
        assert isinstance(goes_on.place, Cell)
        self.goes_on = goes_on.place
        condition = role.continues
        inside = Frame({**frame.names, "result": result}, frame.routine, frame.call, frame.callee)

        def build(evaluator: KernelCalls) -> None:
            evaluator.store(goes_on, evaluator.term(condition, inside), inside, self.plan.routine.span, "goes on")

        return self.edge(at, self.plan.routine.span, build, step=False)


def _held_alike(one: Term, other: Term) -> Term:
    """Whether two holds are the same but for their tags: those of the start have none of their own."""
    free, tag = ir.Const(ir.FREE), ir.Const(ir.TAG_APART)
    both_free = arithmetic(s.BinaryOp.EQ, arithmetic(s.BinaryOp.EQ, one, free), arithmetic(s.BinaryOp.EQ, other, free))
    way, other_way = arithmetic(s.BinaryOp.MOD, one, tag), arithmetic(s.BinaryOp.MOD, other, tag)
    return both(both_free, arithmetic(s.BinaryOp.EQ, way, other_way))


def _accesses(edge: Edge) -> Iterator[ir.Access]:
    return (instruction for instruction in ir.instructions(edge.code) if isinstance(instruction, ir.Access))


def frame_of(graph: Graph) -> frozenset[Cell]:
    """Every global cell a graph or its callees touch."""
    return frames([graph])[graph]


def frames(roots: list[Graph]) -> dict[Graph, frozenset[Cell]]:
    """For each graph reachable from the roots the global cells it or its callees touch."""
    order = every_graph(roots)
    own = {g: {c for e in g.edges for c in e.cells if c is not None and c.is_global} for g in order}
    changed = True
    while changed:
        changed = False
        for graph in reversed(order):
            cells = own[graph]
            size = len(cells)
            for edge in graph.edges:
                if edge.callee is not None:
                    cells |= own[edge.callee]
            changed |= len(cells) != size
    return {graph: frozenset(cells) for graph, cells in own.items()}


def _ghost_writes(roots: list[Root]) -> dict[str, set[int]]:
    """What is written to each ghost field anywhere: constants, or its whole range."""
    found: dict[str, set[int]] = {}
    for graph in every_graph([root.graph for root in roots]):
        for edge in graph.edges:
            if edge.operation is not None:
                for register in edge.operation.writes:
                    cell = edge.cells[register]
                    if cell is not None and cell.sort is Sort.GHOST:
                        constants(edge.operation.code, register, cell, found.setdefault(cell.name, set()))
    return found


def _called(program: Program, calls: Iterable[s.Call]) -> frozenset[str]:
    """Routines that are called, and those that are handed to kernel routines that call back."""
    found: set[str] = set()
    for call in calls:
        if call.name in program.routines:
            found.add(call.name)
        for extern in program.externs.get(call.name, ()):
            for param, arg in zip(extern.params, call.args, strict=False):
                ref = arg.ref if isinstance(arg, s.Address) else arg
                if isinstance(param, s.ObjectParam) and param.kind is s.ObjectKind.ROUTINE and isinstance(ref, s.Ref):
                    target = program.deferred[ref.name].routine if ref.name in program.deferred else ref.name
                    found.add(target)
    return frozenset(found)


def _writes(
    program: Program,
    body: s.Block,
    called: Iterable[s.Extern],
    devices: Mapping[str, str] = MappingProxyType({}),
    params: tuple[s.Param, ...] = (),
) -> dict[str, _Written]:
    """What a body's own statements, and the driver's own kernel routines that it calls, write to shared variables."""
    found: dict[str, _Written] = {}
    parts = [_scoped(body, _local(params, devices))]
    own = (extern for extern in called if extern.span.source in program.own)
    parts += [_scoped(extern.body, _local(extern.params)) for extern in own if extern.body]
    for stmt, hidden in (pair for part in parts for pair in part):
        if isinstance(stmt, s.Assign) and stmt.target.name not in hidden:
            _assigned(program, _meant(stmt.target, devices), stmt.value, found)
        for call in (call for expr in (*expressions(stmt), *conditions(stmt)) for call in every_call(expr)):
            for arg in call.args:
                if isinstance(arg, s.Address) and arg.ref.name not in hidden:
                    _assigned(program, _meant(arg.ref, devices), None, found)
    return found


def _local(params: tuple[s.Param, ...], devices: Mapping[str, str] = MappingProxyType({})) -> frozenset[str]:
    """The names of parameters; a device that is one gives its own name to its members."""
    return frozenset(param.name for param in params if not isinstance(param, s.RestParam)).difference(devices)


def _scoped(stmt: s.Stmt, hidden: frozenset[str]) -> Iterator[tuple[s.Stmt, frozenset[str]]]:
    """A statement and those inside it, each with the names that are local where it stands."""
    yield stmt, hidden
    around = (stmt.start, stmt.step) if isinstance(stmt, s.For) else ()
    for part in (*substatements(stmt), *around):
        if part is not None:
            yield from _scoped(part, hidden)
        if isinstance(part, s.Declare):
            hidden = hidden | {part.name}


def _call_outs(bodies: Iterable[s.Block | None]) -> set[str]:
    """The roles to which these may come back."""
    statements = (stmt for part in bodies if part is not None for stmt in every_statement(part))
    return {stmt.role for stmt in statements if isinstance(stmt, s.MayReenter)}


def _externs(program: Program, calls: Iterable[s.Call]) -> list[s.Extern]:
    """The kernel routines with a body that are called, or called by these."""
    found: dict[int, s.Extern] = {}
    pending = list(dict.fromkeys(call.name for call in calls))
    while pending:
        for extern in program.externs.get(pending.pop(), ()):
            if extern.body is not None and id(extern.body) not in found:
                found[id(extern.body)] = extern
                pending += [call.name for call in calls_in(extern.body)]
    return list(found.values())


def _meant(ref: s.Ref, devices: Mapping[str, str]) -> str:
    """The full name of what a reference names, where it is not local: `Port.busy` for `p.busy`."""
    members = (selector.name for selector in ref.selectors if isinstance(selector, s.Member))
    return ".".join((devices.get(ref.name, ref.name), *members))


def _assigned(program: Program, name: str, value: s.Expr | None, found: dict[str, _Written]) -> None:
    declared = program.variables.get(name)
    if declared is None:
        return
    written = found.setdefault(name, _Written())
    constant = None if value is None else program.constant_of(declared.type, value)
    low, high = type_range(program, declared.type)
    if constant is not None:
        written.values.add(constant)
        written.said.add(constant)
    else:
        written.anything(low, high)


__all__ = ["Handle", "Lowered", "every_graph", "frame_of", "frames", "lower"]
