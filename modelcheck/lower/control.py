"""Statements as edges: control flow. A `finally` block is lowered once for every way its `try` can be left."""

from __future__ import annotations

from collections.abc import Sequence

from modelcheck import ir
from modelcheck import syntax as s
from modelcheck.ir import Cell, Graph, Sort
from modelcheck.lower.calls import Calls, named
from modelcheck.lower.evaluate import TRUE, arithmetic, both, negate
from modelcheck.lower.kernel import KernelCalls
from modelcheck.lower.scope import (
    Frame,
    Object,
    Variable,
)
from modelcheck.lower.steps import Unit
from modelcheck.record import dataclass, replace
from modelcheck.resolve import type_range
from modelcheck.source import Span
from modelcheck.walk import expressions, substatements


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


class GraphLowerer(Calls):
    """Builds one graph: steps, conditions, statements."""

    def __init__(self, unit: Unit, graph: Graph) -> None:
        super().__init__(unit, graph)
        self.control: list[_Breakable | _Trying] = []
        self.labels: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.return_to = 0
        self.candidates: dict[str, tuple[str, ...]] = {}

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

        def build(evaluator: KernelCalls) -> None:
            if stmt.value is not None:
                evaluator.settle((stmt.value,), frame)
                evaluator.store(variable, evaluator.term(stmt.value, frame, kind), frame, stmt.span, stmt.name)
            else:
                evaluator.leave_open(variable)

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
        if kind is not None and _exhausted(type_range(self.program, kind), values):
            self.graph.idle += [inner.span for case in stmt.cases if case.value is None for inner in case.body]
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
        """Others write before its first step, to whatever is named in it, and not again, also where a loop comes back
        to that step: there are two edges then, one that begins the block and one that does not."""
        if frame.quiet:
            return self.block(body, at, frame)
        inside, made = self.places.new(), len(self.graph.edges)
        end = self.sequence(body.body, inside, Frame(dict(frame.names), frame.routine, frame.call, frame.callee, True))
        block, self.graph.edges[made:] = self.graph.edges[made:], []
        variables = self._named(body, frame)
        is_repeated = any(self.places.find(edge.target) == self.places.find(inside) for edge in block)
        for edge in block:
            is_first = self.places.find(edge.source) == self.places.find(inside)
            if is_first:
                self.graph.edges.append(self._opening(edge, at, variables, frame))
            if is_repeated or not is_first:
                edge.joined = True
                self.graph.edges.append(edge)
        if self.places.find(end) == self.places.find(inside):
            self.places.merge(at, inside)
        return end

    def _named(self, body: s.Block, frame: Frame) -> list[s.VarDecl]:
        """The shared variables that a block names, itself or through a parameter, or that a routine, or a kernel
        routine of the driver's own, names that it calls."""
        names = named(self.program, body)
        given = {
            binding.place.name.removeprefix("var ")
            for name in names
            if isinstance(binding := frame.names.get(name), Variable) and isinstance(binding.place, Cell)
            if binding.place.sort is Sort.SHARED
        }
        variables = self.program.variables.items()
        return [declared for name, declared in variables if name in given or name.rpartition(".")[2] in names]

    def _opening(self, edge: ir.Edge, at: int, variables: list[s.VarDecl], frame: Frame) -> ir.Edge:
        """A first step of a block, from `at`, once others have written to the variables."""
        assert edge.operation is not None
        evaluator = self.evaluator()
        builder = evaluator.builder
        for cell in edge.cells:
            builder.adopt(cell)
        for declared in variables:
            evaluator.interfere(self.unit.state.shared(declared), frame)
        builder.code += edge.operation.code
        builder.slots += edge.obligations
        return replace(edge, source=at, operation=builder.finish(), cells=tuple(builder.cells))

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


def _exhausted(values: tuple[int, int], cases: Sequence[int | None]) -> bool:
    """Whether every value from the lowest to the highest has a case."""
    low, high = values
    return high - low < len(cases) and set(range(low, high + 1)) <= set(cases)


def _as_condition(term: ir.Term) -> ir.Term:
    return term


__all__ = ["GraphLowerer"]
