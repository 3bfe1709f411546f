"""With locks of which kinds a routine can be called whose parameters leave the kind open (`lock L`).

A parameter without a kind takes any lock that the body goes with. So the body is checked once for each combination of
kinds that it is given, as if it were declared with them; what it hands on to other such routines is looked at there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelcheck import syntax as s
from modelcheck.check_body import BodyCheck
from modelcheck.check_calls import Given
from modelcheck.diagnostics import Diagnostic
from modelcheck.record import replace
from modelcheck.resolve import Program


def open_locks(declared: s.Routine | s.Extern) -> tuple[s.LockParam, ...]:
    """The lock parameters that can be of any kind."""
    return tuple(p for p in declared.params if isinstance(p, s.LockParam) and p.kind is None)


class Kinds:
    """Answers are kept; `known` is what was found in the bodies with the kinds left open."""

    def __init__(self, program: Program, known: Iterable[Diagnostic] = ()) -> None:
        self.program = program
        self.body: BodyCheck | None = None
        """Made when it is needed first: most drivers leave no kind open."""
        self.known = {(d.code, d.message, d.span) for d in known}
        self.callees: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
        self.causes: dict[tuple[object, ...], Diagnostic] = {}

    def refusal(self, given: Given) -> Diagnostic | None:
        """Why the body does not go with these kinds; None if it does."""
        self._spread(self._explore(given))
        return self.causes.get(given.key)

    def refuses(self, routine: s.Routine, locks: Mapping[str, str]) -> bool:
        """Whether a routine cannot be given these locks, `locks` being those of its parameters by name."""
        declared = {name: self.program.locks[lock.partition("[")[0]].kind for name, lock in locks.items()}
        kinds = {param.name: declared[param.name] for param in open_locks(routine) if param.name in declared}
        return bool(kinds) and self.refusal(Given(routine, kinds, routine.span)) is not None

    def _explore(self, given: Given) -> list[tuple[object, ...]]:
        """Checks the body, and those that come to be called from there, for kinds that are new to them."""
        new: list[tuple[object, ...]] = []
        pending = [given]
        while pending:
            one = pending.pop()
            if one.key not in self.callees:
                inner = self._check(one)
                self.callees[one.key] = [call.key for call in inner]
                new.append(one.key)
                pending += inner
        return new

    def _check(self, given: Given) -> list[Given]:
        """Checks one body for the kinds it is given; what it hands on."""
        if self.body is None:
            self.body = BodyCheck(self.program)
        body, declared = self.body, given.declared
        body.found, body.given = [], []
        params = tuple(_of_kind(param, given.kinds) for param in declared.params)
        if isinstance(declared, s.Routine):
            body.routine(replace(declared, params=params), declared.span.source not in self.program.own)
        else:
            body.extern(replace(declared, params=params))
        errors = (d for d in body.found if d.code.is_error and (d.code, d.message, d.span) not in self.known)
        cause = next(errors, None)
        if cause is not None:
            self.causes[given.key] = cause
        return body.given

    def _spread(self, new: list[tuple[object, ...]]) -> None:
        """What a body cannot be given, its callers cannot be given either."""
        callers: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
        for caller in new:
            for callee in self.callees[caller]:
                callers.setdefault(callee, []).append(caller)
        pending = [key for key in {**callers, **dict.fromkeys(new)} if key in self.causes]
        while pending:
            refused = pending.pop()
            for caller in callers.get(refused, ()):
                if caller not in self.causes:
                    self.causes[caller] = self.causes[refused]
                    pending.append(caller)


def _of_kind(param: s.Param, kinds: Mapping[str, str]) -> s.Param:
    return replace(param, kind=kinds[param.name]) if isinstance(param, s.LockParam) and param.name in kinds else param
