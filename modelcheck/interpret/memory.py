"""What references denote, what is read from there and written to it."""

from __future__ import annotations

from collections.abc import Mapping

from modelcheck import syntax as s
from modelcheck.interpret.code import Code
from modelcheck.interpret.state import Frame, State
from modelcheck.interpret.tables import NO_KIND, Tables
from modelcheck.interpret.values import Choose, Domain, Environment, Failure, Local, Place, Target, Value, in_order
from modelcheck.kinds import Kinds
from modelcheck.record import replace
from modelcheck.resolve import Program
from modelcheck.source import Span
from modelcheck.verdict import HIGH_LEVEL, NO_LEVEL, Property


class Memory:
    """The state of the run that is stepped, and what its references denote."""

    def __init__(self, program: Program, environment: Environment | None = None) -> None:
        self.program = program
        self.environment = environment or Environment()
        self.limit = 1000 * (program.setting("hold_limit_us") if "hold_limit_us" in program.settings else 25)
        """How long a spin lock may be held, in ns."""
        self.tables = Tables(program)
        self.kinds = Kinds(program)
        self.codes: dict[int, Code] = {}
        self.harnesses: dict[str, Code] = {}
        self.guards = {name: self.tables.guards_of(v.guards) for name, v in program.variables.items()}
        self.data_guards = {name: self.tables.guards_of(d.guards) for name, d in program.data.items()}
        self.ghosts = {
            (lock, f.name)
            for lock in self.tables.instances
            for f in (self.tables.kind_of(lock) or NO_KIND).fields
            if f.ghost
        }
        self.initial = self._initial_store()
        self.state: State
        self.choose: Choose
        self.failures: list[Failure]
        self.quiet = False
        self.tries: tuple[int, ...] = (0, 1)
        """How a try may go that can succeed."""
        self.written: dict[str, set[int]] = {}
        """What was ever written to each shared variable and ghost field `L.use`, by any run of this machine."""
        self.touched: set[str] = set()
        """Locks that any run of this machine initialised or freed."""

    def _initial_store(self) -> dict[Target, Value]:
        store: dict[Target, Value] = {}
        program, tables = self.program, self.tables
        for base, table in (("var", program.variables), ("ctx", program.context_variables)):
            for name, variable in table.items():
                domain = tables.domain(variable.type)
                if domain is not None:
                    store[base, name] = self._declared(variable.type, variable.value, domain)
        for lock in tables.instances:
            for f in (tables.kind_of(lock) or NO_KIND).fields:
                domain = tables.domain(f.type)
                if domain is not None:
                    store["field", lock, f.name] = self._declared(f.type, f.value, domain)
        return store

    def _declared(self, kind: s.Type, value: s.Expr | None, domain: Domain) -> int:
        known = None if value is None else self.program.constant_of(kind, value)
        return domain.initial if known is None else known

    def _routine(self) -> str:
        for frame in reversed(self.state.frames):
            if frame.code.is_routine:
                return frame.code.name
        return self.state.root

    def _fail(self, code: Property, subject: str, why: str = "", span: Span | None = None) -> None:
        frame = self.state.frames[-1]
        if not self.quiet:
            failure = Failure(code, self._routine(), span or frame.site or frame.span, subject, why)
            if failure not in self.failures:
                self.failures.append(failure)

    # what references denote

    def _resolve(self, place: Place, index_frame: int, index: Value) -> Target:
        """What a place denotes now, seen from frame number `index_frame`."""
        base = place.base
        if base[0] == "slot":
            frame = self.state.frames[index_frame]
            target: Target = ("slot", index_frame, base[1])
            if place.bound:
                bound = frame.slots.get(str(base[1]))
                target = bound if isinstance(bound, tuple) else ("opaque", base[1])
        else:
            target = base
        members = place.members
        if members and target[0] == "device":
            target, members = self._member(target, *members[0]), members[1:]
        if place.indexed and target[0] == "lock":
            target = ("lock", self._instance(str(target[1]), index))
        for sort, member in members:
            target = self._member(target, sort, member)
        return target

    def _instance(self, family: str, index: Value) -> str:
        """`Bucket[i]`; an index that is outside takes the nearest bound and breaks C04."""
        size = self.program.locks[family].size or 1
        number = index if isinstance(index, int) else 0
        if not 0 <= number < size:
            self._fail(Property.C04, family)
            number = max(0, min(number, size - 1))
        return f"{family}[{number}]"

    def _member(self, target: Target, sort: str, member: str) -> Target:
        match sort:
            case "lock":
                return ("field", self._lock(target), member)
            case "handle":
                return (*target[:-1], f"{target[-1]}.{member}")
            case "interrupt":
                name = str(target[1])
                if member == "lock":
                    return ("lock", f"{name}.lock")
                level = self.program.constant(self.program.interrupts[name].level)
                return ("int", HIGH_LEVEL if level is None else level)
            case "routine" | "deferred" if member == "run":
                lock = f"{target[1]}.run"
                return ("lock", lock) if lock in self.program.locks else ("opaque", lock)
            case "device":
                full = f"{target[1]}.{member}"
                tables = (
                    ("lock", self.program.locks),
                    ("var", self.program.variables),
                    ("data", self.program.data),
                    ("event", self.program.events),
                )
                return next(((base, full) for base, table in tables if full in table), ("opaque", full))
            case _:
                return ("ctx", member) if member in self.program.context_variables else ("opaque", member)

    def _lock(self, target: Target) -> str | None:
        """The name of the lock that is meant, None for a handle that belongs to none."""
        if target[0] == "lock":
            return str(target[1])
        value = self._load(target, None)
        return value if isinstance(value, str) else None

    def _load(self, target: Target, domain: Domain | None) -> Value:
        match target:
            case ("slot", int(number), key):
                slots = self.state.frames[number].slots
                default = None if domain is None else domain.initial
                return slots.get(str(key), default)
            case ("var" | "ctx" | "field", *_):
                if target[0] == "var":
                    self._guarded(str(target[1]), write=False)
                return self.state.store.get(target, None if domain is None else domain.initial)
            case ("lock", name):
                return str(name)
            case ("int", int(number)):
                return number
            case ("opaque", _):
                return 0
            case _:
                return target

    def _place(self, place: Place) -> Target:
        """What a place denotes in the frame on top; takes its index from the stack."""
        index = self.state.frames[-1].stack.pop() if place.indexed else None
        return self._resolve(place, len(self.state.frames) - 1, index)

    def _guarded(self, name: str, write: bool) -> None:
        """R01 for a shared variable."""
        for guard in self.guards.get(name, ()):
            held = self.state.holds.get(guard)
            if held is None or (write and held[0]):
                self._fail(Property.R01, name)
                return

    def _family(self, ref: s.Ref) -> str:
        return self.tables.guards_of((ref,))[0]

    def _clause_lock(self, ref: s.Ref, binding: Mapping[str, str]) -> str:
        """The lock that a clause of a root speaks of; `binding`: what its parameters are, locks and devices."""
        given = binding.get(ref.name, ref.name)
        return given if given in self.tables.instances else self._family(replace(ref, name=given))

    def _interfere(self, target: Target, unless_guarded: bool) -> None:
        match target:
            case ("var", str(name)):
                if unless_guarded and any(g in self.state.holds for g in self.guards[name]):
                    return
            case ("field", str(lock), str(member)) if (lock, member) in self.ghosts:
                name = f"{lock}.{member}"
            case _:
                return
        others = self.environment.others.get(name)
        if others:
            own = number_of(self.state.store[target])
            allowed = others if own in others else {*others, own}
            self.state.store[target] = self.choose(f"var {name}", in_order(allowed))

    # assignments

    def _assign(self, place: Place, name: str, down: int) -> None:
        value = self.state.frames[-1].stack.pop()
        self._put(self._place(place), value, place.domain, name, down)

    def _put(self, target: Target, value: Value, domain: Domain | None, name: str, down: int = 0) -> None:
        """Stores a value; one that leaves the range takes the nearest bound and breaks C04."""
        own = self._domain(target)
        if own is not None:
            domain = own
        if domain is not None and isinstance(value, int):
            value = self._fit(value, domain, name, down)
        match target:
            case ("slot", int(number), key):
                slots = self.state.frames[number].slots
                slots[str(key)] = value
            case ("var" | "ctx" | "field", *_):
                if target[0] == "var":
                    self._guarded(str(target[1]), write=True)
                if target[0] != "field" or target[1] is not None:
                    self.state.store[target] = value
                    self._written(target, value)

    def _written(self, target: Target, value: Value) -> None:
        name = ".".join(map(str, target[1:]))
        if isinstance(value, int) and (target[0] == "var" or target[1:] in self.ghosts):
            self.written.setdefault(name, set()).add(value)

    def _fit(self, value: int, domain: Domain, name: str, down: int) -> int:
        if domain.counter and down > 0 and value + down == domain.high:
            allowed = tuple(range(max(domain.low, domain.high - down), domain.high + 1))
            allowed = (allowed[0], domain.high)
            return self.choose(f"counter {name}", allowed)
        return self._nearest(value, domain, name)

    def _nearest(self, value: int, domain: Domain, name: str) -> int:
        """The value, or the nearest one of the type, which breaks C04."""
        if not domain.exact and not domain.counter:
            return int(bool(value))
        nearest = max(domain.low, min(value, domain.high))
        if nearest != value and domain.exact:
            self._fail(Property.C04, name)
        return nearest

    def _domain(self, target: Target) -> Domain | None:
        match target:
            case ("var", str(name)):
                return self.tables.domain(self.program.variables[name].type) if name in self.program.variables else None
            case ("ctx", str(name)):
                found = self.program.context_variables.get(name)
                return None if found is None else self.tables.domain(found.type)
            case _:
                return None

    def _fresh(self, frame: Frame, slot: str, name: str, local: Local) -> None:
        """A declaration without a value: a choice; NO_LEVEL for a KIRQL, no lock for a handle."""
        for key in [k for k in frame.slots if k == slot or k.startswith(f"{slot}.")]:
            del frame.slots[key]
        if local.domain is not None:
            if local.domain.level:
                frame.slots[slot] = NO_LEVEL
            else:
                frame.slots[slot] = self.choose(f"uninit {name}", local.domain.open)


def number_of(value: Value) -> int:
    return value if isinstance(value, int) else 0


def indexed_ref(ref: s.Ref) -> bool:
    return any(isinstance(x, s.Index) for x in ref.selectors)
