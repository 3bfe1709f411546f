"""Checks the inside of routines, kernel routines and roles: expressions, calls, statements.

A type of None means that nothing is known (`*`, the result of an unmodelled routine, something already reported): it
fits everywhere, so that one mistake is one finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelcheck import syntax as s
from modelcheck.check_calls import CallCheck
from modelcheck.check_values import Place, declared_at, short
from modelcheck.diagnostics import Code, Note
from modelcheck.names import (
    UNKNOWN,
    Meaning,
    Sort,
    param_meaning,
)
from modelcheck.printer import reference, type_text
from modelcheck.record import dataclass, field
from modelcheck.resolve import Program, enum_of, find_role
from modelcheck.source import Span
from modelcheck.verdict import Property
from modelcheck.walk import substatements

_PRIMITIVES = (
    s.Init | s.Free | s.Acquire | s.Release | s.Convert | s.Raise | s.Lower | s.Blocks | s.Signal | s.Enable | s.Require
) | (s.Callback | s.MayReenter)
_NOT_IN_KERNEL_ROUTINES = {
    s.While: "loops",
    s.DoWhile: "loops",
    s.For: "loops",
    s.Goto: "`goto`",
    s.Label: "labels",
    s.Jump: "jumps",
    s.Switch: "`switch`",
    s.Try: "`try`",
    s.Atomic: "`atomic`",
}


@dataclass(slots=True)
class Labels:
    """The labels of a routine with the blocks each stands in, and the jumps to them."""

    declared: dict[str, tuple[Span, tuple[int, ...]]] = field(default_factory=dict)
    jumps: list[tuple[s.Goto, tuple[int, ...]]] = field(default_factory=list)


class BodyCheck(CallCheck):
    """Checks one routine at a time."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.labels = Labels()
        self._finals: set[int] = set()

    def routine(self, routine: s.Routine, primitives: bool) -> None:
        self._whole(routine, Place(primitives=primitives), routine.body)
        self._role_result(routine)

    def _role_result(self, routine: s.Routine) -> None:
        """A role that looks at the result must be able to: `result == STATUS_SUCCESS` wants an NTSTATUS."""
        if routine.role is None or routine.result is None:
            return
        try:
            role, _ = find_role(self.program, routine.role)
        except KeyError:
            return
        condition = role.continues
        if condition is None:
            return

        def attempt() -> None:
            self.names.frames.append({"result": Meaning(Sort.VARIABLE, type=routine.result)})
            self.condition(condition, calls=False)
            self.names.frames.pop()

        if self._trial(attempt):
            message = f"`{role.name}` looks at `{short(condition)}`, and `{routine.name}` gives back a different type"
            note = Note(f"`{role.name}` is declared here", role.span)
            self.error(Code.ROLE, message, routine.result.span, note)

    def extern(self, extern: s.Extern) -> None:
        self.form = extern
        self._whole(extern, Place(kernel=True, primitives=True), extern.body)
        self.form = None
        if extern.body is not None:
            self._tail_returns(extern.body, last=True)

    def role(self, role: s.Role) -> None:
        """Entry and exit see the role's parameters."""
        self._begin(role.name, role.params, None)
        self.place = Place(kernel=True, primitives=True)
        for param in role.params:
            self._param(param, kernel=False)
        if role.continues is not None:
            self.names.declare("result", Meaning(Sort.UNKNOWN))
            self.condition(role.continues, calls=False)
        for expr in role.irql or ():
            self.level(expr)
        for lock in role.holds:
            self.lock(lock)
        for block in (role.entry, role.exit):
            if block is not None:
                self._block(block, self.place)
                self._tail_returns(block, last=False)
        self._finish()

    def _whole(self, declared: s.Routine | s.Extern, place: Place, body: s.Block | None) -> None:
        self._begin(declared.name, declared.params, declared.result)
        self.place = place
        for param in declared.params:
            self._param(param, kernel=place.kernel)
        if declared.result is not None:
            self.type(declared.result, "a result")
        self._clauses(declared.clauses, declared.result)
        if body is not None:
            self.labels = Labels()
            self._finals.clear()
            self._block(body, place)
            self._jumps()
        self._finish()

    def _begin(self, name: str, params: tuple[s.Param, ...], result: s.Type | None) -> None:
        self.where, self.result = name, result
        self._call_types.clear()
        self.names.frames.append({})
        self._blocks: tuple[int, ...] = ()
        self._block_count = 0
        for param in params:
            if not isinstance(param, s.RestParam):
                self.names.declare(param.name, param_meaning(self.program, param) or UNKNOWN)

    def _finish(self) -> None:
        self.names.frames.clear()
        self.place = Place()

    def _param(self, param: s.Param, kernel: bool) -> None:
        match param:
            case s.LockParam(_, kind) if kind is not None and kind not in self.program.lock_kinds:
                help_ = self.names.suggestions.help(kind, self.program.lock_kinds)
                self.error(Code.UNDECLARED, f"there is no lock kind `{kind}`", param.span, help=help_)
            case s.ValueParam(kind_, if_said=True) if not kernel or not enum_of(self.program, kind_):
                message = "`any E x` is for kernel routines (`extern`), with an enum E"
                self.error(Code.TYPE, message, param.span)
            case s.ValueParam(kind_, _, by_ref):
                meaning = self.type(kind_, "a parameter", (Sort.VARIABLE, Sort.HANDLE, Sort.DEVICE))
                if meaning is not None and meaning.sort is Sort.DEVICE and by_ref:
                    self.error(Code.TYPE, "a device is passed as it is, not by reference", param.span)
            case s.RestParam() if not kernel:
                self.error(Code.TYPE, "`...` is for kernel routines (`extern`) only", param.span)

    def _clauses(self, clauses: tuple[s.Clause, ...], result: s.Type | None) -> None:
        raised: s.Clause | None = None
        taken: dict[s.Ref, s.LockClause] = {}
        for clause in clauses:
            match clause:
                case s.ConditionClause(kind, condition):
                    self.names.frames.append({})
                    if kind is s.ClauseKind.ENSURES and result is not None and self.names.lookup("result") is None:
                        self.names.declare("result", Meaning(Sort.VARIABLE, type=result))
                    self._pure(condition, "a clause", old=kind is s.ClauseKind.ENSURES)
                    self.condition(condition, calls=False)
                    self.names.frames.pop()
                case s.LockClause(acquires, lock, mode):
                    self.lock(lock)
                    if acquires and mode is s.Mode.EITHER:
                        self.error(Code.CLAUSE, "a lock is acquired `shared` or `exclusive`", clause.span)
                    other = taken.setdefault(lock, clause)
                    if other.acquires != acquires:
                        message = f"`{reference(lock)}` cannot be both acquired and released"
                        self.error(Code.CLAUSE, message, clause.span, Note("the other clause", other.span))
                case s.RaisesClause() | s.SameIrqlClause():
                    if isinstance(clause, s.RaisesClause):
                        self._pure(clause.level, "a clause", old=False)
                        self.level(clause.level)
                    if raised is not None:
                        message = "only one clause can say what becomes of the IRQL"
                        self.error(Code.CLAUSE, message, clause.span, Note("the other clause", raised.span))
                    raised = clause

    def _pure(self, expr: s.Expr, where: str, old: bool) -> None:
        """No `*`, no call, and `old` only where there is a state before."""
        for part in _parts(expr):
            match part:
                case s.Unknown():
                    self.error(Code.CLAUSE, f"`*` cannot stand in {where}", part.span)
                case s.Old() if not old:
                    self.error(Code.CLAUSE, "`old(..)` can only stand in `ensures`", part.span)
                case _:
                    pass

    def _block(self, block: s.Block, place: Place) -> None:
        outer, self.place = self.place, place
        self.names.frames.append({})
        blocks, self._block_count = self._blocks, self._block_count + 1
        for stmt in block.body:
            self._statement(stmt)
        self._blocks = blocks
        self.names.frames.pop()
        self.place = outer

    def _closed(self, block: s.Block, place: Place) -> None:
        """A block that `goto` cannot jump into."""
        blocks = self._blocks
        self._block_count += 1
        self._blocks = (*blocks, self._block_count)
        self._block(block, place)
        self._blocks = blocks

    def _statement(self, stmt: s.Stmt) -> None:
        place = self.place
        if place.kernel and type(stmt) in _NOT_IN_KERNEL_ROUTINES:
            what = _NOT_IN_KERNEL_ROUTINES[type(stmt)]
            self.error(Code.PRIMITIVE_PLACE, f"there are no {what} in models of kernel routines", stmt.span)
            return
        match stmt:
            case s.Block():
                self._block(stmt, place)
            case s.Declare():
                self._declare(stmt)
            case s.Assign():
                self.assign(stmt)
            case s.CallStmt(call):
                self.call(call)
            case s.If(arms, otherwise):
                for arm in arms:
                    self.condition(arm.condition)
                    self._block(arm.body, place)
                if otherwise is not None:
                    self._block(otherwise, place)
            case s.While(test, body):
                self.condition(test)
                self._block(body, _within(place, loop=True))
            case s.DoWhile(body, test):
                self._block(body, _within(place, loop=True))
                self.condition(test)
            case s.For(start, test, step, body):
                for part in (start, step):
                    if part is not None:
                        self._statement(part)
                if test is not None:
                    self.condition(test)
                self._block(body, _within(place, loop=True))
            case s.Switch():
                self._switch(stmt)
            case s.Goto():
                self.labels.jumps.append((stmt, self._blocks))
            case s.Label(name):
                first = self.labels.declared.setdefault(name, (stmt.span, self._blocks))
                if first[0] is not stmt.span:
                    note = Note("the first one", first[0])
                    self.error(Code.LABEL, f"the label `{name}` stands twice in this routine", stmt.span, note)
            case s.Jump(kind):
                self._jump(kind, stmt.span)
            case s.Return(value):
                self._return(value, stmt.span)
            case s.Try(body, final):
                self._closed(body, _within(place, inside_try=True))
                self._finals.add(self._block_count + 1)
                self._closed(final, Place(place.kernel, place.primitives, final=True))
            case s.Atomic(body):
                self._closed(body, place)
            case s.Assume(test) | s.Assert(test):
                self.condition(test)
            case s.Access():
                self._access(stmt)
            case s.Cost(_, times):
                if times is not None:
                    self.value(times, s.IntType(0, 1_000_000_000, times.span))
            case _:
                self._primitive(stmt)

    def _declare(self, stmt: s.Declare) -> None:
        meaning = self.type(stmt.type, "a local variable", (Sort.VARIABLE, Sort.HANDLE))
        if stmt.value is not None:
            if meaning is not None and meaning.sort is Sort.HANDLE:
                self.error(Code.TYPE, "a handle has no value to begin with", stmt.value.span)
            elif meaning is None:
                self.type_of(stmt.value)
            else:
                self.value(stmt.value, stmt.type)
        known = UNKNOWN if meaning is None else meaning
        self.names.declare(stmt.name, Meaning(known.sort, stmt.span, known.type, known.kind))

    def assign(self, stmt: s.Assign) -> None:
        """`x = e;`"""
        target = stmt.target
        meaning = self.names.resolve(target)
        match meaning.sort:
            case Sort.UNKNOWN:
                self.type_of(stmt.value)
                return
            case Sort.TARGET:
                self._target_value(stmt.value)
            case Sort.VARIABLE if meaning.type is not None:
                self.value(stmt.value, meaning.type)
            case _:
                message = f"{self.names.describe(target, meaning)}: nothing can be assigned to it"
                self.error(Code.NOT_ASSIGNABLE, message, target.span, *declared_at(target, meaning))
                return
        if meaning.belongs_to_model and not self.place.primitives:
            message = f"`{reference(target)}` belongs to the kernel model: a driver can only read it"
            self.error(Code.NOT_ASSIGNABLE, message, target.span)

    def _switch(self, stmt: s.Switch) -> None:
        kind = self.type_of(stmt.subject)
        seen: dict[int, Span] = {}
        default: Span | None = None
        place = _within(self.place, switch=True)
        self.names.frames.append({})
        outer, self.place = self.place, place
        for case in stmt.cases:
            if case.value is None:
                if default is not None:
                    note = Note("the first one", default)
                    self.error(Code.SWITCH, "`default` stands twice in this switch", case.span, note)
                default = case.span
            else:
                self._case(case.value, kind, seen)
            for inner in case.body:
                self._statement(inner)
        self.place = outer
        self.names.frames.pop()

    def _case(self, value: s.Expr, kind: s.Type | None, seen: dict[int, Span]) -> None:
        before = len(self.found)
        if kind is None or (isinstance(kind, s.IntType) and kind.low == kind.high):
            self.type_of(value, kind, calls=False)
        else:
            self.value(value, kind, calls=False)
        if len(self.found) > before:
            return
        constant = self.names.constant(value, kind)
        if constant is None:
            self.not_constant(value, "the value of a case", before)
        elif constant in seen:
            note = Note("the first one", seen[constant])
            self.error(Code.SWITCH, f"the case `{short(value)}` stands twice in this switch", value.span, note)
        else:
            seen[constant] = value.span

    def _jumps(self) -> None:
        """Every `goto` leads to a label, and not into a `try`, `finally` or `atomic`."""
        for goto, blocks in self.labels.jumps:
            found = self.labels.declared.get(goto.label)
            if found is None:
                help_ = self.names.suggestions.help(goto.label, self.labels.declared)
                self.error(Code.LABEL, f"there is no label `{goto.label}` in this routine", goto.span, help=help_)
            elif blocks[: len(found[1])] != found[1]:
                message = f"`goto {goto.label}` jumps into a `try`, `finally` or `atomic` from outside"
                self.error(Code.LABEL, message, goto.span, Note("the label", found[0]))
            elif any(block in self._finals for block in blocks[len(found[1]) :]):
                self.error(Code.JUMP_PLACE, "`goto` cannot leave a `finally`", goto.span)

    def _jump(self, kind: s.JumpKind, span: Span) -> None:
        place = self.place
        allowed, needed = {
            s.JumpKind.BREAK: (place.loop or place.switch, "a loop or `switch`"),
            s.JumpKind.CONTINUE: (place.loop, "a loop"),
            s.JumpKind.LEAVE: (place.inside_try, "the body of a `try`"),
        }[kind]
        if not allowed:
            where = "of the same `finally`" if place.final else ""
            self.error(Code.JUMP_PLACE, f"`{kind}` stands outside of {needed} {where}".rstrip(), span)

    def _return(self, value: s.Expr | None, span: Span) -> None:
        if self.place.final:
            self.error(Code.JUMP_PLACE, "`return` cannot leave a `finally`", span)
        if value is None:
            if self.result is not None:
                message = f"`{self.where}` must give back a `{type_text(self.result)}`"
                self.error(Code.TYPE, message, span, help="write `return` and a value, or `return *;`")
        elif self.result is None:
            self.type_of(value)
            help_ = f"say the type of the result: `{self.where}(..) : int 0..7`, or write `return;`"
            self.error(Code.TYPE, f"`{self.where}` gives back nothing", value.span, help=help_)
        else:
            self.value(value, self.result)

    def _tail_returns(self, block: s.Block, last: bool) -> None:
        """In a kernel routine `return` is the last thing that is done (`last` False: there is none)."""
        for index, stmt in enumerate(block.body):
            final = last and index == len(block.body) - 1
            if isinstance(stmt, s.Return):
                if not final:
                    message = "`return` can only be the last statement of a kernel routine"
                    self.error(Code.JUMP_PLACE, message, stmt.span)
                continue
            for inner in substatements(stmt):
                if isinstance(inner, s.Block):
                    self._tail_returns(inner, False)

    def _access(self, stmt: s.Access) -> None:
        meaning = self.names.resolve(stmt.data)
        if meaning.sort is Sort.VARIABLE:
            word = "write" if stmt.write else "read"
            message = f"`{reference(stmt.data)}` is a variable, and `{word}` is for data"
            self.error(Code.WRONG_SORT, message, stmt.data.span, help="use it in an expression or an assignment")
        elif meaning.sort not in (Sort.DATA, Sort.UNKNOWN):
            self._wrong_sort(stmt.data, meaning, "data")

    # ---- primitives ----

    def _primitive(self, stmt: s.Stmt) -> None:
        assert isinstance(stmt, _PRIMITIVES)
        if not self.place.primitives:
            self._primitive_place(stmt.span.text.split(None, 1)[0].rstrip(";("), stmt.span)
            return
        match stmt:
            case s.Init(lock) | s.Free(lock) | s.Convert(lock):
                self.lock(lock)
            case s.Acquire(lock, mode):
                self.lock(lock)
                if mode is s.Mode.EITHER:
                    self.error(Code.TYPE, "a lock is acquired `shared` or `exclusive`", stmt.span)
            case s.Release(lock):
                self.lock(lock)
            case s.Raise(level) | s.Lower(level):
                self.level(level)
            case s.Signal(_, event):
                self.object(event, (Sort.EVENT,), "an event")
            case s.Enable(name=name):
                ref = s.Ref(name, (), stmt.span)
                held = {lock.name for roles in self.program.roles.values() for role in roles for lock in role.holds}
                sorts = (Sort.ROUTINE, Sort.INTERRUPT, Sort.DEFERRED, *((Sort.LOCK,) if name in held else ()))
                what = "a routine, an interrupt, a DPC, a timer, a work item, or a lock that runs hold"
                self.object(ref, sorts, what)
            case s.Require():
                self._require(stmt)
            case s.Callback(name, args):
                self._callback(name, args, stmt.span)
            case s.MayReenter(role):
                if role not in self.program.roles:
                    help_ = self.names.suggestions.help(role, self.program.roles)
                    self.error(Code.UNDECLARED, f"there is no role `{role}`", stmt.span, help=help_)
            case s.Blocks():
                pass

    def _require(self, stmt: s.Require) -> None:
        if stmt.code not in Property.__members__:
            help_ = f"the codes are {', '.join(Property.__members__)}"
            self.error(Code.UNDECLARED, f"there is no property `{stmt.code}`", stmt.span, help=help_)
        if isinstance(stmt.condition, s.NoLocks):
            for lock in stmt.condition.besides:
                self.lock(lock)
        else:
            self._pure(stmt.condition, "`require`", old=True)
            self.condition(stmt.condition, calls=False)

    def _callback(self, name: str, args: tuple[s.Expr, ...], span: Span) -> None:
        """`call R(..)`: R is a parameter; what it takes is known only where it is passed."""
        meaning = self.names.lookup(name)
        if meaning is None or meaning.sort is not Sort.ROUTINE or not meaning.local:
            self.error(Code.WRONG_SORT, f"`{name}` is no `routine` parameter, so it cannot be called back", span)
        for arg in args:
            self._no_calls(arg, name)


def _within(place: Place, loop: bool = False, switch: bool = False, inside_try: bool = False) -> Place:
    return Place(
        place.kernel,
        place.primitives,
        place.loop or loop,
        place.switch or switch,
        place.inside_try or inside_try,
        place.final,
    )


def _parts(expr: s.Expr) -> Iterator[s.Expr]:
    """The expression and everything in it."""
    yield expr
    match expr:
        case s.Unary(_, operand) | s.Old(operand):
            yield from _parts(operand)
        case s.Binary(_, left, right):
            yield from _parts(left)
            yield from _parts(right)
        case _:
            pass
