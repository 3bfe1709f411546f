"""From a model file to a report: resolve, check, lower, analyse, certify, replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelcheck import __version__
from modelcheck import syntax as s
from modelcheck.check import check
from modelcheck.diagnostics import Code, Diagnostic, Rejected, in_source_order
from modelcheck.interpret import Environment, Machine, replay_on
from modelcheck.ir import INITIALISED, Root, Sort
from modelcheck.lower import Lowered, lower
from modelcheck.report.vacuity import vacuous
from modelcheck.resolve import Program, enum_of, resolve
from modelcheck.verdict import (
    MUTUAL,
    Certificate,
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
    from modelcheck.engines.analyse import Analysis
    from modelcheck.evidence.certify import Checked
    from modelcheck.evidence.conditions import Pool
    from modelcheck.invariant import BlockInvariant, FormulaInvariant


@dataclass(frozen=True, slots=True)
class Options:
    """How to verify. `steps`: fixpoint steps for each analysis; `timeout`: seconds for each question to the solver;
    `full`: ask every certificate query by itself; `only`: the properties wanted (empty: all); `certificate`: keep the
    certificate."""

    steps: int = 50_000_000
    timeout: float = 60.0
    full: bool = False
    only: frozenset[str] = frozenset()
    certificate: bool = False


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


def verify(path: Path, options: Options = Options()) -> Report:
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
    verdicts, certificate = _verdicts(lowered, analysis, options, path)
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
    numbers = [
        n for n, o in enumerate(lowered.obligations) if n not in lowered.questions and o.code not in MUTUAL
    ]
    names = {source: index for index, source in enumerate(lowered.program.sources)}

    def place(number: int) -> tuple[object, ...]:
        o = lowered.obligations[number]
        return (names.get(o.span.source, 0), o.span.start, o.code, o.routine, o.subject, o.why)

    return sorted(numbers, key=place)


def _verdicts(
    lowered: Lowered, analysis: Analysis, options: Options, path: Path
) -> tuple[dict[int, Verdict], Certificate | None]:
    """A verdict for each obligation of the user, each with its evidence checked; the certificate if it is wanted."""
    from modelcheck.engines.analyse import Broken, Held, Open
    from modelcheck.evidence.certify import certify, script
    from modelcheck.evidence.manifest import write

    pool = _pool(lowered, analysis, analysis.formulas, options.full)
    checked = certify(pool, int(options.timeout * 1000))
    replays, timing = _Replays(lowered, analysis), lowered.ledger.timing
    verdicts: dict[int, Verdict] = {}
    for number in _listed(lowered):
        obligation = lowered.obligations[number]
        if number in lowered.facts:
            verdicts[number] = _fact(obligation, lowered.facts[number])
            continue
        match analysis.decisions.get(number):
            case Held() if number in timing and not isinstance(analysis.decisions[timing[number]], Held):
                callees = ", ".join(f"`{name}`" for name in sorted(lowered.ledger.untimed))
                verdicts[number] = Undecided(f"the time that {callees} can take is not known")
            case Held(invariant_number, reached):
                verdicts[number] = _proved(checked, obligation, invariant_number, reached)
            case Broken(trace, root):
                verdicts[number] = replays.verdict(obligation, trace, root)
            case Open(reason):
                verdicts[number] = Undecided(reason)
            case None:
                verdicts[number] = Undecided("nothing starts or calls this")
    if not options.certificate:
        return verdicts, None
    good = [f for n, f in enumerate(analysis.formulas) if -1 - n not in {*checked.rejected, *checked.unanswered}]
    text = script(_pool(lowered, analysis, good, full=False))
    claims = {number: _WORDS[type(verdict)] for number, verdict in verdicts.items()}
    manifest = write(lowered, analysis.invariants, good, claims, str(path), text, __version__)
    return verdicts, Certificate(text, manifest)


def _pool(
    lowered: Lowered, analysis: Analysis, formulas: Sequence[FormulaInvariant | BlockInvariant], full: bool
) -> Pool:
    """All queries on which the proofs of a driver rest."""
    from modelcheck.evidence.conditions import Pool, conditions, formula_conditions, life_conditions

    pool = Pool(full)
    for number, invariant in enumerate(analysis.invariants):
        conditions(invariant, number, lowered.roots, pool)
    for number, formula in enumerate(formulas):
        formula_conditions(formula, -1 - number, lowered.roots, pool)
    life_conditions(analysis.invariants, formulas, lowered.roots, pool)
    return pool


_WORDS = {Proved: "proved", Violated: "violated", Undecided: "unknown"}


def _proved(checked: Checked, obligation: Obligation, invariant: int, reached: bool) -> Verdict:
    """Proved as far as Z3 confirms the invariant.

    Raises:
        InternalError: Z3 found the invariant to be none.
    """
    if invariant < 0 and invariant in checked.rejected:
        return Undecided("the proof proposed for it does not hold up")
    if invariant in checked.rejected:
        query = checked.rejected[invariant]
        raise InternalError(f"Z3 rejects the invariant that should prove {obligation.id}:\n{query}")
    if invariant in checked.unanswered:
        return Undecided("Z3 did not answer all queries of the certificate in time")
    name = f"invariant {invariant}" if invariant >= 0 else f"formulas {-1 - invariant}"
    return Proved(name, not reached)


def _fact(obligation: Obligation, holds: bool) -> Verdict:
    """What a declaration decides by itself."""
    if holds:
        return Proved("declaration")
    step = Step("", 0, obligation.span, note=obligation.why)
    return Violated(Trace("", (), (step,)), replayed=True)


class _Replays:
    """Replays counterexamples on the interpreter, whose machine is made once for each root."""

    def __init__(self, lowered: Lowered, analysis: Analysis) -> None:
        self.lowered = lowered
        self.analysis = analysis
        self.machines: dict[Root, tuple[Machine, dict[str, frozenset[int]]]] = {}

    def verdict(self, obligation: Obligation, trace: Trace, root: Root) -> Verdict:
        """Violated, if the run is real; undecided where it rests on what is not known exactly.

        Raises:
            InternalError: the trace is not a run of the model, or does not break the obligation.
        """
        saturated = next((c.name for c in _choices(trace) if c.name.startswith(("count ", "counter "))), None)
        if saturated is not None:
            return Undecided(f"it depends on how often exactly ({saturated}), which is not counted that far")
        guessed = _guessed(self.lowered, trace)
        if guessed:
            return Undecided(f"it depends on which values others write to `{guessed}`, which is not known exactly")
        machine, lives = self._machine(root)
        whole = replace(trace, start=_whole_start(root, trace.start, lives))
        outcome = replay_on(machine, whole, obligation)
        if not outcome.reproduced:
            raise InternalError(f"the counterexample to {obligation.id} does not replay: {outcome.reason}")
        return Violated(_in_words(self.lowered, whole), replayed=True)

    def _machine(self, root: Root) -> tuple[Machine, dict[str, frozenset[int]]]:
        found = self.machines.get(root)
        if found is None:
            others: dict[str, frozenset[int]] = {}
            lives: dict[str, frozenset[int]] = {}
            for cell in root.environment.cells.values():
                if cell.sort is Sort.LIFE:
                    values = self.analysis.lives[root].get(cell.name, cell.start)
                    lives[cell.name.removeprefix("life ")] = frozenset(values)
                elif cell.others:
                    others[cell.name.removeprefix("var ")] = frozenset(cell.others)
            environment = Environment({n: frozenset(v) for n, v in root.starts.items()}, others, lives)
            found = self.machines[root] = (Machine(self.lowered.program, environment), lives)
        return found


def _in_words(lowered: Lowered, trace: Trace) -> Trace:
    """The trace with values as the model writes them, and with the routines that write what is read meanwhile."""
    start = tuple(_shown(lowered.program, choice) for choice in trace.start)
    steps = []
    for step in trace.steps:
        choices = tuple(_shown(lowered.program, choice) for choice in step.choices)
        notes = [step.note, *(_writer(lowered, choice) for choice in choices)]
        steps.append(replace(step, choices=choices, note="; ".join(note for note in notes if note)))
    return replace(trace, start=start, steps=tuple(steps))


def _shown(program: Program, choice: Choice) -> Choice:
    declared = program.variables.get(choice.name.removeprefix("var "))
    if declared is None:
        return choice
    if isinstance(declared.type, s.BoolType):
        return replace(choice, shown="true" if choice.value else "false")
    names = enum_of(program, declared.type)
    return replace(choice, shown=names[choice.value]) if 0 <= choice.value < len(names) else choice


def _writer(lowered: Lowered, choice: Choice) -> str:
    """Who can have written the value of a shared variable."""
    name = choice.name.removeprefix("var ")
    routines = lowered.writers.get((name, choice.value))
    return f"{name} is written by {', '.join(routines)}" if routines else ""


def _choices(trace: Trace) -> list[Choice]:
    return [*trace.start, *(choice for step in trace.steps for choice in step.choices)]


def _whole_start(
    root: Root, start: tuple[Choice, ...], lives: dict[str, frozenset[int]]
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
    for choice in _choices(trace):
        name = choice.name.removeprefix("var ")
        if name in lowered.certain and choice.value not in lowered.certain[name]:
            return name
    return ""


def _warnings(lowered: Lowered, analysis: Analysis) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for routine in lowered.unfit:
        message = f"no lock fits the parameters of `{routine.name}`, so it is not checked"
        found.append(Diagnostic(Code.NEVER_CALLED, message, routine.span))
    if lowered.ledger.assumed:
        names = ", ".join(sorted(lowered.ledger.assumed))
        first = min(lowered.ledger.assumed.values(), key=lambda span: span.start)
        found.append(
            Diagnostic(Code.ASSUMED_COST, f"no cost is known of these, it was taken to be nothing: {names}", first)
        )
    for name, span in lowered.unmodelled.items():
        message = f"no model knows `{name}`; what comes after a call of it is not decided"
        found.append(Diagnostic(Code.UNMODELLED, message, span, help=f"declare it: `extern {name}(...);`"))
    return found


__all__ = ["InternalError", "Options", "load", "obligations", "verify"]
