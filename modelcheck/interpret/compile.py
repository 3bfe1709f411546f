"""From the syntax tree to instructions."""

from __future__ import annotations

from collections.abc import Callable

from modelcheck import syntax as s
from modelcheck.interpret.code import (
    Begin,
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
    Fresh,
    GiveBack,
    Instruction,
    Invoke,
    IsHeld,
    Jump,
    Level,
    Load,
    LockOp,
    Mark,
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
from modelcheck.interpret.tables import Tables
from modelcheck.interpret.values import BOOL, LEVELS, TIMEOUTS, Domain, Local, Place, Target
from modelcheck.interpret.walk import named
from modelcheck.resolve import enum_of, qualified
from modelcheck.source import Span
from modelcheck.verdict import Property


class Compiler:
    """Turns one body into instructions. `regions` are the `try` statements around the place that is compiled."""

    def __init__(self, tables: Tables, name: str, is_routine: bool) -> None:
        self.tables = tables
        self.program = tables.program
        self.code = Code(name, is_routine, [])
        self.scopes: list[dict[str, Local]] = [{}]
        self.reads: list[Place] = []
        self.loops: list[tuple[Mark, Mark | None, int]] = []
        self.regions: list[tuple[int, str]] = []
        self.tries: dict[int, tuple[Mark, Mark]] = {}
        self.labels: dict[str, tuple[Mark, tuple[tuple[int, str], ...]]] = {}
        self.atomic = False
        self.leave = Mark()
        self.count = 0

    # the whole body

    def routine(self, item: s.Routine | s.Extern) -> Code:
        """The code of a routine or extern, its clauses included."""
        code = self.code
        code.params = tuple((p, self.parameter(p)) for p in item.params)
        code.clauses = item.clauses
        code.span = item.span
        code.result = self.tables.domain(item.result)
        code.paged = isinstance(item, s.Routine) and item.paged
        if code.result is not None:
            self.scopes[0].setdefault("result", Local("$result", False, "value", code.result))
        for number, clause in enumerate(item.clauses):
            match clause:
                case s.ConditionClause(_, condition):
                    code.conditions[number] = self.apart(condition, BOOL)
                case s.RaisesClause(level):
                    code.conditions[number] = self.apart(level, LEVELS)
                case s.LockClause(_, ref):
                    code.conditions[number] = self._apart_ref(ref)
        if item.body is not None:
            self.scopes = [{local.slot: local for _, local in code.params}]
            self.body(item.body)
        else:
            self.effects(item.clauses)
        return code

    def effects(self, clauses: tuple[s.Clause, ...]) -> None:
        """An extern without a body does what its clauses say; what it gives back is open."""
        for number, clause in enumerate(clauses):
            match clause:
                case s.LockClause(acquires, _, mode, tag):
                    self.emit(ClauseLock(number, acquires, mode, tag))
                case s.RaisesClause():
                    self.emit(ClauseLevel(number))
        self.emit(GiveBack())

    def body(self, block: s.Block) -> None:
        self.find_labels(block, ())
        self.block(block)
        self.place(self.leave)

    def parameter(self, param: s.Param) -> Local:
        match param:
            case s.LockParam(name, kind):
                local = Local(name, True, "lock", None, kind)
            case s.ValueParam(kind, name, by_ref):
                local = self.tables.local(kind, name, by_ref)
                if local.sort == "handle":
                    local = Local(name, True, "handle", None, local.kind)
            case s.ObjectParam(kind, name):
                value = kind is s.ObjectKind.TIMEOUT
                local = Local(name, not value, "value" if value else str(kind), TIMEOUTS if value else None)
            case s.OpaqueParam(name):
                local = Local(name, True, "opaque")
            case s.RestParam():
                return Local("...", True, "any")
        self.scopes[0][local.slot] = local
        return local

    def apart(self, expr: s.Expr, want: Domain) -> Code:
        """The code of an expression on its own, which leaves its value on the stack."""
        return self._detached(lambda: self.expr(expr, want))

    def _apart_ref(self, ref: s.Ref) -> Code:
        return self._detached(lambda: self.emit(Point(self.ref(ref))))

    def _detached(self, build: Callable[[], None]) -> Code:
        saved, self.code = self.code, Code(self.code.name, self.code.is_routine, [], olds=self.code.olds)
        build()
        built, self.code = self.code, saved
        return built

    # emitting

    def emit(self, instruction: Instruction) -> None:
        self.code.instructions.append(instruction)

    def place(self, mark: Mark) -> None:
        mark.at = len(self.code.instructions)

    def statement(self, span: Span, build: Callable[[], None]) -> None:
        """One step: what others may have written to what it reads is asked before anything else."""
        at = len(self.code.instructions)
        self.reads = []
        self.emit(Begin(span, (), self.atomic))
        build()
        self.code.instructions[at] = Begin(span, tuple(dict.fromkeys(self.reads)), self.atomic)
        self.emit(End())

    # names

    def find(self, name: str) -> Local | None:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def ref(self, ref: s.Ref) -> Place:
        """The place a reference names; emits the value of its index, if it has one."""
        base, bound, sort, domain, kind, selectors = self._base(ref)
        members: list[tuple[str, str]] = []
        indexed = False
        for selector in selectors:
            if isinstance(selector, s.Index):
                self.expr(selector.value, None)
                indexed = True
                continue
            members.append((sort, selector.name))
            sort, domain, kind = self._member(sort, kind, selector.name)
        return Place(base, bound, tuple(members), indexed, sort, domain, kind)

    def _base(self, ref: s.Ref) -> tuple[Target, bool, str, Domain | None, str | None, tuple[s.Member | s.Index, ...]]:
        name, selectors = ref.name, ref.selectors
        program = self.program
        local = self.find(name)
        if local is not None:
            return ("slot", local.slot), local.bound, local.sort, local.domain, local.kind, selectors
        if program.hides(ref):
            return ("opaque", name), False, "opaque", None, None, selectors
        if name in program.devices and selectors and isinstance(selectors[0], s.Member):
            name, selectors = qualified(ref), selectors[1:]
        if name in program.variables:
            return self._variable("var", name, program.variables[name].type, selectors)
        if name in program.context_variables:
            return self._variable("ctx", name, program.context_variables[name].type, selectors)
        if name in program.locks:
            return ("lock", name), False, "lock", None, program.locks[name].kind, selectors
        for table, sort in (
            (program.data, "data"),
            (program.events, "event"),
            (program.interrupts, "interrupt"),
            (program.routines, "routine"),
            (program.deferred, "deferred"),
            (program.devices, "device"),
        ):
            if name in table:
                return (sort, name), False, sort, None, name if sort == "device" else None, selectors
        return ("opaque", name), False, "opaque", None, None, selectors

    def _variable(
        self, base: str, name: str, kind: s.Type, selectors: tuple[s.Member | s.Index, ...]
    ) -> tuple[Target, bool, str, Domain | None, str | None, tuple[s.Member | s.Index, ...]]:
        local = self.tables.local(kind, name, False)
        return (base, name), False, local.sort, local.domain, local.kind, selectors

    def _member(self, sort: str, kind: str | None, name: str) -> tuple[str, Domain | None, str | None]:
        program = self.program
        match sort:
            case "lock":
                return "value", self.tables.lock_field(kind, name), None
            case "handle":
                assert kind is not None
                found = next(f for f in program.handle_kinds[kind].fields if f.name == name)
                if isinstance(found, s.LockField):
                    return "lock", None, None
                return "value", self.tables.domain(found.type), None
            case "routine" | "deferred" if name == "run":
                return "lock", None, None
            case "interrupt":
                return ("value", LEVELS, None) if name == "level" else ("lock", None, None)
            case "device":
                full = f"{kind}.{name}"
                if full in program.locks:
                    return "lock", None, program.locks[full].kind
                if full in program.variables:
                    return "value", self.tables.domain(program.variables[full].type), None
                return ("data" if full in program.data else "event"), None, None
            case _:
                if name in program.context_variables:
                    local = self.tables.local(program.context_variables[name].type, name, False)
                    return local.sort, local.domain, local.kind
                return "opaque", None, None

    # expressions

    def domain_of(self, expr: s.Expr) -> Domain | None:
        """The type of an expression as far as it is needed to give `*` and enum constants theirs."""
        match expr:
            case s.Ref():
                return self._detached_place(expr).domain
            case s.Irql():
                return LEVELS
            case s.Old(operand):
                return self.domain_of(operand)
            case s.Call(name):
                found = self.program.routines.get(name) or next(iter(self.program.externs.get(name, ())), None)
                return None if found is None else self.tables.domain(found.result)
            case s.Binary(s.BinaryOp.ADD | s.BinaryOp.SUB | s.BinaryOp.MUL | s.BinaryOp.MOD, left, right):
                return self.domain_of(left) or self.domain_of(right)
            case s.Unary(s.UnaryOp.NEGATE, operand):
                return self.domain_of(operand)
            case s.Unary() | s.Binary() | s.Held() | s.Truth() | s.TryAcquire() | s.TryConvert() | s.NoLocks():
                return BOOL
            case _:
                return None

    def _detached_place(self, ref: s.Ref) -> Place:
        """The place of a reference, without a trace in the code or in what the statement reads."""
        found: list[Place] = []
        reads = list(self.reads)
        self._detached(lambda: found.append(self.ref(ref)))
        self.reads = reads
        return found[0]

    def expr(self, expr: s.Expr, want: Domain | None) -> None:
        """Emit code that leaves the value of `expr` on the stack; `want` is the type a `*` has."""
        match expr:
            case s.Number(value):
                self.emit(Push(value))
            case s.Truth(value):
                self.emit(Push(int(value)))
            case s.Unknown():
                self.emit(Star((want or BOOL).open))
            case s.Irql():
                self.emit(Level())
            case s.Ref():
                self._read(expr, want)
            case s.Address(ref):
                self.emit(Point(self.ref(ref)))
            case s.Unary(op, operand):
                self.expr(operand, BOOL if op is s.UnaryOp.NOT else want)
                self.emit(Negate(op))
            case s.Binary(s.BinaryOp.OR | s.BinaryOp.AND as op, left, right):
                end = Mark()
                self.expr(left, BOOL)
                self.emit(Truth())
                self.emit(Branch(op is s.BinaryOp.OR, end, keep=True))
                self.emit(Pop())
                self.expr(right, BOOL)
                self.emit(Truth())
                self.place(end)
            case s.Binary(op, left, right):
                arithmetic = op in (s.BinaryOp.ADD, s.BinaryOp.SUB, s.BinaryOp.MUL, s.BinaryOp.MOD)
                self.expr(left, self.domain_of(right) or (want if arithmetic else None))
                self.expr(right, self.domain_of(left) or (want if arithmetic else None))
                self.emit(Combine(op))
            case s.Held(ref, mode):
                self.emit(IsHeld(self.ref(ref), mode))
            case s.NoLocks(spin_only, besides):
                self.emit(NoneHeld(spin_only, tuple(map(self.ref, besides))))
            case s.Old(operand):
                slot = f"$old{len(self.code.olds)}"
                self.code.olds.append((slot, self.apart(operand, want or BOOL)))
                self.emit(Load(Place(("slot", slot), False, (), False, "value")))
            case s.TryAcquire(ref, mode, tag):
                self.emit(LockOp("try_acquire", self.ref(ref), mode, tag))
            case s.TryConvert(ref):
                self.emit(LockOp("try_convert", self.ref(ref)))
            case s.Call():
                self.call(expr, want)

    def _read(self, ref: s.Ref, want: Domain | None) -> None:
        name = ref.name
        if not ref.selectors and self.find(name) is None:
            if want is not None and name in want.values:
                self.emit(Push(want.values.index(name)))
                return
            if name == "none" and name not in self.program.enum_values:
                self.emit(Push(None))
                return
            constant = self.program.constant(ref)
            if constant is not None:
                self.emit(Push(constant))
                return
        place = self.ref(ref)
        if place.sort == "value":
            self.reads.append(place)
            self.emit(Load(place))
        elif place.sort == "lock":
            self.emit(Load(place))
        else:
            self.emit(Point(place))

    # calls

    def call(self, call: s.Call, want: Domain | None) -> None:
        """Arguments from left to right, then the call; its result is on the stack."""
        routine = self.program.routines.get(call.name)
        callee: s.Routine | s.Extern | None = routine or self._overload(call)
        if callee is None:
            self.unmodelled(call, want)
            return
        for number, param in enumerate(callee.params):
            if isinstance(param, s.RestParam):
                break
            self.argument(param, call.args[number] if number < len(call.args) else None)
        self.emit(Invoke(callee, call.span))

    def unmodelled(self, call: s.Call, want: Domain | None) -> None:
        outputs = []
        for arg in call.args:
            place = self._detached_place(arg.ref) if isinstance(arg, s.Address) else None
            if place is not None and place.sort == "value" and place.domain is not None:
                assert isinstance(arg, s.Address)
                self.emit(Point(self.ref(arg.ref)))
                outputs.append((arg.ref.name, place.domain))
        self.emit(CallUnmodelled(call.name, call.span, tuple(outputs), want))

    def argument(self, param: s.Param, arg: s.Expr | None) -> None:
        """Emit what is handed over for one parameter."""
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        match param:
            case s.LockParam() if ref is not None:
                self.emit(Point(self.ref(ref)))
            case s.ValueParam(kind, if_said=True):
                written = "" if ref is None or ref.selectors else ref.name
                values = enum_of(self.program, kind)
                self.emit(Push(values.index(written) if written in values else 0))
            case s.ValueParam(kind, _, by_ref):
                domain = self.tables.domain(kind)
                if ref is not None and (by_ref or domain is None):
                    self.emit(Point(self.ref(ref)))
                elif arg is not None:
                    self.expr(arg, domain)
            case s.ObjectParam(s.ObjectKind.TIMEOUT):
                self.timeout(arg)
            case s.ObjectParam(s.ObjectKind.ANY) | s.OpaqueParam() | s.RestParam():
                self.emit(Push(None))
            case s.ObjectParam() if ref is not None and ref.name != "NULL":
                self.emit(Point(self.ref(ref)))
            case _:
                self.emit(Push(None))

    def timeout(self, arg: s.Expr | None) -> None:
        """NULL waits for ever, 0 not at all, another number some time; `*` may be any of them."""
        match arg:
            case s.Ref("NULL", ()):
                self.emit(Push(2))
                return
            case s.Ref(name, ()) if (local := self.find(name)) is not None and local.domain is TIMEOUTS:
                self.emit(Load(self.ref(arg)))
                return
            case s.Ref("NO_WAIT" | "SOME_WAIT" | "WAIT_FOR_EVER", ()):
                self.emit(Push(self.program.constants[arg.name]))
                return
        value = None if arg is None else self.program.constant(arg)
        self.emit(Star(TIMEOUTS.open) if value is None else Push(int(value != 0)))

    def _overload(self, call: s.Call) -> s.Extern | None:
        """The first extern of that name that takes this number and sort of arguments."""
        overloads = self.program.externs.get(call.name, ())
        return next((e for e in overloads if self._fits(e, call.args)), next(iter(overloads), None))

    def _fits(self, extern: s.Extern, args: tuple[s.Expr, ...]) -> bool:
        params = extern.params
        if params and isinstance(params[-1], s.RestParam):
            params = params[:-1]
            args = args[: len(params)]
        return len(params) == len(args) and all(map(self._takes, params, args))

    def _takes(self, param: s.Param, arg: s.Expr) -> bool:
        ref = arg.ref if isinstance(arg, s.Address) else arg if isinstance(arg, s.Ref) else None
        place = None if ref is None else self._detached_place(ref)
        match param:
            case s.LockParam(_, kind):
                if place is None or place.sort != "lock":
                    return False
                return kind is None or place.kind is None or place.kind == kind
            case s.ValueParam(if_said=True):
                return True
            case s.ValueParam(kind, _, by_ref):
                if self.tables.domain(kind) is None:
                    return place is not None and place.sort in ("handle", "device") and place.kind == type_name(kind)
                if by_ref:
                    return place is not None and place.sort == "value" and place.domain is not None
                return not isinstance(arg, s.Address) and (
                    place is None
                    or place.sort == "value"
                    or (ref is not None and self.program.constant_of(kind, ref) is not None)
                )
            case s.ObjectParam(s.ObjectKind.INTERRUPT | s.ObjectKind.EVENT | s.ObjectKind.DATA as kind):
                return place is not None and place.sort == str(kind)
            case s.ObjectParam(s.ObjectKind.ROUTINE):
                return place is not None and place.sort in ("routine", "deferred")
            case _:
                return True

    # statements

    def block(self, block: s.Block) -> None:
        self.scopes.append({})
        for stmt in block.body:
            self.stmt(stmt)
        self.scopes.pop()

    def stmt(self, stmt: s.Stmt) -> None:
        match stmt:
            case s.Block():
                self.block(stmt)
            case s.If(arms, otherwise):
                end = Mark()
                for arm in arms:
                    other = Mark()
                    self.condition(arm.condition)
                    self.emit(Branch(False, other))
                    self.block(arm.body)
                    self.emit(Jump(end))
                    self.place(other)
                if otherwise is not None:
                    self.block(otherwise)
                self.place(end)
            case s.While(condition, body):
                self.loop(None, condition, None, body)
            case s.For(start, condition, step, body):
                self.loop(start, condition, step, body)
            case s.DoWhile(body, condition):
                top, again, end = Mark(), Mark(), Mark()
                self.place(top)
                self.looped(body, end, again)
                self.place(again)
                self.condition(condition)
                self.emit(Branch(True, top))
                self.place(end)
            case s.Switch(subject, cases):
                self.switch(stmt.span, subject, cases)
            case s.Goto(label):
                target, path = self.labels[label]
                self.exit_to(target, path)
            case s.Label(name):
                self.place(self.labels[name][0])
            case s.Jump(s.JumpKind.LEAVE):
                number = next(n for n, part in reversed(self.regions) if part == "body")
                self.exit_to(self.tries[number][0], (), keep=self._depth_of(number) + 1)
            case s.Jump(kind):
                self.jump(kind)
            case s.Try(body, final):
                self.try_(stmt, body, final)
            case s.Atomic(body):
                outer, self.atomic = self.atomic, True
                if not outer:
                    self.emit(self.opening(body))
                self.block(body)
                self.atomic = outer
            case s.Return(value):
                self.statement(stmt.span, lambda: self.returned(value))
                self.exit_to(self.leave, ())
            case s.Declare():
                self.declare(stmt)
            case _:
                self.statement(stmt.span, lambda: self.simple(stmt))

    def opening(self, body: s.Block) -> EnterAtomic:
        """The start of an `atomic` block: what it names, and what is named in what it calls."""
        names = named(self.program, body)
        variables = frozenset(name for name in self.program.variables if name.rpartition(".")[2] in names)
        given = sorted(name for name in names if (local := self.find(name)) and local.bound and local.sort == "value")
        return EnterAtomic(variables, tuple(self._detached_place(s.Ref(name, (), body.span)) for name in given))

    def jump(self, kind: s.JumpKind) -> None:
        """`break` and `continue`; a switch takes no `continue`."""
        for out, again, keep in reversed(self.loops):
            target = out if kind is s.JumpKind.BREAK else again
            if target is not None:
                self.exit_to(target, (), keep=keep)
                return

    def condition(self, condition: s.Expr) -> None:
        self.statement(condition.span, lambda: self.expr(condition, BOOL))

    def loop(self, start: s.Stmt | None, condition: s.Expr | None, step: s.Stmt | None, body: s.Block) -> None:
        top, again, end = Mark(), Mark(), Mark()
        if start is not None:
            self.stmt(start)
        self.place(top)
        if condition is not None:
            self.condition(condition)
            self.emit(Branch(False, end))
        self.looped(body, end, again)
        self.place(again)
        if step is not None:
            self.stmt(step)
        self.emit(Jump(top))
        self.place(end)

    def looped(self, body: s.Block, end: Mark, again: Mark) -> None:
        self.loops.append((end, again, len(self.regions)))
        self.block(body)
        self.loops.pop()

    def switch(self, span: Span, subject: s.Expr, cases: tuple[s.Case, ...]) -> None:
        domain = self.domain_of(subject)
        end = Mark()
        marks = [Mark() for _ in cases]
        table: list[tuple[int, Mark]] = []
        default = end
        for case, mark in zip(cases, marks, strict=True):
            if case.value is None:
                default = mark
                continue
            enum = domain.values if domain is not None else ()
            named = isinstance(case.value, s.Ref) and case.value.name in enum
            value = enum.index(case.value.name) if named else self.program.constant(case.value)  # type: ignore[union-attr]
            if value is not None:
                table.append((value, mark))
        self.statement(span, lambda: self.expr(subject, domain))
        self.emit(Select(tuple(table), default))
        self.scopes.append({})
        self.loops.append((end, None, len(self.regions)))
        for case, mark in zip(cases, marks, strict=True):
            self.place(mark)
            for stmt in case.body:
                self.stmt(stmt)
        self.loops.pop()
        self.scopes.pop()
        self.place(end)

    def try_(self, stmt: s.Try, body: s.Block, final: s.Block) -> None:
        """The `finally` block is there once; whoever enters it says where to go on."""
        number = id(stmt)
        entry, end = self.tries[number]
        self.regions.append((number, "body"))
        self.block(body)
        self.regions.pop()
        self.emit(Pend(end))
        self.place(entry)
        self.regions.append((number, "final"))
        self.block(final)
        self.regions.pop()
        self.emit(Resume())
        self.place(end)

    def _depth_of(self, number: int) -> int:
        return next(i for i, (n, _) in enumerate(self.regions) if n == number)

    def exit_to(self, target: Mark, path: tuple[tuple[int, str], ...], keep: int | None = None) -> None:
        """Jump to `target`, running the `finally` blocks that are left on the way. `path`: the regions around the
        target; or `keep`: how many of the present ones stay."""
        if keep is None:
            keep = 0
            while keep < min(len(path), len(self.regions)) and path[keep] == self.regions[keep]:
                keep += 1
        for number, part in reversed(self.regions[keep:]):
            if part == "final":
                self.emit(Unpend())
            elif self.tries[number][0] is not target:
                after = Mark()
                self.emit(Pend(after))
                self.emit(Jump(self.tries[number][0]))
                self.place(after)
        for number, part in path[keep:]:
            if part == "final":
                self.emit(Pend(self.tries[number][1]))
        if any(target is entry for entry, _ in self.tries.values()):  # `leave`
            self.emit(Pend(next(end for entry, end in self.tries.values() if entry is target)))
        self.emit(Jump(target))

    def find_labels(self, stmt: s.Stmt, path: tuple[tuple[int, str], ...]) -> None:
        """Finds every label with the `try` statements around it, and gives every `try` its addresses."""
        match stmt:
            case s.Label(name):
                self.labels[name] = (Mark(), path)
            case s.Block(body):
                for inner in body:
                    self.find_labels(inner, path)
            case s.If(arms, otherwise):
                for arm in arms:
                    self.find_labels(arm.body, path)
                if otherwise is not None:
                    self.find_labels(otherwise, path)
            case s.While(_, body) | s.DoWhile(body) | s.Atomic(body) | s.For(_, _, _, body):
                self.find_labels(body, path)
            case s.Switch(_, cases):
                for case in cases:
                    for inner in case.body:
                        self.find_labels(inner, path)
            case s.Try(body, final):
                self.tries[id(stmt)] = (Mark(), Mark())
                self.find_labels(body, (*path, (id(stmt), "body")))
                self.find_labels(final, (*path, (id(stmt), "final")))

    def returned(self, value: s.Expr | None) -> None:
        if value is not None:
            self.expr(value, self.code.result)
            self.emit(Result())

    def declare(self, stmt: s.Declare) -> None:
        self.count += 1
        local = self.tables.local(stmt.type, f"{stmt.name}#{self.count}", False)

        def build() -> None:
            if stmt.value is not None and local.domain is not None:
                self.expr(stmt.value, local.domain)
                self.scopes[-1][stmt.name] = local
                self.emit(Store(Place(("slot", local.slot), False, (), False, "value", local.domain), stmt.name))
            else:
                self.scopes[-1][stmt.name] = local
                self.emit(Fresh(local.slot, stmt.name, local))

        self.statement(stmt.span, build)

    def simple(self, stmt: s.Stmt) -> None:
        """The code of a statement that is one step."""
        match stmt:
            case s.Assign(target, value):
                self.assign(target, value)
            case s.CallStmt(call):
                self.call(call, None)
                self.emit(Pop())
            case s.Assume(condition):
                self.expr(condition, BOOL)
                self.emit(Suppose())
            case s.Assert(condition):
                self.expr(condition, BOOL)
                self.emit(Check(Property.C01, condition.span.text))
            case s.Access(write, data):
                self.emit(Touch(self.ref(data), write))
            case s.Init(lock):
                self.emit(LockOp("init", self.ref(lock)))
            case s.Free(lock):
                self.emit(LockOp("free", self.ref(lock)))
            case s.Acquire(lock, mode, tag):
                self.emit(LockOp("acquire", self.ref(lock), mode, tag))
            case s.Release(lock, mode, tag):
                self.emit(LockOp("release", self.ref(lock), mode, tag))
            case s.Convert(lock, mode):
                self.emit(LockOp("convert", self.ref(lock), mode))
            case s.Cost(nanoseconds, times):
                if times is not None:
                    self.expr(times, None)
                self.emit(Spend(nanoseconds, times is not None))
            case s.Raise(level) | s.Lower(level):
                self.expr(level, LEVELS)
                self.emit(Change(isinstance(stmt, s.Raise)))
            case s.Blocks():
                self.emit(MayBlock())
            case s.Signal(op, event):
                self.emit(SignalOp(op, self.ref(event)))
            case s.Enable(on, name, _):
                self.emit(Permit(on, self.ref(s.Ref(name, (), stmt.span))))
            case s.Require(condition, code, why):
                self.expr(condition, BOOL)
                self.emit(Check(Property(code), why))
            case s.Callback(name, args):
                for arg in args:
                    self.expr(arg, None)
                self.emit(CallBack(self.ref(s.Ref(name, (), stmt.span)), len(args), stmt.span))
            case s.MayReenter(role):
                self.emit(CallOut(role))

    def assign(self, target: s.Ref, value: s.Expr) -> None:
        place = self.ref(target)
        if place.sort == "lock":
            if isinstance(value, s.Ref) and value.name == "none" and self.find("none") is None:
                self.emit(Push(None))
            else:
                self.expr(value, None)
        else:
            self.expr(value, place.domain)
        down = 0
        if isinstance(value, s.Binary) and value.op is s.BinaryOp.SUB and value.left == target:
            down = self.program.constant(value.right) or 0
        self.emit(Store(place, ref_text(target), down))


def type_name(kind: s.Type) -> str | None:
    return kind.name if isinstance(kind, s.NamedType) else None


def ref_text(ref: s.Ref) -> str:
    """A reference as written, without its index."""
    return ".".join((ref.name, *(x.name for x in ref.selectors if isinstance(x, s.Member))))
