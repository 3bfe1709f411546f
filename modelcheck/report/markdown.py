"""A run as Markdown for the summary of a job: the counts, then all that is not proved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from modelcheck.report.machine import Whole, headline, told, troubles
from modelcheck.report.outcome import Exit, Outcome, tally
from modelcheck.report.run import Case, Run, alike_words, cases, places_alike
from modelcheck.report.words import clean, held_words, level_name
from modelcheck.verdict import Result

MOST = 50
"""Findings shown in full; the rest are counted. GitHub takes one MiB for a summary."""
_VERDICT = {
    Exit.PROVED: "proved",
    Exit.VIOLATED: "**violated**",
    Exit.WRONG_INPUT: "**not a model**",
    Exit.UNKNOWN: "**unknown**",
    Exit.INTERNAL_ERROR: "**no verdict**",
    Exit.NOTHING_CHECKED: "**nothing checked**",
}


def dumps(whole: Whole) -> str:
    """The run as Markdown text, ending with a newline."""
    blocks = [f"## modelcheck: {_title(whole)}", _table(whole), *whole.remarks]
    if not whole.undecided_is_error and whole.total.unknown:
        blocks.append(f"{whole.total.unknown} unknown pass because of `--undecided warn`.")
    findings = [*_troubles(whole.outcomes), *_findings(whole.outcomes)]
    blocks += findings[:MOST]
    if len(findings) > MOST:
        blocks.append(f"... and {len(findings) - MOST} more.")
    return "\n\n".join(blocks) + "\n"


def _title(whole: Whole) -> str:
    word = _VERDICT.get(whole.exit_status, "no verdict").strip("*")
    return f"{word} ({whole.total})"


def _table(whole: Whole) -> str:
    lines = ["| file | verdict | proved | violated | unknown |", "|---|---|--:|--:|--:|"]
    for outcome in whole.outcomes:
        if outcome.only_imported:
            continue
        counts = tally(outcome.report.results) if outcome.report else None
        cells = [counts.proved, counts.violated, counts.unknown] if counts else ["-", "-", "-"]
        known = f" ({len(outcome.known)} in the baseline)" if outcome.known else ""
        verdict = _VERDICT[whole.status(outcome)] + known
        lines.append(f"| {_code(outcome.path)} | {verdict} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _troubles(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome, text in troubles(outcomes):
        yield f"**{_plain(text)}**: {_code(outcome.path)}"
    for outcome in outcomes:
        if outcome.only_imported:
            continue
        for diagnostic in outcome.rejected:
            place = str(diagnostic.span) if diagnostic.span else outcome.path
            yield f"**{diagnostic.code}**: {_plain(diagnostic.message)} ({_code(place)})"


def _findings(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What is new, what is unknown, what is known already. A run that breaks several is told once."""
    for outcome in outcomes:
        if outcome.report is None:
            continue
        for case in cases(outcome.report, outcome.news):
            yield from _violations(case)
        for result in outcome.report.undecided:
            yield _heading(result)
    for outcome in outcomes:
        for result in outcome.known:
            yield f"In the baseline: {_heading(result)}"


def _heading(result: Result) -> str:
    obligation = result.obligation
    about = f" {_code(obligation.subject)}" if obligation.subject else ""
    return f"**{_plain(headline(result))}**{about}  \n{_code(str(obligation.span))}: {_plain(told(result))}"


def _violations(case: Case) -> Iterator[str]:
    """What one run breaks, told once; and where else it is violated for the same reason."""
    first = case.results[0]
    yield "\n".join([_heading(first), "", *_steps(case.run)])
    for result in case.results[1:]:
        same = f"the run is that of {first.obligation.code} at {_code(str(first.obligation.span))}, above"
        yield f"{_heading(result)}\n\n{same}"
    if case.alike:
        places = "; ".join(f"{_code(routine)}: {_plain(lines)}" for routine, lines in places_alike(case))
        yield f"{_plain(alike_words(case))} {places}"


def _steps(run: Run) -> Iterator[str]:
    yield "<details><summary>the run</summary>\n"
    yield "| step | context | line | statement | IRQL | held |"
    yield "|--:|---|--:|---|---|---|"
    for moment in run.moments:
        step = moment.step
        held = ", ".join(held_words(*hold) for hold in step.held)
        text = _code(moment.text) + "".join(f"<br>{_plain(remark)}" for remark in moment.remarks)
        lane = _plain(run.lanes[moment.lane].name)
        waits = f"<br>{_plain(moment.halt)}" if moment.halt else ""
        level = level_name(step.irql)
        yield f"| {moment.number} | {lane} | {step.span.line} | {text}{waits} | {level} | {_plain(held)} |"
    for blocked in run.blocked:
        yield f"\n{_plain(run.lanes[blocked.wait.actor].name)} {_plain(blocked.words)}"
    yield "\n</details>"


def _plain(text: str) -> str:
    """Text that means nothing to Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", clean(text))


def _code(text: str) -> str:
    """Text in the font of code, whatever backquotes and bars it has."""
    shown = clean(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}" if shown else ""
