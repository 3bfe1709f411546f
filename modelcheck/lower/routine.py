"""A routine as a graph: control flow, calls, clauses.

Locations that are only joined by "go on" are one location (`_Places`), so that a graph has no edges without meaning.
A `finally` block is lowered once for every way its `try` can be left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TypeAlias

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Edge, Graph, Sort
from modelcheck.lower.builder import Builder
from modelcheck.lower.evaluate import TRUE, Evaluator, arithmetic, both, negate
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.repeated import Patterns
from modelcheck.lower.scope import (
    Binding,
    Frame,
    Handle,
    Ledger,
    Lock,
    Object,
    Opaque,
    State,
    Value,
    Variable,
    is_kirql,
)
from modelcheck.record import dataclass
from modelcheck.resolve import Program, qualified, type_range
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL, NO_LEVEL, Property
from modelcheck.walk import conditions, every_call, expressions, substatements

Key: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class Unit:
    """What the lowering of a whole program shares: one for each environment, with common operations and ledger."""

    program: Program
    state: State
    ledger: Ledger
    operations: dict[object, ir.Operation]
    patterns: Patterns = field(default_factory=Patterns)
    graphs: dict[Key, Graph] = field(default_factory=dict)
    order: list[Graph] = field(default_factory=list)
    is_graph: dict[str, bool] = field(default_factory=dict)
    """Which names, when called, are graphs of their own."""

    def graph(self, routine: s.Routine, names: dict[str, Binding]) -> Graph:
        """The graph of a routine for what its lock, handle and object parameters are bound to; made once."""
        key: Key = (routine.name, *(_binding_key(names.get(_name(p))) for p in routine.params))
        graph = self.graphs.get(key)
        if graph is None:
            graph = self.graphs[key] = Graph(routine.name, routine.name, routine.span)
            self.order.append(graph)
            RoutineLowerer(self, graph, routine, names).lower()
        return graph


def _name(param: s.Param) -> str:
    return "..." if isinstance(param, s.RestParam) else param.name


def _binding_key(binding: Binding | None) -> object:
    match binding:
        case Lock(name) | Object(name):
            return name
        case Handle(_, candidates):
            return candidates
        case Variable(Cell() as cell) if cell.is_global:
            return cell.name
        case _:
            return None


@dataclass(frozen=True, slots=True)
class _Breakable:
    """A loop or switch: where `break` and `continue` go."""

    break_to: int
    continue_to: int | None


@dataclass(frozen=True, slots=True)
class _Trying:
    final: s.Block
    leave_to: int
    identity: int
    frame: Frame


class _Places:
    """Locations, with those that mean the same place merged."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.same: dict[int, int] = {}

    def new(self) -> int:
        return self.graph.location()

    def find(self, place: int) -> int:
        while place in self.same:
            place = self.same[place]
        return place

    def merge(self, place: int, into: int) -> None:
        """`place`, which nothing leaves yet, is `into`."""
        place, into = self.find(place), self.find(into)
        if place != into:
            self.same[place] = into

    def settle(self) -> None:
        """Numbers the locations anew, without gaps, entry 0 and exit last."""
        graph = self.graph
        entry, last = self.find(graph.entry), self.find(graph.exit)
        used = {entry, last}
        for edge in graph.edges:
            edge.source, edge.target = self.find(edge.source), self.find(edge.target)
            used.update((edge.source, edge.target))
        numbers = {place: number for number, place in enumerate(sorted(used))}
        for edge in graph.edges:
            edge.source, edge.target = numbers[edge.source], numbers[edge.target]
        graph.entry, graph.exit, graph.size = numbers[entry], numbers[last], len(numbers)


