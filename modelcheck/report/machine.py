"""What the formats for programs have in common: the run as a whole, and who is speaking."""

from __future__ import annotations

from collections.abc import Sequence

from modelcheck.record import dataclass
from modelcheck.report.explain import title
from modelcheck.report.outcome import Exit, Outcome, Tally, status, tally
from modelcheck.report.words import clean
from modelcheck.verdict import Result, Undecided, Violated


@dataclass(frozen=True, slots=True)
class Whole:
    """A run that has ended. `solver` is what certified the proofs, such as `Z3 5.4.0`; `remarks` are lines that belong
    to the run and to no file, such as what the baseline says."""

    outcomes: tuple[Outcome, ...]
    exit_status: Exit
    version: str
    solver: str
    undecided_is_error: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def total(self) -> Tally:
        return sum((tally(o.report.results) for o in self.outcomes if o.report), Tally())

    def status(self, outcome: Outcome) -> Exit:
        return status(outcome, self.undecided_is_error)


def headline(result: Result) -> str:
    """`B03 violated: the locks held at exit are not those held at entry`, in one line."""
    match result.verdict:
        case Violated():
            what = "violated"
        case Undecided():
            what = "unknown"
        case _:
            what = "proved"
    return f"{result.obligation.code} {what}: {title(result.obligation.code)}"


def told(result: Result) -> str:
    """What must hold at a place, and why it is not known to, in one line."""
    obligation, verdict = result.obligation, result.verdict
    parts = [f"must hold: {clean(obligation.why)}"] if obligation.why else []
    if obligation.scenario:
        parts.append(f"in scenario {clean(obligation.scenario)}")
    if isinstance(verdict, Undecided):
        parts.append(f"unknown: {clean(verdict.reason)}")
        if verdict.reached:
            parts.append(f"known: {clean(verdict.reached)}")
    elif isinstance(verdict, Violated) and not verdict.replayed:
        parts.append("internal error: the trace was not confirmed")
    return "; ".join(parts)


def troubles(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, str]]:
    """Files without a verdict for another reason than their text: our faults, killed workers, nothing to check."""
    found = []
    for outcome in outcomes:
        if outcome.crashed:
            found.append((outcome, f"no verdict: {clean(outcome.crashed)}"))
        elif not outcome.only_imported and not outcome.rejected and not (outcome.report and outcome.report.results):
            found.append((outcome, "nothing was checked"))
    return found
