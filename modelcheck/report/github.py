"""A run as annotations of GitHub Actions: workflow commands that put a finding on its line in the review.

Format: docs.github.com, "Workflow commands for GitHub Actions". GitHub shows ten of each level for a step, so what is
new comes first, and of that what the rest follows from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from modelcheck.report.machine import Whole, headline, told, troubles
from modelcheck.report.run import leading_first
from modelcheck.report.words import clean
from modelcheck.source import Span
from modelcheck.verdict import Undecided, Violated


def dumps(whole: Whole) -> str:
    """One line for each finding; empty where there is none."""
    lines = [*_errors(whole), *_others(whole)]
    return "".join(f"{line}\n" for line in lines)


def _errors(whole: Whole) -> Iterator[str]:
    if not whole.outcomes:
        yield _command("error", "modelcheck", "nothing was checked: there is no model")
    for outcome, text in troubles(whole.outcomes):
        yield _command("error", "modelcheck", text, path=outcome.path)
    for outcome in whole.outcomes:
        if outcome.only_imported:
            continue
        for diagnostic in outcome.rejected:
            text = clean(diagnostic.message) + (f". {clean(diagnostic.help)}" if diagnostic.help else "")
            yield _command("error", str(diagnostic.code), text, diagnostic.span, outcome.path)
    for outcome in whole.outcomes:
        for result in leading_first(outcome.report, outcome.news) if outcome.report else ():
            yield _command("error", headline(result), told(result), result.obligation.span)


def _others(whole: Whole) -> Iterator[str]:
    unknown = "error" if whole.undecided_is_error else "warning"
    for outcome in whole.outcomes:
        for result in outcome.report.results if outcome.report else ():
            if isinstance(result.verdict, Undecided):
                yield _command(unknown, headline(result), told(result), result.obligation.span)
            elif isinstance(result.verdict, Violated) and result in outcome.known:
                text = f"in the baseline: {told(result)}"
                yield _command("notice", headline(result), text, result.obligation.span)
        for warning in outcome.report.warnings if outcome.report else ():
            yield _command("warning", str(warning.code), clean(warning.message), warning.span, outcome.path)
    for remark in whole.remarks:
        yield _command("notice", "modelcheck", remark)


def _command(level: str, title: str, text: str, span: Span | None = None, path: str = "") -> str:
    fields = []
    if span is not None:
        end_line, end_column = span.source.line_column(span.end)
        fields += [f"file={_property(_posix(span.source.name))}", f"line={span.line}", f"col={span.column}"]
        if end_line == span.line:
            fields += [f"endLine={end_line}", f"endColumn={end_column}"]
    elif path:
        fields.append(f"file={_property(_posix(path))}")
    fields.append(f"title={_property(title)}")
    return f"::{level} {','.join(fields)}::{_data(text or title)}"


def _posix(name: str) -> str:
    return PurePath(name).as_posix()


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
