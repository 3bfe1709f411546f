"""A scenario as graphs: a harness for each of its contexts, on common cells for what they share.

All contexts are lowered in one unit, so that a cell stands for the same variable in each of them. Which cells every
context has of its own and which there are once is `is_common`; docs/language.md section 7 says so. Nothing interferes:
what others write is seen because it is written.
"""

from __future__ import annotations

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Check, Edge, Graph, Sort
from modelcheck.lower.evaluate import TRUE
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.program import _DEFERRED_ROLES, RUN, _Harness, _Plan, _ProgramLowerer, every_graph, frame_of
from modelcheck.lower.scope import Binding, Frame, Ledger, Lock, Object, Opaque, State, Variable
from modelcheck.lower.steps import Unit
from modelcheck.record import dataclass, replace
from modelcheck.resolve import Program, qualified, run_arguments, type_range
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL, PASSIVE_LEVEL, Obligation, Property

CODES = frozenset(
    Property(code)
    for code in (
        *("B01", "B02", "B03", "B04", "I01", "I02", "I03", "I04", "I05", "I06", "I07", "I08"),
        *("R01", "C01", "C02", "C03", "C04", "D01", "D02", "D03"),
    )
)
"""The properties that are asked of a scenario, beside R03; the others belong to the open world."""
MAX_VALUES = 4096
"""A variable without a value at the start takes at most so many."""

_COMMON = frozenset({Sort.SHARED, Sort.GHOST, Sort.EVENT, Sort.DATA, Sort.LIFE})


def is_common(cell: Cell) -> bool:
    """Whether there is one of it for all contexts. Of the others every context has its own."""
    return cell.sort in _COMMON


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A context of a scenario. `admitted` is the level below which its processor has to run for it to start (a DPC or
    an ISR); `end` the edge with which it ends, `leaves` the place where the role's `exit` begins."""

    name: str
    routine: str
    kind: s.ContextKind
    processor: int
    level: int
    admitted: int
    graph: Graph
    end: Edge
    leaves: int
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Closed:
    """A scenario as graphs. `obligations` are numbered as the edges number them; `listed` are those that are asked of
    the scenario, in source order. `starts`: what the common cells can hold at the start; `races`: for each
    DATA cell the number of its R03. `unmodelled`: callees that no model knows."""

    name: str
    program: Program
    processors: int
    contexts: tuple[Context, ...]
    starts: tuple[tuple[Cell, tuple[int, ...]], ...]
    obligations: tuple[Obligation, ...]
    listed: tuple[int, ...]
    races: dict[Cell, int]
    unmodelled: dict[str, Span]
    handed: frozenset[str]
    """Events that the system may set, as they are handed to it."""


def lower_scenarios(program: Program) -> tuple[Closed, ...]:
    """The scenarios of a checked program, in the order of the source."""
    return tuple(lower_scenario(program, scenario) for scenario in program.scenarios.values())


def lower_scenario(program: Program, scenario: s.Scenario) -> Closed:
    return _ClosedLowerer(program, scenario).run()


