"""What the compiler and the machine ask about declarations."""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck import syntax as s
from modelcheck.interpret.values import LEVELS, Domain, Local
from modelcheck.resolve import Program, enum_of, qualified, type_range
from modelcheck.source import Span
from modelcheck.verdict import APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL

DEFERRED_ROLES = {
    s.DeferredKind.DPC: "KDEFERRED_ROUTINE",
    s.DeferredKind.TIMER: "KDEFERRED_ROUTINE",
    s.DeferredKind.WORKITEM: "IO_WORKITEM_ROUTINE",
}
"""What `dpc D runs R;` makes of a routine that says no role itself."""
_NOWHERE = Span.__new__(Span)
NO_KIND = s.LockKind("", False, False, False, False, False, False, False, None, (), (), _NOWHERE)


class Tables:
    """What the compiler and the machine ask about declarations."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.instances: dict[str, s.LockDecl] = {}
        for name, lock in program.locks.items():
            names = [name] if lock.size is None else [f"{name}[{i}]" for i in range(lock.size)]
            self.instances.update(dict.fromkeys(names, lock))
        self.levels = named_levels(program)

    def domain(self, kind: s.Type | None) -> Domain | None:
        """The values of a type; None for handles and devices."""
        match kind:
            case None:
                return None
            case s.NamedType("KIRQL"):
                return LEVELS
            case s.NamedType(name) if name not in self.program.enums:
                return None
        low, high = type_range(self.program, kind)
        counter = isinstance(kind, s.CounterType)
        exact = not counter and not isinstance(kind, s.BoolType)
        return Domain(low, high, enum_of(self.program, kind), counter, exact=exact)

    def local(self, kind: s.Type, slot: str, bound: bool) -> Local:
        """A variable of that type."""
        domain = self.domain(kind)
        if domain is not None:
            return Local(slot, bound, "value", domain)
        assert isinstance(kind, s.NamedType)
        if kind.name in self.program.devices:
            return Local(slot, True, "device", None, kind.name)
        return Local(slot, bound, "handle", None, kind.name)

    def lock_field(self, kind: str | None, name: str) -> Domain | None:
        """The type of a field of a lock; of any kind that has it where the kind is not known."""
        kinds = self.program.lock_kinds.values() if kind is None else [self.program.lock_kinds[kind]]
        found = [f for k in kinds for f in k.fields if f.name == name]
        return self.domain(found[0].type) if found else None

    def spins(self, lock: str) -> bool:
        kind = self.kind_of(lock)
        return kind is not None and kind.spins

    def kind_of(self, lock: str) -> s.LockKind | None:
        decl = self.instances.get(lock)
        return None if decl is None else self.program.lock_kinds.get(decl.kind)

    def guards_of(self, guards: Iterable[s.Ref]) -> tuple[str, ...]:
        """The full names of the locks that guard something."""
        names = []
        for guard in guards:
            name = qualified(guard)
            index = next((x.value for x in guard.selectors if isinstance(x, s.Index)), None)
            value = None if index is None else self.program.constant(index)
            names.append(name if value is None else f"{name}[{value}]")
        return tuple(names)


def named_levels(program: Program) -> frozenset[int]:
    """The IRQLs the program speaks of: those with a name, of interrupts and lock kinds, and the bounds of roles."""
    exprs: list[s.Expr] = [i.level for i in program.interrupts.values()]
    exprs += [k.level for k in program.lock_kinds.values() if k.level is not None]
    exprs += [e for roles in program.roles.values() for role in roles for e in role.irql or ()]
    values = {program.constant(e) for e in exprs}
    builtin = {PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, program.constants["DIRQL"], HIGH_LEVEL}
    return frozenset(v for v in values | builtin if v is not None and PASSIVE_LEVEL <= v <= HIGH_LEVEL)
