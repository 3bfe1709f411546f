"""A routine as a graph: parameters, clauses, the handles of its locks."""

from __future__ import annotations

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Graph
from modelcheck.lower.control import GraphLowerer
from modelcheck.lower.evaluate import Evaluator, arithmetic, negate
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.scope import (
    Binding,
    Frame,
    Handle,
    Lock,
    Object,
    Opaque,
    Variable,
)
from modelcheck.lower.steps import Unit
from modelcheck.resolve import Program, qualified
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL, Property
from modelcheck.walk import conditions, every_call, expressions, substatements


class RoutineLowerer(GraphLowerer):
    """The graph of one routine."""

    def __init__(
        self, unit: Unit, graph: Graph, routine: s.Routine, names: dict[str, Binding], quiet: bool = False
    ) -> None:
        super().__init__(unit, graph)
        self.routine = routine
        self.base = Frame(self._parameters(names), routine.name, quiet=quiet)

    def _parameters(self, names: dict[str, Binding]) -> dict[str, Binding]:
        own: dict[str, Binding] = {}
        for param in self.routine.params:
            match param:
                case s.ValueParam(kind, name) if (
                    isinstance(kind, s.NamedType) and kind.name in self.program.handle_kinds
                ):
                    given = names.get(name)
                    candidates = given.candidates if isinstance(given, Handle) else ()
                    handle = self.handle(name, self.program.handle_kinds[kind.name], candidates)
                    own[name] = handle
                    self.graph.inputs += [v.place for v in handle.fields.values() if isinstance(v.place, Cell)]
                case s.ValueParam(kind, name) if isinstance(kind, s.NamedType) and kind.name in self.program.devices:
                    own[name] = names.get(name, Object(kind.name))
                case s.ValueParam(kind, name, by_ref):
                    given = names.get(name)
                    if (
                        by_ref
                        and isinstance(given, Variable)
                        and isinstance(given.place, Cell)
                        and given.place.is_global
                    ):
                        own[name] = given  # the caller's variable itself: others may write to it meanwhile
                        continue
                    variable = self.local(name, kind)
                    own[name] = variable
                    assert isinstance(variable.place, Cell)
                    self.graph.inputs.append(variable.place)
                case s.RestParam():
                    pass
                case _:
                    own[param.name] = names.get(param.name, Opaque())
            if isinstance(param, s.ValueParam) and param.by_ref:
                self.graph.outputs += [c for c in self.graph.inputs if c.name.partition(".")[0] == param.name]
        return own

    def lower(self) -> None:
        routine, graph = self.routine, self.graph
        graph.entry, graph.exit = self.places.new(), self.places.new()
        if routine.result is not None:
            self.result = self.local("result", routine.result)
            assert isinstance(self.result.place, Cell)
            graph.result = self.result.place
            graph.outputs.append(self.result.place)
        self.candidates = handle_candidates(self, routine.body, self.base)
        self.find_labels(routine.body)
        at = self._entry(graph.entry)
        self.return_to = self.places.new()
        at = self.block(routine.body, at, self.base)
        self.places.merge(self.without_return(at, routine.span, KernelCalls.leave_open), self.return_to)
        self._exit(self.return_to)
        for edge in graph.edges if self.base.quiet else ():
            edge.joined = True
        self.places.settle()

    def _entry(self, at: int) -> int:
        olds = [old for clause in self.routine.clauses for old in _olds(clause)]
        same = any(isinstance(clause, s.SameIrqlClause) for clause in self.routine.clauses)
        if not (olds or same or self.routine.paged or self._always()):
            return at
        kirql = s.NamedType("KIRQL", self.routine.span)

        def build(evaluator: KernelCalls) -> None:
            for old in olds:
                kind = evaluator.type_of(old.operand, self.base) or kirql
                variable = self.local("old", kind)
                self.olds[id(old)] = variable
                evaluator.store(variable, evaluator.term(old.operand, self.base), self.base, old.span, "old")
            if same:
                self.entry_irql = self.local("old irql", kirql)
                irql = evaluator.term(s.Irql(self.routine.span), self.base)
                evaluator.store(self.entry_irql, irql, self.base, self.routine.span, "old irql")
            evaluator.builder.changes_irql = True

        return self.edge(at, self.routine.span, build, step=False)

    entry_irql: Variable | None = None

    def _always(self) -> list[s.ConditionClause]:
        clauses = [c for c in self.routine.clauses if isinstance(c, s.ConditionClause)]
        return [c for c in clauses if c.kind is s.ClauseKind.ALWAYS]

    def after(self, evaluator: KernelCalls) -> None:
        if self.routine.paged and evaluator.builder.changes_irql:
            below = arithmetic(
                s.BinaryOp.LT, evaluator.term(s.Irql(self.routine.span), self.base), ir.Const(DISPATCH_LEVEL)
            )
            why = f"pageable {self.routine.name} runs below DISPATCH_LEVEL"
            evaluator.demand(below, Property.I06, self.base, self.routine.span, self.routine.name, why)
        for clause in self._always():
            condition = evaluator.term(clause.condition, self.base)
            evaluator.demand(
                condition, Property.C02, self.base, clause.span, self.routine.name, f"always {clause.span.text}"
            )

    def afterwards(self, span: Span, at: int) -> int:
        if not (self.routine.paged or self._always()):
            return at

        def build(evaluator: KernelCalls) -> None:
            evaluator.builder.changes_irql = True

        return self.edge(at, span, build, step=False)

    def _exit(self, at: int) -> None:
        """C02: the clauses that speak of the end."""
        ending = [
            c for c in self.routine.clauses if not isinstance(c, s.ConditionClause) or c.kind is s.ClauseKind.ENSURES
        ]
        if not ending:
            self.places.merge(at, self.graph.exit)
            return

        def build(evaluator: KernelCalls) -> None:
            for clause in ending:
                self._ending(evaluator, clause)

        self.edge(at, self.routine.span, build, step=False, target=self.graph.exit)

    def _ending(self, evaluator: KernelCalls, clause: s.Clause) -> None:
        name, frame = self.routine.name, self.base
        if self.result is not None:
            frame = Frame({**frame.names, "result": self.result}, frame.routine)
        irql = evaluator.term(s.Irql(clause.span), frame)
        match clause:
            case s.ConditionClause(_, condition):
                term = evaluator.term(condition, frame)
                evaluator.demand(term, Property.C02, frame, clause.span, name, f"ensures {condition.span.text}")
            case s.LockClause(acquires, lock, mode):
                wanted = None if mode is s.Mode.EITHER else mode is s.Mode.SHARED
                held = evaluator._any_held(evaluator.locks(lock, frame), wanted if acquires else None)
                word = "acquires" if acquires else "releases"
                evaluator.demand(
                    held if acquires else negate(held),
                    Property.C02,
                    frame,
                    clause.span,
                    name,
                    f"{word} {lock.span.text}",
                )
            case s.RaisesClause(level):
                equal = arithmetic(s.BinaryOp.EQ, irql, evaluator.term(level, frame))
                evaluator.demand(equal, Property.C02, frame, clause.span, name, f"raises irql to {level.span.text}")
            case s.SameIrqlClause():
                assert self.entry_irql is not None
                equal = arithmetic(s.BinaryOp.EQ, irql, evaluator.term_of(self.entry_irql))
                evaluator.demand(equal, Property.C02, frame, self.routine.span, name, "same irql")