class _ClosedLowerer:
    def __init__(self, program: Program, scenario: s.Scenario) -> None:
        self.program = program
        self.scenario = scenario
        self.lowerer = _ProgramLowerer(program)
        self.ledger = Ledger()
        self.tags: dict[str, dict[str | None, int]] = {}
        self.environment = ir.Environment()
        state = State(program, self.environment, self.tags)
        self.unit = Unit(program, state, self.ledger, {})
        self.levels = self.lowerer._levels()

    def run(self) -> Closed:
        runs = [step for step in self.scenario.steps if isinstance(step, s.Run)]
        names = _numbered([run.routine for run in runs])
        contexts = [self._context(run, name) for run, name in zip(runs, names, strict=True)]
        for cell in self.environment.cells.values():
            if cell.sort is Sort.HOLD:
                kind = self.unit.state.kind(cell.name.removeprefix("hold "))
                tags = self.tags.get(kind.name, {None: ir.NO_TAG, "*": ir.ANY_TAG})
                cell.high = ir.hold(True, ir.MAX_COUNT, len(tags) - 1)
        contexts = [replace(context, checks=self._balance(context)) for context in contexts]
        races = self._races(contexts)
        listed = self._listed(contexts, races)
        count = 1 if self.scenario.processors is None else self.scenario.processors
        asked = tuple(replace(o, scenario=self.scenario.name) for o in self.ledger.obligations)
        return Closed(
            self.scenario.name,
            self.program,
            count,
            tuple(contexts),
            self._starts(),
            asked,
            listed,
            races,
            dict(self.ledger.unmodelled),
            frozenset(self.ledger.handed),
        )

    def _context(self, run: s.Run, name: str) -> Context:
        routine = self.program.routines[run.routine]
        plan = self._plan(routine)
        graph = Graph(f"run {name}", routine.name, routine.span)
        harness = _ClosedHarness(self.unit, graph, plan, self.levels, run)
        allowed = harness.lower()
        kind = run.kind or (s.ContextKind.THREAD if plan.role is None else plan.role.kind)
        level = self._level(run, kind, plan, allowed)
        assert harness.end is not None
        assert harness.body is not None
        return Context(
            name,
            routine.name,
            kind,
            run.processor or 0,
            level,
            max([level, *self._raised(plan)]),
            graph,
            harness.end,
            harness.body.target,
            self._claims(harness),
        )

    def _claims(self, harness: _ClosedHarness) -> tuple[Check, ...]:
        """Stand-ins for the locks that C02 speaks of; `_balance` puts B03 in their place for all others."""
        return tuple(Check(-1, self.unit.state.hold(lock), frozenset()) for lock in sorted(harness.claims))

    def _plan(self, routine: s.Routine) -> _Plan:
        use = routine.role
        deferred = {d.routine: _DEFERRED_ROLES[d.kind] for d in self.program.deferred.values()}
        if use is None and deferred.get(routine.name) in self.program.roles:
            use = s.RoleUse(deferred[routine.name], (), routine.span)
        if use is not None:
            return self.lowerer._role_plan(routine, use)
        return _Plan(routine, None, {}, RUN, False, self.lowerer._reach(routine.name))

    def _level(self, run: s.Run, kind: s.ContextKind, plan: _Plan, allowed: tuple[int, ...]) -> int:
        if run.level is not None:
            return self.program.constant(run.level) or 0
        match kind:
            case s.ContextKind.DPC:
                return DISPATCH_LEVEL
            case s.ContextKind.ISR:
                return max([allowed[0], *self._interrupts(plan), *self._raised(plan)])
            case s.ContextKind.THREAD:
                return PASSIVE_LEVEL if plan.role is None else allowed[0]

    def _interrupts(self, plan: _Plan) -> list[int]:
        """The levels of the interrupts that the role is for."""
        names = [binding.name for binding in plan.names.values() if isinstance(binding, Object)]
        interrupts = (self.program.interrupts.get(name) for name in names)
        return [self.program.constant(i.level) or 0 for i in interrupts if i is not None]

    def _raised(self, plan: _Plan) -> list[int]:
        """The levels to which the role's `entry` raises."""
        if plan.role is None or plan.role.entry is None:
            return []
        found = []
        for stmt in _statements(plan.role.entry):
            if isinstance(stmt, s.Raise):
                evaluator = _ClosedHarness(self.unit, Graph("", "", stmt.span), plan, self.levels, None).evaluator()
                level = evaluator.term(stmt.level, Frame(dict(plan.names), plan.routine.name))
                if isinstance(level, ir.Const):
                    found.append(level.value)
        return found

    def _balance(self, context: Context) -> tuple[Check, ...]:
        """B03: every lock that the context touches and its clauses do not speak of is free at its end."""
        claimed = {check.cell for check in context.checks}
        checks = []
        for cell in sorted(frame_of(context.graph) - claimed, key=lambda c: c.name):
            if cell.sort is Sort.HOLD:
                lock = cell.name.removeprefix("hold ")
                why = f"{lock} is held at exit as at entry"
                number = self.ledger.number(Property.B03, context.routine, context.graph.span, lock, why)
                checks.append(Check(number, cell, frozenset({ir.FREE})))
        return tuple(checks)

    def _races(self, contexts: list[Context]) -> dict[Cell, int]:
        """R03 for each data without a guard that a context touches."""
        cells = {cell for c in contexts for cell in frame_of(c.graph) if cell.sort is Sort.DATA}
        found = {}
        for cell in sorted(cells, key=lambda c: c.name):
            name = cell.name.removeprefix("data ")
            why = f"no two contexts touch {name} at once, one of them writing"
            found[cell] = self.ledger.number(Property.R03, "", self.program.data[name].span, name, why)
        return found

    def _listed(self, contexts: list[Context], races: dict[Cell, int]) -> tuple[int, ...]:
        numbers = set(races.values())
        numbers.update(check.obligation for context in contexts for check in context.checks)
        for graph in every_graph([context.graph for context in contexts]):
            for edge in graph.edges:
                numbers.update(edge.obligations)
        asked = {n for n in numbers if self.ledger.obligations[n].code in CODES or n in races.values()}
        names = {source: index for index, source in enumerate(self.program.sources)}

        def place(number: int) -> tuple[object, ...]:
            o = self.ledger.obligations[number]
            return (names.get(o.span.source, 0), o.span.start, o.code, o.routine, o.subject, o.why)

        return tuple(sorted(asked, key=place))

    def _starts(self) -> tuple[tuple[Cell, tuple[int, ...]], ...]:
        """What each common cell can hold at the start."""
        given = {qualified(step.target): step.value for step in self.scenario.steps if isinstance(step, s.Assign)}
        found = []
        for cell in self.environment.cells.values():
            if is_common(cell):
                found.append((cell, self._values(cell, given)))
        return tuple(found)

    def _values(self, cell: Cell, given: dict[str, s.Expr]) -> tuple[int, ...]:
        match cell.sort:
            case Sort.SHARED:
                name = cell.name.removeprefix("var ")
                declared = self.program.variables[name]
                value = given.get(name, declared.value)
                if value is not None:
                    return (self.program.constant_of(declared.type, value) or 0,)
                low, high = type_range(self.program, declared.type)
                return tuple(range(low, min(high, low + MAX_VALUES) + 1))
            case Sort.LIFE:
                return (ir.INITIALISED,)
            case Sort.GHOST:
                return cell.start
            case _:
                return (0,)


