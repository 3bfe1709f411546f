"""A run as JUnit XML, as Jenkins, GitLab and Azure Pipelines read it: a file is a suite, an obligation a test.

A violation is a failure, an unknown an error (skipped where unknowns may pass), a violation of the baseline is skipped.
A file without verdicts is a suite with one error, never an empty one. No times: the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from modelcheck.report.machine import Whole, headline, told, troubles
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.report.run import quiet_about, run_of
from modelcheck.report.words import clean, held_words, level_name
from modelcheck.verdict import Result, Undecided, Violated

_COUNTED = ("tests", "failures", "errors", "skipped")


def dumps(whole: Whole) -> str:
    """The run as XML text, ending with a newline."""
    suites = [_suite(outcome, whole) for outcome in whole.outcomes if not outcome.only_imported]
    if not whole.outcomes:
        suites.append(_made("modelcheck", [_case("modelcheck", "models", _error("nothing was checked", ""))]))
    if whole.exit_status is Exit.INTERNAL_ERROR and not any("<error" in text for text, _ in suites):
        case = _case("modelcheck", "run", _error("internal error", ""))
        suites.append(_made("modelcheck", [case]))
    total = {name: sum(counts[name] for _, counts in suites) for name in _COUNTED}
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<testsuites name="modelcheck"{_numbers(total)}>']
    return "\n".join([*lines, *(text for text, _ in suites), "</testsuites>"]) + "\n"


def _suite(outcome: Outcome, whole: Whole) -> tuple[str, dict[str, int]]:
    return _made(outcome.path, list(_cases(outcome, whole)))


def _made(name: str, cases: list[str]) -> tuple[str, dict[str, int]]:
    text = "\n".join(cases)
    counts = {
        "tests": len(cases),
        "failures": text.count("<failure "),
        "errors": text.count("<error "),
        "skipped": text.count("<skipped "),
    }
    return f" <testsuite name={_quoted(name)}{_numbers(counts)}>\n{text}\n </testsuite>", counts


def _numbers(counts: dict[str, int]) -> str:
    return "".join(f' {name}="{counts[name]}"' for name in _COUNTED)


def _cases(outcome: Outcome, whole: Whole) -> Iterator[str]:
    driver = outcome.report.driver if outcome.report else outcome.path
    for trouble, text in troubles([outcome]):
        yield _case(driver, trouble.path, _error(text, ""))
    for diagnostic in outcome.rejected:
        place = clean(str(diagnostic.span)) if diagnostic.span else clean(outcome.path)
        yield _case(driver, str(diagnostic.code), _error(f"{place}: {clean(diagnostic.message)}", ""))
    if outcome.report is None:
        return
    for result in outcome.report.results:
        obligation = result.obligation
        where = f"{driver}.{obligation.routine}" if obligation.routine else driver
        yield _case(where, obligation.id, _inside(result, outcome, whole.undecided_is_error))


def _case(classname: str, name: str, inside: str) -> str:
    head = f"  <testcase classname={_quoted(classname)} name={_quoted(name)}"
    return f"{head}>\n{inside}\n  </testcase>" if inside else f"{head}/>"


def _inside(result: Result, outcome: Outcome, undecided_is_error: bool) -> str:
    message = f"{clean(str(result.obligation.span))}: {told(result)}"
    match result.verdict:
        case Violated() if result in outcome.known:
            return f"   <skipped message={_quoted(f'in the baseline: {headline(result)}')}/>"
        case Violated(trace):
            run = run_of(trace, quiet_about(outcome.report, result) if outcome.report else frozenset())
            lines = [
                f"{moment.number:3} {run.lanes[moment.lane].name} {clean(str(moment.step.span))}"
                f" {moment.text} [{level_name(moment.step.irql)}"
                f"{''.join(', ' + held_words(*hold) for hold in moment.step.held)}]"
                for moment in run.moments
            ]
            lines += [f"{run.lanes[b.wait.actor].name} {b.words}" for b in run.blocked]
            return f"   <failure type={_quoted(headline(result))} message={_quoted(message)}>{_text(lines)}</failure>"
        case Undecided() if undecided_is_error:
            return _error(message, headline(result))
        case Undecided():
            return f"   <skipped message={_quoted(message)}/>"
        case _:
            return ""


def _error(message: str, kind: str) -> str:
    return f"   <error type={_quoted(kind or 'modelcheck')} message={_quoted(message)}/>"


def _text(lines: list[str]) -> str:
    return escape("\n".join(_allowed(line) for line in lines))


def _quoted(text: str) -> str:
    return quoteattr(_allowed(" ".join(text.split())))


def _allowed(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write."""
    return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "?" for c in text)
