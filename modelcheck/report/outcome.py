"""How a run ended: one outcome for each file, one exit status for all.

Nothing is green by default: a file that was not read, not decided or that asks for nothing has a status of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import assert_never

from modelcheck.diagnostics import Diagnostic
from modelcheck.record import dataclass
from modelcheck.verdict import Proved, Report, Result, Undecided, Verdict, Violated


class Exit(IntEnum):
    """Exit statuses of the command line."""

    PROVED = 0
    VIOLATED = 1
    WRONG_INPUT = 2
    UNKNOWN = 3
    INTERNAL_ERROR = 4
    NOTHING_CHECKED = 5
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of SIGINT, as shells have it."""
    BROKEN_PIPE = 141
    """The reader of the output went away: 128 and the number of SIGPIPE."""


_WORST_FIRST = (
    Exit.INTERNAL_ERROR,
    Exit.WRONG_INPUT,
    Exit.VIOLATED,
    Exit.UNKNOWN,
    Exit.NOTHING_CHECKED,
    Exit.PROVED,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: a report, or the diagnostics that reject it, or our own failure.

    `path` is as given on the command line. `only_imported` is set for a file of a folder that declares no driver
    because another file of the run imports it: it is checked there. `known` are violations that the baseline has.
    """

    path: str
    report: Report | None = None
    rejected: tuple[Diagnostic, ...] = ()
    crashed: str = ""
    only_imported: bool = False
    known: tuple[Result, ...] = ()

    @property
    def news(self) -> tuple[Result, ...]:
        """The violations that nobody has accepted."""
        return tuple(r for r in self.report.violated if r not in self.known) if self.report else ()


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of obligations by verdict. Unreachable ones are among the proved."""

    proved: int = 0
    violated: int = 0
    unknown: int = 0
    unreachable: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.proved + other.proved,
            self.violated + other.violated,
            self.unknown + other.unknown,
            self.unreachable + other.unreachable,
        )

    def __str__(self) -> str:
        return f"{self.proved} proved, {self.violated} violated, {self.unknown} unknown"


def word(verdict: Verdict) -> str:
    """`proved`, `violated` or `unknown`."""
    match verdict:
        case Proved():
            return "proved"
        case Violated():
            return "violated"
        case Undecided():
            return "unknown"
        case _:
            assert_never(verdict)


def tally(results: Iterable[Result]) -> Tally:
    proved = violated = unknown = unreachable = 0
    for result in results:
        match result.verdict:
            case Proved():
                proved += 1
                unreachable += result.verdict.unreachable
            case Violated():
                violated += 1
            case Undecided():
                unknown += 1
            case _:
                assert_never(result.verdict)
    return Tally(proved, violated, unknown, unreachable)


def not_replayed(report: Report) -> tuple[Result, ...]:
    """Violations whose trace the interpreter did not confirm: these are our own errors."""
    return tuple(r for r in report.results if isinstance(r.verdict, Violated) and not r.verdict.replayed)


def status(outcome: Outcome, undecided_is_error: bool = True) -> Exit:
    """The exit status one file stands for. An imported file stands for nothing of its own: `NOTHING_CHECKED`."""
    report = outcome.report
    if outcome.crashed or (report is not None and not_replayed(report)):
        return Exit.INTERNAL_ERROR
    if outcome.rejected:
        return Exit.WRONG_INPUT
    if report is None or not report.results:
        return Exit.NOTHING_CHECKED
    if outcome.news:
        return Exit.VIOLATED
    if report.undecided and undecided_is_error:
        return Exit.UNKNOWN
    return Exit.PROVED


def worst(statuses: Iterable[Exit]) -> Exit:
    """The one that the run as a whole ends with; `NOTHING_CHECKED` when there is none."""
    return min(statuses, key=_WORST_FIRST.index, default=Exit.NOTHING_CHECKED)


def overall(outcomes: Iterable[Outcome], undecided_is_error: bool = True) -> Exit:
    """The exit status of a run over several files."""
    return worst(status(o, undecided_is_error) for o in outcomes if not o.only_imported)
