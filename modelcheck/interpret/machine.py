"""The roots of a program: how the system starts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from modelcheck import syntax as s
from modelcheck.devices import instance, number_of, plain
from modelcheck.interpret.code import Boundary, Code, Finish, Instruction, Invoke, Load, Mark, Point, Push, Store
from modelcheck.interpret.compile import Compiler
from modelcheck.interpret.memory import indexed_ref
from modelcheck.interpret.state import Frame, State
from modelcheck.interpret.steps import Steps
from modelcheck.interpret.values import (
    ANY_TAG,
    BOOL,
    INITIALISED,
    Choose,
    Environment,
    Local,
    Place,
    Target,
    Value,
    in_order,
)
from modelcheck.interpret.walk import called_routines, held_anywhere
from modelcheck.resolve import around_run
from modelcheck.verdict import HIGH_LEVEL


class Machine(Steps):
    """Runs the roots of a program, one step at a time, under one environment. Compiled bodies are kept."""

    def with_environment(self, environment: Environment) -> Self:
        """The same machine in another environment; what was compiled is shared."""
        other = type(self).__new__(type(self))
        for name, value in vars(self).items():
            setattr(other, name, value)
        other.environment = environment
        other.written, other.touched = {}, set()
        return other

    # starting

    def roots(self) -> tuple[str, ...]:
        """The routines the system starts: those with a role, and those with clauses that nobody calls."""
        called = called_routines(self.program)
        return tuple(name for name, r in self.program.routines.items() if r.role or (r.clauses and name not in called))

    def levels(self, root: str) -> tuple[int, ...]:
        """The IRQLs a root can start at, as its role says."""
        role, arguments = self.role(root)
        named = self.tables.levels
        if role is None or role.irql is None:
            return tuple(sorted(named))
        low, high = (self.role_level(e, arguments) for e in role.irql)
        return tuple(sorted(level for level in {*named, low, high} if low <= level <= high))

    def role_level(self, expr: s.Expr, arguments: Mapping[str, s.Ref | int]) -> int:
        """A level as a role gives it, in which the parameters of the role may stand."""
        match expr:
            case s.Ref(name, selectors) if name in arguments:
                value = arguments[name]
                if isinstance(value, int):
                    return value
                return self.role_level(s.Ref(value.name, (*value.selectors, *selectors), expr.span), {})
        value_of = self.program.constant(expr)
        return HIGH_LEVEL if value_of is None else value_of

    def bindings(self, root: str) -> tuple[Mapping[str, str], ...]:
        """The locks that the lock parameters of a root can stand for: one entry for each combination."""
        found: list[dict[str, str]] = [{}]
        for param in self.program.routines[root].params:
            if isinstance(param, s.LockParam):
                fitting = [n for n, d in self.tables.instances.items() if self._fits(d, param.kind)]
                found = [{**binding, param.name: lock} for binding in found for lock in fitting]
        return tuple(b for b in found if not self.kinds.refuses(self.program.routines[root], b))

    def _fits(self, lock: s.LockDecl, kind: str | None) -> bool:
        return lock.span.source in self.program.own and kind in (None, lock.kind)

    def start(self, root: str, choose: Choose, binding: Mapping[str, str] | None = None) -> State:
        """A state before the first step of `root`, its lock parameters bound as in `binding`. Asks `irql`, `var x`,
        `life L`, `param p` and, for the locks that the clauses of a root without a role speak of, `held L`."""
        routine = self.program.routines[root]
        irql = choose("irql", self.levels(root))
        store = dict(self.initial)
        for name in self.program.variables:
            allowed = self.environment.starts.get(name)
            if allowed:
                store["var", name] = choose(f"var {name}", in_order(allowed))
        lives = {}
        for name in self.tables.instances:
            allowed = self.environment.lives.get(name)
            lives[name] = choose(f"life {name}", in_order(allowed)) if allowed else INITIALISED
        bottom = Frame(self._harness(root), 0, [], {}, routine.span, routine.span, root, -1)
        state = State(root, [bottom], irql, store, {}, lives)
        self.state, self.choose, self.failures = state, choose, []
        self._bind_root(routine, binding or next(iter(self.bindings(root)), {}))
        if self.role(root)[0] is None:
            self._given(routine, self._bound(bottom))
        bottom.level, bottom.holds = irql, dict(state.holds)
        if self.role(root)[0] is None and not self._may_start(routine):
            state.ended = "its requirements do not allow this start"
        return state

    def _bind_root(self, routine: s.Routine, binding: Mapping[str, str]) -> None:
        """Gives the parameters of a root something to refer to."""
        slots = self.state.frames[0].slots
        for param, local in self._code(routine).params:
            match param:
                case s.LockParam(name):
                    slots[f"${name}"] = ("lock", binding[name]) if name in binding else ("opaque", name)
                case s.ValueParam(_, name) if local.domain is not None:
                    slots[f"${name}"] = self.choose(f"param {name}", local.domain.open)
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.devices:
                    numbers = tuple(number_of(n) for n in self.program.devices if plain(n) == kind)
                    chosen = self.choose(f"param {name}", numbers) if len(numbers) > 1 else 1
                    slots[f"${name}"] = ("device", instance(kind, chosen))
                case s.ValueParam(s.NamedType(kind), name) if kind in self.program.handle_kinds:
                    for field in self.program.handle_kinds[kind].fields:
                        domain = self.tables.domain(field.type) if isinstance(field, s.Field) else None
                        if domain is not None:
                            slots[f"${name}.{field.name}"] = self.choose(f"param {name}.{field.name}", domain.open)
        _, arguments = self.role(routine.name)
        for name, value in arguments.items():
            slots[name] = value if isinstance(value, int) else self._object(value)

    def _object(self, ref: s.Ref) -> Target:
        compiler = Compiler(self.tables, "", False)
        return ("lock", self._family(ref)) if indexed_ref(ref) else self._resolve(compiler.ref(ref), 0, None)

    def _given(self, routine: s.Routine, binding: Mapping[str, str]) -> None:
        """Whether the locks that clauses speak of are held at the start: 0 free, 1 exclusive, 2 shared. A lock that the
        routine acquires is free, one that it releases is held."""
        mentioned: dict[str, set[int]] = {}
        tags: dict[str, str] = {}
        for clause in routine.clauses:
            match clause:
                case s.LockClause(acquires, ref, mode, tag):
                    lock = self._clause_lock(ref, binding)
                    tags[lock] = tag or ANY_TAG
                    modes = {1, 2} if mode is s.Mode.EITHER else {2} if mode is s.Mode.SHARED else {1}
                    mentioned[lock] = {0} if acquires else modes
        for clause in routine.clauses:
            if isinstance(clause, s.ConditionClause):
                for ref, held_mode in held_anywhere(clause.condition):
                    lock = self._clause_lock(ref, binding)
                    if lock not in tags:
                        mentioned.setdefault(lock, {0, 1}).add(2 if held_mode is s.Mode.SHARED else 1)
        for lock, allowed in mentioned.items():
            held = self.choose(f"held {lock}", tuple(sorted(allowed)))
            if held:
                self.state.holds[lock] = (held == 2, 1, tags.get(lock, ANY_TAG))

    def _may_start(self, routine: s.Routine) -> bool:
        """Whether the `requires` clauses of a root hold in the state it would start in."""
        code = self._code(routine)
        depth = len(self.state.frames)
        frame = Frame(code, 0, [], {}, routine.span, None, routine.name, 0)
        self.state.frames.append(frame)
        for param, local in code.params:
            frame.slots[local.slot] = self._root_argument(param, local)
        fits = all(
            self._evaluate(code.conditions[n])
            for n, c in enumerate(routine.clauses)
            if isinstance(c, s.ConditionClause) and c.kind is s.ClauseKind.REQUIRES
        )
        del self.state.frames[depth:]
        return fits

    def _root_argument(self, param: s.Param, local: Local) -> Value:
        bottom = self.state.frames[0]
        match param:
            case s.LockParam(name):
                return bottom.slots[f"${name}"]
            case s.ValueParam(_, name):
                if local.domain is None:
                    return bottom.slots[f"${name}"] if local.sort == "device" else ("slot", 0, f"${name}")
                return ("slot", 0, f"${name}") if local.bound else bottom.slots[f"${name}"]
            case _:
                return None

    def _harness(self, root: str) -> Code:
        """What the system does around a root: `entry`, the call, `exit`, and what must hold then."""
        code = self.harnesses.get(root)
        if code is not None:
            return code
        routine = self.program.routines[root]
        role, _ = self.role(root)
        compiler = Compiler(self.tables, root, False)
        taken, given_back = around_run(self.program, routine, role)
        for param in () if role is None else role.params:
            compiler.parameter(param)
        for stmt in taken:
            compiler.stmt(stmt)
            compiler.emit(Boundary(routine.span))
        if role is not None and role.entry is not None:
            compiler.find_labels(role.entry, ())
            compiler.block(role.entry)
            compiler.emit(Boundary(role.entry.span))
        for param, local in self._code(routine).params:
            compiler.emit(handed(param, local))
        compiler.emit(Invoke(routine, routine.span))
        compiler.emit(Store(Place(("slot", "$result"), False, (), False, "value"), "result"))
        if role is not None and role.exit is not None:
            compiler.leave = Mark()
            compiler.find_labels(role.exit, ())
            compiler.block(role.exit)
            compiler.emit(Boundary(role.exit.span))
        compiler.place(compiler.leave)
        for release in given_back:
            compiler.stmt(release)
            compiler.emit(Boundary(routine.span))
        compiler.emit(Finish())
        if role is not None and role.continues is not None and routine.result is not None:
            compiler.scopes[0]["result"] = Local("$result", False, "value", self.tables.domain(routine.result))
            compiler.code.conditions[0] = compiler.apart(role.continues, BOOL)
        self.harnesses[root] = compiler.code
        return compiler.code


def handed(param: s.Param, local: Local) -> Instruction:
    """Puts what the harness of a root hands over for a parameter on the stack: a value, or what it refers to."""
    match param:
        case s.RestParam():
            return Push(None)
        case s.LockParam(name):
            return Point(Place(("slot", f"${name}"), True, (), False, "lock"))
        case s.ValueParam(_, name) if local.domain is not None and not local.bound:
            return Load(Place(("slot", f"${name}"), False, (), False, "value", local.domain))
        case s.ValueParam(_, name):
            return Point(Place(("slot", f"${name}"), local.sort == "device", (), False, local.sort))
        case _:
            return Load(Place(("opaque", ""), False, (), False, "opaque"))
