"""From a model file to a report: resolve, check, lower, analyse, certify, replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelcheck import syntax as s
from modelcheck.check import check
from modelcheck.diagnostics import Code, Diagnostic, Rejected, in_source_order
from modelcheck.ir import INITIALISED, Root
from modelcheck.lower import Lowered, lower
from modelcheck.report.vacuity import vacuous
from modelcheck.resolve import Program, resolve
from modelcheck.verdict import (
    Choice,
    Obligation,
    Proved,
    Report,
    Result,
    Step,
    Trace,
    Undecided,
    Verdict,
    Violated,
)

if TYPE_CHECKING:
    from modelcheck.engines.analyse import Analysis, Decision


@dataclass(frozen=True, slots=True)
class Options:
    """How to verify. `steps`: fixpoint steps for each analysis; `timeout`: seconds for each question to the solver; `full`: ask
    every certificate query by itself; `only`: the properties wanted (empty: all); `certificate`: keep the certificate."""

    steps: int = 50_000_000
    timeout: float = 60.0
    full: bool = False
    only: frozenset[str] = frozenset()
    certificate: bool = False


_SATURATED = ("count ", "counter ")


class InternalError(Exception):
    """We are wrong: a counterexample that does not replay, a certificate that Z3 rejects."""


def load(path: Path) -> tuple[Program, tuple[Diagnostic, ...]]:
    """The program in a file, and warnings about it.

    Raises:
        Rejected: the model is wrong.
    """
    program = resolve(path)
    findings = check(program)
    if any(d.code.is_error for d in findings):
        raise Rejected(findings)
    return program, findings


def obligations(path: Path) -> tuple[Obligation, ...]:
    """What has to be shown about the driver in a file, in source order."""
    program, _ = load(path)
    lowered = lower(program)
    return tuple(lowered.obligations[n] for n in _listed(lowered))


def verify(path: Path, options: Options = Options()) -> Report:  # noqa: B008 - frozen
    """Proves or refutes every obligation of the driver in a file.

    Raises:
        Rejected: the model is wrong.
        InternalError: a counterexample does not replay.
    """
    program, findings = load(path)
    lowered = lower(program)
    from modelcheck.engines.analyse import Analysis, Limits  # only now: a wrong model needs no solver

    analysis = Analysis(lowered, Limits(options.steps, int(options.timeout * 1000)))
    analysis.run()
    verdicts, certificate = _verdicts(lowered, analysis, options)
    results = tuple(
        Result(lowered.obligations[n], verdicts[n])
        for n in _listed(lowered)
        if not options.only or lowered.obligations[n].code in options.only
    )
    vacuity = vacuous(program, lowered.obligations, results)
    warnings = in_source_order([*findings, *_warnings(lowered, analysis), *vacuity])
    unmodelled = tuple(sorted(lowered.unmodelled))
    return Report(program.driver, str(path), results, warnings, unmodelled, certificate)


def _listed(lowered: Lowered) -> list[int]:
    """The user's obligations, in source order."""
    numbers = [n for n in range(len(lowered.obligations)) if n not in lowered.questions]
    names = {source: index for index, source in enumerate(lowered.program.sources)}

    def place(number: int) -> tuple[object, ...]:
        o = lowered.obligations[number]
        return (names.get(o.span.source, 0), o.span.start, o.code, o.routine, o.subject, o.why)

    return sorted(numbers, key=place)


def _verdicts(lowered: Lowered, analysis: Analysis, options: Options) -> tuple[dict[int, Verdict], None]:
    from modelcheck.engines.analyse import Broken, Held, Open
    from modelcheck.evidence.certify import certify
    from modelcheck.evidence.conditions import Pool, conditions

    pool = Pool()
    for number, invariant in enumerate(analysis.invariants):
        conditions(invariant, number, lowered.roots, pool)
    checked = certify(pool, int(options.timeout * 1000))
    verdicts: dict[int, Verdict] = {}
    for number in _listed(lowered):
        obligation = lowered.obligations[number]
        if number in lowered.facts:
            verdicts[number] = _fact(obligation, lowered.facts[number])
            continue
        match analysis.decisions.get(number):
            case Held(invariant_number, reached):
                if invariant_number in checked.rejected:
                    query = checked.rejected[invariant_number]
                    raise InternalError(f"Z3 rejects the invariant that should prove {obligation.id}:\n{query}")
                if invariant_number in checked.unanswered:
                    verdicts[number] = Undecided("Z3 did not answer all queries of the certificate in time")
                else:
                    verdicts[number] = Proved(f"invariant {invariant_number}", not reached)
            case Broken() as broken:
                verdicts[number] = _replayed(lowered, analysis, obligation, broken)
            case Open(reason):
                verdicts[number] = Undecided(reason)
            case None:
                verdicts[number] = Undecided("the routine is never called and has no role")
    return verdicts, None


