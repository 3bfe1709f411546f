"""What a green run should still be looked at for: what is never reached, never taken, never used.

Each of these makes a proof easier than it should be. All are read off the model and the verdicts; none changes one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from modelcheck.diagnostics import Code, Diagnostic
from modelcheck.reached import Unreached
from modelcheck.resolve import Program, declarations
from modelcheck.source import Span
from modelcheck.verdict import Obligation, Property, Proved, Result

_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"[^"\n]*"', re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")


def vacuous(
    program: Program, asked: Iterable[Obligation], results: Sequence[Result], found: Unreached
) -> list[Diagnostic]:
    """Warnings about the user's own files. `asked` are all obligations, `results` the verdicts that are reported,
    `found` is what no path comes to."""
    return [*_never_taken(program, asked), *_unused(program), *_unreachable(program, found, results)]


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


def _unreachable(program: Program, found: Unreached, results: Sequence[Result]) -> Iterator[Diagnostic]:
    """W0503: once for each stretch of statements that no path comes to, for each end that is not come to, and for what
    no context of a scenario comes to."""
    vacuous = [r.obligation for r in results if isinstance(r.verdict, Proved) and r.verdict.unreachable]
    for stretch in found.stretches:
        first, number = stretch.statements[0], len(stretch.statements)
        if first.source in program.own:
            place = "here" if number == 1 else f"to these {number} statements"
            inside = [o for o in vacuous if not o.scenario and stretch.has(o.span)]
            yield Diagnostic(Code.UNREACHABLE, f"no path comes {place}{_resting(inside)}", first)
    for root in found.endless:
        span = program.routines[root.routine].span
        if span.source in program.own:
            at_end = [o for o in vacuous if not o.scenario and o.span == span and o.code in _AT_END]
            yield Diagnostic(Code.UNREACHABLE, f"no path comes to the end of `{root.routine}`{_resting(at_end)}", span)
    yield from _unreachable_in_scenarios(program, results)


_AT_END = frozenset({Property.B03, Property.I02, Property.I08})


def _unreachable_in_scenarios(program: Program, results: Sequence[Result]) -> Iterator[Diagnostic]:
    """Statements of which no obligation is come to, once for each stretch of them."""
    for scenario in dict.fromkeys(r.obligation.scenario for r in results if r.obligation.scenario):
        dead: dict[tuple[str, Span], bool] = {}
        for result in results:
            o = result.obligation
            if o.scenario == scenario and o.routine and o.span != program.routines[o.routine].span:
                unreachable = isinstance(result.verdict, Proved) and result.verdict.unreachable
                dead[o.routine, o.span] = dead.get((o.routine, o.span), True) and unreachable
        for (routine, is_dead), group in groupby(dead.items(), lambda item: (item[0][0], item[1])):
            if is_dead:
                spans = {span for (_, span), _ in group}
                here = [r.obligation for r in results if r.obligation.scenario == scenario]
                inside = [o for o in here if o.routine == routine and o.span in spans]
                message = f"in scenario `{scenario}` no path comes here{_resting(inside)}"
                yield Diagnostic(Code.UNREACHABLE, message, min(spans, key=lambda span: span.start))


def _resting(obligations: Sequence[Obligation]) -> str:
    """What holds for that reason only."""
    if not obligations:
        return ""
    codes = ", ".join(sorted({o.code for o in obligations}))
    return f": what must hold there ({codes}) holds for that reason only"
