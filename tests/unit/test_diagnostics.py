"""What is told of many findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck import pipeline
from modelcheck.diagnostics import MAX_NAME, MAX_REPORTED, Code, Diagnostic, Rejected, reported
from modelcheck.source import Source, Span

ERROR, WARNING = Code.TYPE, Code.UNUSED


def finding(source: Source, start: int, code: Code = ERROR) -> Diagnostic:
    return Diagnostic(code, f"{code} at {start}", Span(source, start, start + 1))


def test_few_findings_are_told_as_they_are() -> None:
    source = Source("a.drvm", "x" * 500)
    some = tuple(finding(source, start) for start in range(MAX_REPORTED))
    assert reported(some) == some


def test_of_many_the_first_are_told_and_how_many_more_there_are() -> None:
    source = Source("a.drvm", "x" * 500)
    told = reported(tuple(finding(source, start) for start in range(MAX_REPORTED + 3)))
    assert [d.span.start for d in told[:-1] if d.span] == list(range(MAX_REPORTED))
    assert told[-1] == Diagnostic(Code.LEFT_OUT, "3 more errors in `a.drvm`", None)


def test_an_error_is_told_behind_any_number_of_warnings() -> None:
    source = Source("a.drvm", "x" * 500)
    warnings = tuple(finding(source, start, WARNING) for start in range(MAX_REPORTED))
    told = reported((*warnings, finding(source, 400)))
    assert told[-2] == finding(source, 400)
    assert told[-1].message == "1 more warning in `a.drvm`"


def test_each_file_is_counted_for_itself() -> None:
    sources = [Source("a.drvm", "x" * 500), Source("b.drvm", "x" * 500)]
    told = reported(tuple(finding(source, start) for source in sources for start in range(MAX_REPORTED)))
    assert len(told) == 2 * MAX_REPORTED


def test_long_names_are_shortened() -> None:
    name = "n" * (MAX_NAME + 1)
    (told,) = reported((Diagnostic(ERROR, f"`{name}` is unknown", None, help=f"did you mean `{name}x`?"),))
    assert told.message == f"`{name[: MAX_NAME // 2]}...` is unknown"
    assert told.help == f"did you mean `{name[: MAX_NAME // 2]}...`?"


def test_a_model_with_very_many_errors_is_rejected_with_few(tmp_path: Path) -> None:
    """In one line, each of them not a constant: none is compared with all the others."""
    path = tmp_path / "many.drvm"
    path.write_text("driver many; var v : bool; " + "".join(f"var w{n} : bool = v; " for n in range(20_000)))
    with pytest.raises(Rejected) as rejected:
        pipeline.load(path)
    assert len(rejected.value.diagnostics) == MAX_REPORTED + 1
