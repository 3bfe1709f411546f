"""What a green run should still be looked at for: what is never reached, never taken, never used.

Each of these makes a proof easier than it should be. All are read off the model and the verdicts; none changes one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from modelcheck.diagnostics import Code, Diagnostic
from modelcheck.resolve import Program, declarations
from modelcheck.source import Span
from modelcheck.verdict import Obligation, Property, Proved, Result

_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"[^"\n]*"', re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")


def vacuous(program: Program, asked: Iterable[Obligation], results: Sequence[Result]) -> list[Diagnostic]:
    """Warnings about the user's own files. `asked` are all obligations, `results` the verdicts that are reported."""
    return [*_never_taken(program, asked), *_unused(program), *_unreachable(results)]


def _never_taken(program: Program, asked: Iterable[Obligation]) -> Iterator[Diagnostic]:
    """W0502: nothing acquires or releases the lock."""
    taken = {o.subject.partition("[")[0] for o in asked if o.code in (Property.B01, Property.B02)}
    interrupts = {f"{name}.lock" for name in program.interrupts}
    for name, lock in program.locks.items():
        if lock.span.source in program.own and name not in taken | interrupts:
            yield Diagnostic(Code.LOCK_NEVER_TAKEN, f"no routine takes `{name}`", lock.span)


def _unused(program: Program) -> Iterator[Diagnostic]:
    """W0505: a name that stands nowhere but in its declaration."""
    everywhere = Counter(word for source in program.own for word in _words(source.text))
    shared: dict[str, Span] = {
        **{name: d.span for name, d in program.variables.items()},
        **{name: d.span for name, d in program.data.items()},
        **{name: d.span for name, d in program.events.items()},
    }
    for name, span in shared.items():
        if span.source in program.own and everywhere[name.rpartition(".")[2]] == 1:
            yield Diagnostic(Code.UNUSED, f"`{name}` is never used", span)
    for routine in program.routines.values():
        if routine.span.source in program.own:
            inside = Counter(_words(routine.body.span.text))
            for local in declarations(routine.body):
                if inside[local.name] == 1:
                    yield Diagnostic(Code.UNUSED, f"`{local.name}` is never used", local.span)


def _words(text: str) -> Iterator[str]:
    return (m.group() for m in _WORD.finditer(_NOT_CODE.sub(" ", text)))


def _unreachable(results: Sequence[Result]) -> Iterator[Diagnostic]:
    """W0503: once for each stretch of obligations that no path comes to."""
    for (_, dead), group in groupby(results, lambda r: (r.obligation.routine, _is_unreachable(r))):
        if dead:
            stretch = tuple(group)
            these = "this holds" if len(stretch) == 1 else f"{len(stretch)} obligations from here on hold"
            message = f"no path comes here: {these} for that reason only"
            yield Diagnostic(Code.UNREACHABLE, message, stretch[0].obligation.span)


def _is_unreachable(result: Result) -> bool:
    """Whether no path comes to a place in a routine; to a declaration none ever does."""
    return isinstance(result.verdict, Proved) and result.verdict.unreachable and result.obligation.routine != ""