class GraphLowerer:
    """Builds one graph: steps, conditions, statements."""

    def __init__(self, unit: Unit, graph: Graph) -> None:
        self.unit = unit
        self.program = unit.program
        self.graph = graph
        self.places = _Places(graph)
        self.control: list[_Breakable | _Trying] = []
        self.labels: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.olds: dict[int, Variable] = {}
        self.return_to = 0
        self.candidates: dict[str, tuple[str, ...]] = {}
        self.interlocked = 0
        """How many `atomic` blocks are around the statement."""

    # ---- steps ----

    def evaluator(self, results: dict[int, Variable] | None = None) -> KernelCalls:
        unit = self.unit
        evaluator = KernelCalls(self.program, unit.state, unit.ledger, Builder(unit.operations), unit.patterns)
        evaluator.results = {**self.olds, **(results or {})}
        evaluator.interlocked = self.interlocked > 0
        return evaluator

    def after(self, evaluator: KernelCalls) -> None:
        """What must hold after every step; routines with `paged` or `always` add it."""

    def edge(
        self,
        at: int,
        span: Span,
        build: Callable[[KernelCalls], None],
        results: dict[int, Variable] | None = None,
        step: bool = True,
        taken: bool | None = None,
        target: int | None = None,
    ) -> int:
        """One step from `at`; gives where it leads."""
        evaluator = self.evaluator(results)
        build(evaluator)
        self.after(evaluator)
        builder = evaluator.builder
        target = self.places.new() if target is None else target
        operation = builder.finish()
        cells, slots = tuple(builder.cells), tuple(builder.slots)
        made = Edge(at, target, span, operation, cells, slots, step=step, taken=taken)
        self.graph.edges.append(made)
        return target

    def local(self, name: str, kind: s.Type) -> Variable:
        low, high = type_range(self.program, kind)
        sort = Sort.LEVEL if is_kirql(kind) else Sort.LOCAL
        cell = Cell(name, sort, low, high, is_global=False)
        self.graph.locals.append(cell)
        return Variable(cell, kind)

    def handle(self, name: str, kind: s.HandleKind, candidates: tuple[str, ...]) -> Handle:
        fields: dict[str, Variable] = {}
        for declared in kind.fields:
            if isinstance(declared, s.LockField):
                cell = Cell(f"{name}.{declared.name}", Sort.LOCKREF, 0, len(candidates), is_global=False)
                self.graph.locals.append(cell)
                fields[declared.name] = Variable(cell, s.NamedType("lock", declared.span))
            else:
                fields[declared.name] = self.local(f"{name}.{declared.name}", declared.type)
        return Handle(fields, candidates)

    # ---- calls of routines ----

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
                names[_name(param)] = self._argument(evaluator, param, arg, frame, chosen, staged)
            self._callers_clauses(evaluator, routine, names, frame, span)

        middle = self.edge(at, span, build, results)
        graph = self.unit.graph(routine, names)
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
                return binding if isinstance(binding, Object) else Object(qualified(ref))
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
        self.places.merge(at, self.return_to)
        at, self.return_to, self.result = self.return_to, saved, saved_result
        return at

    result: Variable | None = None

    # ---- statements ----

    def block(self, block: s.Block, at: int, frame: Frame) -> int:
        inner = Frame(dict(frame.names), frame.routine, frame.call, frame.callee, frame.quiet)
        return self.sequence(block.body, at, inner)

    def sequence(self, body: tuple[s.Stmt, ...], at: int, frame: Frame) -> int:
        for stmt in body:
            at = self.statement(stmt, at, frame)
        return at

    def statement(self, stmt: s.Stmt, at: int, frame: Frame) -> int:
        """From `at` to where control goes on; a fresh place nothing leads to where it does not."""
        match stmt:
            case s.Block():
                return self.block(stmt, at, frame)
            case s.Declare():
                return self.declare(stmt, at, frame)
            case s.If(arms, otherwise):
                return self.if_(arms, otherwise, at, frame)
            case s.While(condition, body):
                return self.loop(None, condition, None, body, at, frame)
            case s.For(start, condition, step, body):
                at = at if start is None else self.statement(start, at, frame)
                return self.loop(start, condition, step, body, at, frame)
            case s.DoWhile(body, condition):
                return self.do_while(body, condition, at, frame)
            case s.Switch():
                return self.switch(stmt, at, frame)
            case s.Goto(label):
                return self.goto(label, at)
            case s.Label(name):
                place = self.labels[name][0]
                self.places.merge(at, place)
                return place
            case s.Jump(kind):
                return self.jump(kind, at)
            case s.Return():
                return self.return_(stmt, at, frame)
            case s.Try():
                return self.try_(stmt, at, frame)
            case s.Atomic(body):
                return self.atomic(body, at, frame)
            case s.Callback(name, args):
                return self.callback(stmt, name, args, at, frame)
            case _:
                return self.simple(stmt, at, frame)

    def simple(self, stmt: s.Stmt, at: int, frame: Frame) -> int:
        exprs = expressions(stmt)
        if isinstance(stmt, s.CallStmt) and self._is_graph(stmt.call.name):
            at, results = self.prepare(stmt.call.args, at, frame)
            at, _ = self.call(stmt.call, at, frame, results)
            return self.afterwards(stmt.span, at)
        at, results = self.prepare(exprs, at, frame)

        def build(evaluator: KernelCalls) -> None:
            evaluator.settle(exprs, frame)
            evaluator.simple(stmt, frame)

        return self.edge(at, stmt.span, build, results, step=frame.call is None)

    def afterwards(self, span: Span, at: int) -> int:
        """After a call: what must hold after every step."""
        return at

    def declare(self, stmt: s.Declare, at: int, frame: Frame) -> int:
        kind = stmt.type
        if isinstance(kind, s.NamedType) and kind.name in self.program.handle_kinds:
            handle = self.handle(stmt.name, self.program.handle_kinds[kind.name], self.candidates.get(stmt.name, ()))
            frame.names[stmt.name] = handle

            def reset(evaluator: KernelCalls) -> None:
                for variable in handle.fields.values():
                    assert isinstance(variable.place, Cell)
                    low, high = variable.place.low, variable.place.high
                    value = high if variable.place.sort is Sort.LEVEL else low
                    evaluator.builder.assign(
                        evaluator.builder.register(variable.place), ir.Const(value), low, high, None
                    )

            return self.edge(at, stmt.span, reset)
        at, results = self.prepare(expressions(stmt), at, frame)
        variable = self.local(stmt.name, kind)
        assert isinstance(variable.place, Cell)
        cell = variable.place

        def build(evaluator: KernelCalls) -> None:
            if stmt.value is not None:
                evaluator.settle((stmt.value,), frame)
                evaluator.store(variable, evaluator.term(stmt.value, frame, kind), frame, stmt.span, stmt.name)
            elif cell.sort is Sort.LEVEL:
                evaluator.builder.assign(evaluator.builder.register(cell), ir.Const(NO_LEVEL), 0, NO_LEVEL, None)
            else:
                register = evaluator.builder.register(cell)
                evaluator.builder.emit(ir.Pick(register, f"uninit {stmt.name}", cell.low, cell.high))

        at = self.edge(at, stmt.span, build, results, step=frame.call is None)
        frame.names[stmt.name] = variable
        return at

    def condition(self, expr: s.Expr, at: int, frame: Frame) -> tuple[int, int]:
        """Where control goes when the condition holds, and when it does not."""
        at, results = self.prepare((expr,), at, frame)
        places = []
        for taken in (True, False):

            def build(evaluator: KernelCalls, taken: bool = taken) -> None:
                evaluator.settle((expr,), frame)
                term = evaluator.term(expr, frame)
                if term != ir.Const(int(taken)):
                    evaluator.builder.emit(ir.Guess(_as_condition(term) if taken else negate(term)))

            places.append(self.edge(at, expr.span, build, results, step=frame.call is None, taken=taken))
        return places[0], places[1]

    def if_(self, arms: tuple[s.Arm, ...], otherwise: s.Block | None, at: int, frame: Frame) -> int:
        end = self.places.new()
        for arm in arms:
            then, at = self.condition(arm.condition, at, frame)
            self.places.merge(self.block(arm.body, then, frame), end)
        if otherwise is not None:
            at = self.block(otherwise, at, frame)
        self.places.merge(at, end)
        return end

    def loop(
        self,
        start: object,
        condition: s.Expr | None,
        step: s.Stmt | None,
        body: s.Block,
        at: int,
        frame: Frame,
    ) -> int:
        head, again, end = self.places.new(), self.places.new(), self.places.new()
        self.places.merge(at, head)
        inside = head
        if condition is not None:
            inside, out = self.condition(condition, head, frame)
            self.places.merge(out, end)
        self.control.append(_Breakable(end, again))
        self.places.merge(self.block(body, inside, frame), again)
        self.control.pop()
        at = again if step is None else self.statement(step, again, frame)
        self.places.merge(at, head)
        return end

    def do_while(self, body: s.Block, condition: s.Expr, at: int, frame: Frame) -> int:
        head, test, end = self.places.new(), self.places.new(), self.places.new()
        self.places.merge(at, head)
        self.control.append(_Breakable(end, test))
        self.places.merge(self.block(body, head, frame), test)
        self.control.pop()
        again, out = self.condition(condition, test, frame)
        self.places.merge(again, head)
        self.places.merge(out, end)
        return end

    def switch(self, stmt: s.Switch, at: int, frame: Frame) -> int:
        at, results = self.prepare((stmt.subject,), at, frame)
        end = self.places.new()
        kind = self.evaluator().type_of(stmt.subject, frame)
        entries = [self.places.new() for _ in stmt.cases]
        values = [None if case.value is None else self._case(case.value, kind) for case in stmt.cases]
        for value, entry in zip(values, entries, strict=True):
            if value is not None:
                self._case_edge(stmt, at, frame, results, kind, entry, value, ())
        default = next((entry for value, entry in zip(values, entries, strict=True) if value is None), end)
        self._case_edge(stmt, at, frame, results, kind, default, None, tuple(v for v in values if v is not None))
        self.control.append(_Breakable(end, None))
        inner = Frame(dict(frame.names), frame.routine, frame.call, frame.callee, frame.quiet)
        falling = self.places.new()
        for case, entry in zip(stmt.cases, entries, strict=True):
            self.places.merge(falling, entry)
            falling = self.sequence(case.body, entry, inner)
        self.places.merge(falling, end)
        self.control.pop()
        return end

    def _case(self, value: s.Expr, kind: s.Type | None) -> int:
        constant = self.program.constant(value) if kind is None else self.program.constant_of(kind, value)
        return constant or 0

    def _case_edge(
        self,
        stmt: s.Switch,
        at: int,
        frame: Frame,
        results: dict[int, Variable],
        kind: s.Type | None,
        target: int,
        value: int | None,
        others: tuple[int, ...],
    ) -> None:
        def build(evaluator: KernelCalls) -> None:
            evaluator.settle((stmt.subject,), frame)
            subject = evaluator.term(stmt.subject, frame, kind)
            if isinstance(subject, ir.Star):
                register = evaluator.builder.scratch(subject.low, subject.high)
                evaluator.builder.emit(ir.Pick(register, "*", subject.low, subject.high))
                subject = ir.Reg(register)
            condition = TRUE if value is None else arithmetic(s.BinaryOp.EQ, subject, ir.Const(value))
            for other in others:
                condition = both(condition, arithmetic(s.BinaryOp.NE, subject, ir.Const(other)))
            if condition != TRUE:
                evaluator.builder.emit(ir.Guess(condition))

        self.edge(at, stmt.subject.span, build, results, target=target)

    def unwind(self, depth: int, at: int) -> int:
        """Runs the `finally` blocks between here and the control stack's `depth`, innermost first."""
        saved = self.control
        while len(self.control) > depth:
            entry, self.control = self.control[-1], self.control[:-1]
            if isinstance(entry, _Trying):
                at = self.block(entry.final, at, entry.frame)
        self.control = saved
        return at

    def jump(self, kind: s.JumpKind, at: int) -> int:
        for depth in range(len(self.control) - 1, -1, -1):
            match self.control[depth], kind:
                case _Breakable(target, _), s.JumpKind.BREAK:
                    pass
                case _Breakable(_, int(target)), s.JumpKind.CONTINUE:
                    pass
                case _Trying(_, target), s.JumpKind.LEAVE:
                    pass
                case _:
                    continue
            self.places.merge(self.unwind(depth + 1, at), target)
            break
        return self.places.new()

    def goto(self, label: str, at: int) -> int:
        place, chain = self.labels[label]
        depth = len(self.control)
        for index in range(len(self.control) - 1, -1, -1):
            entry = self.control[index]
            if isinstance(entry, _Trying) and entry.identity not in chain:
                depth = index
        self.places.merge(self.unwind(depth, at), place)
        return self.places.new()

    def return_(self, stmt: s.Return, at: int, frame: Frame) -> int:
        exprs = expressions(stmt)
        at, results = self.prepare(exprs, at, frame)
        result = self.result

        def build(evaluator: KernelCalls) -> None:
            evaluator.settle(exprs, frame)
            if stmt.value is None:
                return
            value = evaluator.term(stmt.value, frame, None if result is None else result.type)
            if result is not None:
                evaluator.store(result, value, frame, stmt.span, "result")

        at = self.edge(at, stmt.span, build, results, step=frame.call is None)
        self.places.merge(self.unwind(0, at), self.return_to)
        return self.places.new()

    def try_(self, stmt: s.Try, at: int, frame: Frame) -> int:
        leave = self.places.new()
        self.control.append(_Trying(stmt.final, leave, id(stmt), frame))
        self.places.merge(self.block(stmt.body, at, frame), leave)
        self.control.pop()
        return self.block(stmt.final, leave, frame)

    def atomic(self, body: s.Block, at: int, frame: Frame) -> int:
        names = dict(frame.names)
        start, made = at, len(self.graph.edges)
        self.interlocked += 1
        first = True
        for stmt in body.body:
            quiet = frame.quiet or not first
            at = self.statement(stmt, at, Frame(names, frame.routine, frame.call, frame.callee, quiet))
            first = False
        self.interlocked -= 1
        for edge in self.graph.edges[made:]:
            edge.joined = self.places.find(edge.source) != self.places.find(start)
        return at

    def callback(self, stmt: s.Callback, name: str, args: tuple[s.Expr, ...], at: int, frame: Frame) -> int:
        binding = frame.names.get(name)
        if not isinstance(binding, Object):
            return at
        target = self.program.deferred[binding.name].routine if binding.name in self.program.deferred else binding.name
        routine = self.program.routines.get(target)
        if routine is None:
            return at
        at, _ = self.routine_call(routine, args, frame.place(stmt.span), at, frame, {})
        return at

    def find_labels(self, body: s.Block) -> None:
        def visit(stmt: s.Stmt, chain: tuple[int, ...]) -> None:
            if isinstance(stmt, s.Label):
                self.labels[stmt.name] = (self.places.new(), chain)
            if isinstance(stmt, s.Try):
                visit(stmt.body, (*chain, id(stmt)))
                visit(stmt.final, chain)
                return
            for inner in substatements(stmt):
                visit(inner, chain)

        visit(body, ())