def _olds(clause: s.Clause) -> list[s.Old]:
    if not isinstance(clause, s.ConditionClause) or clause.kind is not s.ClauseKind.ENSURES:
        return []
    found: list[s.Old] = []

    def visit(expr: s.Expr) -> None:
        match expr:
            case s.Old():
                found.append(expr)
            case s.Unary(_, operand):
                visit(operand)
            case s.Binary(_, left, right):
                visit(left)
                visit(right)
            case _:
                pass

    visit(clause.condition)
    return found


def handle_candidates(lowerer: GraphLowerer, body: s.Block, frame: Frame) -> dict[str, tuple[str, ...]]:
    """For each handle name in a body the locks it is passed along with; all locks where it goes to a routine."""
    program, found = lowerer.program, dict[str, dict[str, None]]()
    everything = dict.fromkeys(all_locks(program))
    evaluator = lowerer.evaluator()

    def visit_call(call: s.Call) -> None:
        refs = [arg.ref if isinstance(arg, s.Address) else arg for arg in call.args]
        plain = [ref for ref in refs if isinstance(ref, s.Ref)]
        locks = [name for ref in plain if evaluator.is_lock(ref, frame) for name in _possible(evaluator, ref, frame)]
        for ref in plain:
            if not ref.selectors and not evaluator.is_lock(ref, frame):
                known = found.setdefault(ref.name, {})
                known.update(everything if call.name in program.routines else dict.fromkeys(locks))

    def visit(stmt: s.Stmt) -> None:
        for expr in (*expressions(stmt), *conditions(stmt)):
            for call in every_call(expr):
                visit_call(call)
        for inner in substatements(stmt):
            visit(inner)
        if isinstance(stmt, s.For):
            for part in (stmt.start, stmt.step):
                if part is not None:
                    visit(part)

    visit(body)
    return {name: tuple(locks) for name, locks in found.items()}


def _possible(evaluator: Evaluator, ref: s.Ref, frame: Frame) -> list[str]:
    """Names of the locks a reference can stand for; its index is not looked at."""
    binding = frame.names.get(ref.name)
    if isinstance(binding, Lock) and not ref.selectors:
        return [binding.name]
    name = binding.name if isinstance(binding, Lock) else qualified(ref)
    if isinstance(binding, Object):  # a device or an interrupt that is a parameter
        name = f"{binding.name}{name.removeprefix(ref.name)}"
    name = name if name in evaluator.program.locks else ref.name
    declared = evaluator.program.locks.get(name)
    if declared is None:
        return all_locks(evaluator.program)
    return [name] if declared.size is None else [f"{name}[{i}]" for i in range(declared.size)]


def all_locks(program: Program) -> list[str]:
    names: list[str] = []
    for name, lock in program.locks.items():
        names += [name] if lock.size is None else [f"{name}[{i}]" for i in range(lock.size)]
    return names


__all__ = ["RoutineLowerer", "all_locks"]
