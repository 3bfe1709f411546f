"""Every model in examples/ gets the verdicts that it names itself.

`// expect: violated B03, I02` or `// expect: unknown T01` behind a line names what that line earns, `; ` between if it
is both; a file where every obligation is proved says so with `// expect: proved` on a line of its own. With a line
`// strict` the order of locks (D04) is asked for too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import modelcheck
from modelcheck.parser import parse
from modelcheck.source import Source
from modelcheck.verdict import Property, Report, Result, Violated

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = sorted(EXAMPLES.rglob("*.drvm"))
PART = r"(?:violated|unknown) [A-Z]\d\d(?:, ?[A-Z]\d\d)*"
EXPECTATION = re.compile(rf"// expect: (?P<parts>{PART}(?:; {PART})*)\s*$")
PROVED = "// expect: proved"
STRICT = "// strict"

Place = tuple[int, str]
"""A line and the code of a property."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a model says about itself."""

    proved: bool
    violated: frozenset[Place]
    unknown: frozenset[Place]


def expected(path: Path) -> Expected:
    """The expectations written in `path`."""
    places: dict[str, set[Place]] = {"violated": set(), "unknown": set()}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if found := EXPECTATION.search(line):
            for part in found["parts"].split("; "):
                verdict, codes = part.split(" ", 1)
                places[verdict].update((number, code.strip()) for code in codes.split(","))
    proved = any(line.strip() == PROVED for line in lines)
    return Expected(proved, frozenset(places["violated"]), frozenset(places["unknown"]))


@cache
def report_of(path: Path) -> Report:
    """The report about `path`; one verification serves all tests."""
    strict = STRICT in path.read_text(encoding="utf-8").splitlines()
    return modelcheck.verify(path, modelcheck.Options(strict=strict))


def places_of(results: tuple[Result, ...]) -> frozenset[Place]:
    """Where the obligations of `results` stand."""
    return frozenset((result.obligation.span.line, result.obligation.code.value) for result in results)


def name_of(path: Path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


every_example = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_there_are_examples() -> None:
    assert len(FILES) > 40


@every_example
def test_says_what_it_expects(path: Path) -> None:
    """A file is either proved or names places, in codes that exist, and no line with `expect` is misspelt."""
    wanted = expected(path)
    assert wanted.proved != bool(wanted.violated | wanted.unknown)
    assert {code for _, code in wanted.violated | wanted.unknown} <= {code.value for code in Property}
    for line in path.read_text(encoding="utf-8").splitlines():
        assert "expect:" not in line or EXPECTATION.search(line) or line.strip() == PROVED, line


@every_example
def test_opens_with_what_it_shows(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("// ")


@every_example
def test_is_named_like_its_driver(path: Path) -> None:
    source = Source(path.name, path.read_text(encoding="utf-8"), path)
    assert parse(source) is not None
    assert f"\ndriver {path.stem};\n" in source.text


@every_example
def test_violations_are_the_expected_ones(path: Path) -> None:
    assert places_of(report_of(path).violated) == expected(path).violated


@every_example
def test_undecided_are_the_expected_ones(path: Path) -> None:
    assert places_of(report_of(path).undecided) == expected(path).unknown


@every_example
def test_every_violation_replays(path: Path) -> None:
    for result in report_of(path).violated:
        assert isinstance(result.verdict, Violated)
        assert result.verdict.replayed, result.obligation.id


@every_example
def test_no_callee_is_unmodelled(path: Path) -> None:
    assert report_of(path).unmodelled == ()