def _fact(obligation: Obligation, holds: bool) -> Verdict:
    """What a declaration decides by itself."""
    if holds:
        return Proved("declaration")
    step = Step("", 0, obligation.span, note=obligation.why)
    return Violated(Trace("", (), (step,)), replayed=True)


def _replayed(lowered: Lowered, analysis: Analysis, obligation: Obligation, broken: Decision) -> Verdict:
    """A counterexample, replayed by the interpreter; one that rests on values nobody certainly writes is none."""
    from modelcheck.engines.analyse import Broken
    from modelcheck.interpret import Environment, replay

    assert isinstance(broken, Broken)
    saturated = next((c.name for step in broken.trace.steps for c in step.choices if c.name.startswith(_SATURATED)), None)
    if saturated is not None:
        return Undecided(f"it depends on how often exactly ({saturated}), which is not counted that far")
    guessed = _guessed(lowered, broken.trace)
    if guessed:
        return Undecided(f"it depends on which values others write to `{guessed}`, which is not known exactly")
    root = broken.root
    others: dict[str, frozenset[int]] = {}
    lives: dict[str, frozenset[int]] = {}
    for cell in root.environment.cells.values():
        if cell.name.startswith("var "):
            others[cell.name.removeprefix("var ")] = frozenset(cell.others)
        elif cell.name.startswith("life "):
            values = analysis.lives[root].get(cell.name, cell.start)
            lives[cell.name.removeprefix("life ")] = frozenset(values)
        elif cell.others:
            others[cell.name] = frozenset(cell.others)
    environment = Environment({n: frozenset(v) for n, v in root.starts.items()}, others, lives)
    trace = replace(broken.trace, start=_whole_start(lowered, root, broken.trace.start, lives))
    outcome = replay(lowered.program, trace, environment, obligation)
    if not outcome.reproduced:
        raise InternalError(f"the counterexample to {obligation.id} does not replay: {outcome.reason}")
    return Violated(trace, replayed=True)


def _whole_start(
    lowered: Lowered, root: Root, start: tuple[Choice, ...], lives: dict[str, frozenset[int]]
) -> tuple[Choice, ...]:
    """The start of a trace with a value for everything that is open there, also where the path does not look at it."""
    known = {choice.name: choice.value for choice in start}
    for name, values in root.starts.items():
        known.setdefault(f"var {name}", min(values))
    for name, values_of in lives.items():
        known.setdefault(f"life {name}", INITIALISED if INITIALISED in values_of else min(values_of))
    known.setdefault("irql", root.levels[0])
    return tuple(Choice(name, known[name]) for name in sorted(known))


def _guessed(lowered: Lowered, trace: Trace) -> str:
    """A shared variable whose value in the trace nobody is known to write."""
    choices: list[Choice] = [*trace.start, *(c for step in trace.steps for c in step.choices)]
    for choice in choices:
        name = choice.name.removeprefix("var ")
        if name in lowered.certain and choice.value not in lowered.certain[name]:
            return name
    return ""


def _warnings(lowered: Lowered, analysis: Analysis) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for name, span in lowered.unmodelled.items():
        message = f"no model knows `{name}`; what comes after a call of it is not decided"
        found.append(Diagnostic(Code.UNMODELLED, message, span, help=f"declare it: `extern {name}(...);`"))
    return found


__all__ = ["InternalError", "Options", "load", "obligations", "replace", "s", "verify"]
