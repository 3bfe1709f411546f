"""Every line of tests/rejected earns the codes that it names, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from modelcheck.check import check
from modelcheck.diagnostics import Diagnostic, Rejected
from modelcheck.render import render
from modelcheck.resolve import resolve

FOLDER = Path(__file__).parent / "rejected"
FILES = sorted(FOLDER.glob("*.drvm"))
EXPECTATION = re.compile(r"// error: ((?:[EW]\d{4} ?)+)")

Place = tuple[int, str]


def expected(path: Path) -> list[Place]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = ((number, EXPECTATION.search(line)) for number, line in enumerate(lines, start=1))
    return [(number, code) for number, match in found if match for code in match[1].split()]


def findings(path: Path) -> tuple[Diagnostic, ...]:
    try:
        return check(resolve(path))
    except Rejected as rejected:
        return rejected.diagnostics


def places(diagnostics: Iterable[Diagnostic]) -> list[Place]:
    return [(d.span.line if d.span else 0, str(d.code)) for d in diagnostics]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_line_earns_the_codes_it_names_and_no_others(path: Path) -> None:
    found = findings(path)
    assert sorted(places(found)) == sorted(expected(path)), "\n".join(render(d) for d in found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_findings_come_in_the_order_of_the_source(path: Path) -> None:
    starts = [d.span.start for d in findings(path) if d.span]
    assert starts == sorted(starts)