class _ClosedHarness(_Harness):
    """Starts one context: with the arguments of its `run`, and nothing held."""

    def __init__(self, unit: Unit, graph: Graph, plan: _Plan, levels: tuple[int, ...], run: s.Run | None) -> None:
        super().__init__(unit, graph, plan, levels)
        self.run = run
        self.body: Edge | None = None
        """The call of the routine."""

    def _run(self, at: int, body: Graph, names: dict[str, Binding]) -> tuple[int, Variable | None]:
        found = super()._run(at, body, names)
        self.body = self.graph.edges[-1]
        return found

    def _arguments(self, at: int, frame: Frame) -> tuple[int, dict[str, Binding]]:
        assert self.run is not None
        names: dict[str, Binding] = {}
        stored: list[tuple[Variable, s.Expr, str]] = []
        here = Frame({}, frame.routine)
        routine = self.plan.routine
        for param, arg in zip(routine.params, run_arguments(routine, self.run), strict=False):
            ref = arg.ref if isinstance(arg, s.Address) else arg
            match param:
                case s.RestParam():
                    break
                case s.LockParam(name):
                    assert isinstance(ref, s.Ref)
                    chosen = self.evaluator().locks(ref, here)
                    names[name] = Lock(chosen[0][1]) if chosen else Opaque()
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.handle_kinds:
                    names[name] = self.handle(name, self.program.handle_kinds[kind], ())
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.devices:
                    names[name] = Object(kind)
                case s.ValueParam(kind, name, by_ref):
                    known = self.evaluator().variable(ref, here) if by_ref and isinstance(ref, s.Ref) else None
                    names[name] = variable = known or self.local(name, kind)
                    if known is None:
                        stored.append((variable, arg, name))
                case s.ObjectParam(s.ObjectKind.ANY | s.ObjectKind.TIMEOUT, name) | s.OpaqueParam(name):
                    names[name] = Opaque()
                case _:
                    names[param.name] = Object(qualified(ref)) if isinstance(ref, s.Ref) else Opaque()

        def store(evaluator: KernelCalls) -> None:
            for variable, arg, name in stored:
                assert isinstance(variable.place, Cell)
                if isinstance(arg, s.Unknown) or self.program.constant_of(variable.type, arg) is None:
                    low, high = evaluator._range(variable.type)
                    register = evaluator.builder.register(variable.place)
                    evaluator.builder.emit(ir.Pick(register, f"param {name}", low, high))
                else:
                    evaluator.store(variable, evaluator.term(arg, here, variable.type), here, arg.span, name)

        return (self.edge(at, self.plan.routine.span, store, step=False) if stored else at), names

    def _required(self, at: int, names: dict[str, Binding]) -> int:
        """What the routine requires: the scenario owes it."""
        routine = self.plan.routine
        inside = Frame(names, routine.name)

        def build(evaluator: KernelCalls) -> None:
            for clause in routine.clauses:
                if isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.REQUIRES:
                    condition = evaluator.term(clause.condition, inside)
                    if condition != TRUE:
                        why = clause.condition.span.text
                        evaluator.demand(condition, Property.C03, inside, routine.span, routine.name, why)

        return self.edge(at, routine.span, build, step=False)


def _statements(block: s.Block) -> list[s.Stmt]:
    found: list[s.Stmt] = []
    for stmt in block.body:
        found.append(stmt)
        match stmt:
            case s.If(arms, otherwise):
                for inner in [arm.body for arm in arms] + ([otherwise] if otherwise else []):
                    found += _statements(inner)
            case s.Block():
                found += _statements(stmt)
            case _:
                pass
    return found


def _numbered(names: list[str]) -> list[str]:
    """`Read`, `Read 2`: the names of contexts, numbered where several run one routine."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if names.count(name) == 1 else f"{name} {counts[name]}")
    return found