def _as_condition(term: ir.Term) -> ir.Term:
    return term


def calls_back(program: Program, name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a kernel routine runs a routine that is handed to it, itself or in another one that it calls."""
    if name in seen:
        return False

    def found(stmt: s.Stmt) -> bool:
        calls = (call.name for expr in (*expressions(stmt), *conditions(stmt)) for call in every_call(expr))
        inner = any(calls_back(program, call, seen | {name}) for call in calls)
        return inner or isinstance(stmt, s.Callback) or any(map(found, substatements(stmt)))

    return any(extern.body is not None and found(extern.body) for extern in program.externs.get(name, ()))


class RoutineLowerer(GraphLowerer):
    """The graph of one routine."""

    def __init__(self, unit: Unit, graph: Graph, routine: s.Routine, names: dict[str, Binding]) -> None:
        super().__init__(unit, graph)
        self.routine = routine
        self.base = Frame(self._parameters(names), routine.name)

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
                    own[name] = Object(kind.name)
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
        self.places.merge(at, self.return_to)
        self._exit(self.return_to)
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
    name = name if name in evaluator.program.locks else ref.name
    declared = evaluator.program.locks.get(name)
    if declared is None:
        return []
    return [name] if declared.size is None else [f"{name}[{i}]" for i in range(declared.size)]


def all_locks(program: Program) -> list[str]:
    names: list[str] = []
    for name, lock in program.locks.items():
        names += [name] if lock.size is None else [f"{name}[{i}]" for i in range(lock.size)]
    return names


__all__ = ["GraphLowerer", "RoutineLowerer", "Unit", "Value", "all_locks"]
