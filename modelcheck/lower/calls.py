"""Calls of routines, and of kernel routines that call back: graphs of their own, or statements of this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Edge
from modelcheck.lower.evaluate import TRUE
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.scope import (
    Binding,
    Frame,
    Handle,
    Lock,
    Object,
    Opaque,
    Variable,
    object_name,
)
from modelcheck.lower.steps import Steps, name_of
from modelcheck.resolve import Program
from modelcheck.source import Span
from modelcheck.verdict import Property
from modelcheck.walk import conditions, every_call, expressions, substatements, texts


class Calls(Steps, ABC):
    """Adds calls to the steps of a graph."""

    return_to: int
    """Where a `return` of the body that is being lowered leads."""
    result: Variable | None = None
    """What it fills in."""

    @abstractmethod
    def block(self, block: s.Block, at: int, frame: Frame) -> int:
        """From `at` through a block to where control goes on."""

    def prepare(self, exprs: tuple[s.Expr, ...], at: int, frame: Frame) -> tuple[int, dict[int, Variable]]:
        """The calls of routines inside expressions, in order of evaluation, before the step that uses them."""
        results: dict[int, Variable] = {}
        for expr in exprs:
            for call in self._calls(expr):
                at, result = self.call(call, at, frame, results)
                if result is not None:
                    results[id(call)] = result
        return at, results

    def _calls(self, expr: s.Expr) -> list[s.Call]:
        """Calls that are graphs of their own: of routines, and of kernel routines that call back."""
        match expr:
            case s.Call(name, args):
                inner = [call for arg in args for call in self._calls(arg)]
                return [*inner, expr] if self._is_graph(name) else inner
            case s.Unary(_, operand):
                return self._calls(operand)
            case s.Binary(_, left, right):
                return self._calls(left) + self._calls(right)
            case _:
                return []

    def _is_graph(self, name: str) -> bool:
        known = self.unit.is_graph.get(name)
        if known is None:
            known = self.unit.is_graph[name] = name in self.program.routines or calls_back(self.program, name)
        return known

    def call(self, call: s.Call, at: int, frame: Frame, results: dict[int, Variable]) -> tuple[int, Variable | None]:
        if call.name in self.program.routines:
            return self.routine_call(self.program.routines[call.name], call.args, call.span, at, frame, results)
        return self._calling_back(call, at, frame, results)

    def routine_call(
        self,
        routine: s.Routine,
        args: tuple[s.Expr, ...],
        span: Span,
        at: int,
        frame: Frame,
        results: dict[int, Variable],
    ) -> tuple[int, Variable | None]:
        """A call step, then the callee, for each combination of locks the arguments can stand for."""
        result = None if routine.result is None else self.local(f"result of {routine.name}", routine.result)
        after = self.places.new()
        for chosen in self._lock_choices(routine.params, args, frame):
            self._one_call(routine, args, span, at, frame, results, chosen, result, after)
        return after, result

    def _lock_choices(
        self, params: tuple[s.Param, ...], args: tuple[s.Expr, ...], frame: Frame
    ) -> list[dict[str, str]]:
        choices: list[dict[str, str]] = [{}]
        for param, arg in zip(params, args, strict=False):
            if isinstance(param, s.LockParam):
                ref = arg.ref if isinstance(arg, s.Address) else arg
                assert isinstance(ref, s.Ref)
                names = [name for _, name in self.evaluator().locks(ref, frame)]
                choices = [{**choice, param.name: name} for choice in choices for name in names]
        return choices

    def _one_call(
        self,
        routine: s.Routine,
        args: tuple[s.Expr, ...],
        span: Span,
        at: int,
        frame: Frame,
        results: dict[int, Variable],
        chosen: dict[str, str],
        result: Variable | None,
        after: int,
    ) -> None:
        names: dict[str, Binding] = {}
        copies_in: list[tuple[Cell, str]] = []
        staged: dict[str, Variable] = {
            p.name: self.local(f"argument {p.name}", p.type)
            for p in routine.params
            if isinstance(p, s.ValueParam) and not p.by_ref and not self._is_object_type(p.type)
        }

        def build(evaluator: KernelCalls) -> None:
            evaluator.settle(args, frame)
            self._choose_locks(evaluator, routine.params, args, frame, chosen)
            for param, arg in zip(routine.params, args, strict=False):
                names[name_of(param)] = self._argument(evaluator, param, arg, frame, chosen, staged)
            self._callers_clauses(evaluator, routine, names, frame, span)

        middle = self.edge(at, span, build, results)
        graph = self.unit.graph(routine, names, frame.quiet)
        formals = {cell.name: cell for cell in graph.inputs}
        copies_out: list[tuple[Cell, Cell]] = []
        for param in routine.params:
            if not isinstance(param, s.ValueParam):
                continue
            copies_in += self._copies(param, names.get(param.name))
            if param.by_ref:
                copies_out += [(formals[name], cell) for cell, name in self._copies(param, names.get(param.name))]
        if result is not None and graph.result is not None:
            assert isinstance(result.place, Cell)
            copies_out.append((graph.result, result.place))
        ins = tuple((cell, formals[name]) for cell, name in copies_in)
        self.graph.edges.append(
            Edge(middle, after, span, callee=graph, copies_in=ins, copies_out=tuple(copies_out), step=False)
        )

    def _is_object_type(self, kind: s.Type) -> bool:
        return isinstance(kind, s.NamedType) and (
            kind.name in self.program.devices or kind.name in self.program.handle_kinds
        )

    def _copies(self, param: s.ValueParam, binding: Binding | None) -> list[tuple[Cell, str]]:
        """(caller's cell, name of the callee's cell) for one parameter."""
        match binding:
            case Variable(Cell() as cell):
                return [] if cell.is_global and param.by_ref else [(cell, param.name)]
            case Handle(fields):
                return [(v.place, f"{param.name}.{n}") for n, v in fields.items() if isinstance(v.place, Cell)]
            case _:
                return []

    def _choose_locks(
        self,
        evaluator: KernelCalls,
        params: tuple[s.Param, ...],
        args: tuple[s.Expr, ...],
        frame: Frame,
        chosen: dict[str, str],
    ) -> None:
        for param, arg in zip(params, args, strict=False):
            if isinstance(param, s.LockParam):
                ref = arg.ref if isinstance(arg, s.Address) else arg
                assert isinstance(ref, s.Ref)
                for condition, name in evaluator.locks(ref, frame):
                    if name == chosen[param.name] and condition != TRUE:
                        evaluator.builder.emit(ir.Guess(condition))

    def _argument(
        self,
        evaluator: KernelCalls,
        param: s.Param,
        arg: s.Expr,
        frame: Frame,
        chosen: dict[str, str],
        staged: dict[str, Variable],
    ) -> Binding:
        ref = arg.ref if isinstance(arg, s.Address) else arg
        binding = frame.names.get(ref.name) if isinstance(ref, s.Ref) else None
        match param:
            case s.LockParam(name):
                return Lock(chosen[name])
            case s.ValueParam(kind, name) if self._is_object_type(kind):
                if isinstance(binding, Handle | Object):
                    return binding
                return Object(kind.name if isinstance(kind, s.NamedType) else "")
            case s.ValueParam(kind, name, True):
                assert isinstance(ref, s.Ref)
                variable = evaluator.variable(ref, frame)
                return variable if variable is not None else Opaque()
            case s.ValueParam(kind, name):
                target = staged[name]
                evaluator.store(target, evaluator.term(arg, frame, kind), frame, arg.span, name)
                return target
            case s.ObjectParam(s.ObjectKind.ANY | s.ObjectKind.TIMEOUT):
                return Opaque()
            case s.ObjectParam():
                assert isinstance(ref, s.Ref)
                return Object(object_name(ref, binding))
            case _:
                return Opaque()

    def _callers_clauses(
        self, evaluator: KernelCalls, routine: s.Routine, names: dict[str, Binding], frame: Frame, span: Span
    ) -> None:
        """C03: what the callee requires."""
        inside = Frame(names, frame.routine, frame.call, frame.callee, frame.quiet)
        for clause in routine.clauses:
            if isinstance(clause, s.ConditionClause) and clause.kind is s.ClauseKind.REQUIRES:
                condition = evaluator.term(clause.condition, inside)
                why = clause.condition.span.text
                if condition != TRUE:
                    evaluator.demand(condition, Property.C03, frame, span, routine.name, why)

    def _calling_back(
        self, call: s.Call, at: int, frame: Frame, results: dict[int, Variable]
    ) -> tuple[int, Variable | None]:
        """A kernel routine that calls back: its statements become steps of this graph, its locals cells; once for each
        combination of locks the arguments can stand for."""
        extern = self.evaluator(results).select(call, frame)
        assert extern is not None
        assert extern.body is not None
        result = None if extern.result is None else self.local(f"result of {extern.name}", extern.result)
        after = self.places.new()
        for chosen in self._lock_choices(extern.params, call.args, frame):
            self.places.merge(self._called_back(extern, call, at, frame, results, chosen, result), after)
        return after, result

    def _called_back(
        self,
        extern: s.Extern,
        call: s.Call,
        at: int,
        frame: Frame,
        results: dict[int, Variable],
        chosen: dict[str, str],
        result: Variable | None,
    ) -> int:
        """The body of a kernel routine that calls back, for locks that its arguments stand for."""
        assert extern.body is not None
        names: dict[str, Binding] = {}
        site = frame.place(call.span)

        def build(evaluator: KernelCalls) -> None:
            evaluator.settle((call,), frame)
            self._choose_locks(evaluator, extern.params, call.args, frame, chosen)
            names.update(evaluator.bind(extern.params, call.args, frame, chosen))
            inside = Frame(names, frame.routine, site, call.name, frame.quiet)
            evaluator.required(extern.clauses, inside, call.span)

        at = self.edge(at, call.span, build, results)
        inside = Frame(names, frame.routine, site, call.name, frame.quiet)
        saved, self.return_to = self.return_to, self.places.new()
        saved_result, self.result = self.result, result
        at = self.block(extern.body, at, inside)
        self.places.merge(self.without_return(at, call.span, KernelCalls.give_back), self.return_to)
        at, self.return_to, self.result = self.return_to, saved, saved_result
        return at

    def without_return(self, at: int, span: Span, give: Callable[[KernelCalls, Variable], None]) -> int:
        """The end of a body, if control comes there without `return`: gives its result a value."""
        places, result = self.places, self.result
        ends = [self.graph.entry, *(edge.target for edge in self.graph.edges)]
        if result is None or all(places.find(end) != places.find(at) for end in ends):
            return at
        return self.edge(at, span, lambda evaluator: give(evaluator, result), step=False)


def named(program: Program, body: s.Block) -> set[str]:
    """Every name that stands in a block, in a routine that it names, or in a kernel routine of the driver's own."""
    found: set[str] = set()
    pending: list[str] = list(texts(body))
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        if name in program.deferred:
            pending.append(program.deferred[name].routine)
        if name in program.routines:
            pending += texts(program.routines[name].body)
        for extern in program.externs.get(name, ()):
            if extern.span.source in program.own:
                pending += texts(extern.body)
    return found


def calls_back(program: Program, name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a kernel routine runs a routine that is handed to it, itself or in another one that it calls."""
    if name in seen:
        return False

    def found(stmt: s.Stmt) -> bool:
        calls = (call.name for expr in (*expressions(stmt), *conditions(stmt)) for call in every_call(expr))
        inner = any(calls_back(program, call, seen | {name}) for call in calls)
        return inner or isinstance(stmt, s.Callback) or any(map(found, substatements(stmt)))

    return any(extern.body is not None and found(extern.body) for extern in program.externs.get(name, ()))


__all__ = ["Calls", "calls_back", "named"]
